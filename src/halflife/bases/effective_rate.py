r"""Effective rate: the size of the base optimizer's own step, for rules that follow it.

Write a base optimizer's update as ``lr * E_t * m`` with ``m`` a momentum of the gradients and
``E_t`` elementwise. The effective rate is the one scalar

    e_t = (mean over the whole model of E_t^-2)^(-1/2)

which is ``1/sqrt(mean v_hat)`` for Adam, and ``(1 - dampening)/(1 - momentum)`` for SGD, whose
``E_t`` is a hyper-parameter and taken per group.

The mean of Adam's second moment is linear in the squared gradient. So it needs no pass over the
second moments, only one number per tensor, ``S_t = beta2 S_{t-1} + (1 - beta2) ||g_t||^2``; and
nothing but scalar work where gradient clipping has just computed ``||g_t||^2``.
"""

from __future__ import annotations

import functools
import math
import operator
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from ..checks import Scalar
from ..rules import facts
from ..rules.step import inverse_root
from ..tensors.reduction import Terms, WholeModel, like, plus, shards
from ..versions import ADAMS, times_written
from .mean_rate import average, coming_step, maximum, total_of

__all__ = [
    "AdamRate",
    "EffectiveRate",
    "SGDRate",
    "effective_rate_of",
]

# Key in the optimizer's per-parameter state: the sum of that parameter's exp_avg_sq.
SUM_KEY = "exp_avg_sq_sum"


class EffectiveRate(Protocol):
    """What an optimizer class declares to give its steps an effective rate.

    `of` is asked before the native step and may compute; `finish` is called after every step. One
    that is the inverse root of a mean may give that too, as `mean_square`, where the rate of a
    mean of 0 is 0. One that is a number of the settings, whatever the model, says so by
    ``spans_model = False``.
    """

    def of(self, group: dict[str, Any]) -> Scalar:
        """Effective rate of a group at the step about to be taken."""

    def finish(self, taken: bool) -> None:
        """Keep what this step's gradients added, if the native step was taken."""


class SGDRate:
    """``(1 - dampening) / (1 - momentum)`` of each group; 1 without momentum.

    Example:
        >>> SGDRate().of({"momentum": 0.9, "dampening": 0.5})
        5.000000000000001
    """

    spans_model: ClassVar[bool] = False

    def __init__(self, optimizer: Optimizer | None = None, reduction: object = None) -> None:
        """Stateless: everything it needs is in the group."""

    def of(self, group: dict[str, Any]) -> Scalar:
        """Effective rate of a group; torch ignores the dampening when there is no momentum."""
        momentum = group["momentum"]
        return (1.0 - group["dampening"]) / (1.0 - momentum) if momentum else 1.0

    def finish(self, taken: bool) -> None:
        """Nothing to keep."""


