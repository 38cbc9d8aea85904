"""What every process of a distributed test runs; also the single process it is compared with."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

import cases
import halflife
from cases import PEAK, OptimizerCase, optimizer
from halflife.diagnostics import Monitor
from halflife.mechanism.compiled import kernels
from halflife.rules import DecayMap
from halflife.rules.contract import as_rule
from halflife.tensors import pieces
from halflife.tensors.reduction import WholeModel

WORLD = 2
STEPS = 4
LRS = cases.schedule("cosine", total=STEPS)


class Model(nn.Module):
    """Sizes that two processes cannot share evenly, and one of which the second has nothing.

    Only the hidden size is even: torch's tensor parallelism cannot compute with another.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(6, 8)
        self.second = nn.Linear(8, 3)
        self.norm = nn.LayerNorm(3)
        self.gain = nn.Parameter(torch.ones(1))
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * self.norm(self.second(torch.tanh(self.first(x))))


@dataclass(frozen=True)
class Case:
    id: str
    cls: Callable[..., Any]
    settings: dict[str, Any] = field(hash=False)
    clip: float | None = None
    anchors: bool = False  # decay toward whole tensors, given on every process

    def make(self, model: nn.Module) -> Any:
        params = list(model.parameters())
        decay = self.settings["weight_decay"]
        groups: list[dict[str, Any]] = [
            {"params": params[:3]},
            {"params": params[3:], "lr": PEAK / 2, "weight_decay": decay / 2},
        ]
        if self.anchors:
            for group in groups:
                group["decay"] = halflife.Anchored(to=[anchor(p) for p in group["params"]])
        return self.cls(groups, lr=PEAK, **self.settings)


def anchor(param: Tensor) -> Tensor:
    """A tensor of the parameter's whole shape, whose elements all differ."""
    return torch.linspace(1.0, 2.0, param.numel(), dtype=torch.float64).view(param.shape)


# Bases whose own norms, or whose effective rate, take a pass over the whole model.
OTHERS: dict[str, OptimizerCase] = {
    "stable-Yogi": optimizer("Yogi").only(decay="stable", eps=1e-3),
    "stable-RMSprop": optimizer("RMSprop").only(decay="stable", momentum=0.5, eps=1e-3),
    "stable-AdaBound": optimizer("AdaBound").only(decay="stable", eps=1e-3),
    "decoupled-Adai": optimizer("Adai").only(decay="decoupled"),
}
BASES: dict[str, OptimizerCase] = {
    "AdamW": optimizer("AdamW"),
    "SGD-momentum": optimizer("SGD-momentum"),
    "AMSGrad": optimizer("AMSGrad").given(eps=1e-3),
}


def all_cases() -> list[Case]:
    found = []
    for base, on in BASES.items():
        cls, own = on.cls, on.arguments
        for rule in cases.RULES:
            measures = "effective_rate" in rule.rule.needs
            if base == "AMSGrad" and not measures:
                continue  # differs from AdamW where the second moment is asked for, only
            settings = {"decay": rule.rule, "weight_decay": rule.weight_decay, **own}
            found.append(Case(f"{rule.id}-{base}", cls, settings))
            if measures:
                found.append(Case(f"{rule.id}-{base}-clipped", cls, settings, clip=0.05))
        for entry in cases.MAPS:
            if base == "AdamW" or (base == "SGD-momentum" and not on.refuses(entry.rule)):
                settings = {"decay": entry.rule, "weight_decay": entry.weight_decay, **own}
                found.append(Case(f"{entry.id}-{base}", cls, settings))
    for id, on in OTHERS.items():
        found.append(Case(id, on.cls, {"weight_decay": 0.2, **on.arguments}))
    anchored = {"weight_decay": 2.0, "eps": 1e-3}
    found.append(Case("anchored-given-AdamW", halflife.AdamW, anchored, anchors=True))
    compiled = {"weight_decay": 2.0, "implementation": "compiled"}
    adam, sgd = {**compiled, "eps": 1e-3}, {**compiled, "momentum": 0.9, "dampening": 0.4}
    for id, cls, settings in (
        ("compiled-cautious-AdamW", halflife.AdamW, {**adam, "decay": "cautious"}),
        ("compiled-anchored-AdamW", halflife.AdamW, {**adam, "decay": "anchored"}),
        ("compiled-decoupled-SGD-momentum", halflife.SGD, {**sgd, "decay": "decoupled"}),
    ):
        found.append(Case(id, cls, settings))
    found.append(Case("compiled-anchored-given-AdamW", halflife.AdamW, adam, anchors=True))
    return found


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    return x, torch.randn(4, 3, generator=generator, dtype=torch.float64)


