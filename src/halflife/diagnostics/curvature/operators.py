"""What the algorithms of this package work on: symmetric linear maps, known by their products.

A model's Hessian is one (`halflife.diagnostics.curvature.hessian`), and so is a matrix: every
algorithm accepts a two-dimensional tensor too, which is how they are tested on known spectra.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from ...checks import require, require_count

__all__ = [
    "ConvergenceWarning",
    "Matrix",
    "Operator",
    "Progress",
    "as_operator",
    "dense",
    "require_finite_product",
]

Progress: TypeAlias = Callable[[int, int], object]
"""Called with the products made so far and the most there may be."""

_COLUMNS = 64  # products at once; more save little, and take memory


class ConvergenceWarning(RuntimeWarning):
    """An iteration ended before it reached its tolerance; its result says by how much."""


class Operator(ABC):
    """A real symmetric linear map on vectors of `dim` numbers.

    Attributes:
        dim: length of the vectors.
        dtype: of the vectors.
        device: of the vectors.
    """

    dim: int
    dtype: torch.dtype
    device: torch.device

    @abstractmethod
    def matvec(self, vector: Tensor) -> Tensor:
        """The product with a vector ``[dim]``."""

    def matmat(self, vectors: Tensor) -> Tensor:
        """The products with the columns of ``[dim, n]``."""
        return torch.stack([self.matvec(column) for column in vectors.T], dim=1)

    @property
    def shape(self) -> tuple[int, int]:
        """``(dim, dim)``."""
        return self.dim, self.dim

    def __matmul__(self, other: Tensor) -> Tensor:
        return self.matvec(other) if other.dim() == 1 else self.matmat(other)

    def probe(self, generator: torch.Generator, *, gaussian: bool = False) -> Tensor:
        """A random vector ``[dim]`` of independent entries with mean 0 and variance 1.

        Drawn on the CPU in float64, so that a seed means the same on every device.

        Args:
            generator: where the draws come from.
            gaussian: normal entries in place of +1 and -1.
        """
        if gaussian:
            drawn = torch.randn(self.dim, dtype=torch.float64, generator=generator)
        else:
            drawn = torch.randint(2, (self.dim,), generator=generator).mul_(2).sub_(1)
        return drawn.to(self.device, self.dtype)


class Matrix(Operator):
    """A symmetric matrix ``[dim, dim]``.

    Raises:
        ValueError: if it is no square matrix of real floating-point numbers, or not symmetric.

    Example:
        >>> (Matrix(torch.tensor([[2.0, 1.0], [1.0, 2.0]])) @ torch.tensor([1.0, 1.0])).tolist()
        [3.0, 3.0]
    """

    def __init__(self, matrix: Tensor) -> None:
        shape = tuple(matrix.shape)
        if len(shape) != 2 or shape[0] != shape[1] or not shape[0]:
            raise ValueError(f"matrix has shape {shape}; pass a square matrix of at least one row.")
        if not matrix.is_floating_point():
            raise ValueError(f"matrix has dtype {matrix.dtype}; pass a real floating-point one.")
        # Every entry is a sum of up to dim products: that much may rounding have told them apart.
        slack = shape[0] * torch.finfo(matrix.dtype).eps * matrix.abs().max()
        if not bool((matrix - matrix.T).abs().max() <= slack):
            raise ValueError(
                "matrix is not symmetric; pass (matrix + matrix.T) / 2 if it should be."
            )
        self.matrix, self.dim = matrix, shape[0]
        self.dtype, self.device = matrix.dtype, matrix.device

    def matvec(self, vector: Tensor) -> Tensor:
        """The product with a vector ``[dim]``."""
        return self.matrix @ vector

    def matmat(self, vectors: Tensor) -> Tensor:
        """The products with the columns of ``[dim, n]``."""
        return self.matrix @ vectors


def as_operator(operator: Operator | Tensor) -> Operator:
    """An operator as it is, a tensor as a `Matrix`.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(operator, Operator):
        return operator
    if isinstance(operator, Tensor):
        return Matrix(operator)
    raise TypeError(
        f"operator is a {type(operator).__name__}; pass a Hessian, another Operator or a matrix."
    )


def require_finite_product(product: Tensor) -> None:
    """Refuse to go on with a product that holds NaN or infinity.

    Raises:
        ValueError: if it does.
    """
    if not bool(product.isfinite().all()):
        raise ValueError(
            "a product with the operator holds NaN or infinity; check the weights, the data and "
            "the loss, or compute in float64."
        )


def dense(operator: Operator | Tensor, *, max_dim: int = 3000) -> Tensor:
    """The operator's matrix ``[dim, dim]``, by its products with the unit vectors.

    Its eigenvalues are ``torch.linalg.eigvalsh`` of it. Rounding breaks its symmetry a little, so
    the mean of the matrix and its transpose is returned.

    Args:
        operator: an operator, or a symmetric matrix.
        max_dim: the largest size to accept: time grows as its square for the matrix and as its cube
            for the eigenvalues, memory as its square.

    Raises:
        ValueError: if the operator is larger than that.

    Example:
        >>> from halflife.diagnostics.curvature import Hessian
        >>> cube = Hessian(lambda p: (p["w"] ** 3).sum(), {"w": torch.tensor([1.0, 2.0])})
        >>> dense(cube).tolist()
        [[6.0, 0.0], [0.0, 12.0]]
    """
    op = as_operator(operator)
    require_count("dense: max_dim", max_dim, "pass the largest size to accept")
    require(
        op.dim <= max_dim,
        "dense: operator's dim",
        f"at most {max_dim}",
        op.dim,
        "use lanczos for its ends and spectral_density for the rest, or raise max_dim",
    )
    matrix = torch.empty(op.dim, op.dim, dtype=op.dtype, device=op.device)
    for start in range(0, op.dim, _COLUMNS):
        columns = torch.arange(start, min(start + _COLUMNS, op.dim), device=op.device)
        units = torch.zeros(op.dim, len(columns), dtype=op.dtype, device=op.device)
        units[columns, torch.arange(len(columns), device=op.device)] = 1.0
        matrix[:, columns] = op.matmat(units)
    return (matrix + matrix.T) / 2
