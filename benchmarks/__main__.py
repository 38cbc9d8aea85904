"""`python -m benchmarks`, which `make bench` runs."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

from . import accelerator, choice, curvature, imports, monitor, operations, rules, step
from .shapes import MODELS

BENCHMARKS = ("step", "rules", "operations", "lab", "recipes", "curvature", "monitor", "import")
ON_A_DEVICE = {"accelerator": accelerator, "choice": choice}  # where they are asked for only
NAMED = (*BENCHMARKS, *ON_A_DEVICE)

EPILOG = """\
how to read it
  ratio   time over torch's fused AdamW in the same round, median over rounds (10-90 % spread).
          "the same again" is the reference against itself: a difference smaller than its spread
          is the machine's, not ours. Below the clip and SGD lines the reference is the line above.
  share   of the time that torch's fused kernel saves over torch's default for-loop.
  target  met; within noise: missed, but the 95 % interval of the median reaches it; missed.
  of rules only:
  default time over torch's default for-loop.
  limit   time over what the memory needs for the bytes that the rule must move.
  state   bytes of optimizer state per parameter.

examples
  python -m benchmarks                                   everything, some minutes
  python -m benchmarks step --models resnet20            a minute
  python -m benchmarks step --json before.json           to compare with a later run
  python -m benchmarks rules                             every rule, and other packages' optimizers
  python -m benchmarks curvature                         Hessian eigenvalues, half a minute
  python -m benchmarks accelerator --device cuda         every rule on a GPU, by torch's fused step
  python -m benchmarks choice --device cuda              native and compiled steps on a GPU
  python -m benchmarks recipes --device cuda             halflife train and a plain loop
  python -m benchmarks monitor                           a training step with a monitor
  make bench BENCH_ARGS="step --models gpt2 --rounds 30"
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks that the command line names."""
    parser = _parser()
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads[0])
    chosen = options.benchmark or BENCHMARKS
    if {*ON_A_DEVICE} & {*chosen} and (reason := _lacking(options.device or "cuda")):
        parser.error(reason)
    machine = _machine()
    results: dict[str, Any] = {"machine": machine}
    print("torch {torch}, Python {python}, {cores} cores, load {load}\n".format(**machine))
    for threads in options.threads:
        torch.set_num_threads(threads)
        if "step" in chosen:
            models = options.models or step.DEFAULT
            found = step.main(models, options.rounds, options.caches)
            results["step"] = [*results.get("step", []), *found]
        if "rules" in chosen:
            found = rules.main(options.models or rules.DEFAULT, options.rounds)
            results["rules"] = [*results.get("rules", []), *found]
    torch.set_num_threads(options.threads[0])
    if "operations" in chosen:
        results["operations"] = operations.main(options.models or ["resnet20", "gpt2"])
    if "lab" in chosen and importlib.util.find_spec("optuna"):
        results["lab"] = importlib.import_module("benchmarks.lab").main()
    if "recipes" in chosen and importlib.util.find_spec("lightning"):
        benchmark = importlib.import_module("benchmarks.recipes")
        results["recipes"] = benchmark.main(options.rounds, options.device or "cpu")
    if "curvature" in chosen:
        results["curvature"] = curvature.main(options.rounds)
    if "monitor" in chosen:
        results["monitor"] = monitor.main(options.rounds)
    if "import" in chosen:
        results["import"] = imports.main(options.rounds)
    for name, benchmark in ON_A_DEVICE.items():
        if name in chosen:
            models = options.models or benchmark.DEFAULT
            results[name] = benchmark.main(models, options.device or "cuda", options.rounds)
    if options.json:
        text = json.dumps(_rounded(results), indent=1, default=str)
        options.json.write_text(text + "\n", "utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="What halflife costs, measured against torch in the same run.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "benchmark",
        nargs="*",
        type=_benchmark,  # with choices, Python 3.11 refuses none
        metavar=f"{{{','.join(NAMED)}}}",
        help="step: one optimizer step; rules: every rule, against torch, other packages and the "
        "memory's speed; operations: what a step dispatches on an accelerator, counted; lab: who "
        "trains the cells of a sweep, and what a record costs; recipes: halflife train against a "
        "plain loop; curvature: eigenvalues of a Hessian "
        "against other packages; monitor: a training step that is watched; import: the import; "
        "accelerator: every rule on --device; choice: native and compiled steps there. Default: "
        "all but the last two.",
    )
    parser.add_argument(
        "--models",
        type=_models,
        metavar="NAME,...",
        help=f"parameter lists for step and rules, of {', '.join(MODELS)}; gpt2 needs 8 GB. "
        f"Default: {','.join(step.DEFAULT)} for step, {','.join(rules.DEFAULT)} for rules.",
    )
    parser.add_argument(
        "--rounds",
        type=_positive,
        help="how often each candidate is measured. Default: "
        + ", ".join(f"{model} {rounds}" for model, rounds in step.ROUNDS.items())
        + f", curvature {curvature.ROUNDS}, monitor {monitor.ROUNDS}, import {imports.ROUNDS}; "
        f"for rules resnet18 "
        f"{rules.ROUNDS['resnet18']}, gpt2 {rules.ROUNDS['gpt2']}.",
    )
    parser.add_argument(
        "--caches",
        type=lambda text: tuple(text.split(",")),
        default=("warm", "cold"),
        metavar="warm,cold",
        help="for step: steps one after the other, or the caches emptied before each. "
        "Default: both.",
    )
    parser.add_argument(
        "--threads",
        type=_threads,
        default=(1,),
        metavar="N,...",
        help="torch threads, for step and rules several one after the other, such as 1,all. "
        "Default: 1.",
    )
    parser.add_argument(
        "--device",
        help="for accelerator and choice (default: cuda; cpu rehearses them), and for recipes "
        "(default: cpu).",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write all figures to this file too."
    )
    return parser


def _threads(text: str) -> tuple[int, ...]:
    cores = os.cpu_count() or 1
    return tuple(cores if part == "all" else _positive(part) for part in text.split(","))


def _benchmark(text: str) -> str:
    if text not in NAMED:
        raise argparse.ArgumentTypeError(
            f"invalid choice: {text!r} (choose from {', '.join(NAMED)})"
        )
    return text


def _lacking(device: str) -> str | None:
    """Why there is no such device here; None where there is."""
    try:
        torch.empty(0, device=device)
    except Exception as error:  # each device's own
        first = str(error).partition("\n")[0]
        return f"--device {device}: there is no such device here ({first})"
    return None


def _models(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in MODELS]:
        raise argparse.ArgumentTypeError(
            f"{unknown[0]!r}: unknown model; known are {', '.join(MODELS)}."
        )
    return names


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number >= 1.")
    return int(text)


def _rounded(value: Any) -> Any:
    """Plain data with numbers of six digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    return [_rounded(entry) for entry in value] if isinstance(value, list) else value


def _machine() -> dict[str, Any]:
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": load,
    }


if __name__ == "__main__":
    raise SystemExit(main())
