"""The effective rate, against its definition computed from torch's own state."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

import cases
import halflife
from halflife.bases.effective_rate import SUM_KEY, AdamRate, SGDRate, effective_rate_of
from halflife.tensors.reduction import PerMember

LR = 0.01
BETAS = [(0.9, 0.999), (0.8, 0.95), (0.5, 0.7)]


def definition(optimizer: torch.optim.Optimizer) -> float:
    """(mean of v_hat over all elements with a gradient, of all groups)^(-1/2), from the state."""
    total, count = 0.0, 0
    for group in optimizer.param_groups:
        for p in group["params"]:
            if p.grad is None:
                continue
            state = optimizer.state[p]
            second = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]
            second = torch.view_as_real(second) if second.is_complex() else second
            correction = 1 - group["betas"][1] ** float(state["step"])
            total += float(second.double().sum()) / correction
            count += second.numel()
    return (total / count) ** -0.5


def stable(params: Any, **arguments: Any) -> Any:
    settings = {"lr": LR, "weight_decay": 1e-3, "decay": "stable", **arguments}
    return halflife.Adam(params, **settings)


def groups_of(params: list[Tensor]) -> list[dict[str, Any]]:
    """Three groups with betas of their own."""
    split = [params[:2], params[2:3], params[3:]]
    return [{"params": part, "betas": betas} for part, betas in zip(split, BETAS, strict=True)]


PATTERNS = {
    "every gradient": lambda t, i: True,
    "one misses every other": lambda t, i: i != 2 or t % 2 == 0,
    "one joins late": lambda t, i: i != 1 or t >= 4,
    "one stops": lambda t, i: i != 0 or t < 4,
    "a whole group pauses": lambda t, i: i != 3 or t not in (2, 3, 4),
    "none for a while": lambda t, i: t not in (3, 4),
}


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_adam_rate_is_the_mean_over_the_whole_model(
    pattern: str, dtype: torch.dtype, amsgrad: bool
) -> None:
    params = cases.make_params(dtype=dtype)
    optimizer = stable(groups_of(params), amsgrad=amsgrad)
    for t, row in enumerate(cases.make_gradients(10, missing=False)):
        cases.set_gradients(
            params, [g if PATTERNS[pattern](t, i) else None for i, g in enumerate(row)]
        )
        optimizer.step()
        if all(p.grad is None for p in params):
            assert optimizer.last_effective_rate == 0.0
        else:
            expected = pytest.approx(
                definition(optimizer), rel=1e-12 if dtype == torch.float64 else 2e-6
            )
            assert optimizer.last_effective_rate == expected


@pytest.mark.parametrize("amsgrad", [False, True])
def test_complex_parameters_count_as_two_reals(amsgrad: bool) -> None:
    params = [torch.nn.Parameter(torch.randn(3, 2, dtype=torch.complex128))]
    params.append(torch.nn.Parameter(torch.randn(4, dtype=torch.float64)))
    optimizer = stable(params, amsgrad=amsgrad)
    for _ in range(4):
        for p in params:
            p.grad = torch.randn_like(p)
        optimizer.step()
        assert optimizer.last_effective_rate == pytest.approx(definition(optimizer), rel=1e-12)


@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_sums_are_rebuilt_from_a_torch_checkpoint(dtype: torch.dtype, rel: float) -> None:
    params, twins = cases.make_params(dtype=dtype), cases.make_params(dtype=dtype)
    theirs = torch.optim.Adam(groups_of(twins), lr=LR)
    ours = stable(groups_of(params))
    gradients = cases.make_gradients(12)
    cases.train(theirs, twins, gradients[:7], [[LR] * 7] * 3)
    ours.load_state_dict(theirs.state_dict(), keep="checkpoint")
    for row in gradients[7:]:
        cases.set_gradients(params, row)
        ours.step()
        assert ours.last_effective_rate == pytest.approx(definition(ours), rel=rel)


def test_after_an_infinite_gradient_the_rate_is_zero_and_nothing_warns() -> None:
    """As torch's second moment, which stays infinite; warnings are errors in these tests."""
    params = cases.make_params()
    optimizer = stable(params)
    for t, row in enumerate(cases.make_gradients(4, missing=False)):
        cases.set_gradients(params, row)
        if t == 1:
            params[0].grad[0, 0] = float("inf")  # type: ignore[index]
        optimizer.step()
        assert (optimizer.last_effective_rate == 0.0) == (t >= 1)


def test_the_state_holds_one_current_number_per_parameter() -> None:
    params = cases.make_params()
    optimizer = stable(params)
    for row in cases.make_gradients(5):
        cases.set_gradients(params, row)
        optimizer.step()
    for p in params:
        state = optimizer.state[p]
        assert state[SUM_KEY].shape == ()
        torch.testing.assert_close(state[SUM_KEY], state["exp_avg_sq"].sum(), rtol=1e-12, atol=0)


