"""Our own base optimizers: against float64 transcriptions, and torch's conventions."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import numpy as np
import pytest
import torch

import cases
import reference
import reference_optimizers
from cases import PEAK, RULES, RuleCase
from halflife.bases.mean_rate import UnitRate
from halflife.optim.adabound import AdaBound, AdaBoundBase
from halflife.optim.adai import Adai, AdaiBase
from halflife.optim.lion import Lion, LionBase
from halflife.optim.padam import PadamBase
from halflife.optim.yogi import YogiBase
from own_optimizers import OPTIMIZERS

SCHEDULES = cases.schedules()
IMPLEMENTATIONS = {"for-loop": {"foreach": False}, "foreach": {"foreach": True}}


def run_ours(
    cls: Any, settings: dict[str, Any], rule: RuleCase, lrs: list[list[float]]
) -> tuple[Any, list[torch.Tensor]]:
    """Two groups with their own lr and decay; one parameter misses every other gradient."""
    params = cases.make_params()
    groups = [
        {"params": params[:2]},
        {"params": params[2:], "lr": PEAK / 2, "weight_decay": rule.weight_decay / 3},
    ]
    ours = cls(groups, lr=PEAK, weight_decay=rule.weight_decay, decay=rule.rule, **settings)
    cases.train(ours, params, cases.make_gradients(), lrs)
    return ours, params


def run_reference(
    name: str, settings: dict[str, Any], rule: RuleCase, lrs: list[list[float]]
) -> tuple[list[np.ndarray], dict]:
    weights = [p.detach().numpy().copy() for p in cases.make_params()]
    groups = [
        reference.Group(weights[:2], lrs[0], rule.weight_decay, PEAK),
        reference.Group(weights[2:], lrs[1], rule.weight_decay / 3, PEAK / 2),
    ]
    gradients = [
        [[None if g is None else g.numpy() for g in part] for part in (row[:2], row[2:])]
        for row in cases.make_gradients()
    ]
    state = reference_optimizers.run(name, settings, rule.reference, groups, gradients)
    return [*groups[0].weights, *groups[1].weights], state


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.id)
def test_float64_oracle(rule: RuleCase, name: str, schedule: str, implementation: str) -> None:
    cls, _, runner, settings = OPTIMIZERS[name]
    if (runner, rule.id) == ("lion", "stable"):
        pytest.skip("Lion declares no effective rate: refused, see below")
    lrs = [SCHEDULES[schedule], [lr / 2 for lr in SCHEDULES[schedule]]]
    optimizer, ours = run_ours(cls, {**settings, **IMPLEMENTATIONS[implementation]}, rule, lrs)
    expected, state = run_reference(runner, settings, rule, lrs)
    for p, weights in zip(ours, expected, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), weights, rtol=1e-12, atol=1e-14)
    for p, s in zip(ours, [state[key] for key in sorted(state)], strict=True):
        for ours_key, key in {"exp_avg": "m", "exp_avg_sq": "v", "max_exp_avg_sq": "max"}.items():
            if ours_key in optimizer.state[p]:
                got = optimizer.state[p][ours_key].numpy()
                np.testing.assert_allclose(got, s[key], rtol=1e-12, atol=1e-14)
        if "step" in optimizer.state[p]:
            assert optimizer.state[p]["step"] == s["k"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.complex64, torch.bfloat16])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_for_loop_and_foreach_agree(name: str, dtype: torch.dtype) -> None:
    _, cls, _, settings = OPTIMIZERS[name]
    results = []
    for flags in IMPLEMENTATIONS.values():
        params = cases.make_params(dtype=dtype)
        optimizer = cls(params, lr=PEAK, **settings, **flags)
        cases.train(optimizer, params, cases.make_gradients(), [SCHEDULES["cosine"]])
        results.append(params)
    for p, q in zip(*results, strict=True):
        if dtype is torch.bfloat16:  # torch's foreach rounds a factor to bfloat16 first, on the CPU
            torch.testing.assert_close(p, q, rtol=0.02, atol=0.02)
        else:
            assert torch.equal(p, q)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_complex_parameters_are_pairs_of_real_ones(name: str, implementation: str) -> None:
    _, cls, _, settings = OPTIMIZERS[name]
    z = torch.nn.Parameter(torch.randn(5, dtype=torch.complex128))
    pairs = torch.nn.Parameter(torch.view_as_real(z.detach()).clone())
    flags = IMPLEMENTATIONS[implementation]
    one, two = cls([z], **settings, **flags), cls([pairs], **settings, **flags)
    for _ in range(4):
        z.grad = torch.randn_like(z)
        pairs.grad = torch.view_as_real(z.grad).clone()
        one.step()
        two.step()
    assert torch.equal(torch.view_as_real(z.detach()), pairs.detach())


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_scalars_on_the_device_give_the_same(name: str, implementation: str) -> None:
    """lr as a tensor, and, where there is a count of steps, ``capturable``."""
    _, cls, _, settings = OPTIMIZERS[name]
    results = []
    for on_device in (False, True):
        params = cases.make_params()
        lr: Any = torch.tensor(PEAK, dtype=torch.float64) if on_device else PEAK
        flags = dict(IMPLEMENTATIONS[implementation])
        if on_device and cls._counts_steps:
            flags["capturable"] = True
            torch.set_default_dtype(torch.float64)  # for the step count
        optimizer = cls(params, lr=lr, **settings, **flags)
        for row in cases.make_gradients(8):
            cases.set_gradients(params, row)
            optimizer.step()
        results.append(params)
    for p, q in zip(*results, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's own, of inductor
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("cls", dict.fromkeys(base for _, base, _, _ in OPTIMIZERS.values()))
def test_compiled_step_is_the_same_and_compiles_once(cls: Any, implementation: str) -> None:
    """Once without state and once with it, and not again when the lr changes."""
    results = []
    for compiled in (False, True):
        params = cases.make_params(dtype=torch.float32)
        optimizer = cls(params, lr=torch.tensor(PEAK), **IMPLEMENTATIONS[implementation])
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        step = torch.compile(optimizer.step) if compiled else optimizer.step
        for t, row in enumerate(cases.make_gradients(5, missing=False)):
            cases.set_gradients(params, row)
            optimizer.param_groups[0]["lr"].fill_(SCHEDULES["cosine"][t])
            step()
        results.append(params)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
    for p, q in zip(*results, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_tensor_lr_of_one_dimension() -> None:
    params = cases.make_params()
    optimizer = YogiBase(params, lr=torch.tensor([0.1]), foreach=True)
    cases.set_gradients(params, cases.make_gradients(1)[0])
    optimizer.step()
    assert params[2].shape == ()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_maximize_descends_the_negative(name: str) -> None:
    _, cls, _, settings = OPTIMIZERS[name]
    results = []
    for maximize in (False, True):
        params = cases.make_params()
        optimizer = cls(params, lr=PEAK, **{**settings, "maximize": maximize})
        for row in cases.make_gradients(5):
            signed = [None if g is None else (-g if maximize else g) for g in row]
            cases.set_gradients(params, signed)
            optimizer.step()
        results.append(params)
    assert all(torch.equal(p, q) for p, q in zip(*results, strict=True))


# --- identities ----------------------------------------------------------------------------------


def steps_of(optimizer: Any, params: list[torch.Tensor]) -> torch.Tensor:
    cases.train(optimizer, params, cases.make_gradients(), [SCHEDULES["cosine"]])
    return torch.cat([p.detach().flatten() for p in params])


def test_padam_at_one_half_is_adam_with_eps_before_the_correction() -> None:
    a, b = cases.make_params(), cases.make_params()
    ours = steps_of(PadamBase(a, lr=PEAK, partial=0.5, eps=0.0), a)
    theirs = steps_of(torch.optim.Adam(b, lr=PEAK, amsgrad=True, eps=0.0), b)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


def test_adabound_with_a_wide_band_is_adam() -> None:
    a, b = cases.make_params(), cases.make_params()
    ours = steps_of(AdaBoundBase(a, lr=PEAK, gamma=1e-12, eps=0.0), a)
    theirs = steps_of(torch.optim.Adam(b, lr=PEAK, eps=0.0), b)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_adai_without_adaptation_is_momentum() -> None:
    """All gradients of one size: k is beta0 for every weight, a bias-corrected average."""
    w = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
    optimizer = AdaiBase([w], lr=0.5)
    expected, m = 0.0, 0.0
    for t in range(1, 8):
        sign = -1.0 if t % 3 == 0 else 1.0
        w.grad = torch.full_like(w, sign)
        optimizer.step()
        m = 0.9 * m + 0.1 * sign
        expected -= 0.5 * m / (1 - 0.9**t)
    torch.testing.assert_close(w.detach(), torch.full_like(w, expected), rtol=1e-12, atol=0)


def test_adai_is_one_model_however_it_is_grouped() -> None:
    a, b = cases.make_params(), cases.make_params()
    together = steps_of(AdaiBase(a, lr=PEAK), a)
    groups = [{"params": [p]} for p in b]
    apart = AdaiBase(groups, lr=PEAK)
    cases.train(apart, b, cases.make_gradients(), [SCHEDULES["cosine"]] * 4)
    apart_weights = torch.cat([p.detach().flatten() for p in b])
    torch.testing.assert_close(together, apart_weights, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_zero_gradients_move_nothing(name: str) -> None:
    _, cls, runner, settings = OPTIMIZERS[name]
    params = cases.make_params()
    start = [p.detach().clone() for p in params]
    extra = {"initial_accumulator": 0.0, "eps": 1e-3} if runner == "yogi" else {}
    optimizer = cls(params, lr=PEAK, **{**settings, **extra})
    for _ in range(3):
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer.step()
    assert all(torch.equal(p, before) for p, before in zip(params, start, strict=True))


# --- persistence ---------------------------------------------------------------------------------


def via_state_dict(optimizer: Any, params: list[torch.Tensor], make: Any) -> tuple[Any, Any]:
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    fresh_params = [torch.nn.Parameter(p.detach().clone()) for p in params]
    fresh = make(fresh_params)
    fresh.load_state_dict(torch.load(file))
    return fresh, fresh_params


def via_deepcopy(optimizer: Any, params: list[torch.Tensor], make: Any) -> tuple[Any, Any]:
    copied = copy.deepcopy(optimizer)
    return copied, [p for g in copied.param_groups for p in g["params"]]


def via_pickle(optimizer: Any, params: list[torch.Tensor], make: Any) -> tuple[Any, Any]:
    copied = pickle.loads(pickle.dumps(optimizer))
    return copied, [p for g in copied.param_groups for p in g["params"]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("way", [via_state_dict, via_deepcopy, via_pickle])
@pytest.mark.parametrize("decayed", [False, True], ids=["native", "stable"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resuming_equals_not_stopping(
    name: str, decayed: bool, way: Any, dtype: torch.dtype
) -> None:
    with_rule, without, runner, settings = OPTIMIZERS[name]
    if decayed:
        rule = "corrected" if runner == "lion" else "stable"
        settings = {**settings, "decay": rule, "weight_decay": 0.5}

    def make(params: list[torch.Tensor]) -> Any:
        groups = [{"params": params[:2], "lr": PEAK / 2}, {"params": params[2:]}]
        return (with_rule if decayed else without)(groups, lr=PEAK, **settings)

    lrs = [[lr / 2 for lr in SCHEDULES["cosine"]], SCHEDULES["cosine"]]
    gradients = cases.make_gradients()
    straight, params = make(a := cases.make_params(dtype=dtype)), a
    cases.train(straight, params, gradients, lrs)
    stopped, params = make(b := cases.make_params(dtype=dtype)), b
    cases.train(stopped, params, gradients[:10], lrs)
    resumed, params = way(stopped, params, make)
    cases.train(resumed, params, gradients[10:], [schedule[10:] for schedule in lrs])
    assert all(torch.equal(p, q) for p, q in zip(a, params, strict=True))


def test_adabound_keeps_each_groups_base_lr() -> None:
    """Built at its peak, resumed in the middle of a schedule: the band is the same."""
    params = cases.make_params()
    optimizer = AdaBound([{"params": params[:2], "lr": 0.3}, {"params": params[2:]}], lr=0.1)
    assert [group["base_lr"] for group in optimizer.param_groups] == [0.3, 0.1]
    for group in optimizer.param_groups:
        group["lr"] /= 10
    saved = optimizer.state_dict()
    twins = cases.make_params()
    resumed = AdaBound([{"params": twins[:2]}, {"params": twins[2:]}], lr=0.01)
    resumed.load_state_dict(saved)
    assert [group["base_lr"] for group in resumed.param_groups] == [0.3, 0.1]
    for group in saved["param_groups"]:
        del group["base_lr"]  # as another implementation's
    resumed.load_state_dict(saved)
    assert [group["base_lr"] for group in resumed.param_groups] == [0.03, 0.01]
    assert AdaBound(cases.make_params(), lr=0.0, base_lr=0.1).param_groups[0]["base_lr"] == 0.1


def test_counts_that_are_numbers_become_tensors() -> None:
    """Other implementations count in Python."""
    params = cases.make_params()
    optimizer = YogiBase(params)
    cases.set_gradients(params, cases.make_gradients(1)[0])
    optimizer.step()
    saved = optimizer.state_dict()
    for state in saved["state"].values():
        state["step"] = 5
    del saved["param_groups"][0]["capturable"]
    optimizer.load_state_dict(saved)
    assert all(torch.equal(s["step"], torch.tensor(5.0)) for s in optimizer.state.values())
    assert optimizer.param_groups[0]["capturable"] is False
    optimizer.step()


# --- conventions ---------------------------------------------------------------------------------


NAN = float("nan")
INVALID: dict[str, tuple[Any, dict[str, Any], str]] = {
    "lr": (YogiBase, {"lr": -1e-2}, "Invalid learning rate: -0.01"),
    "lr nan": (LionBase, {"lr": NAN}, "Invalid learning rate: nan"),
    "lr tensor": (PadamBase, {"lr": torch.ones(2)}, "Tensor lr must be 1-element"),
    "beta1": (LionBase, {"betas": (1.0, 0.9)}, "Invalid beta parameter at index 0: 1.0"),
    "beta2": (YogiBase, {"betas": (0.9, -0.1)}, "Invalid beta parameter at index 1: -0.1"),
    "eps": (AdaBoundBase, {"eps": -1.0}, "Invalid epsilon value: -1.0"),
    "accumulator": (
        YogiBase,
        {"initial_accumulator": -1.0},
        "Invalid initial_accumulator value: -1.0",
    ),
    "final_lr": (AdaBoundBase, {"final_lr": -0.1}, "Invalid final learning rate: -0.1"),
    "gamma": (AdaBoundBase, {"gamma": 0.0}, "Invalid gamma value: 0.0"),
    "base_lr": (
        AdaBoundBase,
        {"lr": 0.0},
        "Invalid base_lr value: 0.0 (final_lr is scaled by lr / base_lr; pass base_lr= where the "
        "lr starts at 0)",
    ),
    "partial": (PadamBase, {"partial": 0.6}, "Invalid partial value: 0.6"),
    "partial nan": (PadamBase, {"partial": NAN}, "Invalid partial value: nan"),
    "beta0": (AdaiBase, {"betas": (-0.1, 0.9)}, "Invalid beta parameter at index 0: -0.1"),
    "adai beta2": (AdaiBase, {"betas": (0.1, 1.0)}, "Invalid beta parameter at index 1: 1.0"),
    "adai eps": (AdaiBase, {"eps": 0.0}, "Invalid epsilon value: 0.0"),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_values(case: str) -> None:
    cls, arguments, message = INVALID[case]
    with pytest.raises(ValueError, match=r"Invalid|Tensor") as caught:
        cls([torch.nn.Parameter(torch.ones(2))], **arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_sparse_gradients_are_refused(name: str) -> None:
    _, cls, _, settings = OPTIMIZERS[name]
    table = torch.nn.Embedding(4, 2, sparse=True)
    optimizer = cls(table.parameters(), **settings)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match=f"{cls.__name__} does not support sparse gradients"):
        optimizer.step()


def test_adai_has_unit_rate() -> None:
    """So that stable and decoupled decay are one and the same: AdaiS."""
    results = []
    for rule in ("stable", "decoupled"):
        params = cases.make_params()
        optimizer = Adai(params, lr=PEAK, decay=rule, weight_decay=0.5)
        results.append(steps_of(optimizer, params))
    assert torch.equal(*results)
    assert UnitRate().of({}) == 1.0


def test_stable_is_refused_on_lion() -> None:
    w = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match="needs the optimizer's effective rate, and Lion declares"):
        Lion([w], decay="stable", weight_decay=0.1)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_closure_groups_without_gradients_and_late_groups(name: str) -> None:
    _, cls, _, settings = OPTIMIZERS[name]
    a, b = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2))
    optimizer = cls([a], lr=PEAK, **settings)
    assert optimizer.step() is None  # no gradient at all
    assert not optimizer.state

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = a.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3.0
    optimizer.add_param_group({"params": [b]})
    b.grad = torch.ones(2)
    optimizer.step()
    assert not torch.equal(b, torch.ones(2))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_foreign_entry_in_the_state_is_none_of_ours(name: str) -> None:
    """A rule may keep an anchor there before the first step."""
    _, cls, _, settings = OPTIMIZERS[name]
    params = cases.make_params()
    optimizer = cls(params, lr=PEAK, foreach=True, **settings)
    optimizer.state[params[1]]["anchor"] = torch.ones(3)
    cases.set_gradients(params, cases.make_gradients(1)[0])
    optimizer.step()
    assert torch.equal(optimizer.state[params[1]]["anchor"], torch.ones(3))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_left_alone_they_are_the_bases(name: str) -> None:
    cls, base, _, settings = OPTIMIZERS[name]
    a, b = cases.make_params(), cases.make_params()
    ours, theirs = cls(a, **settings), base(b, **settings)
    for optimizer, params in ((ours, a), (theirs, b)):
        for row in cases.make_gradients(5):
            cases.set_gradients(params, row)
            optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))
    extra = {"decay", "peak_lr", "weight_decay"}
    assert set(ours.param_groups[0]) - extra == set(theirs.param_groups[0])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_model_of_empty_tensors_can_be_stepped(name: str, implementation: str) -> None:
    """As torch's optimizers can; Adai has a mean over no element then."""
    _, cls, _, settings = OPTIMIZERS[name]
    w = torch.nn.Parameter(torch.zeros(0, 3))
    optimizer = cls([w], lr=PEAK, **settings, **IMPLEMENTATIONS[implementation])
    w.grad = torch.zeros(0, 3)
    optimizer.step()
    assert w.shape == (0, 3)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_loading_a_checkpoint_adds_no_setting(name: str) -> None:
    """Distributed checkpoints want the same keys saved and live."""
    _, cls, _, settings = OPTIMIZERS[name]
    optimizer = cls(cases.make_params(), lr=PEAK, **settings)
    before = optimizer.state_dict()
    optimizer.load_state_dict(copy.deepcopy(before))
    assert optimizer.state_dict() == before
