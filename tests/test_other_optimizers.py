"""Bitwise torch's other optimizers by default, and every scalar rule on every optimizer."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing._internal.common_optimizers import OptimizerErrorEnum, optim_db

import cases
import own_optimizers
from cases import PEAK, RULES, STEPS, RuleCase
from halflife import Decoupled, L2Regularization, Proximal, decayed
from halflife.bases.effective_rate import effective_rate_of
from halflife.bases.mean_rate import MeanRate
from halflife.optim.adadelta import Adadelta
from halflife.optim.adagrad import Adagrad
from halflife.optim.adamax import Adamax
from halflife.optim.asgd import ASGD
from halflife.optim.muon import Muon
from halflife.optim.nadam import NAdam
from halflife.optim.radam import RAdam
from halflife.optim.rmsprop import RMSprop
from halflife.optim.yogi import Yogi

TWINS: dict[Any, Any] = {
    torch.optim.Adadelta: Adadelta,
    torch.optim.Adagrad: Adagrad,
    torch.optim.Adamax: Adamax,
    torch.optim.ASGD: ASGD,
    torch.optim.Muon: Muon,
    torch.optim.NAdam: NAdam,
    torch.optim.RAdam: RAdam,
    torch.optim.RMSprop: RMSprop,
}
INFOS = [info for info in optim_db if info.optim_cls in TWINS]
IMPLEMENTATIONS: dict[str, dict[str, bool]] = {
    "open": {},
    "for-loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
INPUTS = [
    pytest.param(
        info.optim_cls,
        {**given.kwargs, **flags},
        id=f"{info.optim_cls.__name__}-{given.desc}-{implementation}",
    )
    for info in INFOS
    for given in info.optim_inputs_func(device="cpu")
    for implementation, flags in IMPLEMENTATIONS.items()
    if flags.keys() <= inspect.signature(info.optim_cls).parameters.keys()
]
SCHEDULES = cases.schedules()


def test_the_database_covers_the_twins() -> None:
    assert {info.optim_cls for info in INFOS} == set(TWINS)


# --- by default they are torch's own -------------------------------------------------------------


def make_params(cls: Any, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    shapes = [(5, 3), (4, 4), (2, 6)] if issubclass(cls, torch.optim.Muon) else cases.SHAPES
    generator = torch.Generator().manual_seed(0)
    return [
        torch.nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64).to(dtype))
        for s in shapes
    ]


def make_gradients(params: list[torch.Tensor], steps: int) -> list[list[torch.Tensor | None]]:
    """One parameter misses every other gradient."""
    generator = torch.Generator().manual_seed(1)
    return [
        [
            None
            if t % 2 and i == cases.EVERY_OTHER
            else torch.randn(p.shape, generator=generator, dtype=torch.float64)
            for i, p in enumerate(params)
        ]
        for t in range(steps)
    ]


def outcome(cls: Any, dtype: torch.dtype, schedule: str, kwargs: dict[str, Any]) -> Any:
    """Weights and state after some steps; or the error, which is torch's to raise."""
    kwargs = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in kwargs.items()}
    params = make_params(cls, dtype)
    try:
        optimizer = cls(params, **kwargs)
        base = float(optimizer.param_groups[0]["lr"])
        for t, row in enumerate(make_gradients(params, 8)):
            cases.set_gradients(params, row)
            lr = base if schedule == "constant" else base * 0.5 * (1 + math.cos(math.pi * t / 6))
            group = optimizer.param_groups[0]
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr
            optimizer.step()
    except (RuntimeError, ValueError) as error:
        return str(error)
    return [(p, optimizer.state[p]) for p in params]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize(("torch_class", "kwargs"), INPUTS)
