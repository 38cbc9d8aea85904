"""What an optimizer's weight_decay natively means: found by running it, and nothing changes."""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import Optimizer

import halflife
import torch_versions
from halflife.bases.native_decay import check_base, native_decay, native_kind, scales_with_lr

TORCH = {
    "ASGD": "l2",
    "Adadelta": "l2",
    "Adafactor": "other",  # takes the weights' RMS before it decays them, and scales its step by it
    "Adagrad": "l2",
    "Adam": "l2",
    "AdamW": "decoupled",
    "Adamax": "l2",
    "LBFGS": "absent",
    "Muon": "decoupled",
    "NAdam": "l2",
    "RAdam": "l2",
    "RMSprop": "l2",
    "Rprop": "absent",
    "SGD": "l2",
    "SparseAdam": "absent",
}


@pytest.mark.parametrize("name", TORCH)
def test_torch(name: str) -> None:
    found = native_decay(getattr(torch.optim, name))
    if name == "Muon" and torch_versions.TORCH < (2, 9):
        assert "came with torch 2.9" in found.reason
    else:
        assert found.kind == TORCH[name]


def test_every_class_of_torch_is_listed() -> None:
    classes = {n for n, c in vars(torch.optim).items() if isinstance(c, type)}
    assert {n for n in classes if issubclass(getattr(torch.optim, n), Optimizer)} == {
        "Optimizer",
        *TORCH,
    }


class Momentum(Optimizer):
    """SGD with momentum and one of many decays; subclasses say which."""

    def __init__(self, params: Any, lr: float = 0.1, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "first_lr": lr})

    def fraction(self, group: dict[str, Any]) -> float:
        return 0.0

    def l2(self, group: dict[str, Any]) -> float:
        return 0.0

    def after(self, group: dict[str, Any]) -> float:
        return 0.0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                buffer = self.state[p].setdefault("buffer", torch.zeros_like(p))
                buffer.mul_(0.9).add_(p.grad).add_(p, alpha=self.l2(group))
                p.mul_(1 - self.fraction(group))
                p.add_(buffer, alpha=-group["lr"])
                p.mul_(1 - self.after(group))


def toy(**methods: Any) -> type[Optimizer]:
    return type("Toy", (Momentum,), {k: staticmethod(f) for k, f in methods.items()})


TOYS: dict[str, tuple[str, type[Optimizer]]] = {
    "ignored": ("absent", toy()),
    "l2": ("l2", toy(l2=lambda g: g["weight_decay"])),
    "half an l2": ("other", toy(l2=lambda g: g["weight_decay"] / 2)),
    "l2 times lr": ("other", toy(l2=lambda g: g["weight_decay"] * g["lr"])),
    "before": ("decoupled", toy(fraction=lambda g: g["lr"] * g["weight_decay"])),
    "twice": ("independent", toy(fraction=lambda g: 2 * g["lr"] * g["weight_decay"])),
    "after": ("decoupled_after", toy(after=lambda g: g["lr"] * g["weight_decay"])),
    "first lr": (
        "independent",
        toy(fraction=lambda g: g["lr"] / g["first_lr"] * g["weight_decay"]),
    ),
    "constant": ("constant", toy(fraction=lambda g: g["weight_decay"])),
    "constant after": ("other", toy(after=lambda g: g["weight_decay"])),
    "both": (
        "other",
        toy(fraction=lambda g: g["lr"] * g["weight_decay"], l2=lambda g: g["weight_decay"]),
    ),
    "squared": ("other", toy(fraction=lambda g: g["lr"] ** 2 * g["weight_decay"])),
}


@pytest.mark.parametrize("name", TOYS)
def test_each_kind_on_an_optimizer_made_for_it(name: str) -> None:
    kind, cls = TOYS[name]
    found = native_decay(cls)
    assert found.kind == kind, found


