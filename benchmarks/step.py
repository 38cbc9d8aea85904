"""What one optimizer step costs, against torch's fused AdamW in the same run.

Every row steps the same weights with the same gradients and the same moment tensors: memory and
its placement are equal, and only the code differs. Before each step, untimed, the gradients are
written anew. With warm caches a step of the same optimizer has just been taken, as when optimizers
are timed one by one. With cold ones a pass over a large buffer empties the caches too, of data and
of code, which is at least as hard as what a forward and a backward pass do; on small models it
doubles the time of everything and shows Python's share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_ as torch_clip_grad_norm_

import halflife

from .timing import Measured, Parts, paired, spread
from .workbench import ADAM, SGD, Workbench, state_bytes

DEFAULT = ["resnet20", "resnet18", "gpt2"]
ROUNDS = {"resnet20": 300, "resnet18": 100, "gpt2": 15, "tiny": 3}
SHARE = 0.9  # of the time that torch's fused kernel saves over torch's default

AFFINE, STABLE, HANDED = 1.03, 1.40, 1.05  # targets: at most this ratio

FUSED, AGAIN, LOOP = "torch AdamW, fused", "the same again: noise", "torch AdamW, default for-loop"
CLIPPED, CLIPPED_STABLE = "torch clip + fused", "halflife clip + Stable"
SGD_FUSED = "torch SGD, fused"


@dataclass(frozen=True)
class Row:
    """One line of the table: a candidate, or a part of it, against another's."""

    name: str
    candidate: str
    against: str
    part: int | None = None  # index of a call; None: all together
    target: float | None = None
    share: bool = False


ROWS = [
    Row(FUSED, FUSED, FUSED),
    Row(AGAIN, AGAIN, FUSED),
    Row(LOOP, LOOP, FUSED),
    Row("torch AdamW, foreach", "torch AdamW, foreach", FUSED),
    *(
        Row(f"halflife AdamW, {rule}", f"halflife AdamW, {rule}", FUSED, target=target, share=True)
        for rule, target in {
            "Decoupled": AFFINE,
            "Independent": AFFINE,
            "Corrected": AFFINE,
            "Constant": None,
            "Proximal": AFFINE,
            "Stable": STABLE,
        }.items()
    ),
    Row("clip + step: torch", CLIPPED, CLIPPED),
    Row("clip + step: halflife, Stable", CLIPPED_STABLE, CLIPPED, target=HANDED),
    Row("  of this, the step alone", CLIPPED_STABLE, CLIPPED, 1, HANDED),
    Row(SGD_FUSED, SGD_FUSED, SGD_FUSED),
    Row("halflife SGD, Decoupled", "halflife SGD, Decoupled", SGD_FUSED),
    Row("halflife SGD, Independent", "halflife SGD, Independent", SGD_FUSED),
]


def measure(model: str, rounds: int | None = None, cold: bool = False) -> dict[str, Any]:
    """Time every row on the parameter list of a model.

    Returns:
        Plain data: ``model``, ``tensors``, ``parameters``, ``threads``, ``rounds`` and ``rows``.
    """
    rounds = rounds or ROUNDS[model]
    bench = Workbench(model, cold)
    candidates, optimizers = _candidates(bench, max_norm=bench.gradient_norm / 2)
    times = paired(candidates, rounds, bench.before, settle=not cold)
    seconds = {name: parts.sum(1) for name, parts in times.items()}

    rows = []
    for row in ROWS:
        own, other = (
            seconds[name] if row.part is None else times[name][:, row.part]
            for name in (row.candidate, row.against)
        )
        entry: dict[str, Any] = {
            "name": row.name,
            "seconds": Measured(own).as_dict(),
            "state_bytes_per_parameter": state_bytes(optimizers[row.candidate]),
        }
        if row.candidate != row.against:
            ratio = Measured(own / other)
            entry["ratio"] = ratio.as_dict()
            if row.target is not None:
                entry |= {"target": row.target, "verdict": ratio.verdict(at_most=row.target)}
        if row.share:
            saved = seconds[LOOP] - seconds[FUSED]
            share = Measured((seconds[LOOP] - seconds[row.candidate]) / saved)
            entry |= {"share": share.as_dict(), "share_verdict": share.verdict(at_least=SHARE)}
        rows.append(entry)
    return {
        "model": model,
        "tensors": len(bench.params),
        "parameters": bench.elements,
        "threads": torch.get_num_threads(),
        "rounds": rounds,
        "caches": "cold" if cold else "warm",
        "rows": rows,
    }


