r"""Effective rates of the optimizers whose second moment is not Adam's: a formula each.

With an update written as ``lr * E_t * m_hat``, the effective rate that `Stable` follows is

    e_t = (mean over the whole model of E_t^-2)^(-1/2)

(see `halflife.bases.effective_rate`). An optimizer gives ``E_t^-2``, elementwise, at the step about
to be taken: the second moment advanced by the gradient, with nothing changed. An eps that is added
to a denominator is left out. The definitions are ours, but where the update is Adam's they give the
published rule; the papers define stable decay for SGD, Adam, AMSGrad and Adai only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..checks import Scalar
from ..rules.step import inverse_root
from ..tensors.packs import Row, kind_of, packs_of, runs
from ..tensors.pieces import on_host, pieces
from ..tensors.reduction import WholeModel, is_sharded, real

__all__ = ["MeanRate", "UnitRate", "average", "coming_step", "maximum", "total_of"]

Group: TypeAlias = "dict[str, Any]"
State: TypeAlias = "dict[str, Any]"  # of one parameter; empty before its first step


class MeanRate:
    """The effective rate from ``E_t^-2``, over all parameters with a gradient, of all groups.

    It takes a pass over the second moments.

    Args:
        optimizer: whose state and gradients are read.
        reduction: what one whole model is.
        inverse_square: ``E_t^-2`` of a parameter, from its gradient, state and group.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        reduction: WholeModel | None = None,
        *,
        inverse_square: Callable[[Tensor, State, Group], Tensor],
    ) -> None:
        self._optimizer = optimizer
        self._reduction = reduction or WholeModel()
        self._inverse_square = inverse_square
        self._mean: Scalar | None = None
        self._rate: Scalar | None = None

    def of(self, group: Group) -> Scalar:
        """The rate of this step, the same for every group; computed once per step."""
        if self._rate is None:
            self._rate = inverse_root(self.mean_square(group))
        return self._rate

    def mean_square(self, group: Group) -> Scalar:
        """The mean of ``E_t^-2``, computed once per step; infinite without any gradient."""
        if self._mean is None:
            self._mean = self._compute()
        return self._mean

    def finish(self, taken: bool) -> None:
        """Forget this step's mean: the next step has another gradient."""
        self._mean = self._rate = None

    def _compute(self) -> Scalar:
        known = [
            (p, group)
            for group in self._optimizer.param_groups
            for p in group["params"]
            if p.grad is not None
        ]
        if not known:
            return math.inf
        total = total_of(self._optimizer, self._reduction, known, self._inverse_square)
        mean = total / self._reduction.numel([p for p, _ in known])
        on_host = mean.is_cpu and mean.dim() == 0 and not torch.compiler.is_compiling()
        return mean.item() if on_host else mean


@torch.no_grad()
def total_of(
    optimizer: Optimizer,
    reduction: WholeModel,
    known: list[tuple[Tensor, Group]],
    inverse_square: Callable[[Tensor, State, Group], Tensor],
) -> Tensor:
    """The sum of ``E_t^-2`` over parameters that have a gradient.

    Args:
        optimizer: whose state is read.
        reduction: what one whole model is.
        known: each parameter and its group.
        inverse_square: as `MeanRate` takes it.
    """
    scale = getattr(optimizer, "grad_scale", None)
    # One at a time: the elementwise terms of a whole model need not exist together.
    terms = (
        inverse_square(_descent(grad, scale, group), state, group)
        for grad, state, group in _together(optimizer, reduction, known)
    )
    return torch.as_tensor(reduction.total(reduction.sums(terms)))


def _together(
    optimizer: Optimizer, reduction: WholeModel, known: list[tuple[Tensor, Group]]
) -> Iterator[tuple[Any, State, Group]]:
    """Gradients and states one by one; an accelerator's small ones as one, large ones in pieces."""
    packs = packs_of(optimizer) if type(reduction) is WholeModel else None
    kinds: dict[Any, list[tuple[Row, State, Group]]] = {}
    for p, group in known:
        state, grad = optimizer.state.get(p) or {}, p.grad
        # What is on the host is looked at: together goes where it is the same.
        keys = [k for k, t in state.items() if isinstance(t, Tensor) and (t.dim() or not t.is_cpu)]
        row: Any = [grad, *[state[k] for k in keys]]
        kind = None if packs is None else kind_of(row)
        same = {k: _value(state[k]) for k in state if k not in keys} if kind else {}
        if kind is None or not all(isinstance(v, _VALUES) for v in same.values()):
            whole = packs is None or on_host(row[0]) or is_sharded(row[0])
            for part, *beside in [row] if whole else pieces(*row):
                yield part, {**state, **dict(zip(keys, beside, strict=True))}, group
            continue
        common = kind, id(group), tuple(keys), tuple(same.items())
        kinds.setdefault(common, []).append((row, state, group))
    for ((_, numbers_at), _, keys, _), members in kinds.items():
        rows = [row for row, _, _ in members]
        _, state, group = members[0]
        for run in runs(rows):
            flat, *columns = packs.row(rows[run], numbers_at)  # type: ignore[union-attr]
            yield flat, {**state, **dict(zip(keys, columns, strict=True))}, group


_VALUES = (int, float, str, type(None))  # that can be compared


def _value(held: Any) -> Any:
    return held.item() if isinstance(held, Tensor) else held


class UnitRate:
    """1: the update is ``lr`` times a momentum of the gradients, as Adai's is."""

    spans_model: ClassVar[bool] = False

    def __init__(self, optimizer: Optimizer | None = None, reduction: object = None) -> None:
        """Stateless."""

    def of(self, group: Group) -> Scalar:
        """1, whatever the group."""
        return 1.0

    def finish(self, taken: bool) -> None:
        """Nothing to keep."""


def average(new: Tensor, state: State, key: str, beta: float) -> Tensor:
    """An average that the state holds, or begins at 0, with what the coming step adds to it.

    Example:
        >>> average(torch.tensor([8.0]), {"exp_avg_sq": torch.tensor([4.0])}, "exp_avg_sq", 0.75)
        tensor([5.])
    """
    new = new * (1 - beta)
    return new + real(state[key]) * beta if key in state else new


def maximum(second: Tensor, state: State) -> Tensor:
    """The maximum of all second moments so far, the coming one with them: AMSGrad's.

    Written over the coming one, as torch 2.6 has no other for tensors in tensor parallelism.
    """
    if "max_exp_avg_sq" not in state:
        return second
    return torch.maximum(second, real(state["max_exp_avg_sq"]), out=second)


def coming_step(state: State) -> Any:
    """The count of the step about to be taken, from 1; a tensor in a compiled step.

    Example:
        >>> coming_step({}), coming_step({"step": torch.tensor(2.0)})
        (1.0, 3.0)
    """
    step = state.get("step", 0.0)
    if isinstance(step, Tensor) and step.is_cpu and not torch.compiler.is_compiling():
        step = step.item()
    return step + 1


def _descent(grad: Any, scale: Tensor | None, group: Group) -> Tensor:
    """The gradient to descend along, as real numbers, in float32 at least: its square must fit."""
    grad = real(grad)
    grad = grad.to(torch.promote_types(grad.dtype, torch.float32))
    grad = -grad if group.get("maximize") else grad
    return grad if scale is None else grad / scale