def test_bitwise_equal(
    torch_class: Any, kwargs: dict[str, Any], schedule: str, dtype: torch.dtype
) -> None:
    if dtype is torch.bfloat16:
        kwargs = kwargs | {"weight_decay": 0.0}  # torch's is lost in rounding, ours is not
    theirs = outcome(torch_class, dtype, schedule, kwargs)
    ours = outcome(TWINS[torch_class], dtype, schedule, kwargs)
    if isinstance(theirs, str):
        assert ours == theirs
        return
    for (p, state), (q, expected) in zip(ours, theirs, strict=True):
        assert torch.equal(p, q)
        assert state.keys() == expected.keys()
        for key, value in expected.items():
            assert value is None or torch.equal(state[key], value), key


ERRORS = [
    pytest.param(info.optim_cls, error, id=f"{info.optim_cls.__name__}-{given.desc}")
    for info in INFOS
    for error in info.optim_error_inputs_func(device="cpu", dtype=torch.float32)
    for given in [error.optimizer_error_input]
    if error.error_on == OptimizerErrorEnum.CONSTRUCTION_ERROR
]


@pytest.mark.parametrize(("torch_class", "error"), ERRORS)
def test_error_inputs_raise_the_same_errors(torch_class: Any, error: Any) -> None:
    given = error.optimizer_error_input
    params = [torch.nn.Parameter(torch.randn(2, 2))] if given.params is None else given.params
    if issubclass(error.error_type, Warning):
        with pytest.warns(error.error_type, match=error.error_regex):
            TWINS[torch_class](params, **given.kwargs)
    else:
        with pytest.raises(error.error_type, match=error.error_regex):
            TWINS[torch_class](params, **given.kwargs)


@pytest.mark.parametrize("torch_class", TWINS)
def test_signature_and_defaults_are_torchs(torch_class: Any) -> None:
    wanted = inspect.signature(torch_class).parameters
    got = inspect.signature(TWINS[torch_class]).parameters
    own = {"decay", "peak_lr", "unknown"}
    assert [n for n in got if n not in own] == list(wanted)
    assert all(got[n].default == p.default for n, p in wanted.items())
    positional = [n for n, p in wanted.items() if p.kind == p.POSITIONAL_OR_KEYWORD]
    assert all(got[n].kind == wanted[n].kind for n in positional)


@pytest.mark.parametrize("torch_class", TWINS)
def test_default_rule_is_what_torch_does(torch_class: Any) -> None:
    params = make_params(torch_class)
    decoupled = Decoupled() if torch_class is torch.optim.Muon else L2Regularization()
    assert TWINS[torch_class](params).param_groups[0]["decay"] == decoupled
    if "decoupled_weight_decay" in inspect.signature(torch_class).parameters:
        switched = TWINS[torch_class](params, decoupled_weight_decay=True)
        assert switched.param_groups[0]["decay"] == Decoupled()


# --- every rule on every optimizer ---------------------------------------------------------------

# Settings that make every factor of an update differ from 1.
OPTIMIZERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "Adadelta": (Adadelta, {}),
    "Adagrad": (Adagrad, {"lr_decay": 0.1, "initial_accumulator_value": 0.2}),
    "Adamax": (Adamax, {}),
    # torch's own lambd multiplies the weights too, after ours: not additive.
    "ASGD": (ASGD, {"lambd": 0.0, "t0": 3}),
    "Muon": (Muon, {"adjust_lr_fn": "match_rms_adamw"}),
    "NAdam": (NAdam, {"momentum_decay": 0.1}),
    "RAdam": (RAdam, {"betas": (0.9, 0.99)}),
    "RMSprop": (RMSprop, {"momentum": 0.5}),
    "RMSprop-centered": (RMSprop, {"centered": True, "alpha": 0.9}),
    **{
        name: (cls, settings)
        for name, (cls, _, _, settings) in own_optimizers.OPTIMIZERS.items()
        if not settings.get("maximize")  # L2 is added by hand below
    },
}
REFUSED = {
    ("ASGD", "proximal"),
    ("ASGD", "proximal_independent"),
    ("ASGD", "stable"),
    ("Lion", "stable"),
    ("Muon", "stable"),
}