def test_a_step_that_raises_keeps_the_sums() -> None:
    params = cases.make_params()
    optimizer = stable(params)
    rate = optimizer._measures().rate
    cases.set_gradients(params, cases.make_gradients(1)[0])
    optimizer.step()
    before = copy.deepcopy([optimizer.state[p][SUM_KEY] for p in params])
    rate.of(optimizer.param_groups[0])
    rate.finish(False)
    assert before == [optimizer.state[p][SUM_KEY] for p in params]


def test_the_gradients_may_carry_a_graph() -> None:
    """Of a backward with create_graph: no warning, and no graph that grows from step to step."""
    w = torch.nn.Parameter(torch.randn(4, dtype=torch.float64))
    optimizer = stable([w])
    for _ in range(3):
        (w.grad,) = torch.autograd.grad((w**4).sum(), w, create_graph=True)
        optimizer.step()
        assert not optimizer.state[w][SUM_KEY].requires_grad
        assert optimizer.last_effective_rate == pytest.approx(definition(optimizer), rel=1e-12)


def test_half_precision_parameters() -> None:
    params = cases.make_params(dtype=torch.bfloat16)
    optimizer = stable(params)
    squares = torch.zeros(len(params), dtype=torch.float64)
    for t, row in enumerate(cases.make_gradients(5, missing=False)):
        cases.set_gradients(params, row)
        optimizer.step()
        now = torch.stack([p.grad.double().square().sum() for p in params])  # type: ignore[union-attr]
        squares = 0.999 * squares + 0.001 * now
        mean = squares.sum() / (1 - 0.999 ** (t + 1)) / sum(p.numel() for p in params)
        # Against the gradients, not exp_avg_sq: in bfloat16 that one has three digits.
        assert optimizer.last_effective_rate == pytest.approx(float(mean) ** -0.5, rel=1e-6)


def test_per_member_is_one_optimizer_per_member() -> None:
    """The interface by which the ensemble uses the rate."""
    members, steps = 3, 4
    stacked = [torch.nn.Parameter(torch.randn(members, 4, 2)), torch.nn.Parameter(torch.ones(3))]
    native = torch.optim.Adam(stacked, lr=1.0, fused=True)
    rate = AdamRate(native, PerMember())
    alone = [[torch.nn.Parameter(p[m].detach().clone()) for p in stacked] for m in range(members)]
    optimizers = [stable(params) for params in alone]
    for _ in range(steps):
        for p in stacked:
            p.grad = torch.randn_like(p)
        together = torch.as_tensor(rate.of(native.param_groups[0]))
        native.step()
        rate.finish(True)
        assert together.shape == (members,)
        for m, (params, optimizer) in enumerate(zip(alone, optimizers, strict=True)):
            for p, q in zip(params, stacked, strict=True):
                p.grad = q.grad[m].clone()  # type: ignore[index]
            optimizer.step()
            assert float(together[m]) == pytest.approx(optimizer.last_effective_rate, rel=1e-6)


@pytest.mark.parametrize(
    ("momentum", "dampening", "rate"),
    [(0.9, 0.0, 10.0), (0.9, 0.5, 5.0), (0.0, 0.0, 1.0), (0.0, 0.7, 1.0)],
)
def test_sgd_rate(momentum: float, dampening: float, rate: float) -> None:
    """(1 - dampening)/(1 - momentum); without momentum torch ignores the dampening."""
    group = {"momentum": momentum, "dampening": dampening}
    assert SGDRate().of(group) == pytest.approx(rate, rel=1e-14)


RATED = [o for o in cases.OPTIMIZERS if "effective_rate" not in o.lacks]


@pytest.mark.parametrize("case", RATED, ids=lambda case: case.name)
def test_the_last_rate_is_known_after_a_step_that_asked_and_not_before(
    case: cases.OptimizerCase,
) -> None:
    """The rate is ``d / (lr wd)`` of what a step with a tiny gradient left of the weights."""
    runs = {}
    for wd in (0.0, 1e-3):
        params = cases.make_params(shapes=case.shapes)
        optimizer = case.cls(params, lr=LR, weight_decay=wd, decay="stable", **case.arguments)
        assert optimizer.last_effective_rate is None
        cases.set_gradients(params, cases.make_gradients(1, shapes=case.shapes)[0])
        optimizer.step()
        runs[wd] = params, optimizer
    (without, _), (with_decay, optimizer) = runs[0.0], runs[1e-3]
    start = cases.weights(cases.make_params(shapes=case.shapes))
    removed = (cases.weights(without) - cases.weights(with_decay)) / start / (LR * 1e-3)
    # The updates are the same with and without decay, beside rounding of weights of size 1.
    expected = pytest.approx(float(removed.median()), rel=1e-8)
    assert optimizer.last_effective_rate == expected
    assert optimizer.last_measured("mean_square") ** -0.5 == expected
    other = case.cls(params, lr=LR, weight_decay=1e-3, decay="decoupled", **case.arguments)
    cases.set_gradients(params, cases.make_gradients(1, shapes=case.shapes)[0])
    other.step()
    assert other.last_effective_rate is None  # no rule has asked


