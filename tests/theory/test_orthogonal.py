"""The equilibrium of Muon's updates, with exact polar factors and with torch's own Muon."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from halflife.theory import equilibrium as eq
from halflife.theory import orthogonal

FRACTION = 0.004


def walk(rows: int, columns: int, momentum: float, nesterov: bool) -> tuple[float, float]:
    """RMS and rotation over several relaxation times, the polar factor by SVD, in numpy."""
    rng = np.random.default_rng(0)
    w = m = np.zeros((rows, columns))
    squares, angles = [], []
    for t in range(1400):
        g = rng.standard_normal(w.shape)
        m = momentum * m + (1 - momentum) * g
        left, _, right = np.linalg.svd(
            (1 - momentum) * g + momentum * m if nesterov else m, full_matrices=False
        )
        new = (1 - FRACTION) * w - 0.1 * left @ right
        if t > 500:
            squares.append(np.mean(new**2))
            angles.append(
                math.acos(np.sum(w * new) / np.linalg.norm(w) / np.linalg.norm(new)),
            )
        w = new
    return math.sqrt(np.mean(squares)), float(np.mean(angles))


CASES = [(24, 24, 0.9, False), (24, 24, 0.9, True), (8, 48, 0.8, False), (40, 20, 0.8, True)]


@pytest.mark.parametrize(("rows", "columns", "momentum", "nesterov"), CASES)
def test_equilibrium_lies_between_the_bounds(rows, columns, momentum, nesterov) -> None:
    """Within 4 %: the bounds are for large matrices, and the walk is a finite sample."""
    rms, rotation = walk(rows, columns, momentum, nesterov)
    size = orthogonal.update_rms(rows, columns)
    memories = orthogonal.update_memory(
        rows, columns, momentum, nesterov=nesterov, fraction=FRACTION
    )
    low, high = (eq.effective_momentum(memory, FRACTION) for memory in memories)
    assert 0.96 * eq.rms(FRACTION, 0.1, low, size) < rms < 1.04 * eq.rms(FRACTION, 0.1, high, size)
    assert 0.96 * eq.rotation(FRACTION, high) < rotation < 1.04 * eq.rotation(FRACTION, low)
    assert memories[1] < 1.18 * memories[0]  # so the root, the RMS, is known within 9 %


def test_memory_of_the_average_itself_is_too_long_for_square_matrices() -> None:
    rms, _ = walk(24, 24, 0.9, False)
    counted = eq.rms(FRACTION, 0.1, 0.9, orthogonal.update_rms(24, 24))
    assert counted > 1.1 * rms


def test_torchs_muon() -> None:
    """Newton-Schulz leaves singular values between 0.7 and 1.2: within 15 %."""
    torch.manual_seed(0)
    w = torch.nn.Parameter(torch.zeros(24, 48))
    optimizer = torch.optim.Muon([w], lr=0.1, weight_decay=FRACTION / 0.1, momentum=0.9)
    squares = []
    for t in range(1000):
        w.grad = torch.randn(w.shape)
        optimizer.step()
        if t > 500:
            squares.append(w.detach().square().mean().item())
    memories = orthogonal.update_memory(24, 48, 0.9)
    low, high = (eq.effective_momentum(memory) for memory in memories)
    size = orthogonal.update_rms(24, 48)
    rms = math.sqrt(np.mean(squares))
    assert 0.85 * eq.rms(FRACTION, 0.1, low, size) < rms < 1.15 * eq.rms(FRACTION, 0.1, high, size)


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (5, 5)])
def test_update_rms_is_that_of_a_polar_factor(shape: tuple[int, int]) -> None:
    left, _, right = np.linalg.svd(np.random.default_rng(0).standard_normal(shape), False)
    size = math.sqrt(np.mean((left @ right) ** 2))
    assert orthogonal.update_rms(*shape) == pytest.approx(size, rel=1e-12)


def test_memory_in_the_limits() -> None:
    """A vector remembers as its average does; without momentum nothing is remembered."""
    assert orthogonal.update_memory(1, 10**9, 0.9, nesterov=False) == pytest.approx((19, 19))
    assert orthogonal.update_memory(64, 64, 0.0) == (1.0, 1.0)
    share = (8 / (3 * math.pi)) ** 2  # (mean of a quarter circle)^2 over its mean square
    low, high = orthogonal.update_memory(64, 64, 0.5, nesterov=False)
    assert low == pytest.approx(1 + 2 * share, rel=1e-5)
    assert high == pytest.approx(1 + 2 * (share + (1 - share) / 7), rel=1e-5)
    # A look-ahead of one gradient, summed directly.
    b, ages = 0.8, np.arange(400)
    kernel = (1 - b) * b ** (ages + 1)
    kernel[0] += 1 - b
    whole = kernel.sum() ** 2 / (kernel**2).sum()
    assert orthogonal.update_memory(1, 10**9, b)[0] == pytest.approx(whole, rel=1e-5)


def test_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="rows must be an integer >= 1, got 0"):
        orthogonal.update_rms(0, 3)
    with pytest.raises(ValueError, match=r"momentum must be a number in \[0, 1\), got 1.0"):
        orthogonal.update_memory(3, 3, 1.0)
