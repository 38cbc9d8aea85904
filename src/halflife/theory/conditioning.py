r"""The condition number that rescaling leaves: what a scale-free method is said to depend on.

    min over diagonal Lambda > 0 of kappa(Lambda H)        kappa = largest / smallest eigenvalue

for a symmetric positive definite H. The eigenvalues are those of ``S = D H D`` with
``D = Lambda^(1/2)``. The logarithm of ``tr(S^p)^(1/p) tr(S^-p)^(1/p)`` is convex in log Lambda
(Hadamard's three lines), and for p to infinity it is that of kappa: here Newton's method goes up
in p. **The answer carries its proof**: positive semidefinite X and Y with equal diagonals give
``kappa >= tr(Y H) / tr(X H)``, whatever Lambda, since ``P <= H <= kappa P`` with
``P = Lambda^-1``. The weights of large and of small eigenvalues make such a pair, and at the
optimum it is tight.

For two weights the best is a unit diagonal, ``kappa = (1 + |r|) / (1 - |r|)`` with r their
correlation in H, as for every H whose graph is bipartite, such as a tridiagonal one (Forsythe &
Straus 1955). For d weights a unit diagonal is within a factor d of it (van der Sluis 1969).

Source: Zhuang et al., "Understanding AdamW through proximal methods and scale-freeness", 2022,
Theorem 1, which takes the smallest condition number among functions with Hessian ``Lambda H``.
**Few Lambda have such a function.** A Hessian is symmetric, and Lambda H is if Lambda is constant
on each connected block of H's entries: any Lambda for a diagonal H, as in their example and
Corollary 1; multiples of the identity for an H without zeros. What the theorem promises is
`block_condition`; `best_condition` is what a rescaling of gradients could reach at most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import require, require_positive

__all__ = ["Conditioning", "best_condition", "block_condition"]

_GROWTH = 3.0  # of p, from one problem to the next
_LARGEST_POWER = 1e8  # above, kappa and the smooth one differ by rounding
_NEWTON_STEPS = 50  # a problem
_HALVINGS = 30  # a step


@dataclass(frozen=True)
class Conditioning:
    """What `best_condition` found.

    Args:
        condition: kappa(Lambda H) at `scale`; no rescaling has less than `lower`.
        lower: the bound that is proved, at most `condition`.
        scale: the diagonal of Lambda, ``[d]``, of geometric mean 1.
        unscaled: kappa(H).
    """

    condition: float
    lower: float
    scale: Tensor
    unscaled: float

    @property
    def gap(self) -> float:
        """``condition / lower - 1``: by how much, relatively, it may be off."""
        return self.condition / self.lower - 1.0


class _Point(NamedTuple):
    """S at one Lambda, and what is asked of it at one power p."""

    logs: Tensor  # of the eigenvalues, ascending
    vectors: Tensor
    value: float
    top: Tensor  # weights of the eigenvalues in tr S^p, of sum 1
    bottom: Tensor  # in tr S^-p

    @property
    def slope(self) -> Tensor:
        """Of the value, in log Lambda: a difference of two diagonals."""
        return self.vectors.square() @ (self.top - self.bottom)


def best_condition(matrix: Tensor, *, tol: float = 1e-6) -> Conditioning:
    """The smallest condition number of ``Lambda H`` over positive diagonal Lambda.

    Computed in float64. Time grows as d^4, memory as d^3: for some hundred weights.

    Args:
        matrix: H, symmetric positive definite, ``[d, d]``.
        tol: relative gap to its lower bound at which to stop.

    Raises:
        ValueError: if matrix is not square, symmetric and positive definite, or tol not positive.

    Example:
        >>> found = best_condition(torch.tensor([[1e6, 500.0], [500.0, 1.0]]))
        >>> round(found.unscaled), round(found.condition, 4), found.gap < 1e-6  # r = 1/2
        (1333334, 3.0, True)
    """
    require_positive("best_condition: tol", tol, "pass a relative gap such as 1e-6")
    h = _definite("best_condition: matrix", matrix)
    unscaled = _ratio(torch.linalg.eigvalsh(h))
    if len(h) == 1:
        return Conditioning(1.0, 1.0, torch.ones_like(h[0]), unscaled)
    # The unit diagonal first: of a badly scaled matrix, small eigenvalues would be rounding.
    logs = -h.diagonal().log()
    best, lower, scale, power = math.inf, 1.0, logs, 1.0
    while power <= _LARGEST_POWER:
        here = _point(h, logs, power)
        for _ in range(_NEWTON_STEPS):
            condition = math.exp(float(here.logs[-1] - here.logs[0]))
            if condition < best:
                best, scale = condition, logs
            lower = min(max(lower, _bound(here)), best)
            if best <= lower * (1.0 + tol):
                break
            step = _newton_step(here, power)
            gain = float(here.slope @ step)
            for halvings in range(_HALVINGS):
                following = _point(h, logs + step / 2**halvings, power)
                if following.value <= here.value + 1e-4 * gain / 2**halvings:
                    break
            else:
                break  # rounding: the next power starts here
            logs, here = logs + step / 2**halvings, following
            if -gain < 1e-14:
                break
        if best <= lower * (1.0 + tol):
            break
        power *= _GROWTH
    return Conditioning(best, lower, (scale - scale.mean()).exp(), unscaled)


def block_condition(matrix: Tensor) -> float:
    """The smallest condition number of ``Lambda H`` among Lambda for which it is symmetric.

    That of the worst connected block of H: each block can be brought to the same smallest
    eigenvalue, and nothing changes a block's own ratio. 1 for a diagonal H, kappa(H) for one
    without zeros.

    Args:
        matrix: H, symmetric positive definite, ``[d, d]``.

    Raises:
        ValueError: if matrix is not square, symmetric and positive definite.

    Example:
        >>> h = torch.tensor([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 1e6]])
        >>> round(block_condition(h), 6)  # 3 / 1, and 1
        3.0
    """
    h = _definite("block_condition: matrix", matrix)
    unseen, worst = set(range(len(h))), 1.0
    while unseen:
        block, fresh = set[int](), {unseen.pop()}
        while fresh:
            block |= fresh
            near = (h[sorted(fresh)] != 0).any(0).nonzero().flatten().tolist()
            fresh = set(near) - block
        unseen -= block
        rows = sorted(block)
        worst = max(worst, _ratio(torch.linalg.eigvalsh(h[rows][:, rows])))
    return worst


def _point(h: Tensor, logs: Tensor, power: float) -> _Point:
    d = (0.5 * (logs - logs.mean())).exp()
    eigenvalues, vectors = torch.linalg.eigh(h * torch.outer(d, d))
    if not bool(eigenvalues[0] > 0):  # too long a step
        nothing = torch.zeros_like(eigenvalues)
        return _Point(nothing, vectors, math.inf, nothing, nothing)
    found = eigenvalues.log()
    sums = torch.logsumexp(power * found, 0) + torch.logsumexp(-power * found, 0)
    top, bottom = torch.softmax(power * found, 0), torch.softmax(-power * found, 0)
    return _Point(found, vectors, float(sums) / power, top, bottom)


def _bound(at: _Point) -> float:
    """``tr(Y H) / tr(X H)`` of Y from the large eigenvalues and X from the small ones.

    In the coordinates of S, where diagonals are equal if they are in those of H; X is brought to
    Y's by a congruence, which keeps it positive semidefinite.
    """
    values, u = at.logs.exp(), at.vectors
    x, y = u.square() @ at.bottom, u.square() @ at.top
    scale = (y / x.clamp(min=torch.finfo(x.dtype).tiny)).sqrt()
    small = torch.outer(scale, scale) * ((u * at.bottom) @ u.T)
    return float((at.top * values).sum() / (small * ((u * values) @ u.T)).sum())


def _newton_step(at: _Point, power: float) -> Tensor:
    """Downhill by the second derivatives, of which tiny ones are raised: scale changes nothing."""
    second = _second(at, at.top, power) - _second(at, at.bottom, -power)
    curvatures, axes = torch.linalg.eigh(0.5 * (second + second.T))
    raised = curvatures.clamp(min=1e-9 * float(curvatures[-1]))
    step = -axes @ ((axes.T @ at.slope) / raised)
    return step - step.mean()


def _second(at: _Point, weights: Tensor, power: float) -> Tensor:
    """Derivative of ``diag(S^p) / tr S^p`` in log Lambda, by divided differences."""
    values, u = at.logs.exp(), at.vectors
    sums, apart = values[:, None] + values, values[:, None] - values
    close = apart.abs() <= 1e-9 * sums
    limit = power * (weights[:, None] + weights) / sums
    quotients = torch.where(
        close, limit, (weights[:, None] - weights) / torch.where(close, 1.0, apart)
    )
    products = (u[:, :, None] * u[:, None, :]).flatten(1)  # [d, d^2]
    mean = u.square() @ weights
    kernel = (0.5 * quotients * sums).flatten()
    return (products * kernel) @ products.T - power * torch.outer(mean, mean)


def _ratio(eigenvalues: Tensor) -> float:
    """The largest over the smallest; infinite where the smallest is lost in rounding."""
    low, high = float(eigenvalues[0]), float(eigenvalues[-1])
    return high / low if low > 0 else math.inf


def _definite(name: str, matrix: Tensor) -> Tensor:
    """The matrix in float64, on the CPU."""
    shape = tuple(matrix.shape)
    ok = len(shape) == 2 and shape[0] == shape[1] and shape[0] > 0
    require(ok, name, "a square matrix", shape, "pass a Hessian")
    h = matrix.detach().to("cpu", torch.float64)
    ok = bool(h.isfinite().all()) and bool((h.diagonal() > 0).all())
    remedy = "add a multiple of the identity, or leave out directions without curvature"
    require(ok, name, "positive definite", "a diagonal that is not", remedy)
    d = h.diagonal().rsqrt()
    unit = h * torch.outer(d, d)  # in which what is rounding does not depend on the scale
    slack = len(h) * torch.finfo(matrix.dtype if matrix.is_floating_point() else h.dtype).eps
    ok = bool(((unit - unit.T).abs() <= slack).all())
    require(ok, name, "symmetric", "one that is not", "pass (matrix + matrix.T) / 2")
    least = float(torch.linalg.eigvalsh(0.5 * (unit + unit.T))[0])
    ok = least > len(h) * torch.finfo(h.dtype).eps
    require(ok, name, "positive definite", f"a smallest eigenvalue of {least:.3g}", remedy)
    return 0.5 * (h + h.T)
