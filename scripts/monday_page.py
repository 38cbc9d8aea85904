"""Write the trainings of docs/monday_morning.md into that page, and draw them.

    python scripts/monday_page.py             the tables and the figure, from what is kept: seconds
    python scripts/monday_page.py --train     train it all again before: two minutes of one core

The two sweeps are those that the page shows as commands, of examples/monday_morning.py. What their
trainings come to is kept in docs/assets/monday.json. What stands in the page between <!-- monday:
NAME --> and <!-- end --> is written here.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import statistics
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "monday_morning.md"
EXAMPLE = ROOT / "examples" / "monday_morning.py"
KEPT = ROOT / "docs" / "assets" / "monday.json"
FIGURE = ROOT / "docs" / "assets" / "monday.svg"
TASKS = {"messy": "a fifth of the labels wrong", "clean": "all labels right"}
VALUES = (0.1, 1.667, 5.0, 16.67)
SEEDS, CONFIRM = 5, 12


def example() -> Any:
    """examples/monday_morning.py, as a module that workers find by name."""
    sys.path.insert(0, str(EXAMPLE.parent))
    spec = importlib.util.spec_from_file_location("monday_morning", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["monday_morning"] = module
    spec.loader.exec_module(module)
    return module


def swept(task: str, out: str, **changed: Any) -> Any:
    """The sweep of the page."""
    from halflife import lab

    settings: dict[str, Any] = {
        "weight_decay": VALUES,
        "seeds": SEEDS,
        "confirm": CONFIRM,
        "executor": lab.InProcess(),
        **changed,
    }
    return lab.sweep(
        getattr(example(), task),
        out=out,
        lr=[1e-3],
        choose=lab.Metric("val", "%"),
        report=lab.Metric("test", "%"),
        default=False,
        extend=False,
        name=f"monday_morning:{task}",
        progress=False,
        **settings,
    )


def trainings(result: Any) -> list[dict[str, Any]]:
    """What its trainings came to."""
    return [
        {
            "weight_decay": round(cell["weight_decay"], 6),
            "seed": cell["seed"],
            "val": round(cell["metrics"]["val"], 4),
            "test": round(cell["metrics"]["test"], 4),
        }
        for cell in result.cells()
        if cell["status"] == "done"
    ]


def kept(result: Any) -> dict[str, Any]:
    """What is kept of a sweep."""
    return {
        "sentence": result.sentence,
        "verdict": result.verdict,
        "chosen": round(result.best.weight_decay, 6),
        "gain": result.confirmed.gain,
        "interval": list(result.confirmed.gain_interval),
        "trainings": sorted(trainings(result), key=lambda row: (row["weight_decay"], row["seed"])),
    }


def train() -> None:
    """Train all, and keep it."""
    import torch

    torch.set_num_threads(1)
    found = {}
    for task in TASKS:
        with tempfile.TemporaryDirectory() as out:
            found[task] = kept(swept(task, out))
    lines = []
    for task, sweep in found.items():
        rows = ",\n".join(f"      {json.dumps(row)}" for row in sweep.pop("trainings"))
        head = json.dumps(sweep, indent=4)[:-2]
        lines.append(f'  "{task}": {head},\n    "trainings": [\n{rows}\n    ]\n  }}')
    KEPT.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


def by_choice(sweep: dict[str, Any]) -> dict[float, list[dict[str, Any]]]:
    """The trainings by which settings are chosen, by weight decay; none is 0."""
    rows: dict[float, list[dict[str, Any]]] = {}
    for row in sweep["trainings"]:
        if row["seed"] < SEEDS:
            rows.setdefault(row["weight_decay"], []).append(row)
    return rows


def values_table(found: dict[str, Any]) -> str:
    """Timescale, what is left, and the validation error of each value."""
    module = example()
    steps = module.EPOCHS * module.STEPS_PER_EPOCH
    lines = [
        "| `weight_decay` | timescale | removed in the run | error, messy | error, clean |",
        "|---|---|---|---|---|",
    ]
    names = {0.0: "0", 0.1: "0.1, as it was", 1.667: "1.667", 5.0: "5", 16.67: "16.67"}
    for value, name in names.items():
        timescale = "none"
        left = math.prod(
            1 - module.LR * value * 0.5 * (1 + math.cos(math.pi * t / steps)) for t in range(steps)
        )
        if value:
            ratio = 1 / (module.LR * value * steps)
            share = f"{ratio:.0f} runs" if ratio > 1.5 else "the run"
            timescale = share if ratio > 0.9 else f"1/{1 / ratio:.0f} of the run"
        cells = [name, timescale, f"{100 * (1 - left):.0f} %"]
        for task in TASKS:
            errors = [row["val"] for row in by_choice(found[task])[value]]
            noise = statistics.stdev(errors) / len(errors) ** 0.5
            cells.append(f"{statistics.mean(errors):.1f} ± {noise:.1f} %")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def sentence(task: str, found: dict[str, Any]) -> str:
    """What the sweep says."""
    text = found[task]["sentence"].replace("_", "\\_").replace("[", "\\[")
    return "\n".join(f"> {line}" for line in textwrap.wrap(text, 110))


def points(sweep: dict[str, Any]) -> list[tuple[float, float]]:
    """Weight decay and gain over none in points of validation error, of each seed."""
    rows = by_choice(sweep)
    none = {row["seed"]: row["val"] for row in rows[0.0]}
    return [(v, none[r["seed"]] - r["val"]) for v in rows if v for r in rows[v]]


def figure(found: dict[str, Any]) -> str:
    """Gain over no decay at each value: dots are seeds, lines their means."""
    width, height, left, top = 460, 270, 34, 34
    inner, gap, bottom = 170, 48, height - 60
    low, high = -8.0, 4.0

    def y(gain: float) -> float:
        return top + (high - max(gain, low)) / (high - low) * (bottom - top)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="13" fill="#777">'
    ]
    for number, (task, title) in enumerate(TASKS.items()):
        start = left + number * (inner + gap)
        parts.append(f'<text x="{start}" y="18" font-weight="bold">{title}</text>')
        for gain in (-8, -4, 0, 4):
            dash = "" if gain == 0 else ' stroke-dasharray="2 4"'
            parts.append(
                f'<line x1="{start}" x2="{start + inner}" y1="{y(gain):.1f}" y2="{y(gain):.1f}" '
                f'stroke="#777" stroke-width="1"{dash}/>'
            )
            text = f"{gain:+d}" if gain else "0"
            parts.append(
                f'<text x="{start - 8}" y="{y(gain) + 4:.1f}" text-anchor="end">{text}</text>'
            )
        found_points = points(found[task])
        for place, value in enumerate(VALUES):
            x = start + inner * (place + 0.5) / len(VALUES)
            gains = [gain for v, gain in found_points if abs(v - value) < 1e-6]
            for gain in gains:
                outside = gain < low
                shape = (
                    f'<path d="M{x - 4:.1f} {y(low) - 5:.1f}h8l-4 7z" '
                    if outside
                    else f'<circle cx="{x:.1f}" cy="{y(gain):.1f}" r="4" '
                )
                parts.append(shape + 'fill="#0072b2" fill-opacity="0.55"/>')
            mean = statistics.mean(gains)
            if mean >= low:
                parts.append(
                    f'<line x1="{x - 14:.1f}" x2="{x + 14:.1f}" y1="{y(mean):.1f}" '
                    f'y2="{y(mean):.1f}" stroke="#d55e00" stroke-width="3"/>'
                )
            else:
                parts.append(
                    f'<text x="{x:.1f}" y="{y(low) - 14:.1f}" text-anchor="middle" '
                    f'fill="#d55e00">{mean:.0f}</text>'
                )
            parts.append(
                f'<text x="{x:.1f}" y="{bottom + 22}" text-anchor="middle">{value:g}</text>'
            )
        parts.append(
            f'<text x="{start + inner / 2}" y="{bottom + 44}" text-anchor="middle">'
            "weight_decay</text>"
        )
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def written(page: str, found: dict[str, Any]) -> str:
    """The page as it should be, apart from the outputs of its commands."""
    texts = {"values": values_table(found), **{task: sentence(task, found) for task in TASKS}}

    def write(match: re.Match[str]) -> str:
        return f"<!-- monday: {match[1]} -->\n\n{texts[match[1]]}\n\n<!-- end -->"

    return re.sub(r"<!-- monday: (\w+) -->\n.*?<!-- end -->", write, page, flags=re.S)


def main() -> None:
    """Write the page and the figure."""
    if "--train" in sys.argv[1:]:
        train()
    found = json.loads(KEPT.read_text("utf-8"))
    FIGURE.write_text(figure(found), "utf-8")
    sys.path.insert(0, str(ROOT / "scripts"))
    from recipe_pages import with_outputs

    os.chdir(EXAMPLE.parent)
    PAGE.write_text(with_outputs(written(PAGE.read_text("utf-8"), found)), "utf-8")


if __name__ == "__main__":
    main()
