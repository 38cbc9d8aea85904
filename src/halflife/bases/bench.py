"""An optimizer run on a few numbers, with a decay made by hand, and no trace left.

`halflife.bases.native_decay` compares such runs to tell what an optimizer's ``weight_decay`` means.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import io
import random
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from ..versions import begin_state, no_step_hooks, not_compiled, without_modes

__all__ = [
    "Bench",
    "Make",
    "again",
    "arguments",
    "asks_for_closure",
    "build_optimizer",
    "copied",
    "outside",
    "parameters",
    "take_step",
    "unnoticed",
]

Make: TypeAlias = Callable[[list[Tensor], float, float], Optimizer]  # params, lr, weight_decay
_Pair: TypeAlias = tuple[float, float]  # one number for each of the two steps

# Some refuse what the others take.
_IMPLEMENTATIONS = {"foreach", "fused", "capturable", "differentiable"}

# A matrix and a vector: some bases treat them differently, and some take only matrices.
_START = (((1.0, -2.0), (3.0, 0.5), (-1.5, 0.75)), (0.8, -1.2, 2.5))
_NOISE = (
    (((0.3, 1.1), (-0.7, 0.4), (0.9, -1.3)), (-0.5, 0.6, 1.4)),
    (((-0.8, 0.5), (1.2, 0.7), (0.2, 0.6)), (0.9, 1.1, -0.4)),
)


def arguments(cls: type[Optimizer]) -> dict[str, inspect.Parameter]:
    """The constructor's parameters behind the first, which takes the weights."""
    names = list(inspect.signature(cls).parameters.items())[1:]
    return {n: p for n, p in names if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def build_optimizer(
    cls: type[Optimizer], params: list[Tensor], lr: float, weight_decay: float, **others: Any
) -> Optimizer:
    """An instance with its default arguments, but for the others."""
    values: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay}
    known = arguments(cls)
    return cls(params, **{k: v for k, v in values.items() if k in known}, **others)


def copied(
    optimizer: Optimizer, group: dict[str, Any], params: list[Tensor], *_: float
) -> Optimizer:
    """A new optimizer with the settings of one that exists, and none of its state."""
    cls, new = type(optimizer), object.__new__(type(optimizer))
    memo: dict[int, Any] = {id(p): params[0] for g in optimizer.param_groups for p in g["params"]}
    memo[id(optimizer)] = new
    left_out = ("state", "param_groups", "defaults", "step")  # the last: a scheduler's wrapper
    settings = {k: v for k, v in vars(optimizer).items() if k not in left_out and "_hook" not in k}
    settings = copy.deepcopy(settings, memo)
    own = {k: copy.deepcopy(v, memo) for k, v in group.items() if k != "params"}
    if hasattr(cls, "default_rule"):
        # Of a class of ours: native, and it shall not ask in its turn.
        own |= dict.fromkeys({"decay", "implementation"} & own.keys())
    defaults = {**own, "differentiable": False}  # by which torch sets the grad mode
    settings |= {"defaults": defaults, "state": defaultdict(dict)}
    settings["param_groups"] = [{**own, "params": params}]
    settings |= no_step_hooks()
    Optimizer.__setstate__(new, settings)
    cls.__setstate__(new, {})
    new.param_groups[0].update(own)  # AdamW, for one, has put back a flag of its own
    begin_state(new)
    return new


def parameters(scale: float, tensors: int, dtype: torch.dtype) -> list[Tensor]:
    """The weights that every run starts from."""
    starts = _START[:tensors]
    return [torch.nn.Parameter(torch.tensor(values, dtype=dtype) * scale) for values in starts]


@contextlib.contextmanager
def outside() -> Iterator[None]:
    """Compute on the CPU, outside of any mode.

    Surroundings such as ``with torch.device("meta")`` or fake tensors would take what is computed.
    """
    with without_modes():
        if torch.empty(0).device.type == "cpu":  # the context would cost each operation a call
            yield
            return
        with torch.device("cpu"):
            yield


@contextlib.contextmanager
def unnoticed() -> Iterator[None]:
    """Run `outside`, leave random states as they were, and say nothing."""
    python, numpy = random.getstate(), np.random.get_state()
    with (
        outside(),
        torch.inference_mode(False),
        torch.random.fork_rng(devices=[]),
        torch.enable_grad(),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        not_compiled(),  # which takes seconds
    ):
        warnings.simplefilter("ignore")
        torch.default_generator.manual_seed(0)  # this one alone: the probe runs on the CPU
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


