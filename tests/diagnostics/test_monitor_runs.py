"""The monitor beside a run: it changes nothing, misses nothing, and says what it cannot know."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

import halflife
from halflife.diagnostics import Monitor

OPTIMIZERS = {
    "torch AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "torch AdamW fused": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, fused=True),
    "torch Adam, L2, amsgrad": lambda p: torch.optim.Adam(
        p, lr=0.01, weight_decay=0.1, amsgrad=True
    ),
    "torch SGD": lambda p: torch.optim.SGD(
        p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1
    ),
    "torch Rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
    "torch Adafactor": lambda p: torch.optim.Adafactor(p, lr=0.01, weight_decay=0.1),
    "stable": lambda p: halflife.AdamW(p, lr=0.01, weight_decay=1e-3, decay="stable"),
    "cautious": lambda p: halflife.AdamW(p, lr=0.01, weight_decay=0.1, decay="cautious"),
    "Lion": lambda p: halflife.Lion(p, lr=1e-3, weight_decay=0.1),
}


def states() -> list:
    return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]


def run(make, watch, steps=4, dtype=torch.float32):
    """Everything that a run with dropout leaves, down to the random states."""
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    model = model.to(dtype)
    optimizer = make(model.parameters())
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    monitor = Monitor(optimizer, model, every=1, preset="full") if watch else None
    for _ in range(steps):
        optimizer.zero_grad()
        for _ in range(2):  # accumulation
            model(torch.randn(5, 6, dtype=dtype) + random.random()).square().mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        scheduler.step()
    tensors = [p.detach() for p in model.parameters()] + [p.grad for p in model.parameters()]
    return monitor, [*tensors, *model.buffers()], optimizer.state_dict(), states()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_nothing_changes(name):
    monitor, tensors, state, randomness = run(OPTIMIZERS[name], watch=True)
    _, tensors_alone, state_alone, randomness_alone = run(OPTIMIZERS[name], watch=False)
    assert all(torch.equal(a, b) for a, b in zip(tensors, tensors_alone, strict=True))
    flat, spec = torch.utils._pytree.tree_flatten(state)
    flat_alone, spec_alone = torch.utils._pytree.tree_flatten(state_alone)
    assert spec == spec_alone
    for a, b in zip(flat, flat_alone, strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    assert randomness == randomness_alone
    assert monitor.step == 4
    assert len(monitor.history) in {4 * 7, 4 * 8}  # global, decayed where it decays, six tensors


def test_nothing_changes_in_half_precision():
    make = OPTIMIZERS["torch AdamW"]
    _, tensors, _, _ = run(make, watch=True, dtype=torch.bfloat16)
    _, alone, _, _ = run(make, watch=False, dtype=torch.bfloat16)
    assert all(torch.equal(a, b) for a, b in zip(tensors, alone, strict=True))


def weight(*values: float) -> nn.Parameter:
    w = nn.Parameter(torch.tensor(values or (1.0, 2.0)))
    w.grad = torch.ones_like(w)
    return w


def test_sampled_steps():
    w = weight()
    optimizer = torch.optim.SGD([w], lr=0.1)
    monitor = Monitor(optimizer, every=3, steps_per_epoch=2)
    chosen = Monitor(optimizer, every=lambda step: step in {2, 5}, keep=1)
    for _ in range(7):
        optimizer.step()
    assert [(r["step"], r["epoch"]) for r in monitor.history if r["name"] == "global"] == [
        (1, 0.5),
        (3, 1.5),
        (6, 3.0),
    ]
    assert {r["step"] for r in chosen.history} == {5}  # of 2 and 5, one is kept


def test_closing_removes_the_hooks_and_only_those():
    w = weight()
    optimizer = torch.optim.SGD([w], lr=0.1)
    seen = []
    optimizer.register_step_post_hook(lambda *_: seen.append(1))
    with Monitor(optimizer, every=1) as monitor:
        optimizer.step()
    optimizer.step()
    assert (monitor.step, len(seen)) == (1, 2)
    assert len(monitor.history) == 2
    assert not optimizer._optimizer_step_pre_hooks


def test_a_failed_step_is_not_counted():
    w = weight()
    optimizer = torch.optim.SGD([w], lr=0.1)
    monitor = Monitor(optimizer, every=1)

    def closure():
        raise RuntimeError("no loss")

    with pytest.raises(RuntimeError):
        optimizer.step(closure)
    optimizer.step()
    assert [r["step"] for r in monitor.history] == [1, 1]


def test_gradients_of_a_closure_are_those_it_made():
    w = weight(3.0, 4.0)
    optimizer = torch.optim.SGD([w], lr=0.1)
    monitor = Monitor(optimizer, every=1, preset="full")

    def closure():
        optimizer.zero_grad()
        loss = w.square().sum() / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    assert monitor.history[-1]["gradient_norm"] == pytest.approx(5.0)
    assert monitor.history[-1]["cautious_fraction"] is None  # known only before the step


@pytest.mark.parametrize("fused", [False, True])
def test_gradient_scaler(fused):
    """A step that is skipped is not sampled, the next one is; gradients are unscaled."""
    w = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = torch.optim.AdamW([w], lr=0.1, weight_decay=0.1, fused=fused)
    monitor = Monitor(optimizer, every=2, preset="full")
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=100)
    for factor in (1.0, float("inf"), 1.0):
        optimizer.zero_grad()
        scaler.scale((w * factor * torch.tensor([0.6, 0.8])).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    records = [r for r in monitor.history if r["name"] == "group0.param0"]
    # Unfused, the scaler does not call the step that it skips; fused, the kernel skips by itself.
    assert [r["step"] for r in records] == ([1, 3] if fused else [1, 2])
    assert [r["gradient_norm"] for r in records] == pytest.approx([1.0, 1.0])
    assert all(r["note"] == "" and r["update_ratio"] > 0 for r in records)


def test_a_gradient_that_is_not_finite_is_named_once():
    a, b = weight(), weight()
    optimizer = torch.optim.SGD([("a", a), ("b", b)], lr=0.1)
    monitor = Monitor(optimizer, every=1, preset="full")
    a.grad[0] = float("nan")
    with pytest.warns(UserWarning, match="at step 1 the gradient of 'a' is not finite .1 of 2"):
        optimizer.step()
    optimizer.step()  # warnings are errors here
    notes = {r["name"]: r["note"] for r in monitor.history}
    assert notes == {"global": "", "a": "the gradient is not finite", "b": ""}
    assert "a: the gradient is not finite" in monitor.table()


def test_parameters_without_gradient_tied_empty_and_late():
    tied = nn.Linear(3, 3, bias=False)
    model = nn.Sequential(tied, tied, nn.Linear(3, 2))
    model[2].bias.requires_grad_(False)
    empty = nn.Parameter(torch.zeros(0))
    optimizer = torch.optim.AdamW([*model.parameters(), empty], lr=0.1, weight_decay=0.1)
    monitor = Monitor(optimizer, model, every=1, preset="full")
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    by_name = {r["name"]: r for r in monitor.history}
    assert list(by_name) == ["global", "decayed", "0.weight", "2.weight", "2.bias"]
    assert by_name["2.bias"]["note"] == "no gradient"
    assert (by_name["2.bias"]["rotation"], by_name["2.bias"]["fraction"]) == (0.0, 0.0)

    watched_all = Monitor(optimizer, every=1)
    optimizer.add_param_group({"params": [weight()], "weight_decay": 0.3})
    optimizer.step()
    late = [r for r in watched_all.history if r["name"] == "group1.param0"]
    assert late[0]["fraction"] == pytest.approx(0.03)


def test_what_cannot_be_known_is_said():
    def notes(optimizer, w):
        with Monitor(optimizer, every=1, preset="full") as monitor:
            optimizer.step()
        return monitor.history[-1]

    w = weight()
    record = notes(halflife.AdamW([w], decay="cautious", weight_decay=0.1), w)
    assert "cautious" in record["note"]
    assert record["decay_share"] is None
    assert record["update_ratio"] > 0
    assert notes(torch.optim.Rprop([w]), w)["fraction"] == 0.0  # it has no weight decay
    # The rate of the stable rule is known after its first step, of which the record is made.
    assert notes(halflife.AdamW([w], decay="stable", weight_decay=1e-4), w)["fraction"] > 0.0


def test_wrapped_names_and_optimizers():
    class Wrapper:
        def __init__(self, optimizer):
            self.optimizer = optimizer

    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    names = [(f"module._orig_mod.{name}", p) for name, p in model.named_parameters()]
    monitor = Monitor(Wrapper(optimizer), names, every=1)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert [r["name"] for r in monitor.history] == ["global", "weight", "bias"]


@pytest.mark.filterwarnings("ignore:`torch.jit.*is deprecated:DeprecationWarning")
def test_a_compiled_step_is_seen_and_unchanged():
    def train(watch):
        torch.manual_seed(0)
        w = nn.Parameter(torch.randn(5))
        optimizer = torch.optim.AdamW([w], lr=torch.tensor(0.1), weight_decay=0.1)
        monitor = Monitor(optimizer, every=1, preset="full") if watch else None
        step = torch.compile(optimizer.step, backend="eager")
        for _ in range(3):
            w.grad = torch.randn(5)
            step()
        return w.detach(), monitor

    (w, monitor), (alone, _) = train(True), train(False)
    assert torch.equal(w, alone)
    assert (monitor.step, {r["step"] for r in monitor.history}) == (3, {1, 2, 3})


def test_a_step_that_is_recorded_as_a_graph_is_left_alone(monkeypatch):
    """Reading a number from a device breaks the recording; the next step is sampled."""
    w = weight()
    optimizer = torch.optim.SGD([w], lr=0.1)
    monitor = Monitor(optimizer, every=2)
    with monkeypatch.context() as patched:
        patched.setattr(torch.cuda, "is_initialized", lambda: True)
        patched.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        optimizer.step()
    assert (monitor.step, monitor.history) == (1, [])
    optimizer.step()
    assert {r["step"] for r in monitor.history} == {2}


def test_copies_of_the_optimizer_are_not_watched():
    w = weight()
    optimizer = torch.optim.SGD([w], lr=0.1)
    monitor = Monitor(optimizer, every=1)
    copy.deepcopy(optimizer).step()
    assert monitor.step == 0


def test_a_resumed_monitor_goes_on_counting():
    def make():
        w = nn.Parameter(torch.ones(2))
        optimizer = torch.optim.AdamW([("w", w)], lr=0.1, weight_decay=0.1)
        return w, optimizer, Monitor(optimizer, every=2)

    def go(w, optimizer, steps):
        for _ in range(steps):
            w.grad = torch.ones(2)
            optimizer.step()

    w, optimizer, whole = make()
    go(w, optimizer, 6)
    w, optimizer, first = make()
    go(w, optimizer, 4)
    saved = first.state_dict()
    w, optimizer, second = make()
    second.load_state_dict(saved)
    go(w, optimizer, 2)
    assert [r["step"] for r in second.history] == [6] * 3
    assert second.history[-1]["settled"] == pytest.approx(whole.history[-1]["settled"])


BAD = [
    ({"every": 0}, ValueError, "every=0: must be a whole number of steps"),
    ({"every": 2.5}, ValueError, "every=2.5: must be a whole number"),
    ({"every": True}, ValueError, "every=True"),
    ({"preset": "cheap"}, ValueError, "preset='cheap': must be one of economy, standard, full"),
    ({"preset": ["speed"]}, ValueError, "unknown quantity 'speed'; choose of weight_rms"),
    ({"steps_per_epoch": 0}, ValueError, "steps_per_epoch=0: must be a positive number"),
    ({"keep": -1}, ValueError, "keep=-1: must be a positive number"),
    ({"names": nn.Linear(1, 1)}, ValueError, "names: none of the 2 parameters given"),
    ({"sinks": ["run.txt"]}, ValueError, "sink 'run.txt': must end in .jsonl or .csv"),
    ({"sinks": [3]}, TypeError, "sink 3: must be a path"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_bad_arguments_are_refused_before_any_hook(arguments, error, message):
    optimizer = torch.optim.SGD([weight()], lr=0.1)
    with pytest.raises(error, match=message):
        Monitor(optimizer, **arguments)
    assert not optimizer._optimizer_step_pre_hooks
    with pytest.raises(TypeError, match=r"optimizer=3: must be a torch Optimizer"):
        Monitor(3)


def test_a_choice_of_quantities_copies_only_what_it_needs():
    w = weight()
    optimizer = torch.optim.SGD([w], lr=0.1)
    monitor = Monitor(optimizer, every=1, preset={"gradient_norm", "weight_rms"})
    optimizer.step()
    record = monitor.history[-1]
    assert [k for k in record if k in {"gradient_norm", "rotation", "weight_rms"}] == [
        "weight_rms",
        "gradient_norm",
    ]
    assert record["weight_rms"] == pytest.approx(2.5**0.5)


def test_a_schedule_that_moves_the_momentum_probes_once(monkeypatch):
    """OneCycleLR writes betas (or momentum) at every step: the same optimizer all the same."""
    from halflife.bases import native_decay

    probed = []
    attempt = native_decay._judged
    monkeypatch.setattr(native_decay, "_judged", lambda *a: probed.append(1) or attempt(*a))
    for cls, settings in ((torch.optim.AdamW, {}), (torch.optim.SGD, {"momentum": 0.9})):
        w = torch.nn.Parameter(torch.ones(3))
        optimizer = cls([w], lr=1e-3, weight_decay=0.123, **settings)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-3, total_steps=30)
        native_decay._INSTANCES.clear()
        probed.clear()
        with Monitor(optimizer, every=1):
            for _ in range(29):
                w.grad = torch.ones(3)
                optimizer.step()
                scheduler.step()
        assert len(probed) == 1
        assert len(native_decay._INSTANCES) == 1


@pytest.mark.parametrize("rule", ["decoupled", "independent", "stable"])
@pytest.mark.parametrize("made", ["ours", "attached"])
def test_another_lr_runs_no_copy_anew(monkeypatch, rule, made):
    """A sweep makes an optimizer for each lr: what its native step does is the same at all."""
    from halflife.bases import native_decay

    def make(lr):
        weights = [torch.nn.Parameter(torch.ones(3))]
        if made == "ours":
            return halflife.AdamW(weights, lr=lr, weight_decay=0.1, decay=rule)
        return halflife.attach(torch.optim.AdamW(weights, lr=lr, weight_decay=0.1), rule)

    make(1e-3)
    monkeypatch.setattr(native_decay, "_judged", lambda *a: pytest.fail("a copy was run"))
    for lr in (1e-4, 0.0321):
        make(lr)


def test_what_is_remembered_of_optimizers_does_not_grow_for_ever(monkeypatch):
    from halflife.bases import native_decay

    monkeypatch.setattr(native_decay, "_REMEMBERED", 3)
    native_decay._INSTANCES.clear()
    for i in range(6):
        optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])
        optimizer.param_groups[0]["a_flag"] = str(i)
        assert native_decay.native_decay(optimizer).kind == "decoupled"
    assert len(native_decay._INSTANCES) == 3
