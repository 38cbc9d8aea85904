r"""Where each row of a landscape is lowest, between its columns.

Each row's errors e are averaged with weights that fall linearly to 0 at a distance h,

    s_c = sum_k K((x_c - x_k) / h) e_k / sum_k K((x_c - x_k) / h),    K(u) = 1 - |u|,

with x = log weight_decay. The width h is in log units, a factor of 6 in weight decay: a finer grid
puts more columns into it, and the bottom of the row becomes more certain. On a coarse grid it is
two columns, and the weights (1, 2, 1)/4. The bottom is the lowest s_c, refined by the parabola
through it and the points half a width to either side.

Errors count up to a cap above the lowest of their row, lest a cliff push the bottom aside: the
depth of a typical valley, or 8 standard errors of a cell where that is more. The depth is the rise
at a factor of 20 in weight decay from the lowest cell of a row, on whichever side rises less (the
other may be the cliff), in the median over the better half of the rows: those whose learning rate
hardly trains have no valley to speak of.

All is in units of the errors' own differences: ``a * errors + b`` with a > 0 has the same bottoms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["BoolArray", "FloatArray", "Valleys", "valleys"]

FloatArray: TypeAlias = NDArray[np.float64]
BoolArray: TypeAlias = NDArray[np.bool_]

WIDTH = 1.75  # of the weights, in log units; at least two columns
REACH = 3.0  # log units from the bottom at which the depth is taken
CAP = 1.0  # errors count up to this multiple of the depth above the lowest of their row,
CAP_NOISE = 8.0  # or this many standard errors of a cell
_FLAT = 1e-9  # a rise below this share of the depth is rounding


@dataclass(frozen=True, eq=False)
class Valleys:
    """What the bottoms of a landscape are found by, the same for all that is redrawn from it.

    Attributes:
        x: log weight decay of the columns, rising; shape (C,).
        valid: cells that have an error; shape (R, C).
        depth: rise of a typical valley.
        cap: above the lowest error of their row, that errors count up to.
        weights: of a row's errors in each smoothed one; shape (R, C, C), 0 from cells not valid.
        half: columns to either side of the lowest that the parabola goes through.
    """

    x: FloatArray
    valid: BoolArray
    depth: float
    cap: float
    weights: FloatArray
    half: int

    def bottoms(self, mean: FloatArray) -> tuple[FloatArray, FloatArray, BoolArray]:
        """Bottom of every row.

        Args:
            mean: errors, shape (..., R, C); any number where not valid.

        Returns:
            Coordinate of the bottom, the row's lowest error, and whether there is a valid cell on
            either side of the bottom; each of shape (..., R).
        """
        batch, (rows, columns) = mean.shape[:-2], self.valid.shape
        lowest = np.where(self.valid, mean, np.inf).min(-1)
        risen = np.minimum(mean - np.where(np.isfinite(lowest), lowest, 0.0)[..., None], self.cap)
        by_row = np.moveaxis(np.where(self.valid, risen, 0.0).reshape(-1, rows, columns), 1, 0)
        smooth = np.moveaxis(by_row @ self.weights.transpose(0, 2, 1), 0, 1)
        smooth = np.where(self.valid, smooth, np.inf)
        at = smooth.argmin(-1)
        if self.half == 0:  # fewer than three columns
            found = self.x[at].reshape(*batch, rows)
            return found, lowest, np.zeros(found.shape, dtype=bool)
        middle = np.clip(at, self.half, columns - 1 - self.half)
        (x0, e0), (x1, e1), (x2, e2) = (
            (self.x[middle + k], np.take_along_axis(smooth, (middle + k)[..., None], -1)[..., 0])
            for k in (-self.half, 0, self.half)
        )
        with np.errstate(invalid="ignore", divide="ignore"):  # beside cells that are not valid
            left, right = (x1 - x0) * (e1 - e2), (x1 - x2) * (e1 - e0)
            vertex = x1 - 0.5 * ((x1 - x0) * left - (x1 - x2) * right) / (left - right)
            bend = ((e0 - e1) / (x0 - x1) - (e2 - e1) / (x2 - x1)) / (x0 - x2)
        holds = np.isfinite(vertex) & (bend > _FLAT * self.depth / WIDTH**2)
        vertex = np.where(holds, np.clip(vertex, x0, x2), self.x[at])
        seen = self.valid.cumsum(-1)
        inner = self.valid & (seen > 1) & (seen < seen[:, -1:])
        bounded = holds & inner[np.arange(rows), at]
        return vertex.reshape(*batch, rows), lowest, bounded.reshape(*batch, rows)


def valleys(mean: FloatArray, x: FloatArray, valid: BoolArray, noise: float) -> Valleys | None:
    """What the bottoms of a landscape are found by; None if no typical valley rises.

    Args:
        mean: errors, shape (R, C); any number where not valid.
        x: log weight decay of the columns, rising; shape (C,).
        valid: cells that may be used, shape (R, C); at least one.
        noise: standard error of a cell's mean; 0 where unknown.
    """
    depth = _depth(mean, x, valid)
    if depth <= 0.0:
        return None
    apart = float(np.median(np.diff(x))) if len(x) > 1 else WIDTH
    width = max(WIDTH, 2.0 * apart)
    kernel = np.maximum(1.0 - np.abs(x[:, None] - x) / width, 0.0) * valid[:, None, :]
    total = kernel.sum(-1, keepdims=True)
    half = min(max(round(0.5 * width / apart), 1), (len(x) - 1) // 2)
    cap = max(CAP * depth, CAP_NOISE * noise)
    return Valleys(x, valid, depth, cap, kernel / np.where(total > 0.0, total, 1.0), half)


def _depth(mean: FloatArray, x: FloatArray, valid: BoolArray) -> float:
    """Rise of a typical valley: see above."""
    lowest = np.where(valid, mean, np.inf).min(-1)
    better = lowest <= np.median(lowest[np.isfinite(lowest)])
    rises = []
    for errors, usable in zip(mean[better], valid[better], strict=True):
        at, e = x[usable], errors[usable]
        bottom = at[e.argmin()]
        sides = [s for s in (bottom - REACH, bottom + REACH) if at[0] <= s <= at[-1]]
        rises.append(float(np.interp(sides or [at[0], at[-1]], at, e).min() - e.min()))
    return float(np.median(rises))
