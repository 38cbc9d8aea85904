r"""Where each row of a landscape is lowest, between its columns.

At column k a parabola is fitted to the row's errors e by weighted least squares,

    min_{v, b, a}  sum_c K((x_c - x_k) / h) (e_c - v - b (x_c - x_k) - a (x_c - x_k)^2)^2,

with x = log weight_decay and K(u) = 1 - u^2 inside the window |u| < 1. The half-width h is in log
units, so a finer grid puts more columns into it, and the bottom of the row becomes more certain
in proportion to the root of their number. From the column of lowest v, the lowest point
x_k - b / 2a of its parabola leads to the next, until the window stands around the bottom.

One guard, lest a cliff push the bottom aside: a cell counts with K times 1 - rise / cap, its rise
above the lowest of its row, and above the cap not at all. The cap is in units of the landscape: 1.5
times the depth of a typical valley, or 8 standard errors where noise makes that more. The depth is
the rise at one window from the lowest cell, on whichever side rises less; the other may be the
cliff. No such weights move the bottom of a parabola.

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

WIDTH = 3.0  # half-width of the window in log units: a factor of 20 in weight decay
LEAST_COLUMNS = 5  # it is widened until it holds so many,
CLEAR_RISE = 6.0  # and until a typical valley rises in it by so many standard errors of a cell
CAP = 1.5  # cells count up to this multiple of the depth above the lowest of their row,
CAP_NOISE = 8.0  # or this many standard errors of a cell
_STEPS = 3  # from the lowest column to the bottom
_FLAT = 1e-9  # a rise below this share of the depth is rounding


@dataclass(frozen=True, eq=False)
class Valleys:
    """The windows of one landscape, chosen once and the same for all that is redrawn from it.

    Attributes:
        x: log weight decay of the columns, rising; shape (C,).
        valid: cells that have an error; shape (R, C).
        usable: those of them below the cap; shape (R, C).
        depth: rise of a typical valley at one window from its lowest cell.
        weights: value, slope and curvature at each column from a row's errors, in units of the
            window; shape (R, 3, C, C), 0 from cells that are not usable.
        windows: half-width of the window around each column; shape (R, C).
    """

    x: FloatArray
    valid: BoolArray
    usable: BoolArray
    depth: float
    weights: FloatArray
    windows: FloatArray

    def bottoms(self, mean: FloatArray) -> tuple[FloatArray, FloatArray, BoolArray, FloatArray]:
        """Bottom of every row.

        Args:
            mean: errors, shape (..., R, C); any number where not valid.

        Returns:
            Coordinate of the bottom, the error there, whether there is one with a usable cell on
            either side, and the curvature; each of shape (..., R).
        """
        batch = mean.shape[:-2]
        rows, columns = self.valid.shape
        lowest = np.where(self.valid, mean, np.inf).min(-1, keepdims=True)
        lowest = np.where(np.isfinite(lowest), lowest, 0.0)
        rise = np.where(self.usable, mean - lowest, 0.0)
        by_row = np.moveaxis(rise.reshape(-1, rows, columns), 1, 0)
        weights = self.weights.reshape(rows, 3 * columns, columns)
        fit = np.moveaxis((by_row @ weights.transpose(0, 2, 1)).reshape(rows, -1, 3, columns), 0, 1)

        seen = self.valid.cumsum(-1)
        inner = (seen - self.valid > 0) & (seen[:, -1:] - seen > 0)
        edges = 0.5 * (self.x[1:] + self.x[:-1])
        at = np.where(self.usable, fit[:, :, 0], np.inf).argmin(-1)
        row = np.arange(rows)
        for step in range(_STEPS + 1):
            value, slope, bend = (
                np.take_along_axis(fit[:, :, i], at[..., None], -1)[..., 0] for i in range(3)
            )
            holds = bend > _FLAT * self.depth
            move = np.clip(np.where(holds, -slope / np.where(holds, 2.0 * bend, 1.0), 0.0), -1, 1)
            window = self.windows[row, at]
            bottom = self.x[at] + move * window
            if step < _STEPS:
                at = np.searchsorted(edges, bottom)
        value = value + move * (slope + move * bend)
        bounded = holds & inner[row, at] & (np.abs(move) < 1.0)
        return (
            bottom.reshape(*batch, rows),
            value.reshape(*batch, rows) + lowest[..., 0],
            bounded.reshape(*batch, rows),
            (bend / window**2).reshape(*batch, rows),
        )


def valleys(mean: FloatArray, x: FloatArray, valid: BoolArray, noise: float) -> Valleys | None:
    """The windows that suit a landscape; None if no typical valley rises.

    Args:
        mean: errors, shape (R, C); any number where not valid.
        x: log weight decay of the columns, rising; shape (C,).
        valid: cells that may be used, shape (R, C); at least one.
        noise: standard error of a cell's mean; 0 where unknown.
    """
    width, most = WIDTH, max(WIDTH, 0.5 * float(x[-1] - x[0]))
    reach = float(np.median(_windows(x, valid, width)[valid]))
    depth = _depth(mean, x, valid, reach)
    if depth <= 0.0:
        return None
    lowest = np.where(valid, mean, np.inf).min(-1, keepdims=True)
    rise = np.where(valid, mean - np.where(valid, lowest, 0.0), np.inf)
    trust = np.clip(1.0 - rise / max(CAP * depth, CAP_NOISE * noise), 0.0, None)
    usable = trust > 0.0
    while True:
        windows = _windows(x, usable, width)
        found = Valleys(x, valid, usable, depth, _parabolas(x, trust, windows), windows)
        curvature = np.median(found.bottoms(mean)[3][valid.any(-1)])
        if width >= most or curvature * width**2 >= CLEAR_RISE * noise:
            return found
        width = min(1.25 * width, most)


def _windows(x: FloatArray, valid: BoolArray, width: float) -> FloatArray:
    """Half-widths that hold enough usable columns; shape (R, C)."""
    apart = np.abs(x[:, None] - x)
    distances = np.sort(np.where(valid[:, None], apart, np.inf), axis=-1)
    have = np.minimum(valid.sum(-1), LEAST_COLUMNS) - 1
    least = distances[np.arange(len(valid)), :, np.maximum(have, 0)]
    return np.maximum(width, 1.25 * np.where(np.isfinite(least), least, 0.0))


def _parabolas(x: FloatArray, trust: FloatArray, windows: FloatArray) -> FloatArray:
    """Weights of the fitted parabolas, 0 with fewer than three columns; shape (R, 3, C, C)."""
    u = (x - x[:, None]) / windows[..., None]  # (R, centre, C)
    kernel = trust[:, None] * np.maximum(1.0 - u**2, 0.0)
    powers = np.stack([np.ones_like(u), u, u**2], axis=2)  # (R, centre, 3, C)
    normal = np.einsum("rkic,rkjc,rkc->rkij", powers, powers, kernel, optimize=True)
    enough = (kernel > 0.0).sum(-1) >= 3
    normal[~enough] = np.eye(3)
    weights = np.linalg.solve(normal, powers * kernel[:, :, None])
    weights[~enough] = 0.0
    return np.ascontiguousarray(weights.transpose(0, 2, 1, 3))


def _depth(mean: FloatArray, x: FloatArray, valid: BoolArray, reach: float) -> float:
    """Median over the rows of the rise at this distance from the lowest cell, on the lower side."""
    rises = []
    for errors, usable in zip(mean, valid, strict=True):
        if usable.any():
            at, e = x[usable], errors[usable]
            bottom = at[e.argmin()]
            sides = [s for s in (bottom - reach, bottom + reach) if at[0] <= s <= at[-1]]
            rises.append(float(np.interp(sides or [at[0], at[-1]], at, e).min() - e.min()))
    return float(np.median(rises))
