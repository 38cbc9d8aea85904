"""Checks of a rule on an optimizer: the contract that `halflife.Decayed` keeps."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..bases.bench import arguments as arguments_of
from ..mechanism.decayed import Decayed
from ..rules import DecayMap
from ..rules.contract import DecayRule
from ..rules.step import Step
from ..rules.wish import wish_of
from ..units.describe import describe
from .report import Check, Skip, outcome
from .rules import LRS, PEAK

__all__ = ["OPTIMIZER_CHECKS", "Case"]

_Gradients: TypeAlias = list[list[Tensor | None]]


@dataclass(frozen=True)
class Case:
    """One rule on one class.

    Args:
        cls: the decayed class.
        rule: the rule.
        weight_decay: its coefficient.
        shapes: of the parameters.
        tolerance: relative, where bitwise equality is not promised.
        arguments: the optimizer's other arguments.
    """

    cls: type[Decayed]
    rule: DecayRule
    weight_decay: float
    shapes: tuple[tuple[int, ...], ...]
    tolerance: float
    arguments: dict[str, Any] = field(default_factory=dict)

    def run(self) -> list[Check]:
        """Run all checks; one that says so, where the class refuses the rule."""
        try:
            self.make(self.params())
        except ValueError as refusal:  # a base may refuse a rule that it cannot define
            return [Check("accepts the rule", self.rule.name, "skipped", str(refusal))]
        return [outcome(n, self.rule, check, self) for n, check in OPTIMIZER_CHECKS.items()]

    def params(self) -> list[Tensor]:
        """The same weights in every run."""
        generator = torch.Generator().manual_seed(0)
        values = [torch.randn(s, generator=generator, dtype=torch.float64) for s in self.shapes]
        return [torch.nn.Parameter(value) for value in values]

    def gradients(self) -> _Gradients:
        """One row of gradients for each step."""
        generator = torch.Generator().manual_seed(1)
        return [
            [torch.randn(s, generator=generator, dtype=torch.float64) for s in self.shapes]
            for _ in LRS
        ]

    def make(self, params: Any, **changes: Any) -> Any:
        """An optimizer with the rule."""
        known = {"lr": PEAK, "weight_decay": self.weight_decay, "decay": self.rule}
        return self.cls(params, **{**known, **self.arguments, **changes})

    def native(self, params: Any) -> Any:
        """The base optimizer itself, without decay."""
        base: Any = self.cls.__mro__[self.cls.__mro__.index(Decayed) + 1]
        known = {"lr": PEAK} | (
            {"weight_decay": 0.0} if "weight_decay" in arguments_of(base) else {}
        )
        return base(params, **{**known, **self.arguments})


def _set(optimizer: Optimizer, lr: float, params: list[Tensor], row: list[Tensor | None]) -> None:
    for group in optimizer.param_groups:
        old = group["lr"]
        group["lr"] = torch.full_like(old, lr) if isinstance(old, Tensor) else lr
    for p, g in zip(params, row, strict=True):
        p.grad = None if g is None else g.clone()


def _train(
    optimizer: Any, params: list[Tensor], gradients: _Gradients, steps: range = range(len(LRS))
) -> None:
    for t in steps:
        _set(optimizer, LRS[t], params, gradients[t])
        optimizer.step()


def _values(params: list[Tensor]) -> list[Tensor]:
    return [p.detach().clone() for p in params]


def _equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x.detach(), y.detach()) for x, y in zip(a, b, strict=True))


def _deviation(a: list[Tensor], b: list[Tensor]) -> float:
    pairs = list(zip(a, b, strict=True))
    most = max(float((x - y).detach().abs().max()) for x, y in pairs)
    return most / max(float(y.detach().abs().max()) for _, y in pairs)


def _changed(group: dict[str, Any], before: dict[str, Any]) -> list[str]:
    return [k for k in before | group if k not in group or group[k] is not before.get(k)]


def _written_natively(case: Case) -> set[str]:
    """Entries that the native step writes itself, such as a count of its steps."""
    params = case.params()
    native = case.native(params)
    _set(native, PEAK / 3, params, case.gradients()[0])
    before = dict(native.param_groups[0])
    native.step()
    return set(_changed(native.param_groups[0], before))


def _entries_are_restored(case: Case) -> None:
    params = case.params()
    ours = case.make(params)
    _set(ours, PEAK / 3, params, case.gradients()[0])
    before = dict(ours.param_groups[0])
    ours.step()
    changed = set(_changed(ours.param_groups[0], before)) - _written_natively(case)
    assert not changed, (
        f"the step left other values in {changed} of its group: they are the user's and their "
        "scheduler's"
    )


def _entries_are_restored_after_an_error(case: Case) -> None:
    def fails(self: Any) -> None:
        raise MemoryError

    params = case.params()
    broken = type(case.cls.__name__, (case.cls,), {})
    broken._native_step = fails  # type: ignore[attr-defined]
    ours: Any = Case(broken, *[getattr(case, k) for k in list(vars(case))[1:]]).make(params)
    _set(ours, PEAK / 3, params, case.gradients()[0])
    before, handed = dict(ours.param_groups[0]), [p.grad for p in params]
    with contextlib.suppress(MemoryError):
        ours.step()
    assert not (changed := _changed(ours.param_groups[0], before)), (
        f"a step that raised left other values in {changed} of its group: whoever catches the "
        "error goes on with them"
    )
    assert all(p.grad is g for p, g in zip(params, handed, strict=True)), (
        "a step that raised left other gradients behind"
    )


def _no_gradient_means_untouched(case: Case) -> None:
    params, gradients = case.params(), case.gradients()
    before = params[0].detach().clone()
    for row in gradients:
        row[0] = None
    _train(case.make(params), params, gradients)
    assert torch.equal(params[0], before), (
        "a parameter without a gradient has changed: torch skips these, as frozen layers and "
        "unused branches need"
    )


def _no_decay_means_native(case: Case) -> None:
    params, twins = case.params(), case.params()
    _train(case.make(params, weight_decay=0.0), params, case.gradients())
    _train(case.native(twins), twins, case.gradients())
    assert (off := _deviation(params, twins)) <= case.tolerance, (
        f"with weight_decay 0 the weights are {off:.1e} off the native optimizer's: a no-decay "
        "group must be the native optimizer"
    )


def _no_lr_means_no_change(case: Case) -> None:
    params, twins = case.params(), case.params()
    before, ours, native = _values(params), case.make(params), case.native(twins)
    _set(native, 0.0, twins, case.gradients()[0])
    native.step()
    if not _equal(twins, before):
        raise Skip("the native optimizer moves at lr 0")
    for row in case.gradients()[:2]:
        _set(ours, 0.0, params, row)
        ours.step()
    assert _equal(params, before), (
        "at lr 0 the weights have changed: a warm-up from zero and the initialisation of "
        "optimizer states take such steps"
    )


def _empty_and_late_groups(case: Case) -> None:
    params, at_once = case.params(), case.params()
    ours = case.make([{"params": []}])
    ours.step()
    ours.add_param_group({"params": params})
    group = ours.param_groups[1]
    assert group["decay"] == ours.param_groups[0]["decay"], (
        f"a group added later has the rule {group['decay']!r}: it inherits the constructor's"
    )
    _train(ours, params, case.gradients())
    _train(case.make(at_once), at_once, case.gradients())
    assert _deviation(params, at_once) <= case.tolerance, (
        "a group added later trains differently from one given to the constructor"
    )


def _resumes(case: Case, way: str) -> None:
    try:
        natively = _resumes_with(case.native, case, way)
    except Exception as error:
        raise Skip(f"the native optimizer fails there: {error}") from error
    if not natively:
        raise Skip("the native optimizer does not either")
    assert _resumes_with(case.make, case, way), (
        f"a run resumed from {way} differs from the one that went on: something that the step "
        "depends on is in neither param_groups nor state"
    )


def _resumes_with(make: Callable[[Any], Any], case: Case, way: str) -> bool:
    params, gradients = case.params(), case.gradients()
    ours = make(params)
    _train(ours, params, gradients, range(2))
    if way == "a state_dict":
        file = io.BytesIO()
        torch.save(ours.state_dict(), file)
        file.seek(0)
        copies: list[Tensor] = [torch.nn.Parameter(p.detach().clone()) for p in params]
        other = make(copies)
        other.load_state_dict(torch.load(file))
    else:
        other = copy.deepcopy(ours) if way == "a deepcopy" else pickle.loads(pickle.dumps(ours))
        copies = [p for group in other.param_groups for p in group["params"]]
    for optimizer, tensors in ((ours, params), (other, copies)):
        _train(optimizer, tensors, gradients, range(2, len(LRS)))
    return _equal(params, copies)


def _hooks_fire_once(case: Case) -> None:
    params, calls = case.params(), list[str]()
    ours = case.make(params)
    ours.register_step_pre_hook(lambda *_: calls.append("pre"))
    ours.register_step_post_hook(lambda *_: calls.append("post"))
    _set(ours, PEAK, params, case.gradients()[0])
    ours.step()
    assert calls == ["pre", "post"], (
        f"one step has fired the hooks {calls}: profilers and wrappers count on one of each"
    )


def _closure_runs_once(case: Case) -> None:
    params, calls = case.params(), list[bool]()
    ours = case.make(params)

    def closure() -> float:
        calls.append(torch.is_grad_enabled())
        _set(ours, PEAK, params, case.gradients()[0])
        return 2.5

    loss = ours.step(closure)
    assert calls == [True], (
        f"the closure ran {len(calls)} times, with gradients enabled: {calls}; it is a forward and "
        "backward pass, to be run once, with them"
    )
    assert loss == 2.5, f"the step returned {loss!r}, and not the closure's loss, 2.5"


def _measured(ours: Any, name: str) -> float:
    """A number of the step just taken."""
    last = ours.last_measured(name)
    return float(ours._measures().of(ours.param_groups[0], name)) if last is None else last


def _follows(case: Case, zero: bool) -> None:
    if isinstance(case.rule, DecayMap):
        raise Skip("a map on the weights is more than a fraction")
    params, twins = case.params(), case.params()
    ours, native = case.make(params), case.native(twins)
    ascent = -1.0 if case.arguments.get("maximize") else 1.0
    for lr, row in zip(LRS, case.gradients(), strict=True):
        row = [g * 0.0 for g in row if g is not None] if zero else row
        _set(ours, lr, params, row)
        ours.step()
        step = Step(lr, PEAK, case.weight_decay, functools.partial(_measured, ours))
        wish = wish_of(case.rule, step)
        _set(native, float(wish.size), twins, row)
        with torch.no_grad():
            for q in twins:
                q.grad += ascent * float(wish.gradient) * q  # type: ignore[operator]
                q.mul_(1.0 - float(wish.amount))
        native.step()
        assert (off := _deviation(params, twins)) <= case.tolerance, (
            f"at lr {lr} the weights are {off:.1e} off (1 - fraction) w followed by the native "
            f"step: the decay is not what {case.rule!r} says under a changing lr"
        )


def _keeps_small_decay(case: Case) -> None:
    if isinstance(case.rule, DecayMap) or case.rule.follows_gradients:
        raise Skip("its fraction depends on the data")
    if case.rule.joins_gradient:
        raise Skip("what joins the gradient depends on the optimizer")
    fraction, steps = 1e-3, 60  # rounded to the nearest bfloat16, each step would change nothing
    try:
        weight_decay = float(case.rule.coefficient(fraction, Step(PEAK, PEAK)))
    except ValueError:
        raise Skip("it removes no fraction") from None
    start = torch.ones([8 * n for n in case.shapes[0]], dtype=torch.bfloat16)
    ours, native = (torch.nn.Parameter(start.clone()) for _ in range(2))
    optimizers = [case.make([ours], weight_decay=weight_decay), case.native([native])]
    ours.grad, native.grad = torch.zeros_like(start), torch.zeros_like(start)
    for _ in range(steps):
        for optimizer in optimizers:
            optimizer.step()
    lost = 1.0 - float((ours.detach().double() / native.detach().double()).mean())
    expected = 1.0 - (1.0 - fraction) ** steps
    assert 0.5 * expected < lost < 1.5 * expected, (
        f"{steps} steps that remove {fraction} of bfloat16 weights took {lost:.3g} of them, not "
        f"{expected:.3g}: rounding loses the decay"
    )


def _described_as_it_decays(case: Case) -> None:
    params = case.params()
    before, ours = _values(params), case.make(params)
    row = describe(ours).groups[0]
    _set(ours, PEAK, params, [torch.zeros_like(p) for p in params])
    ours.step()
    moved = not _equal(params, before)
    said = row.fraction is None or row.fraction > 0.0
    assert said or not moved, (
        f"a step without gradient of the loss has changed the weights, and {row.rule} is described "
        "as a rule that never removes anything: what joins the gradient is to be seen by "
        "gradient_coefficient, what is removed by rate"
    )


OPTIMIZER_CHECKS: dict[str, Callable[[Case], None]] = {
    "group entries are restored": _entries_are_restored,
    "group entries are restored after an error": _entries_are_restored_after_an_error,
    "no gradient means untouched": _no_gradient_means_untouched,
    "no decay means native": _no_decay_means_native,
    "no lr means no change": _no_lr_means_no_change,
    "empty and late groups": _empty_and_late_groups,
    "resumes from a state_dict": functools.partial(_resumes, way="a state_dict"),
    "resumes from a deepcopy": functools.partial(_resumes, way="a deepcopy"),
    "resumes from a pickle": functools.partial(_resumes, way="a pickle"),
    "hooks fire once": _hooks_fire_once,
    "closure runs once": _closure_runs_once,
    "small decay in bfloat16": _keeps_small_decay,
    "described as it decays": _described_as_it_decays,
    "closed form without gradients": functools.partial(_follows, zero=True),
    "closed form with gradients": functools.partial(_follows, zero=False),
}
