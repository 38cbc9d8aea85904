"""What the property tests are run over: a scenario is a whole small training, drawn by Hypothesis.

A scenario is plain data. `params`, `start` and `advance` turn it into tensors, an optimizer (ours,
or torch's own without decay) and steps, so that one scenario can be run in several ways.
"""

from __future__ import annotations

import inspect
import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

import cases
from cases import MAPS, RULES
from halflife.versions import begin_state

BETAS = st.sampled_from([(0.9, 0.999), (0.5, 0.9), (0.0, 0.99)])
EPS = st.sampled_from([1e-8, 1e-3])
FLAGS: dict[str, dict[str, Any]] = {
    "for-loop": {"foreach": False, "fused": False},
    "foreach": {"foreach": True, "fused": False},
    "fused": {"foreach": False, "fused": True},
    "open": {},
}
EVERY = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
HALF = (torch.bfloat16, torch.float16)
SHAPES = [(), (0,), (0, 3), (1,), (17,), (4, 3), (2, 3, 2), (2, 3, 2, 2)]
LAYOUTS = ["contiguous", "transposed", "channels_last", "every other"]
NAMES = {case.id: case for case in (*RULES, *MAPS)}


def adam(**more: Any) -> Any:
    return st.fixed_dictionaries({"betas": BETAS, "eps": EPS, "maximize": st.booleans(), **more})


@st.composite
def sgd(draw: Any) -> dict[str, Any]:
    momentum = draw(st.sampled_from([0.0, 0.5, 0.9]))
    nesterov = momentum > 0 and draw(st.booleans())
    dampening = 0.0 if nesterov else draw(st.sampled_from([0.0, 0.4]))
    maximize = draw(st.booleans())
    return {
        "momentum": momentum, "nesterov": nesterov, "dampening": dampening, "maximize": maximize,
    }  # fmt: skip


def drawn(**each: Any) -> Any:
    return st.fixed_dictionaries(each)


# The options of a class; what is not here has `maximize` alone.
OPTIONS: dict[str, Any] = {
    "SGD": sgd(),
    "Adam": adam(amsgrad=st.booleans()),
    "AdamW": adam(amsgrad=st.booleans()),
    "NAdam": adam(),
    "RAdam": adam(),
    "Adamax": adam(),
    "RMSprop": drawn(momentum=st.sampled_from([0.0, 0.9]), maximize=st.booleans()),
    "Adagrad": drawn(lr_decay=st.sampled_from([0.0, 0.1])),
    "Adadelta": drawn(rho=st.sampled_from([0.9, 0.5])),
    "Yogi": adam(),
    "AdaBound": adam(amsbound=st.booleans()),
    "Padam": adam(amsgrad=st.booleans()),
    "AdamDelta": drawn(moments=st.sampled_from(["gradient", "zero"])),
    "HeavyBall": drawn(momentum=st.sampled_from([0.0, 0.9])),
    "ASGD": drawn(lambd=st.sampled_from([0.0, 1e-2])),
}
UNDRAWN = {"Muon": "takes matrices only, and the shapes drawn here are not"}
CLASSES = {o.cls.__name__: o for o in reversed(cases.OPTIMIZERS)}  # the first case of each
# name: (ours, the native one, its options); in this order, which decides what is drawn
BASES: dict[str, tuple[Any, Any, Any]] = {
    name: (
        CLASSES[name].cls,
        CLASSES[name].native,
        OPTIONS.get(name, drawn(maximize=st.booleans())),
    )
    for name in dict.fromkeys((*OPTIONS, *(o.cls.__name__ for o in cases.OPTIMIZERS)))
    if name not in UNDRAWN
}
FUSED = ("SGD", "Adam", "AdamW")  # in float64 as in the others
ADAMS = ("Adam", "AdamW")  # whose preconditioner the oracle knows


def accepts(base: str, name: str) -> bool:
    """What a base refuses, and what the oracle here has no scale or metric for."""
    rule = NAMES[name].rule
    if "effective_rate" in rule.needs:
        return base in ("SGD", *ADAMS, "NAdam")
    if "preconditioner" in rule.needs:
        return base in ADAMS
    return not CLASSES[base].refuses(rule)


@dataclass(frozen=True)
class GroupSpec:
    rule: str
    lr: float
    fraction: float  # about what a step at the peak removes; 0: a group without decay
    peak: float | None  # multiple of lr; None leaves it out
    since: int  # the step at which it is added

    @property
    def peak_lr(self) -> float:
        return self.lr * (self.peak or 1.0)

    @property
    def weight_decay(self) -> float:
        """In units of 1/lr for the rules whose unit that is."""
        case = NAMES[self.rule]
        independent = getattr(case, "amount", case.id) in (
            "independent", "constant", "proximal_independent", "l2",
        )  # fmt: skip
        return self.fraction if independent else self.fraction / self.peak_lr


