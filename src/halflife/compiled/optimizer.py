"""The mixin that takes the step of groups with ``implementation="compiled"``."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from .. import facts
from ..decay import DecayRule, Scalar, Step, as_rule
from ..decayed import Call, Decayed
from ..effective_rate import EffectiveRate
from ..maps import Anchored, DecayMap, keep_anchors
from ..maps.contract import anchor_of
from ..native import group_decay
from ..reduction import is_sharded, shards
from ..rounding import next_step
from ..settings import clamps
from . import kernels
from .calls import Base, Work, take

__all__ = ["Compilable"]

IMPLEMENTATIONS = ("compiled",)
OTHERS = ("foreach", "fused", "capturable", "differentiable")


class Compilable(Decayed):
    """Mixin for Adam and SGD: a group whose ``implementation`` is "compiled" is stepped here.

    The native step sees such a group without parameters. State, its keys and when it is made are
    torch's.
    """

    def __init__(self, *args: Any, implementation: str | None = None, **kwargs: Any) -> None:
        self._implementation = implementation
        super().__init__(*args, **kwargs)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group.

        Raises:
            ValueError: if its ``implementation`` is unknown, or cannot do what the group asks.
        """
        self.defaults.setdefault("implementation", self.__dict__.pop("_implementation", None))
        if isinstance(param_group, dict):
            given = {**self.defaults, **vars(self).get("_own_defaults", {}), **param_group}
            if isinstance(given.get("params"), Iterator):
                given["params"] = param_group["params"] = list(given["params"])
            _check(given, f"parameter group {len(self.param_groups)}")
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a checkpoint; one of torch names no implementation, and ours stays."""
        saved = state_dict["param_groups"]
        live = [group.get("implementation") for group in self.param_groups]
        live += [None] * (len(saved) - len(live))
        groups = [{"implementation": own, **g} for own, g in zip(live, saved, strict=False)]
        super().load_state_dict({**state_dict, "param_groups": groups})

    def _native_call(self, index: int, group: dict[str, Any], rates: EffectiveRate | None) -> Call:
        if group.get("implementation") is None or torch.compiler.is_compiling():
            return super()._native_call(index, group, rates)
        label = f"parameter group {index}"
        _check(group, label)
        params = [p for p in group["params"] if p.grad is not None]
        if any(p.grad.layout is not torch.strided for p in params):
            raise ValueError(
                f"implementation='compiled' of {label}: a gradient is sparse, and a compiled step "
                "takes dense ones only; use sparse=False in the embedding, or implementation=None."
            )
        rule: Any = group["decay"] or group_decay(self, group).rule
        of = None if rates is None else functools.partial(rates.of, group)
        step = Step(group["lr"], group["peak_lr"], group["weight_decay"], of, index)
        work = Work(
            rule,
            self._amount(rule, step),
            step.lr * rule.direction_scale(step),
            rule.gradient_coefficient(step),
        )
        # Of torch's own only the fused one, given nothing to do, puts up with a gradient scaler.
        return Call(
            {"params": [], "fused": True}, own=functools.partial(_step, self, group, params, work)
        )

    def _amount(self, rule: DecayRule, step: Step) -> Scalar:
        amount = rule.fraction(step)
        if isinstance(rule, DecayMap) and not rule.removes_fraction:
            return amount
        if isinstance(amount, Tensor):
            return amount.clamp(max=1.0) if clamps(rule) else amount
        return self._bounded(rule, amount, step) if amount >= 1.0 else amount


def _check(group: dict[str, Any], label: str) -> None:
    """Refuse what a compiled step cannot do."""
    name = group.get("implementation")
    if name is None:
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
    params = [p[-1] if isinstance(p, tuple) else p for p in group["params"]]  # or with their names
    if any(isinstance(p, Tensor) and p.is_complex() for p in params):
        raise ValueError(
            f"implementation={name!r} of {label}: a parameter is complex, and a compiled step "
            "takes real ones only; put it into a group with implementation=None."
        )


@torch.no_grad()
def _step(optimizer: Compilable, group: dict[str, Any], params: list[Tensor], work: Work) -> None:
    """Take the step of one group's parameters."""
    skipped = getattr(optimizer, "found_inf", None)
    if not params or (skipped is not None and skipped.item()):
        return
    base = (_sgd if isinstance(optimizer, SGD) else _adam)(optimizer, group, params, work.size)
    unscaled = facts.gradients(optimizer, {}, params)  # the kernel itself minds the group's sign
    columns = [params, *base.state, unscaled]
    if isinstance(work.rule, Anchored) and not isinstance(work.rule.to, (int, float)):
        columns.append([anchor_of(optimizer, p).to(p.device) for p in params])
    if any(map(is_sharded, params)):
        columns = [shards(column, like=params) for column in columns]
    take(base, work, next_step(group), columns)
    if base.steps:
        torch._foreach_add_(base.steps, 1.0)
    keep_anchors(optimizer)


def _adam(optimizer: Optimizer, group: dict[str, Any], params: list[Tensor], size: Scalar) -> Base:
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

    options = (bool(group["amsgrad"]), bool(group["maximize"]))
    return Base(kernels.adam, options, _state(optimizer, params, keys), steps, counts, numbers)


def _sgd(optimizer: Optimizer, group: dict[str, Any], params: list[Tensor], size: Scalar) -> Base:
    momentum = group["momentum"]
    if not momentum:
        unused = [0.0, 0.0, 0.0]
        plain = (None, bool(group["maximize"]))
        return Base(kernels.sgd, plain, [], [], [0.0] * len(params), lambda _: [size, *unused])
    held = [optimizer.state[p].get("momentum_buffer") for p in params]
    begun = [float(buffer is not None) for buffer in held]

    def numbers(begun: float) -> list[Scalar]:
        if begun:
            return [size, momentum, momentum, 1.0 - group["dampening"]]
        return [size, momentum, 0.0, 1.0]  # the first buffer is the gradient itself

    options = (bool(group["nesterov"]), bool(group["maximize"]))
    state = _state(optimizer, params, ["momentum_buffer"])
    return Base(kernels.sgd, options, state, [], begun, numbers)


def _state(optimizer: Optimizer, params: list[Tensor], keys: list[str]) -> list[list[Tensor]]:
    """Each key's tensors; those that torch would make at a first step are made."""
    for p in params:
        state = optimizer.state[p]
        for key in keys:
            if state.get(key) is None:
                state[key] = torch.zeros_like(p, memory_format=torch.preserve_format)
    return [[optimizer.state[p][key] for p in params] for key in keys]
