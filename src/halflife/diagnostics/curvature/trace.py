"""The trace of a symmetric operator, from its products with random vectors."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ...checks import require, require_count
from .operators import Operator, Progress, as_operator, require_finite_product

__all__ = ["Estimate", "hutch_pp", "hutchinson"]


@dataclass(frozen=True)
class Estimate:
    """A mean of independent random values.

    Attributes:
        value: the mean.
        standard_error: its standard error, from the scatter of the values; NaN for a single one.
        products: products with the operator that it took.
    """

    value: float
    standard_error: float
    products: int

    @classmethod
    def of(cls, values: Tensor, products: int, offset: float = 0.0) -> Estimate:
        """The mean of ``[n]`` values, plus what is known exactly."""
        n = len(values)
        error = float(values.std()) / math.sqrt(n) if n > 1 else math.nan
        return cls(offset + float(values.mean()), error, products)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for a JSON file."""
        return asdict(self)


def hutchinson(
    operator: Operator | Tensor,
    products: int = 30,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Estimate:
    """Trace as the mean of ``z^T A z`` over random signs z (Hutchinson 1990).

    Its variance is ``2 (|A|_F^2 - sum_i A_ii^2)`` over the number of products: exact for a diagonal
    matrix, slow where few eigenvalues dominate (see `hutch_pp`). The trace is that of a Hessian
    whose mean eigenvalue is trace / dim.

    Args:
        operator: an operator, or a symmetric matrix.
        products: how many vectors.
        seed: of the vectors.
        progress: called with the products made so far and `products`.

    Raises:
        ValueError: if `products` is not a count.

    Example:
        >>> hutchinson(torch.diag(torch.tensor([1.0, 2.0, -4.0]))).value
        -1.0
    """
    op = as_operator(operator)
    require_count("hutchinson: products", products, "use at least one vector")
    generator = torch.Generator().manual_seed(seed)
    values = torch.zeros(products, dtype=torch.float64)
    for i in range(products):
        probe = op.probe(generator)
        values[i] = _form(op, probe)
        if progress is not None:
            progress(i + 1, products)
    return Estimate.of(values, products)


def hutch_pp(
    operator: Operator | Tensor,
    products: int = 30,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Estimate:
    """Trace, exact on the dominant eigenvectors and estimated on the rest (Hutch++).

    A third of the products finds an orthonormal basis Q of the range of A S, S random signs; a
    third takes ``tr Q^T A Q`` exactly; the last third is Hutchinson's estimate of the rest. For a
    positive semidefinite operator the error falls as 1/products in place of 1/sqrt(products).

    Source: Meyer, Musco, Musco, Woodruff, "Hutch++: Optimal stochastic trace estimation", SOSA
    2021, Algorithm 1.

    Args:
        operator: an operator, or a symmetric matrix.
        products: the most products to make, at least 3. From ``3 dim`` on, the result is exact.
        seed: of the vectors.
        progress: called with the products made so far and `products`.

    Raises:
        ValueError: if `products` is below 3.

    Example:
        >>> matrix = torch.ones(20, 20)  # of rank one: the basis holds all of it
        >>> round(hutch_pp(matrix, 6).value, 3)
        20.0
    """
    op = as_operator(operator)
    require_count("hutch_pp: products", products, "use at least three")
    require(
        products >= 3, "hutch_pp: products", "at least 3", products, "use a third for each part"
    )
    generator = torch.Generator().manual_seed(seed)
    made = 0

    def times(vector: Tensor) -> Tensor:
        nonlocal made
        made += 1
        product = op.matvec(vector)
        require_finite_product(product)
        if progress is not None:
            progress(made, products)
        return product

    third = min(products // 3, op.dim)
    sketch = torch.stack([times(op.probe(generator)) for _ in range(third)], dim=1)
    basis, _ = torch.linalg.qr(sketch)
    exact = sum(float(q.double() @ times(q.contiguous()).double()) for q in basis.T)
    if third == op.dim:
        return Estimate(exact, 0.0, made)
    values = torch.zeros(products - 2 * third, dtype=torch.float64)
    for i in range(len(values)):
        probe = op.probe(generator)
        rest = probe - basis @ (basis.T @ probe)
        values[i] = float(rest.double() @ times(rest).double())
    return Estimate.of(values, made, exact)


def _form(operator: Operator, vector: Tensor) -> float:
    product = operator.matvec(vector)
    require_finite_product(product)
    return float(vector.double() @ product.double())