def test_what_is_found_says_why() -> None:
    found = native_decay(TOYS["first lr"][1])
    assert found.rule == halflife.Independent()
    assert found.peak_lr == pytest.approx(0.125, rel=1e-12)  # the lr that the probe was built with
    assert found.evidence is not None
    assert found.evidence.fractions == pytest.approx((0.25, 0.125), rel=1e-12)
    assert found.evidence.errors["before"] < 1e-12 < 1e-3 < found.evidence.errors["after"]
    squared = native_decay(TOYS["squared"][1])
    assert (squared.rule, squared.peak_lr) == (halflife.Corrected(), pytest.approx(1.0))


def test_an_instance_answers_for_its_own_flags_and_values() -> None:
    def adam(**arguments: Any) -> Optimizer:
        return torch.optim.Adam([torch.nn.Parameter(torch.ones(3))], lr=1e-3, **arguments)

    assert native_decay(adam()).kind == "l2"
    assert native_decay(adam(decoupled_weight_decay=True)).kind == "decoupled"
    assert native_decay(adam(foreach=True, weight_decay=0.3)).kind == "l2"
    assert native_decay(adam(maximize=True)).kind == "l2"
    independent = TOYS["first lr"][1]([torch.nn.Parameter(torch.ones(3))], lr=1e-4)
    independent.param_groups[0]["lr"] = 3e-5
    assert native_decay(independent).peak_lr == pytest.approx(1e-4, rel=1e-9)


def test_classes_of_ours_answer_for_their_base() -> None:
    w = torch.nn.Parameter(torch.ones(2, 2))
    assert native_decay(halflife.AdamW).kind == "decoupled"
    assert native_decay(halflife.SGD([w], decay="independent", weight_decay=0.1)).kind == "l2"
    assert native_decay(halflife.Lion).kind == "absent"


@pytest.mark.parametrize(
    ("cls", "kind"),
    [
        (torch.optim.Adam, torch_versions.ADAM),
        (torch.optim.AdamW, torch_versions.ADAMW),
        (torch.optim.Muon, "decoupled"),
        (torch.optim.SGD, "l2"),
        (torch.optim.Rprop, "none"),
        (torch.optim.Adafactor, "none"),
        (TOYS["before"][1], "decoupled"),
        (TOYS["after"][1], "none"),
        (TOYS["constant"][1], "none"),
    ],
)
def test_native_kind(cls: Any, kind: str) -> None:
    optimizer = cls([torch.nn.Parameter(torch.ones(2, 2))])
    assert native_kind(optimizer, optimizer.param_groups[0]) == kind


def test_a_switch_is_believed_only_if_it_switches() -> None:
    cls = TOYS["before"][1]
    optimizer = cls([torch.nn.Parameter(torch.ones(2))])
    optimizer.param_groups[0]["decoupled_weight_decay"] = False  # nothing reads it
    assert native_kind(optimizer, optimizer.param_groups[0]) == "decoupled"


def test_nothing_changes() -> None:
    w = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([w], lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    calls: list[int] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append(1))
    w.grad = torch.ones(3)
    optimizer.step()
    scheduler.step()
    before = (w.detach().clone(), torch.get_rng_state(), random.getstate())
    numpy = np.random.get_state()[1].tolist()  # type: ignore[union-attr, index]
    entries, state = dict(optimizer.param_groups[0]), dict(optimizer.state[w])
    with torch.no_grad():
        native_decay(optimizer)
        assert not torch.is_grad_enabled()
    assert torch.equal(w, before[0])
    assert torch.equal(torch.get_rng_state(), before[1])
    assert random.getstate() == before[2]
    assert np.random.get_state()[1].tolist() == numpy  # type: ignore[union-attr, index]
    assert optimizer.param_groups[0] == entries
    assert all(optimizer.state[w][key] is value for key, value in state.items())
    assert calls == [1]


# --- what cannot be run, and what must be refused -------------------------------------------------


class NeedsMore(Momentum):
    def __init__(self, params: Any, base: Any) -> None:
        super().__init__(params)


