"""What a ledger says: best settings, the sets within the noise, ridges, and the verdict.

Pure functions of a ledger's records and meta data; as plain data, every result is without a NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ...checks import finite
from ..meta import Meta
from ..wording import listed
from .closeness import Border, Within, borders, within_noise
from .confirmation import Comparison, Fresh, compare, fresh
from .intervals import Interval
from .ridge import Ridge, fit_ridge
from .selection import Choice, Finalist, Noise, choose, noise_between_seeds
from .sentence import sentence
from .surface import BASELINE, DEFAULT, Record, Setting, Surface, drawn, records_of, slices

__all__ = ["VERDICTS", "Analysis", "Confirmed", "RuleAnalysis", "analyse"]

VERDICTS = ("helps", "hurts", "no difference told")


@dataclass(frozen=True, eq=False)
class RuleAnalysis:
    """What one rule's settings say.

    Attributes:
        rule: the rule's name.
        surface: the reported metric over lr and weight decay, other parameters as at the best.
        chosen: the same settings by the metric that they are chosen by.
        best: the setting chosen, with its reported metric over the selection seeds, which is lower
            than it would be again; None without a complete one.
        estimate: smoothed mean by which it was chosen, as one of which less is better.
        borders: sides of the grid the best setting lies on; then it is no optimum, for the metric
            may go on improving outside.
        ridge: best weight decay against the learning rate, by the metric that chooses.
        within: the settings that cannot be told from the best.
        noise: between seeds, of the reported metric near the best setting; None with one seed.
        fresh: the best setting on the confirmation seeds; None if it is not known.
        missing: runs not in the ledger.
        left_out: settings that are not compared, since they lack a seed that most have.
        failed: settings with a run that raised or died.
        pruned: settings with a run that was stopped early.
        diverged: settings with a diverged run.
    """

    rule: str
    surface: Surface
    chosen: Surface
    best: Setting | None
    estimate: float | None
    borders: tuple[Border, ...]
    ridge: Ridge
    within: Within | None
    noise: Noise | None
    fresh: Fresh | None
    missing: int
    left_out: int
    failed: int
    pruned: int
    diverged: int

    @property
    def border(self) -> tuple[str, ...]:
        """Sides of the grid the best setting lies on, such as "highest lr"."""
        return tuple(border.name for border in self.borders)


@dataclass(frozen=True)
class Confirmed:
    """The leading setting on fresh seeds.

    Attributes:
        setting: as it was chosen.
        value: mean of the reported metric.
        interval: 95 % interval of it; None where there is none.
        gain: by how much it is better than no decay, paired over the seeds; None without pairs.
        gain_interval: 95 % interval of the gain.
        equal: whether it is equal to no decay within ``margin``; None where that was not tested.
        margin: stated, or one noise.
        seeds: number of usable runs.
        planned: number of confirmation seeds.
    """

    setting: Setting
    value: float
    interval: Interval | None
    gain: float | None
    gain_interval: Interval | None
    equal: bool | None
    margin: float | None
    seeds: int
    planned: int


@dataclass(frozen=True, eq=False)
class Analysis:
    """What a whole ledger says.

    Attributes:
        baseline: the runs without decay; None if there are none.
        rules: one analysis per rule, in the order of the ledger.
        best: the rule that leads by the metric that chooses; None if no setting is complete.
        finalists: the settings that fresh seeds judge.
        confirmed: the leader on fresh seeds; None without a usable run, or where one failed or
            diverged.
        comparisons: on fresh seeds, of the leader with no decay first, then with torch's default
            and the other rules; a setting that is both is named by its rule, and once.
        default: torch's default on fresh seeds; None where it was not run.
        verdict: "helps", "hurts" or "no difference told": the leader against no decay.
        reason: why nothing could be told, in words; empty where fresh seeds have judged.
        sentence: the verdict with its figures.
    """

    baseline: RuleAnalysis | None
    rules: tuple[RuleAnalysis, ...]
    best: RuleAnalysis | None
    finalists: tuple[Finalist, ...]
    confirmed: Confirmed | None
    comparisons: tuple[Comparison, ...]
    default: Fresh | None
    verdict: str
    reason: str
    sentence: str = ""

    def is_default(self, rule: str) -> bool:
        """Whether the best setting of a rule is torch's default."""
        best = next((r.fresh for r in self.rules if r.rule == rule), None)
        if best is None or self.default is None:
            return False
        return best.setting.key == self.default.setting.key

    @property
    def open_baseline(self) -> str:
        """Where the best learning rate without decay lies on the border, in words; or empty."""
        sides = self.baseline.borders if self.baseline else ()
        names = [border.name for border in sides if border.worth]
        return listed(names) if names else ""

    @property
    def against_none(self) -> Comparison | None:
        """The leader's comparison with no decay."""
        return next((c for c in self.comparisons if c.other == BASELINE), None)

    def as_dict(self) -> dict[str, Any]:
        """The analysis as plain data without a NaN, as ``summary.json`` holds it."""
        data = {
            "sentence": self.sentence,
            "verdict": self.verdict,
            "reason": self.reason,
            "best_rule": self.best.rule if self.best else None,
            "confirmed": asdict(self.confirmed) if self.confirmed else None,
            "comparisons": [asdict(c) | {"clear": c.clear} for c in self.comparisons],
            "finalists": [{"role": f.role} | _setting(f.setting) for f in self.finalists],
            "default": _fresh(self.default),
            "baseline": _rule(self.baseline) if self.baseline else None,
            "rules": [_rule(rule) for rule in self.rules],
        }
        cleaned: dict[str, Any] = finite(data)
        return cleaned


