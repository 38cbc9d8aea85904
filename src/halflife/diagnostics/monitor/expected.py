"""What the random-walk model expects of a tensor's step, and of several tensors as one vector."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ...theory import equilibrium
from .quantities import Sums, ratio_of, root, tangential, times

__all__ = ["Expected", "expected", "joined"]


@dataclass(frozen=True)
class Expected:
    """What the random-walk model expects of a tensor; None where it says nothing.

    Args:
        elements: of the tensor.
        weights: the measured ||w||^2, by which tensors are weighed when they are joined.
        rms: of the weights.
        rotation: in radians.
        ratio: ||D|| / ||w||.
        share: ||d w|| / ||v||.
        cosine: of weights and update direction.
        decays: ||d w||^2.
    """

    elements: float
    weights: float
    rms: float | None = None
    rotation: float | None = None
    ratio: float | None = None
    share: float | None = None
    cosine: float | None = None
    decays: float = 0.0

    def as_dict(self) -> dict[str, float | None]:
        """By the names of the quantities."""
        radial = None if self.ratio is None else -(self.ratio**2) / 2.0  # the norm stays
        return {
            "weight_rms": self.rms,
            "update_ratio": self.ratio,
            "rotation": self.rotation,
            "decay_share": self.share,
            "update_radial": radial,
            "update_tangential": tangential(times(self.ratio, self.ratio), radial),
            "update_cosine": self.cosine,
        }


def expected(
    sums: Sums, fraction: float | None, lr: float, momentum: float | None, update_rms: float | None
) -> Expected:
    """The equilibrium of one tensor.

    Args:
        sums: of the tensor.
        fraction: that decay removes per step.
        lr: learning rate.
        momentum: of the update direction, as `halflife.bases.noise.Base`.
        update_rms: as there.

    Example:
        >>> expected(Sums(elements=1.0, weights=1.0), 1e-4, 1e-3, 0.0, 1.0).rotation  # sqrt(2 d)
        0.014142...
    """
    plain = Expected(sums.elements, sums.weights or 0.0)
    if not fraction or momentum is None or not 0.0 < fraction < 1.0:
        return plain
    # RMS of the weights over that of lr u
    size = equilibrium.rms(fraction, 1.0, momentum, 1.0)
    cosine = equilibrium.update_cosine(fraction, momentum)
    return Expected(
        plain.elements,
        plain.weights,
        rms=None if update_rms is None else lr * update_rms * size,
        rotation=equilibrium.rotation(fraction, momentum),
        ratio=math.sqrt(size**-2 + 2.0 * fraction * cosine / size + fraction**2),
        share=fraction * size,
        cosine=cosine,
        decays=fraction**2 * plain.weights,
    )


def joined(parts: Iterable[Expected]) -> Expected:
    """What is expected of several tensors as one vector, each as long as it was measured."""
    every = list(parts)
    elements, weights = sum(p.elements for p in every), sum(p.weights for p in every)
    decays = sum(p.decays for p in every)

    def mean(values: list[float | None], by: list[float]) -> float | None:
        total = sum(by)
        if not values or not total > 0.0 or any(v is None for v in values):
            return None
        return sum(v * b for v, b in zip(values, by, strict=True) if v is not None) / total

    by_weights = [p.weights for p in every]
    rms = mean([times(p.rms, p.rms) for p in every], [p.elements for p in every])
    rotation = mean([times(p.rotation, p.rotation) for p in every], by_weights)
    ratio = mean([times(p.ratio, p.ratio) for p in every], by_weights)
    # ||v||^2 = ||d w||^2 / share^2, and <w, u> = cos ||w|| ||v||
    directions: float | None = 0.0
    aligned: float | None = 0.0
    for p in every:
        if not p.share or directions is None or aligned is None:
            directions = aligned = None
            break
        directions += p.decays / p.share**2
        aligned += (p.cosine or 0.0) * math.sqrt(p.weights * p.decays) / p.share
    return Expected(
        elements,
        weights,
        root(rms),
        root(rotation),
        root(ratio),
        root(ratio_of(decays, directions)),
        ratio_of(aligned, root(times(weights, directions))),
        decays,
    )
