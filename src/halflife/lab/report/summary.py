"""What the landscape says, in sentences. Every statement is about this task and these runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...units.writing import counted
from ..analysis import Analysis, RuleAnalysis
from ..comparison import Comparison
from ..meta import Meta
from ..surface import Cell
from .charts import RmsPoint
from .numbers import interval, percent, scientific, short, signed, steps

__all__ = [
    "caveats",
    "differences",
    "half_life_of",
    "lead",
    "rms_text",
    "separability",
    "slope_text",
    "what_ran",
]


def lead(analysis: Analysis, meta: Meta) -> str:
    """What to use, and what it gains over no decay."""
    where = f"On {meta.name} with {meta.optimizer}"
    rule = analysis.best
    if rule is None or rule.best is None:
        return f"{where}, no cell is finished yet: there is nothing to recommend."
    best = rule.best
    strength = half_life_of(best, meta)
    use = f"lr {scientific(best.lr)} and "
    if strength:
        use += f"a half-life of {strength} (rule {best.rule}, weight_decay "
        use += f"{short(best.weight_decay)})"
    else:
        use += f"weight_decay {short(best.weight_decay)} (rule {best.rule})"
    error = f"test error {percent(best.error, best.standard_error)}"
    error += _than_none(rule, analysis)
    if rule.border:
        sides = " and ".join(rule.border)
        return (
            f"{where}, no optimum was found: the lowest error lies on the border of the grid "
            f"({sides}), at {use}: {error}. Extend the grid there before using it."
        )
    return f"{where}, use {use}: {error}. {separability(rule)}"


def half_life_of(cell: Cell, meta: Meta) -> str:
    """A cell's half-life at its peak lr, in steps and epochs; empty where it has none."""
    if cell.half_life is None:
        return ""
    text = counted(cell.half_life, "step", steps)
    per_epoch = meta.steps_per_epoch
    return f"{text} = {counted(cell.half_life / per_epoch, 'epoch', steps)}" if per_epoch else text


def separability(rule: RuleAnalysis) -> str:
    """Whether strength and learning rate can be tuned one at a time under this rule."""
    verdict = {
        "separable": "can be tuned separately",
        "coupled": "cannot be tuned separately",
        "undecided": "may or may not be tunable separately, this landscape cannot tell",
    }[rule.ridge.verdict]
    return f"Under this rule decay strength and lr {verdict}: {slope_text(rule)}."


def slope_text(rule: RuleAnalysis) -> str:
    """The ridge slope with its interval, and why it decides nothing where it does not."""
    ridge, parts = rule.ridge, []
    if ridge.slope is not None:
        bounds = interval(ridge.low, ridge.high) or "without an interval,"
        parts.append(f"slope {signed(ridge.slope)} {bounds} from {len(ridge.lrs)} learning rates")
    return "; ".join([*parts, ridge.reason] if ridge.reason else parts)


def differences(analysis: Analysis) -> list[str]:
    """Which rules the best one beats, and which differences are within the noise."""
    clear = [c for c in analysis.comparisons if c.clear]
    within = [c for c in analysis.comparisons if not c.clear]
    out = []
    if within:
        names = _join([f"{c.worse} ({_difference(c)})" for c in within])
        out.append(
            f"The best cell of {within[0].better} cannot be told from those of {names}: the "
            "difference is within the noise between seeds, or within what choosing the lowest of "
            "many cells brings by luck. Do not rank these rules by this landscape."
        )
    if clear:
        names = _join([f"{c.worse} ({_difference(c)})" for c in clear])
        out.append(f"The best cell of {clear[0].better} is better than those of {names}.")
    return out


