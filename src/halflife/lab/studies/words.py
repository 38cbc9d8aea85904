"""What became of a claim, in words: a state, a sentence, and what takes from its weight."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from ...units.writing import counted
from ..wording import in_digits, listed, short, spread
from .design import Claim, designs
from .results import ClaimResult, StudyResult
from .verdict import LEVEL, Verdict

__all__ = [
    "PAPERS",
    "STATES",
    "alarms",
    "family_of",
    "lead",
    "measured_text",
    "outcome_of",
    "p_text",
    "scope_text",
    "verdict_text",
]  # fmt: skip

STATES = ("replicates", "contradicts", "undecided", "not run")
PAPERS = {
    "000": "Xie et al. 2023, On the overlooked pitfalls of weight decay",
    "001": "Loshchilov & Hutter 2019, Decoupled weight decay regularization",
    "002": "Schaipp 2023, Decay no more",
    "003": "Zhou et al. 2024, Towards understanding convergence and generalization of AdamW",
    "004": "Zhuang et al. 2022, Understanding AdamW through proximal methods and scale-freeness",
    "practice": "What practitioners repeat",
}


def outcome_of(study: StudyResult, claim: ClaimResult) -> str:
    """One of `STATES`."""
    return claim.verdict.outcome if study.findings is not None else "not run"


def family_of() -> int:
    """How many registered primaries Holm's correction is over, run or not."""
    claims = (claim for design in designs().values() for claim in design.claims)
    return sum(claim.kind != "exact" and not claim.exploratory for claim in claims)


def lead(results: Sequence[StudyResult]) -> str:
    """How many claims came out how, in a sentence for each standing that claims have."""
    standings = {
        "": ("published claim", "published claims"),
        "exploratory": ("exploratory one", "exploratory ones"),
        "a reading that goes beyond the source": (
            "reading that goes beyond its source", "readings that go beyond their source"
        ),
    }  # fmt: skip
    pairs = [(study, c) for study in results for c in study.claims]
    said = []
    for label, names in standings.items():
        own = [outcome_of(study, c) for study, c in pairs if c.claim.label == label]
        if own:
            said.append(f"Of {len(own)} {names[len(own) > 1]}, {_outcomes(own)}.")
    lost = sum(not c.trusted for study, c in pairs if study.findings is not None)
    if lost:
        said.append(
            f"{lost} of these verdicts {'is' if lost == 1 else 'are'} not to be trusted, as a "
            "control failed."
        )
    return " ".join(said)


def _outcomes(found: Sequence[str]) -> str:
    words = {
        "replicates": ("replicates", "replicate"),
        "contradicts": ("is contradicted", "are contradicted"),
        "undecided": ("stays undecided", "stay undecided"),
        "not run": ("has not been run", "have not been run"),
    }
    counts = Counter(found)
    return listed(
        [
            f"{counts[state] or 'none'} {words[state][counts[state] > 1]}"
            for state in STATES
            if counts[state] or state != "not run"
        ]
    )


def p_text(p: float) -> str:
    """A p-value in two digits.

    Example:
        >>> p_text(0.0123), p_text(3e-7), p_text(0.5)
        ('p = 0.012', 'p < 0.001', 'p = 0.50')
    """
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.3f}" if p < 0.0995 else f"p = {p:.2f}"


def measured_text(claim: Claim, verdict: Verdict, unit: bool = True) -> str:
    """A mean and its interval; of an exact claim the worst deviation; empty if there is none."""
    if not verdict.seeds or not math.isfinite(verdict.mean):
        return ""
    said = f" {claim.unit}" if unit else ""
    if claim.kind == "exact":
        return f"{short(abs(verdict.mean))}{said}"
    if verdict.interval is None:
        return f"{in_digits(verdict.mean)}{said}"
    low, high = verdict.interval
    return f"{in_digits(verdict.mean, 0.25 * (high - low))} {spread(low, high)}{said}"


