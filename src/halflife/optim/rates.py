r"""Effective rates of the optimizers whose second moment is not Adam's: a formula each.

With an update written as ``lr * E_t * m_hat``, the effective rate that `Stable` follows is

    e_t = (mean over the whole model of E_t^-2)^(-1/2)

(see `halflife.effective_rate`). Each function here is ``E_t^-2``, elementwise, at the step about to
be taken: it advances the second moment by the gradient, and changes nothing. An eps that is added
to a denominator is left out. The definitions are ours, but where the update is Adam's they give the
published rule; the papers define stable decay for SGD, Adam, AMSGrad and Adai only.

None is declared for Lion and Muon, whose steps have one size whatever the gradients are, nor for
ASGD, whose steps have that of the step before: `Stable` refuses them, use `Decoupled`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.optim import Adadelta, Adagrad, Adamax, NAdam, Optimizer, RAdam, RMSprop

from ..effective_rate import AdamRate, inverse_root
from ..facts import declare
from ..reduction import WholeModel, real
from ..step import Scalar
from . import native
from .native.adabound import bounds

__all__ = [
    "MeanRate",
    "UnitRate",
    "adabound",
    "adadelta",
    "adagrad",
    "adamax",
    "padam",
    "radam",
    "rmsprop",
    "yogi",
]

Group: TypeAlias = "dict[str, Any]"
State: TypeAlias = "dict[str, Any]"  # of one parameter; empty before its first step


class MeanRate:
    """The effective rate from ``E_t^-2``, over all parameters with a gradient, of all groups.

    It takes a pass over the second moments; ``last`` is the rate of the last step taken.

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
        self._value: Scalar | None = None
        self.last: Scalar | None = None

    def of(self, group: Group) -> Scalar:
        """The rate of this step, the same for every group; computed once per step."""
        if self._value is None:
            self._value = self._compute()
        return self._value

    def finish(self, taken: bool) -> None:
        """Forget this step's rate: the next step has another gradient."""
        if taken and self._value is not None:
            self.last = self._value
        self._value = None

    @torch.no_grad()
    def _compute(self) -> Scalar:
        scale = getattr(self._optimizer, "grad_scale", None)
        known = [
            (p, self._optimizer.state.get(p) or {}, group)
            for group in self._optimizer.param_groups
            for p in group["params"]
            if p.grad is not None
        ]
        if not known:
            return 0.0
        # One at a time: the elementwise terms of a whole model need not exist together.
        terms = (
            self._inverse_square(_wide(p.grad, scale), state, group) for p, state, group in known
        )
        total = self._reduction.total(self._reduction.sums(terms))
        mean = total / self._reduction.numel([p for p, _, _ in known])
        on_host = mean.is_cpu and mean.dim() == 0 and not torch.compiler.is_compiling()
        return inverse_root(mean.item() if on_host else mean)


class UnitRate:
    """1: the update is ``lr`` times a momentum of the gradients, as Adai's is."""

    last: Scalar | None = 1.0

    def __init__(self, optimizer: Optimizer | None = None, reduction: object = None) -> None:
        """Stateless."""

    def of(self, group: Group) -> Scalar:
        """1, whatever the group."""
        return 1.0

    def finish(self, taken: bool) -> None:
        """Nothing to keep."""


def yogi(grad: Tensor, state: State, group: Group) -> Tensor:
    """``v_hat``, by Yogi's recurrence."""
    beta2, square = group["betas"][1], grad.square()
    before = real(state["exp_avg_sq"]) if "exp_avg_sq" in state else group["initial_accumulator"]
    second = before - (1 - beta2) * (before - square).sign() * square
    return second / (1 - beta2 ** _coming_step(state))


def padam(grad: Tensor, state: State, group: Group) -> Tensor:
    """``v^(2 partial) / (1 - beta2^t)``: the code corrects the bias of ``sqrt(v)`` at any power."""
    beta2 = group["betas"][1]
    second = _average(grad.square(), state, "exp_avg_sq", beta2)
    if group["amsgrad"]:
        second = _maximum(second, state)
    return second.pow(2 * group["partial"]) / (1 - beta2 ** _coming_step(state))