class NeedsClosure(Momentum):
    def step(self, closure: Any) -> None:  # type: ignore[override]
        closure()
        super().step()

    def fraction(self, group: dict[str, Any]) -> float:
        return group["lr"] * group["weight_decay"]


class MatricesOnly(NeedsClosure):
    def __init__(self, params: Any, lr: float = 0.1, weight_decay: float = 0.0) -> None:
        if any(p.dim() != 2 for p in params):
            raise ValueError("matrices only")
        super().__init__(params, lr, weight_decay)


class Breaks(Momentum):
    def step(self, closure: Any = None) -> None:
        raise RuntimeError("no such device")


class Averaging(Momentum):
    def train(self) -> None: ...

    def eval(self) -> None: ...


class Hidden(Momentum):
    def __init__(self, params: Any, lr: float = 0.1, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr)
        for group in self.param_groups:
            del group["weight_decay"]
        self.weight_decay = weight_decay


def test_closures_and_matrices_are_given_to_those_that_need_them() -> None:
    assert native_decay(NeedsClosure).kind == "decoupled"
    assert native_decay(MatricesOnly).kind == "decoupled"


@pytest.mark.parametrize(
    ("cls", "kind", "reason"),
    [
        (NeedsMore, "unknown", "it needs base; pass an instance"),
        (Breaks, "unknown", "RuntimeError: no such device"),
        (Averaging, "averaged", "exchange the parameters"),
    ],
)
def test_the_reason_is_given(cls: Any, kind: str, reason: str) -> None:
    found = native_decay(cls)
    assert found.kind == kind
    assert reason in found.reason


def test_check_base_refuses_what_no_rule_can_be_put_on() -> None:
    with pytest.raises(ValueError, match="would decay the wrong weights"):
        check_base(Averaging)
    with pytest.raises(ValueError, match="keeps weight_decay outside its parameter groups"):
        check_base(Hidden)
    for name in TORCH:
        check_base(getattr(torch.optim, name))


