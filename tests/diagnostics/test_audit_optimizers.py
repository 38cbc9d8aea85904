"""Optimizers and weights of other packages: what the audit can say of them, and that it says so."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import halflife
from halflife.diagnostics.auditing import audit
from halflife.groups import param_groups
from halflife.schedules import WeightDecayScheduler, exponential


def net():
    return nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 4))


def audited(cls, **kwargs):
    model = net()
    settings = {"lr": 1e-3, "weight_decay": 0.5, **kwargs}
    return audit(model, cls(param_groups(model), **settings), steps=4000)


def codes(result):
    return [f.code for f in result.findings]


# --- optimizers that do nothing at first ----------------------------------------------------------


class Counting(torch.optim.AdamW):
    def step(self, closure=None):
        self.count = getattr(self, "count", 0) + 1
        return super().step(closure) if self.acts(self.count) else None


def idle(acts, base=Counting):
    return type("Idle", (base,), {"acts": lambda self, count: acts(count)})


class LateDecay(Counting):
    """Steps from the start and decays later, as under a warm-up of the decay inside."""

    def step(self, closure=None):
        self.count = getattr(self, "count", 0) + 1
        decays = [group["weight_decay"] for group in self.param_groups]
        if not self.acts(self.count):
            for group in self.param_groups:
                group["weight_decay"] = 0.0
        torch.optim.AdamW.step(self, closure)
        for group, decay in zip(self.param_groups, decays, strict=True):
            group["weight_decay"] = decay


@pytest.mark.parametrize("steps", [1, 2, 5, 6, 20, 63])
@pytest.mark.parametrize("base", [Counting, LateDecay])
def test_an_optimizer_that_idles_is_known_by_its_first_real_steps(steps, base):
    result = audited(idle(lambda count: count > steps, base))
    assert codes(result) == []
    assert result.parameters[0].rule == "decoupled"
    assert result.parameters[0].fraction == pytest.approx(5e-4, rel=1e-4)


@pytest.mark.parametrize(
    ("acts", "words"),
    [
        (lambda count: count > 64, "did not move in 64 steps"),
        (lambda count: False, "did not move in 64 steps"),
        (lambda count: count % 4 == 0, "after 3 steps"),  # gradients are accumulated inside
    ],
)
def test_one_that_idles_for_longer_or_now_and_then_is_unknown(acts, words):
    result = audited(idle(acts))
    assert codes(result) == ["unknown-decay"]
    assert words in result.findings[0].message
    assert result.exit_code == 0


def test_one_that_idles_and_has_l2_is_adaptive():
    class Idle(torch.optim.Adam):
        def step(self, closure=None):
            self.count = getattr(self, "count", 0) + 1
            return super().step(closure) if self.count > 5 else None

    assert codes(audited(Idle)) == ["coupled-l2"]


def test_l2_on_an_optimizer_that_is_not_adaptive_is_unknown_and_no_fault():
    """ASGD shrinks the weights by a decay of its own, with or without gradients."""
    result = audited(torch.optim.ASGD)
    assert codes(result) == ["unknown-decay"]
    assert "no fixed multiple" in result.findings[0].message


def test_one_that_moves_and_never_decays_is_an_error():
    class Forgetful(Counting):
        def acts(self, count):
            for group in self.param_groups:
                group["weight_decay"] = 0.0
            return count > 6

    result = audited(Forgetful)
    assert codes(result) == ["decay-has-no-effect"]
    assert result.exit_code == 1


@pytest.mark.parametrize(("name", "kind"), [("RAdam", "decoupled"), ("SOAP", "decoupled")])
def test_of_pytorch_optimizer(name, kind):
    package = pytest.importorskip("pytorch_optimizer", reason="not among the installed packages")
    result = audited(getattr(package, name))
    assert (result.exit_code, result.parameters[0].rule) == (0, kind)


# --- optimizers without an lr ---------------------------------------------------------------------


class Relative(torch.optim.SGD):
    """Chooses its own lr, as Adafactor does with relative steps, whatever the group has."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1 - 1e-2 * group["weight_decay"]).sub_(p.grad, alpha=1e-2)