def decay_and_scale(rule: str, lam: float, lr: float, peak: float, e: float) -> tuple[float, float]:
    """(fraction removed, step size over lr), from the definitions."""
    fraction = {
        "l2": 0.0,
        "decoupled": lr * lam,
        "independent": lr / peak * lam,
        "constant": lam if lr > 0 else 0.0,
        "corrected": lr * lr / peak * lam,
        "stable": lr * lam * e,
        "adaptive": lr * lam * e,
        "proximal": 1 - 1 / (1 + lr * lam),
        "proximal_independent": 1 - 1 / (1 + lr / peak * lam),
    }[rule]
    return fraction, 1 - fraction if rule.startswith("proximal") else 1.0


ALLOWED = [(r, name) for name in OPTIMIZERS for r in RULES if (name, r.id) not in REFUSED]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("rule", "name"), ALLOWED, ids=lambda x: getattr(x, "id", x))
def test_a_rule_is_its_two_scalars_around_the_native_step(
    rule: RuleCase, name: str, schedule: str
) -> None:
    """``w' = (1 - d) w + (native step without decay, at size s)``, at every step of a run."""
    cls, settings = OPTIMIZERS[name]
    params, twins = make_params(cls), make_params(cls)
    parts = {0: slice(0, 2), 1: slice(2, None)}
    lams = {0: rule.weight_decay / 4, 1: rule.weight_decay / 12}
    groups = [{"params": params[parts[i]], "lr": PEAK / (i + 1)} for i in parts]
    for i, group in enumerate(groups):
        group["weight_decay"] = lams[i]
    ours = cls(groups, decay=rule.rule, **settings)
    native = cls(
        [{"params": twins[parts[i]], "lr": PEAK / (i + 1)} for i in parts],
        weight_decay=0.0,
        **settings,
    )
    for t, row in enumerate(make_gradients(params, STEPS)):
        before = [p.detach().clone() for p in params]
        cases.set_gradients(params, row)
        for i, group in enumerate(ours.param_groups):
            group["lr"] = SCHEDULES[schedule][t] / (i + 1)
        ours.step()
        e = ours.last_effective_rate if rule.id == "stable" else 1.0
        if rule.id == "adaptive":
            gradients = [g for g in row if g is not None]
            weights = [w for w, g in zip(before, row, strict=True) if g is not None]
            e = float(torch.cat([g.flatten() for g in gradients]).norm())
            e /= float(torch.cat([w.flatten() for w in weights]).norm())
        cases.set_gradients(twins, row)
        expected: dict[int, float] = {}
        for i, group in enumerate(native.param_groups):
            lr, peak = SCHEDULES[schedule][t] / (i + 1), PEAK / (i + 1)
            fraction, scale = decay_and_scale(rule.id, lams[i], lr, peak, e)
            group["lr"] = lr * scale
            expected |= {id(p): fraction for p in group["params"]}
            for p, start in zip(group["params"], before[parts[i]], strict=True):
                with torch.no_grad():
                    p.copy_(start)
                if rule.id == "l2" and p.grad is not None:
                    p.grad += lams[i] * start
        native.step()
        for p, q, start in zip(params, twins, before, strict=True):
            lost = 0.0 if p.grad is None else expected[id(q)]
            torch.testing.assert_close(
                p.detach(), q.detach() - lost * start, rtol=1e-11, atol=1e-13
            )
            assert 0 <= lost < 1


@pytest.mark.parametrize(("name", "rule"), sorted(REFUSED))
def test_refused(name: str, rule: str) -> None:
    cls, settings = OPTIMIZERS[name]
    params = make_params(cls)
    start = [p.detach().clone() for p in params]
    case = next(r for r in RULES if r.id == rule)
    cases.set_gradients(params, make_gradients(params, 1)[0])
    with pytest.raises(ValueError, match=r"effective rate, and|not proportional to the lr"):
        cls(params, lr=PEAK, decay=case.rule, weight_decay=0.1, **settings).step()
    assert all(torch.equal(p, before) for p, before in zip(params, start, strict=True))


