r"""Decay as an average: which of the past updates the weights are made of.

The steps ``w <- a_t w - s_t u_t`` of any rule that removes a fraction, ``a_t = 1 - d_t``, unroll to

    w_T = (prod a_t) w_0 - sum_i c_i u_i        c_i = s_i prod_{j>i} a_j

At constant lr the c_i are an exponential moving average with timescale 1/d. Under a schedule they
are not, and the same ``weight_decay`` averages over very different stretches of the training.

Source: Wang & Aitchison, "How to set AdamW's weight decay as you scale model and dataset size",
ICML 2025, at constant lr; the c_i of a schedule: Bergsma et al., "Straight to zero", 2025.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import is_number, require

__all__ = ["Averaging", "averaging"]


@dataclass(frozen=True)
class Averaging:
    """What the weights after T steps are made of; see `averaging`.

    Args:
        coefficients: ``c_i``, multiples of the update directions. Shape ``[T]``, float64, unit lr.
        survival: ``prod a_t``, the multiple of the initial weights.
        total_decay: ``K``, the sum of the fractions; the survival is about ``exp(-K)``.
    """

    coefficients: Tensor
    survival: float
    total_decay: float

    @property
    def effective_updates(self) -> float:
        """``n_eff = (sum c)^2 / sum c^2``: updates in a plain average that averages as much.

        Example:
            >>> averaging([0.0] * 4, [0.1] * 4).effective_updates
            4.0
        """
        c = self.coefficients / self.coefficients.max()  # squares of tiny ones must not underflow
        return float(c.sum() ** 2 / c.square().sum())

    @property
    def effective_share(self) -> float:
        """``n_eff / T``: 1 if every step of the training counts the same."""
        return self.effective_updates / len(self.coefficients)

    @property
    def mean_position(self) -> float:
        """Where in the training the updates that count lie: 0 is its start, 1 its end.

        Update i of T lies at ``(i - 1/2) / T``, and counts by ``c_i``.

        Example:
            >>> averaging([0.0] * 4, [0.1] * 4).mean_position
            0.5
        """
        c, steps = self.coefficients, len(self.coefficients)
        position = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
        return float((c * position).sum() / c.sum())


def averaging(fractions: Iterable[float], sizes: Iterable[float]) -> Averaging:
    """Unroll the steps ``w <- (1 - d_t) w - s_t u_t``.

    `halflife.averaging_of` takes a rule and a schedule in place of the two.

    Args:
        fractions: ``d_t``, share of each weight removed at each step, in [0, 1].
        sizes: ``s_t``, multiple of the update direction subtracted, at least 0. Unit: lr.

    Raises:
        ValueError: if the two differ in length, a value is out of range, or no step moves.

    Example:
        >>> result = averaging([0.5, 0.5], [1.0, 1.0])
        >>> result.coefficients.tolist(), result.survival, result.total_decay
        ([0.5, 1.0], 0.25, 1.0)
    """
    d, s = _column("fractions", fractions), _column("sizes", sizes)
    remedy = "pass one of each for every step"
    require(len(d) == len(s), "averaging: sizes", f"{len(d)} numbers", len(s), remedy)
    if ((d < 0) | (d > 1)).any():
        bad = float(d[(d < 0) | (d > 1)][0])
        require(False, "averaging: fractions", "in [0, 1]", bad, "a step cannot remove more")
    require(bool((s >= 0).all()), "averaging: sizes", ">= 0", float(s.min()), "pass lr per step")
    require(bool((s > 0).any()), "averaging: sizes", "not all zero", 0.0, "a step must move w")
    later = torch.cat([torch.ones(1, dtype=torch.float64), (1.0 - d).flip(0)[:-1]])
    kept = later.cumprod(0).flip(0)  # prod of a_j over j > i
    survival = math.exp(float(torch.log1p(-d).sum())) if bool((d < 1).all()) else 0.0
    return Averaging(s * kept, survival, float(d.sum()))


def _column(name: str, values: Iterable[float]) -> Tensor:
    name, remedy = f"averaging: {name}", "pass one per step"
    if not isinstance(values, Tensor):
        values = list(values)
        ok = all(is_number(v) for v in values)
        require(ok, name, "numbers", values, remedy)
    column = torch.as_tensor(values, dtype=torch.float64)
    ok = column.dim() == 1 and len(column) > 0 and bool(column.isfinite().all())
    require(ok, name, "finite numbers, one per step", tuple(column.shape), remedy)
    return column
