"""Maps before the native step: which elements decay, toward what, by how much."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from ..checks import is_number, require_argument
from ..tensors.reduction import spread_like
from .contract import DecayRule, RuleName
from .maps import DecayMap, View

__all__ = ["Anchored", "Cautious", "HuberDecay", "NormControl"]


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
    caveat: ClassVar[str] = (
        "an upper bound, the half-life a lower one: only what the update does not grow decays."
    )
    elementwise: ClassVar[bool] = True
    requires = ("direction",)

    if TYPE_CHECKING:  # the inner rule may be given by name

        def __init__(self, rule: DecayRule | RuleName = "decoupled") -> None: ...

    def apply(self, view: View) -> None:
        """Multiply by ``1 - d`` where ``w u >= 0``."""
        view.elementwise(_decay_where_aligned, view.directions())


def _decay_where_aligned(w: Tensor, d: Any, u: Tensor) -> None:
    aligned = (w * u).ge_(0.0)  # 1 or 0: torch's kernels for booleans are many times slower
    if isinstance(d, Tensor):
        w.sub_(aligned.mul_(w).mul_(d))
    else:
        w.addcmul_(aligned, w, value=-d)


@dataclass(frozen=True)
class Anchored(DecayMap):
    r"""``w <- w - d (w - anchor)``: decay toward an anchor instead of zero.

    Source: L2-SP (Li et al. 2018) toward the weights that fine-tuning started from; ``to=1.0`` is
    decay of a gain toward the identity.

    Args:
        rule: gives the fraction.
        to: the anchor: None for the weights when the group is added, a number, or one tensor for
            each parameter of the group, whole also where the parameters are sharded.
        dtype: keep tensor anchors in this precision, by name ("bfloat16"). Default: as they are.
        device: keep tensor anchors there, by name ("cpu"), moving them when they are used. Default:
            beside the weights.

    Example:
        >>> Anchored(to=1.0).to
        1.0
    """

    name = "anchored"
    caveat: ClassVar[str] = "the fraction is of the distance to the anchor, not of the weight."
    elementwise: ClassVar[bool] = True
    to: Any = None
    dtype: str | None = None
    device: str | None = None

    if TYPE_CHECKING:  # the inner rule may be given by name

        def __init__(
            self,
            rule: DecayRule | RuleName = "decoupled",
            to: Any = None,
            dtype: str | None = None,
            device: str | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        """Check the anchor, its precision and its place."""
        super().__post_init__()
        known = (
            self.to is None
            or (isinstance(self.to, str) and self.to == "given")
            or (is_number(self.to) and math.isfinite(self.to))
            or (isinstance(self.to, (list, tuple)) and all(isinstance(a, Tensor) for a in self.to))
        )
        what = "None, a finite number, or a list of one tensor for each parameter"
        require_argument("Anchored", "to", self.to, known, what)
        if self.device is not None:
            try:
                torch.device(self.device)
            except (RuntimeError, TypeError):
                what = "the name of a torch device, such as 'cpu'"
                require_argument("Anchored", "device", self.device, False, what)
        named = isinstance(self.dtype, str) and getattr(torch, self.dtype, None)
        if self.dtype is not None and not isinstance(named, torch.dtype):
            raise ValueError(
                f"dtype={self.dtype!r}: must be the name of a torch dtype, such as 'bfloat16'."
            )

    @property
    def carries_tensors(self) -> bool:
        """Whether the anchors were given and are still in it."""
        return isinstance(self.to, (list, tuple))

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
        spread = [spread_like(a.detach(), p) for a, p in zip(given, params, strict=True)]
        anchors = [a.to(device=self.device, dtype=dtype, copy=True) for a in spread]
        to = None if self.to is None else "given"
        return Anchored(self.rule, to, self.dtype, self.device), anchors

    def apply(self, view: View) -> None:
        """Move the weights toward their anchors."""
        if isinstance(self.to, (int, float)):
            view.elementwise(lambda w, d: w.mul_(1.0 - d).add_(d * self.to))
        else:
            view.elementwise(_move_toward, view.anchors())


def _move_toward(w: Tensor, d: Any, anchor: Tensor) -> None:
    if isinstance(d, Tensor):
        w.sub_((w - anchor.to(w)).mul_(d))
    else:
        w.lerp_(anchor.to(w), d)


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
    caveat: ClassVar[str] = (
        "an upper bound, the half-life a lower one: weights above delta lose less."
    )
    elementwise: ClassVar[bool] = True
    delta: float = 1.0

    if TYPE_CHECKING:  # the inner rule may be given by name

        def __init__(
            self, rule: DecayRule | RuleName = "decoupled", delta: float = 1.0
        ) -> None: ...

    def __post_init__(self) -> None:
        """Check the range."""
        super().__post_init__()
        holds = is_number(self.delta) and self.delta > 0.0
        require_argument("HuberDecay", "delta", self.delta, holds, "a positive number")

    def apply(self, view: View) -> None:
        """Subtract the clamped weights times the fraction."""

        def pull(w: Tensor, d: Any) -> None:
            pulled = w.clamp(-self.delta, self.delta)
            if isinstance(d, Tensor):
                w.sub_(pulled.mul_(d))
            else:
                w.sub_(pulled, alpha=d)

        view.elementwise(pull)


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
    caveat: ClassVar[str] = (
        "an upper bound, the half-life a lower one: near the target less goes, below it "
        "weights grow."
    )
    target: float = 0.0

    if TYPE_CHECKING:  # the inner rule may be given by name

        def __init__(
            self, rule: DecayRule | RuleName = "decoupled", target: float = 0.0
        ) -> None: ...

    def __post_init__(self) -> None:
        """Check the range."""
        super().__post_init__()
        holds = is_number(self.target) and 0.0 <= self.target < math.inf
        require_argument("NormControl", "target", self.target, holds, "a finite number >= 0")

    def apply(self, view: View) -> None:
        """Scale each tensor; a tensor of zeros has no direction to grow in and stays."""
        rms = view.reduction.mean_squares(view.weights).sqrt()
        pulls = torch.where(rms > 0.0, 1.0 - self.target / rms, 0.0)
        view.elementwise(lambda w, d, pull: w.mul_(1.0 - d * pull), view.numbers(pulls))
