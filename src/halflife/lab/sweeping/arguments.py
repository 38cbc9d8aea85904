"""What a sweep is asked for, checked and made plain before anything is trained or written.

What passes here can be recorded, and read again: a ledger refuses what its own rules do not allow.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...checks import is_number, near, require, require_count, require_positive
from ...rules.contract import DecayRule, as_rule
from ..executors import Executor
from ..ledger import as_plain
from ..metric import HIGHEST, LONGEST, Metric, is_name
from ..trials.bases import OptimizerKind, made
from .plan import CONFIRM_FROM

__all__ = [
    "checked_base",
    "checked_metrics",
    "count_of",
    "margin_of",
    "require_others",
    "rules_of",
    "seeds_of",
    "swept_params",
]

_PLAIN = Metric("loss")
_SWEPT = ("lr", "weight_decay", "seed", "rule")  # as such: no other parameter has their names
_OF_TRIAL = ("params", "lr", "weight_decay", "decay")  # what a trial gives its optimizer


def rules_of(rules: Any) -> tuple[str, ...]:
    """Names of decay rules, each once.

    Raises:
        ValueError: for none, an unknown one, or one that its name alone does not make.

    Example:
        >>> from halflife import Stable
        >>> rules_of(["decoupled", Stable()])
        ('decoupled', 'stable')
    """
    remedy = 'such as rules=["decoupled", "stable"]'
    single = isinstance(rules, (str, DecayRule))
    names: dict[str, None] = {}
    for rule in [rules] if single else _listed("rules", rules, remedy):
        if isinstance(rule, DecayRule) and str(rule) != rule.name:
            raise ValueError(
                f"rules={rule!r}: must be a name, by which a ledger knows a rule, and "
                f"{rule.name!r} is another one; give a subclass with these values a name of its "
                "own."
            )
        name = rule.name if isinstance(rule, DecayRule) else rule
        require(is_name(name), "rules", "names of decay rules", rule, remedy)
        try:
            as_rule(name)
        except ValueError as error:
            raise ValueError(str(error).replace("decay=", "rules=", 1)) from None
        except TypeError as error:
            raise ValueError(
                f"rules={name!r}: must be made by its name alone, and is not ({error}); give a "
                "subclass with its values a name of its own."
            ) from None
        names[name] = None
    if not names:
        raise ValueError(f"rules={rules!r}: at least one is needed, {remedy}.")
    return tuple(names)


def seeds_of(seeds: Any) -> tuple[int, ...]:
    """Seeds, from how many or which.

    Raises:
        ValueError: for what is neither, or a seed of those that confirm.

    Example:
        >>> seeds_of(3), seeds_of([7, 3, 7])
        ((0, 1, 2), (7, 3))
    """
    remedy = "pass how many trainings each setting gets, such as 3, or which seeds"
    seeds = _scalar(seeds)
    which: Sequence[Any]
    if isinstance(seeds, int):
        require_count("seeds", seeds, remedy)
        which, highest = range(seeds), seeds - 1
    else:
        which = [_scalar(seed) for seed in _listed("seeds", seeds, remedy)]
        for seed in which:
            require_count("seeds", seed, "pass integers from 0 on, or how many", minimum=0)
        highest = max(which, default=0)
    if highest >= CONFIRM_FROM:
        raise ValueError(
            f"seeds={highest}: must be below {CONFIRM_FROM}, where the seeds that confirm begin."
        )
    if not which:
        raise ValueError(f"seeds={seeds!r}: at least one is needed, such as seeds=3.")
    return tuple(dict.fromkeys(map(int, which)))


def swept_params(params: Any) -> dict[str, list[Any]]:
    """Values of the other parameters that are swept, by name.

    Raises:
        ValueError: for a name that is taken, or values that a record cannot hold.

    Example:
        >>> swept_params({"momentum": (0.8, 0.9), "norm": ["batch", "layer"]})
        {'momentum': [0.8, 0.9], 'norm': ['batch', 'layer']}
    """
    example = 'such as params={"momentum": [0.8, 0.9]}'
    require(isinstance(params or {}, Mapping), "params", "lists by name", params, example)
    found = {}
    for name, values in (params or {}).items():
        if not is_name(name) or name in _SWEPT:
            raise ValueError(
                f"params: {name!r} must be a name of 1 to {LONGEST} printable characters other "
                f"than {', '.join(_SWEPT)}; call it otherwise."
            )
        listed = [*map(as_plain, _listed(f"params: {name}", values, example))]
        for value in listed:
            if not (isinstance(value, bool) or is_name(value) or _is_value(value)):
                raise ValueError(
                    f"params: {name}={value!r} must be a number, True or False, or a text of 1 to "
                    f"{LONGEST} printable characters; sweep names, and look up in the training "
                    f"what each stands for: {{'small': ...}}[trial[{name!r}]]."
                )
        if not listed or len(set(listed)) != len(listed):
            raise ValueError(f"params: {name}={listed!r} must be a list of different values.")
        found[name] = listed
    return found


def checked_base(optimizer: Any, settings: Any) -> OptimizerKind:
    """The base optimizer, with its settings as plain data.

    Raises:
        ValueError: for another optimizer, or a setting that it does not take.
    """
    example = 'such as settings={"betas": (0.9, 0.95)}'
    require(isinstance(settings or {}, Mapping), "settings", "values by name", settings, example)
    given = as_plain(settings or {})
    base = made(optimizer, given)
    taken = inspect.signature(base.cls).parameters
    known = [name for name in taken if name not in _OF_TRIAL]
    for name, value in given.items():
        if name not in known:
            raise ValueError(
                f"settings: {name!r} must be one that {base.cls.__name__} takes beside what is "
                f"swept, {', '.join(known)}{near(name, known)}"
            )
        if not _is_plain(value):
            raise ValueError(
                f"settings: {name}={value!r} must be plain data, which a ledger can compare; build "
                "such an optimizer in the training, and trial.watch it."
            )
    base.base(1.0)  # which refuses values that it does not take
    return base


def checked_metrics(choose: Any, report: Any) -> tuple[Metric, Metric]:
    """What settings are chosen by, and what is told.

    Raises:
        ValueError: for what is no metric.
    """
    reported = _metric("report", report) or _metric("choose", choose) or _PLAIN
    return _metric("choose", choose) or reported, reported


def margin_of(equivalence: Any) -> float | None:
    """The margin of equality; None for the noise between seeds.

    Raises:
        ValueError: for what is no positive number.
    """
    if equivalence is None:
        return None
    margin = _scalar(equivalence)
    remedy = "give it in the unit of the reported metric, or leave it out for the noise"
    require_positive("equivalence", margin, remedy)
    return float(margin)


def count_of(name: str, value: Any, remedy: str) -> int:
    """A count from 0 on, as Python's own integer.

    Raises:
        ValueError: for what is none.
    """
    require_count(name, value, remedy, minimum=0)
    return int(value)


def require_others(name: Any, command: Any, time_limit: Any, executor: Any) -> None:
    """Check what is neither recorded by cell nor swept.

    Raises:
        ValueError: for what cannot be used.
    """
    require(name is None or isinstance(name, str), "name", "a text", name, "leave it out")
    require(isinstance(command, str), "command", "a text", command, "leave it out")
    ok = time_limit is None or (is_number(time_limit) and time_limit > 0)
    require(ok, "time_limit", "a number of seconds > 0", time_limit, "leave it out for no limit")
    require(
        executor is None or isinstance(executor, Executor), "executor", "one of halflife.lab's",
        executor, "such as lab.Local(4) or lab.InProcess()",
    )  # fmt: skip


# --- what is plain --------------------------------------------------------------------------------


def _listed(name: str, values: Any, remedy: str) -> list[Any]:
    """Values in an order of their own; a text is none, though Python would take it apart."""
    unordered = isinstance(values, (str, bytes, Mapping, set, frozenset))
    try:
        listed = None if unordered else list(values)
    except TypeError:
        listed = None
    if listed is None:
        raise ValueError(f"{name}={values!r} must be a list, {remedy}.")
    return listed


def _scalar(value: Any) -> Any:
    return as_plain(value) if getattr(value, "ndim", None) == 0 else value


def _is_value(value: Any) -> bool:
    """Whether it is a number that equals itself, and that a record takes."""
    if isinstance(value, int):
        return abs(value) <= HIGHEST
    return isinstance(value, float) and not math.isnan(value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, Mapping):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    return value is None or isinstance(value, (str, bool)) or is_number(value)


def _metric(name: str, metric: Any) -> Metric | None:
    if metric is None:
        return None
    if not is_name(metric.name if isinstance(metric, Metric) else metric):
        raise ValueError(
            f"{name}={metric!r}: must be lab.Metric(name, unit), or the key of a number that the "
            f"training returns, of 1 to {LONGEST} printable characters; return it under another."
        )
    return metric if isinstance(metric, Metric) else Metric(metric)
