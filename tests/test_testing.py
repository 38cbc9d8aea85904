"""The conformance suite passes on what is right, and each of its checks fails on what is not."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest
import torch

import cases
import halflife
from halflife import AdamW, DecayRule, Decoupled
from halflife.rules.contract import as_rule, rule_names
from halflife.testing import check_optimizer, check_rule
from halflife.testing.optimizers import OPTIMIZER_CHECKS
from halflife.testing.rules import RULE_CHECKS

BUILT_IN = [name for name in rule_names() if not name.startswith("planted")]


def skipped_of(report: Any) -> set[tuple[str, str]]:
    """What was skipped, but for the decay of a rule that removes no fraction."""
    skipped = {(c.name, c.rule) for c in report.of("skipped")}
    return skipped - {("small decay in bfloat16", "l2")}


@pytest.mark.parametrize("case", cases.CORE, ids=lambda case: case.id)
def test_our_optimizers_with_every_rule(case: cases.OptimizerCase) -> None:
    report = check_optimizer(case.cls, rules=BUILT_IN, **case.arguments)  # type: ignore[arg-type]
    # Only SGD refuses a rule: it has no preconditioner.
    refused = [c.rule for c in report.of("skipped") if c.name == "accepts the rule"]
    assert refused == (["preconditioned"] if case.oracle == "sgd" else [])


@pytest.mark.parametrize("name", ["Adadelta", "Adagrad", "Adamax", "RAdam", "RMSprop"])
def test_optimizers_of_torch(name: str) -> None:
    report = check_optimizer(getattr(torch.optim, name))
    assert not report.of("failed")
    assert skipped_of(report) == set()


@pytest.mark.parametrize("name", ["ASGD", "Adafactor"])
def test_optimizers_whose_step_no_rule_can_scale(name: str) -> None:
    report = check_optimizer(getattr(torch.optim, name))
    assert skipped_of(report) == {("accepts the rule", "proximal")}
    assert not report.of("failed")


def test_an_optimizer_that_moves_at_lr_zero_natively() -> None:
    report = check_optimizer(torch.optim.Rprop)
    skipped = {name for name, _ in skipped_of(report)}
    assert skipped == {"no lr means no change", "accepts the rule"}


def test_an_optimizer_that_does_not_resume_natively() -> None:
    """torch's NAdam keeps a float32 scalar, which load_state_dict makes float64."""
    report = check_optimizer(torch.optim.NAdam)
    assert {name for name, _ in skipped_of(report)} == {"resumes from a state_dict"}


def test_an_optimizer_of_matrices_only() -> None:
    check_optimizer(torch.optim.Muon, shapes=[(4, 3), (2, 3)])


@pytest.mark.parametrize("name", BUILT_IN)
def test_rules(name: str) -> None:
    check_rule(as_rule(name))


def test_it_needs_no_pytest() -> None:
    code = "import sys; sys.modules['pytest'] = None; import halflife.testing"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- planted optimizers ---------------------------------------------------------------------------


class LeavesEntries(AdamW):
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            group["weight_decay"] = group["weight_decay"] * 1.0
        return super().step(closure)


class LeavesEntriesAfterErrors(AdamW):
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            group["weight_decay"], given = group["weight_decay"] * 1.0, group["weight_decay"]
        result = super().step(closure)
        for group in self.param_groups:
            group["weight_decay"] = given
        return result


class DecaysWithoutGradient(AdamW):
    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    p.mul_(0.99)
        return super().step(closure)


class DecaysAtZero(AdamW):
    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                if group["weight_decay"] == 0.0 and p.grad is not None:
                    p.mul_(0.999)
        return super().step(closure)


class MovesAtLrZero(AdamW):
    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                if group["lr"] == 0.0:
                    p.mul_(0.999)
        return super().step(closure)


class RoundsToNearest(AdamW):
    def _known_at(self, index: int) -> Any:
        return super()._known_at(index)._replace(halves=False)


class ForgetsLateRules(AdamW):
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        late = bool(self.param_groups)
        super().add_param_group(param_group)
        if late:
            self.param_groups[-1]["decay"] = Decoupled()


class KeepsACountOutside(AdamW):
    """As `AdamW`, and every weight grows by how many steps this object has taken."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        self.count = vars(self).get("count", 0) + 1
        for group in self.param_groups:
            for p in group["params"]:
                p.add_(1e-6 * self.count * group["lr"])
        return super().step(closure)


class FiresHooksTwice(AdamW):
    def step(self, closure: Any = None) -> Any:
        for hook in self._optimizer_step_post_hooks.values():
            hook(self, (), {})
        return super().step(closure)


class RunsClosuresTwice(AdamW):
    def step(self, closure: Any = None) -> Any:
        if closure is not None:
            with torch.enable_grad():
                closure()
        return super().step(closure)


class FollowsTheWrongLr(AdamW):
    """Decays by the peak lr, as every rule does at a constant lr."""

    def step(self, closure: Any = None) -> Any:
        given = [(group, group["weight_decay"]) for group in self.param_groups]
        for group, decay in given:
            group["weight_decay"] = decay * group["peak_lr"] / max(group["lr"], 1e-30)
        try:
            return super().step(closure)
        finally:
            for group, decay in given:
                group["weight_decay"] = decay


class DecaysAfterTheStep(AdamW):
    """Right while nothing but the decay moves the weights."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        given = [(group, group["weight_decay"]) for group in self.param_groups]
        for group, _ in given:
            group["weight_decay"] = 0.0
        try:
            result = super().step(closure)
        finally:
            for group, decay in given:
                group["weight_decay"] = decay
        for group, decay in given:
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1.0 - group["lr"] / group["peak_lr"] * decay)
        return result


