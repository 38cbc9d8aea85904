"""Studies that were never run: results made by hand, for the tests of verdicts and of the page."""

from __future__ import annotations

import numpy as np

from halflife.lab.studies.calls import Curve, Findings
from halflife.lab.studies.design import Claim, Design
from halflife.lab.studies.ledger import Recorded
from halflife.lab.studies.results import ClaimResult, StudyResult
from halflife.lab.studies.verdict import among_all, judged

UNIT = "points of test error"


def claim(name="gain", kind="above", effect=0.5, **more):
    return Claim(
        **{
            "name": name, "kind": kind, "effect": effect, "unit": UNIT,
            "words": f"Claim {name} in words.", "statement": f"Statement of {name}.",
            "null": "the same against itself",
            "planted": "" if kind == "exact" else "ten times as much",
            **more,
        }
    )  # fmt: skip


def design(name="000/figure-1", claims=(), **more):
    texts = {
        key: f"The {key} of {name}."
        for key in ("title", "source", "published", "small", "confounds", "cannot_say")
    }
    given = {
        "minutes": {"lr": 0.1, "seeds": 8},
        "hours": {"seeds": 32},
        "sha256": "ab" * 32,
        **more,
    }
    return Design(name, **{**texts, **given}, claims=tuple(claims))


def normal(mean, deviation=0.5, count=12, seed=0):
    """Values with exactly this mean and deviation."""
    drawn = np.random.default_rng(seed).standard_normal(count)
    drawn = (drawn - drawn.mean()) / drawn.std(ddof=1)
    return (mean + deviation * drawn).tolist()


def values_of(each, mean, null=0.0, planted=None, deviation=0.5, matched=None):
    """Endpoint and controls of a claim."""
    if each.kind == "exact":
        return {each.name: [mean, 0.1 * mean, -0.5 * mean], f"{each.name}/null": [1.0, 2.0]}
    far = {"above": 5.0, "below": -5.0, "equivalent": 0.0}[each.kind]
    null = {"equivalent": 5.0}.get(each.kind, null) if null == 0.0 else null
    found = {
        each.name: normal(mean, deviation, seed=1),
        f"{each.name}/null": normal(null, 0.1, seed=2),
        f"{each.name}/planted": normal(far if planted is None else planted, 0.1, seed=3),
    }
    for key in each.matched:
        found[f"{each.name}/{key}"] = normal(
            mean if matched is None else matched, deviation, seed=4
        )
    return found


def recorded(each, calls=24):
    session = {
        "began": "2026-01-02T03:04:05+00:00",
        "versions": {"halflife": "0.1.0", "torch": "2.13.0"},
        "machine": {"system": "Linux", "processor": "x86_64", "cores": 2},
    }
    known = {f"bench.f {i}": {"x": 1.0} for i in range(calls)}
    return Recorded(each.name, each.sha256, "minutes", "cd" * 32, [session], known, 754.0)


def results_of(*studies):
    """Results as `read_results` has them.

    Args:
        studies: each a design, and the values of its findings or None; perhaps curves and notes.
    """
    every, alone = {}, {}
    for own, found, *_ in studies:
        for each in own.claims:
            every[f"{own.name}/{each.name}"] = each
            if found is not None:
                alone[f"{own.name}/{each.name}"] = judged(each, found[each.name])
    corrected, results = among_all(every, alone), []
    for own, found, *more in studies:
        claims = []
        for each in own.claims:
            if found is None:
                claims.append(ClaimResult(each, judged(each, [])))
                continue
            controls = {
                key: judged(each, found[f"{each.name}/{key}"])
                for key in ("null", "planted", *each.matched)
                if f"{each.name}/{key}" in found
            }
            verdict = corrected[f"{own.name}/{each.name}"]
            claims.append(ClaimResult(each, verdict, found[each.name], controls))
        findings = None if found is None else Findings(found, *more)
        kept = None if found is None else recorded(own)
        results.append(StudyResult(own, kept, findings, tuple(claims)))
    return results


def a_page_of_results():
    """Claims of every kind that hold, fail and stay open, with what may be said of each."""
    holds = claim("holds", matched=("equal total decay", "equal final norm"),
                  published="95.1 against 94.5 % of accuracy")  # fmt: skip
    fails, open_ = claim("fails"), claim("open", "below")
    scoped = claim("scoped", matched=("equal total decay",))
    untrusted, equal = claim("untrusted"), claim("equal", "equivalent")
    exact, broken = claim("exact", "exact", 1e-12), claim("broken", "exact", 1e-12)
    told = claim("told", exploratory=True)
    first = design("000/figure-1", [holds, fails, open_, scoped], recipes=("000/resnet18/adams",))
    second = design("000/table-1", [untrusted, equal, told])
    third, fourth = (
        design("003/theorem-1", [exact, broken]),
        design("004/figure-2", [claim("later")]),
    )
    curves = [
        Curve("Error over decay", "weight decay", "error, %",
              {"adamw": [(10.0**-k, 5.0 + k, 4.0 + k, 6.0 + k) for k in range(4)],
               "adams, which has a long name and a half": [(10.0**-k, 6.0) for k in range(4)]},
              log_x=True),
        Curve("Norm", "epoch", "norm", {"one": [(1.0 * k, 2.0**k) for k in range(40)]}, log_y=True),
        Curve("Nothing", "x", "y", {"none": [(1.0, float("nan"))]}),
    ]  # fmt: skip
    return results_of(
        (
            first,
            values_of(holds, 1.2)
            | values_of(fails, 0.05, deviation=0.1)
            | values_of(open_, -0.4, deviation=0.9)
            | values_of(scoped, 1.5, matched=0.0),
            curves,
            ["adamw: lr 0.1, on the border (lr 0.1)"],
        ),
        (
            second,
            values_of(untrusted, 1.0, null=1.0, planted=0.2)
            | values_of(equal, 0.02, deviation=0.2)
            | values_of(told, 1.0),
        ),
        (third, values_of(exact, 1e-13) | values_of(broken, 1e-9)),
        (fourth, None),
    )
