"""The verdict in words: what terminal, page and ``summary.json`` say alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...checks import is_number
from ...rules.contract import as_rule
from ...units.writing import counted, in_percent
from ..meta import Meta
from ..metric import Metric
from ..wording import at_most, interval, listed, scientific, short, signed, spread, steps, with_unit
from .surface import BASELINE, DEFAULT, Setting

if TYPE_CHECKING:
    from .analysis import Analysis, Confirmed, RuleAnalysis
    from .confirmation import Comparison, Fresh

__all__ = [
    "difference_text",
    "differences",
    "fresh_text",
    "half_life_of",
    "margin_text",
    "sentence",
    "separability",
    "slope_text",
    "titled",
]


def sentence(analysis: Analysis, meta: Meta) -> str:
    """The verdict with its figures, what it rests on, and what it does not know.

    Args:
        analysis: its own ``sentence`` is not read.
        meta: for names, units and the length of a run.
    """
    where = f"On {meta.name}" if meta.name else "In this sweep"
    where += f" with {meta.optimizer}" if meta.optimizer else ""
    rule = analysis.best
    if rule is None or rule.best is None:
        parts = [f"{where}, no setting is finished yet: there is nothing to recommend."]
        return " ".join(parts + _lost(analysis))
    parts = [f"{where}, {_verdict(analysis, rule.best, meta)}"]
    if analysis.verdict != "hurts":
        parts += _within(rule, told=analysis.verdict == "helps")
    if rule.border:
        parts.append(
            f"The best setting lies on the border of the grid ({listed(rule.border)}): it is no "
            "optimum, and beyond it there may be a better one."
        )
    if analysis.open_baseline and analysis.verdict != "hurts":
        parts.append(
            "Without decay the best setting lies on the border of the grid "
            f"({analysis.open_baseline}): beyond it there may be a better one, and decay be worth "
            "less than told here."
        )
    return " ".join(parts + _lost(analysis))


def _verdict(analysis: Analysis, best: Setting, meta: Meta) -> str:
    confirmed, metric = analysis.confirmed, meta.reported
    use = _use(best, meta)
    seeds = counted(confirmed.seeds if confirmed else 0, "fresh seed")
    none = analysis.against_none
    if analysis.reason or confirmed is None or none is None:
        text = f"no difference is told between decay and none ({analysis.reason})."
        found = f"The best setting so far is {use}"
        if confirmed is not None:
            return f"{text} {found}, with {fresh_text(confirmed, metric)} on {seeds}."
        if best.value is not None:
            value = with_unit(best.value, metric.unit, best.standard_error)
            found += (
                f", with {_words(metric)} {value} on the {counted(best.seeds, 'seed')} it was "
                "chosen by: better than it would be again"
            )
        return f"{text} {found}."
    value, seeds = fresh_text(confirmed, metric), counted(none.seeds, "fresh seed")
    if analysis.verdict == "helps":
        gain = difference_text(none, metric)
        less = _less(none, meta)
        return f"weight decay helps{less}: {use} gives {value}, {gain} without decay, on {seeds}."
    if analysis.verdict == "hurts":
        gain = difference_text(none, metric)
        lr = _lr_without(analysis)
        return (
            f"weight decay hurts{_less(none, meta)}: even its best setting, {use}, gives {value}, "
            f"{gain} without decay, on {seeds}. Use no decay{lr}."
        )
    text = "decay makes no difference that could be told from none: "
    text += f"its best setting, {use}, gives {value}, {difference_text(none, metric)} without decay"
    if none.equal and none.margin is not None:
        text += f", so the two are equal within {margin_text(none.margin, metric)}"
    return f"{text}, on {seeds}."


def margin_text(margin: float, metric: Metric) -> str:
    """A margin of equality, never less than it is."""
    return f"±{at_most(margin, metric.unit_of_differences)}"


def _less(c: Comparison, meta: Meta) -> str:
    """That a difference is told and yet too small to matter, where it is so."""
    if not c.equal or c.margin is None:
        return ""
    what = "the margin you stated" if meta.margin else "the noise between seeds"
    return f", by less than {what} ({margin_text(c.margin, meta.reported)})"


def _use(best: Setting, meta: Meta) -> str:
    more = [f"{name} {value}" for name, value in best.params.items()]
    lr, decay = f"lr {scientific(best.lr)}", f"weight_decay {short(best.weight_decay)}"
    strength = half_life_of(best, meta)
    if not strength and len(meta.rules) == 1 and (meta.optimizer is None or _has_one(best.rule)):
        # Nobody has seen that the trainings decay by this rule.
        return listed([lr, *more, decay])
    if not strength:
        return listed([lr, *more, f"{decay} (rule {best.rule})"])
    return listed([lr, *more, f"a half-life of {strength} (rule {best.rule}, {decay})"])


def _has_one(rule: str) -> bool:
    """Whether there is a half-life under a rule, whatever the gradients are."""
    try:
        found = as_rule(rule)
    except ValueError:  # of another version
        return False
    return found.uniform and not found.follows_gradients


def half_life_of(setting: Setting, meta: Meta) -> str:
    """A setting's half-life at its peak lr, in steps and as a share of the run; or empty."""
    if setting.half_life is None:
        return ""
    text = counted(setting.half_life, "step", steps)
    if not meta.steps:
        return text
    share = setting.half_life / meta.steps
    if share >= 2.0:
        return f"{text}, {short(share)} times the run"
    return f"{text}, {in_percent(share, 2)} of the run"


