"""Clipping: torch's own in value, and norms that reach the optimizer only while they hold."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_ as torch_clip

import cases
import halflife
from halflife import AdamW, clip_grad_norm_
from halflife.bases.effective_rate import AdamRate, HandedSquares

INF, NAN = float("inf"), float("nan")


def groups_of(params: list[Tensor]) -> list[dict[str, Any]]:
    return [{"params": params[:2]}, {"params": params[2:], "weight_decay": 0.02}, {"params": []}]


def stable(params: list[Tensor], cls: Any = AdamW, **arguments: Any) -> Any:
    return cls(groups_of(params), lr=0.01, weight_decay=0.1, decay="stable", **arguments)


def gradients_of(params: list[Tensor]) -> list[Tensor | None]:
    return [p.grad for p in params]


# --- torch's clip --------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("max_norm", [0.0, 0.1, 1.0, 1e6])
@pytest.mark.parametrize(
    ("dtype", "rel"), [(torch.float64, 1e-14), (torch.float32, 1e-6), (torch.bfloat16, 1e-2)]
)
def test_equals_torchs_clip(dtype: torch.dtype, rel: float, max_norm: float, missing: bool) -> None:
    params, twins = cases.make_params(dtype=dtype), cases.make_params(dtype=dtype)
    row = cases.make_gradients(2)[1 if missing else 0]
    cases.set_gradients(params, row)
    cases.set_gradients(twins, row)
    norm = clip_grad_norm_(stable(params), max_norm)
    expected = torch_clip(twins, max_norm)
    assert norm.shape == ()
    assert float(norm) == pytest.approx(float(expected), rel=rel)
    for p, q in zip(params, twins, strict=True):
        if q.grad is None:
            assert p.grad is None
        else:
            torch.testing.assert_close(p.grad, q.grad, rtol=rel, atol=0)


@pytest.mark.parametrize("share", [0.99, 1.01, 1.5, 1.99, 2.01])
def test_a_bound_just_above_the_norm_changes_nothing(share: float) -> None:
    """Clipping makes gradients smaller, or leaves every bit of them."""
    params = cases.make_params()
    row = cases.make_gradients(1)[0]
    cases.set_gradients(params, row)
    norm = sum(float(g.square().sum()) for g in row if g is not None) ** 0.5
    clip_grad_norm_(stable(params), share * norm)
    for p, g in zip(params, row, strict=True):
        if g is not None:
            scale = share * norm / (norm + 1e-6) if share < 1.0 else 1.0
            torch.testing.assert_close(p.grad, g * scale, rtol=1e-14 if share < 1.0 else 0, atol=0)


@pytest.mark.parametrize("bad", [INF, NAN])
def test_a_norm_that_is_not_finite_scales_as_torchs(bad: float) -> None:
    params, twins = cases.make_params(), cases.make_params()
    for tensors in (params, twins):
        cases.set_gradients(tensors, cases.make_gradients(1)[0])
        tensors[0].grad[0, 0] = bad  # type: ignore[index]
    norm, expected = clip_grad_norm_(stable(params), 1.0), torch_clip(twins, 1.0)
    torch.testing.assert_close(norm, expected, equal_nan=True)
    for p, q in zip(params, twins, strict=True):
        torch.testing.assert_close(p.grad, q.grad, equal_nan=True)


@pytest.mark.parametrize("bad", [INF, NAN])
def test_error_if_nonfinite_comes_before_any_change(bad: float) -> None:
    params = cases.make_params()
    cases.set_gradients(params, cases.make_gradients(1)[0])
    params[0].grad[0, 0] = bad  # type: ignore[index]
    before = [p.grad.clone() for p in params]  # type: ignore[union-attr]
    with pytest.raises(RuntimeError, match=rf"the gradient norm is {bad}, so it cannot be scaled"):
        clip_grad_norm_(stable(params), 1.0, error_if_nonfinite=True)
    for p, b in zip(params, before, strict=True):
        torch.testing.assert_close(p.grad, b, equal_nan=True, rtol=0, atol=0)


def test_infinite_bound_only_measures() -> None:
    params = cases.make_params()
    cases.set_gradients(params, cases.make_gradients(1)[0])
    versions = [p.grad._version for p in params]  # type: ignore[union-attr]
    norm = clip_grad_norm_(stable(params), math.inf)
    assert float(norm) == pytest.approx(math.sqrt(sum(float((p.grad**2).sum()) for p in params)))
    assert versions == [p.grad._version for p in params]  # type: ignore[union-attr]


def test_without_gradients_the_norm_is_zero() -> None:
    assert clip_grad_norm_(stable(cases.make_params()), 1.0) == 0.0


@pytest.mark.parametrize("max_norm", [-1.0, NAN])
def test_bad_bound(max_norm: float) -> None:
    message = rf"max_norm={max_norm}: must be a number >= 0; pass math.inf to measure only."
    with pytest.raises(ValueError, match=message):
        clip_grad_norm_(stable(cases.make_params()), max_norm)


@pytest.mark.parametrize("cls", [torch.optim.AdamW, torch.optim.SGD, halflife.SGD])
def test_any_optimizer_can_be_clipped(cls: Any) -> None:
    params = cases.make_params()
    cases.set_gradients(params, cases.make_gradients(1)[0])
    clip_grad_norm_(cls(params, lr=0.1), 1.0)
    assert float(torch_clip(params, math.inf)) == pytest.approx(1.0, rel=1e-5)


# --- handing the norms over ----------------------------------------------------------------------


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each group that had handed norms at a step: whether they were used."""
    answers: list[bool] = []
    original = HandedSquares.still_describes

    def spy(self: HandedSquares, grads: list[Tensor]) -> bool:
        answers.append(original(self, grads))
        return answers[-1]

    monkeypatch.setattr(HandedSquares, "still_describes", spy)
    return answers


