"""Histograms in powers of two: exact edges, what is counted, and what a scale-free method makes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import cases
import halflife
from halflife.diagnostics import histograms
from halflife.diagnostics.histograms import (
    BINS,
    Log2Histogram,
    log2_histogram,
    update_histogram,
    weight_histogram,
)


def filled(histogram: Log2Histogram) -> dict[int, int]:
    return {k: count for k, count in zip(BINS, histogram.counts, strict=True) if count}


# --- bins -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("k", BINS)
def test_a_power_of_two_opens_its_bin(k, dtype):
    """2^k is in bin k, the number just below it in bin k - 1; a logarithm gets some wrong."""
    edge = torch.tensor([2.0**k, -(2.0**k)], dtype=dtype)
    assert filled(log2_histogram([edge])) == {k: 2}
    below = edge * (1.0 - torch.finfo(dtype).eps / 2)
    assert filled(log2_histogram([below])) == {max(k - 1, -27): 2}


def test_outer_bins_hold_the_rest():
    outside = torch.tensor([0.0, 1e-30, 2.0**-28, 2.0**-27, 1.0, 7.0, 1e30])
    assert filled(log2_histogram([outside])) == {-27: 4, 0: 3}


def test_what_is_counted():
    values = [torch.tensor([1.0, math.nan, math.inf]), torch.tensor([[0.5], [0.25]])]
    found = log2_histogram(values, scale=0.5)
    assert (filled(found), found.left_out) == ({0: 2, -1: 1}, 2)
    live = [torch.tensor([True, True, True]), torch.tensor([[False], [True]])]
    found = log2_histogram(values, live=live)
    assert (filled(found), found.left_out, found.total) == ({0: 1, -2: 1}, 3, 2)
    with pytest.raises(ValueError, match=r"scale=0: must be positive"):
        log2_histogram(values, scale=0)


def test_spread_and_entropy_of_known_distributions():
    one = log2_histogram([torch.full((8,), 0.3)])
    assert (one.spread, one.entropy) == (0.0, 0.0)
    even = log2_histogram([torch.tensor([2.0**k for k in BINS])])
    assert even.entropy == pytest.approx(math.log2(28))
    assert even.spread == pytest.approx(math.sqrt((28**2 - 1) / 12))  # discrete uniform
    both = one + even
    assert both.counts == log2_histogram([torch.tensor([0.3] * 8 + [2.0**k for k in BINS])]).counts
    empty = log2_histogram([])
    assert (empty.total, math.isnan(empty.spread), math.isnan(empty.entropy)) == (0, True, True)
    assert sum(both.proportions) == pytest.approx(1.0)
    assert both.as_dict()["counts"] == list(both.counts)


def test_it_prints_a_bar_for_each_bin():
    lines = str(log2_histogram([torch.tensor([1.0, 0.5, 0.5])])).splitlines()
    assert lines[0].startswith("3 numbers, spread 0.471")
    assert len(lines) == 1 + 28
    assert lines[-2].split() == ["2^-1", "66.67%", "#" * 40]


# --- updates --------------------------------------------------------------------------------------


def steps(optimizer: torch.optim.Optimizer, w: nn.Parameter, factor=1.0, count=3, seed=0):
    """Noise whose scale differs over coordinates by up to 2^12; two of them are dead."""
    generator = torch.Generator().manual_seed(seed)
    scales = 2.0 ** -torch.linspace(0, 12, w.numel(), dtype=w.dtype).round()
    scales[:2] = 0.0
    before = w.detach().clone()
    for step in range(count):
        optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
        before = w.detach().clone()
        w.grad = factor * scales * torch.randn(w.numel(), generator=generator, dtype=w.dtype)
        optimizer.step()
    return before, 0.1 / count


@pytest.mark.parametrize(
    ("make", "decay"),
    [
        (lambda p: torch.optim.AdamW(p, weight_decay=0.3), lambda lr: 0.3 * lr),
        (lambda p: torch.optim.AdamW(p, weight_decay=0.3, amsgrad=True), lambda lr: 0.3 * lr),
        (
            lambda p: halflife.AdamW(p, lr=0.1, weight_decay=0.03, decay="corrected"),
            lambda lr: 0.03 * lr**2 / 0.1,
        ),
        (
            lambda p: halflife.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.3, decay="decoupled"),
            lambda lr: 0.3 * lr,
        ),
        (lambda p: halflife.AdamDelta(p, weight_decay=0.3), lambda lr: 0.3 * lr),
        (lambda p: halflife.AdamDelta(p, weight_decay=0.3, moments="zero"), lambda lr: 0.3 * lr),
    ],
    ids=["AdamW", "AMSGrad", "corrected", "SGD", "AdamDelta", "AdamDelta-zero"],
)
def test_updates_are_what_moved_the_weights_beside_decay(make, decay):
    """In float64 the difference of the weights, decay put back, over lr, tells the same."""
    w = nn.Parameter(torch.linspace(-1, 1, 50, dtype=torch.float64))
    optimizer = make([w])
    before, lr = steps(optimizer, w)
    update = w.detach() - (1.0 - decay(lr)) * before
    expected = log2_histogram([update[2:]], scale=lr)
    found = update_histogram(optimizer)
    assert found.counts == expected.counts
    assert found.left_out == 2


def test_an_optimizer_tells_its_update_or_refuses_by_name():
    """Of every optimizer that there is: no other error, and no other number."""
    told, refused = set(), []
    for case in cases.OPTIMIZERS:
        params = cases.make_params(shapes=case.shapes)
        optimizer = case.cls(params, lr=0.1, **{**case.arguments, "weight_decay": 0.0})
        for row in cases.make_gradients(2, missing=False, shapes=case.shapes):
            before = [p.detach().clone() for p in params]
            cases.set_gradients(params, row)
            optimizer.step()
        moved = [p.detach() - old for p, old in zip(params, before, strict=True)]
        try:
            found = update_histogram(optimizer)
        except ValueError as refusal:
            refused.append(str(refusal))
        else:
            told.add(case.name.partition("-")[0])
            assert found.counts == log2_histogram(moved, scale=0.1).counts, case.name
    assert told == {"SGD", "Adam", "AMSGrad", "AdamW", "AdamDelta"}
    assert all("does not tell its last update" in message for message in refused)


def test_a_buffer_that_momentum_0_leaves_unused_is_not_taken_for_the_update():
    w = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.9)
    for momentum in (0.9, 0.0):
        optimizer.param_groups[0]["momentum"] = momentum
        w.grad = torch.full((3,), 2.0**-5 if momentum else 2.0**-9)
        optimizer.step()
    with pytest.raises(ValueError, match=r"does not tell its last update"):
        update_histogram(optimizer)


@pytest.mark.parametrize("cls", [torch.optim.AdamW, torch.optim.Adam, halflife.AdamDelta])
def test_dead_coordinates_can_be_counted_as_the_published_figures_do(cls):
    """Theirs: |m_hat| / D of every coordinate, clipped to [1e-8, 1], its floor(log2) counted."""
    w = nn.Parameter(torch.linspace(0.5, 1, 50, dtype=torch.float64))
    optimizer = cls([w], weight_decay=0.3)
    before, lr = steps(optimizer, w)
    decay = 0.0 if cls is torch.optim.Adam else 0.3 * lr
    published = np.abs(((1 - decay) * before - w.detach()).numpy() / lr).clip(1e-8, 1.0)
    bins, counts = np.unique(np.floor(np.log2(published)), return_counts=True)
    found = update_histogram(optimizer, live=False)
    assert filled(found) == dict(zip(bins.astype(int).tolist(), counts.tolist(), strict=True))
    assert (found.total, found.left_out) == (50, 0)
    assert update_histogram(optimizer).total == 48


def test_decay_is_not_in_the_updates_and_dead_coordinates_are_not_counted():
    """AdamW's update of dead coordinates is 0, Adam with L2 makes whole steps of them."""
    found = {}
    for cls, weight_decay in ((torch.optim.AdamW, 0.0), (torch.optim.AdamW, 0.5)):
        w = nn.Parameter(torch.ones(50, dtype=torch.float64))
        optimizer = cls([w], weight_decay=weight_decay)
        steps(optimizer, w)
        found[weight_decay] = update_histogram(optimizer)
    assert found[0.0] == found[0.5]
    w = nn.Parameter(torch.ones(50, dtype=torch.float64))
    optimizer = torch.optim.Adam([w], weight_decay=0.5)
    steps(optimizer, w)
    state = optimizer.state[w]
    assert bool((state["exp_avg_sq"] > 0).all())  # L2 moves the dead ones too,
    assert update_histogram(optimizer).left_out == 2  # and they are not counted


