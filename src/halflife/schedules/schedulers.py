"""Schedulers: write ``base * curve(step)`` into the groups of any torch optimizer.

All follow torch's protocol: building one sets the value of step 0, and ``step()`` is called after
``optimizer.step()``. Values are computed from the step and never from the previous value, so that a
resumed run has bitwise the values of one that never stopped. Tensor-valued entries are written in
place, which keeps compiled and captured optimizers valid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..checks import require_curve, require_nonnegative

__all__ = ["CurveLR", "JointScheduler", "WeightDecayScheduler"]


class CurveLR(LRScheduler):
    """``lr`` driven by a curve: ``lr = initial_lr * curve(step)`` in every group.

    A torch ``LRScheduler`` equal to ``LambdaLR(optimizer, curve)`` with these differences: the
    curve is checked, groups may be added later (their lr at that time is their base), and
    ``state_dict()`` holds plain data only. Works in ``SequentialLR``. Not meant for
    ``ChainedScheduler``: like ``LambdaLR`` it sets the lr, where the others multiply it.

    Args:
        optimizer: Any torch optimizer.
        curve: Multiplier of each group's ``initial_lr``, a function of the steps done.
        last_epoch: As in torch: -1, or the last step when resuming without a state dict.

    Raises:
        TypeError: If `optimizer` is not an ``Optimizer`` or `curve` is not callable.
        ValueError: If the curve returns a negative number, NaN or infinity.

    Example:
        >>> import torch
        >>> from halflife.schedules import linear
        >>> optimizer = torch.optim.AdamW([torch.zeros(2, requires_grad=True)], lr=0.5)
        >>> scheduler = CurveLR(optimizer, linear(4))
        >>> optimizer.step(); scheduler.step()
        >>> optimizer.param_groups[0]["lr"]
        0.375
    """

    def __init__(
        self, optimizer: Optimizer, curve: Callable[[int], float], last_epoch: int = -1
    ) -> None:
        require_curve("CurveLR: curve", curve)
        _multiplier("CurveLR", curve, last_epoch + 1)  # torch changes the groups before it asks
        self.curve = curve
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """``initial_lr * curve(last_epoch)`` for each group."""
        multiplier = _multiplier("CurveLR", self.curve, self.last_epoch)
        groups = self.optimizer.param_groups
        for group in groups[len(self.base_lrs) :]:
            base = _base_of_new_group(group, "lr", groups, self.base_lrs)
            group.setdefault("initial_lr", base)
            # A new list: state dicts made earlier hold the old one.
            self.base_lrs = [*self.base_lrs, group["initial_lr"]]
        return [base * multiplier for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """The state as plain data; the curve belongs to the code that builds it."""
        return {key: value for key, value in super().state_dict().items() if key != "curve"}


class WeightDecayScheduler:
    """``weight_decay`` driven by a curve: ``weight_decay = base * curve(step)`` in every group.

    The base of a group is its ``weight_decay`` when this object is built, or when it is first seen
    if the group is added later; a group with 0 stays at 0. The bases are kept here and in
    ``state_dict()``, not in the groups, and the lr is never read or written: any lr scheduler can
    drive the same optimizer. Call ``step()`` after ``optimizer.step()``, in any order with the lr
    scheduler.

    Args:
        optimizer: Any torch optimizer whose groups have a ``weight_decay``.
        curve: Multiplier of each group's base, a function of the steps done.

    Raises:
        TypeError: If `optimizer` is not an ``Optimizer`` or `curve` is not callable.
        ValueError: If a group has no valid ``weight_decay``, or the curve returns a negative
            number, NaN or infinity.

    Example:
        >>> import torch
        >>> from halflife.schedules import exponential
        >>> weights = [torch.zeros(2, requires_grad=True)]
        >>> optimizer = torch.optim.SGD(weights, lr=0.5, weight_decay=0.5)
        >>> scheduler = WeightDecayScheduler(optimizer, exponential(0.5))
        >>> optimizer.step(); scheduler.step()
        >>> optimizer.param_groups[0]["weight_decay"], optimizer.param_groups[0]["lr"]
        (0.25, 0.5)
    """

    def __init__(self, optimizer: Optimizer, curve: Callable[[int], float]) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"WeightDecayScheduler: optimizer must be a torch Optimizer, got {optimizer!r}; "
                "pass the optimizer itself."
            )
        require_curve("WeightDecayScheduler: curve", curve)
        self.optimizer = optimizer
        self.curve = curve
        self.base_values: list[float] = []
        self.move_to(0)

    def step(self) -> None:
        """Set the weight decay of the next step."""
        self.move_to(self.last_step + 1)

    def move_to(self, step: int) -> None:
        """Set the weight decay that belongs to `step`.

        Raises:
            ValueError: If a new group has no valid ``weight_decay``, or the curve returns a
                negative number, NaN or infinity. No group has been changed then.
        """
        multiplier = _multiplier("WeightDecayScheduler", self.curve, step)
        self.base_values = self._bases()
        self.last_step = step
        for group, value in zip(self.optimizer.param_groups, self._values(multiplier), strict=True):
            if isinstance(group["weight_decay"], Tensor):
                group["weight_decay"].fill_(value)
            else:
                group["weight_decay"] = value

    def get_last_value(self) -> list[float]:
        """The weight decay last set, for each group known then."""
        return self._values(self.curve(self.last_step))

    def state_dict(self) -> dict[str, Any]:
        """The step and the base of each group; the curve belongs to the code."""
        return {"last_step": self.last_step, "base_values": list(self.base_values)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a saved state and set the weight decay that belongs to it.

        The order relative to ``optimizer.load_state_dict`` does not matter.

        Args:
            state_dict: What `state_dict` returned.

        Raises:
            ValueError: If an entry is missing or there are more groups in it than in the optimizer.
        """
        missing = sorted({"last_step", "base_values"} - set(state_dict))
        if missing:
            raise ValueError(
                f"WeightDecayScheduler: state_dict must have 'last_step' and 'base_values', got "
                f"{sorted(state_dict)}; pass what WeightDecayScheduler.state_dict() returned."
            )
        saved, groups = list(state_dict["base_values"]), self.optimizer.param_groups
        if len(saved) > len(groups):
            raise ValueError(
                f"WeightDecayScheduler: state_dict must have at most {len(groups)} base_values, "
                f"one for each group, got {len(saved)}; add the missing groups first."
            )
        self.base_values = saved + self._bases()[len(saved) :]
        self.move_to(state_dict["last_step"])

    def _values(self, multiplier: float) -> list[float]:
        return [base * multiplier for base in self.base_values]

    def _bases(self) -> list[float]:
        groups, bases = self.optimizer.param_groups, list(self.base_values)
        for index, group in enumerate(groups[len(bases) :], start=len(bases)):
            what = f"WeightDecayScheduler: weight_decay of group {index}"
            base = _base_of_new_group(group, "weight_decay", groups, bases)
            if isinstance(base, Tensor) and base.numel() == 1:
                base = base.item()
            require_nonnegative(what, base, "use an optimizer that has a weight_decay")
            bases.append(base)
        return bases


