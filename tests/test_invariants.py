"""The invariants of a decayed optimizer, over whole trainings drawn by Hypothesis.

Shapes (0-dim, empty), memory layouts, dtypes, groups with settings of their own, late groups,
schedules that start or end at 0, gradients that are missing or zero: see `strategies`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

import reference
import strategies
from cases import MAPS, RULES, MapCase, RuleCase, Seen
from strategies import (
    ADAMS,
    BASES,
    EVERY,
    HALF,
    NAMES,
    Scenario,
    advance,
    examples,
    prepare,
    same,
    scenarios,
    take,
    values,
)
from torch_versions import ADAGRAD_TAKES_GROUPS

# HeavyBall's steps are of other lrs than this one's (test_identities has it), and ASGD decays
# by its lambd, which needs the weights.
DEFINED = tuple(b for b in BASES if b not in ("HeavyBall", "ASGD"))
MEASURED = ("stable", "stable_eps", "adaptive")  # their fraction follows what a step measures
BITWISE = ("for-loop", "foreach", "fused")  # ours and torch's choose alike


def run(s: Scenario, *, bare: bool = False) -> list[Tensor]:
    """The weights after all steps; ``bare`` is the native optimizer, without decay."""
    tensors = strategies.params(s)
    optimizer = strategies.start(s, tensors, bare=bare)
    for t in range(len(s.multipliers)):
        advance(s, optimizer, tensors, t, bare)
    return values(tensors)


# --- 1: w <- a w - s u ---------------------------------------------------------------------------


def second_moment(twin: Any, p: Tensor, group: dict[str, Any]) -> Tensor:
    state = twin.state[p]
    key = "max_exp_avg_sq" if group.get("amsgrad") else "exp_avg_sq"
    correction = 1 - group["betas"][1] ** float(state["step"])
    return state[key].double() / correction


class Definition:
    """What the weights must be after a step, in float64, by the published update of each rule.

    The native optimizer without decay runs on weights of zero, so that what it makes of them is
    its update to the last bit; it shares gradients, learning rates and flags with ours.
    """

    def __init__(self, s: Scenario) -> None:
        self.s = s
        self.tensors = strategies.params(s, zero=True)
        self.twin = strategies.start(s, self.tensors, bare=True)
        self.initial = [p.detach().double() for p in strategies.params(s)]

    def step(self, t: int, before: list[Tensor]) -> dict[int, tuple[Tensor, Tensor]]:
        """Expected weights and allowed errors of the tensors that have a gradient."""
        s, tensors = self.s, self.tensors
        prepare(s, self.twin, tensors, t, bare=True)
        sign = -1.0 if s.options.get("maximize") else 1.0
        live = [i for i, p in enumerate(tensors) if p.grad is not None]
        lengths = [  # of the gradients and of the weights, before anything joins them
            math.sqrt(sum(float(x.double().square().sum()) for x in vectors))
            for vectors in ([tensors[i].grad for i in live], [before[i] for i in live])  # type: ignore[union-attr]
        ]
        self.ratio = lengths[0] / lengths[1] if lengths[1] else 0.0
        for i in live:
            if s.groups[s.group_of[i]].rule == "l2":
                wd = s.groups[s.group_of[i]].weight_decay
                tensors[i].grad = tensors[i].grad + sign * wd * before[i]  # type: ignore[operator]
        with torch.no_grad():
            for p in tensors:
                p.zero_()
        take(self.twin)
        moved = {i: tensors[i].detach().double() for i in live}
        weights = {i: before[i].double() for i in live}
        whole = [i for i in live if s.groups[s.group_of[i]].rule == "norm"]
        norm = math.sqrt(sum(float((weights[i] + moved[i]).square().sum()) for i in whole)) or 1.0
        eps = torch.finfo(s.dtype).eps
        expected = {}
        for i in live:
            w, m = weights[i], moved[i]
            case = NAMES[s.groups[s.group_of[i]].rule]
            if isinstance(case, MapCase):
                new = self.map(case, i, t, w, m, norm)
            else:
                new = self.scalar(case, i, t, w, m, live)
            loose = 64 * eps if s.dtype not in HALF else 4 * eps
            if case.id in MEASURED:  # float32 squares, summed in another order
                loose += 1e-5 if s.dtype != torch.float64 else 1e-9
            if case.id == "l2":  # the sum in the gradient is rounded once more
                loose += 1e-3 if s.dtype != torch.float64 else 1e-9
            expected[i] = new, loose * (w.abs() + m.abs()) + torch.finfo(s.dtype).tiny
        return expected

    def scalar(
        self, case: RuleCase, i: int, t: int, w: Tensor, m: Tensor, live: list[int]
    ) -> Tensor:
        index = self.s.group_of[i]
        spec, lr = self.s.groups[index], self.s.lr(index, t)
        u = -m / lr if lr > 0 else 0 * m
        wd = 0.0 if case.id == "l2" else spec.weight_decay  # the gradient has it already
        scale = 1.0
        if case.id in MEASURED:
            scale = self.ratio if case.id == "adaptive" else self.scale(index, live, case.id)
        most = (scale**-2 + 0.5) ** -0.5 if case.id == "stable_eps" and scale else scale
        if case.id in MEASURED and lr * wd * most > 1:
            return m  # clamped
        group = reference.Group([w.numpy()], [lr], wd, spec.peak_lr)
        reference.update(case.reference, group, 0, 0, u.numpy(), scale)
        return torch.as_tensor(np.asarray(group.weights[0]))

    def scale(self, index: int, live: list[int], rule: str) -> float:
        """1/sqrt(mean v_hat) over the whole model; (1 - dampening)/(1 - momentum) on SGD."""
        if self.s.base == "SGD":
            o = self.s.options
            return (1 - o["dampening"]) / (1 - o["momentum"]) if o["momentum"] else 1.0
        group = self.twin.param_groups[0]
        seconds = [second_moment(self.twin, self.tensors[i], group).flatten() for i in live]
        mean = float(torch.cat(seconds).mean()) if torch.cat(seconds).numel() else 0.0
        # Of a mean of 0 the inverse root is infinite; the rule without an eps decays nothing then.
        return mean**-0.5 if mean > 0 else (math.inf if rule == "stable_eps" else 0.0)

    def map(self, case: MapCase, i: int, t: int, w: Tensor, m: Tensor, norm: float) -> Tensor:
        index = self.s.group_of[i]
        spec, lr = self.s.groups[index], self.s.lr(index, t)
        amount = spec.weight_decay * (
            lr if case.amount == "decoupled" else self.s.multipliers[t] / (spec.peak or 1.0)
        )
        metric = None
        if self.s.base in ADAMS:
            group = self.twin.param_groups[0]
            metric = second_moment(self.twin, self.tensors[i], group).sqrt() + self.s.options["eps"]
        seen = Seen(w, -m, metric, self.initial[i], norm)
        if amount == 0.0:
            return w + m
        if case.rule.acts == "before":
            return case.formula(w, amount, seen) + m
        return case.formula(w + m, amount, seen)


def check_definition(s: Scenario) -> None:
    tensors = strategies.params(s)
    optimizer, oracle = strategies.start(s, tensors), Definition(s)
    for t in range(len(s.multipliers)):
        before = values(tensors)
        advance(s, optimizer, tensors, t, bare=False)
        expected = oracle.step(t, before)
        for i, p in enumerate(tensors):
            if i not in expected:
                assert same([p.detach()], [before[i]])
                continue
            new, tolerance = expected[i]
            assume(bool(torch.isfinite(new).all()))
            excess = (p.detach().double() - new).abs() - tolerance
            assert (excess <= 0).all(), (t, i, s.groups[s.group_of[i]].rule, p, new)


@pytest.mark.parametrize("rule", [case.id for case in RULES])
def test_a_step_is_the_published_update_of_its_rule(rule: str) -> None:

    @examples(20)
    @given(scenarios(rules=(rule,), bases=DEFINED))
    def check(s: Scenario) -> None:
        check_definition(s)

    check()


@pytest.mark.parametrize("rule", [case.id for case in MAPS])
def test_a_step_is_the_published_map_around_the_native_step(rule: str) -> None:
    @examples(12)
    @given(scenarios(rules=(rule,), bases=DEFINED))
    def check(s: Scenario) -> None:
        check_definition(s)

    check()


@examples(20)
@given(
    scenarios(
        rules=("decoupled", "independent", "constant", "corrected", "proximal"),
        bases=ADAMS,
        dtypes=HALF,
        others=False,
        minimum_fraction=0.05,
        implementations=("fused",),
    )
)
def test_fused_steps_in_half_precision_are_the_published_update(s: Scenario) -> None:
    check_definition(s)


# --- 4: what must not change ---------------------------------------------------------------------


@examples(40)
@given(scenarios(dtypes=EVERY, implementations=BITWISE))
def test_without_decay_a_group_is_the_native_optimizer_to_the_bit(s: Scenario) -> None:
    """Whatever its rule is, and whatever decays the other groups."""
    first = dataclasses.replace(s.groups[0], fraction=0.0)
    s = dataclasses.replace(s, groups=(first, *s.groups[1:]))
    ours, native = run(s), run(s, bare=True)
    own = [i for i, g in enumerate(s.group_of) if g == 0]
    assume(own)
    assert same([ours[i] for i in own], [native[i] for i in own])


@examples(40)
@given(scenarios(dtypes=EVERY))
def test_a_parameter_that_has_no_gradient_is_untouched(s: Scenario) -> None:
    tensors = strategies.params(s)
    optimizer = strategies.start(s, tensors)
    for t in range(len(s.multipliers)):
        before = values(tensors)
        advance(s, optimizer, tensors, t, bare=False)
        still = [i for i, p in enumerate(tensors) if p.grad is None]
        assert same([tensors[i].detach() for i in still], [before[i] for i in still])


@examples(40)
@given(scenarios(dtypes=EVERY, implementations=BITWISE))
def test_at_an_lr_of_zero_no_weight_changes(s: Scenario) -> None:
    """None that the native optimizer leaves: HeavyBall moves on, float16 may divide 0 by 0."""
    s = dataclasses.replace(s, multipliers=(0.0,) * len(s.multipliers))
    first = [p.detach() for p in strategies.params(s)]
    native = run(s, bare=True)
    assume(any(torch.equal(n, p) for n, p in zip(native, first, strict=True)))
    for ours, theirs, start in zip(run(s), native, first, strict=True):
        assert torch.equal(ours, start) or not torch.equal(theirs, start)


# --- 5: by default they are torch's own ----------------------------------------------------------


def default(s: Scenario, cls: Any) -> tuple[list[Tensor], Any]:
    """Trained without a word about rules; a group's fraction is its weight_decay."""
    tensors = strategies.params(s)
    groups = [
        {"params": [], "lr": spec.lr, "weight_decay": spec.fraction} for spec in s.groups
    ]  # fmt: skip
    for p, g in zip(tensors, s.group_of, strict=True):
        groups[g]["params"].append(p)
    first = 1 if s.base != "Adagrad" or ADAGRAD_TAKES_GROUPS else len(groups)
    optimizer = cls(groups[:first], lr=0.1, **s.options, **s.flags)
    for group in groups[first:]:
        optimizer.add_param_group(group)
    everything = dataclasses.replace(
        s, groups=tuple(dataclasses.replace(g, since=0) for g in s.groups)
    )
    for t in range(len(s.multipliers)):
        advance(everything, optimizer, tensors, t, bare=False)
    return tensors, optimizer


