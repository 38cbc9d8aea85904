"""Extreme eigenvalues of a symmetric operator: by Lanczos' method, and by power iteration."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from ...checks import require, require_count, require_positive
from .krylov import Krylov
from .operators import ConvergenceWarning, Operator, Progress, as_operator, require_finite_product

__all__ = ["Eigenpairs", "lanczos", "power_iteration"]

Which: TypeAlias = Literal["magnitude", "largest", "smallest"]
_CHECKED_EACH = 30  # steps; from there on every fifth: the small eigenvalue problem grows


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenvalues with their eigenvectors, and how far each is from being one.

    Attributes:
        values: ``[k]`` in float64, the wanted end first.
        vectors: ``[dim, k]``, unit columns.
        residuals: ``[k]``, ``|A x - value x|``: there is an eigenvalue within this distance, as far
            as rounding allows.
        converged: whether every residual is within the tolerance.
        products: products with the operator that it took.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    converged: bool
    products: int

    @property
    def value(self) -> float:
        """The first eigenvalue."""
        return float(self.values[0])

    def as_dict(self) -> dict[str, Any]:
        """Plain data without the vectors, for a JSON file."""
        return {
            "values": self.values.tolist(),
            "residuals": self.residuals.tolist(),
            "converged": self.converged,
            "products": self.products,
        }


def lanczos(
    operator: Operator | Tensor,
    k: int = 1,
    *,
    which: Which | Literal["both"] = "largest",
    steps: int | None = None,
    tol: float = 1e-4,
    block: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> Eigenpairs:
    """The `k` extreme eigenvalues and eigenvectors, by Lanczos' method.

    The basis is kept orthogonal in full. An eigenvalue's error is at most its residual, and of the
    order of the residual's square over the gap to its neighbours. Memory: `steps` vectors.

    Args:
        operator: an operator, or a symmetric matrix.
        k: how many eigenpairs, of each end if `which` is "both".
        which: "largest", "smallest" (most negative), "magnitude" (of the largest absolute value),
            or "both": the largest first, then the smallest.
        steps: the most products to make. Default: ``max(100, 10 k)``, at most `dim`.
        tol: the largest residual to accept, in units of the eigenvalue, or of `tol` times the
            spectral norm for eigenvalues smaller than that.
        block: number of starting vectors. A multiple eigenvalue is sure to be found only as many
            times as this; more of its copies come by rounding, or when the space is exhausted.
        seed: of the starting vectors.
        progress: called with the products made so far and `steps`.

    Raises:
        ValueError: if `k` is not a count or more than there are, or another argument out of range.

    Example:
        >>> pairs = lanczos(torch.diag(torch.tensor([1.0, 5.0, -7.0, 2.0])), 2)
        >>> [round(value, 4) for value in pairs.values.tolist()]
        [5.0, 2.0]
    """
    op = as_operator(operator)
    known = ("largest", "smallest", "magnitude", "both")
    require(which in known, "lanczos: which", f"one of {', '.join(known)}", which, "choose one")
    require_count("lanczos: k", k, "ask for at least one eigenvalue")
    wanted = 2 * k if which == "both" else k
    require(
        wanted <= op.dim, "lanczos: k", f"at most {op.dim * k // wanted}", k, "ask for fewer pairs"
    )
    require_count("lanczos: block", block, "start from at least one vector")
    require_positive("lanczos: tol", tol, "pass a residual in units of the eigenvalue")
    limit = max(100, 10 * wanted) if steps is None else steps
    require_count("lanczos: steps", limit, "pass the most products to make")
    require(
        limit >= min(wanted, op.dim), "lanczos: steps", f"at least {wanted}", limit, "raise steps"
    )
    limit = min(limit, op.dim)

    generator = torch.Generator().manual_seed(seed)
    starts = [op.probe(generator, gaussian=True) for _ in range(min(block, op.dim))]
    krylov = Krylov(op, torch.stack(starts), limit)
    while True:
        if not krylov.step() and krylov.size == krylov.done:
            # The basis spans an invariant subspace: go on outside it.
            while krylov.size < len(krylov.basis):
                if krylov.add(op.probe(generator, gaussian=True)):
                    break
        m = krylov.done
        if progress is not None:
            progress(m, limit)
        if m < wanted or (_CHECKED_EACH < m < limit and m % 5):
            continue
        values, coordinates, residuals = krylov.pairs()
        chosen = _chosen(values, k, which)
        allowed = _allowed(values[chosen], float(values.abs().max()), tol, op)
        converged = bool((residuals[chosen] <= allowed).all())
        if converged or m == limit:
            break
    if not converged:
        _warn("lanczos", float(residuals[chosen].max()), limit, "steps")
    vectors = krylov.basis[:m].T @ coordinates[:, chosen].to(krylov.basis)
    return Eigenpairs(values[chosen], vectors, residuals[chosen], converged, m)


def power_iteration(
    operator: Operator | Tensor,
    *,
    which: Which = "magnitude",
    max_iter: int = 100,
    tol: float = 1e-3,
    seed: int = 0,
    progress: Progress | None = None,
) -> Eigenpairs:
    """One extreme eigenvalue and its eigenvector, by power iteration.

    Takes the memory of two vectors, and many more products than `lanczos`: the error shrinks by
    the ratio of the two largest absolute eigenvalues a step. For "largest" and "smallest" the
    iteration first finds the eigenvalue of largest magnitude; if that is at the other end, it
    iterates again with the operator shifted by it, which is slower still.

    Args:
        operator: an operator, or a symmetric matrix.
        which: "magnitude" (as PyHessian; the eigenvalue keeps its sign), "largest" or "smallest".
        max_iter: the most products to make. PyHessian's default.
        tol: the largest residual to accept, as in `lanczos`. PyHessian stops at the same number for
            the relative change of the eigenvalue, which slow convergence passes too.
        seed: of the starting vector.
        progress: called with the products made so far and `max_iter`.

    Raises:
        ValueError: if `which` is unknown, `max_iter` not a count or `tol` not positive.

    Example:
        >>> matrix = torch.diag(torch.tensor([1.0, 5.0, -7.0]))
        >>> [round(power_iteration(matrix, which=w).value, 3) for w in ("magnitude", "largest")]
        [-7.0, 5.0]
    """
    op = as_operator(operator)
    known = ("magnitude", "largest", "smallest")
    name = "power_iteration: which"
    require(which in known, name, f"one of {', '.join(known)}", which, "choose one")
    require_count("power_iteration: max_iter", max_iter, "pass the most products to make")
    require_positive("power_iteration: tol", tol, "pass a residual in units of the eigenvalue")
    generator = torch.Generator().manual_seed(seed)

    made, shift, scale, turned = 0, 0.0, 0.0, False
    vector = op.probe(generator, gaussian=True)
    vector = vector / vector.norm()
    while True:
        image = op.matvec(vector)
        value = float(vector.double() @ image.double())
        require_finite_product(image)
        residual = float((image - value * vector).norm())
        made += 1
        scale = max(scale, abs(value), float(image.norm()))
        if progress is not None:
            progress(made, max_iter)
        converged = residual <= float(_allowed(image.new_tensor(value), scale, tol, op))
        if converged and not turned and _other_end(which, value):
            shift, turned = value, True  # from here on, distance from this eigenvalue is what grows
            vector = op.probe(generator, gaussian=True)
            vector = vector / vector.norm()
            if made < max_iter:
                continue
            converged = False
        if converged or made == max_iter:
            break
        following = image - shift * vector
        vector = following / following.norm()
    if not converged:
        _warn("power_iteration", residual, max_iter, "max_iter")
    return Eigenpairs(
        torch.tensor([value], dtype=torch.float64),
        vector[:, None],
        torch.tensor([residual], dtype=torch.float64),
        converged,
        made,
    )


def _allowed(values: Tensor, norm: float, tol: float, operator: Operator) -> Tensor:
    """The largest residuals to accept. Of the norm, no less than rounding makes unavoidable."""
    rounding = 16.0 * torch.finfo(operator.dtype).eps * operator.dim**0.5
    return (tol * values.abs()).clamp(min=max(tol * tol, rounding) * norm)


def _other_end(which: Which, value: float) -> bool:
    return (which == "largest" and value < 0.0) or (which == "smallest" and value > 0.0)


def _chosen(values: Tensor, k: int, which: str) -> Tensor:
    """Indices into ascending values, the wanted first."""
    if which == "smallest":
        return torch.arange(k)
    if which == "magnitude":
        return values.abs().argsort(descending=True, stable=True)[:k]
    largest = torch.arange(len(values) - 1, len(values) - 1 - k, -1)
    return torch.cat([largest, torch.arange(k)]) if which == "both" else largest


def _warn(name: str, residual: float, limit: int, argument: str) -> None:
    warnings.warn(
        f"{name}: a residual is still {residual:.3g} after {limit} products; raise {argument} or "
        "tol, or read the residuals of the result as error bars.",
        ConvergenceWarning,
        stacklevel=3,
    )
