"""The probe: each behaviour on an optimizer made for it, torch's by their definition, no trace."""

from __future__ import annotations

import functools
import json
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import Optimizer
from typer.testing import CliRunner

import halflife
from halflife.cli import app
from halflife.diagnostics.probing import BEHAVIOURS, COLUMNS, Probe, find, parse, probe

WD = "weight_decay"


class Toy(Optimizer):
    """SGD with momentum 0.9; a subclass says how it decays."""

    def __init__(self, params: Any, lr: float = 0.1, weight_decay: float = 0.25) -> None:
        super().__init__(params, {"lr": lr, WD: weight_decay, "first_lr": lr})

    def direction(self, group: dict[str, Any], p: Any, u: Any) -> Any:
        return u

    def kept(self, group: dict[str, Any], p: Any, u: Any) -> Any:
        return 1.0

    def left(self, group: dict[str, Any], p: Any, u: Any) -> Any:
        return 1.0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                buffer = self.state[p].setdefault("buffer", torch.zeros_like(p))
                buffer.mul_(0.9).add_(self.direction(group, p, p.grad))
                kept, left = self.kept(group, p, buffer), self.left(group, p, buffer)
                p.mul_(kept)
                p.add_(buffer, alpha=-group["lr"])
                p.mul_(left)


def toy(**methods: Any) -> type[Optimizer]:
    return type("Made", (Toy,), {k: staticmethod(f) for k, f in methods.items()})


def normalised(g: dict[str, Any], p: Any, u: Any) -> Any:
    return u / u.norm().clamp(min=1e-30) + g[WD] * p


TOYS: dict[str, type[Optimizer]] = {
    "absent": toy(),
    "l2": toy(direction=lambda g, p, u: u + g[WD] * p),
    "decoupled": toy(kept=lambda g, p, u: 1 - g["lr"] * g[WD]),
    "decoupled_after": toy(left=lambda g, p, u: 1 - g["lr"] * g[WD]),
    "independent": toy(kept=lambda g, p, u: 1 - g["lr"] / g["first_lr"] * g[WD]),
    "constant": toy(kept=lambda g, p, u: 1 - g[WD]),
    "corrected": toy(kept=lambda g, p, u: 1 - g["lr"] ** 2 / g["first_lr"] * g[WD]),
    "scaled": toy(kept=lambda g, p, u: 1 - 3 * g["lr"] * g[WD]),
    "proximal": toy(left=lambda g, p, u: 1 / (1 + g["lr"] * g[WD])),
    "cautious": toy(kept=lambda g, p, u: 1 - g["lr"] * g[WD] * (p * u >= 0)),
    "gradient_dependent": toy(
        kept=lambda g, p, u: 1 - g["lr"] * g[WD] / p.grad.norm().clamp(min=0.1)
    ),
    "in_momentum": toy(direction=normalised),
    "other": toy(kept=lambda g, p, u: 1 - g["lr"] ** 3 * g[WD]),
}


@functools.cache
def of_toy(behaviour: str) -> Probe:
    return probe(TOYS[behaviour])


@pytest.mark.parametrize("behaviour", TOYS)
def test_each_behaviour_on_an_optimizer_made_for_it(behaviour: str) -> None:
    found = of_toy(behaviour)
    assert found.behaviour == behaviour, found
    assert found.weight_decay == 0.25
    decays = behaviour != "absent"
    assert found.no_gradient == (False if decays else None)
    assert found.zero_gradient == (True if decays else None)


def test_every_behaviour_has_an_optimizer_or_a_reason_not_to() -> None:
    assert set(BEHAVIOURS) == {*TOYS, "averaged", "unknown"}


RATES = {
    "decoupled": (0.125, 0.0625),
    "independent": (1.0, 0.5),
    "constant": (1.0, 1.0),
    "corrected": (0.125, 0.03125),
    "scaled": (0.375, 0.1875),
    "cautious": (0.125, 0.0625),
    "proximal": (0.125 / (1 + 0.125 / 4), 0.0625 / (1 + 0.0625 / 4)),  # at weight_decay 1/4
}


@pytest.mark.parametrize("behaviour", RATES)
def test_the_fractions_are_those_of_the_definition(behaviour: str) -> None:
    """By hand, at the learning rates 1/8 and 1/16 that the result names."""
    found = of_toy(behaviour)
    assert found.lrs == (0.125, 0.0625)
    assert found.rates == pytest.approx(RATES[behaviour], rel=1e-6)
    assert (found.peak_lr is not None) == (behaviour in ("independent", "corrected"))


