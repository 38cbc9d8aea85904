r"""What is measured of a step, and what the random-walk model predicts for it.

Of a step ``w' = w + D``, with ``v = D + d w`` the part of it that is not decay, and of gradients
``g``, for each tensor and for any set of tensors taken as one long vector:

    weight_rms                ||w|| / sqrt(n)
    gradient_norm             ||g||
    weight_gradient_product   ||w|| ||g||, which does not change with ||w|| if the loss does not
    update_ratio              ||D|| / ||w||
    rotation                  angle between w and w', in radians
    decay_share               ||d w|| / ||v||, decay against the rest of the update
    settled                   1 - exp(-2 sum of d): how far squared norms have relaxed
    update_radial             <w, D> / ||w||^2
    update_tangential         ||D - w <w, D>/||w||^2|| / ||w||
    update_cosine             cos(w, u), u = -v the update direction
    gradient_cosine           cos(w, g): 0 where the loss does not change with ||w||
    cautious_fraction         share of elements with w u >= 0, where cautious decay would act
    lost_decay                share of half-precision weights unchanged by w - d w, rounded
    constraint_use            (d / lr) max |w|: AdamW and Lion keep it below 1 in the long run

The angle is ``2 asin(c/2)`` with ``c`` the distance of the two unit vectors,

    c^2 = (||D||^2 - (||w'|| - ||w||)^2) / (||w|| ||w'||)
    ||w'|| - ||w|| = (2 <w,D> + ||D||^2) / (||w|| + ||w'||)

which keeps its digits where an arccos in float32 has none. Predictions are those of
`halflife.theory.equilibrium` at the current learning rate; norms relax to them in some ``1/(2 d)``
steps.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any

__all__ = [
    "COMPARED",
    "PREDICTED",
    "PRESETS",
    "Sums",
    "measured",
    "quantities_of",
    "ratio_of",
    "root",
    "tangential",
    "times",
]

_ECONOMY = (
    "weight_rms",
    "gradient_norm",
    "weight_gradient_product",
    "update_ratio",
    "rotation",
    "decay_share",
    "settled",
)
_STANDARD = (
    *_ECONOMY,
    "update_radial",
    "update_tangential",
    "update_cosine",
    "gradient_cosine",
    "lost_decay",
)
# In the order of their columns.
PRESETS: dict[str, tuple[str, ...]] = {
    "economy": _ECONOMY,
    "standard": _STANDARD,
    "full": (*_STANDARD, "cautious_fraction", "constraint_use"),
}
# Of the step itself, for which the weights before it are kept.
_OF_UPDATES = (
    "update_ratio",
    "rotation",
    "decay_share",
    "update_radial",
    "update_tangential",
    "update_cosine",
)
PREDICTED = ("weight_rms", *_OF_UPDATES)
COMPARED = frozenset({*_OF_UPDATES, "lost_decay"})


def quantities_of(preset: str | Collection[str]) -> tuple[str, ...]:
    """The quantities that a preset names, or those given, in the order of their columns.

    Raises:
        ValueError: if the preset or a quantity is unknown.

    Example:
        >>> quantities_of({"rotation", "weight_rms"})
        ('weight_rms', 'rotation')
    """
    everything = PRESETS["full"]
    if isinstance(preset, str):
        if preset not in PRESETS:
            raise ValueError(
                f"preset={preset!r}: must be one of {', '.join(PRESETS)}; or pass the names of "
                "quantities."
            )
        return PRESETS[preset]
    if unknown := [name for name in preset if name not in everything]:
        raise ValueError(
            f"preset: unknown quantity {unknown[0]!r}; choose of {', '.join(everything)}."
        )
    return tuple(name for name in everything if name in preset)


@dataclass(slots=True)
class Sums:
    """Sums over the elements of one tensor, or of several. None where one is not known."""

    elements: float = 0.0
    weights: float | None = 0.0  # ||w||^2
    gradients: float | None = 0.0  # ||g||^2
    updates: float | None = 0.0  # ||D||^2
    along: float | None = 0.0  # <w, D>
    directions: float | None = 0.0  # ||v||^2
    aligned: float | None = 0.0  # <w, v>
    decays: float | None = 0.0  # ||d w||^2
    uphill: float | None = 0.0  # <w, g>
    active: float | None = 0.0  # elements with w u >= 0
    halves: float = 0.0  # weights in half precision, other than 0
    lost: float | None = 0.0  # those that decay leaves as they are
    constraint: float | None = 0.0  # (d / lr) max |w|

    def __add__(self, other: Sums) -> Sums:
        """Sums over both."""
        total: dict[str, Any] = {}
        for field in fields(self):
            a, b = getattr(self, field.name), getattr(other, field.name)
            join = max if field.name == "constraint" else float.__add__
            total[field.name] = None if a is None or b is None else join(a, b)
        return Sums(**total)

    def split(self, fraction: float | None) -> None:
        """Tell decay and the rest of the update apart, by the fraction that decay removed."""
        if fraction is None or self.weights is None:
            self.directions = self.aligned = self.decays = None
            return
        self.decays = fraction**2 * self.weights
        if self.updates is None or self.along is None:
            self.directions = self.aligned = None
            return
        self.directions = self.updates + 2.0 * fraction * self.along + self.decays
        self.aligned = self.along + fraction * self.weights


def measured(sums: Sums, settled: float | None = None) -> dict[str, float | None]:
    """Every quantity that the sums give.

    Example:
        >>> quarter_turn = Sums(elements=2, weights=1.0, updates=2.0, along=-1.0)
        >>> found = measured(quarter_turn)
        >>> round(found["rotation"], 6), found["update_radial"]  # pi / 2
        (1.570796, -1.0)
    """
    s = sums
    radial = ratio_of(s.along, s.weights)
    return {
        "weight_rms": root(ratio_of(s.weights, s.elements)),
        "gradient_norm": root(s.gradients),
        "weight_gradient_product": root(times(s.weights, s.gradients)),
        "update_ratio": root(ratio_of(s.updates, s.weights)),
        "rotation": _angle(s),
        "decay_share": root(ratio_of(s.decays, s.directions)),
        "settled": settled,
        "update_radial": radial,
        "update_tangential": tangential(ratio_of(s.updates, s.weights), radial),
        "update_cosine": ratio_of(times(-1.0, s.aligned), root(times(s.weights, s.directions))),
        "gradient_cosine": ratio_of(s.uphill, root(times(s.weights, s.gradients))),
        "cautious_fraction": ratio_of(s.active, s.elements),
        "lost_decay": ratio_of(s.lost, s.halves),
        "constraint_use": s.constraint,
    }


def _angle(s: Sums) -> float | None:
    if s.weights is None or s.updates is None or s.along is None:
        return None
    before, longer = math.sqrt(s.weights), 2.0 * s.along + s.updates
    if not (after := math.sqrt(max(s.weights + longer, 0.0))) or not before:
        return None
    growth = longer / (before + after)
    chord = max(s.updates - growth * growth, 0.0) / (before * after)
    return 2.0 * math.asin(min(math.sqrt(chord) / 2.0, 1.0))


def tangential(squared_ratio: float | None, radial: float | None) -> float | None:
    """The rest of a squared length beside its radial part."""
    if squared_ratio is None or radial is None:
        return None
    return math.sqrt(max(squared_ratio - radial * radial, 0.0))


def root(value: float | None) -> float | None:
    """Square root of what rounding may have made negative."""
    return None if value is None else math.sqrt(max(value, 0.0))


def ratio_of(a: float | None, b: float | None) -> float | None:
    """Ratio of two numbers, where both are known and there is one."""
    return None if a is None or not b else a / b


def times(a: float | None, b: float | None) -> float | None:
    """Product of two numbers, where both are known."""
    return None if a is None or b is None else a * b
