"""What the monitor measures, against closed forms; what it predicts, against a random walk."""

from __future__ import annotations

import math

import pytest
import torch

import halflife
from halflife.diagnostics import Monitor
from halflife.theory import equilibrium


def moved(start: torch.Tensor, end: torch.Tensor, **settings: object) -> Monitor:
    """A monitor that has seen SGD without decay go from start to end, at lr 1."""
    w = torch.nn.Parameter(start.clone())
    w.grad = start - end
    optimizer = torch.optim.SGD([w], lr=1.0)
    monitor = Monitor(optimizer, every=1, **{"preset": "full", **settings})
    optimizer.step()
    return monitor


def last(monitor: Monitor, name: str = "group0.param0") -> dict:
    return [record for record in monitor.history if record["name"] == name][-1]


# --- measured -------------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [1e-6, 1e-4, 0.1, 1.0, math.pi / 2, 3.0, math.pi])
@pytest.mark.parametrize("stretch", [1.0, 0.5, 3.0])
def test_rotation_is_the_angle(angle, stretch):
    start = torch.tensor([2.0, 0.0], dtype=torch.float64)
    end = 2.0 * stretch * torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    # Near pi, asin has half the digits; near 0 at another length, the chord has.
    assert last(moved(start, end))["rotation"] == pytest.approx(angle, rel=1e-5, abs=1e-9)


def test_small_rotations_survive_float32():
    """Where an arccos of the float32 cosine would say 0, or 3e-4."""
    angle = 1e-5
    end = torch.tensor([math.cos(angle), math.sin(angle)])
    assert last(moved(torch.tensor([1.0, 0.0]), end))["rotation"] == pytest.approx(angle, rel=1e-4)


def test_lengths_and_parts_of_a_step():
    """w = (3, 4), w' = w + (-0.3, -0.4) + (0.8, -0.6): a tenth less along w, and 1 across it."""
    start, step = torch.tensor([3.0, 4.0]), torch.tensor([0.5, -1.0])
    record = last(moved(start.double(), (start + step).double()))
    expected = {
        "weight_rms": 5.0 / math.sqrt(2.0),
        "gradient_norm": math.sqrt(1.25),
        "weight_gradient_product": 5.0 * math.sqrt(1.25),
        "update_ratio": math.sqrt(1.25) / 5.0,
        "rotation": math.atan2(1.0, 4.5),
        "update_radial": -0.1,
        "update_tangential": 0.2,
        "update_cosine": 0.5 / math.sqrt(1.25),  # u = -step
        "gradient_cosine": 0.5 / math.sqrt(1.25),
        "cautious_fraction": 0.5,  # w u is -1.5 and 4
        "constraint_use": 0.0,
        "decay_share": 0.0,
    }
    assert {name: record[name] for name in expected} == pytest.approx(expected, rel=1e-12)
    assert record["lost_decay"] is None  # nothing is in half precision


@pytest.mark.parametrize("rule", ["decoupled", "independent", "corrected", "constant"])
def test_decay_is_told_apart_under_a_changing_lr(rule):
    """decay_share = d ||w|| / ||w' - (1 - d) w||, with the fraction of each step's lr."""
    w = torch.nn.Parameter(torch.randn(30, dtype=torch.float64))
    optimizer = halflife.SGD([w], lr=0.1, momentum=0.9, weight_decay=0.02, decay=rule)
    monitor = Monitor(optimizer, every=1, preset="standard")
    for lr in (0.1, 0.07, 0.02):
        optimizer.param_groups[0]["lr"] = lr
        w.grad = torch.randn(30, dtype=torch.float64)
        before = w.detach().clone()
        optimizer.step()
        d = 0.02 * {"decoupled": lr, "independent": lr / 0.1, "corrected": lr**2 / 0.1}.get(rule, 1)
        rest = w.detach() - (1.0 - d) * before
        record = last(monitor)
        assert record["fraction"] == pytest.approx(d, rel=1e-12)
        share, cosine = (
            d * before.norm() / rest.norm(),
            -before @ rest / before.norm() / rest.norm(),
        )
        assert record["decay_share"] == pytest.approx(share.item(), rel=1e-10)
        assert record["update_cosine"] == pytest.approx(cosine.item(), rel=1e-10)


def test_global_and_decayed_are_the_concatenation():
    params = [torch.nn.Parameter(torch.randn(s, dtype=torch.float64)) for s in ((4, 3), (5,), ())]
    groups = [{"params": params[:1], "weight_decay": 0.5}, {"params": params[1:]}]
    optimizer = torch.optim.AdamW(groups, lr=0.1, weight_decay=0.0)
    monitor = Monitor(optimizer, every=1, preset="full")
    for p in params:
        p.grad = torch.randn_like(p)
    before = torch.cat([p.detach().flatten() for p in params])
    optimizer.step()
    after = torch.cat([p.detach().flatten() for p in params])
    record = last(monitor, "global")
    cosine = before @ after / before.norm() / after.norm()
    assert record["rotation"] == pytest.approx(math.acos(cosine.item()), rel=1e-6)
    assert record["weight_rms"] == pytest.approx(before.square().mean().sqrt().item(), rel=1e-12)
    ratio = ((after - before).norm() / before.norm()).item()
    assert record["update_ratio"] == pytest.approx(ratio, rel=1e-9)
    assert record["weight_rms_predicted"] is None  # most of it never decays
    decayed, alone = last(monitor, "decayed"), last(monitor, "group0.param0")
    for quantity in set(monitor.quantities) - {"lost_decay"}:
        assert decayed[quantity] == pytest.approx(alone[quantity], rel=1e-12), quantity