def test_scale_free_methods_have_the_same_histogram_at_every_scale_of_the_loss():
    def histogram(cls, factor, weight_decay):
        w = nn.Parameter(torch.ones(200, dtype=torch.float64))
        optimizer = cls([w], eps=0.0, weight_decay=weight_decay)
        with torch.no_grad():
            steps(optimizer, w, factor)
            live = slice(2, None)
            return log2_histogram([optimizer.state[w]["exp_avg"][live]]), update_histogram(
                optimizer
            )

    moments, updates = histogram(torch.optim.AdamW, 1.0, 0.1)
    smaller, same = histogram(torch.optim.AdamW, 2.0**-6, 0.1)
    assert updates.counts == same.counts
    assert moments.counts != smaller.counts
    assert updates.spread < 0.5 * moments.spread  # steps of one size
    _, with_l2 = histogram(torch.optim.Adam, 1.0, 0.1)
    _, other = histogram(torch.optim.Adam, 2.0**-6, 0.1)
    assert with_l2.counts != other.counts


def test_parameters_can_be_chosen_and_nothing_is_written():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(6, 4)).square().sum().backward()
    optimizer.step()
    before = [t.clone() for s in optimizer.state.values() for t in s.values()]
    random = torch.get_rng_state()
    assert update_histogram(optimizer, model[0].parameters()).total <= 20
    assert (
        update_histogram(optimizer).total > update_histogram(optimizer, model[0].parameters()).total
    )
    assert weight_histogram(optimizer).total == 28
    after = [t for s in optimizer.state.values() for t in s.values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize(
    "make",
    [
        torch.optim.Rprop,
        torch.optim.SGD,
        lambda p: torch.optim.SGD(p, momentum=0.9, nesterov=True),
        torch.optim.NAdam,
        torch.optim.Muon,
    ],
)
def test_an_optimizer_whose_state_is_not_its_update_is_refused(make):
    w = nn.Parameter(torch.eye(3))
    w.grad = torch.ones(3, 3)
    optimizer = make([w])
    optimizer.step()
    with pytest.raises(ValueError, match=r"its state does not tell its last update"):
        update_histogram(optimizer)


def test_figure():
    pytest.importorskip("matplotlib", reason="figures need matplotlib")
    found = log2_histogram([torch.tensor([1.0, 0.5, 0.5])])
    (panel,) = histograms.figure({"a": found}).axes
    assert [bar.get_height() for bar in panel.patches][-2:] == pytest.approx([2 / 3, 1 / 3])
    assert panel.patches[-1].get_x() == 0.0
