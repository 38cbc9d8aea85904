r"""What ``weight_decay`` natively does in an optimizer, found by running it on a few numbers.

The same word stands for at least five updates. With ``u`` the step without decay, per unit of lr:

    l2               g + weight_decay w instead of the gradient g
    decoupled        w <- (1 - d) w - lr u      d = lr weight_decay
    decoupled_after  w <- (1 - d)(w - lr u)     d = lr weight_decay
    independent      w <- (1 - d) w - lr u      d = (lr / p) weight_decay, p an lr it remembers
    constant         w <- (1 - d) w - lr u      d = weight_decay

`halflife.bases.judging` tells which one it is. Two steps with two learning rates tell how the
fraction follows the lr, and whether the decay enters the optimizer's state (as L2 does).
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import re
import weakref
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, TypeVar, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..checks import in_short, is_number, known_number, numbers_of
from ..versions import STEP_TAKEN
from .bench import (
    Bench,
    Make,
    arguments,
    asks_for_closure,
    build_optimizer,
    copied,
    parameters,
    unnoticed,
)
from .judging import TOLERANCE, NativeDecay, distance, judge_first_acting

__all__ = [
    "SWITCH",
    "Way",
    "check_base",
    "check_closure",
    "group_decay",
    "native_decay",
    "native_kind",
    "scales_with_lr",
]

Way: TypeAlias = Literal["switch", "decoupled", "l2", "none"]

SWITCH = "decoupled_weight_decay"
_LR = 0.125


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
        >>> for base in (torch.optim.NAdam, torch.optim.SGD, torch.optim.Rprop):
        ...     optimizer = base([w])
        ...     native_kind(optimizer, optimizer.param_groups[0])
        'switch'
        'l2'
        'none'
    """
    if SWITCH in group:
        both = [group_decay(optimizer, {**group, SWITCH: on}) for on in (True, False)]
        if [each.kind for each in both] == ["decoupled", "l2"] and not any(e.idle for e in both):
            return "switch"
    found = group_decay(optimizer, group)
    # One that idles would leave out the decay of those steps, which a rule has.
    return found.kind if found.kind in {"decoupled", "l2"} and not found.idle else "none"


def check_base(cls: type[Optimizer]) -> None:
    """Refuse an optimizer class that no rule can be put on.

    Raises:
        ValueError: if its parameters are not the weights that it trains, or if its native decay
            cannot be turned off.
    """
    cls = _native_class(cls)
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


def check_closure(optimizer: Optimizer) -> None:
    """Refuse an optimizer that evaluates its closure by itself; found by running a copy.

    A rule acts between the gradient and the step. Such an optimizer (LBFGS, SAM) computes gradients
    within its step, at other weights, where no rule can.

    Raises:
        ValueError: if it cannot step without a closure, or refuses to.
    """
    cls = type(optimizer)
    if cls not in _CLOSURES and (found := _steps_without_closure(optimizer)) is not None:
        _CLOSURES[cls] = not found
    if _CLOSURES.get(cls):
        raise ValueError(
            f"{cls.__name__}: computes gradients by calling the closure within its step, where no "
            "rule can act on the weights; leave decay out (it is the native optimizer then), and "
            "add the L2 term to the loss that the closure returns."
        )


_CLOSURES: weakref.WeakKeyDictionary[type[Optimizer], bool] = weakref.WeakKeyDictionary()


@unnoticed()
def _steps_without_closure(optimizer: Optimizer) -> bool | None:
    """Whether it does; None if it could be stepped neither without nor with one."""
    if asks_for_closure(cast("Any", _native_class(type(optimizer)))):
        return False
    make = functools.partial(copied, optimizer, optimizer.param_groups[0])

    def take(closure: Callable[[], float] | None, bench: Bench) -> None:
        params = bench.parameters()
        for p in params:
            p.grad = torch.ones_like(p)
        make(params).step(closure)

    for closure in (None, lambda: 0.0):
        with contextlib.suppress(_NotRun):
            _tried(functools.partial(take, closure), make, _LR)
            return closure is None
    return None


def scales_with_lr(cls: type[Optimizer]) -> bool:
    """Whether an update at c times the lr is c times the update; found by running two steps.

    Where it is not, no rule can scale a step. ASGD's lr acts one step later, Rprop's only on the
    first, and a buffer that holds the lr (`HeavyBall`) adds steps at other lrs. A class that
    cannot be run is trusted.

    Example:
        >>> scales_with_lr(torch.optim.Adam), scales_with_lr(torch.optim.ASGD)
        (True, False)
    """
    try:
        return _scales(cast("Any", cls))
    except _NotRun:
        return True


# --- what is asked ------------------------------------------------------------------------------
#
# What could not be run is raised, so that no cache takes a failure for an answer.


class _NotRun(Exception):
    """No small tensor could be stepped."""


@functools.cache
@unnoticed()
def _scales(cls: type[Optimizer]) -> bool:
    def double(bench: Bench) -> bool:
        updates = []
        for second in (1.0, 0.5):
            bench.lrs = (1.0, second)
            _, before, after = bench.run(True)
            updates.append(after - before)
        size = float(updates[0].abs().max())
        return distance([2.0 * updates[1]], [updates[0]]) <= TOLERANCE * size

    # A large lr, so that bounds on it (Adafactor's 1 / sqrt(t)) are felt.
    return _tried(double, functools.partial(build_optimizer, _native_class(cls)), 1.0)


