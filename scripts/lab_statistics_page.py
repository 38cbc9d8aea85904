"""Write docs/lab_statistics.md from the results of scripts/lab_simulation.py.

python scripts/lab_simulation.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "lab_statistics.json"
PAGE = ROOT / "docs" / "lab_statistics.md"

HEAD = """\
# What the lab's verdicts are worth

<!-- Written by scripts/lab_simulation.py from lab_statistics.json: run that, do not edit this. -->

Sweeps whose truth is known, given to the statistics of the lab. The noise between seeds is 1, so
that everything here is in units of it. Settings are chosen by the selection seeds and judged on
fresh ones; there is also a setting of torch's default, half as good as the best one.

```console
$ python scripts/lab_simulation.py
```

**Covered** is how often a 95 % interval holds the truth: of the leader's value, and of its gain
over no decay. **Bias** is what the headline value is off by, on average; beside it, what the lowest
mean of all would be off by. **Helps** and **hurts** are the verdicts; where the gain is 0 each is
false, and should not come more often than in 2.5 % of sweeps. **Told wrongly**: a rule, or torch's
default, that the leader is said to be better than and is not, after Holm. **Best within noise**:
how often the set of settings within the noise holds the truly best one, and its share of all.
"""

_COMMON = (
    ("gain", "gain"),
    ("value covered", "value covered"),
    ("gain covered", "gain covered"),
    ("bias", "bias"),
    ("bias of lowest", "of the lowest mean"),
    ("helps", "helps"),
    ("hurts", "hurts"),
    ("rules told wrongly", "told wrongly"),
    ("repetitions", "sweeps"),
)

# Name of a table, its heading, what is said above it, and (key, title) of its columns.
TABLES: Sequence[tuple[str, str, str, Sequence[tuple[str, str]]]] = (
    (
        "verdicts",
        "Rules, seeds and cells",
        "Eight fresh seeds, normal noise.",
        (("rules", "rules"), ("size", "size"), ("seeds", "selection seeds"), *_COMMON),
    ),
    (
        "noise",
        "Other noise",
        "Four rules, 9 x 9 settings, three selection seeds, eight fresh ones. Heavy: Student's t "
        "with 3 degrees of freedom. Uneven: from half as much at the lowest lr to twice as much at "
        "the highest. Shared: half of the variance shifts all settings of a seed alike. Binomial: "
        "wrong answers of 500, 0.2 % at best, in points of percent; 1 of gain is 0.3 points.",
        (("noise", "noise"), *_COMMON),
    ),
    (
        "fresh",
        "How many fresh seeds",
        "Four rules, 9 x 9 settings, three selection seeds. Equal: how often the leader and no "
        "decay are called equal within one noise.",
        (("confirm", "fresh seeds"), *_COMMON[:-1], ("equal", "equal"), _COMMON[-1]),
    ),
    (
        "choice",
        "Which setting is chosen",
        "How much worse than the best setting the chosen one truly is, and how much worse the one "
        "with the lowest mean would be. Cliffs stand beside the valley, 15 and 20 noises high.",
        (
            ("shape", "shape"),
            ("size", "size"),
            ("seeds", "selection seeds"),
            ("gain", "gain"),
            ("lost", "lost by the choice"),
            ("lost by lowest", "by the lowest mean"),
            ("best within noise", "best within noise"),
            ("within noise", "share within noise"),
            ("repetitions", "sweeps"),
        ),
    ),
)


def page(results: Mapping[str, Any]) -> str:
    """The page."""
    parts = [HEAD, _summary(results["verdicts"])]
    for name, heading, words, columns in TABLES:
        parts.append(f"## {heading}\n\n{words}\n")
        parts.append(f"| {' | '.join(title for _, title in columns)} |")
        parts.append("|" + "---|" * len(columns))
        for row in results[name]:
            cells = [_cell(key, row[key]) for key, _ in columns]
            parts.append(f"| {' | '.join(cells)} |")
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def _summary(rows: Sequence[Mapping[str, Any]]) -> str:
    nothing, gain = ([r for r in rows if bool(r["gain"]) is some] for some in (False, True))
    covered = " and ".join(f"{_pooled(rows, f'{name} covered'):.1%}" for name in ("value", "gain"))
    return (
        f"In all {sum(r['repetitions'] for r in rows):,} sweeps of the first table together, the "
        f"intervals hold value and gain in {covered}; where nothing helps, decay is said to help "
        f"in {_pooled(nothing, 'helps'):.1%} and to hurt in {_pooled(nothing, 'hurts'):.1%}; a "
        f"gain of 1.6 is seen in {_pooled(gain, 'helps'):.0%}.\n"
    )


def _pooled(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    count = sum(row["repetitions"] for row in rows)
    return float(sum(row[key] * row["repetitions"] for row in rows) / count)


def _cell(key: str, value: Any) -> str:
    if key == "size":
        return f"{value} x {value}"
    if not isinstance(value, float):
        return str(value)
    if key == "gain":
        return f"{value:g}"
    return f"{value:.3f}".replace("-", "\N{MINUS SIGN}")


def write_page() -> None:
    """Write the page."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    PAGE.write_text(page(results), encoding="utf-8")