def run(
    between: Callable[[list[Tensor]], None] | None,
    steps: int = 5,
    cls: Any = AdamW,
    max_norm: float = 1.0,
    **arguments: Any,
) -> tuple[Any, list[Tensor]]:
    """Clip, do ``between``, step. None: torch's clip, which hands over nothing."""
    params = cases.make_params()
    optimizer = stable(params, cls, **arguments)
    for row in cases.make_gradients(steps):
        cases.set_gradients(params, row)
        if between is None:
            torch_clip(params, max_norm)
        else:
            clip_grad_norm_(optimizer, max_norm)
            between(params)
        optimizer.step()
    return optimizer, params


def nothing(params: list[Tensor]) -> None:
    """Between clip and step: ours clips, and the gradients stay as it left them."""


@pytest.mark.parametrize("implementation", cases.IMPLEMENTATIONS)
@pytest.mark.parametrize("max_norm", [0.5, 1e9])
@pytest.mark.parametrize("cls", [AdamW, halflife.Adam])
def test_norms_are_handed_over_and_change_nothing(
    cls: Any, max_norm: float, implementation: str, served: list[bool]
) -> None:
    flags = cases.IMPLEMENTATIONS[implementation]
    _, params = run(nothing, cls=cls, max_norm=max_norm, **flags)
    assert served == [True] * 10  # two groups with parameters, five steps
    _, twins = run(None, cls=cls, max_norm=max_norm, **flags)
    for p, q in zip(params, twins, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-13, atol=1e-15)


def write(params: list[Tensor]) -> None:
    params[0].grad.mul_(3.0)  # type: ignore[union-attr]


def replace(params: list[Tensor]) -> None:
    params[0].grad = params[0].grad.clone() * 3.0  # type: ignore[union-attr]


def accumulate(params: list[Tensor]) -> None:
    (params[0] * 2.0).sum().backward()


def vanish(params: list[Tensor]) -> None:
    params[0].grad = None


def zero(params: list[Tensor]) -> None:
    torch.optim.SGD(params[:1], lr=0.1).zero_grad(set_to_none=False)


def again(params: list[Tensor]) -> None:
    torch.optim.SGD(params[:1], lr=0.1).zero_grad()
    accumulate(params)