def test_the_evidence_separates_the_candidates() -> None:
    """Decay by hand: only the one that is right gives the native weights."""
    for behaviour, right in (("l2", "l2"), ("decoupled", "before"), ("decoupled_after", "after")):
        errors = dict(of_toy(behaviour).errors)
        assert errors.pop(right) < 1e-10
        assert min(errors.values()) > 1e-2
        assert f"{right} " in of_toy(behaviour).explain()


def test_bfloat16_keeps_the_decay_where_it_is_rounded_with_the_update() -> None:
    """(1 - 2^-10) w rounds to w; w (1 - d) - lr u, rounded once, is right on average."""
    kept = probe("AdamW").bfloat16
    assert kept["for-loop"] == kept["foreach"] == 0.0
    assert isinstance(kept["fused"], float)
    assert kept["fused"] == pytest.approx(1.0, abs=0.1)
    for share in probe(halflife.AdamW).bfloat16.values():  # stochastic rounding
        assert share == pytest.approx(1.0, abs=0.1)


def test_half_precision_that_is_refused_and_that_does_not_train() -> None:
    class Refusing(TOYS["decoupled"]):  # type: ignore[misc, name-defined]
        def step(self, closure: Any = None) -> None:
            if self.param_groups[0]["params"][0].dtype is torch.bfloat16:
                raise TypeError("no half precision here")
            super().step()

    class Still(TOYS["decoupled"]):  # type: ignore[misc, name-defined]
        def step(self, closure: Any = None) -> None:
            if self.param_groups[0]["params"][0].dtype is not torch.bfloat16:
                super().step()

    assert probe(Refusing).bfloat16 == {"default": "refused: TypeError: no half precision here"}
    assert probe(Still).bfloat16 == {"default": "the weights do not move"}


OURS = ["decoupled", "independent", "constant", "corrected", "proximal", "cautious", "l2"]


@pytest.mark.parametrize("rule", OURS)
def test_our_optimizers_answer_for_their_rule(rule: str) -> None:
    assert probe(halflife.AdamW, decay=rule).behaviour == rule


def test_our_other_optimizers() -> None:
    assert probe(halflife.AdamW, decay="stable").behaviour == "gradient_dependent"
    assert probe(halflife.HeavyBall, momentum=0.9).lr_multiplies == "the momentum"


def test_an_instance_and_a_function_that_makes_one() -> None:
    w = torch.nn.Parameter(torch.ones(3))
    assert probe(torch.optim.Adam([w], decoupled_weight_decay=True)).behaviour == "decoupled"

    def make(params: Any, lr: float, weight_decay: float) -> Optimizer:
        return torch.optim.AdamW([{"params": params}], lr=lr, weight_decay=weight_decay)

    found = probe(make)
    assert (found.name, found.behaviour) == ("make", "decoupled")


def test_a_parameter_without_gradient_that_decays_is_noticed() -> None:
    class All(Toy):
        @torch.no_grad()
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            for group in self.param_groups:
                for p in group["params"]:
                    p.mul_(1 - group["lr"] * group[WD])
                    if p.grad is not None:
                        p.sub_(p.grad, alpha=group["lr"])

    assert probe(All).no_gradient is True


def test_what_decays_only_matrices_says_so() -> None:
    made = toy(kept=lambda g, p, u: 1 - g["lr"] * g[WD] * (p.dim() > 1))
    found = probe(made)
    assert found.behaviour == "decoupled"
    assert "vectors do not decay" in found.reason


def test_what_starts_late_is_found() -> None:
    class Late(Toy):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            self.count = getattr(self, "count", 0) + 1
            if self.count > 4:
                super().step()

        def kept(self, group: dict[str, Any], p: Any, u: Any) -> Any:
            return 1 - group["lr"] * group[WD]

    found = probe(Late)
    assert found.behaviour == "decoupled"
    assert found.reason.startswith("after 8 steps")


