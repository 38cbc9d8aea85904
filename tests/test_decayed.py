"""The mechanism: what a decayed optimizer changes, restores, survives and refuses."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref
from typing import Any

import pytest
import torch

import cases
import halflife
from cases import IMPLEMENTATIONS, OPTIMIZERS, PEAK, RULES, STEPS, OptimizerCase, RuleCase
from halflife import AdamW, Decayed, Independent, attach, decayed
from halflife.rules.step import Step

by_id: Any = {"ids": lambda case: getattr(case, "id", None)}
ADAMW = next(o for o in OPTIMIZERS if o.name == "AdamW")
LRS = cases.schedule("cosine")


def weights(params: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in params])


# --- scalars are the user's ----------------------------------------------------------------------


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, **by_id)
@pytest.mark.parametrize("rule", RULES, **by_id)
def test_group_entries_are_restored_after_every_step(
    rule: RuleCase, optimizer: OptimizerCase, implementation: str
) -> None:
    params = cases.make_params()
    ours = optimizer.make(params, rule, **IMPLEMENTATIONS[implementation])
    ours.param_groups[0]["lr"] = PEAK / 3
    before = dict(ours.param_groups[0])
    cases.set_gradients(params, cases.make_gradients(1)[0])
    ours.step()
    after = ours.param_groups[0]
    assert after.keys() == before.keys()
    assert all(after[key] is before[key] for key in before)


@pytest.mark.parametrize("rule", RULES, **by_id)
def test_group_entries_are_restored_when_the_step_raises(rule: RuleCase) -> None:
    class Broken(torch.optim.AdamW):
        def step(self, closure: Any = None) -> None:
            raise RuntimeError("out of memory, say")

    params = cases.make_params()
    ours = decayed(Broken)(params, lr=PEAK, weight_decay=rule.weight_decay, decay=rule.rule)
    ours.param_groups[0]["lr"] = PEAK / 3
    before = dict(ours.param_groups[0])
    cases.set_gradients(params, cases.make_gradients(1)[0])
    with pytest.raises(RuntimeError, match="out of memory"):
        ours.step()
    assert all(ours.param_groups[0][key] is value for key, value in before.items())


def test_a_refused_step_changes_nothing() -> None:
    """The second group is at fault; the first must not have moved."""
    params = cases.make_params()
    groups = [{"params": params[:2]}, {"params": params[2:]}]
    ours = AdamW(groups, lr=0.1, weight_decay=0.1, decay="independent")
    cases.set_gradients(params, cases.make_gradients(1)[0])
    ours.step()
    before, state = weights(params).clone(), copy.deepcopy(ours.state_dict())
    ours.param_groups[1]["lr"] = 0.2
    with pytest.raises(ValueError, match=r"lr=0.2 of parameter group 1 is above its peak_lr=0.1"):
        ours.step()
    assert torch.equal(weights(params), before)
    assert all(
        torch.equal(ours.state_dict()["state"][i][k], v)
        for i, entries in state["state"].items()
        for k, v in entries.items()
    )


def test_any_torch_scheduler_drives_it() -> None:
    """LambdaLR on ours equals the closed form: 1 - (lr_t/peak) wd at zero gradient."""
    w = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    ours = AdamW([w], lr=0.1, weight_decay=0.2, decay="independent")
    scheduler = torch.optim.lr_scheduler.LambdaLR(ours, lambda t: 1 / (1 + t))
    w.grad = torch.zeros_like(w)
    left = 1.0
    for t in range(5):
        ours.step()
        scheduler.step()
        left *= 1 - 0.2 / (1 + t)
    torch.testing.assert_close(w.detach(), torch.full_like(w, left), rtol=1e-14, atol=0)


def test_cosine_annealing_that_returns_above_the_peak_by_rounding_is_no_error() -> None:
    w = torch.nn.Parameter(torch.ones(3))
    ours = AdamW([w], lr=0.1, weight_decay=0.01, decay="independent")
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(ours, T_max=7)
    w.grad = torch.zeros_like(w)
    for _ in range(60):
        ours.step()
        scheduler.step()


# --- what must stay untouched --------------------------------------------------------------------


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, **by_id)
@pytest.mark.parametrize("rule", RULES, **by_id)
def test_no_gradient_and_no_decay_mean_untouched(
    rule: RuleCase, optimizer: OptimizerCase, implementation: str
) -> None:
    """A parameter without a gradient is bitwise the same; a group at 0 is as native without."""
    flags = IMPLEMENTATIONS[implementation]
    params, twins = cases.make_params(), cases.make_params()
    groups = [{"params": params[:2]}, {"params": params[2:], "weight_decay": 0.0}]
    ours = optimizer.make(groups, rule, **flags)
    mro = type(ours).__mro__
    base = mro[mro.index(Decayed) + 1]
    arguments = {k: v for k, v in optimizer.arguments.items()}
    native = base(twins, lr=PEAK, weight_decay=0.0, **arguments, **(flags or {"fused": True}))
    gradients = cases.make_gradients(6, missing=False)
    start = params[0].detach().clone()
    for row in gradients:
        row[0] = None
    cases.train(ours, params, gradients, [LRS, LRS])
    cases.train(native, twins, gradients, [LRS])
    assert torch.equal(params[0], start)
    assert all(torch.equal(p, q) for p, q in zip(params[2:], twins[2:], strict=True))


@pytest.mark.parametrize("rule", RULES, **by_id)
def test_empty_and_late_groups(rule: RuleCase) -> None:
    params = cases.make_params()
    ours = AdamW([{"params": []}], lr=PEAK, weight_decay=rule.weight_decay, decay=rule.rule)
    ours.step()  # nothing to do, no exception
    ours.add_param_group({"params": params, "lr": PEAK / 2})
    assert ours.param_groups[1]["decay"] is rule.rule
    assert ours.param_groups[1]["peak_lr"] == PEAK / 2
    cases.set_gradients(params, cases.make_gradients(1)[0])
    before = weights(params).clone()
    ours.step()
    assert not torch.equal(weights(params), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("rule", RULES, **by_id)
def test_dtypes_layouts_and_ties(rule: RuleCase, dtype: torch.dtype) -> None:
    """Zero-dim, non-contiguous, channels-last and tied parameters follow the contiguous ones."""
    tied = torch.nn.Parameter(torch.randn(4, 3, dtype=dtype))
    image = torch.randn(2, 3, 4, 5, dtype=dtype)
    plain = [
        torch.nn.Parameter(torch.randn(6, 4, dtype=dtype).t().contiguous()),
        torch.nn.Parameter(torch.randn((), dtype=dtype)),
        torch.nn.Parameter(image.clone()),
    ]
    odd = [
        torch.nn.Parameter(plain[0].detach().t().contiguous().t()),
        torch.nn.Parameter(plain[1].detach().clone()),
        torch.nn.Parameter(image.clone().to(memory_format=torch.channels_last)),
    ]
    arguments = {"lr": PEAK, "weight_decay": rule.weight_decay, "decay": rule.rule, "eps": 1e-3}
    straight, ours = AdamW([*plain, tied], **arguments), AdamW([*odd, tied], **arguments)
    for _ in range(3):
        for p, q in zip(plain, odd, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = torch.empty_like(q).copy_(p.grad)
        straight.step()
        ours.step()
    for p, q in zip(plain, odd, strict=True):
        torch.testing.assert_close(p.detach(), q.detach().contiguous())


@pytest.mark.parametrize("rule", RULES, **by_id)
def test_complex_parameters_are_pairs_of_real_ones(rule: RuleCase) -> None:
    z = torch.nn.Parameter(torch.randn(5, dtype=torch.complex128))
    pairs = torch.nn.Parameter(torch.view_as_real(z.detach()).clone())
    arguments = {"lr": PEAK, "weight_decay": rule.weight_decay, "decay": rule.rule}
    one, two = AdamW([z], **arguments), AdamW([pairs], **arguments, foreach=False, fused=False)
    for t in range(4):
        z.grad = torch.randn_like(z)
        pairs.grad = torch.view_as_real(z.grad).clone()
        for optimizer in (one, two):
            optimizer.param_groups[0]["lr"] = LRS[t]
            optimizer.step()
    torch.testing.assert_close(torch.view_as_real(z.detach()), pairs.detach(), rtol=1e-12, atol=0)


# --- hooks and closures --------------------------------------------------------------------------


@pytest.mark.parametrize("make", [AdamW, decayed(torch.optim.NAdam)], ids=["AdamW", "decayed"])
def test_hooks_fire_once_and_closures_run_once(make: Any) -> None:
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])  # wraps the native class's step
    torch.optim.NAdam([torch.zeros(1, requires_grad=True)])
    w = torch.nn.Parameter(torch.ones(2))
    ours = make([w], lr=0.1, weight_decay=0.1, decay="corrected")
    calls: list[str] = []
    ours.register_step_pre_hook(lambda *_: calls.append("pre"))
    ours.register_step_post_hook(lambda *_: calls.append("post"))

    def closure() -> torch.Tensor:
        calls.append("closure")
        assert torch.is_grad_enabled()
        ours.zero_grad()
        loss = (w**2).sum()
        loss.backward()
        return loss

    assert ours.step(closure).item() == 2.0
    assert calls == ["pre", "closure", "post"]


def test_stable_sees_the_gradient_of_the_closure() -> None:
    """The effective rate needs this step's gradient, which a closure makes inside the step."""
    runs = []
    for with_closure in (True, False):
        torch.manual_seed(0)
        w = torch.nn.Parameter(torch.randn(4, dtype=torch.float64))
        ours = AdamW([w], lr=0.1, weight_decay=0.1, decay="stable")

        def closure(w: torch.Tensor = w) -> torch.Tensor:
            w.grad = None
            loss = (w**4).sum()
            loss.backward()
            return loss

        for _ in range(3):
            if with_closure:
                ours.step(closure)
            else:
                closure()
                ours.step()
        runs.append(w.detach())
    assert torch.equal(*runs)


