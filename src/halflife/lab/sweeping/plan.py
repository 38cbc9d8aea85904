"""What a sweep trains: rules at equal strength, over learning rates and whatever else is swept.

Column j of every rule has one strength, the fraction of each weight that one step removes at the
*central* learning rate (see `halflife.lab.sweeping.axes`). With a single rule and `weight_decay`
the columns are that rule's own coefficients as they are, and no strength need exist.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...rules.contract import DecayRule, as_rule
from ..meta import Calibration, Extension, Meta, OpenEnd
from ..metric import Metric
from ..trials.bases import OptimizerKind
from ..trials.cell import BASELINE, Cell, params_of
from .axes import L2_ON_ADAM, Axis, Currency, canonical
from .told import optimizer_told

__all__ = ["CONFIRM_FROM", "TINY", "Columns", "SweepPlan", "default_decay"]

# Bounds that no extension reaches: an lr above 1 is none, and a strength of 1 is the whole weight.
_HIGHEST_LR = 1.0
TINY = 1e-12  # a coefficient too small to act
CONFIRM_FROM = 10_000  # the first of the seeds that confirm; those that choose are below
_DEFAULT = 0.01  # of torch.optim.AdamW


def default_decay(optimizer: str | None) -> float | None:
    """The weight decay that torch's default is; None where that is no decay, or not known."""
    return _DEFAULT if optimizer == "adamw" else None


@dataclass(frozen=True)
class Columns:
    """One rule's columns.

    Attributes:
        axis: strengths, or coefficients where there are no strengths.
        currency: between the two; None where the axis has coefficients.
        given: coefficients that were asked for, by strength: there and back they lose a digit, and
            would be other settings than those of the same rule alone.
    """

    axis: Axis
    currency: Currency | None
    given: Mapping[float, float] = field(default_factory=dict)

    def coefficient(self, value: float) -> float:
        """The rule's weight decay of a value of the axis."""
        if self.currency is None:
            return value
        known = self.given.get(value)
        return canonical(self.currency.coefficient(value)) if known is None else known

    def extended(self, side: str, value: float) -> Columns:
        """With one more value beyond a side, by the same step in coefficients where they are given.

        Args:
            side: ``"low"`` or ``"high"``.
            value: beyond it.
        """
        given = dict(self.given)
        if given and (next_one := Axis(tuple(sorted(given.values()))).beyond(side)) is not None:
            given[value] = next_one
        return Columns(self.axis.extended(value), self.currency, given)

    def buildable(self, rule: DecayRule, value: float, lr: float, base: OptimizerKind) -> bool:
        """Whether a step at this lr leaves some of each weight."""
        if not rule.removes_fraction or (self.currency is None and rule.follows_gradients):
            return True
        currency = self.currency or Currency(rule, base.base, lr)
        return currency.buildable(self.coefficient(value), lr)


