"""A decay rule on any optimizer: on a class, or on an instance that exists.

decayed(torch.optim.NAdam)(params, lr=1e-3, decay="corrected")
attach(optimizer, "corrected")
"""

# mypy: disable-error-code="overload-overlap"

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast, overload

import torch
from torch.optim import Optimizer

from ..bases.native_decay import check_closure
from ..bases.wrappers import unwrapped
from ..rules.contract import DecayRule, RuleName, as_rule
from ..versions import count_steps_for_scheduler, counts_steps_for_scheduler, watch_step
from .decayed import Decayed
from .parts import check_part, holder_of_part

__all__ = ["attach", "decayed"]

OptimizerT = TypeVar("OptimizerT", bound=Optimizer)

if TYPE_CHECKING:
    from .. import optim

    P = ParamSpec("P")

    class DecayedClass(type, Generic[P, OptimizerT]):
        """What a type checker knows of a class made of any other: no signature can be extended.

        Without our keywords the native ones are checked, beside them only ours are.
        """

        @overload
        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> OptimizerT: ...
        @overload
        def __call__(
            self,
            *args: Any,
            decay: DecayRule | RuleName,
            peak_lr: float | None = None,
            **kwargs: Any,
        ) -> OptimizerT: ...
        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


# Of torch's classes ours have the signature: theirs, and `decay` and `peak_lr`.
@overload
def decayed(base: type[torch.optim.AdamW]) -> type[optim.AdamW]: ...
@overload
def decayed(base: type[torch.optim.Adam]) -> type[optim.Adam]: ...
@overload
def decayed(base: type[torch.optim.SGD]) -> type[optim.SGD]: ...
@overload
def decayed(base: type[torch.optim.NAdam]) -> type[optim.NAdam]: ...
@overload
def decayed(base: type[torch.optim.RAdam]) -> type[optim.RAdam]: ...
@overload
def decayed(base: type[torch.optim.Adagrad]) -> type[optim.Adagrad]: ...
@overload
def decayed(base: type[torch.optim.RMSprop]) -> type[optim.RMSprop]: ...
@overload
def decayed(base: type[torch.optim.Adamax]) -> type[optim.Adamax]: ...
@overload
def decayed(base: type[torch.optim.Adadelta]) -> type[optim.Adadelta]: ...
@overload
def decayed(base: type[torch.optim.ASGD]) -> type[optim.ASGD]: ...
@overload
def decayed(base: Callable[P, OptimizerT]) -> DecayedClass[P, OptimizerT]: ...
def decayed(base: Any) -> Any:
    """The class of ``base`` with an explicit decay rule.

    It takes the same arguments, and ``decay`` and ``peak_lr``.
    Without ``decay`` an instance is the native optimizer. The class is made once per base, and
    it and its instances can be pickled.

    Args:
        base: a ``torch.optim.Optimizer`` subclass.

    Raises:
        TypeError: if ``base`` is no optimizer class.

    Example:
        >>> import torch
        >>> RAdam = decayed(torch.optim.RAdam)
        >>> weight = torch.ones(2, requires_grad=True)
        >>> optimizer = RAdam([weight], weight_decay=0.1, decay="corrected")
        >>> optimizer.param_groups[0]["decay"]
        Corrected()
    """
    if not (isinstance(base, type) and issubclass(base, Optimizer)):
        name = getattr(base, "__name__", type(base).__name__)
        raise TypeError(
            f"decayed({name}): must be a class derived from torch.optim.Optimizer; for an "
            "instance use attach(optimizer, rule)."
        )
    return base if issubclass(base, Decayed) else _decayed(base)  # type: ignore[arg-type]


@functools.cache
def _decayed(base: type[Optimizer]) -> type[Decayed]:
    # Pickle finds a class by module and qualified name; __getattr__ below resolves this one.
    key = f"decayed[{base.__module__}:{base.__qualname__}]".replace(".", "/")
    body = {"__module__": __name__, "__qualname__": key, "__doc__": base.__doc__}
    if _begins_with_optimizer(base):
        return type(base.__name__, (Decayed, base), body)
    meta = type("Behind", (type(base),), {"mro": _mixin_first})
    return meta(base.__name__, (base, Decayed), body)


