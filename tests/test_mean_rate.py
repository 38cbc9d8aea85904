"""Effective rates that take a pass: what they make of the gradient's sign."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import halflife

OPTIMIZERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "RMSprop, centered": (halflife.RMSprop, {"centered": True}),
    "RMSprop": (halflife.RMSprop, {"momentum": 0.5}),
    "Adagrad": (halflife.Adagrad, {}),
    "Adadelta": (halflife.Adadelta, {}),
    "Adamax": (halflife.Adamax, {}),
    "RAdam": (halflife.RAdam, {}),
    "Yogi": (halflife.Yogi, {}),
    "Padam": (halflife.Padam, {}),
    "AdaBound": (halflife.AdaBound, {}),
    "AdamDelta": (halflife.AdamDelta, {}),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_ascending_the_negated_loss_is_descending_the_loss(name: str) -> None:
    """The same weights, and the same rate, at every step of a run whose mean gradient is not 0."""
    cls, settings = OPTIMIZERS[name]
    runs = []
    for maximize in (False, True):
        torch.manual_seed(0)
        w = torch.nn.Parameter(torch.randn(7, dtype=torch.float64))
        optimizer = cls(
            [w], lr=1e-3, decay="stable", weight_decay=0.1, maximize=maximize, **settings
        )
        rates = []
        for _ in range(6):
            gradient = 1.0 + 0.1 * torch.randn(7, dtype=torch.float64)
            w.grad = -gradient if maximize else gradient
            optimizer.step()
            rates.append(optimizer.last_effective_rate)
        runs.append((w.detach(), rates))
    torch.testing.assert_close(runs[0][0], runs[1][0], rtol=1e-12, atol=0)
    assert runs[0][1] == pytest.approx(runs[1][1], rel=1e-12)
