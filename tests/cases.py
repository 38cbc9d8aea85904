"""The one list of rules, maps and optimizers that the tests run over, and what they train with.

A new rule is tested by being entered in RULES (a map in MAPS, see `map_cases`), a new optimizer in
OPTIMIZERS. A test chooses from these lists by a property of the rule or a field of the case; what
is left in a test is its own, keyed by the names here. `test_coverage` says what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

import halflife
import reference
import reference_optimizers
import torch_versions
from halflife import (
    Adaptive,
    Constant,
    Corrected,
    DecayRule,
    Decoupled,
    Independent,
    L2Regularization,
    Proximal,
    Stable,
)
from halflife.optim.adabound import AdaBoundBase
from halflife.optim.adai import AdaiBase
from halflife.optim.adam_delta import AdamDeltaBase
from halflife.optim.heavy_ball import HeavyBallBase
from halflife.optim.lion import LionBase
from halflife.optim.padam import PadamBase
from halflife.optim.yogi import YogiBase
from map_cases import MAPS as MAPS
from map_cases import MapCase as MapCase
from map_cases import Seen as Seen

PEAK = 0.02
STEPS = 24


def measured(rate: Any) -> dict[str, Any]:
    """Every number that a rule may ask of a step, such that each makes the rate this one."""
    return {"effective_rate": rate, "gradient_norm": rate, "weight_norm": 1.0}


# --- rules ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RuleCase:
    """A rule of two scalars, and the name of its update in `reference.update`."""

    rule: DecayRule
    reference: str
    weight_decay: float  # visible within STEPS at PEAK, and removes less than everything
    lab: float | None = None  # the same for the lab's short run, where it must differ

    @property
    def id(self) -> str:
        return self.reference

    @property
    def in_lab(self) -> tuple[DecayRule, float]:
        return self.rule, self.weight_decay if self.lab is None else self.lab


RULES = [
    RuleCase(L2Regularization(), "l2", 0.3, lab=1e-2),
    RuleCase(Decoupled(), "decoupled", 2.0, lab=1.0),
    RuleCase(Independent(), "independent", 0.04, lab=1e-2),
    RuleCase(Constant(), "constant", 0.04, lab=1e-2),
    RuleCase(Corrected(), "corrected", 2.0, lab=1.0),
    RuleCase(Stable(), "stable", 0.9, lab=3e-2),
    RuleCase(Stable(eps=0.5), "stable_eps", 0.9),
    RuleCase(Adaptive(), "adaptive", 0.9, lab=1.0),
    RuleCase(Proximal(), "proximal", 2.0, lab=1.0),
    RuleCase(Proximal(Independent()), "proximal_independent", 0.04),
]


def removing_a_fraction() -> list[RuleCase]:
    """The rules whose fraction is known before training, and is what they remove."""
    return [r for r in RULES if not (r.rule.joins_gradient or r.rule.follows_gradients)]


def in_lab(some: Sequence[RuleCase | MapCase]) -> dict[str, tuple[DecayRule, float]]:
    """The rule and the coefficient of the lab's short run: the first case of each rule's name."""
    found: dict[str, tuple[DecayRule, float]] = {}
    for case in some:
        found.setdefault(case.rule.name, case.in_lab)
    return found


# --- optimizers ----------------------------------------------------------------------------------

SCALED = "steps that scale with the lr"  # which a rule needs that changes the size of the step
NOTHING: frozenset[str] = frozenset()
METRIC = frozenset({"preconditioner"})


@dataclass(frozen=True)
class OptimizerCase:
    """An optimizer at one choice of settings, such that every factor of its update shows.

    ``native`` is the class without a rule. ``oracle`` names the update in `reference`, in
    `reference_optimizers` or in `test_paper_optimizers`; None where torch's class is the oracle.
    ``lacks`` is what a rule cannot have of it: facts, or SCALED.
    """

    name: str
    cls: Callable[..., Any]
    native: Callable[..., Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    oracle: str | None = None
    lacks: frozenset[str] = METRIC

    @property
    def id(self) -> str:
        return self.name

    @property
    def shapes(self) -> Sequence[tuple[int, ...]]:
        return MATRICES if self.native is torch.optim.Muon else SHAPES

    def refuses(self, rule: DecayRule) -> bool:
        return bool(self.lacks & {*rule.needs, *([SCALED] if rule.scales_step else [])})

    def given(self, **arguments: Any) -> OptimizerCase:
        """With more settings."""
        return replace(self, arguments={**self.arguments, **arguments})

    def only(self, **arguments: Any) -> OptimizerCase:
        """With these settings in place of its own."""
        return replace(self, arguments=arguments)

    def make(self, params: Any, rule: RuleCase | MapCase, **arguments: Any) -> Any:
        settings: dict[str, Any] = {
            "lr": PEAK,
            "decay": rule.rule,
            "weight_decay": rule.weight_decay,
            **self.arguments,
            **arguments,
        }
        return self.cls(params, **settings)


def _torchs(name: str, arguments: dict[str, Any] | None = None, *lacks: str) -> OptimizerCase:
    """A class of torch with our rule; "-" begins the name of a variant."""
    cls = name.partition("-")[0]
    ours, native = getattr(halflife, cls), getattr(torch.optim, cls)
    return OptimizerCase(name, ours, native, arguments or {}, lacks=METRIC | {*lacks})


def _sgd(name: str, **arguments: Any) -> OptimizerCase:
    return OptimizerCase(name, halflife.SGD, torch.optim.SGD, arguments, "sgd")


def _adam(name: str, cls: str, **arguments: Any) -> OptimizerCase:
    ours, native = getattr(halflife, cls), getattr(torch.optim, cls)
    return OptimizerCase(name, ours, native, arguments, "adam", NOTHING)


def _adabound(name: str, **arguments: Any) -> OptimizerCase:
    arguments = {"eps": 1e-8, **arguments}
    return OptimizerCase(name, halflife.AdaBound, AdaBoundBase, arguments, "adabound")


def _padam(name: str, **arguments: Any) -> OptimizerCase:
    return OptimizerCase(name, halflife.Padam, PadamBase, {"eps": 1e-8, **arguments}, "padam")


def _adai(name: str, **arguments: Any) -> OptimizerCase:
    lacks = METRIC | {"direction"}
    return OptimizerCase(name, halflife.Adai, AdaiBase, arguments, "adai", lacks)


def _delta(name: str, **arguments: Any) -> OptimizerCase:
    cls = halflife.AdamDelta
    return OptimizerCase(name, cls, AdamDeltaBase, arguments, "adam_delta", NOTHING)


def _heavy_ball(name: str, **arguments: Any) -> OptimizerCase:
    cls, lacks = halflife.HeavyBall, METRIC | {SCALED}
    return OptimizerCase(name, cls, HeavyBallBase, arguments, "heavy_ball", lacks)


OPTIMIZERS = [
    _sgd("SGD"),
    _sgd("SGD-momentum", momentum=0.9, dampening=0.4),
    _sgd("SGD-nesterov", momentum=0.9, nesterov=True),
    _adam("Adam", "Adam"),
    _adam("AMSGrad", "Adam", amsgrad=True),
    _adam("AdamW", "AdamW", betas=(0.8, 0.95), eps=1e-3),
    _adam("AdamW-maximize", "AdamW", maximize=True),
    _torchs("NAdam", {"momentum_decay": 0.1}),
    _torchs("RAdam", {"betas": (0.9, 0.99)}),
    _torchs("Adamax"),
    _torchs("RMSprop", {"momentum": 0.5}),
    _torchs("RMSprop-centered", {"centered": True, "alpha": 0.9}),
    _torchs("Adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.2}),
    _torchs("Adadelta"),
    # torch's own lambd multiplies the weights too, after ours: not additive.
    _torchs("ASGD", {"lambd": 0.0, "t0": 3}, "effective_rate", SCALED),
    *(
        [_torchs("Muon", {"adjust_lr_fn": "match_rms_adamw"}, "effective_rate", "direction")]
        if torch_versions.TORCH >= (2, 9)
        else []
    ),
    OptimizerCase("Yogi", halflife.Yogi, YogiBase, {"betas": (0.9, 0.99), "eps": 1e-3}, "yogi"),
    _adabound("AdaBound", betas=(0.9, 0.99), final_lr=0.03, gamma=0.2),
    _adabound("AMSBound", betas=(0.9, 0.9), final_lr=0.02, gamma=0.05, amsbound=True),
    _padam("Padam", betas=(0.9, 0.9), partial=0.25),
    _padam("Padam-no-amsgrad", betas=(0.8, 0.99), partial=0.125, amsgrad=False),
    OptimizerCase(
        "Lion",
        halflife.Lion,
        LionBase,
        {"betas": (0.9, 0.99)},
        "lion",
        METRIC | {"effective_rate"},
    ),
    _adai("Adai", betas=(0.1, 0.99), eps=1e-3),
    _adai("Adai-maximize", betas=(0.5, 0.9), eps=0.01, maximize=True),
    _delta("AdamDelta", betas=(0.8, 0.95), delta=0.01),
    _delta("AdamDelta-zero", delta=0.1, moments="zero"),
    _delta("AdamDelta-maximize", maximize=True),
    _heavy_ball("HeavyBall", momentum=0.8),
    _heavy_ball("HeavyBall-plain", momentum=0.0),
    _heavy_ball("HeavyBall-maximize", maximize=True),
]
# By where their oracle is: SGD and Adam; torch's others; ours; those that papers only write.
CORE = [o for o in OPTIMIZERS if o.oracle in reference.RUNNERS]
TORCHS = [o for o in OPTIMIZERS if o.oracle is None]
OURS = [o for o in OPTIMIZERS if o.oracle in reference_optimizers.NAMES]
PAPERS = [o for o in OPTIMIZERS if o not in (*CORE, *TORCHS, *OURS)]


def optimizer(name: str) -> OptimizerCase:
    """The case of this name."""
    return next(o for o in OPTIMIZERS if o.name == name)


# --- what they train with ------------------------------------------------------------------------

IMPLEMENTATIONS: dict[str, dict[str, bool]] = {
    "open": {},
    "for-loop": {"foreach": False, "fused": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}

SHAPES = [(5, 3), (4,), (), (2, 3, 2)]
MATRICES = [(5, 3), (4, 4), (2, 6)]  # Muon takes nothing else
EVERY_OTHER = 2  # index of the parameter that misses every other gradient


def make_params(
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    shapes: Sequence[tuple[int, ...]] = SHAPES,
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype))
        for shape in shapes
    ]


def make_gradients(
    steps: int = STEPS,
    seed: int = 1,
    missing: bool = True,
    shapes: Sequence[tuple[int, ...]] = SHAPES,
) -> list[list[Tensor | None]]:
    """gradients[t][parameter]; with ``missing``, one parameter has one every other step only."""
    generator = torch.Generator().manual_seed(seed)
    gradients: list[list[Tensor | None]] = []
    for t in range(steps):
        row: list[Tensor | None] = [
            torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes
        ]
        if missing and t % 2:
            row[EVERY_OTHER] = None
        gradients.append(row)
    return gradients


def set_gradients(params: list[Tensor], row: list[Tensor | None]) -> None:
    for p, g in zip(params, row, strict=True):
        p.grad = None if g is None else g.clone().to(p.dtype)


def weights(params: list[Tensor]) -> Tensor:
    return torch.cat([p.detach().flatten() for p in params])


def train(
    optimizer: Any,
    params: list[Tensor],
    gradients: list[list[Tensor | None]],
    lrs: list[list[float]],
) -> None:
    """Step through the gradients, writing ``lrs[group][t]`` into the groups as a scheduler does."""
    for t, row in enumerate(gradients):
        set_gradients(params, row)
        for group, schedule in zip(optimizer.param_groups, lrs, strict=True):
            group["lr"] = schedule[t]
        optimizer.step()


def schedule(name: str, peak: float = PEAK, total: int = STEPS) -> list[float]:
    return reference.SCHEDULES[name](peak, total)


def one_cycle(peak: float = PEAK, total: int = STEPS) -> list[float]:
    """torch's own OneCycleLR, read off a dummy."""
    dummy = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(dummy, max_lr=peak, total_steps=total)
    lrs = []
    for _ in range(total):
        lrs.append(dummy.param_groups[0]["lr"])
        dummy.step()
        scheduler.step()
    return lrs


def schedules() -> dict[str, list[float]]:
    """The changing schedules under which every rule is tested."""
    return {
        "cosine": schedule("cosine"),
        "warmup_from_zero": schedule("warmup_from_zero"),
        "one_cycle": one_cycle(),
    }


def ways(implementations: Iterable[str]) -> list[tuple[str, str]]:
    """A schedule and an implementation: each with each other's first.

    An implementation is handed the numbers that a rule makes of a schedule's and sees none of it;
    the schedule that all go with begins at 0, where decay stops.
    """
    first, *others = implementations
    return [
        *(("warmup_from_zero", i) for i in (first, *others)),
        *((s, first) for s in ("cosine", "one_cycle")),
    ]


def stepped(optimizer: Any, params: list[Tensor], steps: int) -> None:
    """Take steps without a gradient: nothing but the decay."""
    for _ in range(steps):
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer.step()