# --- mixed precision -----------------------------------------------------------------------------


@pytest.mark.parametrize("implementation", ["open", "fused", "for-loop"])
@pytest.mark.parametrize("optimizer", [OPTIMIZERS[1], ADAMW, OPTIMIZERS[4]], **by_id)
@pytest.mark.parametrize("rule", RULES, **by_id)
def test_grad_scaler(rule: RuleCase, optimizer: OptimizerCase, implementation: str) -> None:
    """With a scaler: a step with an infinite gradient decays nothing, the others are as without."""
    flags = IMPLEMENTATIONS[implementation]
    params, twins = cases.make_params(dtype=torch.float32), cases.make_params(dtype=torch.float32)
    ours, plain = optimizer.make(params, rule, **flags), optimizer.make(twins, rule, **flags)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1000)
    for t, row in enumerate(cases.make_gradients(8, missing=False)):
        lr = LRS[t]
        ours.param_groups[0]["lr"] = plain.param_groups[0]["lr"] = lr
        scaler.scale(torch.ones(1))  # creates the scale
        scale = scaler.get_scale()
        cases.set_gradients(params, [g * scale for g in row if g is not None])
        # torch's fused SGD leaves its new momentum buffers uninitialised when the very first step
        # is skipped, so that one is broken only for the others.
        broken = t == 3 or (t == 0 and not ("momentum" in optimizer.arguments and "fused" in flags))
        if broken:
            params[1].grad[0] = float("inf")  # type: ignore[index]
            before = weights(params).clone()
        scaler.step(ours)
        scaler.update()
        if broken:
            assert torch.equal(weights(params), before)
        else:
            cases.set_gradients(twins, row)
            plain.step()
    torch.testing.assert_close(weights(params), weights(twins), rtol=1e-6, atol=1e-6)


