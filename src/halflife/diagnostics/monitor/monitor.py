"""Watches an optimizer: what each step does to the weights, beside what theory predicts.

monitor = Monitor(optimizer, names=model, sinks=["run.jsonl"])
...                      # train as always
print(monitor.table())
"""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ...describe import read_group
from ...maps import DecayMap
from ...native import group_decay
from ...param_groups.names import name_cleaner
from ...step import is_number
from ...wrappers import unwrapped
from .expected import Expected, expected, joined
from .quantities import PREDICTED, PRESETS, Sums, measured, quantities_of
from .sample import Sample, Watched
from .sinks import Record, as_sink
from .table import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Monitor"]


class Monitor:
    r"""Measures steps of any torch optimizer, through its step hooks.

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
        self._per_epoch = steps_per_epoch
        self._names = _names_of(names, self.optimizer)
        self._sinks = [as_sink(sink) for sink in sinks]
        self._samples: deque[list[Record]] = deque(maxlen=int(keep))
        self.step = 0
        self._decay: dict[str, tuple[int, float]] = {}  # by name: last step seen, sum of fractions
        self._due = self._warned = False
        self._sample: Sample | None = None
        for group in self.optimizer.param_groups:
            _read(
                self.optimizer, group
            )  # runs a copy of an unknown optimizer, better now than then
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
        from .figure import figure

        return figure(self.history, names)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on counting: plain data."""
        return {"step": self.step, "decay": {k: list(v) for k, v in self._decay.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting where another monitor stopped."""
        self.step = int(state["step"])
        self._decay = {name: (int(at), float(k)) for name, (at, k) in state["decay"].items()}

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
        self._due = self._due or self._sampled(self.step + 1)
        if not self._due:
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
        readings = [_read(optimizer, group) for group in optimizer.param_groups]
        sample.finish([r.fraction for r in readings], [r.lr for r in readings])
        records = self._records(sample, readings)
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

    def _records(self, sample: Sample, readings: list[_Reading]) -> list[Record]:
        tensors, forecasts, settled, broken = [], [], [], []
        for w, s in zip(sample.watched, sample.sums, strict=True):
            reading = readings[w.group]
            note = reading.note
            if w.tensor.grad is None:
                note, reading = "no gradient", reading._replace(fraction=0.0)
            elif s.gradients is not None and not math.isfinite(s.gradients):
                note = "the gradient is not finite"
                broken.append(w.name)
            forecast = expected(
                s, reading.fraction, reading.lr, reading.momentum, reading.update_rms
            )
            forecasts.append(forecast)
            settled.append(self._settle(w.name, reading.fraction))
            tensors.append(self._record(w.name, reading, s, forecast, settled[-1], note))
        if broken and not self._warned:
            self._warned = True
            warnings.warn(
                f"Monitor: at step {self.step} the gradient of {broken[0]!r} is not finite, as are "
                f"those of {len(broken) - 1} others; look for the loss that made it. (Said once.)",
                stacklevel=2,
            )
        decayed = [i for i, t in enumerate(tensors) if t["fraction"]]
        sets = [("global", range(len(tensors))), *([("decayed", decayed)] if decayed else [])]
        records = []
        for name, members in sets:
            of = [readings[sample.watched[i].group] for i in members]
            same = of[0] if all(r[:2] == of[0][:2] for r in of) else _Reading(math.nan, None)
            sums = reduce(add, (sample.sums[i] for i in members))
            known = [v for i in members if (v := settled[i]) is not None]
            least = min(known) if name == "decayed" and len(known) == len(members) else None
            records.append(
                self._record(name, same, sums, joined(forecasts[i] for i in members), least, "")
            )
        return records + tensors

    def _settle(self, name: str, fraction: float | None) -> float | None:
        last, total = self._decay.get(name, (0 if self.step <= 1 else self.step - 1, 0.0))
        if fraction is None:
            return None
        total += fraction * (self.step - last)
        self._decay[name] = self.step, total
        return -math.expm1(-2.0 * total)

    def _record(
        self,
        name: str,
        reading: _Reading,
        sums: Sums,
        forecast: Expected,
        settled: float | None,
        note: str,
    ) -> Record:
        record: Record = {"step": self.step, "name": name}
        if self._per_epoch is not None:
            record["epoch"] = self.step / self._per_epoch
        record["lr"] = None if math.isnan(reading.lr) else reading.lr
        record["fraction"] = reading.fraction
        found, predicted = measured(sums, settled), forecast.as_dict()
        for quantity in self.quantities:
            record[quantity] = found[quantity]
            if quantity in PREDICTED:
                record[f"{quantity}_predicted"] = predicted[quantity]
        record["note"] = note
        return record


class _Reading(NamedTuple):
    """A group at one step."""

    lr: float
    fraction: float | None
    momentum: float | None = None
    update_rms: float | None = None
    note: str = ""


def _read(optimizer: Optimizer, group: dict[str, Any]) -> _Reading:
    """What is known of a group's decay; a monitor reports, and never stops a run."""
    lr = float(group["lr"]) if "lr" in group else math.nan
    if not float(group.get("weight_decay") or 0.0) or math.isnan(lr):
        outside = "weight_decay" not in group and hasattr(optimizer, "weight_decay")
        return _Reading(lr, None if outside else 0.0)
    try:
        rule, _, base, fraction, note = read_group(optimizer, group, lr)
    except (TypeError, ValueError) as error:
        if group_decay(optimizer, group).kind == "absent":
            return _Reading(lr, 0.0)
        return _Reading(lr, None, note=str(error))
    if isinstance(rule, DecayMap):
        note = (
            f"{rule!r} changes each weight by its own amount: decay and update are not told apart"
        )
        return _Reading(lr, None, note=note)
    if fraction is None or math.isnan(fraction):
        return _Reading(lr, None, note=note)
    return _Reading(lr, fraction, base.momentum, base.update_rms, note)


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


def _first_process() -> bool:
    distributed = torch.distributed
    return not (distributed.is_available() and distributed.is_initialized()) or (
        distributed.get_rank() == 0
    )
