"""The monitor: what each step does to the weights, beside what theory predicts.

monitor = Monitor(optimizer, names=model, sinks=["run.jsonl"])
...                      # train as always
print(monitor.table())
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ...bases.wrappers import unwrapped
from ...checks import is_number
from ...groups.names import name_cleaner
from .quantities import PRESETS, quantities_of
from .records import Recorder, read
from .sample import Sample, Watched
from .sinks import Record, as_sink
from .table import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Monitor"]


class Monitor:
    r"""What measures the steps of any torch optimizer, through its step hooks.

    At each sampled step a record is made of all watched parameters as one vector (``"global"``), of
    those that decay (``"decayed"``), and of each. `halflife.diagnostics.monitor.quantities` defines
    what it holds; beside a quantity that the random-walk model predicts is
    ``<quantity>_predicted``. Gradients are those that the step sees: after clipping, unscaled.

    Weights, gradients, optimizer state and random states stay as they are without it. A step that
    a gradient scaler skips is not sampled; the next one is in its place. Replays of a CUDA graph
    run no hooks, and are not seen.

    Args:
        optimizer: any ``torch.optim.Optimizer``; of a wrapper, its ``optimizer``.
        names: a module, or pairs or a mapping of name and parameter, such as
            ``model.named_parameters()``. Parameters without a name are then not watched. Default:
            all of the optimizer, under the names that it knows or as ``group0.param3``.
        every: a sample at the first step and every so many; or a function of the step that says
            whether to take it.
        preset: "economy" (norms, rotation, decay share), "standard" (also the radial and tangential
            part, angles, decay lost in half precision), "full" (also the cautious fraction and the
            use of the constraint); or names of quantities. All but ``weight_rms``,
            ``gradient_norm``, ``weight_gradient_product``, ``gradient_cosine`` and
            ``cautious_fraction`` copy the watched weights during a sampled step.
        sinks: where records go besides `history`: see `halflife.diagnostics.monitor.sinks.as_sink`.
            Of several processes the first writes.
        steps_per_epoch: adds ``epoch`` to the records.
        keep: samples that `history` holds; the oldest go first.

    Attributes:
        step: steps taken; set it when a run is resumed, or use `load_state_dict`.

    Raises:
        TypeError: for something that is no optimizer, or a target that cannot take records.
        ValueError: for an unknown preset, quantity or file type, numbers that are not positive, or
            names of parameters that the optimizer does not have.

    Example:
        >>> layer = nn.Linear(4, 4, bias=False)
        >>> optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3, weight_decay=0.1)
        >>> with Monitor(optimizer, names=layer, every=2) as monitor:
        ...     for _ in range(4):
        ...         optimizer.zero_grad()
        ...         layer(torch.randn(8, 4)).square().mean().backward()
        ...         optimizer.step()
        >>> [record["step"] for record in monitor.history if record["name"] == "weight"]
        [1, 2, 4]
        >>> round(monitor.history[-1]["weight_rms_predicted"], 4)  # sqrt(lr / (2 weight_decay))
        0.0707
    """

    def __init__(
        self,
        optimizer: Optimizer,
        names: nn.Module | Mapping[str, Tensor] | Iterable[tuple[str, Tensor]] | None = None,
        *,
        every: int | Callable[[int], bool] = 50,
        preset: str | Collection[str] = "economy",
        sinks: Iterable[Any] = (),
        steps_per_epoch: float | None = None,
        keep: int = 1000,
    ) -> None:
        self.optimizer = _optimizer_of(optimizer)
        self._sampled = _schedule(every)
        self.quantities = quantities_of(preset)
        for name, value in (("steps_per_epoch", steps_per_epoch), ("keep", keep)):
            if value is not None and not (is_number(value) and value > 0):
                raise ValueError(f"{name}={value!r}: must be a positive number; leave it out.")
        self._recorder = Recorder(self.quantities, steps_per_epoch)
        self._names = _names_of(names, self.optimizer)
        self._sinks = [as_sink(sink) for sink in sinks]
        self._samples: deque[list[Record]] = deque(maxlen=int(keep))
        self.step = 0
        self._due = False
        self._sample: Sample | None = None
        for group in self.optimizer.param_groups:
            read(self.optimizer, group)  # runs a copy of an unknown optimizer: better done now
        outside: Any = torch.compiler.disable  # a graph of a compiled step ends before a hook
        self._hooks = [
            self.optimizer.register_step_pre_hook(outside(self._before)),
            self.optimizer.register_step_post_hook(outside(self._after)),
        ]

    @property
    def history(self) -> list[Record]:
        """The records of the last samples, in the order in which they were made."""
        return [record for sample in self._samples for record in sample]

    def table(self, quantities: Collection[str] | None = None) -> str:
        """The last sample, measured beside predicted, as text.

        Args:
            quantities: the columns. Default: those that have a prediction, and gradient norms.
        """
        chosen = quantities_of(quantities or ("gradient_norm", *PRESETS["economy"]))
        return table(self._samples[-1] if self._samples else [], chosen)

    def figure(self, names: Collection[str] | None = None) -> Figure:
        """Measured beside predicted over the steps: see `halflife.diagnostics.monitor.figure`.

        Args:
            names: of the records to draw. Default: the largest tensors that decay.

        Raises:
            ImportError: without matplotlib.
            ValueError: if there is no record yet, or none of these names.
        """
        from .figure import plot_records

        return plot_records(self.history, names)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on counting: plain data."""
        recorder = self._recorder
        return {
            "step": self.step,
            "decay": {k: list(v) for k, v in recorder.decay.items()},
            "following": recorder.following.state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting where another monitor stopped."""
        self.step = int(state["step"])
        decay = {name: (int(at), float(k)) for name, (at, k) in state["decay"].items()}
        self._recorder.decay = decay
        self._recorder.following.load(state.get("following", {}))

    def close(self) -> None:
        """Remove the hooks and close the sinks; `history` stays."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._sample = [], None
        for sink in self._sinks:
            if callable(close := getattr(sink, "close", None)):
                close()
        self._sinks = []

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _before(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._sample = None
        if self._recorder.last is None:
            self._recorder.last = self.step
        self._due = self._due or self._sampled(self.step + 1)
        if not self._due or _capturing():
            return
        skipped = getattr(optimizer, "found_inf", None)
        if skipped is not None and float(skipped) > 0.0:
            return
        closure = (args[1] if len(args) > 1 else kwargs.get("closure")) is not None
        if watched := self._watched():
            self._sample = Sample(optimizer, watched, self.quantities, closure)

    def _after(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.step += 1
        if self._sample is None:
            return
        sample, self._sample, self._due = self._sample, None, False
        readings = [read(optimizer, group) for group in optimizer.param_groups]
        sample.finish([r.fraction for r in readings], [r.lr for r in readings])
        records = self._recorder.records(self.step, sample, readings)
        self._samples.append(records)
        if _first_process():
            for sink in self._sinks:
                sink.write(records)

    def _watched(self) -> list[Watched]:
        found = []
        for index, group in enumerate(self.optimizer.param_groups):
            for position, p in enumerate(group["params"]):
                name = None if self._names is None else self._names.get(id(p))
                if self._names is None:
                    known = group.get("param_names")
                    name = known[position] if known else f"group{index}.param{position}"
                if name is not None and p.numel():
                    found.append(Watched(name, p, index))
        return found


def _optimizer_of(optimizer: Any) -> Optimizer:
    optimizer = unwrapped(optimizer)
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer={optimizer!r}: must be a torch Optimizer; pass the optimizer.")
    return optimizer


def _schedule(every: Any) -> Callable[[int], bool]:
    if callable(every):
        return every
    if not isinstance(every, int) or isinstance(every, bool) or every < 1:
        raise ValueError(
            f"every={every!r}: must be a whole number of steps, 1 or more, or a function of the "
            "step; pass 50, for one."
        )
    return lambda step: step == 1 or step % every == 0


def _names_of(names: Any, optimizer: Optimizer) -> dict[int, str] | None:
    if names is None:
        return None
    if isinstance(names, nn.Module):
        names = names.named_parameters()
    pairs = list(names.items() if isinstance(names, Mapping) else names)
    clean = name_cleaner([name for name, _ in pairs])
    known = {id(p) for group in optimizer.param_groups for p in group["params"]}
    found: dict[int, str] = {}
    for name, p in pairs:
        if id(p) in known:
            found.setdefault(id(p), clean(name))
    if not found:
        raise ValueError(
            f"names: none of the {len(pairs)} parameters given is in the optimizer; pass those of "
            "the model that it trains."
        )
    return found


def _capturing() -> bool:
    """Whether the step is being recorded as a CUDA graph, in which nothing can be read."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def _first_process() -> bool:
    distributed = torch.distributed
    return not (distributed.is_available() and distributed.is_initialized()) or (
        distributed.get_rank() == 0
    )
