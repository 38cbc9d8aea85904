"""The density of an operator's eigenvalues, by stochastic Lanczos quadrature (SLQ)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...checks import require, require_count, require_positive
from .krylov import Krylov
from .operators import Operator, Progress, as_operator
from .trace import Estimate

__all__ = ["SpectralDensity", "spectral_density"]


@dataclass(frozen=True)
class SpectralDensity:
    """Eigenvalue density as point masses: one Gauss quadrature rule for each random vector.

    Attributes:
        nodes: ``[vectors, steps]`` in float64, where the masses are.
        weights: ``[vectors, steps]``, the masses; each row sums to 1.
        dim: number of eigenvalues.
        products: products with the operator that it took.
    """

    nodes: Tensor
    weights: Tensor
    dim: int
    products: int

    def mean(self, function: Callable[[Tensor], Tensor]) -> Estimate:
        """Mean of a function over the eigenvalues, ``tr f(A) / dim``.

        Exact for each vector's ``z^T f(A) z / dim`` if f is a polynomial of degree below twice the
        steps.

        Args:
            function: elementwise, from eigenvalues to values.
        """
        each = (self.weights * function(self.nodes)).sum(dim=1)
        return Estimate.of(each, self.products)

    def share(self, low: float = -math.inf, high: float = math.inf) -> Estimate:
        """Share of the eigenvalues within ``[low, high]``."""
        return self.mean(lambda x: ((x >= low) & (x <= high)).to(x.dtype))

    def curve(
        self, grid: Tensor | None = None, *, points: int = 1000, sigma: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """The density, smoothed by a Gaussian, on a grid: for a plot.

        Args:
            grid: ``[n]`` eigenvalues. Default: `points` from the smallest node to the largest and
                four `sigma` beyond.
            points: of the default grid.
            sigma: the Gaussian's standard deviation. Default: that of PyHessian,
                ``sqrt(1e-5 max(1, largest - smallest node))``.

        Raises:
            ValueError: if `points` is not a count or `sigma` not positive.
        """
        low, high = float(self.nodes.min()), float(self.nodes.max())
        width = math.sqrt(1e-5 * max(1.0, high - low)) if sigma is None else sigma
        require_positive("curve: sigma", width, "pass a width in units of the eigenvalues")
        require_count("curve: points", points, "pass the points of the grid")
        if grid is None:
            grid = torch.linspace(low - 4 * width, high + 4 * width, points, dtype=torch.float64)
        density = torch.zeros(len(grid), dtype=torch.float64)
        for node, weight in zip(self.nodes.flatten(), self.weights.flatten(), strict=True):
            density += weight * torch.exp(-0.5 * ((grid - node) / width) ** 2)
        return grid, density / (len(self.nodes) * width * math.sqrt(2.0 * math.pi))

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for a JSON file."""
        return {
            "nodes": self.nodes.tolist(),
            "weights": self.weights.tolist(),
            "dim": self.dim,
            "products": self.products,
        }


def spectral_density(
    operator: Operator | Tensor,
    *,
    vectors: int = 1,
    steps: int = 100,
    seed: int = 0,
    progress: Progress | None = None,
) -> SpectralDensity:
    """Eigenvalue density by stochastic Lanczos quadrature, with full re-orthogonalisation.

    From each random vector z of signs, `steps` Lanczos steps give the Gauss rule of the measure
    that z sees: mass ``<z, x_i>^2 / dim`` at each eigenvalue. Its mean over z is the density.
    Isolated eigenvalues are located well; within a bulk, positions are right on average only.

    Source: Ghorbani, Krishnan, Xiao, "An investigation into neural net optimization via Hessian
    eigenvalue density", ICML 2019; settings as PyHessian's.

    Args:
        operator: an operator, or a symmetric matrix.
        vectors: number of random vectors. With more than one, estimates have a standard error.
        steps: Lanczos steps for each; at most `dim` are made. Memory: as many vectors.
        seed: of the vectors.
        progress: called with the products made so far and ``vectors * steps``.

    Raises:
        ValueError: if `vectors` or `steps` is not a count.

    Example:
        >>> density = spectral_density(torch.diag(torch.tensor([0.0, 0.0, 0.0, 4.0])))
        >>> round(density.mean(lambda x: x).value, 6), round(density.share(low=1.0).value, 6)
        (1.0, 0.25)
    """
    op = as_operator(operator)
    require_count("spectral_density: vectors", vectors, "use at least one vector")
    require_count("spectral_density: steps", steps, "make at least one step")
    require(op.dim > 0, "operator: dim", "at least 1", op.dim, "pass an operator of some size")
    steps = min(steps, op.dim)
    generator = torch.Generator().manual_seed(seed)
    nodes = torch.zeros(vectors, steps, dtype=torch.float64)
    weights = torch.zeros(vectors, steps, dtype=torch.float64)
    products = 0
    for i in range(vectors):
        krylov = Krylov(op, op.probe(generator)[None], steps)
        while krylov.done < steps:
            more = krylov.step()
            products += 1
            if progress is not None:
                progress(products, vectors * steps)
            if not more:  # the rest of the space has no mass for this vector
                break
        values, coordinates, _ = krylov.pairs()
        nodes[i, : len(values)] = values
        nodes[i, len(values) :] = values[0]  # without mass
        weights[i, : len(values)] = coordinates[0] ** 2
    return SpectralDensity(nodes, weights, op.dim, products)