@pytest.mark.parametrize("max_norm", [1.0, 1e9], ids=["reached", "not reached"])
@pytest.mark.parametrize("between", [write, replace, accumulate, vanish, zero, again])
def test_norms_of_other_gradients_are_not_used(
    between: Callable[[list[Tensor]], None], max_norm: float, served: list[bool]
) -> None:
    """A bound that is not reached writes no gradient, so that only its identity tells."""
    optimizer, params = run(between, max_norm=max_norm)
    assert served == [False, True] * 5  # the first group was touched, the second was not
    twins = cases.make_params()
    expected = stable(twins)
    for row in cases.make_gradients(5):
        cases.set_gradients(twins, row)
        torch_clip(twins, max_norm)
        between(twins)
        expected.step()
    for p, q in zip(params, twins, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-13, atol=1e-15)
    assert optimizer.last_effective_rate == pytest.approx(expected.last_effective_rate, rel=1e-13)


def test_norms_serve_one_step_only(served: list[bool]) -> None:
    """A second step on the same gradients computes them itself."""
    params = cases.make_params()
    optimizer = stable(params)
    cases.set_gradients(params, cases.make_gradients(1)[0])
    clip_grad_norm_(optimizer, 1.0)
    optimizer.step()
    optimizer.step()
    assert served == [True, True]


def test_after_a_skipped_step_the_next_gradients_count(served: list[bool]) -> None:
    """Someone clips, sees a bad loss, does not step; the next batch brings new gradients."""
    params = cases.make_params()
    optimizer = stable(params)
    for t, row in enumerate(cases.make_gradients(3, missing=False)):
        cases.set_gradients(params, row)
        if t < 2:
            clip_grad_norm_(optimizer, 1.0)
        if t != 1:
            optimizer.step()
    assert served == [True, True, False, False]


def test_a_later_clip_replaces_the_norms(served: list[bool]) -> None:
    """Without a gradient scaler a step after two clips follows the second."""

    def tighter(params: list[Tensor], optimizer: Any) -> None:
        clip_grad_norm_(optimizer, 2.0)
        clip_grad_norm_(optimizer, 0.3)

    params, twins = cases.make_params(), cases.make_params()
    ours, theirs = stable(params), stable(twins)
    for row in cases.make_gradients(3):
        cases.set_gradients(params, row)
        tighter(params, ours)
        ours.step()
        cases.set_gradients(twins, row)
        torch_clip(twins, 2.0)
        torch_clip(twins, 0.3)
        theirs.step()
    assert all(served)
    for p, q in zip(params, twins, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-13, atol=1e-15)


def test_norms_that_are_not_finite_are_not_handed_over(served: list[bool]) -> None:
    params = cases.make_params()
    optimizer = stable(params)
    cases.set_gradients(params, cases.make_gradients(1)[0])
    params[0].grad[0, 0] = INF  # type: ignore[index]
    clip_grad_norm_(optimizer, 1.0)
    optimizer.step()
    assert served == []
    assert all(p.isfinite().all() for p in params[1:])


def test_with_a_gradient_scaler() -> None:
    """unscale_, clip, step, as torch's documentation has it: as without a scaler."""
    params = cases.make_params(dtype=torch.float32)
    twins = cases.make_params(dtype=torch.float32)
    ours, plain = stable(params), stable(twins)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for row in cases.make_gradients(5, missing=False):
        scaler.scale(torch.ones(1))
        scale = scaler.get_scale()
        cases.set_gradients(params, [g * scale for g in row if g is not None])
        scaler.unscale_(ours)
        clip_grad_norm_(ours, 1.0)
        scaler.step(ours)
        scaler.update()
        cases.set_gradients(twins, row)
        torch_clip(twins, 1.0)
        plain.step()
    for p, q in zip(params, twins, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("decay", ["stable", "independent", "decoupled"])
def test_the_norms_do_not_keep_gradients_alive(decay: str) -> None:
    w = torch.nn.Parameter(torch.ones(3))
    optimizer = AdamW([w], lr=0.1, decay=decay)
    w.grad = torch.ones(3)
    watch = weakref.ref(w.grad)
    clip_grad_norm_(optimizer, 1.0)
    optimizer.step()
    optimizer.zero_grad()
    gc.collect()
    assert watch() is None


def test_no_optimizer_state_grows() -> None:
    clipped, _ = run(nothing)
    plain, _ = run(None)
    assert [s.keys() for s in clipped.state.values()] == [s.keys() for s in plain.state.values()]
    assert clipped.state_dict().keys() == plain.state_dict().keys()
    measures = clipped._measures()
    assert isinstance(measures.rate, AdamRate)
    assert measures.rate.handed is measures.handed
    assert measures.handed == {}
