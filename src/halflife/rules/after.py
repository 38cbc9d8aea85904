"""Maps after the native step: proximal steps that shrink its result."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from ..checks import is_number, require_argument
from ..tensors.reduction import plus
from .contract import DecayRule, RuleName
from .maps import DecayMap, View
from .wish import never

__all__ = ["PowerDecay", "Preconditioned", "ProximalL1", "ProximalNorm"]


@dataclass(frozen=True)
class ProximalL1(DecayMap):
    r"""``w_i <- sign(z_i) max(|z_i| - x_i, 0)``: soft threshold after the step; makes exact zeros.

    The proximal step of ``lambda ||w||_1``. With ``metric="identity"`` every element has the
    threshold ``x = weight_decay * rate``, and the method is scale-free; with
    ``metric="preconditioned"`` it is ``x / D_i``, the exact prox in the metric of Adam's step.
    Source: AdamProxL1 (Zhuang et al. 2022), with ``rule=Independent()``.

    Args:
        rule: gives the threshold, in units of the weights.
        metric: "identity" or "preconditioned".

    Example:
        >>> ProximalL1(metric="identity").metric
        'identity'
    """

    name = "proximal_l1"
    caveat: ClassVar[str] = "a threshold in units of the weights: no fraction, so no half-life."
    elementwise: ClassVar[bool] = True
    acts: ClassVar[str] = "after"
    removes_fraction: ClassVar[bool] = False
    metric: str = "identity"

    if TYPE_CHECKING:  # the inner rule may be given by name

        def __init__(
            self,
            rule: DecayRule | RuleName = "decoupled",
            metric: Literal["identity", "preconditioned"] = "identity",
        ) -> None: ...

    def __post_init__(self) -> None:
        """Check the metric."""
        super().__post_init__()
        known = self.metric in ("identity", "preconditioned")
        require_argument(
            "ProximalL1", "metric", self.metric, known, "'identity' or 'preconditioned'"
        )

    @property
    def needs(self) -> tuple[str, ...]:
        """The preconditioner too, in its metric."""
        return (*super().needs, *(("preconditioner",) if self.metric != "identity" else ()))

    def apply(self, view: View) -> None:
        """Threshold the weights."""
        if self.metric == "identity":
            view.elementwise(_soft_threshold)
        else:
            view.elementwise(_soft_threshold, view.preconditioners())


def _soft_threshold(w: Tensor, x: Any, metric: Tensor | None = None) -> None:
    threshold = x if metric is None else _in_metric(x, metric)
    w.sub_(w.clamp(-threshold, threshold))


@dataclass(frozen=True)
class ProximalNorm(DecayMap):
    r"""``w <- max(1 - x / ||z||, 0) z``: the proximal step of ``lambda ||w||``, without a square.

    Shortens the vector of all weights by the fixed length ``x = weight_decay * rate`` per step, and
    sets it to zero where it is shorter than that. Weights whose ``weight_decay`` is 0 are no part
    of the vector. Source: AdamProxL2 (Zhuang et al. 2022), with ``rule=Independent()``; there the
    norm is over the whole model.

    Args:
        rule: gives the length, in units of the weights' norm.
        per_tensor: take the norm of each tensor instead, as group lasso does.

    Example:
        >>> ProximalNorm(per_tensor=True).per_tensor
        True
    """

    name = "proximal_norm"
    caveat: ClassVar[str] = (
        "a length taken off the norm of all weights: no fraction, so no half-life."
    )
    acts: ClassVar[str] = "after"
    removes_fraction: ClassVar[bool] = False
    per_tensor: bool = False

    if TYPE_CHECKING:  # the inner rule may be given by name

        def __init__(
            self, rule: DecayRule | RuleName = "decoupled", per_tensor: bool = False
        ) -> None: ...

    def __post_init__(self) -> None:
        """Check the flag."""
        super().__post_init__()
        known = isinstance(self.per_tensor, bool)
        require_argument("ProximalNorm", "per_tensor", self.per_tensor, known, "True or False")

    @property
    def spans_model(self) -> bool:
        """Whether the norm is over the whole model."""
        return not self.per_tensor or super().spans_model

    @classmethod
    def apply_all(cls, views: list[View]) -> None:
        """Shorten one vector of the weights that have an amount, each group by its own length."""
        each = [v for v in views if v.rule.per_tensor]  # type: ignore[attr-defined]
        whole = [v for v in views if v not in each and not never(v.amount)]
        if whole:
            reduction = whole[0].reduction
            squares = reduction.squares_of([v.weights for v in whole])
            # What is not shortened is not part of the vector: an amount may be 0 in the data too.
            totals = [_counted(reduction.total(s), v) for s, v in zip(squares, whole, strict=True)]
            norm = torch.as_tensor(functools.reduce(plus, totals)).sqrt()
            for view in whole:
                _shorten(view, norm.expand(len(view.weights), *norm.shape))
        for view in each:
            view.rule.apply(view)

    def apply(self, view: View) -> None:
        """Shorten each tensor of a group."""
        _shorten(view, torch.as_tensor(view.reduction.squares(view.weights)).sqrt())


def _counted(total: Any, view: View) -> Any:
    """The sum of a group's squares, where its amount is above 0; of a member, or of all."""
    if not isinstance(view.amount, Tensor):
        return total
    total = torch.as_tensor(total)
    return torch.where(view.amount.to(total.device) > 0.0, total, torch.zeros_like(total))