def adabound(grad: Tensor, state: State, group: Group) -> Tensor:
    """``(lr / ((1 - beta1^t) rate))^2``, ``rate`` the clipped lr: Adam's where it is not."""
    (beta1, beta2), t = group["betas"], _coming_step(state)
    second = _average(grad.square(), state, "exp_avg_sq", beta2)
    if group["amsbound"]:
        second = _maximum(second, state)
    # The band is proportional to the lr, which thus cancels; so the rate is defined at lr = 0 too.
    low, high = bounds({**group, "lr": 1.0}, t)
    correction1, correction2 = 1 - beta1**t, 1 - beta2**t
    rate = (second.rsqrt() * (correction2**0.5 / correction1)).clamp(low, high)
    return (rate * correction1).pow(-2)


def radam(grad: Tensor, state: State, group: Group) -> Tensor:
    """``v_hat / r_t^2`` with RAdam's rectification ``r_t``; 1 before torch rectifies."""
    beta2, t = group["betas"][1], _coming_step(state)
    final = 2 / (1 - beta2) - 1
    length = final - 2 * t * beta2**t / (1 - beta2**t)
    rectification = (length - 4) * (length - 2) * final / ((final - 4) * (final - 2) * length)
    second = _average(grad.square(), state, "exp_avg_sq", beta2) / (1 - beta2**t)
    if isinstance(length, Tensor):
        return torch.where(length > 5, second / rectification, 1.0)
    return second / rectification if length > 5 else torch.ones_like(second)


def rmsprop(grad: Tensor, state: State, group: Group) -> Tensor:
    """``v (1 - momentum)^2``, without bias correction; ``v`` is the variance if centered."""
    alpha = group["alpha"]
    second = _average(grad.square(), state, "square_avg", alpha)
    if group["centered"]:
        second = second - _average(grad, state, "grad_avg", alpha).square()
    return second * (1 - group["momentum"]) ** 2  # its momentum is a sum, as SGD's is


def adagrad(grad: Tensor, state: State, group: Group) -> Tensor:
    """The sum of squares, times the square of what ``lr_decay`` divides the lr by."""
    divisor = 1 + (_coming_step(state) - 1) * group["lr_decay"]
    return (real(state["sum"]) + grad.square()) * divisor**2


def adamax(grad: Tensor, state: State, group: Group) -> Tensor:
    """The square of the decaying maximum."""
    largest = grad.abs() + group["eps"]
    if "exp_inf" in state:
        largest = torch.maximum(group["betas"][1] * real(state["exp_inf"]), largest)
    return largest.square()


def adadelta(grad: Tensor, state: State, group: Group) -> Tensor:
    """Mean square of the gradients over that of the updates, each with eps: it starts them."""
    rho, eps = group["rho"], group["eps"]
    updates = real(state["acc_delta"]) if "acc_delta" in state else 0.0
    return (_average(grad.square(), state, "square_avg", rho) + eps) / (updates + eps)


def _average(new: Tensor, state: State, key: str, beta: float) -> Tensor:
    new = new * (1 - beta)
    return new + real(state[key]) * beta if key in state else new


def _maximum(second: Tensor, state: State) -> Tensor:
    if "max_exp_avg_sq" not in state:
        return second
    return torch.maximum(second, real(state["max_exp_avg_sq"]))


def _coming_step(state: State) -> Any:
    step = state.get("step", 0.0)
    if isinstance(step, Tensor) and step.is_cpu and not torch.compiler.is_compiling():
        step = step.item()
    return step + 1


def _wide(grad: Any, scale: Tensor | None) -> Tensor:
    """The gradient as real numbers, unscaled, in float32 at least: its square must fit."""
    grad = real(grad)
    grad = grad.to(torch.promote_types(grad.dtype, torch.float32))
    return grad if scale is None else grad / scale


_INVERSE_SQUARES: dict[type[Optimizer], Callable[[Tensor, State, Group], Tensor]] = {
    native.AdaBound: adabound,
    native.Padam: padam,
    native.Yogi: yogi,
    Adadelta: adadelta,
    Adagrad: adagrad,
    Adamax: adamax,
    RAdam: radam,
    RMSprop: rmsprop,
}

for _base, _inverse_square in _INVERSE_SQUARES.items():
    declare(_base, effective_rate=functools.partial(MeanRate, inverse_square=_inverse_square))
declare(NAdam, effective_rate=AdamRate)  # the same second moment; its look-ahead is in the momentum
declare(native.Adai, effective_rate=UnitRate)