# --- persistence ---------------------------------------------------------------------------------


def via_state_dict(ours: Any, params: list[torch.Tensor], make: Any) -> tuple[Any, Any]:
    file = io.BytesIO()
    torch.save(ours.state_dict(), file)
    file.seek(0)
    fresh_params = [torch.nn.Parameter(p.detach().clone()) for p in params]
    fresh = make(fresh_params)
    fresh.load_state_dict(torch.load(file))  # the defaults: weights_only
    return fresh, fresh_params


def via_deepcopy(ours: Any, params: list[torch.Tensor], make: Any) -> tuple[Any, Any]:
    copied = copy.deepcopy(ours)
    return copied, [p for g in copied.param_groups for p in g["params"]]


def via_pickle(ours: Any, params: list[torch.Tensor], make: Any) -> tuple[Any, Any]:
    copied = pickle.loads(pickle.dumps(ours))
    return copied, [p for g in copied.param_groups for p in g["params"]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("way", [via_state_dict, via_deepcopy, via_pickle])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, **by_id)
@pytest.mark.parametrize("rule", RULES, **by_id)
def test_resuming_equals_not_stopping(
    rule: RuleCase, optimizer: OptimizerCase, way: Any, dtype: torch.dtype
) -> None:
    def make(params: Any) -> Any:
        groups = [{"params": params[:2]}, {"params": params[2:], "weight_decay": 0.01}]
        return (
            optimizer.make(groups, rule, eps=1e-3)
            if optimizer.runner == "adam"
            else (optimizer.make(groups, rule))
        )

    params = cases.make_params(dtype=dtype)
    ours = make(params)
    gradients = cases.make_gradients()
    half = STEPS // 2 + 1  # the parameter that misses gradients has just missed one
    cases.train(ours, params, gradients[:half], [LRS[:half]] * 2)
    resumed, resumed_params = way(ours, params, make)
    cases.train(ours, params, gradients[half:], [LRS[half:]] * 2)
    cases.train(resumed, resumed_params, gradients[half:], [LRS[half:]] * 2)
    assert torch.equal(weights(params), weights(resumed_params))


