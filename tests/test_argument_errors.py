"""Every argument of the public interface with bad values: the error says which, what, and how else.

A row is one argument; every value of it is one case, see `bad_arguments`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

import halflife
import map_cases
from bad_arguments import INF, NAN, Row, cases, check
from halflife import schedules, testing
from halflife.rules.scalar import Decoupled
from halflife.theory import (
    adagrad,
    constraint,
    convergence,
    gradient_norms,
    least_squares,
    orthogonal,
    pac_bayes,
    scale_invariance,
    stagewise,
)

OUT = (-1.0, NAN, INF)
WRONG = ("0.1", None, True, [0.1])
TEXT = ("0.1", [0.1], True)
COUNT = (0, -1, NAN, INF, 1.5, "3", None, True)
V, T = ValueError, TypeError


def weight() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.ones(2, 2))]


def adamw() -> torch.optim.Optimizer:
    return torch.optim.AdamW(weight(), lr=0.5)


# --- optimizers ----------------------------------------------------------------------------------

NAMES = halflife.optim.__all__


def argument(cls: str, key: str) -> Callable[[Any], Any]:
    return lambda value: getattr(halflife, cls)(weight(), **{key: value})


def rows(cls: str, key: str, error: Any, *values: Any, name: str | None = None) -> Row:
    return Row(f"{cls}.{key}", argument(cls, key), name or key, error, values)


OPTIMIZERS = [
    row
    for cls in NAMES
    for row in (
        rows(cls, "lr", V, *OUT, name="lr|[Ll]earning rate"),
        rows(cls, "lr", T, "0.1", None, True),
        rows(cls, "weight_decay", V, *OUT, name="[Ww]eight.decay"),
        rows(cls, "weight_decay", T, *TEXT),
        rows(cls, "peak_lr", V, *OUT, 1e-9),
        rows(cls, "peak_lr", T, *TEXT),
        rows(cls, "decay", V, "decuopled", ""),
        rows(cls, "decay", T, 3, Decoupled),
        rows(cls, "wieght_decay", T, 0.1),
    )
]
# Adai's first beta is a multiple of a mean, and may be 1 or more.
for _cls in ("AdaBound", "Adam", "AdamDelta", "AdamW", "Adamax", "Lion", "NAdam", "Padam", "Yogi"):
    OPTIMIZERS.append(rows(_cls, "betas", V, (1.0, 0.9), (NAN, 0.9), (0.9, -0.1), name="beta"))
for _cls in ("AdaBound", "Adai", "Adam", "AdamDelta", "AdamW", "Adamax", "Lion", "NAdam", "RAdam"):
    OPTIMIZERS.append(rows(_cls, "betas", T, 0.9, (0.9,), ("a", 0.9), None))
for _cls in ("AdaBound", "Adai", "Adam", "Adamax", "Padam", "Yogi", "RMSprop", "Adagrad"):
    OPTIMIZERS.append(rows(_cls, "eps", V, -1.0, NAN, name="eps"))
    OPTIMIZERS.append(rows(_cls, "eps", T, "1e-8", None))
OPTIMIZERS += [
    *(rows(cls, "momentum", V, -1.0, NAN) for cls in ("SGD", "RMSprop", "HeavyBall", "Muon")),
    *(rows(cls, "momentum", T, "0.9", None, True) for cls in ("SGD", "RMSprop", "HeavyBall")),
    rows("SGD", "dampening", V, NAN),
    rows("SGD", "dampening", T, "0", None),
    rows("AdaBound", "gamma", V, 0.0, -1.0, NAN),
    rows("AdaBound", "gamma", T, "0.1"),
    rows("AdaBound", "final_lr", V, -1.0, NAN, name="final learning rate"),
    rows("AdaBound", "base_lr", V, 0.0, -1.0, NAN, "0.1", True),
    rows("Padam", "partial", V, -0.1, 0.6, NAN),
    rows("Padam", "partial", T, "0.25", None),
    rows("Yogi", "initial_accumulator", V, -1.0, NAN),
    rows("AdamDelta", "delta", V, *OUT),
    rows("AdamDelta", "delta", T, "1e-4", None),
    rows("AdamDelta", "moments", V, "none", None, 1),
    rows("Adagrad", "lr_decay", V, -1.0, NAN),
    rows("Adagrad", "initial_accumulator_value", V, -1.0, NAN),
    rows("RMSprop", "alpha", V, -1.0, NAN),
    rows("NAdam", "momentum_decay", V, -1.0, NAN),
    rows("Adadelta", "rho", V, -1.0, 1.5, NAN),
    rows("Muon", "ns_coefficients", T, 3.0, (1.0, 2.0), ("a", "b", "c")),
    rows("Muon", "adjust_lr_fn", V, "x", name="[Aa]djust.learning.rate"),
]

# --- rules and strengths -------------------------------------------------------------------------

MAPS = sorted({type(case.rule).__name__ for case in map_cases.MAPS})


def keyword(cls: str, key: str, **others: Any) -> Callable[[Any], Any]:
    return lambda value: getattr(halflife, cls)(**{**others, key: value})


def given(cls: str, key: str, *values: Any, error: Any = V, **others: Any) -> Row:
    return Row(f"{cls}.{key}", keyword(cls, key, **others), key, error, values)


BUDGET: dict[str, Any] = {"value": 0.05, "batch_size": 8, "dataset_size": 100, "epochs": 3}
RULES = [
    *(
        Row(f"{cls}.rule", keyword(cls, "rule"), "rule", V, ("indpendent", "x"))
        for cls in (*MAPS, "Proximal")
    ),
    *(
        Row(f"{cls}.rule", keyword(cls, "rule"), "decay", T, (3, Decoupled, None))
        for cls in (*MAPS, "Proximal")
    ),
    given("HuberDecay", "delta", 0.0, -1.0, NAN, *WRONG),
    given("NormControl", "target", *OUT, *WRONG),
    given("PowerDecay", "power", 0.0, *OUT, *WRONG),
    given("ProximalL1", "metric", "x", None, 1),
    given("ProximalNorm", "per_tensor", "no", 3, None),
    given("Anchored", "to", NAN, INF, "x", True, {}, [1.0]),
    given("Anchored", "dtype", "bf16", "nn", 3),
    given("Anchored", "device", "cpuu", []),
    given("Fraction", "value", -1.0, 1.0, NAN, INF, *WRONG),
    given("TargetRMS", "value", 0.0, *OUT, *WRONG),
    given("Rotation", "radians", 0.0, -1.0, 4.0, NAN, *WRONG),
    *(given(cls, "steps", 0, -5, 1, NAN, "5", True, [5]) for cls in ("HalfLife", "Timescale")),
    *(
        given(cls, "epochs", 0, -5, NAN, "5", True, [5], steps_per_epoch=10)
        for cls in ("HalfLife", "Timescale")
    ),
    *(
        given(cls, "steps_per_epoch", 0, -5, NAN, "5", True, [5], epochs=2)
        for cls in ("HalfLife", "Timescale")
    ),
    given("Normalized", "value", -1.0, NAN, INF, 99.0, *WRONG, **BUDGET),
    *(
        given("Normalized", key, 0, -1, NAN, INF, "5", None, True, **BUDGET)
        for key in ("batch_size", "dataset_size", "epochs")
    ),
    given("TotalDecay", "total", *OUT, *WRONG, schedule=[1.0]),
    given("TotalDecay", "schedule", [2.0], [NAN], [-1.0], 3, None, ["a"], total=1.0),
    given("TotalDecay", "steps", 0, -1, 1.5, "3", True, total=1.0, schedule=lambda t: 1.0),
]

# --- schedules -----------------------------------------------------------------------------------

RESTARTS = schedules.cosine_warm_restarts(2, steps_per_epoch=3)
THEOREM = {"b2": 1e-3, "c_inf": 0.1, "delta": 1.0}
CYCLES = {"T_0": 2, "T_mult": 1, "steps_per_epoch": 3}


def curve(make: Any, key: str, *values: Any, error: Any = V, **others: Any) -> Row:
    what = getattr(make, "__name__", str(make))
    return Row(f"{what}.{key}", lambda v: make(**{**others, key: v}), key, error, values)


def scheduler(make: Any, key: str, *values: Any, name: str = "", **others: Any) -> Row:
    def call(value: Any) -> Any:
        return make(**{"optimizer": adamw(), **others, key: value})

    return Row(f"{make.__name__}.{key}", call, name or key, T, values)


SCHEDULES = [
    *(curve(c, "total", *COUNT) for c in (schedules.linear, schedules.cosine)),
    *(curve(c, "final", *OUT, *WRONG, total=3) for c in (schedules.linear, schedules.cosine)),
    *(curve(c, "start", *OUT, *WRONG, total=3) for c in (schedules.linear, schedules.cosine)),
    curve(schedules.multistep, "milestones", [3, 3], [5, 2], 3, None),
    Row("multistep.milestones", schedules.multistep, "each milestone", V, ([0], [1.5], ["a"])),
    curve(schedules.multistep, "gamma", 0.0, *OUT, *WRONG, milestones=[3]),
    curve(schedules.exponential, "rate", 0.0, -1.0, 1.5, NAN, *WRONG),
    curve(schedules.exponential.reaching, "final", 0.0, 1.5, NAN, "x", total=3),
    curve(schedules.exponential.reaching, "total", *COUNT, final=0.5),
    *(curve(schedules.exponential.theorem, key, *OUT, *WRONG, **THEOREM) for key in THEOREM),
    curve(schedules.log_time, "t0", 0.0, *OUT, *WRONG),
    curve(schedules.warmup, "steps", -1, NAN, 1.5, "3", None, True),
    curve(schedules.warmup, "start", -1.0, 1.5, NAN, "x", steps=3),
    curve(schedules.warmup, "then", 1.0, "x", None, steps=3, error=T),
    *(curve(schedules.cosine_warm_restarts, key, *COUNT, **CYCLES) for key in CYCLES),
    curve(schedules.cosine_warm_restarts, "eta_min", *OUT, [], [NAN], None, True, **CYCLES),
    curve(schedules.cosine_warm_restarts, "eta_max", *OUT, [], [NAN], None, True, **CYCLES),
    curve(schedules.normalized_decay, "base", "x", None, restarts=RESTARTS),
    curve(schedules.normalized_decay, "restarts", 3, None, error=T),
    Row("curve.step", schedules.cosine(3), "step", V, (-1, NAN, 1.5, "3", None, True)),
    Row("snapshot_epochs", RESTARTS.snapshot_epochs, "epochs", V, COUNT),
    scheduler(schedules.CurveLR, "curve", 3, None, "x"),
    scheduler(schedules.WeightDecayScheduler, "curve", 3, None, "x"),
    scheduler(schedules.JointScheduler, "lr", 3, None, weight_decay=schedules.constant()),
    scheduler(schedules.JointScheduler, "weight_decay", 3, None, lr=schedules.constant()),
    scheduler(schedules.CurveLR, "optimizer", None, 3, name="Optimizer", curve=RESTARTS),
    scheduler(schedules.WeightDecayScheduler, "optimizer", None, 3, curve=RESTARTS),
    Row(
        "WeightDecayScheduler.move_to",
        lambda v: schedules.WeightDecayScheduler(adamw(), schedules.cosine(3)).move_to(v),
        "step",
        V,
        (-1, NAN, 1.5, "3", None, True),
    ),
]

# --- functions -----------------------------------------------------------------------------------


def groups(key: str, error: Any, *values: Any, name: str = "") -> Row:
    layer = torch.nn.Linear(2, 2)
    call = lambda v: halflife.param_groups(layer, **{key: v})  # noqa: E731
    return Row(f"param_groups.{key}", call, name or key, error, values)


FUNCTIONS = [
    groups("policy", V, "gtp2", "", None, 3),
    groups("weight_decay", V, *OUT, "0.1", True),
    groups("lr", V, *OUT, "0.1", True),
    groups("layer_decay", V, -1.0, 0.0, 1.5, NAN, "0.5", True),
    groups("overrides", T, 3, [1]),
    groups("overrides", V, {"x": {}}, name="override 'x'"),
    groups("overrides", V, {"weight": {"lr": -1.0}}, name="override 'weight': lr"),
    Row("param_groups.model", halflife.param_groups, "model", T, (3, None, [1])),
    Row(
        "clip_grad_norm_.max_norm",
        lambda v: halflife.clip_grad_norm_(adamw(), v),
        "max_norm",
        V,
        (-1.0, NAN, "1", None, True),
    ),
    Row(
        "clip_grad_norm_.optimizer",
        lambda v: halflife.clip_grad_norm_(v, 1.0),
        "optimizer",
        T,
        (3, None, [1]),
    ),
    Row(
        "describe.steps_per_epoch",
        lambda v: halflife.describe(adamw(), steps_per_epoch=v),
        "steps_per_epoch",
        V,
        (0, -1, NAN, "3", True, [3]),
    ),
    Row("describe.optimizer", halflife.describe, "optimizer", T, (3, None)),
    Row("decayed.base", halflife.decayed, "decayed", T, (3, torch.nn.Linear)),
    Row("attach.rule", lambda v: halflife.attach(adamw(), v), "decay", V, ("decuopled",)),
    Row("attach.rule", lambda v: halflife.attach(adamw(), v), "decay", T, (3, None, Decoupled)),
    Row(
        "attach.peak_lr",
        lambda v: halflife.attach(adamw(), "independent", peak_lr=v),
        "peak_lr",
        V,
        (*OUT, 0.1),
    ),
    Row(
        "attach.peak_lr",
        lambda v: halflife.attach(adamw(), "independent", peak_lr=v),
        "peak_lr",
        T,
        ("3", True),
    ),
    Row(
        "create.name",
        lambda v: halflife.algorithms.create(v, weight()),
        "name",
        V,
        ("adamww", "adam", "swd", ""),
    ),
    Row("create.name", lambda v: halflife.algorithms.create(v, weight()), "name", T, (3, None)),
    Row(
        "create.lrr", lambda v: halflife.algorithms.create("adamw", weight(), lrr=v), "lrr", T, (1,)
    ),
    Row(
        "create.weight_decay",
        lambda v: halflife.algorithms.create("sgdw", weight(), weight_decay=v),
        "weight_decay",
        V,
        (*OUT, 2.0),
    ),
    Row("check_rule", testing.check_rule, "decay|rule", V, ("decuopled",)),
]

# --- theory --------------------------------------------------------------------------------------

PROBLEM: dict[str, Any] = {
    "smoothness": 1.0, "gradient_bound": 1.0, "noise": 1.0, "gap": 1.0, "delta": 1.0,
}  # fmt: skip
DELTA: dict[str, Any] = {"beta2": 0.25, "gradient_bound": 1.0, "delta": 0.5}
STAGES: dict[str, Any] = {"lr": 0.5, "beta1": 0.5, "steps": 3, "stages": 2}
GRADIENT: dict[str, Any] = {"weight_norm": 1.0, "weight_decay": 0.1, "lr": 0.1, "next_lr": 0.1}
SGD: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.1, "momentum": 0.1}
BOUND: dict[str, Any] = {
    "total": 9.0, "samples": 9, "dimension": 3, "squared_norm": 1.0, "prior_variance": 1.0,
}  # fmt: skip
THEORY = [
    *(curve(convergence.Problem, key, *OUT, *WRONG, **PROBLEM) for key in PROBLEM),
    curve(convergence.Problem, "batch", *COUNT, **PROBLEM),
    curve(convergence.decay_shrinkage, "gradient_bound", *OUT, *WRONG, **DELTA),
    curve(convergence.decay_shrinkage, "delta", 0.0, *OUT, *WRONG, **DELTA),
    curve(convergence.slowest_decay_factor, "mu", *OUT, *WRONG),
    curve(stagewise.doubling_stages, "lr", 0.0, *OUT, *WRONG, **STAGES),
    curve(stagewise.doubling_stages, "stages", *COUNT, **STAGES),
    curve(stagewise.doubling_stages, "steps", *COUNT, **STAGES),
    curve(adagrad.Restarts, "radius", 0.0, *OUT, *WRONG, dimension=1, condition=1.0),
    curve(adagrad.Restarts, "dimension", *COUNT, radius=1.0, condition=1.0),
    curve(adagrad.Restarts, "condition", 0.5, NAN, INF, radius=1.0, dimension=1),
    curve(least_squares.LeastSquares, "horizon", *COUNT, 2),
    *(
        curve(gradient_norms.uncoupled_decay_gradient, k, *OUT, *WRONG, **GRADIENT)
        for k in GRADIENT
    ),
    *(
        curve(scale_invariance.Equilibrium, key, 0.0, *OUT, *WRONG, **SGD)
        for key in ("lr", "weight_decay")
    ),
    curve(scale_invariance.GrowingRate, "momentum", 1.0, *OUT, *WRONG, **SGD),
    curve(scale_invariance.norm_exponent, "gradient_power", -2.0, NAN, INF, *WRONG),
    curve(orthogonal.update_rms, "rows", *COUNT, columns=2),
    curve(orthogonal.update_memory, "momentum", 1.0, *OUT, *WRONG, rows=2, columns=2),
    curve(constraint.max_norm_use, "weight_decay", *OUT, *WRONG, weights=torch.ones(2)),
    curve(constraint.largest_update, "beta2", 1.0, *OUT, *WRONG, beta1=0.5),
    *(curve(pac_bayes.bound, k, 0.0, *OUT, *WRONG, **BOUND) for k in ("total", "failure")),
    *(curve(pac_bayes.bound, k, *COUNT, **BOUND) for k in ("samples", "dimension")),
]


@pytest.mark.parametrize(
    ("call", "name", "error", "value"),
    list(cases([*OPTIMIZERS, *RULES, *SCHEDULES, *FUNCTIONS, *THEORY])),
)
def test_the_message_says_which_what_and_how_else(
    call: Any, name: str, error: type[Exception], value: Any
) -> None:
    check(call, name, error, value)


def test_the_table_is_long() -> None:
    assert len(list(cases([*OPTIMIZERS, *RULES, *SCHEDULES, *FUNCTIONS, *THEORY]))) > 220


# --- where an object exists already, nothing has changed ------------------------------------------

GROUPS = [
    {"lr": -1.0}, {"lr": NAN}, {"lr": "0.1"}, {"weight_decay": -1.0}, {"weight_decay": INF},
    {"weight_decay": "0.1"}, {"weight_decay": 1e4}, {"peak_lr": -1.0}, {"peak_lr": 1e-9},
    {"peak_lr": "1"}, {"decay": "decuopled"}, {"decay": 3}, {"eps": NAN},
]  # fmt: skip


@pytest.mark.parametrize("entries", GROUPS, ids=str)
def test_a_refused_late_group_leaves_the_optimizer(entries: dict[str, Any]) -> None:
    optimizer = halflife.AdamW(weight(), lr=0.1)
    before = copy.deepcopy(optimizer.state_dict())
    (key,) = entries
    with pytest.raises((ValueError, TypeError), match=key):
        optimizer.add_param_group({"params": weight(), **entries})
    assert optimizer.state_dict() == before
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("rule", ["decuopled", 3, Decoupled, None], ids=str)
def test_a_refused_attach_leaves_the_optimizer(rule: Any) -> None:
    optimizer = adamw()
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises((ValueError, TypeError), match="decay="):
        halflife.attach(optimizer, rule)
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.state_dict() == before


@pytest.mark.parametrize("step", [-1, NAN, 1.5, "3"])
def test_a_refused_move_leaves_the_schedule(step: Any) -> None:
    optimizer = adamw()
    scheduler = schedules.WeightDecayScheduler(optimizer, schedules.cosine(3))
    before = copy.deepcopy((optimizer.state_dict(), scheduler.state_dict()))
    with pytest.raises(ValueError, match="step"):
        scheduler.move_to(step)
    assert (optimizer.state_dict(), scheduler.state_dict()) == before


@pytest.mark.parametrize("norm", [-1.0, NAN, "1", None])
def test_a_refused_clip_leaves_the_gradients(norm: Any) -> None:
    params = weight()
    params[0].grad = torch.full((2, 2), 3.0)
    with pytest.raises(ValueError, match="max_norm"):
        halflife.clip_grad_norm_(halflife.SGD(params), norm)
    assert torch.equal(params[0].grad, torch.full((2, 2), 3.0))
