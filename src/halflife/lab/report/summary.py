"""What the landscape says, in sentences. Every statement is about this task and these runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...units.writing import counted
from ..meta import Meta
from ..statistics.analysis import Analysis
from ..wording import listed, short
from .charts import RmsPoint

__all__ = ["caveats", "rms_text", "what_ran"]


def caveats(analysis: Analysis, meta: Meta) -> list[str]:
    """Extended grids, optima on a border, runs that are missing, failed, pruned or diverged."""
    out = []
    if meta.extensions:
        grown: dict[tuple[str, str, str], int] = {}
        for e in meta.extensions:
            key = (e["rule"], {"lr": "lr"}.get(e["axis"], "weight decay"), e["side"])
            grown[key] = grown.get(key, 0) + 1
        parts = [f"{r} ({n} to the {side} side of {axis})" for (r, axis, side), n in grown.items()]
        out.append(
            "The grid was extended because a best setting lay on its border: " + listed(parts) + "."
        )
    for rule in analysis.rules:
        if rule.border:
            sides = " and ".join(rule.border)
            stops = [u for u in meta.unresolved if u["rule"] == rule.rule]
            why = (
                f"; the grid grew no further: {listed([u['reason'] for u in stops])}"
                if stops
                else ""
            )
            if meta.extend is False:
                why = ", and the grid was not allowed to grow"
            out.append(
                f"The best setting of {rule.rule} lies on the border of the grid ({sides}): it is "
                f"no optimum{why}."
            )
    everything = [*analysis.rules, *([analysis.baseline] if analysis.baseline else [])]
    missing = {r.rule: r.missing for r in everything if r.missing}
    if missing:
        parts = [f"{n} of {rule}" for rule, n in missing.items()]
        out.append(
            f"The ledger is incomplete: {sum(missing.values())} runs are missing "
            f"({listed(parts)}). Settings with fewer seeds than the others are left out of every "
            "figure below."
        )
    omitted = {r.rule: int(r.surface.omitted.sum()) for r in analysis.rules}
    if any(omitted.values()):
        parts = [f"{n} of {rule}" for rule, n in omitted.items() if n]
        out.append(
            "Settings left out because one step would remove whole weights (a fraction of 1 or "
            f"more): {listed(parts)}."
        )
    for kind, words in (("diverged", "diverged"), ("failed", "failed"), ("pruned", "was pruned")):
        counts = {r.rule: getattr(r, kind) for r in everything if getattr(r, kind)}
        if counts:
            parts = [f"{n} of {rule}" for rule, n in counts.items()]
            out.append(f"Settings in which a run {words}, and which have no mean: {listed(parts)}.")
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
        out.append(f"No prediction is made for {listed(without)}.")
    for settled, what in ((True, "is forgotten"), (False, "still shows")):
        ratios = [p.measured / p.predicted for p in points if p.settled == settled]
        if ratios:
            low, middle, high = np.quantile(ratios, [0.1, 0.5, 0.9])
            sign = "filled" if settled else "hollow"
            out.append(
                f"{len(ratios)} settings whose start {what} ({sign}): measured over predicted is "
                f"{short(middle)} in the median, and between {short(low)} and {short(high)} in "
                "eight settings of ten."
            )
    return out
