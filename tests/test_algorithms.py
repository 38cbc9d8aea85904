"""The catalogue: every entry against a float64 transcription of its paper, or of code it names.

An entry is created by its name with an lr and a weight decay that show within a few steps; all its
other settings are the entry's own, and are written out again here for the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

import cases
import reference
import reference_optimizers
import reference_papers as papers
from cases import PEAK, STEPS
from halflife.algorithms import algorithms, create
from reference import Group, Run

SCHEDULES = cases.schedules()
ENTRIES = {entry.name: entry for entry in algorithms()}
MATRICES = [(5, 3), (4, 4), (2, 6), (3, 3)]

Oracle = Callable[[list[Group], list], Any]


def on_adam(rule: str, **settings: Any) -> Oracle:
    return lambda groups, gradients: reference.adam(Run(rule, **settings), groups, gradients)


def on_sgd(rule: str, **settings: Any) -> Oracle:
    return lambda groups, gradients: reference.sgd(Run(rule, **settings), groups, gradients)


def on(name: str, rule: str, **settings: Any) -> Oracle:
    settings = {"betas": (0.9, 0.999), "eps": 1e-8, **settings}
    return lambda groups, gradients: reference_optimizers.run(
        name, settings, rule, groups, gradients
    )


def step(function: papers.Step, **settings: Any) -> Oracle:
    return lambda groups, gradients: papers.run(function, settings, groups, gradients)


@dataclass(frozen=True)
class Case:
    oracle: Oracle
    weight_decay: float | None  # None: the algorithm has none
    arguments: dict[str, Any] = field(default_factory=dict)
    shapes: list = field(default_factory=lambda: cases.SHAPES)


L2, DECOUPLED, INDEPENDENT, STABLE = 0.3, 2.0, 0.04, 0.9
ZHOU = {"paper_betas": (0.1, 0.001), "delta": 1e-4, "moments": "gradient"}

# Entries without a schedule, and those whose schedule is optional; after "-", with arguments.
CASES = {
    "sgd_l2": Case(on_sgd("l2", momentum=0.9), L2),
    "sgd_l2_paper": Case(step(papers.sgd_l2_paper, momentum=0.9), L2),
    "sgd_hanson_pratt": Case(on_sgd("constant"), INDEPENDENT),
    "sgdw": Case(on_sgd("independent", momentum=0.9), INDEPENDENT),
    "sgdw_paper": Case(step(papers.sgdw_paper, momentum=0.9), INDEPENDENT),
    "sgds": Case(on_sgd("stable", momentum=0.9), 0.5),
    "adam_l2": Case(on_adam("l2"), L2),
    "adamw": Case(on_adam("decoupled"), DECOUPLED),
    "adamw_paper": Case(on_adam("independent"), INDEPENDENT),
    "adams": Case(on_adam("stable"), STABLE),
    "adais": Case(on("adai", "stable", betas=(0.1, 0.99), eps=1e-3), DECOUPLED),
    "adamprox": Case(on_adam("proximal_independent"), INDEPENDENT),
    "proxadam": Case(on_adam("proximal_independent"), INDEPENDENT),
    "adamp_blog": Case(step(papers.adamp_blog), 1.0),
    "adamproxl1": Case(step(papers.adamproxl1), 0.02),
    "adamproxl1_preconditioned": Case(step(papers.adamproxl1_preconditioned), 0.3),
    "adamproxl2": Case(step(papers.adam_without_decay), 0.2),
    "adamw_003": Case(step(papers.adamw_003, **ZHOU), DECOUPLED),
    "adamw_003-zero": Case(
        step(papers.adamw_003, **{**ZHOU, "moments": "zero"}), DECOUPLED, {"moments": "zero"}
    ),
    "l2_adam_003": Case(step(papers.l2_adam_003, **ZHOU), L2),
    "l2_adam_003-zero": Case(
        step(papers.l2_adam_003, **{**ZHOU, "moments": "zero"}), L2, {"moments": "zero"}
    ),
    "adagrad_004": Case(step(papers.adagrad_004, radius=0.05), None, {"radius": 0.05}),
    "amsgrad": Case(on_adam("l2", amsgrad=True), L2),
    "yogi": Case(on("yogi", "l2", eps=1e-3), L2),
    "adabound": Case(on("adabound", "l2", final_lr=0.1, gamma=1e-3), L2),
    "adabound-clipped": Case(
        on("adabound", "l2", final_lr=0.03, gamma=0.2), L2, {"final_lr": 0.03, "gamma": 0.2}
    ),
    "amsbound": Case(on("adabound", "l2", final_lr=0.1, gamma=1e-3, amsbound=True), L2),
    "padam": Case(on("padam", "l2", partial=1 / 8), L2),
    "radam": Case(step(papers.radam), L2),
    "adai": Case(on("adai", "l2", betas=(0.1, 0.99), eps=1e-3), L2),
    "nadam": Case(step(papers.nadam), L2),
    "rmsprop": Case(step(papers.rmsprop), L2),
    "adagrad": Case(step(papers.adagrad), L2),
    "adamc": Case(on_adam("corrected"), DECOUPLED),
    "awd": Case(on_sgd("adaptive", momentum=0.9), 0.5),
    "cautious_adamw": Case(step(papers.cautious_adamw), DECOUPLED),
    "lion": Case(on("lion", "decoupled", betas=(0.9, 0.99)), DECOUPLED),
    "muon": Case(step(papers.muon), DECOUPLED, shapes=MATRICES),
}
ROUNDS = {"adagrad_restarts_004"}
REFUSED = {"stagewise_adamw"}


def make_params(shapes: list) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64)) for s in shapes
    ]


def make_gradients(shapes: list) -> list[list[torch.Tensor | None]]:
    """The third parameter misses every other gradient."""
    generator = torch.Generator().manual_seed(1)
    gradients: list[list[torch.Tensor | None]] = []
    for t in range(STEPS):
        row = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
        gradients.append([None if i == 2 and t % 2 else g for i, g in enumerate(row)])
    return gradients


def two_groups(params: list[torch.Tensor], weight_decay: float | None) -> list[dict[str, Any]]:
    second: dict[str, Any] = {"params": params[2:], "lr": PEAK / 2}
    if weight_decay is not None:
        second["weight_decay"] = weight_decay / 3
    return [{"params": params[:2]}, second]


def make(name: str, params: list[torch.Tensor], case: Case) -> Any:
    own = {} if case.weight_decay is None else {"weight_decay": case.weight_decay}
    groups = two_groups(params, case.weight_decay)
    return create(name, groups, lr=PEAK, **own, **case.arguments)


def paper_groups(shapes: list, lrs: list[float], weight_decay: float | None) -> list[Group]:
    weights = [p.detach().numpy().copy() for p in make_params(shapes)]
    decay = weight_decay or 0.0
    return [
        Group(weights[:2], lrs, decay, PEAK),
        Group(weights[2:], [lr / 2 for lr in lrs], decay / 3, PEAK / 2),
    ]


def paper_gradients(shapes: list) -> list:
    return [
        [[None if g is None else g.numpy() for g in part] for part in (row[:2], row[2:])]
        for row in make_gradients(shapes)
    ]


def assert_equal(params: list[torch.Tensor], groups: list[Group]) -> None:
    for p, w in zip(params, [w for group in groups for w in group.weights], strict=True):
        np.testing.assert_allclose(p.detach().numpy(), w, rtol=1e-12, atol=1e-13)


# --- against the papers --------------------------------------------------------------------------


def test_every_entry_is_tested() -> None:
    tested = {name.partition("-")[0] for name in CASES} | set(SCHEDULED)
    assert tested | ROUNDS | REFUSED == set(ENTRIES)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", CASES)
def test_entry_is_the_papers_algorithm(name: str, schedule: str) -> None:
    if name == "nadam":  # torch keeps its product of momenta in the default dtype
        torch.set_default_dtype(torch.float64)
    case, lrs = CASES[name], SCHEDULES[schedule]
    params = make_params(case.shapes)
    optimizer = make(name.partition("-")[0], params, case)
    cases.train(optimizer, params, make_gradients(case.shapes), [lrs, [lr / 2 for lr in lrs]])
    groups = paper_groups(case.shapes, lrs, case.weight_decay)
    case.oracle(groups, paper_gradients(case.shapes))
    assert_equal(params, groups)


@dataclass(frozen=True)
class Scheduled:
    """An algorithm whose schedule is part of it: the oracle sees one step at a time."""

    runner: Any
    run: Callable[[], Run]
    weight_decay: float
    arguments: dict[str, Any]
    at: Callable[[int], tuple[float, float]]  # multiplier of the lr, and of the weight decay


LRS = SCHEDULES["cosine"]
RESTARTS = papers.warm_restarts(STEPS, 6)


def restarts(t: int) -> tuple[float, float]:
    return RESTARTS[t][0], 1 / np.sqrt(RESTARTS[t][1])


SCHEDULED = {
    "sgdr": Scheduled(
        reference.sgd,
        lambda: Run("l2", momentum=0.9),
        L2,
        {"steps_per_epoch": 2, "T_0": 3},
        lambda t: (RESTARTS[t][0], 1.0),
    ),
    "sgdwr": Scheduled(
        reference.sgd,
        lambda: Run("independent", momentum=0.9),
        0.2,
        {"steps_per_epoch": 2, "T_0": 3},
        restarts,
    ),
    "adamwr": Scheduled(
        reference.adam,
        lambda: Run("independent"),
        0.2,
        {"steps_per_epoch": 2, "T_0": 3},
        restarts,
    ),
    "adamw_d": Scheduled(
        reference.adam,
        lambda: Run("decoupled"),
        DECOUPLED,
        {"rate": 0.9},
        lambda t: (LRS[t] / PEAK, 0.9**t),
    ),
    "l2_adam_d": Scheduled(
        reference.adam,
        lambda: Run("l2"),
        L2,
        {"rate": 0.9},
        lambda t: (LRS[t] / PEAK, 0.9**t),
    ),
}


@pytest.mark.parametrize("name", SCHEDULED)
def test_entry_with_its_schedule_is_the_papers_algorithm(name: str) -> None:
    case = SCHEDULED[name]
    params = make_params(cases.SHAPES)
    groups = two_groups(params, case.weight_decay)
    optimizer = create(name, groups, lr=PEAK, weight_decay=case.weight_decay)
    scheduler = ENTRIES[name].schedule(optimizer, **case.arguments)
    drives_lr = isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler)
    expected = paper_groups(cases.SHAPES, LRS, case.weight_decay)
    base, state = [group.weight_decay for group in expected], case.run()
    gradients = paper_gradients(cases.SHAPES)
    for t, row in enumerate(make_gradients(cases.SHAPES)):
        eta, multiplier = case.at(t)
        if not drives_lr:
            for group, peak in zip(optimizer.param_groups, (PEAK, PEAK / 2), strict=True):
                group["lr"] = peak * eta
        cases.set_gradients(params, row)
        optimizer.step()
        scheduler.step()
        for group, decay in zip(expected, base, strict=True):
            group.lrs, group.weight_decay = [group.peak_lr * eta], decay * multiplier
        case.runner(state, expected, gradients[t : t + 1])
    assert_equal(params, expected)


def test_theorem_2s_decay() -> None:
    entry = ENTRIES["adamw_003"]
    optimizer = create("adamw_003", make_params(cases.SHAPES), delta=0.01, weight_decay=0.5)
    scheduler = entry.schedule(optimizer, c_inf=1.0)
    for k in range(5):  # mu = 0.001 * 1 / 0.01
        assert optimizer.param_groups[0]["weight_decay"] == pytest.approx(0.5 * 0.9**k, rel=1e-12)
        optimizer.step()
        scheduler.step()
    with pytest.raises(ValueError, match="mu = b2"):  # the paper's delta, with gradients up to 1
        entry.schedule(create("adamw_003", make_params(cases.SHAPES)), c_inf=1.0)


def test_decay_of_a_shorter_run_ends_where_the_papers_does() -> None:
    optimizer = create("adamw_d", make_params(cases.SHAPES), weight_decay=1.0)
    scheduler = ENTRIES["adamw_d"].schedule(optimizer, total=10)
    scheduler.move_to(10)
    assert optimizer.param_groups[0]["weight_decay"] == pytest.approx(np.exp(-1.25))


def test_adagrad_in_rounds() -> None:
    """004, Algorithm 3: each round from the mean of the last, lr and cube halved."""
    radius, steps = 0.05, STEPS // 3
    params = make_params(cases.SHAPES)
    optimizer = create("adagrad_restarts_004", two_groups(params, None), lr=PEAK, radius=radius)
    gradients = make_gradients(cases.SHAPES)
    expected = paper_groups(cases.SHAPES, [PEAK] * STEPS, None)
    for part in range(3):
        for row in gradients[part * steps : (part + 1) * steps]:
            cases.set_gradients(params, row)
            optimizer.step()
        optimizer.restart()
        rows = paper_gradients(cases.SHAPES)[part * steps : (part + 1) * steps]
        for group, peak in zip(expected, (PEAK, PEAK / 2), strict=True):
            group.lrs = [peak / 2**part] * steps
        settings = {"radius": radius / 2**part}
        state = papers.run(papers.adagrad_004, settings, expected, rows)
        for (i, j), s in state.items():
            expected[i].weights[j] = np.mean(s["points"], axis=0)
        assert_equal(params, expected)
