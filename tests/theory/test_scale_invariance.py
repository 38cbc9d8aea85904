"""Scale-invariant weights: equilibria by simulation, the growing lr exactly, the exponents."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import halflife
from halflife.theory import equilibrium as eq
from halflife.theory.scale_invariance import Equilibrium, GrowingRate, norm_exponent


def noise_at(w: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A gradient orthogonal to w, of mean square norm 1 at |w| = 1, in numpy."""
    noise = rng.standard_normal(w.size) / math.sqrt(w.size - 1)
    return (noise - w * (w @ noise) / (w @ w)) / np.linalg.norm(w)


def settle(lr: float, wd: float, momentum: float, l2: bool) -> tuple[float, float, float]:
    """Norm, rotation and cosine of SGD over the second half of a long run."""
    rng = np.random.default_rng(0)
    w, buf = rng.standard_normal(3000), np.zeros(3000)
    norms, angles, cosines = [], [], []
    for t in range(1200):
        g = noise_at(w, rng)
        buf = momentum * buf + (g + wd * w if l2 else g)
        new = w - lr * buf if l2 else (1 - lr * wd) * w - lr * buf
        if t >= 600:
            size, after = np.linalg.norm(w), np.linalg.norm(new)
            norms.append(after**2)
            angles.append(math.acos(w @ new / (size * after)))
            cosines.append(w @ buf / (size * np.linalg.norm(buf)))
        w = new
    return math.sqrt(np.mean(norms)), float(np.mean(angles)), float(np.mean(cosines))


CASES = [
    (0.1, 0.5, 0.0, True),
    (0.1, 0.2, 0.9, True),
    (0.2, 0.5, 0.5, True),
    (0.1, 0.5, 0.9, False),
    (0.2, 0.5, 0.5, False),
]


@pytest.mark.parametrize(("lr", "wd", "momentum", "l2"), CASES)
def test_equilibrium_of_sgd(lr: float, wd: float, momentum: float, l2: bool) -> None:
    predicted = Equilibrium(lr, wd, momentum, l2=l2)
    norm, rotation, cosine = settle(lr, wd, momentum, l2)
    assert predicted.norm(1.0) == pytest.approx(norm, rel=0.01)
    assert predicted.rotation == pytest.approx(rotation, rel=0.01)
    assert predicted.cosine == pytest.approx(cosine, abs=0.005)


def test_small_decay_limits() -> None:
    """|w|^4 -> lr g^2 / (2 wd), rotation -> sqrt(2 lr wd / (1 + b)); the two forms agree at b=0."""
    lr, wd, g = 1e-3, 1e-3, 7.0
    plain = Equilibrium(lr, wd)
    assert plain.norm(g) ** 4 == pytest.approx(lr * g**2 / (2 * wd), rel=1e-5)
    turning = Equilibrium(lr, wd, 0.9).rotation
    assert turning == pytest.approx(math.sqrt(2 * lr * wd / 1.9), rel=1e-5)
    decoupled = Equilibrium(0.3, 0.5, l2=False)
    assert Equilibrium(0.3, 0.5).norm(g) == pytest.approx(decoupled.norm(g), rel=1e-12)
    # After a step the angle is measured on different sides of the noise: equal to first order.
    assert plain.rotation == pytest.approx(Equilibrium(lr, wd, l2=False).rotation, rel=1e-5)


@pytest.mark.parametrize(("momentum", "l2"), [(0.0, True), (0.5, True), (0.5, False)])
def test_relaxation_time(momentum: float, l2: bool) -> None:
    """From a tenth above, the distance shrinks by e in that time."""
    lr, wd = 0.1, 0.05
    predicted = Equilibrium(lr, wd, momentum, l2=l2)
    time = round(predicted.relaxation_time)
    rng = np.random.default_rng(1)
    w = rng.standard_normal(40_000)
    w *= 1.1 * predicted.norm(1.0) / np.linalg.norm(w)
    buf = np.zeros_like(w)
    for _ in range(round(20 * momentum)):  # the buffer that belongs to these weights
        buf = momentum * buf + noise_at(w, rng) + (wd * w if l2 else 0.0)
    distances = []
    for _ in range(time + 1):
        distances.append(np.linalg.norm(w) / predicted.norm(1.0) - 1.0)
        buf = momentum * buf + noise_at(w, rng) + (wd * w if l2 else 0.0)
        w = (w if l2 else (1 - lr * wd) * w) - lr * buf
    assert distances[-1] / distances[0] == pytest.approx(math.exp(-1), rel=0.12)


def test_relaxation_of_weights_whose_updates_have_a_fixed_size() -> None:
    d, steps = 0.01, 200
    mean_square = 5.0
    for _ in range(steps):  # of w <- (1 - d) w + noise of unit variance
        mean_square = (1 - d) ** 2 * mean_square + 1.0
    settled = eq.rms(d, 1.0, 0.0, 1.0) ** 2
    expected = settled + (5.0 - settled) * math.exp(-steps / eq.relaxation_time(d))
    assert mean_square == pytest.approx(expected, rel=1e-9)
    assert eq.relaxation_time(0.0) == math.inf
    assert eq.relaxation_time(1.0) == 0.0
    assert eq.relaxation_time(1e-6) == pytest.approx(0.5e6, rel=1e-5)


