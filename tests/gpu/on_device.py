"""What the tests of this folder train, and how they look at the device.

What only CUDA can do, to capture, to say that something waits and to count its memory, is left out
in a rehearsal on the CPU: the step is then taken as it is.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import cases
import halflife
from cases import PEAK, MapCase, OptimizerCase, RuleCase
from halflife.rules import DecayMap

RULES: list[RuleCase | MapCase] = [*cases.RULES, *cases.MAPS]
HALVES = [torch.bfloat16, torch.float16]
STEPS = 8
LRS = cases.schedule("cosine", total=STEPS)
LARGE = (300, 220)  # more than 65,536 elements: such a tensor goes by itself

# A rehearsal that has no time takes these; the rest is marked slow.
QUICK = {
    "SGD-momentum",
    "AdamW",
    "AdamW-compiled",
    "AdamW-foreach-capturable",
    "AdamW-fused-capturable",
    "Lion-foreach",
}


# --- which ---------------------------------------------------------------------------------------


def implementations(case: OptimizerCase) -> list[dict[str, Any]]:
    """All that a class has, the open one first."""
    known = inspect.signature(case.cls.__init__).parameters
    foreach = {"foreach": True} if "foreach" in known else {}
    found: list[dict[str, Any]] = [{}]
    found += [{flag: True} for flag in ("foreach", "fused") if flag in known]
    if "capturable" in known:
        found.append({**foreach, "capturable": True})
        if "fused" in known:
            found.append({"fused": True, "capturable": True})
    if "implementation" in known:
        found += [{"implementation": name} for name in ("native", "compiled")]
    return found


def bases(*wanted: str) -> list[Any]:
    """Every optimizer with every implementation, or with those that set a flag of these."""
    found = []
    for case in cases.OPTIMIZERS:
        for how in implementations(case):
            if not wanted or set(wanted) & {*how, *how.values()}:
                name = "-".join(
                    [case.id, *(str(v) if v is not True else k for k, v in how.items())]
                )
                marks = [] if name in QUICK else pytest.mark.slow
                found.append(pytest.param(case, how, id=name, marks=marks))
    return found


def rules_of(case: OptimizerCase, how: dict[str, Any]) -> list[RuleCase | MapCase]:
    """The rules that an optimizer takes, in this implementation."""
    one_pass = how.get("implementation") == "compiled"
    return [
        r
        for r in RULES
        if not case.refuses(r.rule)
        and not (one_pass and isinstance(r.rule, DecayMap) and not r.rule.elementwise)
    ]


# --- training ------------------------------------------------------------------------------------


def made(
    case: OptimizerCase,
    rule: RuleCase | MapCase,
    device: torch.device | str,
    dtype: torch.dtype,
    **how: Any,
) -> tuple[Any, list[Tensor]]:
    """An optimizer of two groups: small tensors, one of no dimension, and a large one."""
    params = [
        torch.nn.Parameter(p.detach().to(device))
        for p in cases.make_params(dtype=dtype, shapes=shapes_of(case))
    ]
    other = {"params": params[1::2], "lr": PEAK / 2, "weight_decay": rule.weight_decay / 3}
    return case.make([{"params": params[::2]}, other], rule, **how), params


def shapes_of(case: OptimizerCase) -> tuple[tuple[int, ...], ...]:
    """Those of the case, twice; Muon's have two dimensions."""
    return (*case.shapes, LARGE, *case.shapes[::-1])


@functools.lru_cache(maxsize=4)
def _gradients(shapes: tuple[tuple[int, ...], ...]) -> list[list[Tensor | None]]:
    return cases.make_gradients(STEPS, shapes=shapes)  # one of them is missing now and then


def train(optimizer: Any, params: list[Tensor], first: int = 0, last: int = STEPS) -> None:
    """Some of the steps, under the schedule."""
    for t in range(first, last):
        written(optimizer, params, t)
        optimizer.step()


def written(optimizer: Any, params: list[Tensor], t: int) -> None:
    """What a step finds: its lr and its gradients."""
    rows = _gradients(tuple(tuple(p.shape) for p in params))
    for p, g in zip(params, rows[t % STEPS], strict=True):
        p.grad = None if g is None else g.to(p.device, p.dtype, copy=True)
    for group, scale in zip(optimizer.param_groups, (1.0, 0.5), strict=False):
        group["lr"] = LRS[t % STEPS] * scale


def torchs_own(
    case: OptimizerCase, how: dict[str, Any], device: torch.device, dtype: torch.dtype
) -> None:
    """Skip what torch's own class cannot do on this device: it is torch's to say."""
    if not case.native.__module__.startswith("torch."):
        return
    params = [torch.nn.Parameter(torch.ones(3, 3, device=device, dtype=dtype))]
    how = {k: v for k, v in how.items() if k != "implementation"}
    try:
        native = case.native(params, lr=PEAK, **case.arguments, **how)
        params[0].grad = torch.ones_like(params[0])
        native.step()
    except (RuntimeError, NotImplementedError, TypeError) as error:
        pytest.skip(f"torch's own {case.native.__name__} with {how}: {error}")


def possible(
    case: OptimizerCase, how: dict[str, Any], device: torch.device, dtype: torch.dtype
) -> None:
    """Skip what our class refuses, or torch's own cannot do, in this precision on this device."""
    ours = case.cls is halflife.SGD and device.type == "cpu" and dtype in HALVES
    if ours and how.get("fused"):
        pytest.skip("our SGD refuses it: torch's fused one takes no half precision on the CPU")
    torchs_own(case, how, device, dtype)


def state_of(optimizer: Any) -> dict[Any, dict[str, Tensor]]:
    """By the parameters' positions, all that is a tensor or a number."""
    return {
        position: {
            name: torch.as_tensor(value).detach().cpu().double()
            for name, value in held.items()
            if isinstance(value, (Tensor, float, int))
        }
        for position, held in optimizer.state_dict()["state"].items()
    }


# --- the device ----------------------------------------------------------------------------------


@contextlib.contextmanager
def no_waiting(device: torch.device) -> Iterator[None]:
    """Fail on what waits for the device."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def captured(device: torch.device, step: Callable[[], Any]) -> Callable[[], Any]:
    """What replays a step, which is not taken here."""
    if device.type != "cuda":
        return step
    torch.cuda.synchronize(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