class JointScheduler(CurveLR):
    """``lr`` and ``weight_decay`` of every group, each driven by its own curve, in step.

    Warm restarts with normalized decay are one object: the lr follows eta_t and the weight decay is
    that of the current cycle.

    Args:
        optimizer: Any torch optimizer whose groups have a ``weight_decay``.
        lr: Multiplier of each group's ``initial_lr``.
        weight_decay: Multiplier of each group's weight decay.

    Raises:
        TypeError: If `optimizer` is not an ``Optimizer`` or a curve is not callable.
        ValueError: If a group has no valid ``weight_decay``, or a curve returns a negative number,
            NaN or infinity.

    Example:
        >>> import torch
        >>> from halflife.schedules import cosine_warm_restarts, normalized_decay
        >>> weights = [torch.zeros(2, requires_grad=True)]
        >>> optimizer = torch.optim.AdamW(weights, lr=0.5, weight_decay=0.1)
        >>> restarts = cosine_warm_restarts(2, 2, steps_per_epoch=2)
        >>> scheduler = JointScheduler(
        ...     optimizer, lr=restarts, weight_decay=normalized_decay(restarts)
        ... )
        >>> optimizer.step(); scheduler.step()
        >>> optimizer.step(); scheduler.step()
        >>> optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["weight_decay"]
        (0.25, 0.05)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        lr: Callable[[int], float],
        weight_decay: Callable[[int], float],
    ) -> None:
        require_curve("JointScheduler: lr", lr)
        require_curve("JointScheduler: weight_decay", weight_decay)
        _multiplier("JointScheduler", lr, 0)
        self.weight_decay = WeightDecayScheduler(optimizer, weight_decay)
        super().__init__(optimizer, lr)

    def step(self, epoch: int | None = None) -> None:
        """Set lr and weight decay of the next step; `epoch` is as in torch."""
        super().step(epoch)
        self.weight_decay.move_to(self.last_epoch)

    def state_dict(self) -> dict[str, Any]:
        """The state of both as plain data."""
        return {**super().state_dict(), "weight_decay": self.weight_decay.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a saved state of both."""
        own = dict(state_dict)
        self.weight_decay.load_state_dict(own.pop("weight_decay", {}))
        super().load_state_dict(own)


def _multiplier(what: str, curve: Callable[[int], float], step: int) -> float:
    value = curve(step)
    require_nonnegative(f"{what}: curve({step})", value, "correct the function given as the curve")
    return value


def _base_of_new_group(
    group: dict[str, Any], key: str, groups: list[dict[str, Any]], bases: Sequence[Any]
) -> Any:
    """The base of a group that is not among the first ``len(bases)``.

    Groups that took the optimizer's default share one tensor. Once a scheduler has written to it,
    its value is no longer the base, which the groups that were there before still know.
    """
    value = group.get(key)
    if not isinstance(value, Tensor):
        return value
    for other, base in zip(groups, bases, strict=False):
        if other.get(key) is value:
            return base
    return value.clone()