class Bench:
    """Two steps of one optimizer from the same start, as often as asked.

    Args:
        make: makes the optimizer.
        lr: learning rate of the first step; the second has half of it.
        tensors: number of parameters, 1 or 2.
        dtype: theirs.
        warm: steps before those two, at the first lr and without decay.
        entries: of every group that has them, instead of its own.
    """

    def __init__(
        self,
        make: Make,
        lr: float,
        tensors: int,
        dtype: torch.dtype,
        *,
        warm: int = 0,
        entries: Mapping[str, Any] | None = None,
    ) -> None:
        self.make, self.lrs = make, (lr, lr / 2)
        self.warm, self.entries = warm, dict(entries or {})
        # At any lr the weights, the update and the decay are then of comparable size.
        self.weight_decay = 1 / (32 * lr)
        self.parameters = functools.partial(parameters, 8 * lr, tensors, dtype)

    def run(
        self,
        noise: float,
        weight_decay: _Pair = (0.0, 0.0),
        *,
        l2: float = 0.0,
        before: _Pair = (0.0, 0.0),
        after: _Pair = (0.0, 0.0),
        spread: float = 1.0,
        missing: bool = False,
        restart: Tensor | None = None,
    ) -> list[Tensor]:
        """All weights at the start and after each step, with a decay made by hand.

        Args:
            noise: factor of the gradients.
            weight_decay: the native coefficient in each step.
            l2: times the weights, it joins the gradients.
            before: fraction removed before each step.
            after: fraction removed after each step.
            spread: further factor of the gradients, 1, s, s^2, 1, s, ... by coordinate.
            missing: the last parameter has no gradient.
            restart: all weights, flat, that the second step starts from.
        """
        with unnoticed():
            params = self.parameters()
            optimizer = self.make(params, self.lrs[0], self.weight_decay)
            still, weights = (0.0,) * self.warm, []
            steps = range(-self.warm, 2)
            lrs = (self.lrs[0],) * self.warm + self.lrs
            decays = (still + weight_decay, still + before, still + after)
            for step, lr, native, early, late in zip(steps, lrs, *decays, strict=True):
                for group in optimizer.param_groups:
                    self.set(group, lr, native)
                ascent = -1.0 if optimizer.param_groups[0].get("maximize") else 1.0
                if step == 0:
                    weights.append(_flat(params))
                if step == 1 and restart is not None:
                    torch.nn.utils.vector_to_parameters(restart.clone(), params)
                with torch.no_grad():
                    for p, values in zip(params, _NOISE[step % 2], strict=False):
                        powers = torch.arange(p.numel(), dtype=p.dtype).view_as(p) % 3
                        p.grad = torch.tensor(values, dtype=p.dtype) * noise * spread**powers
                        p.grad += ascent * l2 * (step >= 0) * p
                        p.mul_(1.0 - early)
                    if missing:
                        params[-1].grad = None
                    take_step(optimizer)
                    for p in params:
                        p.mul_(1.0 - late)
                if step >= 0:
                    weights.append(_flat(params))
        return weights

    def walk(self, weight_decay: float, steps: int) -> list[Tensor]:
        """All weights at the start and after each of some steps at the first lr, under noise."""
        with unnoticed():
            params = self.parameters()
            optimizer = self.make(params, self.lrs[0], self.weight_decay)
            weights = [_flat(params)]
            for step in range(steps):
                for group in optimizer.param_groups:
                    self.set(group, self.lrs[0], weight_decay)
                with torch.no_grad():
                    for p, values in zip(params, _NOISE[step % 2], strict=False):
                        p.grad = torch.tensor(values, dtype=p.dtype)
                    take_step(optimizer)
                weights.append(_flat(params))
        return weights

    def set(self, group: dict[str, Any], lr: float, weight_decay: float) -> None:
        """Write the settings of one step into a group."""
        old = group["lr"]
        group["lr"] = torch.tensor(lr, dtype=old.dtype) if isinstance(old, Tensor) else lr
        group["weight_decay"] = weight_decay
        group.update(dict.fromkeys(_IMPLEMENTATIONS & group.keys(), False))
        if group.get("momentum") == 0:
            group["momentum"] = 0.5  # without it L2 and decoupled decay are the same on SGD
        group.update({k: v for k, v in self.entries.items() if k in group})


def _flat(params: list[Tensor]) -> Tensor:
    return torch.cat([p.detach().flatten() for p in params])


def again(bench: Bench, lr: float | None = None, **settings: Any) -> Bench:
    """The same bench with other settings."""
    own: dict[str, Any] = {"warm": bench.warm, "entries": bench.entries}
    start = bench.parameters()
    tensors, dtype = settings.pop("tensors", len(start)), start[0].dtype
    return Bench(bench.make, bench.lrs[0] if lr is None else lr, tensors, dtype, **(own | settings))


def take_step(optimizer: Optimizer) -> None:
    """Take one step, with a closure where there must be one."""
    if asks_for_closure(cast("Any", type(optimizer))):
        optimizer.step(lambda: 0.0)
    else:
        optimizer.step()


@functools.cache
def asks_for_closure(cls: type[Optimizer]) -> bool:
    """Whether ``step`` cannot be called without a closure."""
    closure = inspect.signature(cls.step).parameters.get("closure")
    return closure is not None and closure.default is closure.empty