def train(
    case: Case, model: nn.Module, optimizer: Any, share: slice, steps: range = range(STEPS)
) -> None:
    for t in steps:
        for group, scale in zip(optimizer.param_groups, (1.0, 0.5), strict=True):
            group["lr"] = LRS[t] * scale
        x, y = batch(t)
        optimizer.zero_grad()
        (model(x[share]) - y[share]).square().mean().backward()
        if case.clip is not None:
            halflife.clip_grad_norm_(optimizer, case.clip)
        optimizer.step()


def weights(model: nn.Module) -> list[Tensor]:
    return [
        (p.full_tensor() if isinstance(p, DTensor) else p).detach().clone()
        for p in model.parameters()
    ]


# --- ways to spread a model over two processes ----------------------------------------------------

WHOLE = slice(None)


def _share() -> slice:
    size = 4 // WORLD
    return slice(dist.get_rank() * size, (dist.get_rank() + 1) * size)


def alone() -> tuple[nn.Module, slice]:
    return Model(), WHOLE


def data_parallel() -> tuple[nn.Module, slice]:
    return DistributedDataParallel(Model()), _share()


def fully_sharded() -> tuple[nn.Module, slice]:
    model = Model()
    fully_shard(model.first)
    fully_shard(model)
    return model, _share()


def tensor_parallel() -> tuple[nn.Module, slice]:
    """The norm and the gain stay plain tensors, beside DTensors in one group."""
    model = Model()
    mesh = init_device_mesh("cpu", (WORLD,))
    plan = {"first": ColwiseParallel(), "second": RowwiseParallel()}
    return parallelize_module(model, mesh, plan), WHOLE


def both() -> tuple[nn.Module, slice]:
    """A mesh of two dimensions: sharded for the data, and tensor parallel."""
    mesh = init_device_mesh("cpu", (WORLD, 1), mesh_dim_names=("data", "tensor"))
    model = Model()
    plan = {"first": ColwiseParallel(), "second": RowwiseParallel()}
    parallelize_module(model, mesh["tensor"], plan)
    fully_shard(model, mesh=mesh["data"])
    return model, _share()


SETTINGS = {
    "DDP": data_parallel,
    "FSDP2": fully_sharded,
    "tensor parallel": tensor_parallel,
    "FSDP2 and tensor parallel": both,
}


# --- checks: each returns nothing, or raises ------------------------------------------------------


def check_training(case: Case, setting: str) -> None:
    """The spread run ends at the weights of the run in one process."""
    lone, share = alone()
    train(case, lone, case.make(lone), share)
    model, share = SETTINGS[setting]()
    train(case, model, case.make(model), share)
    for mine, expected in zip(weights(model), weights(lone), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-14)


def spans_model(case: Case) -> bool:
    """Whether a part of the parameters is not enough for the step."""
    rule = as_rule(case.settings.get("decay", "decoupled"))
    number = case.cls is halflife.SGD and not {"gradient_norm", "weight_norm"} & {*rule.needs}
    return case.cls is halflife.Adai or (
        rule.spans_model and not (number and rule.follows_gradients)
    )


