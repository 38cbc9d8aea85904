"""Where the best weight decay lies, and how it moves with something else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..statistics.ridge import fit_ridge
from ..statistics.valley import FloatArray

__all__ = ["moving", "shifted"]


def moving(scale: Sequence[float], weight_decays: Sequence[float]) -> Callable[[FloatArray], float]:
    """Slope of the log of the best weight decay on that of a scale.

    The function takes errors of shape ``[seeds, scale, weight decays]``. Each row has its own
    lowest error: what is compared is where it lies.
    """

    def slope(errors: FloatArray) -> float:
        risen = errors - errors.mean(0).min(-1)[None, :, None]
        rows, columns = np.array(scale, float), np.array(weight_decays)
        order = np.argsort(rows)
        found = fit_ridge(rows[order], columns, risen[:, order].transpose(1, 2, 0)).slope
        return float("nan") if found is None else found

    return slope


def shifted(
    errors: FloatArray, weight_decays: Sequence[float], scale: Sequence[float], slope: float
) -> FloatArray:
    """Valleys whose bottoms move with a known slope, with the noise that was measured."""
    x = np.log(weight_decays)
    bottoms = x.mean() + slope * np.log(np.array(scale) / np.exp(np.log(scale).mean()))
    noise = errors - errors.mean(0)
    return np.asarray(noise + (x[None] - bottoms[:, None]) ** 2)
