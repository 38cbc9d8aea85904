"""A recipe trained through Fabric, with checkpoints from which it goes on bit for bit."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...checks import finite
from ...diagnostics import Monitor
from ..data import Split
from ..sweeping.display import Display
from ..trials.randomness import generators, seeded, set_generators
from .averaging import Average
from .building import (
    data_of,
    feed_of,
    identity_of,
    model_of,
    optimizer_of,
    schedulers_of,
    snapshot_steps,
)
from .entry import Recipe
from .fabric import launched
from .folder import RunError, RunFolder
from .machine import begin_peak, machine_of, peak_mib, repeatable
from .options import Options
from .runs import departures

__all__ = ["train"]


def train(
    recipe: Recipe,
    out: str | Path,
    options: Options | None = None,
    *,
    resume: bool = False,
    display: Display | None = None,
) -> dict[str, Any]:
    """Train a recipe, or go on with it.

    A run that was cut anywhere and goes on takes the steps of one that was not, bit for bit, on the
    same machine and versions, by as many processes; on a GPU with `Options.deterministic`.

    Args:
        recipe: what is trained.
        out: folder of the run (`halflife.lab.recipes.folder`).
        options: how.
        resume: go on with what is in the folder from its last checkpoint, or begin if there is
            none.
        display: what shows the progress.

    Returns:
        ``step``, and once the recipe has ended loss and error of the test set (of text, by token),
        rows (of text, tokens) a second, seconds, and the peak of the memory.

    Raises:
        RunError: if the folder holds a run and `resume` is not given, or another run; if the loss
            is no number any more.
        DataError: if the data is missing, or not what it should be.
        ImportError: without the extra ``lightning``.
        ValueError: for what cannot be run.

    Example:
        >>> from pathlib import Path
        >>> import tempfile
        >>> from halflife.lab.recipes import recipe
        >>> from halflife.lab.recipes.building import changed
        >>> short = changed(recipe("004/resnet20-nobn-cifar10/adamw"), data="digits", epochs=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     train(short, folder, Options(accelerator="cpu", until=2))
        {'step': 2}
    """
    options = options or Options()
    with seeded(options.seed), repeatable(options.deterministic):
        run = _Run(recipe, RunFolder(Path(out)), options, display or Display())
        with contextlib.closing(run):
            run.begin(resume)
            with run.display:
                run.go()
                return run.finish()


class _Run:
    def __init__(
        self, recipe: Recipe, folder: RunFolder, options: Options, display: Display
    ) -> None:
        self.recipe, self.folder, self.options, self.display = recipe, folder, options, display
        self.fabric = launched(options)
        begin_peak(self.fabric.device)
        fabric, device = self.fabric, self.fabric.device
        self.data = data_of(recipe, options)
        self.feed = feed_of(
            recipe, self.data, options, rank=fabric.global_rank, world=fabric.world_size,
            device=device,
        )  # fmt: skip
        next(self.feed.steps(0))  # what cannot be read is refused before the folder is begun
        self.per_epoch = self.feed.steps_per_epoch
        self.total = recipe.epochs * self.per_epoch
        rows = recipe.batch_size // fabric.world_size
        if options.accumulate > rows:
            raise ValueError(
                f"accumulate={options.accumulate}: a process has {rows} rows of a batch; pass as "
                "many or fewer."
            )
        torch.manual_seed(options.seed)
        self.bare = model_of(recipe, self.data, options)
        if recipe.time is None and options.strategy != "fsdp2":  # which takes no other layout
            self.bare.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = None if options.ema is None else Average(self.bare, options.ema, device)
        # First the model, whose parameters a strategy may replace.
        model = torch.compile(self.bare) if options.compiled else self.bare
        self.model = fabric.setup_module(model)
        self.optimizer = fabric.setup_optimizers(optimizer_of(recipe, self.bare, self.per_epoch))
        # From here on the processes draw numbers of their own, for dropout.
        torch.manual_seed(options.seed + 1000 * fabric.global_rank)
        self.schedulers = schedulers_of(recipe, self.optimizer, self.per_epoch)
        self.snapshots = snapshot_steps(recipe, self.per_epoch)
        self.monitor: Monitor | None = None
        self.watched: dict[str, Any] | None = None  # what an earlier monitor counted
        self.carried: list[Any] = []  # states of a recurrent model, one for each piece of a batch
        self.step = 0
        self.seconds = 0.0  # spent in steps
        self.losses: list[Tensor] = []
        self.pending: list[dict[str, Any]] = []

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return bool(self.fabric.is_global_zero)

    # --- beginning --------------------------------------------------------------------------------

    def begin(self, resume: bool) -> None:
        """Start the folder, or take up what is in it."""
        options = {**self.options.binding(), "device": self.fabric.device.type}
        run = {"recipe": asdict(self.recipe), "options": options, "data": identity_of(self.data)}
        if self.first:
            self.folder.hold()
        begun = self.folder.begun
        self.fabric.barrier()
        if begun:
            if not resume:
                raise RunError(
                    f"out={str(self.folder.path)!r}: holds a run already; go on with it by resume "
                    "(--resume), or name another folder."
                )
            self.folder.require(run)
            if (latest := self.folder.latest()) is not None:
                self._load(latest)
        if self.first:
            if begun:
                self.folder.cut(self.step)
            else:
                machine = machine_of(self.fabric.device)
                self.folder.begin({**run, "steps": self.total, "machine": machine})
            if self.options.monitor_every is not None:
                self._watch()
        self.fabric.barrier()

    def _watch(self) -> None:
        self.monitor = Monitor(
            self.optimizer.optimizer, self.bare, every=self.options.monitor_every or 1,
            sinks=[self.folder.path / "monitor.jsonl"], steps_per_epoch=self.per_epoch,
        )  # fmt: skip
        if self.watched is not None:
            self.monitor.load_state_dict(self.watched)

    def close(self) -> None:
        """Take the hooks away, and let go of the folder."""
        self.folder.release()
        if self.monitor is not None:
            self.monitor.close()

    # --- training ---------------------------------------------------------------------------------

    def go(self) -> None:
        """Train to the end, or to where it is to stop."""
        if self.first and (told := departures(self.recipe, self.options)):
            self.display.say(f"Not as published: {', '.join(told)}.")
        last = min(self.total, self.options.until or self.total)
        every = self.options.checkpoint_every or self.per_epoch
        self.model.train()
        feed = self.feed.steps(self.step)
        since = time.perf_counter()
        while self.step < last:
            if self.step % self.per_epoch == 0:
                self.carried = []
            self._step(*next(feed))
            ended = self.step % self.per_epoch == 0
            checkpoint = self.step % every == 0 or self.step == last
            snapshot = self.step in self.snapshots or self.step == self.total
            if self.step % self.options.log_every == 0 or ended or checkpoint or snapshot:
                self._flush(since)
                if ended and self.step < self.total:
                    self._evaluated()
                if snapshot:
                    self._save_weights()
                if checkpoint:
                    self._save()
                since = time.perf_counter()
            self.display.progress(self.step, last, self.recipe.name)

    def _step(self, inputs: Tensor, targets: Tensor) -> None:
        xs = inputs.tensor_split(self.options.accumulate)
        ys = targets.tensor_split(self.options.accumulate)
        total: Any = 0.0
        for piece, (x, y) in enumerate(zip(xs, ys, strict=True)):
            with self._alone(piece < len(xs) - 1):
                loss = self._loss(x, y, piece) * (len(x) / len(inputs))
                self.fabric.backward(loss * self.recipe.loss_scale)
            total = total + loss.detach()
        if self.recipe.clip is not None:
            self._clip(self.recipe.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        group = self.optimizer.param_groups[0]
        self.pending.append({"step": self.step + 1, "lr": float(group["lr"])})
        for scheduler in self.schedulers:
            scheduler.step()
        if self.average is not None:
            self.average.update(self.bare)
        self.step += 1
        self.losses.append(total)

    def _alone(self, more: bool) -> Any:
        """Leave the gradients of all pieces but the last to this process."""
        if more and self.fabric.world_size > 1:
            return self.fabric.no_backward_sync(self.model)
        return contextlib.nullcontext()

    def _clip(self, largest: float) -> None:
        # Fabric's own way refuses a fused optimizer that unscales by itself; torch's scaler does
        # not, once it has unscaled.
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)
        if scaler is not None:
            scaler.unscale_(self.optimizer.optimizer)
        nn.utils.clip_grad_norm_(self.bare.parameters(), largest)

    def _loss(self, inputs: Tensor, targets: Tensor, piece: int) -> Tensor:
        logits = self._logits(self.model, inputs, piece).flatten(0, -2)
        return F.cross_entropy(
            logits, targets.flatten(), label_smoothing=self.recipe.label_smoothing
        )

    def _logits(self, model: Any, inputs: Tensor, piece: int = 0) -> Tensor:
        if not self.recipe.model.startswith("lstm"):
            logits: Tensor = model(inputs)
            return logits
        before = self.carried[piece] if piece < len(self.carried) else None
        logits, state = model(inputs, before)
        self.carried[piece : piece + 1] = [[s.detach() for s in state]]
        return logits

    # --- what it comes to -------------------------------------------------------------------------

    def _flush(self, since: float) -> None:
        """Write the lines of the last steps; here the device is waited for."""
        losses = self.fabric.all_reduce(torch.stack(self.losses).float(), reduce_op="mean").tolist()
        spent = time.perf_counter() - since
        self.seconds += spent
        lines = [{**line, "loss": x} for line, x in zip(self.pending, losses, strict=True)]
        lines[-1]["rows_per_s"] = round(len(lines) * self._rows() / spent, 1)
        lines[-1]["peak_mib"] = peak_mib(self.fabric.device)
        self.losses, self.pending = [], []
        if self.first:
            self.folder.log(finite(lines))
        for line in lines:
            if line["loss"] != line["loss"]:
                raise RunError(
                    f"loss: is no number any more from step {line['step']} on, at "
                    f"lr={line['lr']:g}; a lower lr, clipping, or another precision may train it."
                )

    def _rows(self) -> int:
        return self.recipe.batch_size * (self.recipe.time or 1)

    def _evaluated(self) -> None:
        # Where nothing was held out the test set shows how it goes; nothing is chosen by it.
        part = "test" if self.data.validation is None else "validation"
        found = self._evaluate(part)
        if self.first:
            self.folder.log([finite({"step": self.step, **found})])

    @torch.no_grad()
    def _evaluate(self, part: str, model: Any = None) -> dict[str, float]:
        """Loss and error in percent over a whole split."""
        split: Split = getattr(self.data, part)
        model = self.model if model is None else model
        training, carried = model.training, self.carried
        model.eval()
        self.carried = []
        sums = torch.zeros(3, device=self.fabric.device)
        for inputs, targets in self.feed.evaluated(split):
            logits, flat = self._logits(model, inputs).flatten(0, -2).float(), targets.flatten()
            loss = F.cross_entropy(logits, flat, reduction="sum")
            wrong = (logits.argmax(-1) != flat).sum()
            sums += torch.stack([loss, wrong.to(loss), torch.ones_like(loss) * len(flat)])
        self.carried = carried
        model.train(training)
        loss, wrong, count = self.fabric.all_reduce(sums, reduce_op="sum").tolist()
        return {f"{part}_loss": loss / count, f"{part}_error": 100.0 * wrong / count}

    def finish(self) -> dict[str, Any]:
        """The test figures, once the recipe has ended."""
        if self.step < self.total:
            return {"step": self.step}
        result: dict[str, Any] = {"step": self.step}
        for part in ("validation", "test"):
            if getattr(self.data, part) is not None:
                result |= self._evaluate(part)
        if self.average is not None:
            self.average.agree()
            averaged = self._evaluate("test", self.average.model)
            result |= {f"{name}_of_average": value for name, value in averaged.items()}
        result["rows_per_s"] = round(self.step * self._rows() / self.seconds, 1)
        result["seconds"] = round(self.seconds, 1)
        result["peak_mib"] = peak_mib(self.fabric.device)
        if self.first:
            self.folder.finish(finite(result))
        return result

    # --- checkpoints ------------------------------------------------------------------------------

    def _save_weights(self) -> None:
        name = f"weights-{self.step:09d}"
        beside = self._open(name)
        self.fabric.save(beside, {"model": self.model})
        self._close(name)

    def _save(self) -> None:
        name = f"checkpoint-{self.step:09d}"
        beside = self._open(name)
        if self.first:
            beside.mkdir()
        self.fabric.barrier()
        self.fabric.save(beside / "state", {"model": self.model, "optimizer": self.optimizer})
        torch.save(self._own(), beside / f"process-{self.fabric.global_rank}.pt")
        self._close(name)
        if self.first:
            self.folder.keep(name)
        self.fabric.barrier()

    def _open(self, name: str) -> Path:
        if self.first:
            self.folder.open(name)
        self.fabric.barrier()
        return self.folder.path / f"{name}.part"

    def _close(self, name: str) -> None:
        self.fabric.barrier()
        if self.first:
            self.folder.close(name)

    def _own(self) -> dict[str, Any]:
        """What is this process's, beside model and optimizer."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "random": generators(),
            "carried": self.carried,
            "schedulers": [s.state_dict() for s in self.schedulers],
            "precision": self.fabric.strategy.precision.state_dict(),
            "average": None if self.average is None else self.average.model.state_dict(),
            "monitor": None if self.monitor is None else self.monitor.state_dict(),
        }

    def _load(self, folder: Path) -> None:
        self.fabric.load(folder / "state", {"model": self.model, "optimizer": self.optimizer})
        own = torch.load(
            folder / f"process-{self.fabric.global_rank}.pt", map_location=self.fabric.device,
            weights_only=True,
        )  # fmt: skip
        self.step, self.seconds, self.carried = own["step"], own["seconds"], own["carried"]
        for scheduler, saved in zip(self.schedulers, own["schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        self.fabric.strategy.precision.load_state_dict(own["precision"])
        if self.average is not None:
            self.average.model.load_state_dict(own["average"])
        self.watched = own["monitor"]
        set_generators(own["random"])
