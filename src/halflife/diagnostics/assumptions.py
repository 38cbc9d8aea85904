r"""What convergence theorems assume of a problem, measured on a network along its path.

    smoothness      |grad f_b(x) - grad f_b(x')| <= L |x - x'|       on every batch b
    gradients       |g_b|_inf <= c          E |g_b - grad F|^2 <= sigma^2
    PL condition    2 mu (F(x) - min F) <= |grad F(x)|^2

What is found are the least L, c and sigma, and the largest mu, with which these hold **at the
points and between neighbours that were looked at**. The assumptions ask for all points, so true
constants are no better: L, c and sigma are lower bounds of theirs, mu an upper one. The minimum of
F is not known for a network; 0 bounds it from below for the usual losses, and makes mu smaller.

Source: Zhou et al., "Towards understanding convergence and generalization of AdamW", TPAMI 2024,
Assumptions 1 to 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import require, require_finite
from ..theory.convergence import Problem
from .batch_gradients import BatchGradients, Mode

__all__ = ["Assumptions", "measure_assumptions"]


@dataclass(frozen=True)
class Assumptions:
    """What `measure_assumptions` found; a "sample" of the theorems is a batch here.

    Args:
        smoothness: L, largest over batches and neighbouring points; NaN for a single point.
        gradient_bound: c, the largest entry of any batch's gradient.
        noise: sigma, the root of the largest mean over batches of ``|g_b - grad F|^2``.
        pl: mu, the smallest over the points; NaN if all are at the minimum.
        gap: F at the first point less the minimum.
        losses: F at each point.
        gradients: |grad F| at each point.
        batches: that were used, all of the same size.
        dropped: rows of batches of another size, which were left out.
    """

    smoothness: float
    gradient_bound: float
    noise: float
    pl: float
    gap: float
    losses: tuple[float, ...]
    gradients: tuple[float, ...]
    batches: int
    dropped: int

    def problem(
        self, *, delta: float, weight_decay: float = 0.0, initial_norm: float = 0.0
    ) -> Problem:
        """The constants as the theorems take them, with AdamW's settings on the problem.

        Args:
            delta: as in `halflife.theory.convergence.Problem`.
            weight_decay: as there.
            initial_norm: as there.

        Raises:
            ValueError: as there, and if smoothness is unknown, as of a single point.

        Example:
            >>> found = Assumptions(2.0, 1.0, 0.5, 0.1, 3.0, (3.0, 2.0), (1.0, 0.5), 4, 0)
            >>> found.problem(delta=3.0).c2
            2.0
        """
        return Problem(
            smoothness=self.smoothness,
            gradient_bound=self.gradient_bound,
            noise=self.noise,
            gap=self.gap,
            delta=delta,
            weight_decay=weight_decay,
            initial_norm=initial_norm,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def measure_assumptions(
    model: nn.Module,
    loss: Callable[[Any, Any], Tensor],
    data: Iterable[Any],
    points: Sequence[Mapping[str, Tensor]] = (),
    *,
    minimum: float = 0.0,
    mode: Mode = "eval",
) -> Assumptions:
    """The constants of the theorems on a model and its data, at given points.

    Every point takes a pass over the data. The gradients of all batches are kept from one point to
    the next where there are several points.

    Args:
        model: on the device of the data; left as it was.
        loss: ``loss(outputs, targets)``, the mean over the rows of a batch.
        data: batches, or one batch, as `halflife.diagnostics.curvature.hessian` takes them.
        points: state dicts, or parameters by name, in the order of the path: snapshots of a
            training. What one lacks is the model's own; buffers are the model's. Default: the
            model as it is.
        minimum: of F, or a bound on it.
        mode: "eval", in which a batch's rows do not depend on each other, or "train".

    Raises:
        ValueError: for another mode, without batches, if a batch is no pair, if no parameter
            requires a gradient, if a point has none of them or another shape, or if F is below
            `minimum` somewhere.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> batches = [(torch.tensor([[x]]), torch.zeros(1, 1)) for x in (1.0, 2.0)]
        >>> path = [{"weight": torch.tensor([[w]])} for w in (2.0, 1.0)]
        >>> half = lambda outputs, targets: 0.5 * nn.functional.mse_loss(outputs, targets)
        >>> found = measure_assumptions(model, half, batches, path)  # of w: x^2 w, 1 and 4
        >>> found.smoothness, found.gradient_bound, found.noise, found.pl, found.gap
        (4.0, 8.0, 3.0, 2.5, 5.0)
    """
    require_finite("measure_assumptions: minimum", minimum, "pass 0, or the least loss there is")
    batches = BatchGradients(model, loss, data, mode)
    names = batches.params
    for number, point in enumerate(points):
        known = point.keys() & names.keys()
        what = f"measure_assumptions: point {number}"
        remedy = f"pass tensors by names such as {next(iter(names))!r}"
        require(bool(known), what, "of the model's parameters", sorted(point)[:3], remedy)
        for name in known:
            shape, wanted = tuple(point[name].shape), tuple(names[name].shape)
            require(shape == wanted, f"{what}: {name}", f"of shape {wanted}", shape, "pass another")

    smoothness, largest, noise, pl = (math.nan, 0.0, 0.0, math.nan)
    losses: list[float] = []
    sizes: list[float] = []
    before: list[Tensor] = []
    last: Tensor | None = None
    count = 0
    for point in points or ({},):
        x = _flat(point.get(name, p).detach().to(p) for name, p in names.items())
        now, values, mean, squares = _at(batches, point, keep=len(points) > 1)
        count = len(values)
        if not count:
            raise ValueError("data: holds no batch; pass the training set.")
        value, size = sum(values) / count, float(mean.norm())
        remedy = f"F is {value:.6g} at a point"
        require(value >= minimum, "measure_assumptions: minimum", "a bound on F", minimum, remedy)
        losses.append(value)
        sizes.append(size)
        largest = max(largest, squares.largest)
        noise = max(noise, squares.total / count - size**2)
        if value > minimum:
            mu = size**2 / (2.0 * (value - minimum))
            pl = mu if math.isnan(pl) else min(pl, mu)
        distance = 0.0 if last is None else float((x - last).norm())
        if distance > 0.0:
            steepest = max(float((a - b).norm()) for a, b in zip(now, before, strict=True))
            found = steepest / distance
            smoothness = found if math.isnan(smoothness) else max(smoothness, found)
        before, last = now, x
    return Assumptions(
        smoothness,
        largest,
        math.sqrt(max(noise, 0.0)),
        pl,
        losses[0] - minimum,
        tuple(losses),
        tuple(sizes),
        count,
        batches.dropped,
    )


@dataclass
class _Sizes:
    """Of the gradients at one point: the largest entry, and the sum of squared norms."""

    largest: float = 0.0
    total: float = 0.0


def _at(
    batches: BatchGradients, point: Mapping[str, Tensor], *, keep: bool
) -> tuple[list[Tensor], list[float], Tensor, _Sizes]:
    """Each batch's gradient if they are to be kept and its loss, the mean gradient, and sizes."""
    kept: list[Tensor] = []
    values: list[float] = []
    sizes = _Sizes()
    total = torch.zeros(())

    def visit(value: Tensor, grads: tuple[Tensor, ...]) -> None:
        nonlocal total
        g = _flat(grads)
        total = total.to(g) + g
        sizes.largest = max(sizes.largest, float(g.abs().max()))
        sizes.total += float(g.square().sum())
        values.append(float(value))
        if keep:
            kept.append(g)

    batches.visit(visit, point or None)
    return kept, values, total / max(len(values), 1), sizes


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
