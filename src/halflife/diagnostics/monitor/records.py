"""From the sums of a sampled step to its records, measured beside predicted."""

from __future__ import annotations

import math
import warnings
from functools import reduce
from operator import add
from typing import Any, NamedTuple

from torch.optim import Optimizer

from ...units.reading import read_group
from .expected import Expected, expected, joined
from .following import Following
from .quantities import PREDICTED, Sums, measured
from .sample import Sample
from .sinks import Record

__all__ = ["GroupSample", "Recorder", "read"]


class GroupSample(NamedTuple):
    """A group at one step."""

    lr: float
    fraction: float | None
    momentum: float | None = None
    update_rms: float | None = None
    note: str = ""


def read(optimizer: Optimizer, group: dict[str, Any]) -> GroupSample:
    """What is known of a group's decay; a monitor reports, and never stops a run."""
    lr = math.nan if group.get("lr") is None else float(group["lr"])
    decay = float(group.get("weight_decay") or 0.0)
    if not decay:
        outside = "weight_decay" not in group and hasattr(optimizer, "weight_decay")
        return GroupSample(lr, None if outside else 0.0)
    if math.isnan(lr):
        return GroupSample(lr, None, note="the optimizer chooses its lr, which no group has.")
    try:
        reading = read_group(optimizer, group)
        fraction, note = reading.at(lr, decay)
    except (TypeError, ValueError) as error:
        return GroupSample(lr, None, note=str(error))
    if fraction is not None and fraction > 0.0 and not reading.predictable:
        fraction, note = None, f"{reading.rule}: {note} Not told apart."
    if fraction is None:
        return GroupSample(lr, None, note=note)
    return GroupSample(lr, fraction, reading.base.momentum, reading.base.update_rms, note)


class Recorder:
    """What makes records, and remembers how much decay each parameter has had.

    Args:
        quantities: the columns.
        steps_per_epoch: adds ``epoch``.
    """

    def __init__(self, quantities: tuple[str, ...], steps_per_epoch: float | None) -> None:
        self.quantities, self.per_epoch = quantities, steps_per_epoch
        self.decay: dict[str, tuple[int, float]] = {}  # by name: last step, sum of fractions
        self.following = Following()
        self.last: int | None = None  # step of the last sample, or at which watching began
        self._warned = False

    def records(self, step: int, sample: Sample, readings: list[GroupSample]) -> list[Record]:
        """Of a finished sample: "global", "decayed" if something decays, then each tensor.

        Args:
            step: number of the step.
            sample: of it.
            readings: of every group of the optimizer.
        """
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
            settled.append(self._settle(step, w.name, reading.fraction))
            fallen = self.following.at(w.name, step, reading.fraction, _target(reading, forecast))
            if fallen and _left_behind(s, forecast):
                note = f"{note.rstrip('.')}; {fallen}" if note else fallen
            tensors.append(self._record(step, w.name, reading, s, forecast, settled[-1], note))
        if broken and not self._warned:
            self._warned = True
            warnings.warn(
                f"Monitor: at step {step} the gradient of {broken[0]!r} is not finite "
                f"({len(broken)} of {len(tensors)} tensors); look for the loss that made it. "
                "(Said once.)",
                stacklevel=2,
            )
        decayed = [i for i, t in enumerate(tensors) if t["fraction"]]
        sets = [("global", range(len(tensors))), *([("decayed", decayed)] if decayed else [])]
        records = []
        for name, members in sets:
            of = [readings[sample.watched[i].group] for i in members]
            same = of[0] if all(r[:2] == of[0][:2] for r in of) else GroupSample(math.nan, None)
            sums = reduce(add, (sample.sums[i] for i in members))
            known = [v for i in members if (v := settled[i]) is not None]
            least = min(known) if name == "decayed" and len(known) == len(members) else None
            notes = {tensors[i]["note"] for i in members} if name == "decayed" else {""}
            records.append(
                self._record(
                    step,
                    name,
                    same,
                    sums,
                    joined(forecasts[i] for i in members),
                    least,
                    notes.pop() if len(notes) == 1 else "",
                )
            )
        self.last = step
        return records + tensors

    def _settle(self, step: int, name: str, fraction: float | None) -> float | None:
        last, total = self.decay.get(name, (self.last or 0, 0.0))
        if fraction is None:
            return None
        total += fraction * (step - last)
        self.decay[name] = step, total
        return -math.expm1(-2.0 * total)

    def _record(
        self,
        step: int,
        name: str,
        reading: GroupSample,
        sums: Sums,
        forecast: Expected,
        settled: float | None,
        note: str,
    ) -> Record:
        record: Record = {"step": step, "name": name}
        if self.per_epoch is not None:
            record["epoch"] = step / self.per_epoch
        record["lr"] = None if math.isnan(reading.lr) else reading.lr
        record["fraction"] = reading.fraction
        found, predicted = measured(sums, settled), forecast.as_dict()
        for quantity in self.quantities:
            record[quantity] = found[quantity]
            if quantity in PREDICTED:
                record[f"{quantity}_predicted"] = predicted[quantity]
        record["note"] = note
        return record


def _target(reading: GroupSample, forecast: Expected) -> float | None:
    """What the weights would settle at, in units of the RMS of the update direction."""
    if reading.lr == 0.0:  # where nothing decays either
        return 0.0
    if not reading.fraction or forecast.share is None:
        return None
    return reading.lr * forecast.share / reading.fraction


def _left_behind(sums: Sums, forecast: Expected) -> bool:
    """Whether the weights are above what is expected of them, or turn less, by a tenth or more."""
    found = measured(sums, None)
    if forecast.rms is not None:
        return bool(found["weight_rms"] is not None and found["weight_rms"] > 1.1 * forecast.rms)
    if forecast.rotation is None:  # lr 0
        return True
    return bool(found["rotation"] is not None and 1.1 * found["rotation"] < forecast.rotation)
