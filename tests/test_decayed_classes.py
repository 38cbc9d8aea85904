"""``decayed`` and ``attach``: a rule on any class, and on an optimizer that exists."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch

import cases
from cases import PEAK, RULES, RuleCase, weights
from halflife import AdamW, Decayed, DecayRule, Independent, attach, decayed
from halflife.rules.step import Step

by_id: Any = {"ids": lambda case: getattr(case, "id", None)}
LRS = cases.schedule("cosine")


@pytest.mark.parametrize("base", [torch.optim.NAdam, torch.optim.RAdam, torch.optim.RMSprop])
def test_decayed_without_a_rule_is_native(base: Any) -> None:
    a, b = cases.make_params(), cases.make_params()
    ours, theirs = decayed(base)(a, lr=0.01, weight_decay=0.1), base(b, lr=0.01, weight_decay=0.1)
    gradients = cases.make_gradients(6)
    for optimizer, params in ((ours, a), (theirs, b)):
        cases.train(optimizer, params, gradients, [LRS])
    assert torch.equal(weights(a), weights(b))


# Muon takes matrices only; Rprop has no class of ours.
OTHERS = {o.native for o in cases.TORCHS if o.name != "Muon"}
# A single step has no effective rate that is known here, and L2 has a test below.
WITHOUT_A_RATE = [
    r for r in RULES if not (r.rule.joins_gradient or "effective_rate" in r.rule.needs)
]
BASES = sorted({*OTHERS, torch.optim.Rprop}, key=lambda base: base.__name__)


@pytest.mark.parametrize("rule", WITHOUT_A_RATE, **by_id)
@pytest.mark.parametrize("base", BASES, ids=lambda b: b.__name__)
def test_decayed_puts_every_rule_on_any_base(base: Any, rule: RuleCase) -> None:
    """The update without decay is the native one: w' = (1 - d) w + s/lr (native step)."""
    params, twins = cases.make_params(), cases.make_params()
    own = {"lambd": 0.0} if base is torch.optim.ASGD else {}  # ASGD's other, built-in decay
    arguments = {"decay": rule.rule, "weight_decay": rule.weight_decay}
    if base in (torch.optim.ASGD, torch.optim.Rprop) and rule.rule.scales_step:
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


@pytest.mark.parametrize(
    "base", [torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD, torch.optim.Rprop]
)
def test_attach_equals_having_been_built_so(base: Any) -> None:
    a, b = cases.make_params(), cases.make_params()
    built = decayed(base)(a, lr=PEAK, weight_decay=0.03, decay="independent")
    own = {} if base is torch.optim.Rprop else {"weight_decay": 0.03}
    attached = base(b, lr=PEAK, **own)
    attached.param_groups[0]["weight_decay"] = 0.03
    assert attach(attached, "independent") is attached
    assert attached.defaults.keys() == built.defaults.keys()  # what a later group inherits
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


@pytest.mark.parametrize("stepped", [True, False])
def test_a_scheduler_built_before_attach_knows_of_the_first_step(stepped: bool) -> None:
    """It warns if it is asked before the optimizer, and not if it is asked after it."""
    w = torch.nn.Parameter(torch.ones(2))
    theirs = torch.optim.AdamW([w], lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(theirs, 1, gamma=0.5)
    attach(theirs, "independent")
    assert theirs.step.__name__ == "step"  # in profiles, too
    if stepped:
        cases.stepped(theirs, [w], 1)
        scheduler.step()  # a warning would be an error
    else:
        with pytest.warns(UserWarning, match="before `optimizer.step"):
            scheduler.step()


def test_attach_refuses_a_replaced_step_and_bad_values() -> None:
    theirs = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=0.1)
    theirs.param_groups[0]["weight_decay"] = 20.0
    with pytest.raises(ValueError, match="would remove the fraction 20 of each weight"):
        attach(theirs, "independent")
    assert type(theirs) is torch.optim.AdamW
    theirs.step = lambda: None  # type: ignore[method-assign, assignment]
    with pytest.raises(RuntimeError, match="has replaced step of this AdamW"):
        attach(theirs, "decoupled")


@dataclass(frozen=True)
class ScheduledL2(DecayRule):
    """``g + weight_decay (lr / peak)^2 w``: the multiple is another one than the coefficient."""

    name = "test_scheduled_l2"
    removes_fraction: ClassVar[bool] = False

    def rate(self, step: Any) -> float:
        return 0.0

    def gradient_coefficient(self, step: Any) -> Any:
        return step.weight_decay * (step.lr / step.peak_lr) ** 2


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_the_multiple_that_joins_the_gradient_is_the_rules(base: Any) -> None:
    """On a base whose native decay is L2, on one with a switch, and on one that is given it."""
    params, twins = cases.make_params(), cases.make_params()
    ours = decayed(base)(params, lr=PEAK, weight_decay=0.5, decay=ScheduledL2())
    native = base(twins, lr=PEAK, weight_decay=0.0)
    for lr, row in zip(LRS, cases.make_gradients(8), strict=False):
        ours.param_groups[0]["lr"] = native.param_groups[0]["lr"] = lr
        cases.set_gradients(params, row)
        cases.set_gradients(twins, row)
        for q in twins:
            if q.grad is not None:
                q.grad += 0.5 * (lr / PEAK) ** 2 * q.detach()
        ours.step()
        native.step()
    torch.testing.assert_close(weights(params), weights(twins), rtol=1e-12, atol=1e-15)
    assert ours.param_groups[0]["weight_decay"] == 0.5


@pytest.mark.parametrize("base", [torch.optim.AdamW, torch.optim.SGD, torch.optim.Rprop])
@pytest.mark.parametrize("peak", [None, 0.4])
def test_a_group_added_after_attach_follows_the_attached_rule(
    peak: float | None, base: Any
) -> None:
    """``1 - (lr / peak) wd``, with what the group leaves open as the optimizer has it."""
    first, own, bare = (torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(3))
    optimizer = attach(base([first], lr=0.2), "independent", peak_lr=peak)
    optimizer.param_groups[0]["weight_decay"] = 0.0
    optimizer.add_param_group({"params": [own], "lr": 0.1, "weight_decay": 0.5})
    optimizer.add_param_group({"params": [bare]})
    native_default = 0.01 if base is torch.optim.AdamW else 0.0
    for group in optimizer.param_groups:
        group["lr"] /= 2
    cases.stepped(optimizer, [first, own, bare], 1)
    share = 0.5 if peak is None else 0.05 / peak
    assert torch.equal(first, torch.ones_like(first))
    torch.testing.assert_close(own.detach(), 1 - share * 0.5 * torch.ones_like(own))
    bare_share = 0.5 if peak is None else 0.1 / peak
    expected = (1 - bare_share * native_default) * torch.ones_like(bare)
    torch.testing.assert_close(bare.detach(), expected, rtol=1e-14, atol=0)