def fresh_text(runs: Confirmed | Fresh, metric: Metric) -> str:
    """What a setting reached on fresh seeds, with its interval."""
    if runs.value is None:
        return f"no {_words(metric)}"
    if runs.interval is None:
        return f"{_words(metric)} {with_unit(runs.value, metric.unit)}"
    low, high = runs.interval
    value = with_unit(runs.value, metric.unit, 0.25 * (high - low))
    return f"{_words(metric)} {value} {spread(low, high)}"


def difference_text(c: Comparison, metric: Metric) -> str:
    """By how much the leader is better or worse than what comes next in the sentence."""
    side = "worse" if c.gain < 0.0 else "better"
    if c.interval is None:
        return f"{_gap(abs(c.gain), metric, c)} {side} than"
    low, high = sorted((c.interval[0], c.interval[1]) if c.gain >= 0.0 else _turned(c.interval))
    return f"{_gap(abs(c.gain), metric, c)} {side} {spread(low, high)} than"


def _turned(ends: tuple[float, float]) -> tuple[float, float]:
    return -ends[1], -ends[0]


def _gap(value: float, metric: Metric, c: Comparison) -> str:
    """A difference of two values; between percents it is one of points."""
    width = 0.25 * (c.interval[1] - c.interval[0]) if c.interval else None
    return with_unit(value, metric.unit_of_differences, width)


def _words(metric: Metric) -> str:
    return metric.name.replace("_", " ")


def _lr_without(analysis: Analysis) -> str:
    best = analysis.baseline.best if analysis.baseline else None
    return f", at lr {scientific(best.lr)}" if best else ""


def _within(rule: RuleAnalysis, *, told: bool) -> list[str]:
    """The range of the settings that the noise leaves open."""
    within = rule.within
    if within is None:
        return []
    if within.threshold is None:
        return ["One seed says nothing about noise: how far the best settings reach is not known."]
    none = ""
    if not told and within.includes_none:
        none = ", and training without decay is within it too"
    elif not told and within.includes_none is not None:
        none = ", and training without decay is not, by the seeds that chose"
    if within.everything:
        return [
            f"No setting of {rule.rule} can be told from its best by the seeds that chose{none}."
        ]
    left = ""
    if rule.left_out:
        are = "is" if rule.left_out == 1 else "are"
        left = f"; {counted(rule.left_out, 'setting')} that {are} not finished {are} not compared"
    if within.count == 1:
        other = f"No other setting of {rule.rule}" + (" that is compared" if left else "")
        return [f"{other} is within the noise of it{none}{left}."]
    spans = [_span("lr", within.lr), _span("weight_decay", within.weight_decay)]
    spans += [_values(name, values) for name, values in within.params.items()]
    lives = within.half_life
    text = f"Within the noise of the best are {within.count} settings of {rule.rule}: "
    text += listed(spans)
    if lives:
        low, high = map(steps, lives)
        text += f" (half-life of {low}" if low == high else f" (half-lives of {low} to {high}"
        text += " steps)"
    return [f"{text}{none}{left}."]