@dataclass(frozen=True)
class Scenario:
    base: str
    options: dict[str, Any]
    implementation: str
    dtype: torch.dtype
    tensors: tuple[tuple[tuple[int, ...], str], ...]  # shape and layout
    group_of: tuple[int, ...]
    groups: tuple[GroupSpec, ...]
    multipliers: tuple[float, ...]  # of every lr, one per step
    gradients: tuple[tuple[str, ...], ...]  # per step and tensor: "some", "zero" or "none"
    seed: int
    rescaled: bool = False  # every coordinate's gradients by a power of two of its own

    @property
    def flags(self) -> dict[str, Any]:
        """The implementation, in the base's own words."""
        known = inspect.signature(BASES[self.base][1]).parameters
        return {key: value for key, value in FLAGS[self.implementation].items() if key in known}

    def lr(self, group: int, step: int) -> float:
        return self.groups[group].lr * self.multipliers[step]


@st.composite
def multipliers(draw: Any, steps: int) -> tuple[float, ...]:
    """A schedule: a warm-up from 0, a cosine to 0, restarts, or anything."""
    kind = draw(st.sampled_from(["warm-up", "cosine", "restarts", "anything"]))
    if kind == "warm-up":
        return tuple(t / max(steps - 1, 1) for t in range(steps))
    if kind == "anything":
        return tuple(draw(st.sampled_from([0.0, 1e-6, 0.1, 0.7, 1.0])) for _ in range(steps))
    cycle = steps if kind == "cosine" else max(steps // 2, 2)
    return tuple(0.5 * (1 + math.cos(math.pi * (t % cycle) / (cycle - 1))) for t in range(steps))


@st.composite
def scenarios(
    draw: Any,
    *,
    rules: tuple[str, ...] = tuple(NAMES),
    others: bool = True,
    bases: tuple[str, ...] = tuple(BASES),
    dtypes: tuple[torch.dtype, ...] = (torch.float64, torch.float32),
    most_groups: int = 3,
    minimum_fraction: float = 0.0,
    implementations: tuple[str, ...] = tuple(FLAGS),
) -> Scenario:
    """One training; its first group has one of ``rules``, the others any rule if ``others``."""
    first = draw(st.sampled_from(rules))
    base = draw(st.sampled_from([b for b in bases if accepts(b, first)]))
    options = draw(BASES[base][2])
    possible = [i for i in implementations if i != "fused" or base in FUSED]
    implementation = draw(st.sampled_from(possible))
    # torch's fused SGD does not train half precision on the CPU, and ours refuses it there.
    fused_sgd = base == "SGD" and implementation == "fused"
    dtype = draw(st.sampled_from([d for d in dtypes if not (fused_sgd and d in HALF)]))
    if dtype in HALF and "eps" in options:
        options = {**options, "eps": 1e-3}  # 1e-8 is 0 in float16
    steps = draw(st.integers(2, 5))
    known = tuple(r for r in (NAMES if others else rules) if accepts(base, r))
    fractions = st.sampled_from([f for f in (0.0, 1e-3, 0.05, 0.4) if f >= minimum_fraction])
    groups = [
        GroupSpec(
            rule=first if i == 0 else draw(st.sampled_from(known)),
            lr=draw(st.sampled_from([1e-3, 0.02, 0.3])),
            fraction=draw(fractions),
            peak=draw(st.sampled_from([None, 1.0, 2.5])),
            since=0 if i == 0 else draw(st.sampled_from([0, 0, 1])),
        )
        for i in range(draw(st.integers(1, most_groups)))
    ]
    # torch's fused kernels get gaps between elements wrong, and say nothing.
    fused = implementation == "fused" or (implementation == "open" and base in FUSED)
    layouts = [name for name in LAYOUTS if not (fused and name == "every other")]
    shapes = st.tuples(st.sampled_from(SHAPES), st.sampled_from(layouts))
    tensors = draw(st.lists(shapes, min_size=1, max_size=5))
    # torch's fused SGD cannot take a momentum that starts late.
    always = base == "SGD" and implementation == "fused" and options["momentum"] > 0
    kinds = ["some", "some", "zero"] if always else ["some", "some", "zero", "none"]
    row = st.tuples(*[st.sampled_from(kinds)] * len(tensors))
    return Scenario(
        base, options, implementation, dtype, tuple(tensors),
        tuple(draw(st.integers(0, len(groups) - 1)) for _ in tensors), tuple(groups),
        draw(multipliers(steps)), tuple(draw(row) for _ in range(steps)),
        draw(st.integers(0, 2**16)),
    )  # fmt: skip


def examples(count: int) -> settings:
    """The same few in every run; as many as it says with --hypothesis-profile=search."""
    default = settings()
    return settings(max_examples=count if default.derandomize else default.max_examples)


# --- a scenario as tensors and steps -------------------------------------------------------------


def lay_out(value: Tensor, layout: str) -> Tensor:
    """The same values in another memory layout, where the shape has it."""
    if layout == "transposed" and value.dim() >= 2:
        return value.transpose(0, 1).contiguous().transpose(0, 1)
    if layout == "channels_last" and value.dim() == 4:
        return value.contiguous(memory_format=torch.channels_last)
    if layout == "every other" and value.dim() >= 1:
        wide = value.new_zeros(*value.shape, 2)
        wide[..., 0] = value
        return wide[..., 0]
    return value


def params(s: Scenario, zero: bool = False) -> list[Tensor]:
    generator = torch.Generator().manual_seed(s.seed)
    values = [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(s.dtype)
        for shape, _ in s.tensors
    ]
    return [
        torch.nn.Parameter(lay_out(torch.zeros_like(v) if zero else v, layout))
        for v, (_, layout) in zip(values, s.tensors, strict=True)
    ]


def gradient(s: Scenario, step: int, index: int) -> Tensor | None:
    """Of sizes between 0.01 and 10; laid out like the parameter, as autograd does."""
    kind, (shape, layout) = s.gradients[step][index], s.tensors[index]
    if kind == "none":
        return None
    generator = torch.Generator().manual_seed(hash((s.seed, step, index)) % 2**31)
    size = 0.0 if kind == "zero" else 10.0 ** float(torch.rand((), generator=generator) * 3 - 2)
    value = torch.randn(shape, generator=generator, dtype=torch.float64) * size
    if s.rescaled:
        exponents = torch.arange(value.numel(), dtype=torch.float64).reshape(shape)
        value = value * 2.0 ** ((7 * exponents + 5 * index) % 19 - 9)
    return lay_out(value.to(s.dtype), layout)


def group_settings(s: Scenario, index: int, tensors: list[Tensor], bare: bool) -> dict[str, Any]:
    """A group as it is given to ours, or to a native optimizer that has no decay."""
    spec = s.groups[index]
    own = [p for p, g in zip(tensors, s.group_of, strict=True) if g == index]
    if bare:
        return {"params": own, "lr": spec.lr}
    peak = {} if spec.peak is None else {"peak_lr": spec.peak_lr}
    rule = NAMES[spec.rule].rule
    settings = {"lr": spec.lr, "weight_decay": spec.weight_decay, "decay": rule}
    return {"params": own, **settings, **peak}


def present(s: Scenario, step: int) -> list[int]:
    """The groups that there are after a step, in the optimizer's order."""
    late = [i for i, g in enumerate(s.groups) if 0 < g.since <= step]
    return [i for i, g in enumerate(s.groups) if g.since == 0] + late


def start(s: Scenario, tensors: list[Tensor], *, before: int = 0, bare: bool = False) -> Any:
    """The optimizer as it stands before a step, without its state."""
    there = present(s, before - 1)
    cls = BASES[s.base][bare]
    arguments = {**s.options, **s.flags}
    if bare and "weight_decay" in inspect.signature(cls).parameters:
        arguments["weight_decay"] = 0.0
    groups = [group_settings(s, i, tensors, bare) for i in there]
    return cls(groups, lr=1e-3, **arguments)


def prepare(s: Scenario, optimizer: Any, tensors: list[Tensor], step: int, bare: bool) -> None:
    """Late groups, learning rates and gradients of a step."""
    for i, spec in enumerate(s.groups):
        if spec.since == step and step > 0:
            optimizer.add_param_group(group_settings(s, i, tensors, bare))
            begin_state(optimizer)  # torch's Adagrad; ours does so by itself
    there = present(s, step)
    for i, group in zip(there, optimizer.param_groups, strict=True):
        group["lr"] = s.lr(i, step)
    for index, p in enumerate(tensors):
        p.grad = gradient(s, step, index) if s.group_of[index] in there else None


def take(optimizer: Any, closure: Any = None) -> Any:
    """One step. That stable decay was clamped is expected here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*clamped to 1")
        return optimizer.step(closure)


def advance(s: Scenario, optimizer: Any, tensors: list[Tensor], step: int, bare: bool) -> None:
    prepare(s, optimizer, tensors, step, bare)
    take(optimizer)


def values(tensors: list[Tensor]) -> list[Tensor]:
    return [p.detach().clone() for p in tensors]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(
        torch.equal(p.nan_to_num(nan=7e77), q.nan_to_num(nan=7e77))
        for p, q in zip(a, b, strict=True)
    )
