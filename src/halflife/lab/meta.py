"""What a ledger knows of its landscape as a whole, as one typed record.

It is stored as a plain mapping. A ledger that lacks a key has the default for it, None where the
report can only leave it out; keys that are not known here are passed over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict, get_args, get_origin, get_type_hints, is_typeddict

from ..checks import is_number, require
from .metric import Metric

__all__ = ["FORMAT", "PLAIN", "Calibration", "Extension", "Meta", "OpenEnd", "spelled_as_now"]

FORMAT = 2  # of the records and of this one
PLAIN = "value"  # the metric of a training that returns a number without a name

_REMEDY = "restore the ledger from a copy, or map the landscape again in another directory"


class Calibration(TypedDict):
    """The measurement that places one rule's strengths.

    Attributes:
        effective_rate: fraction removed per step, by unit of lr and of coefficient.
        lr: peak learning rate of the run it was measured in.
        seed: of that run.
        method: how it was measured, in words.
    """

    effective_rate: float
    lr: float
    seed: int
    method: str


class Extension(TypedDict):
    """One row or column by which a grid grew.

    Attributes:
        rule: name of the rule whose best setting lay on the border.
        axis: ``"lr"`` or ``"strength"``.
        side: ``"low"`` or ``"high"``.
        value: added to the axis, in its unit.
    """

    rule: str
    axis: str
    side: str
    value: float


class OpenEnd(Extension):
    """An extension that was not made, though the best setting lies on the border.

    Attributes:
        reason: why not, in words.
    """

    reason: str


@dataclass(frozen=True)
class Meta:
    """What analysis and report need beside the records.

    Attributes:
        format: of the records that belong to it.
        name: what is trained, such as ``"digits"`` or ``"my_module:train"``.
        description: in words.
        choose: the metric on validation data that settings are chosen by, as `Metric.as_dict`; that
            of ``report`` if None.
        report: the metric on test data that is told; that of ``choose`` if None.
        default_decay: weight decay of torch's default, where it was run with rule "decoupled" at
            every lr; None where it was not.
        equivalence: margin within which two settings are called equal, in units of ``report``; the
            noise between seeds if None.
        params: values of the parameters that are swept beside lr and decay, by name.
        optimizer: name of the trainings' optimizer, where it was stated or seen; None if not.
        settings: of the optimizer that the sweep makes, as far as they are not its defaults.
        betas: averaging factors of Adam.
        eps: of Adam.
        momentum: of SGD.
        dampening: of SGD.
        epochs: passes over the training set.
        batch_size: rows per step.
        schedule: name of the learning-rate schedule.
        rules: names, in the order of the report.
        lr: peak learning rates asked for.
        strength: fractions removed per step at the central lr, asked for.
        sampler: what decided which settings are trained; all of the grid if None or "grid".
        seeds: by which settings are chosen; one run of every setting each.
        confirm_seeds: of the runs that only the finalists get, and that choose nothing.
        lrs: peak learning rates, rising, with those of the extensions.
        strengths: by rule, fractions per step at the central lr, with those of the extensions.
        coefficients: by rule, its own weight decay at each of the strengths.
        central_lr: the lr at which strengths are meant.
        steps: of one run.
        steps_per_epoch: of one pass.
        extend: whether the grid might grow.
        extension_limit: rows and columns that each rule might add.
        extensions: what was added.
        unresolved: what would have been added and was not.
        omitted: by rule, settings left out as a step would remove whole weights.
        calibration: by rule, for those whose rate was measured.
        l2_on_adam: how strengths of L2 on Adam are placed, in words.
        prediction: what the predicted weight RMS assumes, in words.
        test_examples: rows of the test set.
        curve_examples: the first of them, over which learning curves are.
        curve_unit: what learning curves count, such as ``"step"`` or ``"epoch"``.
        command: what reproduces the run.
        versions: by package.
    """

    format: int = FORMAT
    name: str | None = None
    description: str | None = None
    choose: Mapping[str, Any] | None = None
    report: Mapping[str, Any] | None = None
    default_decay: float | None = None
    equivalence: float | None = None
    params: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    optimizer: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    betas: Sequence[float] | None = None
    eps: float | None = None
    momentum: float | None = None
    dampening: float | None = None
    epochs: float | None = None
    batch_size: int | None = None
    schedule: str | None = None
    rules: Sequence[str] = ()
    lr: Sequence[float] = ()
    strength: Sequence[float] = ()
    sampler: str | None = None
    seeds: Sequence[int] = ()
    confirm_seeds: Sequence[int] = ()
    lrs: Sequence[float] = ()
    strengths: Mapping[str, Sequence[float]] = field(default_factory=dict)
    coefficients: Mapping[str, Sequence[float]] = field(default_factory=dict)
    central_lr: float | None = None
    steps: int | None = None
    steps_per_epoch: int | None = None
    extend: bool | None = None
    extension_limit: int | None = None
    extensions: Sequence[Extension] = ()
    unresolved: Sequence[OpenEnd] = ()
    omitted: Mapping[str, int] = field(default_factory=dict)
    calibration: Mapping[str, Calibration] = field(default_factory=dict)
    l2_on_adam: str | None = None
    prediction: str | None = None
    test_examples: int | None = None
    curve_examples: int | None = None
    curve_unit: str | None = None
    command: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def chosen_by(self) -> Metric:
        """The metric that settings are chosen by."""
        return Metric.read(self.choose or self.report or {"name": PLAIN})

    @property
    def reported(self) -> Metric:
        """The metric that is told."""
        return Metric.read(self.report or self.choose or {"name": PLAIN})

    def judged(self, records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Records that say whether a training diverged: by itself, or by what it is judged by now.

        What a ledger holds is what the training itself said: by other metrics it is judged anew.
        """
        metrics = (self.chosen_by, self.reported)
        return [
            {**r, "diverged": bool(r.get("diverged")) or (r["status"] == "done" and any(
                not math.isfinite(m.of(r["metrics"])) for m in metrics
            ))}
            for r in records
        ]  # fmt: skip

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Meta:
        """The record that a ledger of this or another version holds.

        Args:
            stored: as `as_dict` gave it, or with more or fewer keys.

        Raises:
            ValueError: if a value is of another type than its field, naming key and value.
        """
        hints = get_type_hints(cls)
        known = {k: v for k, v in stored.items() if k in hints and v is not None}
        known = spelled_as_now(known)
        for name, value in known.items():
            _require_type(name, value, hints[name])
        for name in ("choose", "report"):
            if name in known:
                named = "name" in known[name]
                require(named, name, "a metric with a name", known[name], _REMEDY)
                Metric.read(known[name])
        return cls(**known)

    @property
    def margin(self) -> float | None:
        """The margin of equality that was stated; None if it is none that a ledger should hold."""
        stated = self.equivalence
        return stated if stated is not None and 0.0 < stated < math.inf else None

    def as_dict(self) -> dict[str, Any]:
        """What is known, as plain data to be stored."""
        return {name: value for name, value in vars(self).items() if value is not None}