@pytest.mark.parametrize("lr", [None, 0.0])
def test_an_lr_of_its_own_is_no_lr_of_zero(lr):
    model = net()
    optimizer = Relative(param_groups(model), lr=1e-3, weight_decay=0.5)
    for group in optimizer.param_groups:
        group["lr"] = lr
    assert "zero-lr" not in codes(result := audit(model, optimizer, steps=100))
    assert result.parameters[0].lr == lr


def test_adafactor_of_transformers():
    transformers = pytest.importorskip("transformers", reason="the extra hf is not installed")
    model = net()
    optimizer = transformers.Adafactor(param_groups(model), weight_decay=0.5)
    result = audit(model, optimizer, steps=100)
    assert codes(result) == ["unknown-decay"]
    schedule = transformers.optimization.AdafactorSchedule(optimizer)
    assert codes(audit(model, optimizer, schedule=schedule, steps=100)) == ["unknown-decay"]
    assert "Adafactor" in str(result)
    fixed = {"lr": 1e-3, "relative_step": False, "scale_parameter": False}
    known = audited(transformers.Adafactor, **fixed)
    assert known.parameters[0].fraction == pytest.approx(5e-4, rel=1e-9)
    assert codes(audited(transformers.Adafactor, **fixed | {"lr": 0.0})) == ["zero-lr"]


# --- another's error -----------------------------------------------------------------------------


class NeedsGraph(torch.optim.SGD):
    def step(self, closure=None):
        raise RuntimeError("element 0 of tensors does not require grad\nand more")


def test_anothers_error_comes_with_what_failed_and_what_to_do():
    (note,) = audited(NeedsGraph).findings
    assert note.code == "unknown-decay"
    assert "a copy of it could not take a step on a few numbers (RuntimeError: element 0" in (
        note.message
    )
    assert "halflife.attach" in note.message
    assert "\n" not in note.message
    assert "and more" not in note.message


# --- weights without arithmetic -------------------------------------------------------------------


class Quantised(Tensor):
    """Says that it is bfloat16 and refuses arithmetic, as torchao's weights do."""

    @staticmethod
    def __new__(cls, codes):
        return Tensor._make_wrapper_subclass(cls, codes.shape, dtype=torch.bfloat16)

    def __init__(self, codes):
        self.codes = codes

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.detach.default:
            return cls(args[0].codes)
        raise NotImplementedError(f"{function} on quantised weights")


CODES = torch.zeros(5, 6, dtype=torch.int8)
WEIGHTS = {
    "subclass": lambda: Quantised(CODES),
    "int8": lambda: CODES.clone(),
    "uint8, packed": lambda: torch.zeros(15, 1, dtype=torch.uint8),
    "float8": lambda: torch.zeros(5, 6).to(torch.float8_e4m3fn),
    "bool": lambda: CODES.bool(),
    "torch's": lambda: torch.quantize_per_tensor(torch.ones(5, 6), 0.1, 0, torch.qint8),
    "sparse": lambda: torch.eye(5, 6).to_sparse(),
    "meta": lambda: torch.empty(5, 6, device="meta"),
}


@pytest.mark.filterwarnings("ignore:.*quantize.*deprecated", "ignore:.*Sparse.*:UserWarning")
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("name", WEIGHTS)
def test_frozen_quantised_weights_are_looked_at_without_arithmetic(name, inside):
    model = net()
    model[0].weight = nn.Parameter(WEIGHTS[name](), requires_grad=False)
    groups = param_groups(model) if inside else [{"params": [model[2].weight]}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.5)
    result = audit(model, optimizer, steps=4000)
    row = result.parameters[0]
    assert not row.decays
    assert row.rms is None or math.isfinite(row.rms)
    assert "frozen" in row.reason
    assert str(result)


