r"""What ``weight_decay`` natively does in an optimizer, found by running it on a few numbers.

The same word stands for at least five updates. With ``u`` the step without decay, per unit of lr:

    l2               g + weight_decay w instead of the gradient g
    decoupled        w <- (1 - d) w - lr u      d = lr weight_decay
    decoupled_after  w <- (1 - d)(w - lr u)     d = lr weight_decay
    independent      w <- (1 - d) w - lr u      d = (lr / p) weight_decay, p an lr it remembers
    constant         w <- (1 - d) w - lr u      d = weight_decay

Each is put in the place of the native decay, by hand, around the same optimizer without decay. The
one that gives the native weights is the answer. Two steps with two learning rates tell how the
fraction follows the lr, and whether the decay enters the optimizer's state (as L2 does).
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..checks import is_number, numbers_of
from ..rules.contract import DecayRule
from ..rules.scalar import Constant, Corrected, Decoupled, Independent, L2Regularization, Proximal
from ..rules.step import Step
from .bench import Bench, Make, arguments, build_optimizer, copied, parameters, unnoticed

__all__ = [
    "Evidence",
    "Kind",
    "NativeDecay",
    "Way",
    "check_base",
    "fraction_law",
    "group_decay",
    "judge",
    "native_decay",
    "native_kind",
    "scales_with_lr",
]

Kind: TypeAlias = Literal[
    "absent",
    "l2",
    "decoupled",
    "decoupled_after",
    "independent",
    "constant",
    "other",
    "averaged",
    "unknown",
]

Way: TypeAlias = Literal["switch", "decoupled", "l2", "none"]

SWITCH = "decoupled_weight_decay"
_LR = 0.125
# Relative to what the decay does. Bases that compute in float32 agree to about 1e-5, and different
# updates differ by 1e-2 or more.
_TOLERANCE = 1e-4
_RULES: dict[str, DecayRule] = {
    "l2": L2Regularization(),
    "decoupled": Decoupled(),
    "independent": Independent(),
    "constant": Constant(),
}


@dataclass(frozen=True)
class Evidence:
    """What was measured.

    Args:
        lrs: learning rate of each of the two steps.
        weight_decay: the native coefficient.
        fractions: share of the weights that each step removed where all gradients were zero.
        errors: of each candidate, the weights' largest deviation from the native ones, relative to
            what the decay did, with zero and with other gradients. "before" and "after" remove
            those fractions before or after the step; below 1e-4 it is the native update.
    """

    lrs: tuple[float, float]
    weight_decay: float
    fractions: tuple[float, float]
    errors: dict[str, float]


@dataclass(frozen=True)
class NativeDecay:
    """The native meaning of an optimizer's ``weight_decay``.

    Args:
        kind: the update's name in `halflife.bases.native_decay`; "absent" if there is none, "other"
            if it is no known one, "averaged" if the weights are not the optimizer's iterate
            (schedule-free methods), "unknown" if it could not be run.
        reason: why, in a sentence.
        rule: our rule for the same update, if there is one.
        peak_lr: the lr by which an independent or corrected decay divides.
        evidence: the measurements; None if nothing was run.
    """

    kind: Kind
    reason: str
    rule: DecayRule | None = None
    peak_lr: float | None = None
    evidence: Evidence | None = None


def native_decay(optimizer: type[Optimizer] | Optimizer) -> NativeDecay:
    """What ``weight_decay`` natively does in an optimizer; found by running a copy of it.

    Nothing of the optimizer, and no random state, changes. A class is run with its default
    arguments; an instance with its own, those of its first group.

    Args:
        optimizer: a class, or an instance, whose flags may change the answer.

    Example:
        >>> native_decay(torch.optim.AdamW).kind, native_decay(torch.optim.RMSprop).kind
        ('decoupled', 'l2')
        >>> native_decay(torch.optim.Rprop).kind
        'absent'
    """
    if isinstance(optimizer, type):
        return _of_class(cast("Any", optimizer))
    if not optimizer.param_groups:
        return NativeDecay("unknown", "it has no parameter group")
    return group_decay(optimizer, optimizer.param_groups[0])


def native_kind(optimizer: Optimizer, group: dict[str, Any]) -> Way:
    """How one group's native step can take a decay.

    "switch": by L2 or decoupled, as the group's ``decoupled_weight_decay`` says. "decoupled", "l2":
    by that alone. "none": not by any that rules can be put in; leave the native decay at 0.

    Example:
        >>> w = torch.zeros(1, requires_grad=True)
        >>> for base in (torch.optim.Adam, torch.optim.Muon, torch.optim.SGD, torch.optim.Rprop):
        ...     optimizer = base([w if base is not torch.optim.Muon else w.detach().view(1, 1)])
        ...     native_kind(optimizer, optimizer.param_groups[0])
        'switch'
        'decoupled'
        'l2'
        'none'
    """
    if SWITCH in group:
        kinds = [group_decay(optimizer, {**group, SWITCH: on}).kind for on in (True, False)]
        if kinds == ["decoupled", "l2"]:
            return "switch"
    kind = group_decay(optimizer, group).kind
    return kind if kind in {"decoupled", "l2"} else "none"


@functools.cache
def check_base(cls: type[Optimizer]) -> None:
    """Refuse an optimizer class that no rule can be put on.

    Raises:
        ValueError: if its parameters are not the weights that it trains, or if its native decay
            cannot be turned off.
    """
    cls = _without_rule(cls)
    if _averages(cls):
        raise ValueError(
            f"{cls.__name__}: its train() and eval() exchange the parameters, which hold a point "
            "between its iterate and its average, so a rule would decay the wrong weights; use its "
            "own weight_decay, with decay=None."
        )
    if _keeps_decay_outside(cast("Any", cls)):
        raise ValueError(
            f"{cls.__name__}: it keeps weight_decay outside its parameter groups, so its native "
            "decay cannot be replaced; pass weight_decay=0 and attach a rule to the instance."
        )


@functools.cache
def scales_with_lr(cls: type[Optimizer]) -> bool:
    """Whether an update at c times the lr is c times the update; found by running two steps.

    Where it is not, no rule can scale a step. ASGD's lr acts one step later, Rprop's only on the
    first, and a buffer that holds the lr (`HeavyBall`) adds steps at other lrs. A class that
    cannot be run is trusted.

    Example:
        >>> scales_with_lr(torch.optim.Adam), scales_with_lr(torch.optim.ASGD)
        (True, False)
    """
    make = functools.partial(build_optimizer, _without_rule(cls))
    for dtype, tensors in itertools.product((torch.float64, torch.float32), (2, 1)):
        try:
            # A large lr, so that bounds on it (Adafactor's 1 / sqrt(t)) are felt.
            bench, updates = Bench(make, 1.0, tensors, dtype), []
            for second in (1.0, 0.5):
                bench.lrs = (1.0, second)
                _, before, after = bench.run(True)
                updates.append(after - before)
            size = float(updates[0].abs().max())
            return _distance([2.0 * updates[1]], [updates[0]]) <= _TOLERANCE * size
        except Exception:  # it may take only the other dtype, or only matrices
            continue
    return True


# --- what is asked ------------------------------------------------------------------------------


@functools.cache
def _of_class(cls: type[Optimizer]) -> NativeDecay:
    if _averages(cls):
        return NativeDecay("averaged", "train() and eval() exchange the parameters")
    names = arguments(cls)
    if missing := [n for n, p in names.items() if p.default is p.empty and n != "lr"]:
        return NativeDecay("unknown", f"it needs {', '.join(missing)}; pass an instance")
    return _attempt(functools.partial(build_optimizer, _without_rule(cls)), _LR)


def group_decay(optimizer: Optimizer, group: dict[str, Any]) -> NativeDecay:
    """`native_decay` of an optimizer with the settings of one of its groups."""
    if _averages(type(optimizer)):
        return NativeDecay("averaged", "train() and eval() exchange the parameters")
    known = (type(optimizer), _settings(vars(optimizer)), _settings(group))
    if known not in _INSTANCES:
        if len(_INSTANCES) >= _REMEMBERED:
            _INSTANCES.pop(next(iter(_INSTANCES)))
        _INSTANCES[known] = _attempt(functools.partial(copied, optimizer, group), _lr_of(group))
    return _INSTANCES[known]


_INSTANCES: dict[Any, NativeDecay] = {}
_REMEMBERED = 512  # the oldest goes first


def _settings(values: dict[str, Any]) -> frozenset[tuple[str, Any]]:
    """What of an optimizer's attributes, or of a group, may decide what its decay is."""
    return frozenset((k, s) for k, v in values.items() if (s := _setting(k, v)) is not None)