def analyse(records: Sequence[Record], meta: Meta) -> Analysis:
    """Analyse a ledger, finished or not.

    Args:
        records: one mapping per run, as the ledger holds them, in any order.
        meta: what was to be run: rules, learning rates, coefficients, seeds, metrics.
    """
    of_rule = records_of(records, meta)
    names = [*meta.rules, BASELINE, DEFAULT]
    choices = {name: choose(of_rule.get(name, ()), meta, name) for name in names}
    none = choices[BASELINE]
    rules = {
        name: _analyse_rule(of_rule.get(name, []), meta, name, choices[name], none)
        for name in [*meta.rules, *([BASELINE] if BASELINE in of_rule else [])]
    }
    scored = [r for name, r in rules.items() if name in meta.rules and r.estimate is not None]
    leader = min(scored, key=lambda r: r.estimate or 0.0, default=None)
    noise = leader.noise if leader else None

    found = {name: choice for name, choice in choices.items() if choice}
    runs = fresh([choice.setting for choice in found.values()], records, meta, noise)
    on_fresh = dict(zip(found, runs, strict=True)) if meta.confirm_seeds else {}
    rules = {name: replace(rule, fresh=on_fresh.get(name)) for name, rule in rules.items()}
    leader = rules[leader.rule] if leader else None
    comparisons = _comparisons(leader, on_fresh, meta, noise)
    roles = {BASELINE: "none", DEFAULT: "default"}
    verdict, reason = _verdict(leader, on_fresh, comparisons, meta)
    analysis = Analysis(
        baseline=rules.get(BASELINE),
        rules=tuple(rules[name] for name in meta.rules),
        best=leader,
        finalists=tuple(Finalist(roles.get(n, "rule"), c.setting) for n, c in found.items()),
        confirmed=_confirmed(leader, comparisons, meta),
        comparisons=tuple(comparisons),
        default=on_fresh.get(DEFAULT),
        verdict=verdict,
        reason=reason,
    )
    return replace(analysis, sentence=sentence(analysis, meta))


def _analyse_rule(
    own: Sequence[Record], meta: Meta, rule: str, choice: Choice | None, none: Choice | None
) -> RuleAnalysis:
    place = choice.setting.place if choice else None
    compared = choice.surface.compared if choice else None
    surface = replace(drawn(own, meta, rule, meta.reported, place), compared=compared)
    chosen = choice.surface if choice else drawn(own, meta, rule, meta.chosen_by, place)
    at = surface.index_of(choice.setting) if choice else None
    within = within_noise(choice, none if rule != BASELINE else None) if choice else None
    grids = slices(own, meta, rule, meta.reported) or [surface]
    # Other samplers leave most of the grid untrained by intent.
    whole = meta.sampler in (None, "grid")
    return RuleAnalysis(
        rule=rule,
        surface=surface,
        chosen=chosen,
        best=surface.setting(*at) if at else None,
        estimate=choice.estimate if choice else None,
        borders=borders(choice, within) if choice and within else (),
        ridge=_ridge(chosen),
        within=within,
        noise=noise_between_seeds(surface.runs),
        fresh=None,
        missing=sum(g.missing for g in grids) if whole else 0,
        left_out=sum(_left_out(replace(g, compared=compared), whole) for g in grids),
        failed=sum(int(g.failed.sum()) for g in grids),
        pruned=sum(int(g.pruned.sum()) for g in grids),
        diverged=sum(int(g.diverged.sum()) for g in grids),
    )


def _left_out(grid: Surface, whole: bool) -> int:
    """Settings of which a run is missing that is compared."""
    known = ~grid.omitted if whole else grid.usable.any(-1)
    return int((known & ~grid.unusable & ~grid.complete).sum())