def spelled_as_now(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose optimizer has the name that it has today: "adamw" was "adam"."""
    return {**stored} | ({"optimizer": "adamw"} if stored.get("optimizer") == "adam" else {})


def _require_type(name: str, value: Any, hint: Any) -> None:
    kind, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return
    if type(None) in parts:
        _require_type(name, value, parts[0])
    elif kind is Sequence:
        require(isinstance(value, (list, tuple)), name, "a list", value, _REMEDY)
        for index, part in enumerate(value):
            _require_type(f"{name}[{index}]", part, parts[0])
    elif kind is Mapping:
        require(isinstance(value, Mapping), name, "a mapping", value, _REMEDY)
        for key, part in value.items():
            _require_type(f"{name}[{key!r}]", part, parts[1])
    elif is_typeddict(hint):
        hints = get_type_hints(hint)
        ok = isinstance(value, Mapping) and hints.keys() <= value.keys()
        require(ok, name, f"a mapping with {', '.join(hints)}", value, _REMEDY)
        for key, inner in hints.items():
            _require_type(f"{name}[{key!r}]", value[key], inner)
    else:
        words, holds = _PLAIN[hint]
        require(holds(value), name, words, value, _REMEDY)


_PLAIN: dict[type, tuple[str, Callable[[object], bool]]] = {
    str: ("a string", lambda v: isinstance(v, str)),
    bool: ("true or false", lambda v: isinstance(v, bool)),
    int: ("an integer", lambda v: isinstance(v, int) and not isinstance(v, bool)),
    float: ("a number", is_number),
}
