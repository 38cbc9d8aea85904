"""Rules that are maps on the weights, around a native step without decay.

What one scalar per group cannot say: which elements decay, toward what, by which norm. A map takes
its strength from an inner rule, `Decoupled` unless told otherwise, and acts

    before the native step   Cautious, Anchored, HuberDecay, NormControl
    after it                 ProximalL1, ProximalNorm, Preconditioned, PowerDecay

    w <- w - d [w u >= 0] w              Cautious
    w <- w - d (w - anchor)              Anchored
    w <- sign(z) max(|z| - x, 0)         ProximalL1, z the weights after the native step

``d`` and ``x`` are both the inner rule's ``weight_decay * rate``; as a threshold it is in units of
the weights.
"""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from . import facts
from .decay import DecayRule, Decoupled, L2Regularization, Proximal, Scalar, Step, as_rule
from .reduction import PerMember, WholeModel, plus

__all__ = [
    "Anchored",
    "Cautious",
    "DecayMap",
    "HuberDecay",
    "NormControl",
    "PowerDecay",
    "Preconditioned",
    "ProximalL1",
    "ProximalNorm",
    "View",
]

ANCHOR_KEY = "anchor"  # in the optimizer's per-parameter state

_DECOUPLED = Decoupled()

# Elements per piece of an elementwise map: the pieces' temporaries stay in the cache.
_PIECE = 1 << 16


class View:
    """One group's weights at one step, as a map sees them.

    Args:
        rule: the map.
        optimizer: whose state and gradients the facts are read from.
        group: the parameter group.
        params: its parameters that have a gradient, as the optimizer knows them.
        amount: fraction or threshold of this step; a tensor has one entry per member.
        weights: the weights to change; the parameters themselves, except in a stacked ensemble.
        reduction: what one whole model is.
    """

    def __init__(
        self,
        rule: DecayMap,
        optimizer: Optimizer,
        group: dict[str, Any],
        params: list[Tensor],
        amount: Scalar,
        weights: list[Tensor] | None = None,
        reduction: WholeModel | None = None,
    ) -> None:
        self.rule, self.optimizer, self.group, self.params = rule, optimizer, group, params
        self.weights = params if weights is None else weights
        self.reduction = reduction or WholeModel()
        self.amount = amount

    def anchors(self) -> list[Tensor]:
        """What `Anchored` remembered of each parameter."""
        return [anchor_of(self.optimizer, p) for p in self.params]

    def directions(self) -> list[Tensor]:
        """The coming update directions; their signs are exact."""
        return facts.direction(self.optimizer, self.group, self.params)

    def preconditioners(self) -> list[Tensor]:
        """The metric ``D`` of the step just taken."""
        return facts.preconditioner(self.optimizer, self.group, self.params)

    def amount_for(self, weight: Tensor, amount: Any = None) -> Any:
        """The amount, shaped to broadcast against a weight of a stacked ensemble."""
        amount = self.amount if amount is None else amount
        if isinstance(amount, Tensor) and amount.dim() == 1:
            amount = amount.view(-1, *[1] * (weight.dim() - 1))
        # A tensor without dimensions keeps its precision, and does not raise the weight's.
        return amount.to(weight.dtype) if isinstance(amount, Tensor) and amount.dim() else amount

    def elementwise(self, function: Callable[..., None], *others: list[Tensor]) -> None:
        """Call ``function(weight, amount, *others)``, which writes the weight, piece by piece."""
        for weight, *rest in zip(self.weights, *others, strict=True):
            amount = self.amount_for(weight)
            tensors = [weight, *rest]
            plain = not isinstance(amount, Tensor) or amount.dim() == 0
            if plain and weight.numel() > _PIECE and all(t.is_contiguous() for t in tensors):
                pieces = zip(*(t.view(-1).split(_PIECE) for t in tensors), strict=True)
                for piece, *others_piece in pieces:
                    function(piece, amount, *others_piece)
            else:
                function(weight, amount, *rest)