def test_a_subclass_that_computes_has_an_rms():
    model = net()
    plain = model[0].weight.detach()

    class Named(nn.Parameter):
        """As bitsandbytes' before they are quantised."""

    model[0].weight = Named(plain)
    optimizer = torch.optim.AdamW(param_groups(model), lr=1e-3, weight_decay=0.5)
    assert audit(model, optimizer).parameters[0].rms == pytest.approx(
        plain.square().mean().sqrt().item()
    )


# --- a decay that every group overrides -----------------------------------------------------------

STRENGTHS = [
    halflife.HalfLife(steps=1000),
    halflife.Timescale(steps=1000),
    halflife.TargetRMS(0.02),
    halflife.Rotation(0.01),
    halflife.Fraction(1e-3),
    halflife.Normalized(0.025, batch_size=8, dataset_size=800, epochs=10),
    halflife.TotalDecay(5.0, schedule=[1.0] * 5000),
]


def of_trainer(model, cls, weight_decay, number):
    """As Hugging Face's Trainer: ``args.weight_decay`` in one group and 0 in the other."""
    groups = param_groups(model)
    groups[0]["weight_decay"] = number
    return cls(groups, lr=1e-3, weight_decay=weight_decay)


@pytest.mark.parametrize("strength", STRENGTHS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("cls", [halflife.AdamW, halflife.SGD, halflife.Lion])
def test_a_strength_that_every_group_overrides_is_found(cls, strength):
    for number, words in ((0.0, "0, so nothing decays"), (1e-7, "1e-07, 0, so it is nowhere")):
        model = net()
        result = audit(model, of_trainer(model, cls, strength, number))
        (found,) = [f for f in result.findings if f.code == "overridden-decay"]
        assert f"weight_decay={type(strength).__name__}" in found.message
        assert words in found.message
        assert "args.weight_decay" in found.message
        assert len(found.message) < 500


def test_where_only_embeddings_train_and_are_free_of_decay_nothing_is_overridden():
    """A soft prompt."""
    model = nn.Sequential(nn.Embedding(4, 6), nn.Linear(6, 4).requires_grad_(False))
    groups = param_groups(model, "norm-bias-and-embedding-free")
    assert codes(audit(model, torch.optim.AdamW(groups, weight_decay=0.1))) == []


def test_a_strength_that_some_group_has_is_no_finding():
    for strength in STRENGTHS:
        model = net()
        optimizer = halflife.AdamW(param_groups(model), lr=1e-3, weight_decay=strength)
        assert "overridden-decay" not in codes(audit(model, optimizer))
        model(torch.ones(2, 6)).sum().backward()
        optimizer.step()
        scheduler = WeightDecayScheduler(optimizer, exponential(0.01))
        scheduler.step()
        scheduler.step()
        assert "overridden-decay" not in codes(audit(model, optimizer))


@pytest.mark.parametrize("none", [halflife.HalfLife(steps=math.inf), halflife.Fraction(0.0), 0.0])
@pytest.mark.parametrize("cls", [halflife.AdamW, halflife.Adam])
def test_no_strength_is_none_to_override(cls, none):
    model = net()
    assert codes(audit(model, of_trainer(model, cls, none, 0.0))) == []


def test_numbers_of_groups_are_usual():
    model = net()
    assert codes(audit(model, of_trainer(model, halflife.AdamW, 0.3, 0.1))) == []
    assert codes(audit(model, of_trainer(model, halflife.AdamW, 0.3, 0.0))) == ["overridden-decay"]


def test_an_lr_of_its_own_is_monitored_too():
    from halflife.diagnostics import Monitor

    model = net()
    optimizer = Relative(param_groups(model), lr=1e-3, weight_decay=0.5)
    for group in optimizer.param_groups:
        group["lr"] = None
    monitor = Monitor(optimizer, names=model, every=1)
    model(torch.ones(2, 6)).sum().backward()
    optimizer.step()
    decaying = next(record for record in monitor.history if record["name"] == "0.weight")
    assert decaying["lr"] is None
    assert decaying["fraction"] is None  # not 0: it decays, by an lr that is not known