def caveats(analysis: Analysis, meta: Meta) -> list[str]:
    """Extended grids, optima on a border, runs that are missing or diverged."""
    out = []
    if meta.extensions:
        grown: dict[tuple[str, str, str], int] = {}
        for e in meta.extensions:
            key = (e["rule"], {"lr": "lr"}.get(e["axis"], "weight decay"), e["side"])
            grown[key] = grown.get(key, 0) + 1
        parts = [f"{r} ({n} to the {side} side of {axis})" for (r, axis, side), n in grown.items()]
        out.append(
            "The grid was extended because a best cell lay on its border: " + _join(parts) + "."
        )
    for rule in analysis.rules:
        if rule.border:
            sides = " and ".join(rule.border)
            stops = [u for u in meta.unresolved if u["rule"] == rule.rule]
            why = (
                f"; the grid grew no further: {_join([u['reason'] for u in stops])}"
                if stops
                else ""
            )
            if meta.extend is False:
                why = ", and the grid was not allowed to grow"
            out.append(
                f"The best cell of {rule.rule} lies on the border of the grid ({sides}): it is no "
                f"optimum{why}."
            )
    everything = [*analysis.rules, *([analysis.baseline] if analysis.baseline else [])]
    missing = {r.rule: r.missing for r in everything if r.missing}
    if missing:
        parts = [f"{n} of {rule}" for rule, n in missing.items()]
        out.append(
            f"The ledger is incomplete: {sum(missing.values())} runs are missing ({_join(parts)}). "
            "Cells with fewer seeds than the others are left out of every figure below."
        )
    omitted = {r.rule: int(r.surface.omitted.sum()) for r in analysis.rules}
    if any(omitted.values()):
        parts = [f"{n} of {rule}" for rule, n in omitted.items() if n]
        out.append(
            "Cells left out because one step would remove whole weights (a fraction of 1 or "
            f"more): {_join(parts)}."
        )
    diverged = {r.rule: r.diverged for r in everything if r.diverged}
    if diverged:
        parts = [f"{n} of {rule}" for rule, n in diverged.items()]
        out.append(f"Cells in which a run diverged, and which have no mean: {_join(parts)}.")
    if analysis.baseline is None:
        out.append("There are no runs without decay to compare with.")
    return out


def what_ran(analysis: Analysis, meta: Meta) -> str:
    """The size of the landscape and of each run, in one line."""
    lrs = max((len(r.surface.lrs) for r in analysis.rules), default=0)
    strengths = max((len(r.surface.coefficients) for r in analysis.rules), default=0)
    grid = (
        f"{counted(len(analysis.rules), 'rule')}, {counted(lrs, 'learning rate')}, "
        f"{counted(strengths, 'strength')}"
    )
    run = f"{counted(len(meta.seeds), 'seed')}; {counted(meta.epochs or 0, 'epoch')} of "
    run += f"{counted(meta.steps_per_epoch or 0, 'step')} at batch size {meta.batch_size}"
    return f"{grid}, {run}, {meta.schedule} schedule."


def rms_text(points: Sequence[RmsPoint], meta: Meta) -> list[str]:
    """What the prediction assumes, and how far off it was."""
    out = [f"The prediction: {meta.prediction}."] if meta.prediction else []
    without = [rule for rule in meta.rules if all(p.rule != rule for p in points)]
    if without:
        out.append(f"No prediction is made for {_join(without)}.")
    for settled, what in ((True, "is forgotten"), (False, "still shows")):
        ratios = [p.measured / p.predicted for p in points if p.settled == settled]
        if ratios:
            low, middle, high = np.quantile(ratios, [0.1, 0.5, 0.9])
            sign = "filled" if settled else "hollow"
            out.append(
                f"{len(ratios)} cells whose start {what} ({sign}): measured over predicted is "
                f"{short(middle)} in the median, and between {short(low)} and {short(high)} in "
                "eight cells of ten."
            )
    return out


def _than_none(rule: RuleAnalysis, analysis: Analysis) -> str:
    none = analysis.baseline.best if analysis.baseline else None
    against = rule.against_none
    if none is None or against is None:
        return ""
    text = f" against {percent(none.error, none.standard_error)} without decay"
    shown = _difference(against, held_out=True)
    if against.clear:
        return f"{text} (difference {shown})"
    return f"{text}, a difference within the noise between seeds ({shown})"


def _difference(c: Comparison, *, held_out: bool = False) -> str:
    if c.difference == c.standard_error == 0.0:
        return "identical runs"  # the same update under two names, as Decoupled and Independent
    text = f"{signed(c.difference, 1)} points {interval(c.low, c.high, 1)}".rstrip()
    if held_out and c.held_out is not None:
        held = f"{signed(c.held_out, 1)} {interval(c.held_out_low, c.held_out_high, 1)}".rstrip()
        text += f"; held out {held}; {c.seeds} seeds"
    return text


def _join(parts: Sequence[str]) -> str:
    """A list in words.

    Example:
        >>> _join(["a", "b", "c"])
        'a, b and c'
    """
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