def _shorten(view: View, norms: Tensor) -> None:
    """Shorten weights of these norms; shape ``[weights]`` (plus members)."""
    amount = view.amount
    if never(amount):
        return
    # A number stays one: a tensor made of it would make the host wait for the device.
    length = amount.to(norms) if isinstance(amount, Tensor) else amount
    kept = torch.where(norms > length, 1.0 - length / norms, 0.0)
    if isinstance(length, Tensor):
        kept = torch.where(length > 0.0, kept, 1.0)
    view.elementwise(lambda w, _, factor: w.mul_(factor), view.numbers(kept))


@dataclass(frozen=True)
class Preconditioned(DecayMap):
    r"""``w_i <- z_i / (1 + x / D_i)``: proximal decay in the metric of the optimizer's own step.

    ``D = sqrt(v_hat) + eps``: weights with small gradients decay more. Not scale-free. Source:
    AdamP of "Decay no more" (2023), which is not the AdamP of Heo et al. 2021.

    Example:
        >>> Preconditioned().acts
        'after'
    """

    name = "preconditioned"
    caveat: ClassVar[str] = "each weight has a fraction of its own, by its metric: no half-life."
    elementwise: ClassVar[bool] = True
    acts: ClassVar[str] = "after"
    removes_fraction: ClassVar[bool] = False
    requires = ("preconditioner",)

    if TYPE_CHECKING:  # the inner rule may be given by name

        def __init__(self, rule: DecayRule | RuleName = "decoupled") -> None: ...

    def apply(self, view: View) -> None:
        """Divide the weights."""
        view.elementwise(
            lambda w, x, metric: w.div_(_in_metric(x, metric).add_(1.0)), view.preconditioners()
        )


def _in_metric(x: Any, metric: Tensor) -> Tensor:
    """``x / D``, but 0 where ``x`` is, also of a metric that is 0: nothing is to change."""
    ratio = x / metric
    return torch.where(x > 0.0, ratio, 0.0) if isinstance(x, Tensor) else ratio


@dataclass(frozen=True)
class PowerDecay(DecayMap):
    r"""``w <- z / (1 + x |z|^(p-2))``: the penalty ``lambda/p |w|^p``, stable for every p.

    ``p = 2`` is `Proximal`, ``p = 1`` a smooth relative of `ProximalL1`, ``p < 1`` makes most
    weights vanish. Source: p-norm weight decay (Outmezguine & Levi 2024).

    Args:
        rule: gives ``x``.
        power: ``p``, above 0.

    Example:
        >>> PowerDecay(power=0.8).power
        0.8
    """

    name = "power"
    caveat: ClassVar[str] = "each weight has a fraction of its own, by its size: no half-life."
    elementwise: ClassVar[bool] = True
    acts: ClassVar[str] = "after"
    removes_fraction: ClassVar[bool] = False
    power: float = 2.0

    if TYPE_CHECKING:  # the inner rule may be given by name

        def __init__(
            self, rule: DecayRule | RuleName = "decoupled", power: float = 2.0
        ) -> None: ...

    def __post_init__(self) -> None:
        """Check the range."""
        super().__post_init__()
        holds = is_number(self.power) and 0.0 < self.power < math.inf
        require_argument("PowerDecay", "power", self.power, holds, "a positive, finite number")

    def apply(self, view: View) -> None:
        """Divide the weights; a zero stays zero for every p."""
        power = self.power - 2.0

        def shrink(w: Tensor, x: Any) -> None:
            # Below p = 2 the power of a tiny weight is infinite, and 0 times that is no number.
            pull = _power(w.abs(), power).clamp_(max=torch.finfo(w.dtype).max)
            w.div_(pull.mul_(x).add_(1.0))

        view.elementwise(shrink)


def _power(magnitude: Tensor, exponent: float) -> Tensor:
    # torch's general pow takes longer than two transcendental functions, and compiled even where
    # the exponent is a root.
    if exponent == -0.5:
        return magnitude.rsqrt_()
    if exponent == 0.5:
        return magnitude.sqrt_()
    if exponent in {-2.0, -1.0, 0.0, 1.0, 2.0, 3.0}:  # products
        return magnitude.pow_(exponent)
    return magnitude.log2_().mul_(exponent).exp2_()