@dataclass(frozen=True)
class DecayMap(DecayRule):
    """A rule whose decay is a map on the weights; the inner rule says how much.

    Args:
        rule: gives the fraction (or threshold), its coefficient and unit. Default ``Decoupled()``.
    """

    rule: DecayRule = _DECOUPLED

    acts: ClassVar[str] = "before"
    removes_fraction: ClassVar[bool] = True  # else the amount is a threshold, with no upper bound

    def __post_init__(self) -> None:
        """Accept the inner rule by name; refuse one that is no plain fraction."""
        object.__setattr__(self, "rule", as_rule(self.rule))
        if isinstance(self.rule, (DecayMap, L2Regularization, Proximal)):
            raise ValueError(
                f"rule={self.rule!r}: {type(self).__name__} takes its strength from a rule that is "
                "a plain fraction; use Decoupled(), Independent(), Constant(), Corrected() or "
                "Stable()."
            )

    def rate(self, step: Step) -> Scalar:
        """The inner rule's rate."""
        return self.rule.rate(step)

    @property
    def needs(self) -> tuple[str, ...]:
        """What the map and its inner rule ask of the base optimizer."""
        return (*self.requires, *self.rule.needs)

    @abstractmethod
    def apply(self, view: View) -> None:
        """Change the weights of one group in place; an amount of 0 changes nothing."""

    @classmethod
    def apply_all(cls, views: list[View]) -> None:
        """Change the weights of all groups that have this kind of rule."""
        for view in views:
            view.rule.apply(view)

    def begin(self, params: list[Tensor]) -> tuple[DecayRule, list[Tensor] | None]:
        """The rule as the group keeps it, and what it has to remember of each parameter."""
        return self, None


@dataclass(frozen=True)
class Cautious(DecayMap):
    r"""``w <- w - d [w u >= 0] w``: decay only what the update does not already grow.

    An element whose update moves it away from zero is left alone: decay there would work against
    the loss. Unchanged coefficient. Source: cautious weight decay (Chen et al. 2025); not the
    "cautious optimizers", which mask the update. Under noise less than half of the elements decay,
    so compare it at matched weight norm, not at matched coefficient.

    Example:
        >>> Cautious("independent")
        Cautious(rule=Independent())
    """

    name = "cautious"
    requires = ("direction",)

    def apply(self, view: View) -> None:
        """Multiply by ``1 - d`` where ``w u >= 0``."""
        view.elementwise(_decay_where_aligned, view.directions())


def _decay_where_aligned(w: Tensor, d: Any, u: Tensor) -> None:
    w.sub_((w * u >= 0).to(w.dtype).mul_(w).mul_(d))


@dataclass(frozen=True)
class Anchored(DecayMap):
    r"""``w <- w - d (w - anchor)``: decay toward an anchor instead of zero.

    Source: L2-SP (Li et al. 2018) toward the weights that fine-tuning started from; ``to=1.0`` is
    decay of a gain toward the identity.

    Args:
        rule: gives the fraction.
        to: the anchor: None for the weights when the group is added, a number, or one tensor for
            each parameter of the group.
        dtype: keep tensor anchors in this precision, by name ("bfloat16"). Default: as they are.
        device: keep tensor anchors there, by name ("cpu"), moving them when they are used.

    Example:
        >>> Anchored(to=1.0).to
        1.0
    """

    name = "anchored"
    to: Any = None
    dtype: str | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        """Check the anchor's precision."""
        super().__post_init__()
        if self.dtype is not None and not isinstance(getattr(torch, self.dtype, None), torch.dtype):
            raise ValueError(
                f"dtype={self.dtype!r}: must be the name of a torch dtype, such as 'bfloat16'."
            )

    def begin(self, params: list[Tensor]) -> tuple[DecayRule, list[Tensor] | None]:
        """Capture the anchors; given tensors leave the rule, which stays plain data."""
        if isinstance(self.to, (int, float)):
            return self, None
        given: Sequence[Tensor] = params if self.to is None or self.to == "given" else self.to
        if len(given) != len(params) or any(
            a.shape != p.shape for a, p in zip(given, params, strict=True)
        ):
            shapes = [tuple(p.shape) for p in params]
            raise ValueError(
                f"to={len(given)} tensors: Anchored needs one anchor of the same shape for each "
                f"parameter of the group, whose shapes are {shapes}."
            )
        dtype = None if self.dtype is None else getattr(torch, self.dtype)
        anchors = [a.detach().to(device=self.device, dtype=dtype, copy=True) for a in given]
        to = None if self.to is None else "given"
        return Anchored(self.rule, to, self.dtype, self.device), anchors

    def apply(self, view: View) -> None:
        """Move the weights toward their anchors."""
        if isinstance(self.to, (int, float)):
            for w in view.weights:
                amount = view.amount_for(w)
                w.mul_(1.0 - amount).add_(amount * self.to)
            return
        for anchor, w in zip(view.anchors(), view.weights, strict=True):
            w.sub_((w - anchor.to(w.device, w.dtype)).mul_(view.amount_for(w)))