def _span(name: str, ends: tuple[float, float]) -> str:
    low, high = (scientific(v) if name == "lr" else short(v) for v in ends)
    return f"{name} {low}" if ends[0] == ends[1] else f"{name} {low} to {high}"


def _values(name: str, values: Sequence[Any]) -> str:
    """Values of another parameter: from the lowest to the highest if all are numbers."""
    if len(values) > 1 and all(is_number(v) for v in values):
        return f"{name} {values[0]} to {values[-1]}"
    return f"{name} {listed([str(v) for v in values])}"


def _lost(analysis: Analysis) -> list[str]:
    """Runs that no figure holds."""
    everything = [*analysis.rules, *([analysis.baseline] if analysis.baseline else [])]
    kinds = ("failed", "diverged", "pruned")
    counts = {kind: sum(getattr(r, kind) for r in everything) for kind in kinds}
    lost = [f"{n} with {kind} runs" for kind, n in counts.items() if n]
    missing = sum(r.missing for r in everything)
    fresh = [analysis.default, *(r.fresh for r in everything)]
    once = {runs.setting.key: runs for runs in fresh if runs}.values()  # the default may be a best
    out = []
    if lost:
        out.append(f"Some settings are in no figure: {listed(lost)}.")
    if missing:
        out.append(f"Runs that are not in the ledger: {missing}.")
    for kind in ("failed", "diverged"):
        if of_fresh := sum(getattr(runs, kind) for runs in once):
            out.append(f"Runs on fresh seeds that {kind}: {of_fresh}.")
    return out


def titled(rule: str) -> str:
    """A rule's name in sentences: those that stand for no decay and torch's default are words.

    Example:
        >>> titled("none"), titled("default"), titled("stable")
        ('no decay', "torch's default", 'stable')
    """
    return {BASELINE: "no decay", DEFAULT: "torch's default"}.get(rule, rule)


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


def differences(analysis: Analysis, meta: Meta) -> list[str]:
    """What the leader is told from on fresh seeds beside no decay, and what it is not."""
    metric = meta.reported
    others = [c for c in analysis.comparisons if c.other != BASELINE and c.interval is not None]
    groups = [
        ("is better than", [c for c in others if c.clear]),
        ("is worse on fresh seeds than", [c for c in others if c.worse]),
        ("is not told from", [c for c in others if not c.clear and not c.worse]),
    ]
    out = []
    leader = analysis.best.rule if analysis.best else ""
    named = f"The best setting of {leader}"
    if analysis.is_default(leader):
        out.append(f"{named} is {_default(meta)}.")
    for words, group in groups:
        if group:
            names = listed([f"{_other(c, analysis, meta)} ({_shown(c, metric)})" for c in group])
            out.append(f"{named} {words} {names}.")
    if len(others) > 1:
        out.append(f"These {len(others)} comparisons are corrected for their number (Holm).")
    return out


def _default(meta: Meta) -> str:
    return f"torch's default weight_decay {short(meta.default_decay or 0.0)}"


def _other(c: Comparison, analysis: Analysis, meta: Meta) -> str:
    if c.other == DEFAULT:
        return _default(meta)
    which = f", which is {_default(meta)}" if analysis.is_default(c.other) else ""
    return f"that of {c.other}{which}"


def _shown(c: Comparison, metric: Metric) -> str:
    text = difference_text(c, metric).removesuffix(" than")
    text += f" on {counted(c.seeds, 'seed')}"
    if c.equal and c.margin is not None:
        text += f", equal within {margin_text(c.margin, metric)}"
    return text
