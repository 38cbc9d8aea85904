r"""Histograms of updates and weights in powers of two, as Zhuang et al. (2022, AdamProx) draw them.

Bin ``k`` holds ``2^k <= |x| < 2^(k+1)``, for ``k = -27 ... 0``: 28 bins, the outer ones with all
that is smaller or larger. What is counted of a step is ``|update| / lr`` with the decay left out,
over all parameters together. Steps of one size, whatever the gradients' scales, make a narrow
histogram; how narrow is told by

    spread     standard deviation of the bin numbers, in powers of two
    entropy    -sum p log2 p, in bits: 0 in one bin, log2(28) = 4.8 where all bins hold as much

Coordinates that never had a gradient (dead units, constant inputs) say nothing of the optimizer and
would reverse the comparison: AdamW's update of them is 0 (its decay, which is not counted, shrinks
them), Adam with L2 moves them by whole steps, its regularizer divided by itself. So only live ones
are counted: those whose second moment is above 0, or whose gradient is not 0 where L2 is in the
moments or there is none. The published figures count all: ``live=False``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from ..rules import facts
from ..tensors.reduction import real, shards
from ..units.reading import read_group

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "BINS",
    "Log2Histogram",
    "figure",
    "log2_histogram",
    "update_histogram",
    "weight_histogram",
]

BINS = tuple(range(-27, 1))  # lower ends, as exponents


@dataclass(frozen=True)
class Log2Histogram:
    """How many numbers each power of two holds.

    Args:
        counts: for each of `BINS`.
        left_out: coordinates that were not live.

    Example:
        >>> log2_histogram([torch.tensor([1.0, -0.5, 0.75, 0.25])]).spread
        0.70710...
    """

    counts: tuple[int, ...]
    left_out: int = 0

    @property
    def total(self) -> int:
        """Numbers counted."""
        return sum(self.counts)

    @property
    def proportions(self) -> tuple[float, ...]:
        """Shares of the bins; they add up to 1, or are 0 if nothing was counted."""
        return tuple(c / max(self.total, 1) for c in self.counts)

    @property
    def spread(self) -> float:
        """Standard deviation of the bin numbers; NaN if nothing was counted."""
        if not self.total:
            return math.nan
        shares, bins = np.array(self.proportions), np.array(BINS)
        mean = float(shares @ bins)
        return math.sqrt(float(shares @ (bins - mean) ** 2))

    @property
    def entropy(self) -> float:
        """In bits; NaN if nothing was counted."""
        shares = [p for p in self.proportions if p > 0.0]
        return math.nan if not shares else abs(sum(p * math.log2(p) for p in shares))

    def __add__(self, other: Log2Histogram) -> Log2Histogram:
        """Both together."""
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Log2Histogram(counts, self.left_out + other.left_out)

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "bins": list(BINS),
            "counts": list(self.counts),
            "left_out": self.left_out,
            "spread": self.spread,
            "entropy": self.entropy,
        }

    def __str__(self) -> str:
        tallest = max(self.proportions)
        lines = [
            f"{self.total:,} numbers, spread {self.spread:.3g}, entropy {self.entropy:.3g} bits"
        ]
        for exponent, share in zip(BINS, self.proportions, strict=True):
            bar = "#" * round(40 * share / tallest) if tallest else ""
            lines.append(f"2^{exponent:<4d} {share:7.2%} {bar}".rstrip())
        return "\n".join(lines)


@torch.no_grad()
def log2_histogram(
    tensors: Iterable[Tensor], scale: float = 1.0, live: Iterable[Tensor] | None = None
) -> Log2Histogram:
    """Count ``|x| / scale`` by its power of two, exactly on the edges; 0 is in the lowest bin.

    Args:
        tensors: of any shapes. Of a DTensor this process's shard is counted. What is not finite is
            left out.
        scale: positive.
        live: masks of the tensors' shapes; only where they are true is counted.

    Raises:
        ValueError: if the scale is not positive.

    Example:
        >>> found = log2_histogram([torch.tensor([0.25, 0.2499, 2.0, 0.0])])
        >>> {k: c for k, c in zip(BINS, found.counts) if c}
        {-27: 1, -3: 1, -2: 1, 0: 1}
    """
    if not scale > 0.0:
        raise ValueError(f"scale={scale!r}: must be positive; pass the learning rate, or 1.")
    counts, left_out = torch.zeros(len(BINS), dtype=torch.int64), 0
    masks: Any = iter(live) if live is not None else None
    for tensor in tensors:
        x = real(shards([tensor.detach()])[0])
        x = (x if x.dtype is torch.float64 else x.float()).abs() / scale
        keep = x.isfinite()
        if masks is not None:
            keep &= shards([next(masks)])[0]
        # frexp is exact where a logarithm is not: x = m 2^e with m in [1/2, 1)
        mantissa, exponent = torch.frexp(x[keep])
        place = (exponent.long() - 1).masked_fill(mantissa == 0, BINS[0]).clamp(BINS[0], BINS[-1])
        counts += torch.bincount(place.view(-1) - BINS[0], minlength=len(BINS)).cpu()
        left_out += int(keep.numel() - keep.sum())
    return Log2Histogram(tuple(counts.tolist()), left_out)


def weight_histogram(optimizer: Optimizer) -> Log2Histogram:
    """Of all weights of an optimizer."""
    return log2_histogram(p for group in optimizer.param_groups for p in group["params"])


@torch.no_grad()
def update_histogram(
    optimizer: Optimizer, params: Iterable[Tensor] | None = None, *, live: bool = True
) -> Log2Histogram:
    """Of ``|update| / lr`` of the step just taken, without decay; call it before ``zero_grad()``.

    It comes from the state (``m_hat / D`` of Adam), so that digits are kept that are lost when an
    update is added to its weight. L2 regularization is inside, as it is in the state.

    Args:
        optimizer: after a step.
        params: those to count. Default: all; the paper leaves out batch norm.
        live: leave out coordinates that are dead, as the module says. False counts every one, as
            the published figures do: an update of 0 is in the lowest bin.

    Raises:
        ValueError: for others than Adam, AdamW, AdamDelta, and SGD with a plain momentum; give the
            weights' difference over a step to `log2_histogram` then.

    Example:
        >>> w = torch.nn.Parameter(torch.zeros(3))
        >>> w.grad = torch.tensor([1e-3, 5.0, 0.0])
        >>> optimizer = torch.optim.AdamW([w], eps=1e-30)
        >>> optimizer.step()
        >>> found = update_histogram(optimizer)  # the first steps of Adam have size 1
        >>> found.counts[-1] + found.counts[-2], found.left_out
        (2, 1)
        >>> update_histogram(optimizer, live=False).counts[0]
        1
    """
    chosen = None if params is None else {id(p) for p in params}
    updates: list[Tensor] = []
    alive: list[Tensor] = []
    for group in optimizer.param_groups:
        mine = [p for p in group["params"] if p.grad is not None]
        mine = [p for p in mine if chosen is None or id(p) in chosen]
        if not mine:
            continue
        updates += map(real, _directions(optimizer, group, mine))
        in_moments = bool(group.get("weight_decay")) and _is_l2(optimizer, group)
        for p in mine:
            moment: Any = None if in_moments else optimizer.state[p].get("exp_avg_sq")
            alive.append(real(p.grad if moment is None else moment) != 0)
    return log2_histogram(updates, live=alive if live else None)


def figure(histograms: Mapping[str, Log2Histogram]) -> Figure:
    """Histograms below each other, on one axis.

    Args:
        histograms: by title.

    Raises:
        ImportError: without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("figures need the extra 'plot': pip install torch-halflife[plot]") from (
            error
        )
    drawn = Figure(figsize=(7.0, 1.9 * len(histograms) + 0.5), layout="constrained")
    panels: Any = drawn.subplots(len(histograms), 1, sharex=True, sharey=True, squeeze=False)
    for panel, (title, found) in zip(panels.flat, histograms.items(), strict=True):
        panel.bar(BINS, found.proportions, width=1.0, align="edge", edgecolor="white")
        panel.set_title(
            f"{title}: spread {found.spread:.2f}, entropy {found.entropy:.2f} bits", fontsize=10
        )
        panel.grid(axis="y", alpha=0.3)
        panel.set_ylabel("proportion")
    panels.flat[-1].set_xlabel("log2 |x|")
    return drawn