def test_asgd_refuses_a_late_group_and_stays_as_it_is() -> None:
    optimizer = ASGD(make_params(ASGD))
    with pytest.raises(ValueError, match="a step of ASGD is not proportional to the lr"):
        optimizer.add_param_group(
            {"params": [torch.nn.Parameter(torch.ones(1))], "decay": Proximal()}
        )
    assert len(optimizer.param_groups) == 1


# --- stable decay: e_t is (mean E_t^-2)^(-1/2), read off the state after the step ----------------


def second(s: Any, group: Any, key: str = "exp_avg_sq", correct: bool = True) -> np.ndarray:
    return s[key].numpy() / (1 - group["betas"][1] ** float(s["step"]) if correct else 1.0)


def of_radam(s: Any, group: Any) -> np.ndarray:
    b2, t = group["betas"][1], float(s["step"])
    rho_inf = 2 / (1 - b2) - 1
    rho = rho_inf - 2 * t * b2**t / (1 - b2**t)
    if rho <= 5:
        return np.ones_like(s["exp_avg_sq"].numpy())
    r = math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
    return second(s, group) / r**2


def of_padam(s: Any, group: Any) -> np.ndarray:
    key = "max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"
    return s[key].numpy() ** (2 * group["partial"]) / (1 - group["betas"][1] ** float(s["step"]))


def of_rmsprop(s: Any, group: Any) -> np.ndarray:
    centre = s["grad_avg"].numpy() ** 2 if group["centered"] else 0.0
    return (s["square_avg"].numpy() - centre) * (1 - group["momentum"]) ** 2


def of_adagrad(s: Any, group: Any) -> np.ndarray:
    return s["sum"].numpy() * (1 + (float(s["step"]) - 1) * group["lr_decay"]) ** 2


INVERSE_SQUARES: dict[str, Callable[[Any, Any], np.ndarray]] = {
    "NAdam": second,
    "RAdam": of_radam,
    "Adagrad": of_adagrad,
    "Adamax": lambda s, group: s["exp_inf"].numpy() ** 2,
    "RMSprop": of_rmsprop,
    "RMSprop-centered": of_rmsprop,
    "Yogi": second,
    "Padam": of_padam,
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.complex128])
@pytest.mark.parametrize("name", INVERSE_SQUARES)
def test_effective_rate_from_the_state(name: str, dtype: torch.dtype) -> None:
    cls, settings = OPTIMIZERS[name]
    params = make_params(cls, dtype)
    groups = [{"params": params[:2]}, {"params": params[2:]}]
    optimizer = cls(groups, lr=1e-3, decay="stable", weight_decay=0.01, **settings)
    for row in make_gradients(params, 12):
        cases.set_gradients(params, row)
        optimizer.step()
        terms = []
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    state = {
                        k: (torch.view_as_real(v) if v.is_complex() else v).double()
                        for k, v in optimizer.state[p].items()
                    }
                    terms.append(INVERSE_SQUARES[name](state, group).ravel())
        expected = float(np.mean(np.concatenate(terms))) ** -0.5
        tolerance = 1e-6 if dtype == torch.float32 else 1e-12
        assert optimizer.last_effective_rate == pytest.approx(expected, rel=tolerance)


def test_effective_rate_of_adadelta() -> None:
    """Its update's mean square is from before the step, so the state after it does not tell."""
    params = make_params(Adadelta)
    optimizer = Adadelta(params, decay="stable", weight_decay=1e-3, eps=1e-3)
    for row in make_gradients(params, 6):
        cases.set_gradients(params, row)
        updates = [optimizer.state[p].get("acc_delta", torch.zeros_like(p)).clone() for p in params]
        optimizer.step()
        terms = [
            ((optimizer.state[p]["square_avg"] + 1e-3) / (u + 1e-3)).flatten()
            for p, u in zip(params, updates, strict=True)
            if p.grad is not None
        ]
        expected = float(torch.cat(terms).mean()) ** -0.5
        assert optimizer.last_effective_rate == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["AdaBound", "AMSBound", "RAdam", "Yogi"])
