"""What strengths know of each optimizer, against its own random walk: gradients of pure noise."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import halflife
from halflife import Rotation, TargetRMS
from halflife.bases.noise import base_of
from halflife.theory import equilibrium

LR = 1e-3
SIZE = 4000
# Decay slow against the momentum's memory and the second moment's, and gradients far above eps.
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "Adam": (halflife.AdamW, {"betas": (0.9, 0.99)}),
    "NAdam": (halflife.NAdam, {"betas": (0.9, 0.99), "momentum_decay": 1.0}),
    "RAdam": (halflife.RAdam, {"betas": (0.8, 0.99)}),
    "RMSprop": (halflife.RMSprop, {}),
    "RMSprop-momentum": (halflife.RMSprop, {"momentum": 0.8, "centered": True}),
    "Lion": (halflife.Lion, {"betas": (0.9, 0.95)}),
    "Lion-symmetric": (halflife.Lion, {"betas": (0.8, 0.8)}),
    "Yogi": (halflife.Yogi, {"betas": (0.8, 0.99), "eps": 1e-6}),
    "SGD": (halflife.SGD, {"momentum": 0.8}),
    "SGD-nesterov": (halflife.SGD, {"momentum": 0.8, "nesterov": True}),
    "HeavyBall": (halflife.HeavyBall, {"momentum": 0.8}),
    "Padam": (halflife.Padam, {"betas": (0.8, 0.99)}),
    "AdaBound": (halflife.AdaBound, {"betas": (0.8, 0.99), "gamma": 1.0}),
    "Adamax": (halflife.Adamax, {"betas": (0.8, 0.99)}),
}
FRACTION = 2e-3


def walk(name: str) -> tuple[float, float]:
    """RMS of the weights and rotation, over the second half of eight relaxation times."""
    cls, settings = CASES[name]
    generator = torch.Generator().manual_seed(0)
    w = torch.nn.Parameter(torch.zeros(SIZE, dtype=torch.float64))
    optimizer = cls([w], lr=LR, decay="constant", weight_decay=FRACTION, **settings)
    steps = int(4 / FRACTION)
    squares, angles = [], []
    for t in range(steps):
        scale = 1e-3 if t < 10 else 10.0  # RAdam begins with bare gradients: keep them small
        w.grad = scale * torch.randn(SIZE, generator=generator, dtype=torch.float64)
        before = w.detach().clone()
        optimizer.step()
        if t > steps // 2 and t % 10 == 0:
            squares.append(float(w.detach().square().mean()))
            cosine = float(before @ w.detach() / (before.norm() * w.detach().norm()))
            angles.append(math.acos(cosine))
    return math.sqrt(sum(squares) / len(squares)), sum(angles) / len(angles)


@pytest.mark.parametrize("name", CASES)
def test_equilibrium_is_as_predicted(name: str) -> None:
    cls, settings = CASES[name]
    group = cls([torch.nn.Parameter(torch.zeros(1))], **settings).param_groups[0]
    base = base_of(cls, group, LR)
    assert base.momentum is not None
    rms, rotation = walk(name)
    assert equilibrium.rotation(FRACTION, base.momentum) == pytest.approx(rotation, rel=0.03)
    if base.update_rms is not None:
        predicted = equilibrium.rms(FRACTION, LR, base.momentum, base.update_rms)
        assert predicted == pytest.approx(rms, rel=0.04)
    else:
        with pytest.raises(ValueError, match="the size of its updates depends on the gradients"):
            cls([torch.nn.Parameter(torch.zeros(1))], decay="constant", weight_decay=TargetRMS(1.0))


def test_sizes_are_claimed_where_they_do_not_depend_on_the_gradients() -> None:
    scale_free = {
        name
        for name, (cls, settings) in CASES.items()
        for group in [cls([torch.nn.Parameter(torch.zeros(1))], **settings).param_groups[0]]
        if base_of(cls, group, LR).update_rms is not None
    }
    assert scale_free == {
        n for n in CASES if n.startswith(("Adam", "NAdam", "RAdam", "RMSprop", "Lion", "Yogi"))
    } - {"Adamax"}


REASONS = {
    "Adagrad": "its steps shrink for ever",
    "ASGD": "its steps shrink for ever",
    "Adadelta": "its steps have a size of their own making",
    "Muon": "its updates are orthogonalized",
    "Adai": "its momentum is each weight's own",
}


@pytest.mark.parametrize("strength", [TargetRMS(0.1), Rotation(0.01)])
@pytest.mark.parametrize("name", REASONS)
def test_refused_with_the_reason(name: str, strength: Any) -> None:
    w = torch.nn.Parameter(torch.zeros(2, 2))
    with pytest.raises(ValueError, match=f"on {name}: {REASONS[name]}"):
        getattr(halflife, name)([w], lr=0.01, decay="corrected", weight_decay=strength)


def test_rotation_of_lion_is_that_of_kosson_et_al_where_its_memory_is_weak() -> None:
    """sqrt(pi/2) sqrt(2 d) sqrt((1-b1)^2 + b1^2 (1-b2)/(1+b2)), from asin(r) ~ r."""
    b1, b2, d = 0.9, 0.99, 1e-6
    theirs = math.sqrt(math.pi * d * ((1 - b1) ** 2 + b1**2 * (1 - b2) / (1 + b2)))
    b = equilibrium.effective_momentum(equilibrium.sign_memory(b1, b2))
    assert equilibrium.rotation(d, b) == pytest.approx(theirs, rel=0.05)