class AdamRate:
    """``1/sqrt(mean v_hat)`` over all parameters with a gradient, of all groups.

    The bias correction is each parameter's own. With ``amsgrad`` the mean is over the maximum of
    the second moments, which is not linear in the gradient and takes a pass over them.

    Args:
        optimizer: an Adam or AdamW whose state and gradients are read.
        reduction: what one whole model is.
    """

    def __init__(self, optimizer: Optimizer, reduction: WholeModel | None = None) -> None:
        self._optimizer = optimizer
        self._reduction = reduction or WholeModel()
        self._sums: dict[int, _GroupSums] = {}
        self._advanced: list[_GroupSums] = []  # those that the step about to be taken moves on
        self._mean: Scalar | None = None
        self._rate: Scalar | None = None
        self.handed: dict[int, HandedSquares] = {}  # by group: what clipping has computed

    def of(self, group: dict[str, Any]) -> Scalar:
        """The rate of this step, the same for every group; computed once per step."""
        if self._rate is None:
            self._rate = inverse_root(self.mean_square(group))
        return self._rate

    def mean_square(self, group: dict[str, Any]) -> Scalar:
        """The mean of v_hat, computed once per step; infinite without any gradient."""
        if self._mean is None:
            self._mean = self._compute()
        return self._mean

    def finish(self, taken: bool) -> None:
        """Advance the sums; where a gradient scaler had the step skipped, keep the old ones."""
        state = self._optimizer.state
        if taken and self._mean is None and self._sums:
            # No group asked this time, so the sums miss a step and must not be used again.
            self._sums.clear()
            for entries in state.values():
                entries.pop(SUM_KEY, None)
        elif taken and self._mean is not None:
            skipped = getattr(self._optimizer, "found_inf", None)
            for sums in self._advanced:
                sums.commit(state, skipped)
        self._mean = self._rate = None
        self._advanced = []

    def _compute(self) -> Scalar:
        totals: list[Any] = []
        count = 0
        groups = self._optimizer.param_groups
        present: dict[int, list[Tensor]] = {}
        for index, group in enumerate(groups):
            if params := [p for p in group["params"] if p.grad is not None]:
                present[index] = params
        greatest = [(p, groups[i]) for i, ps in present.items() if _amsgrad(groups[i]) for p in ps]
        linear = {i: ps for i, ps in present.items() if not _amsgrad(groups[i])}
        squares = self._squares(linear)
        for index, params in linear.items():
            sums = self._sums_of(index, params)
            terms = sums.advance(squares[index], _number(groups[index]["betas"][1]))
            totals.append(self._reduction.total(terms))
            self._advanced.append(sums)
            count += sums.numel
        if greatest:
            totals.append(total_of(self._optimizer, self._reduction, greatest, _greatest))
            count += self._reduction.numel([p for p, _ in greatest])
        return functools.reduce(plus, totals) / count if count else math.inf

    def _sums_of(self, index: int, params: list[Tensor]) -> _GroupSums:
        sums = self._sums.get(index)
        if sums is None or not sums.belong_to(params):  # others have gradients than last time
            sums = self._sums[index] = _GroupSums(params, self._optimizer.state, self._reduction)
        return sums

    def _squares(self, present: dict[int, list[Tensor]]) -> dict[int, Terms]:
        """Squared norms of each group's unscaled gradients: handed over, or computed at once."""
        grads: dict[int, list[Any]] = {i: [p.grad for p in ps] for i, ps in present.items()}
        squares = {
            index: handed.squares
            for index, handed in self.handed.items()
            if index in grads and handed.still_describes(grads[index])
        }
        missing = [index for index in grads if index not in squares]
        if missing:
            computed = self._reduction.squares_of([grads[index] for index in missing])
            squares.update(zip(missing, computed, strict=True))
        scale = getattr(self._optimizer, "grad_scale", None)
        if scale is None:
            return squares
        return {index: terms / like(terms, scale) ** 2 for index, terms in squares.items()}


