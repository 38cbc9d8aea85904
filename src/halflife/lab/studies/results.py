"""What has become of the claims: read from ledgers alone, nothing is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .calls import Findings, advance, studies
from .design import Claim, Design, designs
from .ledger import Recorded, StudyError, read_ledger
from .verdict import Verdict, among_all, judged

__all__ = ["ClaimResult", "StudyResult", "read_results"]


@dataclass(frozen=True)
class ClaimResult:
    """A claim, its verdict and what its controls came to.

    Attributes:
        claim: as registered.
        verdict: after Holm's correction over all registered primaries.
        values: of the endpoint, one a seed.
        controls: verdicts of ``"null"``, after Holm's correction over all nulls, and by themselves
            of ``"planted"`` and each matching.
    """

    claim: Claim
    verdict: Verdict
    values: Sequence[float] = ()
    controls: Mapping[str, Verdict] = field(default_factory=dict)

    @property
    def trusted(self) -> bool:
        """Whether the null was not taken for the claim, and what was planted was seen."""
        null, planted = self.controls.get("null"), self.controls.get("planted")
        return (null is None or null.outcome != "replicates") and (
            planted is None or planted.outcome == "replicates"
        )

    @property
    def scope(self) -> str:
        """Where the claim holds, if it holds at some of the ways to match the rules only."""
        if self.verdict.outcome != "replicates":
            return ""
        lost = [m for m in self.claim.matched if self.controls[m].outcome != "replicates"]
        return f"not at {' or '.join(lost)}" if lost else ""

    def as_dict(self) -> dict[str, Any]:
        """The claim, its verdict, its values and the verdicts of its controls, as plain data."""
        return {
            **asdict(self.claim),
            **asdict(self.verdict),
            "trusted": self.trusted,
            "scope": self.scope,
            "values": list(self.values),
            "controls": {key: asdict(control) for key, control in self.controls.items()},
        }


@dataclass(frozen=True)
class StudyResult:
    """A study and what its ledger says.

    Attributes:
        design: as registered now.
        recorded: the ledger; None of a study that has none.
        findings: None until it has ended.
        claims: in the order of the design.
    """

    design: Design
    recorded: Recorded | None
    findings: Findings | None
    claims: tuple[ClaimResult, ...]

    def as_dict(self) -> dict[str, Any]:
        """What is registered and what became of it, as plain data; ``ended`` is whether it has."""
        design = {k: v for k, v in asdict(self.design).items() if k != "claims"}
        recorded = self.recorded
        return {
            **design,
            "budget": recorded.budget if recorded else None,
            "seconds": recorded.seconds if recorded else None,
            "measurements": len(recorded.values) if recorded else 0,
            "sessions": recorded.sessions if recorded else [],
            "ended": self.findings is not None,
            "notes": list(self.findings.notes) if self.findings else [],
            "claims": [claim.as_dict() for claim in self.claims],
        }


def read_results(folder: Path) -> list[StudyResult]:
    """Every registered study, with what a folder of ledgers says of it.

    Raises:
        StudyError: if a ledger was begun with another design than the registered one, or is
            damaged; if findings lack what the design promises.
    """
    found: dict[str, tuple[Recorded | None, Findings | None]] = {}
    alone: dict[str, Verdict] = {}
    nulls: dict[str, Verdict] = {}
    every = {f"{d.name}/{c.name}": c for d in designs().values() for c in d.claims}
    for design in designs().values():
        path = folder / f"{design.slug}.jsonl"
        recorded = read_ledger(path) if path.exists() else None
        findings = None
        if recorded is not None:
            if recorded.sha256 != design.sha256:
                raise StudyError(
                    f"{path}: was begun with another design of {design.name} than is registered: "
                    "run the study into another folder."
                )
            plan, settings = studies()[design.name], design.settings(recorded.budget)
            _, findings = advance(plan, settings, recorded.values)
        found[design.name] = recorded, findings
        if findings is not None:
            for claim in design.claims:
                _require_promised(design, claim, findings)
                key = f"{design.name}/{claim.name}"
                alone[key] = judged(claim, findings.values[claim.name])
                nulls[key] = judged(claim, findings.values[f"{claim.name}/null"])
    corrected = among_all(every, alone)
    # Of a hundred nulls, two or three would be taken for their claim by chance.
    as_primaries = {key: replace(claim, exploratory=False) for key, claim in every.items()}
    corrected_nulls = among_all(as_primaries, nulls)
    results = []
    for design in designs().values():
        recorded, findings = found[design.name]
        claims = tuple(
            _result(design, claim, findings, corrected, corrected_nulls) for claim in design.claims
        )
        results.append(StudyResult(design, recorded, findings, claims))
    return results


def _result(
    design: Design,
    claim: Claim,
    findings: Findings | None,
    corrected: Mapping[str, Verdict],
    nulls: Mapping[str, Verdict],
) -> ClaimResult:
    if findings is None:
        return ClaimResult(claim, Verdict("undecided", "has not been run to its end"))
    full = f"{design.name}/{claim.name}"
    controls = {
        key: nulls[full] if key == "null" else judged(claim, findings.values[f"{claim.name}/{key}"])
        for key in ("null", "planted", *claim.matched)
        if f"{claim.name}/{key}" in findings.values
    }
    verdict = corrected[full]
    return ClaimResult(claim, verdict, findings.values[claim.name], controls)


def _require_promised(design: Design, claim: Claim, findings: Findings) -> None:
    needed = [claim.name, f"{claim.name}/null", *(f"{claim.name}/{m}" for m in claim.matched)]
    needed += [f"{claim.name}/planted"] if claim.planted else []
    if missing := [name for name in needed if name not in findings.values]:
        raise StudyError(f"{design.name}: its plan finds no {', '.join(missing)}")