def _begins_with_optimizer(cls: type) -> bool:
    """Whether an instance may become one of ``(Decayed, cls)``.

    Python lets an instance change its class only where both extend memory along the same first
    bases. A package that puts another base, say ``abc.ABC``, before ``Optimizer`` has it first.
    """
    first = cls.__base__
    return first is Optimizer or (first is not None and _begins_with_optimizer(first))


def _mixin_first(cls: type) -> list[type]:
    """The order of ``(Decayed, base)``, for a class made as ``(base, Decayed)``."""
    order = type.mro(cls)
    if cls.__bases__[1:] == (Decayed,):  # subclasses inherit the order by themselves
        order.remove(Decayed)
        order.insert(1, Decayed)
    return order


def __getattr__(name: str) -> Any:
    if name.startswith("decayed[") and name.endswith("]"):
        module, _, path = name[len("decayed[") : -1].replace("/", ".").partition(":")
        base = functools.reduce(getattr, path.split("."), importlib.import_module(module))
        return decayed(cast("type[Optimizer]", base))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def attach(
    optimizer: OptimizerT, rule: DecayRule | RuleName, *, peak_lr: float | None = None
) -> OptimizerT:
    """Give an existing optimizer a decay rule, in place; its state and hooks stay.

    Args:
        optimizer: any ``torch.optim.Optimizer``; its ``weight_decay`` becomes the rule's
            coefficient, in the rule's unit.
        rule: the rule, or its name.
        peak_lr: the schedule's highest lr; a strength needs it under every rule. Default: each
            group's current lr, which is the peak only before a warm-up or decay has changed it.

    Returns:
        The same optimizer.

    Raises:
        ValueError: if a group's values do not fit the rule; nothing has changed then.
        RuntimeError: if something unknown has replaced the optimizer's ``step``.
        TypeError: if the optimizer wraps another one, or Python cannot change its class; nothing
            has changed then.

    Example:
        >>> import torch
        >>> w = torch.ones(1, requires_grad=True)
        >>> optimizer = attach(torch.optim.AdamW([w], lr=0.1, weight_decay=0.5), "independent")
        >>> w.grad = torch.zeros(1)
        >>> optimizer.step()
        >>> w.item()
        0.5
    """
    if unwrapped(optimizer) is not optimizer:  # it may have kept the step without the rule
        raise TypeError(
            f"attach: this {type(optimizer).__name__} wraps another optimizer; attach the rule to "
            "that one, before it is wrapped."
        )
    cls, rule = cast("type[Decayed]", decayed(type(optimizer))), as_rule(rule)
    replaced = vars(optimizer).get("step")
    if replaced is not None and not counts_steps_for_scheduler(replaced):
        raise RuntimeError(
            f"attach: {replaced!r} has replaced step of this {type(optimizer).__name__} and would "
            "go on calling the old one; attach the rule first."
        )
    check_closure(optimizer)
    if (holder := holder_of_part(optimizer)) is not None:
        vars(optimizer)["_part_of"] = holder
    for group in optimizer.param_groups:
        check_part(optimizer, group, rule)
    own = {"decay": rule} if peak_lr is None else {"decay": rule, "peak_lr": peak_lr}
    settings = [
        cls._checked({**group, **own}, f"parameter group {index}")
        for index, group in enumerate(optimizer.param_groups)
    ]
    try:
        optimizer.__class__ = cls
    except TypeError as error:
        raise TypeError(
            f"attach: instances of {type(optimizer).__name__} cannot change their class ({error}); "
            f"build the optimizer with halflife.decayed({type(optimizer).__name__}) instead."
        ) from error
    optimizer.defaults.update({"peak_lr": peak_lr, "decay": rule})
    optimizer.defaults.setdefault("weight_decay", 0.0)
    for group, values in zip(optimizer.param_groups, settings, strict=True):
        group.update(values)
        cast("Decayed", optimizer)._begin(group)
    cast("Decayed", optimizer)._look_again()
    watch_step(optimizer)
    if replaced is not None:
        count_steps_for_scheduler(optimizer)
    return optimizer