@dataclass(frozen=True)
class HuberDecay(DecayMap):
    r"""``w <- w - d clamp(w, -delta, delta)``: quadratic near zero, absolute value outside.

    Large weights are pulled with constant force ``d delta`` instead of in proportion. Source:
    AdamHuberDecay (2025). ``delta=inf`` is the inner rule itself.

    Args:
        rule: gives the fraction.
        delta: where the pull stops growing, in units of the weights.

    Example:
        >>> HuberDecay(delta=0.1).delta
        0.1
    """

    name = "huber"
    delta: float = 1.0

    def __post_init__(self) -> None:
        """Check the range."""
        super().__post_init__()
        _require("HuberDecay", "delta", self.delta, self.delta > 0.0, "a positive number")

    def apply(self, view: View) -> None:
        """Subtract the clamped weights times the fraction."""
        view.elementwise(lambda w, d: w.sub_(w.clamp(-self.delta, self.delta).mul_(d)))


@dataclass(frozen=True)
class NormControl(DecayMap):
    r"""``w <- w - d (1 - r / ||w||) w``: decay of each tensor toward a target norm.

    A norm below the target grows. ``r = 0`` is the inner rule itself. Source: weight norm control
    (Loshchilov 2023, AdamWN).

    Args:
        rule: gives the fraction.
        target: target RMS of each tensor's entries, ``||w|| / sqrt(n)``, in units of the weights.

    Example:
        >>> NormControl(target=0.02).target
        0.02
    """

    name = "norm_control"
    target: float = 0.0

    def __post_init__(self) -> None:
        """Check the range."""
        super().__post_init__()
        holds = 0.0 <= self.target < math.inf
        _require("NormControl", "target", self.target, holds, "a finite number >= 0")

    def apply(self, view: View) -> None:
        """Scale each tensor; a tensor of zeros has no direction to grow in and stays."""
        squares = torch.as_tensor(view.reduction.squares(view.weights))
        for w, square in zip(view.weights, squares, strict=True):
            members = w.shape[0] if isinstance(view.reduction, PerMember) else 1
            rms = (square / (w.numel() // members)).sqrt()
            pull = torch.where(rms > 0.0, 1.0 - self.target / rms, 0.0)
            w.mul_(1.0 - view.amount_for(w) * view.amount_for(w, pull.to(w.device)))


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
    acts: ClassVar[str] = "after"
    removes_fraction: ClassVar[bool] = False
    metric: str = "identity"

    def __post_init__(self) -> None:
        """Check the metric."""
        super().__post_init__()
        known = self.metric in ("identity", "preconditioned")
        _require("ProximalL1", "metric", self.metric, known, "'identity' or 'preconditioned'")

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
    threshold = x if metric is None else x / metric
    w.copy_(w.sign() * (w.abs() - threshold).clamp_(min=0.0))


@dataclass(frozen=True)
class ProximalNorm(DecayMap):
    r"""``w <- max(1 - x / ||z||, 0) z``: the proximal step of ``lambda ||w||``, without a square.

    Shortens the vector of all weights by the fixed length ``x = weight_decay * rate`` per step, and
    sets it to zero where it is shorter than that. Source: AdamProxL2 (Zhuang et al. 2022), with
    ``rule=Independent()``; there the norm is over the whole model.

    Args:
        rule: gives the length, in units of the weights' norm.
        per_tensor: take the norm of each tensor instead, as group lasso does.

    Example:
        >>> ProximalNorm(per_tensor=True).per_tensor
        True
    """

    name = "proximal_norm"
    acts: ClassVar[str] = "after"
    removes_fraction: ClassVar[bool] = False
    per_tensor: bool = False

    @classmethod
    def apply_all(cls, views: list[View]) -> None:
        """Shorten one vector of all groups' weights, each group by its own length."""
        whole = [v for v in views if not v.rule.per_tensor]  # type: ignore[attr-defined]
        if whole:
            reduction = whole[0].reduction
            totals = [reduction.total(reduction.squares(v.weights)) for v in whole]
            norm = torch.as_tensor(functools.reduce(plus, totals)).sqrt()
            for view in whole:
                _shorten(view, [norm] * len(view.weights))
        for view in views:
            if view not in whole:
                view.rule.apply(view)

    def apply(self, view: View) -> None:
        """Shorten each tensor of a group."""
        _shorten(view, list(torch.as_tensor(view.reduction.squares(view.weights)).sqrt()))


def _shorten(view: View, norms: list[Tensor]) -> None:
    for w, norm in zip(view.weights, norms, strict=True):
        norm = norm.to(w.device)
        amount = torch.as_tensor(view.amount, dtype=norm.dtype, device=norm.device)
        kept = torch.where(norm > amount, 1.0 - amount / norm, 0.0)
        w.mul_(view.amount_for(w, torch.where(amount > 0.0, kept, 1.0)))


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
    acts: ClassVar[str] = "after"
    removes_fraction: ClassVar[bool] = False
    requires = ("preconditioner",)

    def apply(self, view: View) -> None:
        """Divide the weights."""
        view.elementwise(lambda w, x, metric: w.div_(1.0 + x / metric), view.preconditioners())


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
    acts: ClassVar[str] = "after"
    removes_fraction: ClassVar[bool] = False
    power: float = 2.0

    def __post_init__(self) -> None:
        """Check the range."""
        super().__post_init__()
        holds = 0.0 < self.power < math.inf
        _require("PowerDecay", "power", self.power, holds, "a positive, finite number")

    def apply(self, view: View) -> None:
        """Divide the weights; a zero stays zero for every p."""
        power = self.power - 2.0

        def shrink(w: Tensor, x: Any) -> None:
            w.copy_(torch.where(w == 0.0, w, w / (1.0 + x * w.abs().pow(power))))

        view.elementwise(shrink)


def apply_maps(views: list[View]) -> None:
    """Apply each view's map; maps of one kind together, as a norm may span groups."""
    kinds: dict[type[DecayMap], list[View]] = {}
    for view in views:
        kinds.setdefault(type(view.rule), []).append(view)
    for kind, members in kinds.items():
        kind.apply_all(members)


def anchor_of(optimizer: Optimizer, param: Tensor) -> Tensor:
    """The anchor of a parameter, captured now if nothing has been yet."""
    state = optimizer.state.get(param) or {}
    if ANCHOR_KEY in state:
        return state[ANCHOR_KEY]
    pending = vars(optimizer).setdefault("_pending_anchors", {})
    if param not in pending:
        pending[param] = param.detach().clone()
    return pending[param]


def keep_anchors(optimizer: Optimizer) -> None:
    """Move captured anchors into the state of the parameters that have one by now.

    Not before: torch's optimizers make a parameter's state when they find it empty.
    """
    pending = vars(optimizer).get("_pending_anchors", {})
    for param in [p for p in pending if p.grad is not None]:
        optimizer.state[param][ANCHOR_KEY] = pending.pop(param)


def _require(owner: str, name: str, value: Any, holds: bool, requirement: str) -> None:
    if not holds:
        raise ValueError(f"{owner}: {name}={value!r} must be {requirement}.")
