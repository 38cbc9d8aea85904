"""Trains a recipe: through Fabric, with checkpoints from which it goes on bit for bit.

A folder holds all of a run:

    run.json            recipe and options, by which another run is not taken for this one
    metrics.jsonl       a line for each logged step, and one for each evaluation
    checkpoint-STEP/    the state; `latest` names the newest that is whole
    result.json         what it came to
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ...checks import near, require_count
from ..data import Split
from ..sweeping.display import Display
from ..trials.randomness import generators, set_generators
from .building import data_of, feed_of, model_of, optimizer_of, schedulers_of
from .entry import Recipe
from .fabric import launched

__all__ = ["Options", "RunError", "train"]

_LATEST = "latest"
_STRATEGIES = ("auto", "ddp", "fsdp2")
_ONCE = ("root", "checkpoint_every", "log_every", "until", "accelerator")  # may differ on resume


class RunError(RuntimeError):
    """A run that cannot begin, or go on."""


@dataclass(frozen=True)
class Options:
    """How a recipe is run; none of it changes what a step computes but precision and compile.

    Args:
        root: where the data lies.
        seed: of weights, order, augmentation and dropout.
        devices: processes.
        accelerator: ``"cpu"``, ``"cuda"``, ... or ``"auto"``.
        precision: Fabric's: ``"32-true"``, ``"bf16-mixed"``, ``"16-mixed"``, ``"bf16-true"``.
        strategy: ``"auto"``, ``"ddp"`` or ``"fsdp2"``.
        compiled: whether the model is compiled.
        accumulate: pieces that a batch is computed in.
        ema: decay of an average of the weights, which is evaluated too; None for none.
        checkpoint_every: steps between checkpoints; None: an epoch.
        log_every: steps between lines of metrics.
        until: step after which the run stops, as if it had been cut; None: the recipe's end.
        model_settings: over those of the recipe.
        data_settings: of the data's reader.
    """

    root: str | None = None
    seed: int = 0
    devices: int = 1
    accelerator: str = "auto"
    precision: str = "32-true"
    strategy: str = "auto"
    compiled: bool = False
    accumulate: int = 1
    ema: float | None = None
    checkpoint_every: int | None = None
    log_every: int = 50
    until: int | None = None
    model_settings: dict[str, Any] = field(default_factory=dict)
    data_settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        if self.strategy not in _STRATEGIES:
            raise ValueError(
                f"strategy={self.strategy!r}: must be one of {', '.join(_STRATEGIES)}"
                f"{near(self.strategy, _STRATEGIES)}"
            )
        if self.ema is not None and self.strategy == "fsdp2":
            raise ValueError(
                f"ema={self.ema}: an average of the weights cannot be kept of sharded ones; leave "
                "it out, or pass strategy='ddp'."
            )
        for name in ("devices", "accumulate", "log_every"):
            require_count(name, getattr(self, name), "pass 1 or more")


def train(
    recipe: Recipe,
    out: str | Path,
    options: Options | None = None,
    *,
    resume: bool = False,
    display: Display | None = None,
) -> dict[str, Any]:
    """Train a recipe, or go on with it; returns what it came to."""
    run = _Run(recipe, Path(out), options or Options(), display or Display())
    run.begin(resume)
    run.go()
    return run.finish()


class _Run:
    def __init__(self, recipe: Recipe, out: Path, options: Options, display: Display) -> None:
        self.recipe, self.out, self.options, self.display = recipe, out, options, display
        self.fabric = launched(options)
        self.data = data_of(recipe, options.root, **options.data_settings)
        self.feed = feed_of(
            recipe, self.data, seed=options.seed, rank=self.fabric.global_rank,
            world=self.fabric.world_size, device=self.fabric.device,
        )  # fmt: skip
        self.per_epoch = self.feed.steps_per_epoch
        self.total = recipe.epochs * self.per_epoch
        torch.manual_seed(options.seed)
        self.bare = model_of(recipe, self.data, **options.model_settings)
        if recipe.time is None and options.strategy != "fsdp2":  # which takes no other layout
            self.bare.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = None
        if options.ema is not None:
            self.average = AveragedModel(
                self.bare, multi_avg_fn=get_ema_multi_avg_fn(options.ema), use_buffers=True
            ).to(self.fabric.device)
        model = torch.compile(self.bare) if options.compiled else self.bare
        # First the model, whose parameters a strategy may replace.
        self.model = self.fabric.setup_module(model)
        self.optimizer = self.fabric.setup_optimizers(
            optimizer_of(recipe, self.bare, self.per_epoch)
        )
        # From here on the processes draw numbers of their own, for dropout.
        torch.manual_seed(options.seed + 1000 * self.fabric.global_rank)
        self.schedulers = schedulers_of(recipe, self.optimizer, self.per_epoch)
        self.carried: Any = None  # the state of a recurrent model
        self.step = 0
        self.losses: list[Tensor] = []

    # --- beginning --------------------------------------------------------------------------------

    def begin(self, resume: bool) -> None:
        """Start the folder, or take up what is in it."""
        known = self.out / "run.json"
        options = {k: v for k, v in asdict(self.options).items() if k not in _ONCE}
        mine = json.loads(json.dumps({"recipe": asdict(self.recipe), "options": options}))
        there = known.exists()
        self.fabric.barrier()
        if not there:
            if self.fabric.is_global_zero:
                self.out.mkdir(parents=True, exist_ok=True)
                _write(known, json.dumps(mine, indent=1))
            self.fabric.barrier()
            return
        theirs = json.loads(known.read_text("utf-8"))
        for part, values in mine.items():
            for name, value in values.items():
                if theirs[part].get(name) != value:
                    raise RunError(
                        f"{name}={value!r}: the run in {self.out} has "
                        f"{name}={theirs[part].get(name)!r}; use the same, or another --out."
                    )
        if not resume:
            raise RunError(f"out={str(self.out)!r}: holds a run; pass --resume, or another --out.")
        self._load()

    # --- training ---------------------------------------------------------------------------------

    def go(self) -> None:
        """Train to the end, or to where it is to stop."""
        last = min(self.total, self.options.until or self.total)
        every = self.options.checkpoint_every or self.per_epoch
        self.model.train()
        start, began = time.perf_counter(), self.step
        feed = self.feed.steps(self.step)
        while self.step < last:
            if self.recipe.time is not None and self.step % self.per_epoch == 0:
                self.carried = None
            self._step(*next(feed))
            if self.step % self.options.log_every == 0 or self.step == last:
                self._log((self.step - began) / (time.perf_counter() - start))
            if self.step % self.per_epoch == 0 and self.data.validation is not None:
                self._line({"step": self.step, **self.evaluate("validation")})
            if self.step % every == 0 or self.step == last:
                self._save()
            self.display.progress(self.step, self.total, self.recipe.name)

    def _step(self, inputs: Tensor, targets: Tensor) -> None:
        pieces = self.options.accumulate
        parts = zip(inputs.chunk(pieces), targets.chunk(pieces), strict=True)
        total: Any = 0.0
        for index, (x, y) in enumerate(parts):
            with self.fabric.no_backward_sync(self.model, enabled=index < pieces - 1):
                loss = self._loss(x, y) * (len(x) / len(inputs))
                self.fabric.backward(loss * self.recipe.loss_scale)
            total = total + loss.detach()
        if self.recipe.clip is not None:
            self.fabric.clip_gradients(self.model, self.optimizer, max_norm=self.recipe.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        for scheduler in self.schedulers:
            scheduler.step()
        if self.average is not None:
            self.average.update_parameters(self.bare)
        self.step += 1
        self.losses.append(total)

    def _loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        logits = self._logits(self.model, inputs)
        return F.cross_entropy(
            logits.flatten(0, -2), targets.flatten(),
            label_smoothing=self.recipe.label_smoothing,
        )  # fmt: skip

    def _logits(self, model: Any, inputs: Tensor) -> Tensor:
        if not self.recipe.model.startswith("lstm"):
            return model(inputs)
        logits, state = model(inputs, self.carried)
        self.carried = [s.detach() for s in state]
        return logits

    # --- what it came to --------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self, part: str, model: Any = None) -> dict[str, float]:
        """Loss and error in percent over a whole split."""
        split: Split = getattr(self.data, part)
        model = model or self.model
        model.eval()
        carried, self.carried = self.carried, None
        loss = wrong = count = torch.zeros((), device=self.fabric.device)
        for inputs, targets in self.feed.evaluated(split):
            logits = self._logits(model, inputs).flatten(0, -2).float()
            flat = targets.flatten()
            loss = loss + F.cross_entropy(logits, flat, reduction="sum")
            wrong = wrong + (logits.argmax(-1) != flat).sum()
            count = count + len(flat)
        self.carried = carried
        model.train()
        return {
            f"{part}_loss": float(loss / count),
            f"{part}_error": 100.0 * float(wrong / count),
        }

    def finish(self) -> dict[str, Any]:
        """The test figures, once the recipe has ended."""
        if self.step < self.total:
            return {"step": self.step}
        result: dict[str, Any] = {"step": self.step, **self.evaluate("test")}
        if self.average is not None:
            averaged = self.evaluate("test", self.average.module)
            result |= {f"{name} of the average": value for name, value in averaged.items()}
        if self.fabric.is_global_zero:
            _write(self.out / "result.json", json.dumps(result, indent=1))
        return result

    def _log(self, speed: float) -> None:
        losses = torch.stack(self.losses).mean()
        self.losses.clear()
        lr = self.optimizer.param_groups[0]["lr"]
        rows = self.recipe.batch_size * (self.recipe.time or 1)
        self._line(
            {"step": self.step, "loss": float(losses), "lr": float(lr), "rows/s": speed * rows}
        )

    def _line(self, values: dict[str, Any]) -> None:
        if self.fabric.is_global_zero:
            with open(self.out / "metrics.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")

    # --- checkpoints ------------------------------------------------------------------------------

    def _save(self) -> None:
        name = f"checkpoint-{self.step:09d}"
        beside = self.out / f"{name}.part"
        state = {"model": self.model, "optimizer": self.optimizer}
        if self.fabric.is_global_zero:
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir()
        self.fabric.barrier()
        self.fabric.save(beside / "state", state)
        own = {
            "step": self.step,
            "random": generators(),
            "carried": self.carried,
            "losses": self.losses,
            "schedulers": [s.state_dict() for s in self.schedulers],
            "average": None if self.average is None else self.average.state_dict(),
        }
        torch.save(own, beside / f"own-{self.fabric.global_rank}.pt")
        self.fabric.barrier()
        if self.fabric.is_global_zero:
            os.replace(beside, self.out / name)
            _write(self.out / _LATEST, name)
            for old in self.out.glob("checkpoint-*"):
                if old.name != name:
                    shutil.rmtree(old, ignore_errors=True)
        self.fabric.barrier()

    def _load(self) -> None:
        latest = self.out / _LATEST
        if not latest.exists():
            return  # it was cut before its first checkpoint
        folder = self.out / latest.read_text("utf-8").strip()
        state = {"model": self.model, "optimizer": self.optimizer}
        self.fabric.load(folder / "state", state)
        own = torch.load(
            folder / f"own-{self.fabric.global_rank}.pt", map_location=self.fabric.device,
            weights_only=True,
        )  # fmt: skip
        for scheduler, saved in zip(self.schedulers, own["schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        if self.average is not None:
            self.average.load_state_dict(own["average"])
        self.step, self.carried, self.losses = own["step"], own["carried"], own["losses"]
        set_generators(own["random"])
        self._cut_metrics()

    def _cut_metrics(self) -> None:
        """Leave out lines of steps that will be taken again."""
        path = self.out / "metrics.jsonl"
        if self.fabric.is_global_zero and path.exists():
            kept = []
            for line in path.read_text("utf-8").splitlines():
                try:
                    if json.loads(line)["step"] <= self.step:
                        kept.append(line + "\n")
                except ValueError:  # cut within
                    break
            _write(path, "".join(kept))


def _write(path: Path, text: str) -> None:
    """Replace a file at once."""
    beside = path.with_name(f"{path.name}.part")
    beside.write_text(text, "utf-8")
    os.replace(beside, path)
