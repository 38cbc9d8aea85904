"""What every rule costs on an accelerator, against torch's fused step there, with peak memory.

As `rules`, with other columns: native and compiled, in float32 and in bfloat16. The clock is read
before a step is launched and after the device has finished it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.optim import Optimizer

import halflife

from .rules import ELEMENTWISE, LR, NORMS, PEAK, SCALAR_RULES, WEIGHT_DECAY
from .timing import Measured, Parts, paired, spread
from .workbench import ADAM, SGD, Workbench

DEFAULT = ["resnet18", "gpt2"]
ROUNDS = {"resnet20": 60, "resnet18": 60, "gpt2": 30, "tiny": 3}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

AGAIN = "the same again: noise"


def measure(model: str, dtype: str, device: torch.device, rounds: int | None) -> dict[str, Any]:
    """Time every row on the parameter list of a model; returns plain data."""
    rounds = rounds or ROUNDS[model]
    bench = Workbench(model, device=device, dtype=DTYPES[dtype])

    def before() -> None:
        bench.before()
        synchronize(device)

    candidates: dict[str, Parts] = {}
    against: dict[str, str] = {}
    peaks: dict[str, int | None] = {}
    missing: dict[str, str] = {}
    for name, base, make in _rows(bench):
        against[name] = f"torch {base}, fused"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of compilers; a row that is not compiled is seen
                optimizer = make()
                for _ in range(2):  # what has to be made, or compiled, is made now
                    before()
                    optimizer.step()
        except Exception as error:  # what cannot be had on a device is a line in the table
            first = str(error).strip().partition("\n")[0]
            missing[name] = f"{type(error).__name__}: {first[:150]}"
            continue

        def stepping(optimizer: Optimizer = optimizer) -> None:
            optimizer.step()
            synchronize(device)

        before()
        peaks[name] = peak_bytes(device, stepping)
        candidates[name] = [stepping]
    seconds = {n: parts.sum(1) for n, parts in paired(candidates, rounds, before).items()}
    rows = []
    for name, other in against.items():
        if name in missing:
            rows.append({"name": name, "missing": missing[name]})
            continue
        row = {"name": name, "seconds": Measured(seconds[name]).as_dict(), "peak": peaks[name]}
        if name != other and other in seconds:
            row |= {"against": other, "ratio": Measured(seconds[name] / seconds[other]).as_dict()}
        rows.append(row)
    return {
        "model": model,
        "dtype": dtype,
        "tensors": len(bench.params),
        "parameters": bench.elements,
        "rounds": rounds,
        "rows": rows,
    }


def _rows(bench: Workbench) -> Iterator[tuple[str, str, Callable[[], Optimizer]]]:
    """Name, base and maker of every row; all share the moments of torch's fused optimizer."""
    own = {"AdamW": ADAM, "SGD": SGD}

    def reference(base: str) -> Optimizer:
        return bench.adamw if base == "AdamW" else bench.sgd

    def foreach(base: str) -> Optimizer:
        made = getattr(torch.optim, base)(bench.params, foreach=True, **own[base])
        return counted_on_host(bench.sharing(reference(base), made))

    def ours(base: str, rule: Any, implementation: str) -> Optimizer:
        settings = {**own[base], "lr": PEAK, "weight_decay": WEIGHT_DECAY}
        cls = getattr(halflife, base)
        made = cls(bench.params, decay=rule, implementation=implementation, **settings)
        made.param_groups[0]["lr"] = LR
        return bench.sharing(reference(base), made)

    for base in own:
        yield f"torch {base}, fused", base, lambda base=base: reference(base)
        yield f"{base}: {AGAIN}", base, lambda base=base: reference(base)
        yield f"torch {base}, foreach", base, lambda base=base: foreach(base)
        for name, rule in {**SCALAR_RULES, **ELEMENTWISE, **NORMS}.items():
            if base == "SGD" and "preconditioner" in rule.needs:
                continue
            for how in ("native",) if name in NORMS else ("native", "compiled"):
                make = lambda base=base, rule=rule, how=how: ours(base, rule, how)  # noqa: E731
                yield f"{base} {name}, {how}", base, make


def counted_on_host(optimizer: Optimizer) -> Optimizer:
    """With counts of steps where torch's foreach step reads them without waiting."""
    for held in optimizer.state.values():
        if "step" in held:
            held["step"] = held["step"].cpu()
    return optimizer


def name_of(device: torch.device) -> str:
    """What a table of results calls the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def peak_bytes(device: torch.device, call: Callable[[], object]) -> int | None:
    """The most bytes that a call held on a CUDA device beside what was there; None on another."""
    if device.type != "cuda":
        call()
        return None
    torch.cuda.reset_peak_memory_stats(device)
    there = torch.cuda.memory_allocated(device)
    call()
    return torch.cuda.max_memory_allocated(device) - there


def table(result: dict[str, Any]) -> str:
    """The measurements of one model and dtype, as text."""
    lines = [
        f"{result['model']} in {result['dtype']}: {result['tensors']} tensors, "
        f"{result['parameters'] / 1e6:.2f} M parameters, {result['rounds']} rounds",
        f"  {'':45}{'median':>11}  {'ratio (10-90 %)':<18}{'peak':>10}",
    ]
    for row in result["rows"]:
        if "missing" in row:
            lines.append(f"  {row['name']:45}  not measured: {row['missing']}")
            continue
        ratio = spread(row.get("ratio"))
        peak = "" if row["peak"] is None else f"{row['peak'] / 2**20:.1f} MiB"
        time = row["seconds"]["median"] * 1e3
        lines.append(f"  {row['name']:45}{time:>8.3f} ms  {ratio:<18}{peak:>10}".rstrip())
    return "\n".join(lines)


def main(
    models: list[str],
    device: str,
    rounds: int | None = None,
    show: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measure the models one after the other, in each dtype, showing each table as it is ready."""
    where = torch.device(device)
    results = []
    for model in models:
        for dtype in DTYPES:
            results.append(measure(model, dtype, where, rounds))
            show(table(results[-1]) + "\n")
    return {"device": name_of(where), "models": results}