def test_l2_on_sgd_counts_in_the_long_run_and_on_adam_not_at_all():
    w = torch.nn.Parameter(torch.ones(3))
    w.grad = torch.ones(3)
    optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.9, weight_decay=0.01)
    with Monitor(optimizer, every=1) as monitor:
        optimizer.step()
    assert last(monitor)["fraction"] == pytest.approx(0.1 * 0.01 / (1.0 - 0.9))
    optimizer = torch.optim.Adam([w], lr=0.1, weight_decay=0.01)
    with Monitor(optimizer, every=1) as monitor:
        optimizer.step()
    assert last(monitor)["decay_share"] is None
    assert "L2 joins the gradient" in last(monitor)["note"]


@pytest.mark.parametrize(("lr", "lost"), [(2.0**-9, 1.0), (2.0**-5, 0.0)])
def test_lost_decay_is_that_of_the_format(lr, lost):
    """A bfloat16 keeps no decay below 2^-9, and all of one above 2^-8."""
    w = torch.nn.Parameter(torch.randn(64).bfloat16())
    w.grad = torch.zeros_like(w)
    optimizer = torch.optim.AdamW([w], lr=lr, weight_decay=0.5)
    with Monitor(optimizer, every=1, preset="standard") as monitor:
        optimizer.step()
    assert last(monitor)["lost_decay"] == lost
    halfs = halflife.AdamW([w], lr=lr, weight_decay=0.5)
    with Monitor(halfs, every=1, preset="standard") as monitor:
        halfs.step()
    assert last(monitor)["lost_decay"] == 0.0


def test_constraint_use_is_the_largest_weight_in_the_ball():
    """|w| <= 1/lam is the ball of AdamW with coupled decay lam."""
    w = torch.nn.Parameter(torch.tensor([1.0, -4.0]))
    w.grad = torch.zeros(2)
    optimizer = torch.optim.AdamW([w], lr=1e-3, weight_decay=0.2)
    with Monitor(optimizer, every=1, preset="full") as monitor:
        optimizer.step()
    assert last(monitor)["constraint_use"] == pytest.approx(0.8, rel=1e-3)


def test_settled_follows_the_relaxation_of_the_squared_norm():
    """Without gradients, 1 - ||w_t||^2 / ||w_0||^2, up to d^2."""
    w = torch.nn.Parameter(torch.ones(4, dtype=torch.float64))
    optimizer = halflife.SGD([w], lr=0.1, weight_decay=0.01, decay="decoupled")
    monitor = Monitor(optimizer, every=7)
    later = Monitor(optimizer, every=lambda step: step % 10 == 5)
    later.step = 1000  # of a run that is resumed without the monitor's state
    for step in range(35):
        w.grad = torch.zeros_like(w)
        if step == 20:
            new = torch.nn.Parameter(torch.ones(4))
            optimizer.add_param_group({"params": [new]})
        if step >= 20:
            new.grad = torch.zeros_like(new)
        optimizer.step()
    relaxed = 1.0 - w.detach().square().mean().item()
    assert last(monitor)["settled"] == pytest.approx(relaxed, rel=1e-3)
    assert last(later)["settled"] == pytest.approx(relaxed, rel=1e-3)
    # A parameter that joins counts from the sample before it was seen, 14.
    joined = -math.expm1(-2.0 * 0.001 * (35 - 14))
    assert last(monitor, "group1.param0")["settled"] == pytest.approx(joined, rel=1e-9)


def test_sparse_and_complex_and_strided_parameters():
    embedding = torch.nn.Embedding(5, 2, sparse=True)
    embedding(torch.tensor([1, 1, 3])).sum().backward()
    optimizer = torch.optim.SGD(embedding.parameters(), lr=1.0)
    with Monitor(optimizer, embedding, every=1, preset="full") as monitor:
        optimizer.step()
    assert last(monitor, "weight")["gradient_norm"] == pytest.approx(math.sqrt(2 * 4 + 2 * 1))

    start = torch.tensor([3.0 + 4.0j, 0.0j], dtype=torch.complex128)
    record = last(moved(start, start * torch.exp(torch.tensor(0.25j))))
    assert record["rotation"] == pytest.approx(0.25)
    assert record["weight_rms"] == pytest.approx(2.5)  # over four real numbers

    matrix = torch.arange(6.0, dtype=torch.float64).view(2, 3).t()
    assert last(moved(matrix, 2 * matrix))["update_radial"] == pytest.approx(1.0)


