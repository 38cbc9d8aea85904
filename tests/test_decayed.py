"""The mechanism: what a decayed optimizer changes, restores, survives and refuses."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import cases
from cases import CORE, IMPLEMENTATIONS, PEAK, RULES, OptimizerCase, RuleCase, weights
from halflife import AdamW, Decayed, decayed

by_id: Any = {"ids": lambda case: getattr(case, "id", None)}
LRS = cases.schedule("cosine")


# --- scalars are the user's -----------------------------------------------------------------------


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("optimizer", CORE, **by_id)
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


def test_a_peak_below_the_lr_by_rounding_is_no_error() -> None:
    """0.1 + 0.2 is 0.30000000000000004: who computes the lr and writes the peak has not erred."""
    w = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    ours = AdamW([w], lr=0.1 + 0.2, peak_lr=0.3, weight_decay=0.5, decay="independent")
    cases.stepped(ours, [w], 1)
    torch.testing.assert_close(w.detach(), torch.full_like(w, 0.5), rtol=1e-14, atol=0)


# --- what must stay untouched ---------------------------------------------------------------------


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("optimizer", CORE, **by_id)
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


# --- hooks, closures and mixed precision ----------------------------------------------------------


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


@pytest.mark.parametrize("implementation", ["open", "fused", "for-loop"])
@pytest.mark.parametrize(
    "optimizer", [cases.optimizer(name) for name in ("SGD-momentum", "AdamW", "AMSGrad")], **by_id
)
@pytest.mark.parametrize("rule", RULES, **by_id)
def test_grad_scaler(rule: RuleCase, optimizer: OptimizerCase, implementation: str) -> None:
    """With a scaler: a step with an infinite gradient changes nothing, the others are as without.

    Also the very first step, and, for a parameter, the step with its first gradient.
    """
    flags = IMPLEMENTATIONS[implementation]
    # torch's fused SGD starts dampened momentum for all parameters of a group at once.
    late = 0 if "fused" in flags and "dampening" in optimizer.arguments else 4
    params, twins = cases.make_params(dtype=torch.float32), cases.make_params(dtype=torch.float32)
    ours, plain = optimizer.make(params, rule, **flags), optimizer.make(twins, rule, **flags)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1000)
    for t, row in enumerate(cases.make_gradients(8, missing=False)):
        lr = LRS[t]
        ours.param_groups[0]["lr"] = plain.param_groups[0]["lr"] = lr
        scaler.scale(torch.ones(1))  # creates the scale
        scale = scaler.get_scale()
        cases.set_gradients(params, [g * scale for g in row if g is not None])
        broken = t in (0, 4)
        if t < late:
            params[2].grad = None
        if broken:
            params[1].grad[0] = float("inf")  # type: ignore[index]
            before = weights(params).clone()
        scaler.step(ours)
        scaler.update()
        if broken:
            assert torch.equal(weights(params), before)
        else:
            cases.set_gradients(
                twins, [None if i == 2 and t < late else g for i, g in enumerate(row)]
            )
            plain.step()
    torch.testing.assert_close(weights(params), weights(twins), rtol=1e-6, atol=1e-6)