def _greatest(grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    """v_hat of AMSGrad."""
    beta2 = _number(group["betas"][1])
    second = maximum(average(grad.square(), state, "exp_avg_sq", beta2), state)
    return second / (1.0 - beta2 ** coming_step(state))


class _GroupSums:
    """The sums S of one group's parameters, stacked: shape ``[parameters]`` (plus members).

    The optimizer's state holds views of the stack, so that checkpoints see the current values and
    a step costs a few operations on one small vector.
    """

    def __init__(self, params: list[Tensor], state: Any, reduction: WholeModel) -> None:
        self.numel = reduction.numel(params)
        self._params = params
        self._in_state = False
        known = [state.get(p) or {} for p in params]
        if all(SUM_KEY in s for s in known):
            self._stack = torch.stack([s[SUM_KEY].to(params[0].device) for s in known])
        else:  # a new state, or that of a torch checkpoint
            moments = [
                s["exp_avg_sq"] if s else torch.zeros_like(p)
                for s, p in zip(known, params, strict=True)
            ]
            self._stack = reduction.sums(moments)
            for i, s in enumerate(known):
                if SUM_KEY in s:
                    self._stack[i] = s[SUM_KEY]
        steps = _steps_like(self._stack, known)
        self._compiled = torch.compiler.is_compiling()  # a graph holds tensors only
        on_host = self._stack.is_cpu and not self._compiled
        self._sums: Terms = self._stack.numpy() if on_host else self._stack
        # On the host one number stands for all where, as usual, all have taken the same steps.
        uniform = on_host and bool((steps == steps[0]).all())
        self._steps: Any = float(steps.flatten()[0]) if uniform else like(self._sums, steps)
        self._next = self._sums

    def belong_to(self, params: list[Tensor]) -> bool:
        """Whether these are the sums of just these parameters, kept as this step needs them."""
        same = len(params) == len(self._params) and all(map(operator.is_, params, self._params))
        return same and self._compiled == torch.compiler.is_compiling()

    def advance(self, squares: Terms, beta2: float) -> Terms:
        """Bias-corrected sums of v_hat at the coming step; nothing is kept before `commit`."""
        squares = like(self._sums, squares)
        self._next = self._sums * beta2 + squares * (1.0 - beta2)
        return self._next / (1.0 - beta2 ** (self._steps + 1.0))

    def commit(self, state: Any, skipped: Tensor | None) -> None:
        """Keep the advanced sums, unless the step was skipped."""
        next_sums: Any = self._next
        taken: Any = 1.0
        if skipped is not None:
            taken = (like(self._sums, skipped) == 0) * 1.0
            # The gradients of a skipped step are not finite, so no product with 0 would do.
            choose: Any = torch.where if isinstance(taken, Tensor) else np.where
            next_sums = choose(taken > 0, next_sums, self._sums)
        self._sums[...] = next_sums
        self._steps += taken
        if not self._in_state:  # only now, when the native step has made its state
            for p, view in zip(self._params, self._stack.unbind(0), strict=True):
                state[p][SUM_KEY] = view
            self._in_state = True


class HandedSquares:
    """Squared gradient norms that clipping computed, with what proves that they still hold."""

    def __init__(self, grads: list[Tensor], squares: Terms) -> None:
        self._grads = grads
        self._versions = _versions(grads)
        self.squares = squares

    def still_describes(self, grads: list[Tensor]) -> bool:
        """Whether these are the same gradients, unwritten since."""
        return (
            len(grads) == len(self._grads)
            and all(map(operator.is_, grads, self._grads))
            and _versions(grads) == self._versions
        )


def _versions(tensors: list[Tensor]) -> list[int]:
    """How often each was written to; a shard may be written to by itself."""
    return [times_written(t) for t in (*tensors, *shards(tensors))]


def effective_rate_of(
    optimizer: Optimizer, reduction: WholeModel | None = None
) -> EffectiveRate | None:
    """The effective rate that the optimizer's class declares, or None.

    Example:
        >>> adamw = torch.optim.AdamW([torch.zeros(2, requires_grad=True)])
        >>> type(effective_rate_of(adamw)).__name__
        'AdamRate'
    """
    make = facts.fact("effective_rate", type(optimizer))
    return None if make is None else make(optimizer, reduction)


def _amsgrad(group: dict[str, Any]) -> bool:
    return bool(group.get("amsgrad"))


def _number(value: Scalar) -> float:
    return value.item() if isinstance(value, Tensor) else value


def _steps_like(terms: Tensor, states: list[dict[str, Any]]) -> Tensor:
    """Steps that each parameter has taken, shaped to broadcast with the terms."""
    steps = [state["step"] if state else 0.0 for state in states]
    on_host = all(not isinstance(s, Tensor) or s.device.type == "cpu" for s in steps)
    if on_host and not torch.compiler.is_compiling():  # a compiled number would be a constant
        column = torch.tensor([float(s) for s in steps], dtype=terms.dtype)
        column = column.to(terms.device, non_blocking=True)
    else:
        column = torch.stack([torch.as_tensor(s, device=terms.device) for s in steps]).to(terms)
    return column.view(-1, *[1] * (terms.dim() - 1))


facts.declare(SGD, effective_rate=SGDRate)
for _adam in ADAMS:
    facts.declare(_adam, effective_rate=AdamRate)
