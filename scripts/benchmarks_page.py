"""Write docs/benchmarks.md from a run of the benchmarks.

    python -m benchmarks rules --json benchmarks/results.json
    python -m benchmarks operations --json benchmarks/operations.json
    python -m benchmarks lab --json benchmarks/lab.json
    python -m benchmarks choice --device cuda --json benchmarks/choice.json
    make test-gpu    # where there is a GPU: writes benchmarks/accelerator.json
    python scripts/benchmarks_page.py

Every number of the page is one of the results, or counts bytes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import choice_section  # noqa: E402
from benchmarks import timing  # noqa: E402
from benchmarks.lab import REQUIRED as STACKING  # noqa: E402
from benchmarks.lab import SLOWER as CHOICE  # noqa: E402
from benchmarks.rules import ADDED, AGAIN, FUSED, TRAFFIC  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results.json"
COUNTS = ROOT / "benchmarks" / "operations.json"
LAB_RESULTS = ROOT / "benchmarks" / "lab.json"
DEVICE_RESULTS = ROOT / "benchmarks" / "accelerator.json"
PAGE = ROOT / "docs" / "benchmarks.md"

HEAD = """\
# What a rule costs

<!-- Written by scripts/benchmarks_page.py from benchmarks/results.json: edit that, not this. -->

One optimizer step under every rule, against torch and against other packages, on the parameter
lists of two models. `make bench` measures it on your machine; this page was written from

```console
$ python -m benchmarks rules --threads 1,all --json benchmarks/results.json
$ python scripts/benchmarks_page.py
```

All optimizers take turns on the same tensors in every round. A ratio is taken within a round; shown
are the median over the rounds and, in parentheses, the range from 10 to 90 % of them. The same
optimizer against itself shows the machine's noise. A target is *met* by the median, and *within
noise* if the 95 % interval of the median reaches it.

- **fused**: time over torch's fused kernel of the same optimizer (for Lion, which torch has not:
  AdamW's). **default**: over torch's default on the CPU, a for-loop.