def assert_refused(case: Case, model: nn.Module, wrapper: str) -> None:
    with pytest.raises(ValueError, match=f"{wrapper} gives each process a part"):
        case.make(model)


def check_whole_tensors_each(case: Case) -> None:
    """ZeroRedundancyOptimizer: as in one process, or refused by name."""
    from torch.distributed.optim import ZeroRedundancyOptimizer  # warns when it is imported

    lone, share = alone()
    train(case, lone, case.make(lone), share)
    model, _ = alone()
    spread = replace(case, cls=partial(ZeroRedundancyOptimizer, optimizer_class=case.cls))
    if spans_model(case):
        assert_refused(spread, model, "ZeroRedundancyOptimizer")
        return
    train(case, model, spread.make(model), share)
    for mine, expected in zip(weights(model), weights(lone), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-14)


def check_flat_parts(case: Case) -> None:
    """FSDP1, whose shards are plain tensors: as in one process, or refused by name."""
    from torch.distributed.fsdp import FullyShardedDataParallel  # warns when it is used

    lone, share = alone()
    train(case, lone, case.make(lone), share)
    model = FullyShardedDataParallel(Model(), use_orig_params=True, device_id=torch.device("cpu"))
    rule = as_rule(case.settings.get("decay", "decoupled"))
    if spans_model(case) or (isinstance(rule, DecayMap) and not rule.elementwise):
        assert_refused(case, model, "FullyShardedDataParallel")
        return
    train(case, model, case.make(model), _share())
    with FullyShardedDataParallel.summon_full_params(model):
        for mine, expected in zip(weights(model), weights(lone), strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-14)


def check_reduction() -> None:
    """Every placement against the whole tensor; one all-reduce, none where nothing is spread."""
    line = init_device_mesh("cpu", (WORLD,))
    square = init_device_mesh("cpu", (1, WORLD))
    torch.manual_seed(0)
    whole = [torch.randn(5, 3), torch.randn(1), torch.randn(3, 5), torch.randn(4), torch.randn(2)]
    kinds = [Shard(0), Shard(0), Shard(1), Replicate()]
    spread = [distribute_tensor(t, line, [k]) for t, k in zip(whole, kinds, strict=False)]
    # Each process holds the part of a sum: the square of the sum is wanted.
    part = DTensor.from_local(whole[4] * (dist.get_rank() + 1), line, [Partial()])
    expected = [t.double().square().sum().item() for t in whole]
    expected[4] *= 9.0
    reduction = WholeModel()
    with CommDebugMode() as traffic:
        squares = torch.as_tensor(reduction.squares([*spread, whole[3]]))
    assert traffic.get_total_counts() == 1, traffic.get_comm_counts()
    torch.testing.assert_close(squares.tolist(), [*expected[:4], expected[3]], rtol=1e-6, atol=0.0)
    with CommDebugMode() as traffic:
        reduction.squares([spread[3], whole[3]])
    assert traffic.get_total_counts() == 0, traffic.get_comm_counts()
    squares = torch.as_tensor(reduction.squares([part]))
    assert abs(squares.item() / expected[4] - 1.0) < 1e-6
    flat = distribute_tensor(whole[0], square, [Replicate(), Shard(1)])
    sums = reduction.sums([flat, spread[0]])
    torch.testing.assert_close(sums, whole[0].double().sum().expand(2), rtol=1e-6, atol=0.0)
    assert reduction.numel([flat, spread[1]]) == 16


ONE_REDUCTION = {
    "stable-AdamW",
    "stable-AdamW-clipped",
    "stable-AMSGrad",
    "adaptive-AdamW",
    "adaptive-SGD-momentum",
    "norm-AdamW",
    *OTHERS,
}