@dataclass
class SweepPlan:
    """What is to be trained.

    Attributes:
        name: of the training.
        base: the base optimizer.
        rules: names of the decay rules.
        lrs: peak learning rates.
        decays: the axis given, of strengths or of the first rule's coefficients.
        strengths: whether it is one of strengths.
        seeds: by which settings are chosen.
        confirm: number of fresh seeds that the finalists get.
        choose: the metric that settings are chosen by.
        report: the metric that is told.
        params: values of other parameters that are swept, by name.
        default: weight decay of torch's default to compare with; None for none.
        default_if_known: whether it is compared with once the trainings' optimizer is known.
        stated: whether the caller said that their optimizer is `base`.
        extend: whether the grid may grow where an optimum lies on its border.
        extension_limit: rows and columns that each rule may add.
        equivalence: margin within which settings are called equal, in units of `report`.
        about: more fields of `Meta` that are known of the training.

    Raises:
        ValueError: for a rule that is unknown or cannot be compared, or a strength out of range.
    """

    name: str
    base: OptimizerKind
    rules: tuple[str, ...]
    lrs: Axis
    decays: Axis
    strengths: bool
    seeds: tuple[int, ...]
    confirm: int
    choose: Metric
    report: Metric
    params: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    default: float | None = None
    extend: bool = True
    extension_limit: int = 4
    equivalence: float | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    default_if_known: bool = False
    stated: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        self.central = self.lrs.central
        self.calibration: dict[str, Calibration] = {}
        self.extensions: list[Extension] = []
        self.unresolved: list[OpenEnd] = []
        self.columns: dict[str, Columns] = {}
        self._equal = self.strengths or len(self.rules) > 1
        for name in self.rules:
            rule = as_rule(name)
            if self._equal and not (rule.removes_fraction or rule.joins_gradient):
                raise ValueError(
                    f"rules={name!r}: its amount is a threshold in units of the weights, and "
                    "rules are compared at equal fraction; sweep its own weight_decay alone."
                )
            if self.strengths:  # whatever the measured rate will be
                for value in self.decays.values:
                    Currency(rule, self.base.base, self.central, 1.0).coefficient(value)

    # --- what the trainings tell ------------------------------------------------------------------

    def optimizer(self, records: Sequence[Mapping[str, Any]]) -> str | None:
        """Name of the trainings' optimizer; None if it is not known."""
        return optimizer_told(records, self.base.name if self.stated else None, self.base.name)

    def settle_default(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Compare with torch's default, if that waits for the optimizer to be known, and it is."""
        if self.default is None and self.default_if_known:
            self.default = default_decay(self.optimizer(records))

    # --- strengths --------------------------------------------------------------------------------

    @property
    def uncalibrated(self) -> list[str]:
        """Rules whose strength a training must tell first."""
        return [
            name
            for name in self.rules
            if self._equal
            and name not in self.calibration
            and Currency(as_rule(name), self.base.base, self.central).needs_probe
        ]

    @property
    def probe(self) -> Cell:
        """The training that tells it, without decay to speak of."""
        name = self.uncalibrated[0]
        params = {key: values[0] for key, values in self.params.items()}
        return Cell(name, self.central, TINY, self.seeds[0], params_of(params))

    def calibrate(self, name: str, fraction: float | None) -> None:
        """Take what a probe tells of a rule.

        Raises:
            ValueError: if it tells nothing.
        """
        if not fraction or not math.isfinite(fraction):
            raise ValueError(
                f"rules={name!r}: its strength follows the gradients, and the training told no "
                "rate; make the optimizer by trial.optimizer(model), or sweep the rule's own "
                "weight_decay alone."
            )
        self.calibration[name] = {
            "effective_rate": fraction / (self.central * TINY),
            "lr": self.central,
            "seed": self.seeds[0],
            "method": "mean over a run without decay, weighted by the schedule",
        }

    def lay_out(self) -> None:
        """Place every rule's columns; all rules are calibrated.

        Raises:
            ValueError: if a strength is no fraction, or a rule's coefficient cannot be placed.
        """
        axis, given = self.decays, dict[float, float]()
        if self._equal and not self.strengths:
            first = self._currency(self.rules[0])
            given = {canonical(first.strength(c)): c for c in axis.values}
            axis = Axis(tuple(sorted(given)))
        for name in self.rules:
            currency = self._currency(name) if self._equal else None
            own = given if name == self.rules[0] else {}
            self.columns[name] = columns = Columns(axis, currency, own)
            for value in axis.values:
                columns.coefficient(value)

    def _currency(self, name: str) -> Currency:
        rule = as_rule(name)
        known = self.calibration.get(name)
        if known is None:
            return Currency(rule, self.base.base, self.central)
        rate = known["effective_rate"]
        currency = Currency(rule, self.base.base, self.central, rate)
        measured = currency.fraction(TINY, self.central) / TINY
        if not math.isclose(measured, self.central * rate, rel_tol=1e-6):
            raise ValueError(
                f"rules={name!r}: its fraction is not lr * weight_decay times one measured "
                "number, so no coefficient can be placed at a strength in advance; leave it out."
            )
        return currency

    # --- cells ------------------------------------------------------------------------------------

    def cells(self, seeds: Sequence[int] | None = None) -> Iterator[Cell]:
        """All cells of the grid that can be built, seed by seed, those without decay first."""
        for seed in self.seeds if seeds is None else seeds:
            for params in self.joint():
                for lr in self.lrs.values:
                    yield Cell(BASELINE, lr, 0.0, seed, params, 0.0)
                if self.default is not None:
                    for lr in self.lrs.values:
                        yield Cell("decoupled", lr, self.default, seed, params, self._strength())
                for name, lr, value in self.places():
                    if self.columns[name].buildable(as_rule(name), value, lr, self.base):
                        yield self.cell(name, lr, value, seed, params)

    def cell(
        self, rule: str, lr: float, value: float, seed: int, params: tuple[tuple[str, Any], ...]
    ) -> Cell:
        """One cell of a rule, at a value of its axis."""
        columns = self.columns[rule]
        strength = value if columns.currency else self._own_strength(rule, value)
        return Cell(rule, lr, columns.coefficient(value), seed, params, strength)

    def joint(self) -> Iterator[tuple[tuple[str, Any], ...]]:
        """Combinations of the other parameters."""
        for values in itertools.product(*self.params.values()):
            yield params_of(dict(zip(self.params, values, strict=True)))

    def places(self) -> Iterator[tuple[str, float, float]]:
        """Rule, lr and value of its axis."""
        for name, columns in self.columns.items():
            for value in columns.axis.values:
                for lr in self.lrs.values:
                    yield name, lr, value

    def _strength(self) -> float | None:
        return None if self.default is None else canonical(self.default * self.central)

    def _own_strength(self, name: str, coefficient: float) -> float | None:
        rule = as_rule(name)
        if not rule.uniform or rule.follows_gradients:
            return None
        return canonical(
            Currency(rule, self.base.base, self.central).fraction(coefficient, self.central)
        )

    @property
    def confirm_seeds(self) -> tuple[int, ...]:
        """Seeds that confirm."""
        return tuple(range(CONFIRM_FROM, CONFIRM_FROM + self.confirm))

    # --- growing ----------------------------------------------------------------------------------

    def grow(self, rule: str, axis: str, side: str) -> bool:
        """Extend an axis of a rule by one step, if the limits allow.

        Args:
            rule: whose best setting lies on the border; no decay and torch's default have an lr.
            axis: ``"lr"`` or ``"weight_decay"``.
            side: ``"low"`` or ``"high"``.
        """
        values, unit = self.lrs, "lr"
        if axis != "lr":
            values = self.columns[rule].axis
            unit = "strength" if self.columns[rule].currency else "weight_decay"
        value = values.beyond(side)
        if value is None:
            return False  # fixed by a single value
        grown: Extension = {"rule": rule, "axis": unit, "side": side, "value": value}
        spent = sum(e["rule"] == rule for e in self.extensions)
        top = max(_HIGHEST_LR, self.lrs.values[-1]) if axis == "lr" else 1.0
        bounded = unit != "weight_decay"
        if side == "high" and bounded and value >= top:
            self.unresolved.append({**grown, "reason": f"the next would be {value:.3g}"})
            return False
        if spent >= self.extension_limit:
            self.unresolved.append({**grown, "reason": f"{spent} extensions, the limit"})
            return False
        self.extensions.append(grown)
        if axis == "lr":
            self.lrs = self.lrs.extended(value)
        else:
            self.columns[rule] = self.columns[rule].extended(side, value)
        return True

    # --- what is written down ---------------------------------------------------------------------

    def meta(self, **more: Any) -> Meta:
        """What analysis and report need beside the records."""
        omitted: dict[str, int] = {}
        for name, lr, value in self.places():
            if not self.columns[name].buildable(as_rule(name), value, lr, self.base):
                omitted[name] = omitted.get(name, 0) + 1
        first = self.decays.values
        known = dict(
            name=self.name,
            optimizer=self.base.name,
            settings=dict(self.base.settings),
            choose=self.choose.as_dict(),
            report=self.report.as_dict(),
            default_decay=self.default,
            equivalence=self.equivalence,
            params={name: list(values) for name, values in self.params.items()},
            rules=list(self.rules),
            lr=list(self.lrs.values),
            strength=list(first) if self.strengths else [],
            seeds=list(self.seeds),
            confirm_seeds=list(self.confirm_seeds),
            lrs=list(self.lrs.values),
            strengths={
                name: known
                for name, c in self.columns.items()
                if (known := self._strengths(name, c))
            },
            coefficients={
                name: [c.coefficient(v) for v in c.axis.values] for name, c in self.columns.items()
            },
            central_lr=self.central,
            extend=self.extend,
            extension_limit=self.extension_limit,
            extensions=list(self.extensions),
            unresolved=list(self.unresolved),
            omitted=omitted,
            calibration=self.calibration,
            l2_on_adam=f"coefficient = strength / central lr / {L2_ON_ADAM:g}",
        )
        # What a training says of itself is not for others to say.
        return Meta(**{**known, **more, **self.about})

    def _strengths(self, name: str, columns: Columns) -> list[float]:
        if columns.currency:
            return list(columns.axis.values)
        values = [self._own_strength(name, v) for v in columns.axis.values]
        return [] if None in values else [v for v in values if v is not None]