# --- Li & Arora -----------------------------------------------------------------------------------


def rayleigh(w: torch.Tensor) -> torch.Tensor:
    """A scale-invariant loss: w'Aw / w'w."""
    diagonal = torch.linspace(1.0, 3.0, w.numel(), dtype=torch.float64)
    return (diagonal * w.square()).sum() / w.square().sum()


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_decay_is_an_lr_that_grows(momentum: float) -> None:
    lr, wd, steps = 0.05, 0.02, 200
    rate = GrowingRate(lr, wd, momentum)
    start = torch.linspace(-3.0, 6.0, 9, dtype=torch.float64)
    decayed, free = (torch.nn.Parameter(start.clone()) for _ in range(2))
    with_decay = torch.optim.SGD([decayed], lr, momentum, weight_decay=wd)
    without = torch.optim.SGD([free], rate.lr_at(0), momentum)
    if momentum:
        without.state[free]["momentum_buffer"] = rate.initial_buffer(start)
    for t in range(steps):
        without.param_groups[0]["lr"] = rate.lr_at(t)
        for w, optimizer in ((decayed, with_decay), (free, without)):
            optimizer.zero_grad()
            rayleigh(w).backward()
            optimizer.step()
        expected = rate.scale(t + 1) * free.data
        error = (decayed.data - expected).norm() / expected.norm()
        assert error < 1e-11  # rounding, carried along
    assert rate.scale(steps) < 0.85  # the two runs did come apart
    assert rayleigh(decayed).item() == pytest.approx(rayleigh(free).item(), rel=1e-12)


def test_root_without_momentum_and_where_it_ends() -> None:
    assert GrowingRate(0.1, 0.5).root == pytest.approx(0.95)
    assert GrowingRate(0.1, 0.5).lr_at(3) == pytest.approx(0.1 * 0.95**-7)
    edge = GrowingRate(1.0, (1 - math.sqrt(0.81)) ** 2 * (1 - 1e-12), 0.81)
    assert edge.root == pytest.approx(0.9, rel=1e-5)
    with pytest.raises(ValueError, match=r"lr \* weight_decay must be <= .* got 0.011"):
        GrowingRate(1.0, 0.011, 0.81)


# --- exponents ------------------------------------------------------------------------------------


def settled_norm(rule: halflife.DecayRule, weight_decay: float, lr: float) -> float:
    """RMS where AdamW settles on scale-invariant weights under noise, by the optimizer itself."""
    rng = np.random.default_rng(0)
    w = torch.nn.Parameter(torch.from_numpy(0.25 * rng.standard_normal(1000)))
    optimizer = halflife.AdamW(
        [w], lr, (0.0, 0.9), eps=0.0, decay=rule, weight_decay=weight_decay, peak_lr=0.06
    )
    squares = []
    for t in range(700):
        w.grad = torch.from_numpy(noise_at(w.detach().numpy(), rng))
        optimizer.step()
        if t > 400:
            squares.append(w.detach().square().mean().item())
    return math.sqrt(np.mean(squares))


RULES = [
    (halflife.Decoupled(), 0.5, {}, 1 / 2),
    (halflife.Stable(), 0.5 / 300, {"gradient_power": 1}, 1 / 3),
    (halflife.Corrected(), 0.5, {"lr_power": 1}, 0.0),
    (halflife.Constant(), 0.02, {"lr_power": -1}, 1.0),
]


@pytest.mark.parametrize(("rule", "weight_decay", "powers", "published"), RULES)
def test_norms_follow_the_lr_by_the_exponent(rule, weight_decay, powers, published) -> None:
    assert norm_exponent(**powers) == pytest.approx(published)
    low, high = (settled_norm(rule, weight_decay, lr) for lr in (0.02, 0.06))
    measured = math.log(high / low) / math.log(3)
    assert measured == pytest.approx(published, abs=0.03)


def test_exponent_of_sgd() -> None:
    low, high = (Equilibrium(lr, 1e-4).norm(1.0) for lr in (1e-3, 4e-3))
    assert math.log(high / low) / math.log(4) == pytest.approx(norm_exponent(normalized=False))


ERRORS = [
    (lambda: Equilibrium(0.0, 0.1), "lr must be a finite number > 0"),
    (lambda: Equilibrium(0.1, 0.0), "weight_decay must be a finite number > 0"),
    (lambda: Equilibrium(0.1, 0.1, 1.0), r"momentum must be a number in \[0, 1\), got 1.0"),
    (lambda: Equilibrium(10.0, 0.1), r"lr \* weight_decay must be < 1, got 1.0"),
    (lambda: Equilibrium(0.1, 0.1).norm(-1.0), "gradient_norm must be a finite number >= 0"),
    (lambda: norm_exponent(gradient_power=-2), "gradient_power must be above -2"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS)
def test_refused_with_the_reason(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