def _of_class(cls: type[Optimizer]) -> NativeDecay:
    if _averages(cls):
        return NativeDecay("averaged", "train() and eval() exchange the parameters")
    names = arguments(cls)
    if missing := [n for n, p in names.items() if p.default is p.empty and n != "lr"]:
        return NativeDecay("unknown", f"it needs {', '.join(missing)}; pass an instance")
    try:
        return _judged_class(cast("Any", cls))
    except _NotRun as error:
        return NativeDecay("unknown", str(error))


@functools.cache
def _judged_class(cls: type[Optimizer]) -> NativeDecay:
    return _judged(functools.partial(build_optimizer, _native_class(cls)), _LR)


def group_decay(optimizer: Optimizer, group: dict[str, Any]) -> NativeDecay:
    """`native_decay` of an optimizer with the settings of one of its groups."""
    if _averages(type(optimizer)):
        return NativeDecay("averaged", "train() and eval() exchange the parameters")
    known = (type(optimizer), _settings(vars(optimizer)), _settings(group, cls=type(optimizer)))
    if known not in _INSTANCES:
        try:
            found = _judged(functools.partial(copied, optimizer, group), _lr_of(group))
        except _NotRun as error:
            return NativeDecay("unknown", str(error))
        if len(_INSTANCES) >= _REMEMBERED:
            _INSTANCES.pop(next(iter(_INSTANCES)))
        _INSTANCES[known] = found
    return _INSTANCES[known]


_INSTANCES: dict[Any, NativeDecay] = {}
_REMEMBERED = 512  # the oldest goes first


def _settings(
    values: dict[str, Any], cls: type[Optimizer] | None = None
) -> frozenset[tuple[str, Any]]:
    """What of an optimizer's attributes, or of a group of a class, may decide what its decay is."""
    # A setting of our rules is none of the native step: with another lr nothing is run anew.
    ours = getattr(cls, "own", ()) if hasattr(cls, "default_rule") else ()
    return frozenset(
        (k, s) for k, v in values.items() if k not in ours and (s := _setting(k, v)) is not None
    )


def _setting(name: str, value: Any) -> Any:
    # Flags decide, and an lr that is remembered; of the numbers, which schedules may write at every
    # step (OneCycleLR moves the momentum), only whether they are 0.
    if name in ("lr", "weight_decay", STEP_TAKEN):
        return None
    if isinstance(value, (bool, str)) or value is None:
        return repr(value)
    if is_number(value):
        return float(value) if re.search(r"(max|peak|base|initial)_?lr", name) else value != 0
    numbers = None if isinstance(value, Tensor) else numbers_of(value)
    if numbers is None or any(isinstance(v, Tensor) for v in numbers):
        return None
    return tuple(v != 0 for v in numbers)


def _native_class(cls: type[Optimizer]) -> type[Optimizer]:
    """The native class behind one of ours, whose constructor would ask the same again."""
    native = (c for c in cls.__mro__ if issubclass(c, Optimizer) and not hasattr(c, "default_rule"))
    return next(native)


def _averages(cls: type[Optimizer]) -> bool:
    return all(callable(getattr(cls, name, None)) for name in ("train", "eval"))


def _keeps_decay_outside(cls: type[Optimizer]) -> bool:
    if "weight_decay" not in arguments(cls):
        return False
    try:
        return "weight_decay" not in _group_of(cast("Any", cls))
    except Exception:
        return False


@functools.cache
@unnoticed()
def _group_of(cls: type[Optimizer]) -> dict[str, Any]:
    return build_optimizer(cls, parameters(1.0, 1, torch.float64), _LR, 0.25).param_groups[0]


def _lr_of(group: dict[str, Any]) -> float:
    given = group.get("lr")
    if isinstance(given, Tensor) and given.device.type not in ("cpu", "meta"):
        given = given.item()
    lr = known_number(given) or 0.0
    return lr if 0.0 < lr < math.inf else _LR


# --- how it is judged ---------------------------------------------------------------------------


T = TypeVar("T")


def _tried(function: Callable[[Bench], T], make: Make, lr: float) -> T:
    """What a function finds on a matrix and a vector, or on what of it the optimizer takes."""
    reason = ""
    for dtype, tensors in itertools.product((torch.float64, torch.float32), (2, 1)):
        try:
            return function(Bench(make, lr, tensors, dtype))
        except Exception as error:
            reason = reason or (
                f"a copy of it could not take a step on a few numbers ({in_short(error)})"
            )
    raise _NotRun(reason)


@unnoticed()
def _judged(make: Make, lr: float) -> NativeDecay:
    def look(bench: Bench) -> NativeDecay:
        optimizer = make(bench.parameters(), lr, bench.weight_decay)
        if any("weight_decay" not in group for group in optimizer.param_groups):
            return NativeDecay("absent", "its parameter groups have no weight_decay")
        return judge_first_acting(bench)

    return _tried(look, make, lr)
