"""What every rule costs, against torch, the packages that have it, and the memory's speed.

Two lists take turns on the tensors of one model (see `timing` and `workbench`): our rules with
torch's implementations; then, in fewer rounds, the optimizers of `peers`, torch's and those of
our rules that they have.

The limit of a row is the time to move the bytes that its rule must move, at the speed of the
memory in the same round: that of two long vectors' ``a += b`` or of ``a *= c``, the faster one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_ as torch_clip_grad_norm_
from torch.optim import Optimizer

import halflife
from halflife import rules

from .peers import PEERS
from .timing import Measured, Parts, paired, spread
from .workbench import ADAM, Workbench, state_bytes

DEFAULT = ["resnet18", "gpt2"]
ROUNDS = {"resnet20": 100, "resnet18": 60, "gpt2": 10, "tiny": 3}
PEER_SHARE = 4  # one round of the peers to so many of ours
SETTLED = 50e6  # elements: larger models leave nothing in the caches that a second step could find

LR, PEAK = 0.5e-4, 1e-4  # mid-schedule, where no rule has a short cut
# Small, so that thousands of steps leave the weights ordinary numbers.
WEIGHT_DECAY = 1e-5

AFFINE, MEASURED, HANDED, EAGER = 1.03, 1.30, 1.05, 2.0
COMPILED, COMPILED_SMALL = 1.25, 1.60  # the second: below SETTLED elements

FUSED, AGAIN, LOOP = "torch AdamW, fused", "the same again: noise", "torch AdamW, default for-loop"
CLIPPED, CLIPPED_STABLE = "torch clip + AdamW, fused", "clip + AdamW Stable"
SGD_FUSED = "torch SGD, fused"
MEMORY = "memory"

# Bytes per float32 parameter that a step must move: each tensor read, and written, once.
TRAFFIC = {"AdamW": 28, "SGD": 20, "Lion": 20}
# What a rule adds to that: a number that is known only after a pass over a tensor, or an anchor.
ADDED = {"Stable": 4, "Adaptive": 8, "Anchored": 4, "NormControl": 4, "ProximalNorm": 8}

SCALAR_RULES = {
    "Decoupled": halflife.Decoupled(),
    "Independent": halflife.Independent(),
    "Constant": halflife.Constant(),
    "Corrected": halflife.Corrected(),
    "Proximal": halflife.Proximal(),
    "L2Regularization": halflife.L2Regularization(),
    "Stable": halflife.Stable(),
    "Adaptive": halflife.Adaptive(),
}
ELEMENTWISE = {
    "Cautious": rules.Cautious(),
    "Anchored": rules.Anchored(),
    "Anchored to 1": rules.Anchored(to=1.0),
    "HuberDecay": rules.HuberDecay(delta=0.02),
    "ProximalL1": rules.ProximalL1(),
    "ProximalL1 preconditioned": rules.ProximalL1(metric="preconditioned"),
    "Preconditioned": rules.Preconditioned(),
    "PowerDecay 0.8": rules.PowerDecay(power=0.8),
}
NORMS = {
    "NormControl": rules.NormControl(target=0.02),
    "ProximalNorm": rules.ProximalNorm(),
}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    group: str
    against: str = FUSED
    target: float | None = None
    traffic: int = TRAFFIC["AdamW"]
    ours: str | None = None  # of a peer: our candidate with its rule


Make = Callable[[], "tuple[Parts, Optimizer]"]


def measure(model: str, rounds: int | None = None) -> dict[str, Any]:
    """Time every row on the parameter list of a model; returns plain data."""
    rounds = rounds or ROUNDS[model]
    bench = Workbench(model)
    settle = bench.elements < SETTLED
    makers = dict(_candidates(bench))
    own = {row: make for row, make in makers.items() if row.ours is None}
    rows = _session(bench, own, rounds, settle)
    wanted = {FUSED, LOOP, SGD_FUSED, *(row.ours for row in makers)}
    compared = {row: make for row, make in makers.items() if row.ours or row.name in wanted}
    peer_rounds = max(1, rounds // PEER_SHARE)
    rows += [row for row in _session(bench, compared, peer_rounds, settle) if "ours" in row]
    return {
        "model": model,
        "tensors": len(bench.params),
        "parameters": bench.elements,
        "threads": torch.get_num_threads(),
        "rounds": rounds,
        "peer_rounds": peer_rounds,
        "settled": settle,
        "rows": rows,
    }


def _candidates(bench: Workbench) -> Iterator[tuple[Row, Make]]:
    """Every row, with what makes the calls to time and the optimizer that they step."""
    params, fused = bench.params, bench.adamw
    norm = bench.gradient_norm / 2
    compiled = COMPILED_SMALL if bench.elements < SETTLED else COMPILED

    def ours(base: str, rule: Any, **arguments: Any) -> Optimizer:
        cls = getattr(halflife, base)
        weight_decay = WEIGHT_DECAY
        optimizer = cls(params, PEAK, weight_decay=weight_decay, decay=rule, **arguments)
        keys = {"exp_avg": "exp_avg"} if base == "Lion" else {}
        bench.sharing(bench.sgd if base == "SGD" else fused, optimizer, **keys)
        optimizer.param_groups[0]["lr"] = LR
        return optimizer

    def stepping(make: Callable[[], Optimizer]) -> Make:
        def made() -> tuple[Parts, Optimizer]:
            optimizer = make()
            return [optimizer.step], optimizer

        return made

    def rule_row(base: str, name: str, rule: Any, target: float | None, **arguments: Any):
        traffic = TRAFFIC[base] + ADDED.get(name, 0)
        how = "".join(f", {value}" for key, value in arguments.items() if key == "implementation")
        against = SGD_FUSED if base == "SGD" else FUSED
        row = Row(f"{base} {name}{how}", base, against, target, traffic)
        return row, stepping(lambda: ours(base, rule, **arguments))

    def clipped_torch() -> tuple[Parts, Optimizer]:
        return [lambda: torch_clip_grad_norm_(params, norm), fused.step], fused

    def clipped_stable() -> tuple[Parts, Optimizer]:
        stable = ours("AdamW", SCALAR_RULES["Stable"])
        return [lambda: halflife.clip_grad_norm_(stable, norm), stable.step], stable

    yield Row(FUSED, "torch"), stepping(lambda: fused)
    yield Row(AGAIN, "torch"), stepping(lambda: fused)
    loop = lambda: bench.sharing(fused, torch.optim.AdamW(params, **ADAM))  # noqa: E731
    yield Row(LOOP, "torch"), stepping(loop)
    for name, rule in SCALAR_RULES.items():
        yield rule_row("AdamW", name, rule, MEASURED if rule.follows_gradients else AFFINE)
    handed = TRAFFIC["AdamW"] + ADDED["Stable"]
    yield Row(CLIPPED, "clip", CLIPPED, traffic=handed), clipped_torch
    yield Row(CLIPPED_STABLE, "clip", CLIPPED, HANDED, handed), clipped_stable
    for name, rule in {**ELEMENTWISE, **NORMS}.items():
        yield rule_row("AdamW", name, rule, EAGER)
    for name, rule in ELEMENTWISE.items():
        yield rule_row("AdamW", name, rule, compiled, implementation="compiled")
    yield Row(SGD_FUSED, "SGD", SGD_FUSED, traffic=TRAFFIC["SGD"]), stepping(lambda: bench.sgd)
    momentum = {"momentum": 0.9}
    for name in ("Decoupled", "L2Regularization"):
        yield rule_row("SGD", name, SCALAR_RULES[name], None, **momentum)
    yield rule_row("SGD", "Cautious", ELEMENTWISE["Cautious"], None, **momentum)
    momentum |= {"implementation": "compiled"}
    yield rule_row("SGD", "Decoupled", SCALAR_RULES["Decoupled"], None, **momentum)
    yield rule_row("SGD", "Cautious", ELEMENTWISE["Cautious"], None, **momentum)
    yield rule_row("Lion", "Decoupled", SCALAR_RULES["Decoupled"], None)
    for peer in PEERS:
        base, rule_name = peer.against.split()
        against = SGD_FUSED if base == "SGD" else FUSED
        traffic = TRAFFIC[base] + ADDED.get(rule_name, 0)

        def made(peer=peer) -> tuple[Parts, Optimizer]:
            optimizer = peer.on(bench, PEAK, WEIGHT_DECAY)
            optimizer.param_groups[0]["lr"] = LR
            return [optimizer.step], optimizer

        yield Row(peer.name, "peers", against, None, traffic, peer.against), made


def _session(
    bench: Workbench, makers: Mapping[Row, Make], rounds: int, settle: bool
) -> list[dict[str, Any]]:
    """Let the rows take turns; what cannot be run says why."""
    candidates: dict[str, Parts] = {}
    optimizers: dict[str, Optimizer] = {}
    missing: dict[str, str] = {}
    for row, make in makers.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # theirs, and of compilers
                parts, optimizer = make()
                bench.before()
                for call in parts:  # what has to be made, or compiled, is made now
                    call()
        except Exception as error:  # a package that is absent or broken is a line in the table
            missing[row.name] = _reason(error)
            continue
        candidates[row.name], optimizers[row.name] = parts, optimizer
    a, b = torch.ones(bench.elements), torch.ones(bench.elements)
    candidates[MEMORY] = [lambda: a.add_(b, alpha=1e-9), lambda: a.mul_(1.0)]
    times = paired(candidates, rounds, bench.before, settle=settle)
    byte = np.min(times.pop(MEMORY) / (bench.elements * np.array([12, 8])), axis=1)  # seconds each
    seconds = {name: parts.sum(1) for name, parts in times.items()}
    return [
        {"name": row.name, "group": row.group, "missing": missing[row.name]}
        | ({"ours": row.ours} if row.ours else {})
        if row.name in missing
        else _entry(row, seconds, byte * bench.elements, optimizers[row.name])
        for row in makers
    ]


def _entry(
    row: Row, seconds: dict[str, np.ndarray], byte: np.ndarray, optimizer: Optimizer
) -> dict[str, Any]:
    """What was measured of one row; ``byte`` is seconds per byte and parameter."""
    own = seconds[row.name]
    limit = byte * row.traffic
    entry: dict[str, Any] = {
        "name": row.name,
        "group": row.group,
        "seconds": Measured(own).as_dict(),
        "state_bytes": state_bytes(optimizer),
        "traffic_bytes": row.traffic,
        "limit_seconds": Measured(limit).as_dict(),
        "of_limit": Measured(own / limit).as_dict(),
    }
    if row.name != row.against:
        ratio = Measured(own / seconds[row.against])
        entry |= {"against": row.against, "ratio": ratio.as_dict()}
        if row.target is not None:
            entry |= {"target": row.target, "verdict": ratio.verdict(at_most=row.target)}
    if row.name != LOOP and row.against == FUSED:
        entry["of_default"] = Measured(own / seconds[LOOP]).as_dict()
    if row.ours is not None:
        entry["ours"] = row.ours
        if row.ours in seconds:
            ratio = Measured(seconds[row.ours] / own)
            entry |= {"of_peer": ratio.as_dict(), "verdict": ratio.verdict(at_most=1.0)}
    return entry


def _reason(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed: pip install --group third-party"
    first = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first[:150]}"


def table(result: dict[str, Any]) -> str:
    """The measurements of one model, as text."""
    memory = result["rows"][0]
    speed = memory["traffic_bytes"] * result["parameters"] / memory["limit_seconds"]["median"]
    lines = [
        f"{result['model']}: {result['tensors']} tensors, {result['parameters'] / 1e6:.2f} M "
        f"parameters, {result['threads']} thread(s), {result['rounds']} rounds, of peers "
        f"{result['peer_rounds']}; memory {speed / 1e9:.1f} GB/s",
        f"  {'':45}{'median':>11}  {'ratio (10-90 %)':<18}{'default':>8}{'limit':>7}{'state':>7}",
    ]
    for row in result["rows"]:
        if "missing" in row:
            lines.append(f"  {row['name']:45}  not measured: {row['missing']}")
            continue
        ratio = spread(row.get("ratio"))
        default = f"{row['of_default']['median']:.2f}" if "of_default" in row else ""
        lines.append(
            f"  {row['name']:45}{row['seconds']['median'] * 1e3:>8.2f} ms  {ratio:<18}{default:>8}"
            f"{row['of_limit']['median']:>7.2f}{row['state_bytes']:>7.2f}  {verdict(row)}".rstrip()
        )
    return "\n".join(lines)


def verdict(row: dict[str, Any]) -> str:
    """Whether a row meets its target."""
    if "of_peer" in row:
        told = "ours is faster" if row["verdict"] == "met" else f"ours faster: {row['verdict']}"
        return f"{told}: {spread(row['of_peer'])}"
    return f"<= {row['target']:.2f} {row['verdict']}" if "target" in row else ""


def main(
    models: list[str],
    rounds: int | None = None,
    show: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Measure the models one after the other, showing each table as it is ready."""
    results = []
    for model in models:
        results.append(measure(model, rounds))
        show(table(results[-1]) + "\n")
    return results
