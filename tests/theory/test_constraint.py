"""Decay as a constraint: where AdamW, Lion and Muon end on losses whose minimum is outside."""

from __future__ import annotations

import math

import pytest
import torch

import halflife
from halflife.theory.constraint import largest_update, max_norm_use, spectral_norm_use

WD = 0.5  # the ball has radius 2
TARGET = torch.tensor([5.0, -3.0, 0.7, -1.2, 0.0], dtype=torch.float64)


@pytest.mark.parametrize("name", ["AdamW", "Lion"])
def test_ends_at_the_minimum_within_the_ball(name: str) -> None:
    """KKT of min |w - target|^2 in max |w| <= 1/wd: outer coordinates at the bound, inner free."""
    w = torch.nn.Parameter(torch.zeros(5, dtype=torch.float64))
    optimizer = getattr(halflife, name)([w], 0.15, (0.9, 0.95), weight_decay=WD)
    for t in range(4000):
        optimizer.param_groups[0]["lr"] = 0.15 / math.sqrt(1 + t)  # falls, its sum diverges
        w.grad = w.detach() - TARGET
        optimizer.step()
    torch.testing.assert_close(w.detach(), TARGET.clamp(-1 / WD, 1 / WD), atol=0.01, rtol=0)
    assert max_norm_use(w, WD) == pytest.approx(1.0, abs=0.005)
    force = w.detach() - TARGET  # the multipliers: against w at the bound, none inside
    assert (force * w.detach() < 0)[:2].all()
    assert force[2:].abs().max() < 0.01


def test_orthogonal_updates_end_within_the_spectral_ball() -> None:
    """min |W - target|^2 over sigma_max <= 1/wd clips the singular values."""
    generator = torch.Generator().manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))
    sigma = torch.tensor([5.0, 3.0, 1.5, 0.5], dtype=torch.float64)
    target = left @ torch.diag(sigma) @ right[:4]
    w = torch.zeros_like(target)
    for t in range(3000):
        lr = 0.1 / math.sqrt(1 + t)
        u, _, v = torch.linalg.svd(w - target, full_matrices=False)
        w = (1 - lr * WD) * w - lr * u @ v
    expected = left @ torch.diag(sigma.clamp(max=1 / WD)) @ right[:4]
    torch.testing.assert_close(w, expected, atol=0.02, rtol=0)
    assert spectral_norm_use(w, WD) == pytest.approx(1.0, abs=0.01)


def test_torchs_muon_stays_near_its_ball() -> None:
    """Its singular values are 0.7 to 1.2 in place of 1, and `scale` is in its lr."""
    torch.manual_seed(0)
    w = torch.nn.Parameter(torch.zeros(16, 4))
    direction = torch.randn(16, 4)
    optimizer = torch.optim.Muon([w], lr=0.02, weight_decay=WD)
    for _ in range(600):
        w.grad = direction.clone()
        optimizer.step()
    assert 0.6 < spectral_norm_use(w, WD, scale=math.sqrt(16 / 4)) < 1.25


@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.999), (0.9, 0.95), (0.0, 0.9)])
def test_the_largest_update_is_met(beta1: float, beta2: float) -> None:
    """By gradients that grow by beta2 / beta1 a step; random ones stay below."""
    bound = largest_update(beta1, beta2)
    w = torch.nn.Parameter(torch.zeros(1000, dtype=torch.float64))
    steps = 200
    ratio = beta2 / beta1 if beta1 else 10.0
    quiet = round(math.log(1e-12) / math.log(beta2))
    optimizer = torch.optim.Adam([w], 1.0, (beta1, beta2), eps=0.0)
    grad = torch.full((1000,), 1e-30, dtype=torch.float64)
    optimizer.state[w] = {
        "step": torch.tensor(float(quiet)),  # bias correction is over
        "exp_avg": torch.zeros_like(w),
        "exp_avg_sq": torch.zeros_like(w),
    }
    largest = 0.0
    for t in range(steps):
        w.grad = grad * ratio**t
        before = w.detach().clone()
        optimizer.step()
        largest = max(largest, (before - w.detach()).abs().max().item())
    assert largest == pytest.approx(bound, rel=1e-3)


def test_largest_update_without_a_bound() -> None:
    assert largest_update(0.9, 0.8) == math.inf
    assert largest_update(0.0, 0.0) == 1.0


def test_use_of_nothing_and_errors() -> None:
    assert max_norm_use(torch.zeros(0), 0.1) == spectral_norm_use(torch.zeros(0, 3), 0.1) == 0.0
    with pytest.raises(ValueError, match="weight_decay must be a finite number >= 0, got -1"):
        max_norm_use(torch.ones(1), -1)
    with pytest.raises(ValueError, match="matrix must be of two dimensions"):
        spectral_norm_use(torch.ones(1), 0.1)
    with pytest.raises(ValueError, match="scale must be a finite number > 0"):
        spectral_norm_use(torch.ones(1, 1), 0.1, scale=0.0)
    with pytest.raises(ValueError, match=r"beta2 must be a number in \[0, 1\), got 1"):
        largest_update(0.9, 1)