def check_monitor(setting: str) -> None:
    """Records of a spread model are those of the whole one, on every process."""

    def watched(model: nn.Module, share: slice) -> list[dict[str, Any]]:
        names = {name.removeprefix("module."): p for name, p in model.named_parameters()}
        optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, weight_decay=0.1, foreach=False)
        with Monitor(optimizer, names, every=1, preset="full") as monitor:
            for t in range(2):
                x, y = batch(t)
                optimizer.zero_grad()
                (model(x[share]) - y[share]).square().mean().backward()
                optimizer.step()
        return monitor.history

    for mine, expected in zip(watched(*SETTINGS[setting]()), watched(*alone()), strict=True):
        assert mine.keys() == expected.keys()
        for key, value in expected.items():
            if isinstance(value, float):
                assert math.isclose(mine[key], value, rel_tol=1e-9, abs_tol=1e-12), (key, mine)
            else:
                assert mine[key] == value, (key, mine)


def check_traffic() -> None:
    """What the rules that need a norm cost: one all-reduce a step, for all groups together."""
    assert {case.id for case in all_cases()} >= ONE_REDUCTION
    for case in all_cases():
        if case.id not in ONE_REDUCTION:
            continue
        model = Model()
        fully_shard(model)
        optimizer = case.make(model)
        train(case, model, optimizer, _share(), range(1))
        with CommDebugMode() as traffic:
            if case.clip is not None:
                halflife.clip_grad_norm_(optimizer, case.clip)
            optimizer.step()
        assert traffic.get_total_counts() == 1, (case.id, traffic.get_comm_counts())


def check_state_initialisation(case: Case) -> None:
    """DCP steps at lr 0 to make the state; no weight may change."""
    model, _ = fully_sharded()
    optimizer = case.make(model)
    before = weights(model)
    get_optimizer_state_dict(model, optimizer)
    assert all(torch.equal(p, q) for p, q in zip(weights(model), before, strict=True))


def save(case: Case, folder: Path) -> None:
    model, share = fully_sharded()
    optimizer = case.make(model)
    train(case, model, optimizer, share, range(2))
    state = {"model": model.state_dict(), "optim": get_optimizer_state_dict(model, optimizer)}
    dcp.save(state, checkpoint_id=folder / "checkpoints" / case.id)


def resume_alone(case: Case, folder: Path) -> list[Tensor]:
    """Go on in one process where two have stopped."""
    model, share = alone()
    optimizer = case.make(model)
    state = {"model": model.state_dict(), "optim": get_optimizer_state_dict(model, optimizer)}
    dcp.load(state, checkpoint_id=folder / "checkpoints" / case.id)
    model.load_state_dict(state["model"])
    set_optimizer_state_dict(model, optimizer, state["optim"])
    train(case, model, optimizer, share, range(2, STEPS))
    return weights(model)


def run(rank: int, folder: Path) -> None:
    """All checks in one process group; what went wrong is left in a file, by name."""
    torch.set_num_threads(1)
    kernels.BACKEND = "eager"
    pieces.piece_size = lambda tensor: 4  # so that small tensors, too, are worked on in pieces
    meeting = f"file://{folder / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=WORLD)
    checks: dict[str, Callable[[], None]] = {
        "reduction": check_reduction,
        "traffic": check_traffic,
    }
    for setting in SETTINGS:
        checks[f"monitor: {setting}"] = partial(check_monitor, setting)
    for case in all_cases():
        for setting in SETTINGS:
            checks[f"{setting}: {case.id}"] = partial(check_training, case, setting)
        if not case.anchors and case.clip is None:  # anchors are given for a whole group
            checks[f"zero: {case.id}"] = partial(check_whole_tensors_each, case)
            checks[f"flat: {case.id}"] = partial(check_flat_parts, case)
        checks[f"initialisation: {case.id}"] = partial(check_state_initialisation, case)
        if case.clip is None:
            checks[f"save: {case.id}"] = partial(save, case, folder)
    failures = {}
    for name, check in checks.items():
        try:
            check()
        except Exception:
            failures[name] = traceback.format_exc()
    torch.save(failures, folder / f"failures-{rank}")
    dist.destroy_process_group()