def test_asking_about_one_of_ours_runs_the_native_class_and_stays_shallow() -> None:
    """Its constructor asks about its class; to ask by building it once more would never end."""
    built: list[type] = []

    class Counted(Momentum):
        def __init__(self, params: Any, lr: float = 0.1, weight_decay: float = 0.0) -> None:
            built.append(type(self))
            super().__init__(params, lr, weight_decay)

    class Ours(halflife.Decayed, Counted):
        default_rule = halflife.Proximal()

    Ours([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    assert built.count(Ours) == 1
    assert built.count(Counted) < 10


class Delayed(Momentum):
    """The lr of a step acts on the next one."""

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            lr, group["lr"] = group["lr"], group.get("next_lr", group["lr"])
            super().step()
            group["next_lr"] = group["lr"] = lr


class Clipped(Momentum):
    """The lr is bounded."""

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            lr, group["lr"] = group["lr"], min(group["lr"], 0.7)
            super().step()
            group["lr"] = lr


BY_DEFINITION = {
    # lr' = min(lr, 1/sqrt(t)); the lr of one step late; sizes of their own after the first step
    **dict.fromkeys(TORCH, True),
    **dict.fromkeys(("Adafactor", "ASGD", "Rprop"), False),
}


@pytest.mark.parametrize("name", BY_DEFINITION)
def test_whether_a_step_is_proportional_to_its_lr(name: str) -> None:
    assert scales_with_lr(getattr(torch.optim, name)) == BY_DEFINITION[name]
    assert scales_with_lr(halflife.decayed(getattr(torch.optim, name))) == BY_DEFINITION[name]


def test_whether_the_step_of_another_package_is_proportional_to_its_lr() -> None:
    assert scales_with_lr(Momentum)
    assert scales_with_lr(MatricesOnly)
    assert not scales_with_lr(Delayed)
    assert not scales_with_lr(Clipped)
    assert not scales_with_lr(halflife.HeavyBall)  # the lr is inside the buffer
    assert scales_with_lr(NeedsMore)  # it cannot be run
    assert scales_with_lr(Breaks)


@pytest.mark.parametrize("rule", ["proximal", halflife.Proximal("independent")])
def test_proximal_on_asgd_would_not_be_proximal(rule: Any) -> None:
    """Why it is refused: by ASGD's own recurrence, the lr that is scaled is the next step's."""
    wd, w = 0.5, torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    native = torch.optim.ASGD([w], lr=0.1, lambd=0.0)
    wanted, eta = 1.0, 0.1
    for lr in (0.1, 0.02):
        w.grad = torch.ones_like(w)
        with torch.no_grad():
            w.mul_(1 / (1 + lr * wd))
        native.param_groups[0]["lr"] = lr / (1 + lr * wd)  # what the mechanism would do
        native.step()
        wanted, eta = (wanted - eta) / (1 + lr * wd), lr
    assert abs(w.item() - wanted) > 1e-3
    with pytest.raises(ValueError, match="the rule scales each step, and a step of ASGD is not"):
        halflife.decayed(torch.optim.ASGD)([w], decay=rule)


@pytest.mark.parametrize("rule", ["decoupled", "independent", "corrected", "constant", "proximal"])
def test_rules_ride_on_a_decoupled_native_step(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Muon's own decay is lr-coupled: a rule is two numbers there, and no pass over the weights."""

    def start() -> torch.nn.Parameter:
        return torch.nn.Parameter(
            torch.arange(6, dtype=torch.float64).view(2, 3).bfloat16().double()
        )

    def refused(*_: object) -> None:
        raise AssertionError("a pass over the weights")

    module = sys.modules["halflife.mechanism.decayed"]  # the package has a function of that name
    monkeypatch.setattr(module, "multiply_weights", refused)
    a, b = start(), start()
    peak, amount = 0.1, 0.2
    ours = halflife.decayed(torch.optim.Muon)([a], lr=peak, weight_decay=amount, decay=rule)
    plain = torch.optim.Muon([b], lr=peak, weight_decay=0.0)
    for t in range(5):
        lr = peak * (1 - t / 5)
        d = {
            "decoupled": lr * amount,
            "independent": lr / peak * amount,
            "corrected": lr * lr / peak * amount,
            "constant": amount,
            "proximal": 1 - 1 / (1 + lr * amount),
        }[rule]
        scale = 1 - d if rule == "proximal" else 1.0
        ours.param_groups[0]["lr"], plain.param_groups[0]["lr"] = lr, lr * scale
        a.grad = torch.sin(torch.arange(6.0) + t).view(2, 3).double()
        b.grad = a.grad.clone()
        with torch.no_grad():
            b.mul_(1 - d)
        ours.step()
        plain.step()
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


# --- what idles at first --------------------------------------------------------------------------


class Idle(torch.optim.AdamW):
    """Gathers moments for five steps and moves nothing."""

    def step(self, closure=None):
        self.count = getattr(self, "count", 0) + 1
        return super().step(closure) if self.count > 5 else None


def test_an_idle_start_is_passed_over_and_counted():
    found = native_decay(Idle)
    assert (found.kind, found.idle) == ("decoupled", 5)
    assert found.reason.startswith("after 5 steps, before the step it removes")
    assert native_decay(torch.optim.AdamW).idle == 0


def test_a_rule_does_not_wait_for_an_idle_native_step():
    """Put into the native decay it would remove nothing in those five steps."""
    w = torch.nn.Parameter(torch.ones(3))
    optimizer = halflife.decayed(Idle)([w], lr=0.1, weight_decay=0.5, decay="decoupled")
    assert native_kind(optimizer, optimizer.param_groups[0]) == "none"
    for step in range(1, 4):
        w.grad = torch.zeros_like(w)
        optimizer.step()
        assert w.detach().tolist() == pytest.approx([0.95**step] * 3, rel=1e-6)
