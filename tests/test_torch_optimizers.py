"""By default, our classes of torch's other optimizers are torch's, bit for bit."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch.testing._internal.common_optimizers import OptimizerErrorEnum, optim_db

import cases
from halflife import Decoupled, L2Regularization

TWINS: dict[Any, Any] = {o.native: o.cls for o in cases.TORCHS}
INFOS = [info for info in optim_db if info.optim_cls in TWINS]
IMPLEMENTATIONS: dict[str, dict[str, bool]] = {
    "open": {},
    "for-loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
INPUTS = [
    pytest.param(
        info.optim_cls,
        {**given.kwargs, **flags},
        id=f"{info.optim_cls.__name__}-{given.desc}-{implementation}",
    )
    for info in INFOS
    for given in info.optim_inputs_func(device="cpu")
    for implementation, flags in IMPLEMENTATIONS.items()
    if flags.keys() <= inspect.signature(info.optim_cls).parameters.keys()
]


def shapes_of(cls: Any) -> Sequence[tuple[int, ...]]:
    return cases.MATRICES if issubclass(cls, torch.optim.Muon) else cases.SHAPES


def test_the_database_covers_the_twins() -> None:
    assert {info.optim_cls for info in INFOS} == set(TWINS)


def outcome(cls: Any, dtype: torch.dtype, schedule: str, kwargs: dict[str, Any]) -> Any:
    """Weights and state after some steps; or the error, which is torch's to raise."""
    kwargs = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in kwargs.items()}
    params = cases.make_params(dtype=dtype, shapes=shapes_of(cls))
    try:
        optimizer = cls(params, **kwargs)
        base = float(optimizer.param_groups[0]["lr"])
        for t, row in enumerate(cases.make_gradients(8, shapes=shapes_of(cls))):
            cases.set_gradients(params, row)
            lr = base if schedule == "constant" else base * 0.5 * (1 + math.cos(math.pi * t / 6))
            group = optimizer.param_groups[0]
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr
            optimizer.step()
    except (RuntimeError, ValueError) as error:
        return str(error)
    return [(p, optimizer.state[p]) for p in params]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize(("torch_class", "kwargs"), INPUTS)
def test_bitwise_equal(
    torch_class: Any, kwargs: dict[str, Any], schedule: str, dtype: torch.dtype
) -> None:
    if dtype is torch.bfloat16:
        kwargs = kwargs | {"weight_decay": 0.0}  # torch's is lost in rounding, ours is not
    theirs = outcome(torch_class, dtype, schedule, kwargs)
    ours = outcome(TWINS[torch_class], dtype, schedule, kwargs)
    if isinstance(theirs, str):
        assert ours == theirs
        return
    for (p, state), (q, expected) in zip(ours, theirs, strict=True):
        assert torch.equal(p, q)
        assert state.keys() == expected.keys()
        for key, value in expected.items():
            assert value is None or torch.equal(state[key], value), key


ERRORS = [
    pytest.param(info.optim_cls, error, id=f"{info.optim_cls.__name__}-{given.desc}")
    for info in INFOS
    for error in info.optim_error_inputs_func(device="cpu", dtype=torch.float32)
    for given in [error.optimizer_error_input]
    if error.error_on == OptimizerErrorEnum.CONSTRUCTION_ERROR
]


@pytest.mark.parametrize(("torch_class", "error"), ERRORS)
def test_error_inputs_raise_the_same_errors(torch_class: Any, error: Any) -> None:
    given = error.optimizer_error_input
    params = [torch.nn.Parameter(torch.randn(2, 2))] if given.params is None else given.params
    if issubclass(error.error_type, Warning):
        with pytest.warns(error.error_type, match=error.error_regex):
            TWINS[torch_class](params, **given.kwargs)
    else:
        with pytest.raises(error.error_type, match=error.error_regex):
            TWINS[torch_class](params, **given.kwargs)


@pytest.mark.parametrize("torch_class", TWINS)
def test_signature_and_defaults_are_torchs(torch_class: Any) -> None:
    wanted = inspect.signature(torch_class).parameters
    got = inspect.signature(TWINS[torch_class]).parameters
    own = {"decay", "peak_lr", "unknown"}
    assert [n for n in got if n not in own] == list(wanted)
    assert all(got[n].default == p.default for n, p in wanted.items())
    positional = [n for n, p in wanted.items() if p.kind == p.POSITIONAL_OR_KEYWORD]
    assert all(got[n].kind == wanted[n].kind for n in positional)


@pytest.mark.parametrize("torch_class", TWINS)
def test_default_rule_is_what_torch_does(torch_class: Any) -> None:
    params = cases.make_params(shapes=shapes_of(torch_class))
    decoupled = Decoupled() if torch_class is torch.optim.Muon else L2Regularization()
    assert TWINS[torch_class](params).param_groups[0]["decay"] == decoupled
    if "decoupled_weight_decay" in inspect.signature(torch_class).parameters:
        switched = TWINS[torch_class](params, decoupled_weight_decay=True)
        assert switched.param_groups[0]["decay"] == Decoupled()