def test_groups_whose_rates_differ_are_asked_one_by_one() -> None:
    params = cases.make_params()
    groups = [{"params": params[:2]}, {"params": params[2:], "momentum": 0.5, "weight_decay": 0.0}]
    optimizer = halflife.SGD(groups, LR, momentum=0.9, weight_decay=1e-3, decay="stable")
    cases.set_gradients(params, cases.make_gradients(1)[0])
    optimizer.step()
    first, second = optimizer.param_groups
    assert optimizer.last_measured("effective_rate", first) == pytest.approx(10.0, rel=1e-14)
    assert optimizer.last_measured("effective_rate", second) == 2.0
    assert optimizer.last_measured("mean_square", second) == 0.25
    with pytest.raises(ValueError, match=r"effective_rate: the groups of the last step have \[2.0"):
        _ = optimizer.last_effective_rate


def test_sgd_rate_is_the_steady_state_of_torchs_own_buffer() -> None:
    w = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    theirs = torch.optim.SGD([w], lr=1.0, momentum=0.8, dampening=0.3)
    for _ in range(400):
        w.grad = torch.ones_like(w)
        theirs.step()
    rate = SGDRate(theirs).of(theirs.param_groups[0])
    assert float(theirs.state[w]["momentum_buffer"]) == pytest.approx(rate, rel=1e-12)


def test_who_declares_a_rate() -> None:
    w = [torch.zeros(1, requires_grad=True)]
    kinds = {
        torch.optim.SGD: SGDRate,
        torch.optim.Adam: AdamRate,
        torch.optim.AdamW: AdamRate,
        halflife.AdamW: AdamRate,
        torch.optim.Rprop: type(None),
    }
    for cls, kind in kinds.items():
        assert type(effective_rate_of(cls(w, lr=0.1))) is kind  # type: ignore[call-arg]


class Refusing(torch.optim.Adam):
    """Adam whose step fails where it is told to, before anything has changed."""

    refuses = False

    def step(self, closure: Any = None) -> Any:
        if self.refuses:
            raise RuntimeError("planted")
        return super().step(closure)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_a_step_that_the_native_optimizer_refuses_leaves_no_trace_in_the_rate(
    amsgrad: bool,
) -> None:
    """Neither in what is kept of the steps before, nor as the rate of the step after it."""
    params, lrs = cases.make_params(), cases.schedule("cosine")
    settings = {"weight_decay": 1e-3, "decay": "stable", "amsgrad": amsgrad}
    optimizer: Any = halflife.decayed(Refusing)(params, lr=lrs[0], **settings)
    for lr, row in zip(lrs, cases.make_gradients(6, missing=False), strict=False):
        optimizer.param_groups[0]["lr"] = lr
        cases.set_gradients(params, [10.0 * g for g in row if g is not None])
        before, optimizer.refuses = optimizer.last_effective_rate, True
        with pytest.raises(RuntimeError, match="planted"):
            optimizer.step()
        assert optimizer.last_effective_rate == before
        cases.set_gradients(params, row)
        optimizer.refuses = False
        optimizer.step()
        assert optimizer.last_effective_rate == pytest.approx(definition(optimizer), rel=1e-12)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_as_many_gradients_need_not_be_those_of_the_same_weights(amsgrad: bool) -> None:
    """On (a, b), then on (a, c), on (a, b) again, and on the first of them alone."""
    params = [torch.nn.Parameter(torch.randn(3, dtype=torch.float64)) for _ in range(3)]
    optimizer = stable(params, amsgrad=amsgrad)
    generator = torch.Generator().manual_seed(1)
    for t, present in enumerate(([0, 1], [0, 2], [0, 1], [0], [0, 1, 2], [1, 2])):
        optimizer.zero_grad()
        for i in present:
            scale = 10.0 ** (i + t % 2)
            params[i].grad = scale * torch.randn(3, dtype=torch.float64, generator=generator)
        optimizer.step()
        assert optimizer.last_effective_rate == pytest.approx(definition(optimizer), rel=1e-12)
