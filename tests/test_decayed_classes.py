"""``decayed`` and ``attach``: a rule on any class, and on an optimizer that exists."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch

import cases
from cases import PEAK, RULES, RuleCase, weights
from halflife import AdamW, Decayed, Independent, attach, decayed
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
