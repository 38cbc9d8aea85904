"""The curves that the tests of schedules and of schedulers run over: one of every kind."""

from __future__ import annotations

import pytest

from halflife.schedules import (
    Curve,
    constant,
    cosine,
    cosine_warm_restarts,
    exponential,
    linear,
    log_time,
    multistep,
    normalized_decay,
    warmup,
)

RESTARTS = cosine_warm_restarts(2, 2, steps_per_epoch=3)
CURVES: list[Curve] = [
    constant(),
    multistep([2, 5]),
    linear(7, final=0.1),
    cosine(7, final=10.0),
    exponential(0.9),
    log_time(3),
    warmup(3, cosine(5)),
    RESTARTS,
    normalized_decay(RESTARTS),
]
every_curve = pytest.mark.parametrize("curve", CURVES, ids=lambda curve: type(curve).__name__)