def _ridge(chosen: Surface) -> Ridge:
    decays = chosen.coefficients > 0.0  # a logarithm has no place for a column without decay
    usable = np.where(chosen.complete[..., None], chosen.losses, np.nan)
    usable = usable[:, decays][..., chosen.counted]
    if usable.size == 0:
        return Ridge("undecided", "there is no setting with decay")
    return fit_ridge(chosen.lrs, chosen.coefficients[decays], usable)


def _comparisons(
    leader: RuleAnalysis | None,
    on_fresh: Mapping[str, Fresh],
    meta: Meta,
    noise: Noise | None,
) -> list[Comparison]:
    """No decay by itself, then torch's default and the other rules, corrected together."""
    if leader is None or leader.fresh is None:
        return []
    # Torch's default may be the best setting of its rule: one setting is compared once.
    once = {leader.fresh.setting.key: leader.rule}
    for name in (*meta.rules, DEFAULT):
        if name in on_fresh:
            once.setdefault(on_fresh[name].setting.key, name)
    kept = {*once.values()} - {leader.rule}
    others = [(name, on_fresh[name]) for name in (DEFAULT, *meta.rules) if name in kept]
    primary = [(BASELINE, on_fresh[BASELINE])] if BASELINE in on_fresh else []
    return [
        *compare(leader.fresh, primary, meta, noise),
        *compare(leader.fresh, others, meta, noise),
    ]


def _confirmed(
    leader: RuleAnalysis | None, comparisons: Sequence[Comparison], meta: Meta
) -> Confirmed | None:
    runs = leader.fresh if leader else None
    if runs is None or runs.value is None:
        return None
    none = next((c for c in comparisons if c.other == BASELINE), None)
    return Confirmed(
        setting=runs.setting,
        value=runs.value,
        interval=runs.interval,
        gain=none.gain if none else None,
        gain_interval=none.interval if none else None,
        equal=none.equal if none else None,
        margin=none.margin if none else None,
        seeds=runs.seeds,
        planned=len(meta.confirm_seeds),
    )


def _verdict(
    leader: RuleAnalysis | None,
    on_fresh: Mapping[str, Fresh],
    comparisons: Sequence[Comparison],
    meta: Meta,
) -> tuple[str, str]:
    """The verdict, and why nothing could be told."""
    untold = VERDICTS[2]
    if leader is None:
        return untold, "no setting is finished yet"
    if not meta.confirm_seeds:
        return untold, "not confirmed: no setting was trained on fresh seeds"
    if BASELINE not in on_fresh:
        return untold, "there are no finished runs without decay to compare with"
    pair = [(leader.rule, on_fresh[leader.rule]), ("no decay", on_fresh[BASELINE])]
    planned = len(meta.confirm_seeds)
    if missing := sum(runs.missing for _, runs in pair):
        of = f"{missing} of {2 * planned} runs on fresh seeds"
        return untold, f"not confirmed: {of} are not finished"
    for name, runs in pair:
        if runs.lost:
            return untold, f"not confirmed: {name} {runs.lost}"
    none = next((c for c in comparisons if c.other == BASELINE), None)
    if none is None or none.seeds < 2:
        return untold, "not confirmed: it takes two fresh seeds on which both runs ended"
    if none.interval is None:
        same = "all fresh seeds give the same, but for rounding"
        same += ", which leaves no noise to judge a difference by"
        return untold, f"not confirmed: {same}; see whether the training uses its seed"
    return VERDICTS[0] if none.clear else VERDICTS[1] if none.worse else untold, ""


def _setting(setting: Setting) -> dict[str, Any]:
    return asdict(setting) | {"half_life": setting.half_life, "timescale": setting.timescale}


def _fresh(runs: Fresh | None) -> dict[str, Any] | None:
    if runs is None:
        return None
    counts = {"missing": runs.missing, "failed": runs.failed, "diverged": runs.diverged}
    told = {"value": runs.value, "interval": runs.interval, "seeds": runs.seeds}
    return _setting(runs.setting) | told | counts


def _rule(rule: RuleAnalysis) -> dict[str, Any]:
    grid, within = rule.surface, rule.within
    return {
        "rule": rule.rule,
        "best": _setting(rule.best) if rule.best else None,
        "fresh": _fresh(rule.fresh),
        "border": list(rule.border),
        "ridge": asdict(rule.ridge),
        "within_noise": {k: v for k, v in vars(within).items() if k not in ("settings", "keys")}
        | {"settings": within.settings.tolist()}
        if within
        else None,
        "noise": asdict(rule.noise) if rule.noise else None,
        "missing_runs": rule.missing,
        "left_out_settings": rule.left_out,
        "failed_settings": rule.failed,
        "pruned_settings": rule.pruned,
        "diverged_settings": rule.diverged,
        "lrs": grid.lrs.tolist(),
        "weight_decays": grid.coefficients.tolist(),
        "means": grid.mean.tolist(),
    }
