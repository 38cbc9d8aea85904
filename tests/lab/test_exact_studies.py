"""The exact studies: what holds by definition replicates, what is printed and false contradicts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from halflife.lab.studies import bench_exact
from halflife.lab.studies.calls import Findings, Values, advance, studies
from halflife.lab.studies.design import Claim, designs
from halflife.lab.studies.verdict import judged

EXACT = [name for name, plan in studies().items() if ".exact_" in plan.__module__]

# Statements as they are printed, or as people repeat them, that do not hold.
FALSE = {
    "000/theorem-2": {"any smaller lr", "gradient rises"},
    "001/proposition-1": {"momentum", "some coefficient"},
    "001/algorithm-1": {"outside"},
    "001/section-3": {"equation 1"},
    "002/scale-freeness": {"adamp"},
    "003/theorem-1": {"elsewhere", "faster elsewhere", "by its gradient"},
    "003/theorem-2": {"printed movement", "printed lr"},
    "003/theorem-3": {"printed beta"},
    "003/theorem-4": {"fresh"},
    "003/dynamic-loss": {"premise"},
    "003/decay-schedules": {"defaults"},
    "003/lemma-5": {"printed l2", "centre"},
    "003/theorem-6": {"printed", "theorem 7", "printed c0"},
    "003/corollary-3": {"own decay", "helps"},
    "003/printed-figures": {"99 percent", "similar", "a sum"},
    "004/scale-freeness": {"l2", "adams", "l1 in the metric"},
    "004/loss-factor": {"vanishing"},
    "004/corollary-1": {"rotated"},
    "004/theorem-1": {"exists", "reached"},
    "004/theorem-2": {"half-width"},
    "004/theorem-3": {"constant"},
}

# Settings with which a study is quick and its claims are told all the same.
QUICK: dict[str, dict[str, Any]] = {
    "000/equation-6": {"cases": 3},
    "000/theorem-2": {"cases": 15},
    "001/proposition-2-adam": {"cases": 3},
    "003/corollary-3": {"cases": 15},
    "003/theorem-1": {"horizons": [16, 64]},
    "003/theorem-2": {"cases": 1},
    "003/lemma-5": {"cases": 4},
    "003/theorem-4": {"cases": 1},
    "004/adamprox": {"cases": 3},
    "004/corollary-1": {"cases": 4},
    "004/theorem-2": {"cases": 12},
    "004/theorem-3": {"cases": 1},
}


def replayed(name: str, settings: Mapping[str, Any]) -> Findings:
    """A plan to its end, with what it asks for measured here."""
    known: dict[str, Values] = {}
    while True:
        calls, findings = advance(studies()[name], settings, known)
        if findings is not None:
            return findings
        for call in calls:
            known[call.key] = dict(call.function(**call.arguments))


@pytest.mark.parametrize("name", EXACT)
def test_verdicts(name: str) -> None:
    design = designs()[name]
    settings = design.settings("minutes")
    few = {"seeds": 1, "cases": min(2, settings["cases"])}
    found = replayed(name, {**settings, **few, **QUICK.get(name, {})}).values
    for claim in design.claims:
        wanted = "contradicts" if claim.name in FALSE.get(name, set()) else "replicates"
        values = found[claim.name]
        assert judged(claim, values).outcome == wanted, (claim.name, values)
        null = found[f"{claim.name}/null"]
        assert judged(claim, null).outcome == "contradicts", (claim.name, null)
        if claim.planted:
            assert judged(claim, found[f"{claim.name}/planted"]).outcome == "replicates", claim.name


def test_every_false_statement_is_a_claim_and_every_design_has_its_values() -> None:
    for name, claims in FALSE.items():
        assert claims <= {claim.name for claim in designs()[name].claims}, name
    registered = {name for name, design in designs().items() if design.exact}
    assert registered <= set(EXACT)
    assert set(QUICK) <= set(EXACT)
    assert len(EXACT) > 25


def test_the_same_seed_is_the_same_case_and_another_is_not() -> None:
    plan, settings = studies()["002/proximal-operator"], {"seeds": 2, "cases": 3}
    calls, _ = advance(plan, settings, {})
    assert [call.arguments for call in calls] == [{"seed": k, "cases": 3} for k in range(2)]
    first, second = (call.function(**call.arguments) for call in calls)
    assert first == calls[0].function(**calls[0].arguments)
    assert not set(first["equation 1/null"]) & set(second["equation 1/null"])
    values = replayed("002/proximal-operator", settings).values
    assert values["equation 1/null"] == [*first["equation 1/null"], *second["equation 1/null"]]


def test_a_case_that_is_no_number_does_not_replicate() -> None:
    claim = Claim("gap", kind="exact", effect=1.0)
    worst = bench_exact.apart(torch.tensor([1.0, math.nan]), torch.ones(2))
    assert judged(claim, [0.0, worst]).outcome == "contradicts"
    assert judged(claim, [bench_exact.excess(math.nan, 1.0)]).outcome == "contradicts"
    assert bench_exact.apart(torch.zeros(3), torch.zeros(3)) == 0.0


def test_paths_are_those_of_one_optimizer_whatever_the_groups() -> None:
    random = np.random.default_rng(0)
    start, gradient = bench_exact.normal(random, 5), bench_exact.noisy_sine(random, 5, 4)
    lrs = [0.1, 0.05, 0.02, 0.05]
    w = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.AdamW([w], lr=0.1, weight_decay=0.3)
    for step, lr in enumerate(lrs):
        optimizer.param_groups[0]["lr"] = lr
        w.grad = gradient(w.detach().clone(), step)
        optimizer.step()
    for groups in (1, 2, 5):
        weights = bench_exact.trajectory(
            "adamw", start, gradient, lrs, groups=groups, weight_decay=0.3
        )
        assert weights.shape == (5, 5)
        assert torch.equal(weights[0], start)
        torch.testing.assert_close(weights[-1], w.detach(), rtol=1e-14, atol=1e-15)