def check_default(s: Scenario) -> None:
    (a, ours), (b, theirs) = (default(s, cls) for cls in BASES[s.base][:2])
    assert same(values(a), values(b))
    for p, q in zip(a, b, strict=True):
        assert ours.state[p].keys() == theirs.state[q].keys()
        entries = [(ours.state[p][k], v) for k, v in theirs.state[q].items()]
        assert all(x is y or same([x], [y]) for x, y in entries)


TORCHS = tuple(b for b in BASES if BASES[b][1].__module__.startswith("torch."))


@pytest.mark.parametrize("base", TORCHS)
def test_the_default_is_torchs_own_to_the_bit(base: str) -> None:
    @examples(10)
    @given(scenarios(bases=(base,), rules=("l2",), implementations=BITWISE))
    def check(s: Scenario) -> None:
        check_default(s)

    check()


@examples(20)
@given(scenarios(bases=("Adam",), rules=("l2",), implementations=("fused",), dtypes=HALF))
def test_in_half_precision_fused_l2_is_torchs_own(s: Scenario) -> None:
    """Everything else keeps a decay that torch's kernels would round away."""
    check_default(s)


# --- 6: groups, scales, signs --------------------------------------------------------------------

WHOLE_MODEL = (*MEASURED, "norm")  # a sum over groups, whose order is another one


