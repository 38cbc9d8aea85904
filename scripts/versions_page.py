"""Write docs/versions.md from what `make compat` has run: python scripts/versions_page.py."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "versions.json"
PAGE = ROOT / "docs" / "versions.md"

HEAD = """\
# Versions

<!-- Written by scripts/versions_page.py from docs/versions.json: edit neither; run make compat. -->

torch {torch} and newer, Python 3.10 to 3.14, numpy {numpy} and newer; the table says which of them
have been run. Development is with what
`constraints.txt` pins; with another torch, the whole suite runs by

```console
$ make compat TORCH=2.6.0                               # the other pins as they are
$ make compat TORCH=2.6.0 PYTHON=python3.10 OLDEST=1    # numpy and the extras at their lower bounds
$ make compat NEWEST=1                                  # everything as new as there is
$ make compat SMOKE=1 PYTHON=python3.12                 # imports, and a part of the suite
```

in an environment of its own, which is removed afterwards. Each run writes its row here; `AGAIN=1`
runs only what had failed, and the row says how many tests.
"""

KINDS = {
    "pinned": "the pins",
    "oldest": "the lower bounds",
    "newest": "the newest",
    "smoke": "the pins; a part",
}

OLDER = """\
## What an older torch lacks

What it has not is refused by name where it is used, with the version that brought it; the rest
works.

| since torch | what | before |
|---|---|---|
| 2.13 | `torch.compile(isolate_recompiles=)` | each compiled kernel has a code object of its own |
| 2.12 | Adagrad makes its state at the first step | made for groups that are added later too |
| 2.9 | `torch.optim.Muon` | `halflife.Muon` says so when it is built |
| 2.7 | `Adam(decoupled_weight_decay=)` | it chooses our rule; the decay is a pass of its own |
| 2.6 | the oldest that is tested | |

Tests that look at what torch itself did otherwise are skipped there, with the reason:
"""

EXTRAS = """\
## Extras

| extra | packages, and the lowest versions that are tested |
|---|---|
{rows}

transformers before 5.2 hands its optimizer factories no model:
[Frameworks](frameworks.md#hugging-face-trainer). The lab's ledger locks its files by `flock`, and
on Windows by `msvcrt.locking`; neither needs a package.
"""


def page(records: Sequence[dict[str, Any]]) -> str:
    """The page."""
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    bounds = dict(re.findall(r'"(torch|numpy)>=([\d.]+)"', project))
    lines = [HEAD.format(**bounds), "## What was run", ""]
    lines += ["| torch | Python | numpy | with | passed | skipped | failed | on |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    lines += map(row, reversed(records))
    lines += [
        "",
        *failures(records),
        OLDER,
        *reasons(records),
        "",
        EXTRAS.format(rows=extras(project)),
    ]
    return "\n".join(lines).rstrip() + "\n"


def row(record: dict[str, Any]) -> str:
    """One run."""
    versions = record["versions"]
    again = f" ({record['again']} run again)" if "again" in record else ""
    cells = [
        versions["torch"].partition("+")[0],
        versions["python"],
        versions["numpy"],
        KINDS[record["kind"]],
        f"{record['passed']:,}",
        f"{sum(record['skipped'].values()):,}",
        f"{len(record['failed'])}{again}",
        record["date"],
    ]
    return f"| {' | '.join(cells)} |"


def failures(records: Sequence[dict[str, Any]]) -> list[str]:
    """What failed where, and what it said."""
    lines = []
    for record in reversed(records):
        for test, why in record["failed"].items():
            torch = record["versions"]["torch"].partition("+")[0]
            lines.append(f"- torch {torch}, {KINDS[record['kind']]}: `{test}`: {escaped(why)}")
    return ["What failed:", "", *lines, ""] if lines else []


def reasons(records: Sequence[dict[str, Any]]) -> list[str]:
    """Why tests were skipped that are about a version of torch."""
    most: dict[str, int] = {}
    for record in records:
        for reason, count in record["skipped"].items():
            if re.search(r"torch [\d.]+", reason):
                most[reason] = max(count, most.get(reason, 0))
    return [
        f"- {escaped(reason)} ({count} test{'s' * (count > 1)})"
        for reason, count in sorted(most.items())
    ]


def escaped(text: str) -> str:
    """Text of a test, for Markdown."""
    return re.sub(r"([<>*_`|\[\]])", r"\\\1", text)


def extras(project: str) -> str:
    """The extras that a user installs, from pyproject.toml."""
    table = project[project.index("[project.optional-dependencies]") :]
    found = re.findall(r"^([\w-]+) = \[(.*?)\]$", table[: table.index("\ndocs = ")], re.M | re.S)
    return "\n".join(
        f"| `{name}` | {', '.join(re.findall(chr(34) + '([^' + chr(34) + ']+)' + chr(34), text))} |"
        for name, text in found
    )


if __name__ == "__main__":
    PAGE.write_text(page(json.loads(RESULTS.read_text("utf-8"))), "utf-8")