def _is_l2(optimizer: Optimizer, group: dict[str, Any]) -> bool:
    rule = read_group(optimizer, group).rule
    return rule is None or rule.joins_gradient  # whatever it does, it may be in the moments


def _directions(optimizer: Optimizer, group: dict[str, Any], params: list[Tensor]) -> list[Tensor]:
    """The directions of the step taken, from the state that it has left."""
    states = [optimizer.state.get(p, {}) for p in params]
    cls = type(optimizer)
    if facts.fact("preconditioner", cls) and all("exp_avg" in state for state in states):
        metric = facts.preconditioner_column(optimizer, group, params)
        beta1 = float(group["betas"][0])
        # AdamDelta counts no steps: nothing can be corrected for them.
        corrections = [1.0 - beta1 ** float(s["step"]) if "step" in s else 1.0 for s in states]
        return [
            state["exp_avg"] / correction / d
            for state, correction, d in zip(states, corrections, metric, strict=True)
        ]
    buffers = [state.get("momentum_buffer") for state in states]
    plain = isinstance(optimizer, SGD) and group["momentum"] and not group["nesterov"]
    if plain and all(buffer is not None for buffer in buffers):
        return buffers
    raise ValueError(
        f"{cls.__name__}: its state does not tell its last update; give the weights' difference "
        "over a step to log2_histogram."
    )
