"""Every rule of two scalars on every optimizer but SGD and Adam, which `test_rules` has."""

from __future__ import annotations

import pytest
import torch

import cases
from cases import PEAK, RULES, RuleCase
from halflife import Proximal
from halflife.optim.asgd import ASGD
from oracles import fraction_and_size

SCHEDULES = cases.schedules()
# L2 is added by hand below, to a gradient that is descended; AdamDelta and HeavyBall have
# `test_paper_optimizers`.
OPTIMIZERS = [o for o in (*cases.TORCHS, *cases.OURS) if not o.arguments.get("maximize")]
ALLOWED = [(r, o.name) for o in OPTIMIZERS for r in RULES if not o.refuses(r.rule)]
REFUSED = [(o.name, r.id) for o in OPTIMIZERS for r in RULES if o.refuses(r.rule)]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("rule", "name"), ALLOWED, ids=lambda x: getattr(x, "id", x))
def test_a_rule_is_its_two_scalars_around_the_native_step(
    rule: RuleCase, name: str, schedule: str
) -> None:
    """``w' = (1 - d) w + (native step without decay, at size s)``, at every step of a run."""
    optimizer = cases.optimizer(name)
    cls, settings = optimizer.cls, optimizer.arguments
    params, twins = (cases.make_params(shapes=optimizer.shapes) for _ in range(2))
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
    for t, row in enumerate(cases.make_gradients(shapes=optimizer.shapes)):
        before = [p.detach().clone() for p in params]
        cases.set_gradients(params, row)
        for i, group in enumerate(ours.param_groups):
            group["lr"] = SCHEDULES[schedule][t] / (i + 1)
        ours.step()
        e = ours.last_effective_rate if "effective_rate" in rule.rule.needs else 1.0
        if "gradient_norm" in rule.rule.needs:
            gradients = [g for g in row if g is not None]
            weights = [w for w, g in zip(before, row, strict=True) if g is not None]
            e = float(torch.cat([g.flatten() for g in gradients]).norm())
            e /= float(torch.cat([w.flatten() for w in weights]).norm())
        cases.set_gradients(twins, row)
        expected: dict[int, float] = {}
        for i, group in enumerate(native.param_groups):
            lr, peak = SCHEDULES[schedule][t] / (i + 1), PEAK / (i + 1)
            fraction, size = fraction_and_size(rule.id, lams[i], lr, peak, e)
            group["lr"] = size
            expected |= {id(p): fraction for p in group["params"]}
            for p, start in zip(group["params"], before[parts[i]], strict=True):
                with torch.no_grad():
                    p.copy_(start)
                if rule.rule.joins_gradient and p.grad is not None:
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
    optimizer = cases.optimizer(name)
    params = cases.make_params(shapes=optimizer.shapes)
    start = [p.detach().clone() for p in params]
    case = next(r for r in RULES if r.id == rule)
    cases.set_gradients(params, cases.make_gradients(1, shapes=optimizer.shapes)[0])
    with pytest.raises(ValueError, match=r"effective rate, and|not proportional to the lr"):
        optimizer.make(params, case, weight_decay=0.1).step()
    assert all(torch.equal(p, before) for p, before in zip(params, start, strict=True))


def test_asgd_refuses_a_late_group_and_stays_as_it_is() -> None:
    optimizer = ASGD(cases.make_params())
    with pytest.raises(ValueError, match="a step of ASGD is not proportional to the lr"):
        optimizer.add_param_group(
            {"params": [torch.nn.Parameter(torch.ones(1))], "decay": Proximal()}
        )
    assert len(optimizer.param_groups) == 1