- **limit**: time over what the memory needs for the bytes that the rule must move; see
  [below](#what-the-memory-allows).
- **state**: bytes of optimizer state per parameter, all that persists between steps.
"""

ALLOWS = """\
## What the memory allows

A step must read weights, gradients and state once, and write weights and state once. In float32
that is {adamw} bytes per parameter for AdamW and {sgd} for SGD with momentum and for Lion. Rules
add to it what they cannot know in one pass:

| rule | bytes more | for |
|---|---|---|
| `Stable` | {stable} | the gradients' norm, before a weight changes; a clip has it |
| `Adaptive` | {adaptive} | the norms of the gradients and of the weights |
| `Anchored` to tensors | {anchored} | the anchor |
| `NormControl` | {control} | the norm of the weights, before they change |
| `ProximalNorm` | {norm} | the norm of the result, which is read and written once more |

The limit is these bytes at the speed of `a += b` or `a *= c` on long vectors in the same round, the
faster of the two. It is the speed of torch's own loops and not the hardware's last word.

## What still separates us from it

Times fused, unless it says otherwise.

- **Rules of one fraction** are torch's kernel with other scalars: {affine}; the noise alone is
  {noise}. The kernel itself takes {kernel} times the limit.
- **`Stable`** reads the gradients a second time: {stable_ratio}, by the bytes {stable_bytes:.2f}.
  After `halflife.clip_grad_norm_`, which hands its norms over, clip and step are {handed} times
  torch's clip and fused step.
- **Maps, eager**: {eager}. A map reads the weights and what it looks at, and writes the weights,
  and torch's kernel does the same before or after it. `Cautious` so moves {twice} bytes for
  {adamw}, a ratio of {twice_ratio:.2f}. The rest is passes within the cache, one for each operation
  on a piece: two or three in most maps, four in `Cautious`, more and a square root where the metric
  is needed, two transcendental functions in `PowerDecay`.
- **Maps, compiled** (`implementation="compiled"`): {compiled}; {compiled_limit} times the limit. It
  is one pass over the memory; beyond that, the arithmetic of the rule and the calls.
- **SGD, `Decoupled`**: {sgd_decoupled}. The weights are multiplied before torch's kernel, whose own
  decay is L2: 8 bytes more than {sgd}. Compiled it is one pass: {sgd_compiled}.
- **Lion**, which torch has not, runs as single operations: {lion} times the limit.

Beyond the state of torch's own optimizer a rule keeps only what the tables show: `Stable` one
float64 for each tensor, `Anchored` its anchors, which may be kept in bfloat16.
"""


ON_A_DEVICE = """\
## On an accelerator

One step beside torch's fused one of the same optimizer, on the same tensors and in the same round;
the clock is read once the device has finished. **native** is torch's kernel with the rule beside
it, **compiled** one pass for both (`implementation=`; for what it is if left open, see
[below](#what-is-chosen-on-a-gpu)). **peak**: the most memory that a step holds beside weights,
gradients and state.
"""
COUNTED = """\
### Operations

There every operation has to be launched, whatever its size. What one step with decay due
dispatches, views included, is counted without a device, on tensors that have shapes only
(`python -m benchmarks operations`): large tensors, above 65,536 elements, go whole, and small ones
together. `tests/test_operations.py` holds every rule, optimizer and precision to it.
"""
LAB = """\
## The lab

What a cell of a [sweep](lab.md) takes, by who trains it, and what a record in the ledger adds
(`python -m benchmarks lab`). All executors take turns on the same cells; starting the processes is
not counted. Shown are the median over the rounds and their range. The lab's choice, made by timing
some steps before a sweep begins, is marked.
"""
NOT_MEASURED = (
    "Not measured: run `make test-gpu` where there is a GPU, and then this page's script."
)


def page(
    results: dict[str, Any],
    counts: list[dict[str, Any]],
    of_lab: dict[str, Any],
    device: dict[str, Any] | None = None,
) -> str:
    """The page.

    Args:
        results: of the rules benchmark.
        counts: of the operations benchmark.
        of_lab: of the benchmark of the lab.
        device: of the accelerator benchmark, where it has been run.
    """
    machine, everything = results["machine"], results["rules"]
    threads = everything[0]["threads"]
    models = [m for m in everything if m["threads"] == threads]
    lines = [
        HEAD,
        f"Machine: {machine['processor']}, {machine['cores']} cores of which {threads} used, torch "
        f"{machine['torch']}, Python {machine['python']}.",
        "",
        *verdicts(models),
    ]
    for model in models:
        lines += ["", *section(model)]
    if len(models) < len(everything):
        lines += ["", *by_threads(everything)]
    lines += ["", ON_A_DEVICE, *(device_section(device) if device else [NOT_MEASURED])]
    lines += ["", *choice_section.section()]
    lines += ["", COUNTED, *counted(counts), "", LAB, *lab_section(of_lab)]
    return "\n".join([*lines, "", ALLOWS.format(**figures(models))])


def verdicts(models: list[dict[str, Any]]) -> list[str]:
    """How many targets are met, and a table of those that are not."""
    rows = [(m["model"], row) for m in models for row in m["rows"] if "verdict" in row]
    met = sum(row["verdict"] == "met" for _, row in rows)
    missed = [(model, row) for model, row in rows if row["verdict"] == "missed"]
    near = len(rows) - met - len(missed)
    told = f"Of {len(rows)} targets {met} are met, {near} within noise, {len(missed)} missed"
    if not missed:
        return [f"{told}."]
    lines = [f"{told}:", "", "| missed | model | measured | target |", "|---|---|---|---|"]
    for model, row in missed:
        measured = spread(row, "of_peer" if "ours" in row else "ratio")
        target = row["ours"] if "ours" in row else f"at most {row['target']:.2f}"
        lines.append(f"| {row['name']} | {model} | {measured} | {target} |")
    return lines


def section(model: dict[str, Any]) -> list[str]:
    """One model."""
    rows = model["rows"]
    settled = "; each timed right after a step of its own" if model["settled"] else ""
    lines = [
        f"## {model['model']}",
        "",
        f"{model['tensors']} tensors, {model['parameters'] / 1e6:.1f} million parameters; "
        f"{model['rounds']} rounds{settled}. The memory's speed: {speed(model):.1f} GB/s.",
        "",
        "| | time | fused | default | limit | state | target |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "ours" not in row:
            lines.append(cells(row))
    lines += [
        "",
        f"Other packages, with the setting that gives the rule; {model['peer_rounds']} rounds.",
        "",
        "| package | time | fused | default | limit | state | ours over theirs |",
        "|---|---|---|---|---|---|---|",
    ]
    return [*lines, *(cells(row) for row in rows if "ours" in row)]


def device_section(results: dict[str, Any]) -> list[str]:
    """What was measured on an accelerator."""
    machine, measured = results["machine"], results["accelerator"]
    lines = [
        f"Device: {measured['device']}, torch {machine['torch']}, Python {machine['python']}.",
    ]
    for model in measured["models"]:
        lines += [
            "",
            f"### {model['model']} in {model['dtype']}",
            "",
            f"{model['tensors']} tensors, {model['parameters'] / 1e6:.1f} million parameters; "
            f"{model['rounds']} rounds.",
            "",
            "| | time | fused | peak |",
            "|---|---|---|---|",
        ]
        for row in model["rows"]:
            if "missing" in row:
                lines.append(f"| {row['name']} | not measured: {row['missing']} | | |")
                continue
            peak = "" if row["peak"] is None else f"{row['peak'] / 2**20:.1f} MiB"
            time = row["seconds"]["median"] * 1e3
            lines.append(
                f"| {row['name']} | {time:.3f}&nbsp;ms | {spread(row, 'ratio')} | {peak} |"
            )
    return lines


def counted(models: list[dict[str, Any]]) -> list[str]:
    """How many operations a step dispatches: a row for each rule, a column for each model."""
    heads = [f"{m['model']}, {dtype}" for m in models for dtype in next(iter(m["rows"].values()))]
    lists = [f"{m['model']} has {m['tensors']} tensors, {m['large']} of them large" for m in models]
    lines = [
        f"{'; '.join(lists)}.",
        "",
        f"| | {' | '.join(heads)} |",
        f"|---|{'---|' * len(heads)}",
    ]
    for name in models[0]["rows"]:
        counts = [f"{count:,}" for m in models for count in m["rows"][name].values()]
        lines.append(f"| {name} | {' | '.join(counts)} |")
    return lines


def lab_section(results: dict[str, Any]) -> list[str]:
    """Who trains the cells of a sweep, and where they are recorded."""
    machine, measured = results["machine"], results["lab"]
    lines = [
        f"Machine: {machine['processor']}, {machine['cores']} cores, one thread a process, torch "
        f"{machine['torch']}, Python {machine['python']}.",
        "",
        "| training | by | ms a cell | over the fastest |",
        "|---|---|---|---|",
    ]
    for row in measured["executors"]:
        time, low, high = (f"{1e3 * row[key]:.1f}" for key in ("seconds", "low", "high"))
        by = f"**{row['executor']}**, chosen" if row["chosen"] else row["executor"]
        lines.append(f"| {row['training']} | {by} | {time} ({low}-{high}) | {row['best']:.2f} |")
    lines += [
        "",
        f"Digits stacked train {measured['stacking']:.1f} times as fast a core as one by one (at "
        f"least {STACKING} is required); a second process makes a plain loop "
        f"{measured['scaling']:.2f} times as fast; the lab's slowest choice takes "
        f"{measured['worst_choice']:.2f} times the best (at most {CHOICE}): {measured['verdict']}.",
        "",
        "| ledger | ms a record, first | later | when so many are there |",
        "|---|---|---|---|",
    ]
    return lines + [
        f"| {row['ledger']} | {row['first']:.1f} | {row['last']:.1f} | {row['there']:,} |"
        for row in measured["ledgers"]
    ]


def by_threads(models: list[dict[str, Any]]) -> list[str]:
    """The ratio to torch's fused kernel on as many threads: a column for each model and number."""
    names = list(dict.fromkeys(row["name"] for model in models for row in model["rows"]))
    heads = [f"{m['model']}, {m['threads']}" for m in models]
    lines = [
        "## With more threads",
        "",
        "The column **fused** again, torch's kernel and ours on as many threads as the head says.",
        "",
        f"| | {' | '.join(heads)} |",
        f"|---|{'---|' * len(heads)}",
    ]
    for name in names:
        found = [next((r for r in m["rows"] if r["name"] == name), {}) for m in models]
        shown = [spread(row, "ratio") for row in found]
        if any(shown):
            lines.append(f"| {name} | {' | '.join(shown)} |")
    return lines


def cells(row: dict[str, Any]) -> str:
    """One row."""
    if "missing" in row:
        return f"| {row['name']} | not measured: {row['missing']} | | | | | |"
    told = f"at most {row['target']:.2f}: {row['verdict']}" if "target" in row else ""
    if "of_peer" in row:
        told = f"{row['ours']}: {spread(row, 'of_peer')}, {row['verdict']}"
    time = f"{row['seconds']['median'] * 1e3:.2f}&nbsp;ms"
    return (
        f"| {row['name']} | {time} | {spread(row, 'ratio')} | {median(row, 'of_default')} "
        f"| {median(row, 'of_limit')} | {row['state_bytes']:.2f} | {told} |"
    )


def figures(models: list[dict[str, Any]]) -> dict[str, Any]:
    """What the discussion names."""

    def each(key: str, *names: str, kind: str = "") -> str:
        told = []
        for model in models:
            values = [
                row[key]["median"]
                for row in model["rows"]
                if key in row and (row["name"] in names or (kind and kinds(row) == kind))
            ]
            if values:
                low, high = f"{min(values):.2f}", f"{max(values):.2f}"
                told.append(f"{low if low == high else f'{low} to {high}'} on {model['model']}")
        return ", ".join(told) or "not measured"

    adamw = TRAFFIC["AdamW"]
    twice = adamw + 16  # reads weights, gradient and first moment once more, writes the weights
    return {
        "adamw": adamw,
        "sgd": TRAFFIC["SGD"],
        "stable": ADDED["Stable"],
        "adaptive": ADDED["Adaptive"],
        "anchored": ADDED["Anchored"],
        "control": ADDED["NormControl"],
        "norm": ADDED["ProximalNorm"],
        "affine": each("ratio", kind="affine"),
        "noise": each("ratio", AGAIN),
        "kernel": each("of_limit", FUSED),
        "stable_ratio": each("ratio", "AdamW Stable"),
        "stable_bytes": (adamw + ADDED["Stable"]) / adamw,
        "handed": each("ratio", "clip + AdamW Stable"),
        "eager": each("ratio", kind="eager"),
        "twice": twice,
        "twice_ratio": twice / adamw,
        "compiled": each("ratio", kind="compiled"),
        "compiled_limit": each("of_limit", kind="compiled"),
        "sgd_decoupled": each("ratio", "SGD Decoupled"),
        "sgd_compiled": each("ratio", "SGD Decoupled, compiled"),
        "lion": each("of_limit", "Lion Decoupled"),
    }


def kinds(row: dict[str, Any]) -> str:
    """Which of the discussion's kinds a row belongs to."""
    if row["group"] != "AdamW":
        return ""
    if row["name"].endswith(", compiled"):
        return "compiled"
    return {1.03: "affine", 2.0: "eager"}.get(row.get("target", 0.0), "")


def speed(model: dict[str, Any]) -> float:
    """Of the memory, in GB/s."""
    row = model["rows"][0]
    return row["traffic_bytes"] * model["parameters"] / row["limit_seconds"]["median"] / 1e9


def median(row: dict[str, Any], key: str) -> str:
    return f"{row[key]['median']:.2f}" if key in row else ""


def spread(row: dict[str, Any], key: str) -> str:
    return timing.spread(row.get(key))


def read(
    source: Path = RESULTS,
) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any], dict[str, Any] | None]:
    """The results that the page is written from."""
    there = DEVICE_RESULTS.exists()
    device = json.loads(DEVICE_RESULTS.read_text("utf-8")) if there else None
    counts = json.loads(COUNTS.read_text("utf-8"))["operations"]
    of_lab = json.loads(LAB_RESULTS.read_text("utf-8"))
    return json.loads(source.read_text("utf-8")), counts, of_lab, device


if __name__ == "__main__":
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    PAGE.write_text(page(*read(source)), "utf-8")
