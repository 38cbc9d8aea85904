"""What an optimizer's weight decay means, in units a person can reason about.

>>> import torch, halflife
>>> weight = torch.nn.Parameter(torch.ones(4, 4))
>>> optimizer = halflife.AdamW([weight], lr=1e-3, weight_decay=0.1)
>>> row = halflife.describe(optimizer, steps_per_epoch=100).groups[0]
>>> row.fraction, round(row.half_life), round(row.timescale_epochs)
(0.0001, 6931, 100)
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from torch.optim import Optimizer

from ..bases.wrappers import unwrapped
from ..checks import aligned, is_number
from ..theory import equilibrium
from .reading import Reading, read_group
from .stated import STRAYED, highest_lr, strength_of
from .writing import duration, number, per

__all__ = ["Description", "GroupDescription", "describe"]


@dataclass(frozen=True)
class GroupDescription:
    """One parameter group's decay at its peak lr; None where it cannot be known.

    Args:
        group: index in ``param_groups``.
        tensors: number of parameters.
        elements: number of weights.
        rule: the rule: its name ("decoupled"), or with arguments as code has it.
        lr: current learning rate.
        peak_lr: the lr at which the rest is stated, as the schedule's highest; see `peak`.
        weight_decay: the rule's coefficient, in the rule's unit.
        fraction: share of each weight removed per step.
        half_life: steps until half of a weight is left if nothing is added.
        timescale: steps over which the weights average past updates.
        half_life_epochs: the same in epochs.
        timescale_epochs: the same in epochs.
        rms: predicted equilibrium RMS of the weights.
        rotation: predicted equilibrium angle per step, in radians.
        note: what to know about these numbers.
        strength: what the ``weight_decay`` was given as, and at which lr; "" for a number.
        peak: which lr was taken for the peak: "peak_lr", the group's entry (by default the lr at
            construction), or "lr", the one it has now.
    """

    group: int
    tensors: int
    elements: int
    rule: str
    lr: float
    peak_lr: float
    weight_decay: float
    fraction: float | None
    half_life: float | None
    timescale: float | None
    half_life_epochs: float | None
    timescale_epochs: float | None
    rms: float | None
    rotation: float | None
    note: str = ""
    strength: str = ""
    peak: str = "peak_lr"


@dataclass(frozen=True)
class Description:
    """The groups of one optimizer; prints as a table."""

    optimizer: str
    groups: tuple[GroupDescription, ...]

    def as_dicts(self) -> list[dict[str, Any]]:
        """One plain dictionary per group."""
        return [{f.name: getattr(g, f.name) for f in fields(g)} for g in self.groups]

    def __str__(self) -> str:
        in_epochs = any(g.half_life_epochs is not None for g in self.groups)
        head = ["group", "weights", "rule", "peak lr", "weight_decay", "fraction/step", "half-life"]
        head += ["timescale", "predicted RMS"]
        rows = [head]
        for g in self.groups:
            half_life = duration(g.half_life, g.half_life_epochs if in_epochs else None)
            timescale = duration(g.timescale, g.timescale_epochs if in_epochs else None)
            numbers = [g.peak_lr, g.weight_decay, g.fraction]
            rows.append(
                [
                    str(g.group),
                    f"{g.elements:,}",
                    g.rule,
                    *map(number, numbers),
                    half_life,
                    timescale,
                    number(g.rms),
                ]
            )
        now = all(g.peak == "lr" for g in self.groups)
        which = "lr of now, taken for the peak" if now else "peak lr"
        lines = [f"{self.optimizer}, per step at the {which}"]
        lines += aligned(rows)
        lines += [f"group {g.group}: {g.note}" for g in self.groups if g.note]
        return "\n".join(lines)


def describe(optimizer: Optimizer, *, steps_per_epoch: float | None = None) -> Description:
    """What each group's weight decay means: fraction, half-life, timescale, predicted RMS.

    Everything is stated at the group's peak lr; the schedule then scales it as the rule says. The
    peak is the lr at construction unless ``peak_lr=`` was given, for any other optimizer the lr it
    has now; where the group or its schedulers name a higher one, the note says so.

    Args:
        optimizer: a halflife optimizer, or any other, which is described by the rule that it is
            found to follow natively.
        steps_per_epoch: states the durations in epochs too.

    Raises:
        TypeError: for an optimizer whose native decay is no rule of ours.
        ValueError: if ``steps_per_epoch`` is not positive.
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer={optimizer!r}: must be a torch Optimizer; pass the optimizer.")
    if steps_per_epoch is not None and not (is_number(steps_per_epoch) and steps_per_epoch > 0):
        raise ValueError(
            f"steps_per_epoch={steps_per_epoch!r}: must be a positive number; pass len(dataloader)."
        )
    optimizer = unwrapped(optimizer)
    groups = enumerate(optimizer.param_groups)
    rows = tuple(_describe_group(optimizer, i, group, steps_per_epoch) for i, group in groups)
    return Description(type(optimizer).__name__, rows)


def _describe_group(
    optimizer: Optimizer, index: int, group: dict[str, Any], steps_per_epoch: float | None
) -> GroupDescription:
    reading = read_group(optimizer, group)
    _require_rule(optimizer, reading)
    peak, decay = reading.peak_lr, float(group["weight_decay"])
    fraction, note = reading.at(peak, decay)
    native = reading.native
    kept = strength_of(group) if native is None else None
    half_life = None if fraction is None else equilibrium.half_life(fraction)
    timescale = None if fraction is None else equilibrium.timescale(fraction)
    return GroupDescription(
        group=index,
        tensors=len(group["params"]),
        elements=sum(p.numel() for p in group["params"]),
        rule=str(reading.rule),
        lr=float(group["lr"]),
        peak_lr=peak,
        weight_decay=decay,
        fraction=fraction,
        half_life=half_life,
        timescale=timescale,
        half_life_epochs=per(half_life, steps_per_epoch),
        timescale_epochs=per(timescale, steps_per_epoch),
        rms=reading.rms_at(fraction, peak),
        rotation=reading.rotation_at(fraction),
        note=" ".join(filter(None, (note, _of_the_peak(reading, group)))),
        strength="" if kept is None else f"{kept['of']} at lr {number(kept['lr'])}",
        peak="peak_lr" if group.get("peak_lr") or (native and native.peak_lr) else "lr",
    )


def _of_the_peak(reading: Reading, group: dict[str, Any]) -> str:
    """Which lr was taken for the peak, where the group or a scheduler names a higher one."""
    peak, highest = reading.peak_lr, max(float(group["lr"]), highest_lr(group))
    if highest <= STRAYED * peak:
        return ""
    decay = float(group["weight_decay"])
    try:
        there, here = reading.at(highest, decay)[0], reading.at(peak, decay)[0]
    except ValueError:
        shown = ", which its rule will refuse"
    else:
        if there is not None and here is not None and there <= STRAYED * here:
            return ""
        half_life = None if there is None or there >= 1.0 else equilibrium.half_life(there)
        shown = "" if half_life is None else f", where the half-life is {duration(half_life)}"
    remedy = f"; pass peak_lr={highest:g}" if reading.native is None else ""
    return (
        f"The peak lr is taken to be {peak:g}, and the group names lr {highest:g}{shown}{remedy}."
    )


def _require_rule(optimizer: Optimizer, reading: Reading) -> None:
    if reading.rule is None and reading.native is not None:
        raise TypeError(
            f"describe: the native decay of {type(optimizer).__name__} is no rule of ours "
            f"({reading.native.kind}: {reading.native.reason}); attach one first, as in "
            "halflife.attach(optimizer, 'decoupled')."
        )