def _setting(name: str, value: Any) -> Any:
    # Flags decide, and an lr that is remembered; of the numbers, which schedules may write at every
    # step (OneCycleLR moves the momentum), only whether they are 0.
    if name in ("lr", "weight_decay", "_opt_called"):  # the last: a scheduler's note
        return None
    if isinstance(value, (bool, str)) or value is None:
        return repr(value)
    if is_number(value):
        return float(value) if re.search(r"(max|peak|base|initial)_?lr", name) else value != 0
    numbers = None if isinstance(value, Tensor) else numbers_of(value)
    if numbers is None or any(isinstance(v, Tensor) for v in numbers):
        return None
    return tuple(v != 0 for v in numbers)


def _without_rule(cls: type[Optimizer]) -> type[Optimizer]:
    """The native class behind one of ours, whose constructor would ask the same again."""
    native = (c for c in cls.__mro__ if issubclass(c, Optimizer) and not hasattr(c, "default_rule"))
    return next(native)


def _averages(cls: type[Optimizer]) -> bool:
    return all(callable(getattr(cls, name, None)) for name in ("train", "eval"))


@functools.cache
def _keeps_decay_outside(cls: type[Optimizer]) -> bool:
    if "weight_decay" not in arguments(cls):
        return False
    try:
        with unnoticed():
            params = parameters(1.0, 1, torch.float64)
            group = build_optimizer(cls, params, _LR, 0.25).param_groups[0]
    except Exception:
        return False
    return "weight_decay" not in group