def agree(a: list[Tensor], b: list[Tensor], s: Scenario) -> None:
    if s.base == "Adai" or any(g.rule in WHOLE_MODEL for g in s.groups):
        rtol = 1e-11 if s.dtype == torch.float64 else 1e-4
        for p, q in zip(a, b, strict=True):
            torch.testing.assert_close(p, q, rtol=rtol, atol=rtol, equal_nan=True)
    else:
        assert same(a, b)


@examples(40)
@given(scenarios(most_groups=1))
def test_one_group_or_two_with_its_settings_is_the_same(s: Scenario) -> None:
    halves = tuple(i % 2 for i in range(len(s.tensors)))
    agree(run(s), run(dataclasses.replace(s, groups=s.groups * 2, group_of=halves)), s)


@examples(40)
@given(scenarios())
def test_the_order_of_groups_is_irrelevant(s: Scenario) -> None:
    last = len(s.groups) - 1
    turned = tuple(last - g for g in s.group_of)
    s = dataclasses.replace(s, groups=tuple(dataclasses.replace(g, since=0) for g in s.groups))
    agree(run(s), run(dataclasses.replace(s, groups=s.groups[::-1], group_of=turned)), s)


NOT_SCALE_FREE = ("l2", *MEASURED)
SCALE_FREE = tuple(r for r in NAMES if r not in NOT_SCALE_FREE and "preconditioned" not in r)