def verdict_text(study: StudyResult, claim: ClaimResult, family: int) -> str:
    """The verdict in plain words: what was found, what tells it, and what would.

    Args:
        study: of the claim.
        claim: and its verdict.
        family: of Holm's correction.
    """
    if study.findings is None:
        if study.recorded is None:
            return "Not run: there is no ledger of this study."
        done = counted(len(study.recorded.values), "measurement")
        return f"Not run to its end: its ledger has {done}, and the plan asks for more."
    verdict, own = claim.verdict, claim.claim
    name = verdict.outcome.capitalize()
    if own.kind == "exact":
        return _exact_text(name, own, verdict)
    if verdict.p_replicates is None or verdict.p_contradicts is None:
        return f"{name}: {verdict.reason}."
    effect = f"{own.effect:g}"
    found = f"{name}: {measured_text(own, verdict)} on {counted(verdict.seeds, 'fresh seed')}"
    holds, against = _told(own, effect)
    by = (
        "not corrected: the claim is exploratory" if own.exploratory
        else f"after Holm's correction over {family} registered primaries"
    )  # fmt: skip
    if verdict.outcome == "replicates":
        said = f"{found}: {holds} ({p_text(verdict.p_replicates)}, {by})"
        if own.kind != "equivalent" and own.effect:
            said += f", and the mean is no smaller than the smallest effect of interest, {effect}"
        return f"{said}."
    if verdict.outcome == "contradicts":
        said = f"{found}: {against} ({p_text(verdict.p_contradicts)}, {by})."
        if verdict.reason:
            said += f" {verdict.reason.capitalize()}."
        return said
    both = f"{p_text(verdict.p_replicates)} and {p_text(verdict.p_contradicts)}, {by}"
    said = f"{found}: it is not told that {holds}, nor that {against} ({both})."
    if verdict.p_replicates <= LEVEL:  # what is open is its size, of which the power says nothing
        return f"{found}: {verdict.reason} ({both})."
    return f"{said} {_power_text(verdict, effect, own.kind)}".rstrip()


def _told(claim: Claim, effect: str) -> tuple[str, str]:
    """What the test for a claim tells, and what the one against it does."""
    if claim.kind == "equivalent":
        return (
            f"the difference is within the margin, {effect}",
            f"the difference is larger than the margin, {effect}",
        )
    side = "above" if claim.kind == "above" else "below"
    least = effect if claim.kind == "above" else f"\N{MINUS SIGN}{effect}"
    other = "below" if claim.kind == "above" else "above"
    if not claim.effect:
        return f"the effect is {side} 0", f"the effect is {other} 0"
    return f"the effect is {side} 0", f"the effect is {other} the smallest of interest, {least}"


def _exact_text(name: str, claim: Claim, verdict: Verdict) -> str:
    if not verdict.seeds:
        return f"{name}: {verdict.reason}."
    if not math.isfinite(verdict.mean):
        return f"{name}: of {counted(verdict.seeds, 'case')}, one at least came to no number."
    worst, most = short(abs(verdict.mean)), f"{claim.effect:g}"
    cases = counted(verdict.seeds, "case")
    said = f"{name}: in {cases} the worst deviation is {worst}"
    if verdict.outcome == "replicates":
        return f"{said}, and {most} is allowed ({claim.unit})."
    return f"{said}, more than the {most} allowed ({claim.unit})."


def _power_text(verdict: Verdict, effect: str, kind: str) -> str:
    if verdict.power is None:
        return ""
    what = "no difference to be none" if kind == "equivalent" else f"an effect of {effect}"
    chance = "above 99 %" if verdict.power > 0.99 else f"{100 * verdict.power:.0f} %"
    said = f"With this noise and correction, so many seeds tell {what} with probability {chance}"
    if verdict.power >= 0.8:
        return f"{said}."
    needed = f"{verdict.needed:,} seeds" if verdict.needed else "more than 1,024 seeds"
    return f"{said}; 80 % would take {needed}."


def scope_text(claim: ClaimResult) -> str:
    """At which of the ways to hold something else equal a claim holds too; may be empty."""
    matched = [m for m in claim.claim.matched if m in claim.controls]
    if not matched or claim.verdict.outcome != "replicates":
        return ""
    if claim.scope:
        return f"It holds in the primary comparison only, {claim.scope}."
    return f"It holds at {listed(matched)} too."


def alarms(claim: ClaimResult) -> list[str]:
    """Why a verdict is not to be trusted; empty if its controls came out as they must."""
    null, planted = claim.controls.get("null"), claim.controls.get("planted")
    said = []
    if null is not None and null.outcome == "replicates":
        said.append(f"The null was taken for the claim: {claim.claim.null}.")
    if planted is not None and planted.outcome != "replicates":
        outcome = "is contradicted" if planted.outcome == "contradicts" else "is undecided"
        said.append(f"What was planted was not seen, it {outcome}: {claim.claim.planted}.")
    return said