@pytest.mark.parametrize("rule", RULES, **by_id)
def test_state_dict_is_plain_data(rule: RuleCase) -> None:
    ours = AdamW(cases.make_params(), decay=rule.rule, weight_decay=0.01)

    def plain(value: Any) -> bool:
        if isinstance(value, dict):
            return all(isinstance(k, (str, int)) and plain(v) for k, v in value.items())
        if isinstance(value, (list, tuple)):
            return all(map(plain, value))
        return isinstance(value, (int, float, str, bool, torch.Tensor, type(None)))

    assert plain(ours.state_dict())
    assert isinstance(ours.param_groups[0]["decay"], halflife.DecayRule)  # live, it stays an object


def test_an_unknown_rule_in_a_checkpoint_changes_nothing() -> None:
    ours = AdamW(cases.make_params(), lr=0.1)
    checkpoint = ours.state_dict()
    checkpoint["param_groups"][0].update(decay={"name": "decupled"}, lr=0.7)
    with pytest.raises(ValueError, match="'decupled': unknown rule, did you mean 'decoupled'"):
        ours.load_state_dict(checkpoint)
    assert ours.param_groups[0]["lr"] == 0.1


def test_mid_schedule_resume_with_a_torch_scheduler() -> None:
    def make() -> tuple[Any, Any, Any]:
        torch.manual_seed(3)
        w = torch.nn.Parameter(torch.randn(4))
        ours = AdamW([w], lr=0.1, weight_decay=0.05, decay="corrected")
        return w, ours, torch.optim.lr_scheduler.OneCycleLR(ours, max_lr=0.1, total_steps=20)

    def go(w: Any, ours: Any, scheduler: Any, steps: range) -> None:
        for t in steps:
            w.grad = torch.full_like(w, 0.1 * (t + 1))
            ours.step()
            scheduler.step()

    straight, stopped, resumed = make(), make(), make()
    go(*straight, range(18))
    go(*stopped, range(7))
    resumed[0].data.copy_(stopped[0])
    resumed[2].load_state_dict(stopped[2].state_dict())
    resumed[1].load_state_dict(stopped[1].state_dict())
    go(*resumed, range(7, 18))
    assert torch.equal(straight[0], resumed[0])


def test_no_reference_cycle_keeps_the_model_alive() -> None:
    w = torch.nn.Parameter(torch.ones(3))
    ours = AdamW([w], decay="stable", weight_decay=0.1)
    w.grad = torch.ones(3)
    ours.step()
    watch = weakref.ref(ours)
    del ours
    gc.collect()
    assert watch() is None


# --- decayed and attach --------------------------------------------------------------------------


@pytest.mark.parametrize("base", [torch.optim.NAdam, torch.optim.RAdam, torch.optim.RMSprop])
def test_decayed_without_a_rule_is_native(base: Any) -> None:
    a, b = cases.make_params(), cases.make_params()
    ours, theirs = decayed(base)(a, lr=0.01, weight_decay=0.1), base(b, lr=0.01, weight_decay=0.1)
    gradients = cases.make_gradients(6)
    for optimizer, params in ((ours, a), (theirs, b)):
        cases.train(optimizer, params, gradients, [LRS])
    assert torch.equal(weights(a), weights(b))