def _candidates(
    bench: Workbench, max_norm: float
) -> tuple[dict[str, Parts], dict[str, torch.optim.Optimizer]]:
    """Name -> calls to time, and name -> optimizer; the moments are one set of tensors."""
    params, fused = bench.params, bench.adamw
    optimizers: dict[str, torch.optim.Optimizer] = {
        FUSED: fused,
        SGD_FUSED: bench.sgd,
        AGAIN: fused,
        CLIPPED: fused,
        LOOP: bench.sharing(fused, torch.optim.AdamW(params, **ADAM)),
        "torch AdamW, foreach": bench.sharing(
            fused, torch.optim.AdamW(params, foreach=True, **ADAM)
        ),
    }
    for rule, weight_decay in {
        "Decoupled": 0.1,
        "Independent": 1e-5,
        "Corrected": 0.1,
        "Constant": 1e-5,
        "Proximal": 0.1,
        "Stable": 1e-5,
    }.items():
        ours = halflife.AdamW(params, 1e-4, weight_decay=weight_decay, decay=rule.lower())
        # Mid-schedule, where the rules differ from Decoupled and none has a short cut.
        ours.param_groups[0]["lr"] = 0.5e-4
        optimizers[f"halflife AdamW, {rule}"] = bench.sharing(fused, ours)
    optimizers[CLIPPED_STABLE] = stable = optimizers["halflife AdamW, Stable"]
    for rule in ("Decoupled", "Independent"):
        decay = halflife.SGD(params, decay=rule.lower(), **{**SGD, "weight_decay": 1e-5})
        optimizers[f"halflife SGD, {rule}"] = bench.sharing(bench.sgd, decay)

    calls: dict[str, Parts] = {name: [o.step] for name, o in optimizers.items()}
    calls[CLIPPED] = [lambda: torch_clip_grad_norm_(params, max_norm), fused.step]
    calls[CLIPPED_STABLE] = [lambda: halflife.clip_grad_norm_(stable, max_norm), stable.step]
    return calls, optimizers


def table(result: dict[str, Any]) -> str:
    """The measurements of one model, as text."""
    lines = [
        f"{result['model']}: {result['tensors']} tensors, {result['parameters'] / 1e6:.2f} M "
        f"parameters, {result['threads']} thread(s), {result['rounds']} rounds, "
        f"{result['caches']} caches",
        f"  {'':34}{'median':>10}  {'ratio (10-90 %)':<22}{'share':>6}  {'B/param':>7}  target",
    ]
    for row in result["rows"]:
        ratio, share, verdicts = spread(row.get("ratio"), digits=3), "", []
        if "target" in row:
            verdicts.append(f"<= {row['target']:.2f} {row['verdict']}")
        if s := row.get("share"):
            share = f"{s['median']:.2f}"
            verdicts.append(f"share >= {SHARE} {row['share_verdict']}")
        lines.append(
            f"  {row['name']:34}{row['seconds']['median'] * 1e3:>7.3f} ms  {ratio:<22}{share:>6}  "
            f"{row['state_bytes_per_parameter']:>7.3f}  {', '.join(verdicts)}".rstrip()
        )
    return "\n".join(lines)


def main(
    models: list[str],
    rounds: int | None = None,
    caches: tuple[str, ...] = ("warm", "cold"),
    show: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Measure the models one after the other, showing each table as it is ready."""
    results = []
    for model in models:
        for state in caches:
            results.append(measure(model, rounds, cold=state == "cold"))
            show(table(results[-1]) + "\n")
    return results