@pytest.mark.parametrize(
    ("idle", "behaviour"), [(20, "decoupled"), (63, "decoupled"), (64, "unknown")]
)
def test_what_starts_later_still_is_found_or_unknown(idle: int, behaviour: str) -> None:
    class Late(Toy):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            self.count = getattr(self, "count", 0) + 1
            if self.count > idle:
                super().step()

        def kept(self, group: dict[str, Any], p: Any, u: Any) -> Any:
            return 1 - group["lr"] * group[WD]

    found = probe(Late)
    assert found.behaviour == behaviour
    start = f"after {idle} steps" if behaviour == "decoupled" else "its weights did not move in 64"
    assert found.reason.startswith(start)


def test_nothing_changes() -> None:
    w = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    optimizer = torch.optim.AdamW([w], lr=0.1)
    calls: list[int] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append(1))
    w.grad = torch.tensor([0.5, 0.25, -1.0])
    optimizer.step()
    weights, gradient, rng = w.detach().clone(), w.grad.clone(), torch.get_rng_state()
    states = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr, index]
    entries = dict(optimizer.param_groups[0])
    state = {k: v.clone() for k, v in optimizer.state[w].items()}
    with torch.no_grad():
        probe(optimizer)
        assert not torch.is_grad_enabled()
    assert torch.equal(w, weights)
    assert torch.equal(w.grad, gradient)
    assert torch.equal(torch.get_rng_state(), rng)
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]  # type: ignore[union-attr, index]
    assert optimizer.param_groups[0] == entries
    assert all(torch.equal(optimizer.state[w][k], v) for k, v in state.items())
    assert calls == [1]


# --- what cannot be probed ------------------------------------------------------------------------


class Hidden(Toy):
    def __init__(self, params: Any, lr: float = 0.1, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr)
        for group in self.param_groups:
            del group[WD]


class Breaks(Toy):
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        raise RuntimeError("no such device")


class Averaging(Toy):
    def train(self) -> None: ...

    def eval(self) -> None: ...


@pytest.mark.parametrize(
    ("cls", "behaviour", "reason"),
    [
        (Hidden, "unknown", "keeps weight_decay outside"),
        (Breaks, "unknown", "RuntimeError: no such device"),
        (Averaging, "averaged", "exchange the parameters"),
    ],
)
def test_the_reason_is_given(cls: Any, behaviour: str, reason: str) -> None:
    found = probe(cls)
    assert found.behaviour == behaviour
    assert reason in found.reason


class NeedsMore(Toy):
    def __init__(self, params: Any, base: Any) -> None:
        super().__init__(params)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: find("torch.optim.AdamV"),
            "'torch.optim.AdamV': .* did you mean torch.optim.Adam",
        ),
        (lambda: find("no_such.Adam"), "no_such cannot be imported .* write package.Class"),
        (lambda: find("math.Adam"), "math has no optimizer 'Adam'; it has none"),
        (lambda: probe("SGD", momentun=0.9), "momentun=0.9: SGD has no .* mean 'momentum'"),
        (lambda: probe("SGD", lr=0.9), "lr=0.9: the probe sets lr itself"),
        (lambda: probe(NeedsMore), r"its constructor needs base; .* --arg base="),
        (lambda: parse(["momentum"]), "--arg 'momentum': must be name=value"),
    ],
)
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_what_is_no_optimizer() -> None:
    with pytest.raises(TypeError, match="optimizer=3: must be an optimizer class"):
        probe(3)  # type: ignore[arg-type]


# --- how it is shown ------------------------------------------------------------------------------


def test_in_words_and_as_data() -> None:
    found = probe("Adam")
    assert "weight_decay is 0 unless given" in str(found)
    assert "with decay it depends on the gradients' scale" in found.explain()
    assert Probe(**json.loads(json.dumps(found.as_dict()))).behaviour == "l2"
    assert len(found.cells()) == len(COLUMNS)


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["probe", *arguments], terminal_width=200)
    return result.exit_code, " ".join(result.output.split())


def test_the_command() -> None:
    code, output = invoke("SGD", "--arg", "momentum=0.9")
    assert code == 0
    assert output.strip().endswith("SGD(momentum=0.9): l2, g + wd w in place of the gradient g.")
    code, output = invoke("Rprop", "LBFGS")
    assert code == 0
    assert output.count("absent") == 4  # in the table, and in its sentences
    code, output = invoke("Rprop", "--json")
    assert json.loads(output)[0]["behaviour"] == "absent"


def test_the_command_explains_errors() -> None:
    code, output = invoke("AdamV")
    assert code == 2
    assert "did you mean" in output
    assert "Traceback" not in output