@examples(40)
@given(scenarios(rules=SCALE_FREE, bases=(*ADAMS, "Lion"), others=False))
def test_rescaled_coordinates_change_no_bit_of_scale_free_methods(s: Scenario) -> None:
    some = tuple(tuple("some" for _ in row) for row in s.gradients)
    options = {**s.options, "eps": 0.0} if "eps" in s.options else s.options
    s = dataclasses.replace(s, gradients=some, options=options)
    assert same(run(s), run(dataclasses.replace(s, rescaled=True)))


@examples(60)
@given(scenarios(dtypes=EVERY, most_groups=1), st.floats(-4, 6), st.floats(0.1, 10.0))
def test_no_fraction_flips_a_sign(s: Scenario, size: float, lr: float) -> None:
    """Where nothing but decay acts, weights shrink and keep their sign, or the rule is refused."""
    assume(not s.groups[0].rule.startswith(("anchored", "norm_control")) and s.base != "ASGD")
    tensors = strategies.params(s)
    before = values(tensors)
    for p in tensors:
        p.grad = torch.zeros_like(p)
    rule = NAMES[s.groups[0].rule].rule
    arguments = {"lr": lr, "decay": rule, **s.options, **s.flags}
    if "eps" in arguments or s.base in ("RMSprop", "Adagrad"):
        arguments["eps"] = 1e-3  # 0 / 0 in float16 otherwise
    optimizer = BASES[s.base][0](tensors, weight_decay=0.0, **arguments)
    optimizer.param_groups[0]["weight_decay"] = 10.0**size
    if rule.name == "l2":  # joins the gradient, and moves the weights as far as the base does
        return
    try:
        take(optimizer)
        refusal = ""
    except ValueError as error:
        refusal = str(error)
    if refusal:
        assert "flips its sign" in refusal
        assert same(values(tensors), before)
    elif s.base != "Yogi":  # its first moment starts from 1e-6, and moves the weights
        for p, w in zip(tensors, before, strict=True):
            assert (p * w >= 0).all()
            assert (p.abs() <= w.abs()).all()
