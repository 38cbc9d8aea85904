"""Schedules by name, as a command line or a recipe writes them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ..checks import near, require_count
from .curves import Curve, constant, cosine, linear, multistep, warmup
from .restarts import cosine_warm_restarts

__all__ = ["NAMES", "schedule_named", "stretched"]


class _Run(NamedTuple):
    """Length of a run: optimizer steps, and how many of them are an epoch, where that is known."""

    steps: int
    steps_per_epoch: int | None


@dataclass(frozen=True)
class wsd(Curve):
    """Constant, then linear to 0 over the last fifth of `total` steps; a warm-up aside."""

    total: int

    def at(self, step: int) -> float:
        """The multiplier at `step`."""
        return min(1.0, max(self.total - step, 0) / (0.2 * self.total))


def _warmup_cosine(text: str, run: _Run) -> Curve:
    # A warm-up takes the first tenth of the run, as is usual for short ones.
    steps = run.steps // 10 if not text else _moment(text, run)
    return warmup(steps, cosine(run.steps - steps))


def _multistep(text: str, run: _Run) -> Curve:
    moments, _, factor = text.partition("*")
    return multistep([_moment(m, run) for m in moments.split(",")], float(factor or 0.1))


def _step(text: str, run: _Run) -> Curve:
    length, _, factor = text.partition("*")
    every = _moment(length, run)
    return multistep([*range(every, run.steps, every)], float(factor or 0.1))


def _restarts(text: str, run: _Run) -> Curve:
    first, _, factor = text.partition("*")
    # Whole steps of a share: one too many cuts the last cycle, one too few begins another.
    of_run = 0.0 < float(first) < 1.0
    length, unit = (math.ceil(float(first) * run.steps - 1e-6), 1) if of_run else (first, None)
    return cosine_warm_restarts(
        int(length), int(factor or 1), steps_per_epoch=unit or _moment("1", run)
    )


def stretched(text: str, before: int, after: int) -> str:
    """A schedule's name for a run of another length, in which each moment is at the same share.

    Args:
        text: the name.
        before: epochs that it was written for.
        after: epochs of the other run.

    Example:
        >>> stretched("multistep:80,160*0.2", 200, 2)
        'multistep:0.4,0.8*0.2'
    """
    name, colon, argument = text.partition(":")
    if not argument or before == after:
        return text
    moments, star, factor = argument.partition("*")
    moved = []
    for moment in moments.split(","):
        value = float(moment)
        if value >= 1.0:  # epochs, not a share
            share = value / before
            moment = f"{share:.15f}".rstrip("0") if share < 1.0 else str(after)
        moved.append(moment)
    return f"{name}{colon}{','.join(moved)}{star}{factor}"


def _moment(text: str, run: _Run) -> int:
    """Steps until a moment: epochs, or a share of the run where it is below 1."""
    value = float(text)
    if 0.0 < value < 1.0:
        return round(value * run.steps)
    if run.steps_per_epoch is None:
        raise ValueError("the length of an epoch is not known here; give shares of the run")
    if not (value >= 1.0 and math.isfinite(value)):
        raise ValueError(f"{text} is no number of epochs, and no share of the run")
    return round(value * run.steps_per_epoch)


class _Form(NamedTuple):
    usage: str
    make: Callable[[str, _Run], Curve]
    argument: str = ""  # pattern of what follows the colon; without one, nothing may


_NUMBER = r"\d+(?:\.\d*)?|\.\d+"
_FACTOR = rf"(?:\*(?:{_NUMBER}))?"
_FORMS = {
    "constant": _Form("constant", lambda text, run: constant()),
    "cosine": _Form("cosine", lambda text, run: cosine(run.steps)),
    "linear": _Form("linear", lambda text, run: linear(run.steps)),
    "warmup-cosine": _Form("warmup-cosine[:5]", _warmup_cosine, rf"(?:{_NUMBER})?"),
    "wsd": _Form("wsd", lambda text, run: wsd(run.steps)),
    "multistep": _Form(
        "multistep:80,160", _multistep, rf"(?:{_NUMBER})(?:,(?:{_NUMBER}))*{_FACTOR}"
    ),
    "step": _Form("step:30", _step, rf"(?:{_NUMBER}){_FACTOR}"),
    "restarts": _Form("restarts:10*2", _restarts, r"(?:\d+|0?\.\d+)(?:\*\d+)?"),
}
NAMES = tuple(form.usage for form in _FORMS.values())


def schedule_named(text: str, steps: int | None, steps_per_epoch: int | None = None) -> Curve:
    """The curve of a name, for a run of so many steps.

    ==================== =========================================================================
    ``constant``         the peak throughout
    ``cosine``           half a cosine to 0
    ``linear``           to 0
    ``warmup-cosine:5``  a linear rise over 5 epochs (a tenth of the run without a number), then
                         ``cosine``
    ``wsd``              constant, and linear to 0 over the last fifth
    ``multistep:80,160`` times 0.1 (``*0.2``: 0.2) from epoch 80, and again from 160
    ``step:30``          times 0.1 every 30 epochs
    ``restarts:10*2``    cosines of 10, 20, 40, ... epochs (Loshchilov & Hutter); ``*1`` where they
                         are of one length
    ==================== =========================================================================

    Numbers below 1 are shares of the run: ``multistep:0.4,0.8``.

    Args:
        text: the name.
        steps: optimizer steps of the run.
        steps_per_epoch: for numbers of epochs.

    Raises:
        ValueError: for another name, or a number that is none; naming the nearest.

    Example:
        >>> curve = schedule_named("multistep:80,160", 200 * 391, 391)
        >>> [round(curve(epoch * 391), 3) for epoch in (0, 79, 80, 160)]
        [1.0, 1.0, 0.1, 0.01]
    """
    written = text if isinstance(text, str) else ""
    name, colon, argument = written.strip().lower().partition(":")
    form = _FORMS.get(name)
    if form is None:
        raise ValueError(
            f"schedule={text!r}: must be one of {', '.join(NAMES)}{near(name, _FORMS)}"
        )
    if bool(colon) > bool(form.argument) or not re.fullmatch(form.argument, argument):
        raise ValueError(f"schedule={text!r}: must be written as {form.usage}.")
    require_count("steps", steps, "pass the length of the run, which a schedule by name needs")
    try:
        return form.make(argument, _Run(int(steps or 0), steps_per_epoch))
    except ValueError as error:
        raise ValueError(f"schedule={text!r}: {error}") from None
