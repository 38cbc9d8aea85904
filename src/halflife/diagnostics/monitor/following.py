"""Whether decay can follow its target down: the equilibrium, which a schedule pulls to 0.

Without any update a weight keeps ``exp(-K)`` of itself over steps whose fractions sum to ``K``; no
decay makes it smaller. A target that falls further than that leaves the weights behind, and how
far above it they are then says nothing about the training.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ...units.writing import counted, in_percent

__all__ = ["Following"]

_ROOM = math.log(1.1)  # as much as predictions are off where nothing is wrong


class _Place(NamedTuple):
    """Where a target was at a step."""

    step: int
    decay: float  # sum of -log(1 - d) up to it
    level: float  # log of the target, up to a constant


class Following:
    """What is remembered of the targets of some parameters, by name."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, float, float]] = {}  # step, fraction, sum of -log(1 - d)
        self._lead: dict[str, _Place] = {}  # from where decay could least follow

    def at(self, name: str, step: int, fraction: float | None, target: float | None) -> str:
        """Note where a target is now.

        Args:
            name: of the parameter.
            step: number of the step.
            fraction: that it removes; None if it is not known.
            target: what the weights would settle at, up to a constant; None if there is none.

        Returns:
            What to say if the target fell faster than decay can follow, else nothing.
        """
        if fraction is None or not 0.0 <= fraction < 1.0:
            self._last.pop(name, None)
            self._lead.pop(name, None)
            return ""
        now = -math.log1p(-fraction)
        before, highest, decay = self._last.get(name, (step, now, 0.0))
        decay += max(highest, now) * (step - before)  # no less than it was between the two
        self._last[name] = step, now, decay
        if target is None:
            return ""
        place = _Place(step, decay, math.log(target) if target > 0.0 else -math.inf)
        lead = self._lead.get(name)
        if lead is None or place.level + place.decay >= lead.level + lead.decay:
            if target > 0.0:
                self._lead[name] = place
            return ""
        fall, reach = lead.level - place.level, place.decay - lead.decay
        if fall <= reach + _ROOM:
            return ""
        return (
            f"the target fell faster than decay can follow: to {in_percent(math.exp(-fall))} in "
            f"the last {counted(step - lead.step, 'step')}, in which decay alone leaves "
            f"{in_percent(math.exp(-reach))} of a weight."
        )

    def state(self) -> dict[str, Any]:
        """What a resumed run needs, as plain data."""
        return {
            "last": {name: list(values) for name, values in self._last.items()},
            "lead": {name: list(place) for name, place in self._lead.items()},
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state; one of an earlier version holds none."""
        self._last = {n: (int(v[0]), v[1], v[2]) for n, v in state.get("last", {}).items()}
        self._lead = {n: _Place(int(v[0]), v[1], v[2]) for n, v in state.get("lead", {}).items()}