def _lr_of(group: dict[str, Any]) -> float:
    lr = float(group.get("lr") or 0.0)
    return lr if 0.0 < lr < math.inf else _LR


# --- how it is judged ---------------------------------------------------------------------------


def _attempt(make: Make, lr: float) -> NativeDecay:
    """Probe on a matrix and a vector, or on what of it the optimizer takes."""
    reason = ""
    for dtype, tensors in itertools.product((torch.float64, torch.float32), (2, 1)):
        try:
            bench = Bench(make, lr, tensors, dtype)
            with unnoticed():
                optimizer = make(bench.parameters(), lr, bench.weight_decay)
            if any("weight_decay" not in group for group in optimizer.param_groups):
                return NativeDecay("absent", "its parameter groups have no weight_decay")
            return judge(bench)
        except Exception as error:
            message = str(error).partition("\n")[0][:200]
            reason = (
                reason or f"no small tensor could be stepped: {type(error).__name__}: {message}"
            )
    return NativeDecay("unknown", reason)


def judge(bench: Bench) -> NativeDecay:
    """What the decay of the bench's optimizer is."""
    evidence = _measure(bench)
    if not evidence.errors:
        return NativeDecay("absent", "weight_decay changed nothing", evidence=evidence)
    fits = [name for name, error in evidence.errors.items() if error < _TOLERANCE]
    if not fits:
        reason = "neither L2 nor one fraction of every weight, before or after the step"
        return NativeDecay("other", reason, evidence=evidence)
    if fits[0] == "l2":
        return NativeDecay("l2", "it joins the gradient", _RULES["l2"], evidence=evidence)
    when = fits[0]
    first, second = (d / evidence.weight_decay for d in evidence.fractions)
    reason = (
        f"{when} the step it removes {first:.6g} and {second:.6g} times weight_decay at the "
        f"learning rates {evidence.lrs[0]:.6g} and {evidence.lrs[1]:.6g}"
    )
    kind, rule, peak = fraction_law(evidence.fractions, evidence.lrs, evidence.weight_decay, when)
    return NativeDecay(kind, reason, rule, peak, evidence)


def fraction_law(
    fractions: tuple[float, float], lrs: tuple[float, float], weight_decay: float, when: str
) -> tuple[Kind, DecayRule | None, float | None]:
    """The kind, our rule and the remembered lr behind two fractions, the second at half the lr.

    Args:
        fractions: share of the weights that each of two steps removes.
        lrs: their learning rates.
        weight_decay: the coefficient of both.
        when: "before" or "after" the step.
    """
    first, second = (d / weight_decay for d in fractions)
    kind: Kind = "other"
    rule: DecayRule | None = None
    peak: float | None = None
    steps = [Step(lr, weight_decay=weight_decay) for lr in lrs]
    bent = Proximal()
    if _agree((first, second), lrs):
        kind = "decoupled" if when == "before" else "decoupled_after"
    elif when == "after" and _agree(fractions, [float(bent.fraction(s)) for s in steps]):
        rule = bent
    elif when == "before" and _agree((first, second), (1.0, 1.0)):
        kind = "constant"
    elif when == "before" and _agree((first, second), (first, first / 2)):
        kind, peak = "independent", lrs[0] / first
    elif when == "before" and _agree((first, second), (first, first / 4)):
        rule, peak = Corrected(), lrs[0] ** 2 / first
    return kind, rule or _RULES.get(kind), peak


def _measure(bench: Bench) -> Evidence:
    """Which decay made by hand gives the native weights; no errors where nothing decays."""
    amount = bench.weight_decay
    still, held = bench.run(False, (amount, amount)), bench.run(False, (amount, 0.0))
    fractions = (
        _share(bench.run(False)[1] - still[1], still[0]),
        _share(held[2] - still[2], still[1]),
    )
    hands: dict[str, dict[str, Any]] = {
        "l2": {"l2": amount},
        "before": {"before": fractions},
        "after": {"after": fractions},
    }
    errors: dict[str, float] = {}
    for noise in (False, True):
        native, plain = bench.run(noise, (amount, amount)), bench.run(noise)
        effect = _distance(native, plain)
        if effect > 0.0:
            for name, hand in hands.items():
                error = _distance(bench.run(noise, **hand), native) / effect
                errors[name] = max(errors.get(name, 0.0), error)
    return Evidence(bench.lrs, amount, fractions, errors)


def _distance(a: list[Tensor], b: list[Tensor]) -> float:
    distance = float(torch.stack(a).sub(torch.stack(b)).abs().max())
    return distance if math.isfinite(distance) else math.inf


def _share(removed: Tensor, weights: Tensor) -> float:
    return float(removed.dot(weights) / weights.dot(weights))


def _agree(found: Sequence[float], wanted: Sequence[float]) -> bool:
    pairs = zip(found, wanted, strict=True)
    return all(math.isclose(a, b, rel_tol=_TOLERANCE) for a, b in pairs)