class HidesItsDecay(AdamW):
    """Keeps the coefficient where nobody looks."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        group["hidden"], group["weight_decay"] = group["weight_decay"], 0.0

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1.0 - group["lr"] / group["peak_lr"] * group["hidden"])
        return super().step(closure)


PLANTED = {
    "group entries are restored": LeavesEntries,
    "group entries are restored after an error": LeavesEntriesAfterErrors,
    "no gradient means untouched": DecaysWithoutGradient,
    "no decay means native": DecaysAtZero,
    "no lr means no change": MovesAtLrZero,
    "empty and late groups": ForgetsLateRules,
    "resumes from a state_dict": KeepsACountOutside,
    "resumes from a deepcopy": KeepsACountOutside,
    "resumes from a pickle": KeepsACountOutside,
    "hooks fire once": FiresHooksTwice,
    "closure runs once": RunsClosuresTwice,
    "small decay in bfloat16": RoundsToNearest,
    "described as it decays": HidesItsDecay,
    "closed form without gradients": FollowsTheWrongLr,
    "closed form with gradients": DecaysAfterTheStep,
}


def test_every_check_of_an_optimizer_has_a_planted_fault() -> None:
    assert PLANTED.keys() == OPTIMIZER_CHECKS.keys()


@pytest.fixture(params=PLANTED)
def planted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The hooks of `AdamW` itself would fire within those of its subclass: take them off."""
    monkeypatch.setattr(AdamW, "step", halflife.Decayed.__dict__["step"], raising=True)
    return request.param, PLANTED[request.param]


def test_it_fails_on_planted_optimizers(planted: Any) -> None:
    name, cls = planted
    with pytest.raises(AssertionError, match=rf"failed  {name} \[independent\]: ."):
        check_optimizer(cls, rules=["independent"])


# --- planted rules --------------------------------------------------------------------------------


@dataclass(frozen=True)
class WrongInverse(DecayRule):
    name = "planted_inverse"

    def rate(self, step: Any) -> Any:
        return step.lr

    def coefficient(self, fraction: Any, step: Any) -> Any:
        return fraction / step.peak_lr  # right at the peak only


@dataclass(frozen=True)
class DecaysAnyway(DecayRule):
    name = "planted_offset"

    def rate(self, step: Any) -> Any:
        return step.lr

    def gradient_coefficient(self, step: Any) -> Any:
        return step.weight_decay * 0.0 + 1e-4


@dataclass(frozen=True)
class LosesItsArgument(DecayRule):
    name = "planted_argument"
    share: float = 1.0

    def rate(self, step: Any) -> Any:
        return self.share * step.lr

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name}


@dataclass(frozen=True)
class TakesFloatsOnly(DecayRule):
    name = "planted_floats"

    def rate(self, step: Any) -> Any:
        return step.lr if step.lr > 0.5 * step.peak_lr else 0.5 * step.lr


PLANTED_RULES = {
    "coefficient inverts fraction": WrongInverse(),
    "no weight_decay removes nothing": DecaysAnyway(),
    "round trip as plain data": LosesItsArgument(0.5),
    "fraction broadcasts over tensors": TakesFloatsOnly(),
}


def test_every_check_of_a_rule_has_a_planted_fault() -> None:
    assert PLANTED_RULES.keys() == RULE_CHECKS.keys()


@pytest.mark.parametrize("name", PLANTED_RULES)
def test_it_fails_on_planted_rules(name: str) -> None:
    rule = PLANTED_RULES[name]
    with pytest.raises(AssertionError, match=rf"failed  {name} \[{rule.name}\]: ."):
        check_rule(rule, optimizers=[])


def test_a_rule_that_decays_without_weight_decay_fails_on_an_optimizer_too() -> None:
    with pytest.raises(AssertionError, match=r"failed  no decay means native \[planted_offset\]"):
        check_rule(DecaysAnyway())


def test_a_failing_report_counts_what_passed_too() -> None:
    with pytest.raises(AssertionError) as raised:
        check_rule(WrongInverse(), optimizers=[])
    first, *lines = str(raised.value).splitlines()
    assert first == "WrongInverse(): 3 passed, 1 failed"
    assert [line.split()[0] for line in lines] == ["failed"]


def test_the_closed_form_is_bounded_as_the_step_is() -> None:
    """A rule that follows the gradients asks for more than all: clamped in both."""
    with pytest.warns(UserWarning, match="clamped to 1"):
        report = check_rule("adaptive", weight_decay=1e4, optimizers=[torch.optim.SGD])
    passed = {c.name for c in report.of("passed")}
    assert {"closed form without gradients", "closed form with gradients"} <= passed
