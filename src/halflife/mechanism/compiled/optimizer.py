"""The mixin that takes the step of groups with ``implementation="compiled"``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from ...bases.measures import Measures
from ...bases.native_decay import group_decay
from ...checks import Scalar
from ...rules import Anchored, DecayMap, facts, keep_anchors
from ...rules.contract import DecayRule, as_rule
from ...rules.maps import anchor_of
from ...rules.wish import Wish
from ...tensors.reduction import is_sharded, shards
from ...tensors.rounding import next_step
from ..decayed import Decayed
from ..known import Known
from ..native_call import Call
from ..settings import tensors_of
from . import kernels
from .calls import BaseStep, take
from .choice import bring_back, compiles_by_itself

__all__ = ["Compilable"]

IMPLEMENTATIONS = ("compiled", "native")
OTHERS = ("foreach", "fused", "capturable", "differentiable")


class Compilable(Decayed):
    """Mixin for Adam and SGD: a group whose ``implementation`` is "compiled" is stepped here.

    The native step sees such a group without parameters. State, its keys and when it is made are
    torch's.
    """

    own = (*Decayed.own, "implementation")

    @classmethod
    def _checked(cls, given: dict[str, Any], label: str) -> dict[str, Any]:
        """Refuse a group whose ``implementation`` is unknown, or cannot do what the group asks."""
        _check(given, label)
        return super()._checked(given, label)

    def _call(self, known: Known, index: int, measures: Measures) -> Call:
        if torch.compiler.is_compiling():
            return super()._call(known, index, measures)
        group = known.group
        name = group.get("implementation")
        if name == "native" or (name is None and not self._compiles_by_itself(known, group)):
            call = super()._call(known, index, measures)
            if call.swap.get("fused", group.get("fused")):
                bring_back(group["params"], self.state)
            return call
        label = f"parameter group {index}"
        _check(group, label)
        params = [p for p in group["params"] if p.grad is not None]
        if any(p.grad.layout is not torch.strided for p in params):
            raise ValueError(
                f"implementation='compiled' of {label}: a gradient is sparse, and a compiled step "
                "takes dense ones only; use sparse=False in the embedding, or implementation=None."
            )
        rule: Any = group["decay"] or group_decay(self, group).rule
        wish = self._wish(rule, self._step_of(index, group, measures), known)
        # Of torch's own only the fused one, given nothing to do, puts up with a gradient scaler.
        own = functools.partial(_step, self, group, params, rule, wish)
        return Call({"params": [], "fused": True}, own=own)

    def _compiles_by_itself(self, known: Known, group: dict[str, Any]) -> bool:
        chosen = group.get("foreach") is not None or group.get("fused") is not None
        if chosen or group.get("capturable") or group.get("differentiable"):
            return False
        return compiles_by_itself(self, known, group, *_kernel(self, group))


def _check(group: dict[str, Any], label: str) -> None:
    """Refuse what a compiled step cannot do."""
    name = group.get("implementation")
    if name in (None, "native"):
        return
    if name not in IMPLEMENTATIONS:
        raise ValueError(
            f"implementation={name!r} of {label}: must be None or one of "
            f"{', '.join(map(repr, IMPLEMENTATIONS))}; for torch's own use fused= or foreach=."
        )
    for other in OTHERS:
        if group.get(other):
            raise ValueError(
                f"{other}=True of {label}: goes with torch's own implementations and not with "
                f"implementation={name!r}; leave one of the two out."
            )
    rule = None if group["decay"] is None else as_rule(group["decay"])
    if isinstance(rule, DecayMap) and not rule.elementwise:
        raise ValueError(
            f"decay={rule!r} of {label}: is not declared elementwise (a norm needs a pass of its "
            f"own), and implementation={name!r} takes one pass; leave implementation out."
        )
    if any(p.is_complex() for p in tensors_of(group["params"])):
        raise ValueError(
            f"implementation={name!r} of {label}: a parameter is complex, and a compiled step "
            "takes real ones only; put it into a group with implementation=None."
        )


@torch.no_grad()
def _step(
    optimizer: Compilable, group: dict[str, Any], params: list[Tensor], rule: DecayRule, wish: Wish
) -> None:
    """Take the step of one group's parameters."""
    skipped = getattr(optimizer, "found_inf", None)
    if not params or (skipped is not None and skipped.item()):
        return
    base = (_sgd if isinstance(optimizer, SGD) else _adam)(optimizer, group, params, wish.size)
    unscaled = facts.gradients(optimizer, {}, params)  # the kernel itself minds the group's sign
    columns = [params, *base.state, unscaled]
    if isinstance(rule, Anchored) and not isinstance(rule.to, (int, float)):
        columns.append([anchor_of(optimizer, p).to(p.device) for p in params])
    if any(map(is_sharded, params)):
        columns = [shards(column, like=params) for column in columns]
    take(base, rule, wish, next_step(group), columns)
    if base.steps:
        torch._foreach_add_(base.steps, 1.0)
    if isinstance(rule, DecayMap):
        keep_anchors(optimizer, rule, params)