BASES = [
    torch.optim.Adadelta,
    torch.optim.Adagrad,
    torch.optim.Adamax,
    torch.optim.ASGD,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
    torch.optim.Rprop,
]


@pytest.mark.parametrize("rule", [r for r in RULES if r.id not in ("l2", "stable")], **by_id)
@pytest.mark.parametrize("base", BASES, ids=lambda b: b.__name__)
def test_decayed_puts_every_rule_on_any_base(base: Any, rule: RuleCase) -> None:
    """The update without decay is the native one: w' = (1 - d) w + s/lr (native step)."""
    params, twins = cases.make_params(), cases.make_params()
    own = {"lambd": 0.0} if base is torch.optim.ASGD else {}  # ASGD's other, built-in decay
    arguments = {"decay": rule.rule, "weight_decay": rule.weight_decay}
    if base in (torch.optim.ASGD, torch.optim.Rprop) and isinstance(rule.rule, halflife.Proximal):
        # Their lr does not scale the coming step: see test_native.
        with pytest.raises(ValueError, match=f"a step of {base.__name__} is not proportional"):
            decayed(base)(params, lr=PEAK, **own, **arguments)
        theirs = base(params, lr=PEAK, weight_decay=rule.weight_decay) if own else base(params)
        with pytest.raises(ValueError, match=f"a step of {base.__name__} is not proportional"):
            attach(theirs, rule.rule)
        assert type(theirs) is base
        return
    ours = decayed(base)(params, lr=PEAK, **own, **arguments)
    native = base(twins, lr=PEAK, **own)
    row = cases.make_gradients(1)[0]
    lr = PEAK / 2
    start = weights(params).clone()
    gradient = torch.cat([g.flatten() for g in row if g is not None])
    norms = {"gradient_norm": float(gradient.norm()), "weight_norm": float(start.norm())}
    step = Step(lr, PEAK, rule.weight_decay, norms)
    for optimizer, tensors in ((ours, params), (native, twins)):
        optimizer.param_groups[0]["lr"] = lr
        cases.set_gradients(tensors, row)
    native.param_groups[0]["lr"] = lr * float(rule.rule.direction_scale(step))
    ours.step()
    native.step()
    moved = weights(twins) - start
    expected = (1 - float(rule.rule.fraction(step))) * start + moved
    torch.testing.assert_close(weights(params), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("maximize", [False, True])
def test_l2_reaches_a_base_that_has_none(maximize: bool) -> None:
    """Rprop has no weight_decay at all: the L2 gradient joins the loss's, and the loss's stays."""
    params, twins = cases.make_params(), cases.make_params()
    ours = decayed(torch.optim.Rprop)(
        params, lr=0.01, weight_decay=0.5, decay="l2", maximize=maximize
    )
    native = torch.optim.Rprop(twins, lr=0.01, maximize=maximize)
    for row in cases.make_gradients(4, missing=False):
        cases.set_gradients(params, row)
        cases.set_gradients(twins, row)
        handed = [p.grad for p in params]
        for q in twins:
            q.grad += (-0.5 if maximize else 0.5) * q.detach()  # type: ignore[operator]
        ours.step()
        native.step()
        assert all(p.grad is g for p, g in zip(params, handed, strict=True))
        assert torch.equal(weights(params), weights(twins))


def test_decayed_is_cached_and_picklable() -> None:
    cls = decayed(torch.optim.NAdam)
    assert cls is decayed(torch.optim.NAdam)
    assert decayed(AdamW) is AdamW
    assert pickle.loads(pickle.dumps(cls)) is cls
    assert cls.__name__ == "NAdam"
    assert issubclass(cls, (Decayed, torch.optim.NAdam))


@pytest.mark.parametrize("base", [torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD])
def test_attach_equals_having_been_built_so(base: Any) -> None:
    a, b = cases.make_params(), cases.make_params()
    built = decayed(base)(a, lr=PEAK, weight_decay=0.03, decay="independent")
    attached = base(b, lr=PEAK, weight_decay=0.03)
    assert attach(attached, "independent") is attached
    for optimizer, params in ((built, a), (attached, b)):
        cases.train(optimizer, params, cases.make_gradients(), [LRS])
    assert torch.equal(weights(a), weights(b))
    assert isinstance(attached, Decayed)


def test_attach_keeps_state_and_hooks_and_a_scheduler_built_before() -> None:
    w = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    theirs = torch.optim.AdamW([w], lr=0.1, weight_decay=0.2)
    scheduler = torch.optim.lr_scheduler.StepLR(theirs, 1, gamma=0.5)
    calls: list[int] = []
    theirs.register_step_post_hook(lambda *_: calls.append(1))
    w.grad = torch.zeros_like(w)
    theirs.step()
    scheduler.step()
    attach(theirs, Independent(), peak_lr=0.1)
    before = w.detach().clone()
    theirs.step()  # through the wrapper that the scheduler has put on the instance
    scheduler.step()  # warns if it thinks that no step was taken
    torch.testing.assert_close(w.detach(), before * (1 - 0.5 * 0.2), rtol=1e-14, atol=0)
    assert calls == [1, 1]
    assert theirs.state[w]["step"] == 2


def test_attach_refuses_a_replaced_step_and_bad_values() -> None:
    theirs = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=0.1)
    theirs.param_groups[0]["weight_decay"] = 20.0
    with pytest.raises(ValueError, match="would remove the fraction 20 of each weight"):
        attach(theirs, "independent")
    assert type(theirs) is torch.optim.AdamW
    theirs.step = lambda: None  # type: ignore[method-assign, assignment]
    with pytest.raises(RuntimeError, match="has replaced step of this AdamW"):
        attach(theirs, "decoupled")


