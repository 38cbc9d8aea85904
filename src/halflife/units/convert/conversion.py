"""From one convention to another, and how far the two then agree."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from ...checks import is_number
from ..writing import quantity
from .conventions import CONVENTIONS, FIXED
from .kinds import Convention, Total, check
from .names import convention_named, name_of
from .recipe import Schedule, Setting, multipliers_of

__all__ = ["Conversion", "conversions", "convert"]

Exactness = Literal["exact", "at the peak", "in total", "approximate"]

# Multiples of the peak lr at which two conventions are compared when no schedule is given.
_PROBES = (1.0, 0.75, 0.5, 0.25, 0.1, 0.01, 0.0)
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Conversion:
    """A weight decay in another convention; ``float()`` gives the number.

    Args:
        value: the number in the target convention.
        unit: its unit.
        lr: the peak lr that belongs to it.
        changes_lr: whether that differs from the lr of the source.
        source: name of the convention it came from.
        target: name of the convention it is in.
        given: the number it came from.
        fraction: share of each weight that a step at the peak lr removes under the target.
        exactness: "exact" (every step of the schedule, or of any schedule if none was given, is
            the same), "at the peak" (the step at the peak lr is), "in total" (the sum over the
            schedule is), or "approximate" (in the long run only: an L2 term in the momentum).
        deviation: the largest difference of the fractions, or of the step sizes, over the schedule,
            relative to the largest.
        formula: the target's update; v is the value.
        note: what to know about it.
    """

    value: float
    unit: str
    lr: float
    changes_lr: bool
    source: str
    target: str
    given: float
    fraction: float
    exactness: Exactness
    deviation: float
    formula: str
    note: str

    @property
    def written(self) -> str:
        """The value as a person reads it."""
        return quantity(self.value) if self.unit == "steps" else f"{self.value:.6g}"

    def __float__(self) -> float:
        """The value."""
        return self.value

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __str__(self) -> str:
        """A few lines."""
        lines = [f"{self.target}: {self.written}  ({self.unit})"]
        lines += [f"lr: {self.lr:.9g}{'  (changed)' if self.changes_lr else ''}"]
        lines += [f"agreement: {self.exactness}", f"step: {self.formula}"]
        return "\n".join(lines + ([f"note: {self.note}"] if self.note else []))


def convert(
    value: float,
    source: str,
    target: str,
    *,
    lr: float,
    schedule: Schedule | None = None,
    steps: int | None = None,
    reference: Literal["peak", "mean"] = "peak",
    optimizer: str | None = None,
    momentum: float | None = None,
    dampening: float = 0.0,
    effective_rate: float | None = None,
    batch_size: int | None = None,
    dataset_size: int | None = None,
    epochs: float | None = None,
) -> Conversion:
    """A weight decay of one convention in another: the same fraction of each weight per step.

    The names are `halflife.units.convert.CONVENTIONS`, and those of papers and libraries in
    `halflife.units.convert.NAMES`. Where the conventions scale the step itself (proximal, decay
    after the step, Scion), the lr changes with the number.

    Args:
        value: the number.
        source: convention it is in, such as "decoupled" or "composer".
        target: convention it is wanted in, such as "independent" or "half_life".
        lr: peak learning rate that belongs to ``value``.
        schedule: multipliers of the peak lr, one a step; a function of the step; or "constant",
            "cosine", "linear", "wsd". Needed for ``reference="mean"`` and "total".
        steps: length of the run, where the schedule is a function or a name.
        reference: "peak" makes the fraction at the peak lr equal, "mean" the sum over the schedule;
            strengths such as a half-life are then those of the mean fraction. Default "peak".
        optimizer: "adamw", "lion" or "sgd", for predictions of RMS and rotation. Default: what the
            names say ("optax.lion", "sgds"); "sgd" where an L2 term is converted, else "adamw".
        momentum: beta1 or SGD's momentum. Default 0.9, but none where an L2 term is converted.
        dampening: SGD's. Default 0.
        effective_rate: ``1 / sqrt(mean of v_hat)`` as measured, for stable decay on Adam.
        batch_size: samples per step, for "normalized".
        dataset_size: samples per epoch, for "normalized".
        epochs: epochs of the run, for "normalized".

    Raises:
        ValueError: for a number or a name out of range, something that is needed and missing, or a
            pair between which no conversion exists, with the reason.

    Example:
        >>> result = convert(0.1, "decoupled", "independent", lr=3e-4)
        >>> round(float(result), 12), result.exactness
        (3e-05, 'exact')
        >>> round(float(convert(3e-5, "composer", "half_life", lr=3e-4)))
        23105
    """
    if reference not in ("peak", "mean"):
        raise ValueError(f"reference={reference!r}: must be 'peak' or 'mean'.")
    if not is_number(value) or not value >= 0.0:
        raise ValueError(f"value={value!r}: must be a number >= 0.")
    one, other = convention_named(source, "source"), convention_named(target, "target")
    if optimizer is None:
        optimizer = _optimizer_of(source, target, one, other)
    setting = Setting(
        lr=lr,
        optimizer=optimizer,
        momentum=momentum,
        dampening=dampening,
        effective_rate=effective_rate,
        multipliers=None if schedule is None else multipliers_of(schedule, steps),
        batch_size=batch_size,
        dataset_size=dataset_size,
        epochs=epochs,
    )
    mean = reference == "mean"
    decay, step_size = one.given(value, setting, mean)
    if isinstance(other, Total) and not mean:
        decay = other.strength(one.total(value, setting, "'total'"), setting)
    result, new_lr = other.solve(decay, step_size, setting, mean)
    fraction = other.at(result, new_lr, 1.0, setting)[0]
    check(fraction, other, result, setting)
    deviation = _deviation((one, value, lr), (other, result, new_lr), setting)
    changed = abs(new_lr - lr) > _ROUNDING * lr
    exactness = _exactness(one, other, setting, deviation, mean)
    return Conversion(
        value=result,
        unit=other.unit,
        lr=new_lr if changed else lr,
        changes_lr=changed,
        source=one.name,
        target=other.name,
        given=value,
        fraction=fraction,
        exactness=exactness,
        deviation=deviation,
        formula=other.formula,
        note="; ".join(_notes(source, target, one, other, exactness, deviation, changed, mean)),
    )


def conversions(
    value: float, source: str, *, lr: float, **options: Any
) -> dict[str, Conversion | str]:
    """`convert` to every convention: a `Conversion`, or why there is none.

    Args:
        value: the number.
        source: convention it is in.
        lr: peak learning rate.
        **options: as for `convert`.

    Example:
        >>> everything = conversions(0.1, "decoupled", lr=3e-4)
        >>> round(float(everything["timescale"]))
        33333
    """
    convert(value, source, source, lr=lr, **options)  # what is wrong with the input is raised
    found: dict[str, Conversion | str] = {}
    for name in CONVENTIONS:
        try:
            found[name] = convert(value, source, name, lr=lr, **options)
        except ValueError as error:
            found[name] = str(error)
    return found


def _deviation(
    one: tuple[Convention, float, float], other: tuple[Convention, float, float], setting: Setting
) -> float:
    """Largest difference of the fractions, and of the step sizes, relative to the largest."""
    multipliers = _PROBES if setting.multipliers is None else setting.multipliers
    probes = sorted(set(multipliers))
    probes = probes[:: max(1, len(probes) // 500)] + probes[-1:]  # they depend on nothing else
    pairs = [
        [convention.at(value, lr, multiplier, setting) for convention, value, lr in (one, other)]
        for multiplier in probes
    ]
    worst = 0.0
    for column in (0, 1):
        largest = max(abs(at[column]) for pair in pairs for at in pair)
        if largest > 0.0:
            gaps = (abs(first[column] - second[column]) for first, second in pairs)
            worst = max(worst, max(gaps) / largest)
    return worst


def _exactness(
    one: Convention, other: Convention, setting: Setting, deviation: float, mean: bool
) -> Exactness:
    if one.is_approximate(setting) != other.is_approximate(setting):
        return "approximate"
    if one.follows_rule != other.follows_rule:
        return "in total" if mean or "total" in (one.name, other.name) else "at the peak"
    if one.follows_rule or deviation <= _ROUNDING:
        return "exact"
    return "in total" if mean else "at the peak"


def _notes(
    source: str,
    target: str,
    one: Convention,
    other: Convention,
    exactness: Exactness,
    deviation: float,
    changed: bool,
    mean: bool,
) -> list[str]:
    notes = [f"{c.name}: {c.note}" for c in dict.fromkeys((one, other)) if c.note]
    if exactness == "approximate":
        notes.append(
            "an L2 term reaches the weights through the momentum: equal in the long run, to first "
            "order in the fraction, not step by step"
        )
    elif one.follows_rule != other.follows_rule:
        strength = one if one.follows_rule else other
        if strength.name != "total":
            notes.append(
                f"{strength.name} is that of the mean fraction over the schedule"
                if mean
                else f"{strength.name} is that of the peak lr; the other steps follow the rule"
            )
    elif exactness == "at the peak" and FIXED in (one, other) and _only_at_zero(one, other):
        notes.append("all steps but those at lr 0 are the same")
    elif exactness == "at the peak":
        percent = f"{100.0 * deviation:.2g}".removesuffix(".0")
        notes.append(f"off the peak the steps differ by up to {percent} % of the largest")
    if changed:
        notes.append("give the optimizer the new lr too")
    for name in (source, target):
        known = name_of(name)
        if known is not None and not known.verified:
            notes.append(f"{name} = {known.convention} is unverified")
        if known is not None and known.note:
            notes.append(f"{name}: {known.note}")
    return notes


def _only_at_zero(one: Convention, other: Convention) -> bool:
    return {one.name, other.name} == {FIXED.name, "constant"}


def _optimizer_of(source: str, target: str, one: Convention, other: Convention) -> str:
    """The optimizer that the names belong to."""
    for name in (name_of(source), name_of(target)):
        if name is not None and name.optimizer is not None:
            return name.optimizer
    return "sgd" if "l2" in (one.name, other.name) else "adamw"