# --- predicted ------------------------------------------------------------------------------------


def test_predictions_are_the_closed_forms_at_each_lr():
    """AdamW without memory in its updates' correlation: sqrt(lr / (2 wd)), and sqrt(2 d)."""
    w = torch.nn.Parameter(torch.randn(10))
    optimizer = torch.optim.AdamW([w], lr=1e-3, betas=(0.0, 0.9), weight_decay=0.5)
    monitor = Monitor(optimizer, every=1, preset="full")
    for lr in (1e-3, 5e-4, 1e-4):
        optimizer.param_groups[0]["lr"] = lr
        w.grad = torch.randn(10)
        optimizer.step()
        record, d = last(monitor), 0.5 * lr
        # relative corrections are of order d
        assert record["weight_rms_predicted"] == pytest.approx(math.sqrt(lr / 1.0), rel=d)
        assert record["rotation_predicted"] == pytest.approx(math.sqrt(2.0 * d), rel=d)
        assert record["decay_share_predicted"] == pytest.approx(math.sqrt(d / 2.0), rel=d)
        assert record["update_ratio_predicted"] == pytest.approx(math.sqrt(2.0 * d), rel=2 * d)
        assert record["update_radial_predicted"] == pytest.approx(-d, rel=2 * d)
        assert record["update_cosine_predicted"] == 0.0


@pytest.mark.parametrize("rule", ["decoupled", "corrected"])
def test_a_random_walk_is_where_it_is_predicted(rule):
    """Noise gradients, momentum, a learning rate that has changed on the way: within 3 %."""
    n, lr, weight_decay = 20_000, 0.02, 1.0
    generator = torch.Generator().manual_seed(1)
    w = torch.nn.Parameter(torch.randn(n, generator=generator) * 0.1)
    optimizer = halflife.AdamW(
        [w], lr=2 * lr, betas=(0.9, 0.99), weight_decay=weight_decay, decay=rule
    )
    monitor = Monitor(optimizer, every=lambda step: step > 500 and step % 25 == 0, preset="full")
    for step in range(700):
        optimizer.param_groups[0]["lr"] = 2 * lr if step < 100 else lr
        w.grad = torch.randn(n, generator=generator)
        optimizer.step()
    records = [record for record in monitor.history if record["name"] == "decayed"]
    d = {"decoupled": lr * weight_decay, "corrected": lr * weight_decay / 2}[rule]
    closed = {
        "weight_rms": equilibrium.rms(d, lr, 0.9, math.sqrt(0.1 / 1.9)),
        "rotation": equilibrium.rotation(d, 0.9),
        "update_cosine": equilibrium.update_cosine(d, 0.9),
    }
    for quantity in ("weight_rms", "rotation", "decay_share", "update_ratio", "update_tangential"):
        mean = sum(record[quantity] for record in records) / len(records)
        predicted = records[-1][f"{quantity}_predicted"]
        assert mean == pytest.approx(predicted, rel=0.03), quantity
    for quantity, value in closed.items():
        assert records[-1][f"{quantity}_predicted"] == pytest.approx(value, rel=1e-12)
    mean = sum(record["update_cosine"] for record in records) / len(records)
    assert mean == pytest.approx(closed["update_cosine"], abs=0.03)


def test_tensors_of_different_decay_are_predicted_as_one_vector():
    """Two random walks of different size and decay; their concatenation within 3 %."""
    generator = torch.Generator().manual_seed(1)
    params = [torch.nn.Parameter(torch.randn(n, generator=generator) * 0.1) for n in (12_000, 6000)]
    groups = [{"params": [p], "weight_decay": d} for p, d in zip(params, (0.5, 2.0), strict=True)]
    optimizer = torch.optim.AdamW(groups, lr=0.02, betas=(0.8, 0.99))
    monitor = Monitor(optimizer, every=lambda step: step > 500 and step % 25 == 0, preset="full")
    for _ in range(700):
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()
    records = [record for record in monitor.history if record["name"] == "decayed"]
    for quantity in ("weight_rms", "rotation", "decay_share", "update_ratio"):
        mean = sum(record[quantity] for record in records) / len(records)
        predicted = sum(record[f"{quantity}_predicted"] for record in records) / len(records)
        assert mean == pytest.approx(predicted, rel=0.03), quantity
    mean = sum(record["update_cosine"] for record in records) / len(records)
    assert mean == pytest.approx(records[-1]["update_cosine_predicted"], abs=0.03)


def test_a_deterministic_run_is_not_at_equilibrium():
    """What is predicted is not what is measured whatever happens: a constant gradient."""
    w = torch.nn.Parameter(torch.ones(100))
    optimizer = torch.optim.AdamW([w], lr=0.02, weight_decay=1.0)
    monitor = Monitor(optimizer, every=100)
    for _ in range(300):
        w.grad = torch.ones(100)
        optimizer.step()
    assert last(monitor)["rotation"] < 0.01 * last(monitor)["rotation_predicted"]