def test_switching_the_rule_away_and_back_does_not_use_stale_sums() -> None:
    params, twins = cases.make_params(), cases.make_params()
    ours = AdamW(params, lr=PEAK, weight_decay=0.1, decay="stable")
    theirs = torch.optim.AdamW(twins, lr=PEAK)
    gradients = cases.make_gradients(9, missing=False)
    stable = ours.param_groups[0]["decay"]
    for t, row in enumerate(gradients):
        cases.set_gradients(params, row)
        cases.set_gradients(twins, row)
        ours.param_groups[0]["decay"] = halflife.Decoupled() if 3 <= t < 6 else stable
        ours.step()
        theirs.step()  # its second moments do not depend on the decay
    b2, t = 0.999, len(gradients)
    total = sum(theirs.state[q]["exp_avg_sq"].sum() for q in twins) / (1 - b2**t)
    mean = total / sum(q.numel() for q in twins)
    assert ours.last_effective_rate == pytest.approx(float(mean) ** -0.5, rel=1e-12)


# --- Stable's edges ------------------------------------------------------------------------------


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("amsgrad", [False, True])
def test_stable_without_gradients_or_with_zero_ones_decays_nothing(
    amsgrad: bool, implementation: str
) -> None:
    params = cases.make_params()
    start = weights(params).clone()
    flags = IMPLEMENTATIONS[implementation]
    ours = halflife.Adam(params, 0.1, weight_decay=0.5, decay="stable", amsgrad=amsgrad, **flags)
    ours.step()  # no gradient at all
    for p in params:
        p.grad = torch.zeros_like(p)
    ours.step()
    assert torch.equal(weights(params), start)


def test_stable_is_clamped_at_one_and_says_so_once() -> None:
    w = torch.nn.Parameter(torch.ones(2))
    ours = AdamW([w], lr=0.1, weight_decay=1.0, decay="stable")
    w.grad = torch.full((2,), 1e-6)
    with pytest.warns(UserWarning, match=r"asked for the fraction .* clamped to 1"):
        ours.step()
    for _ in range(2):
        ours.step()  # a warning would be an error here
    assert w.abs().max() <= 0.3 + 1e-6  # three steps of 0.1 on what was cleared, never a sign flip


def test_stable_does_not_spread_a_nan_to_other_parameters() -> None:
    params = cases.make_params()
    ours = AdamW(params, lr=0.1, weight_decay=0.1, decay="stable")
    cases.set_gradients(params, cases.make_gradients(1)[0])
    params[0].grad[0] = float("nan")  # type: ignore[index]
    ours.step()
    assert params[0].isnan().any()  # as torch does
    assert all(p.isfinite().all() for p in params[1:])