def test_where_the_update_is_adams_so_is_the_effective_rate(name: str) -> None:
    """A band that clips nothing; RAdam long after its warm-up; Yogi's first step."""
    cls, _ = OPTIMIZERS[name]
    settings = {
        "AdaBound": {"gamma": 1e-12},
        "AMSBound": {"gamma": 1e-12, "amsbound": True},
        "RAdam": {"betas": (0.0, 0.9)},
        "Yogi": {"initial_accumulator": 0.0},
    }[name]
    steps = {"RAdam": 200, "Yogi": 1}.get(name, 10)
    rates = []
    arguments = {"lr": 1e-3, "decay": "stable", "weight_decay": 1e-3}
    betas = settings.get("betas", (0.9, 0.999))
    adam = decayed(torch.optim.Adam)
    for make in (
        lambda p: cls(p, **arguments, **settings),
        lambda p: adam(p, **arguments, betas=betas, amsgrad=name == "AMSBound"),
    ):
        params = make_params(cls)
        optimizer = make(params)
        for row in make_gradients(params, steps):
            cases.set_gradients(params, row)
            optimizer.step()
        rates.append(optimizer.last_effective_rate)
    assert rates[0] == pytest.approx(rates[1], rel=1e-6)


def test_fused_adagrad_under_a_gradient_scaler() -> None:
    """The rate is of the unscaled gradients; a skipped step decays nothing."""
    params, twins = make_params(Adagrad, torch.float32), make_params(Adagrad, torch.float32)
    arguments: dict[str, Any] = {"lr": 0.02, "decay": "stable", "weight_decay": 0.5, "fused": True}
    ours, plain = Adagrad(params, **arguments), Adagrad(twins, **arguments)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1000)
    for t, row in enumerate(make_gradients(params, 6)):
        scaler.scale(torch.ones(1))  # creates the scale
        scale = scaler.get_scale()
        cases.set_gradients(params, [None if g is None else g * scale for g in row])
        before = [p.detach().clone() for p in params]
        if t == 2:
            params[0].grad[0] = float("inf")  # type: ignore[index]
        scaler.step(ours)
        scaler.update()
        if t == 2:
            assert all(torch.equal(p, q) for p, q in zip(params, before, strict=True))
        else:
            cases.set_gradients(twins, row)
            plain.step()
    for p, q in zip(params, twins, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-6)


def test_no_gradient_and_zero_gradients_have_no_rate() -> None:
    params = make_params(Yogi)
    optimizer = Adamax(params, decay="stable", weight_decay=0.1, eps=0.0)
    rates = effective_rate_of(optimizer)
    assert isinstance(rates, MeanRate)
    assert rates.of(optimizer.param_groups[0]) == 0.0
    rates.finish(False)
    for p in params:
        p.grad = torch.zeros_like(p)
    assert rates.of(optimizer.param_groups[0]) == 0.0


def test_a_rate_changes_nothing() -> None:
    """Asking for it leaves state and gradients as they were."""
    for name in INVERSE_SQUARES:
        cls, settings = OPTIMIZERS[name]
        params = make_params(cls)
        optimizer = cls(params, **settings)
        for row in make_gradients(params, 3):
            cases.set_gradients(params, row)
            optimizer.step()
        before = {(id(p), k): v.clone() for p in params for k, v in optimizer.state[p].items()}
        rates: Any = effective_rate_of(optimizer)
        rates.of(optimizer.param_groups[0])
        rates.finish(True)
        own = {"exp_avg_sq_sum"}  # Adam's rate keeps its sum there
        after = {
            (id(p), k): v for p in params for k, v in optimizer.state[p].items() if k not in own
        }
        assert before.keys() == after.keys(), name
        assert all(torch.equal(after[key], value) for key, value in before.items()), name