def _kernel(
    optimizer: Optimizer, group: dict[str, Any]
) -> tuple[Callable[..., kernels.Kernel], tuple[Any, ...]]:
    """The kernel of the base optimizer, and its options."""
    maximize = bool(group["maximize"])
    if not isinstance(optimizer, SGD):
        return kernels.adam, (bool(group["amsgrad"]), maximize)
    return kernels.sgd, (bool(group["nesterov"]) if group["momentum"] else None, maximize)


def _adam(
    optimizer: Optimizer, group: dict[str, Any], params: list[Tensor], size: Scalar
) -> BaseStep:
    keys = ["exp_avg", "exp_avg_sq"] + ["max_exp_avg_sq"] * bool(group["amsgrad"])
    beta1, beta2 = group["betas"]
    steps: list[Tensor] = []
    for p in params:
        state = optimizer.state[p]
        if "step" not in state:
            dtype = torch.promote_types(torch.get_default_dtype(), torch.float32)
            state["step"] = torch.tensor(0.0, dtype=dtype, device="cpu")
        elif not state["step"].is_cpu:  # where a fused step kept it
            state["step"] = state["step"].cpu()
        steps.append(state["step"])
    counts = [step.item() + 1.0 for step in steps]

    def numbers(count: float) -> list[Scalar]:
        correction = (1.0 - beta2**count) ** -0.5
        scaled = size / (1.0 - beta1**count)
        return [scaled, beta1, 1.0 - beta1, beta2, 1.0 - beta2, correction, group["eps"]]

    return BaseStep(
        *_kernel(optimizer, group), _state(optimizer, params, keys), steps, counts, numbers
    )


def _sgd(
    optimizer: Optimizer, group: dict[str, Any], params: list[Tensor], size: Scalar
) -> BaseStep:
    momentum = group["momentum"]
    if not momentum:
        unused = [0.0, 0.0, 0.0]
        marks = [0.0] * len(params)
        return BaseStep(*_kernel(optimizer, group), [], [], marks, lambda _: [size, *unused])
    held = [optimizer.state[p].get("momentum_buffer") for p in params]
    begun = [float(buffer is not None) for buffer in held]

    def numbers(begun: float) -> list[Scalar]:
        if begun:
            return [size, momentum, momentum, 1.0 - group["dampening"]]
        return [size, momentum, 0.0, 1.0]  # the first buffer is the gradient itself

    state = _state(optimizer, params, ["momentum_buffer"])
    return BaseStep(*_kernel(optimizer, group), state, [], begun, numbers)


def _state(optimizer: Optimizer, params: list[Tensor], keys: list[str]) -> list[list[Tensor]]:
    """Each key's tensors; those that torch would make at a first step are made."""
    for p in params:
        state = optimizer.state[p]
        for key in keys:
            if state.get(key) is None:
                state[key] = torch.zeros_like(p, memory_format=torch.preserve_format)
    return [[optimizer.state[p][key] for p in params] for key in keys]
