"""A Krylov basis that stays orthogonal, and the operator's matrix in it.

Ruhe's band form of Lanczos' method (1979): the k-th product is with the k-th basis vector, and what
of it lies outside the basis becomes the next vector. From one starting vector the matrix is
Lanczos' tridiagonal one, from b starting vectors it has b bands beside its diagonal.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .operators import Operator, require_finite_product

__all__ = ["Krylov"]


class Krylov:
    """The basis, grown by one product a step.

    Every new vector is made orthogonal to all others, twice: without this, eigenvalues that have
    converged come back as copies ("ghosts").

    Args:
        operator: the operator.
        starts: starting vectors, the rows of ``[b, dim]``.
        steps: the most products to make.
    """

    def __init__(self, operator: Operator, starts: Tensor, steps: int) -> None:
        rows = min(steps + len(starts), operator.dim)
        self.operator, self.done, self.size = operator, 0, 0
        self.basis = starts.new_empty(rows, operator.dim)
        # In float64 whatever the operator's dtype: it is small, and its eigenvalues are wanted.
        self.matrix = torch.zeros(rows, rows, dtype=torch.float64)
        for start in starts:
            self.add(start)

    def step(self) -> bool:
        """Multiply by the next basis vector; False if the product added no new direction."""
        k = self.done
        product = self.operator.matvec(self.basis[k])
        require_finite_product(product)
        within, rest = self._split(product)
        self.matrix[: self.size, k] = self.matrix[k, : self.size] = within.double().cpu()
        self.done += 1
        if self.size == len(self.basis):
            return True
        norm = float(rest.norm())
        if norm <= self._rounding(float(product.norm())):
            return False
        self.matrix[self.size, k] = self.matrix[k, self.size] = norm
        self.basis[self.size] = rest / norm
        self.size += 1
        return True

    def add(self, vector: Tensor) -> bool:
        """Add what a vector has outside the basis; False if that is nothing but rounding."""
        if self.size == len(self.basis):
            return False
        _, rest = self._split(vector)
        norm = float(rest.norm())
        if not norm > self._rounding(float(vector.norm())):
            return False
        self.basis[self.size] = rest / norm
        self.size += 1
        return True

    def pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ritz values in ascending order, their coordinates as columns, and their residual norms.

        The residual ``|A x - value x|`` bounds the distance to the nearest eigenvalue.
        """
        m = self.done
        values, coordinates = torch.linalg.eigh(self.matrix[:m, :m])
        return values, coordinates, (self.matrix[m : self.size, :m] @ coordinates).norm(dim=0)

    def _split(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        basis = self.basis[: self.size]
        within = basis @ vector
        rest = vector - within @ basis
        again = basis @ rest
        return within + again, rest - again @ basis

    def _rounding(self, norm: float) -> float:
        """What rounding may leave of a vector of this norm that lies within the basis."""
        return 10.0 * torch.finfo(self.basis.dtype).eps * self.operator.dim**0.5 * norm
