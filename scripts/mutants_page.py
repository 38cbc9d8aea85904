"""Write docs/mutants.md from the results of scripts/mutants.py.

python scripts/mutants.py --page
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "tests" / "mutants" / "results.json"
EQUIVALENT = ROOT / "tests" / "mutants" / "equivalent.json"
PAGE = ROOT / "docs" / "mutants.md"

Equivalents = Mapping[tuple[str, str], str]

HEAD = """\
# What the tests notice

<!-- Written by scripts/mutants.py from tests/mutants: run that, do not edit this. -->

A mutant is the package with one small change in one line: a comparison or a sign turned, a number
changed, a condition negated, a statement, a keyword argument or a context left out. It is *killed*
if a test fails and *survives* if none does: then a test is missing, or the mutant is *equivalent*,
because nothing that a test may assert is changed. Those are listed below, with the reason.

```console
$ python scripts/mutants.py --workers 2                       # all of the core
$ python scripts/mutants.py src/halflife/rules/wish.py        # one module
$ python scripts/mutants.py --every 4                         # a quarter of each module's mutants
$ python scripts/mutants.py --again survived --budget 120     # with more tests for each survivor
```

Run are the fast tests of `tests/` itself and the examples in docstrings, for each mutant those that
were on its lines, until one fails. `make test-slow`, where a compiler or another process is needed,
and the tests of diagnostics, theory, lab and command line are not.
"""

EQUIVALENTS = """\
## Equivalent

Written by hand, in `tests/mutants/equivalent.json`.
"""


def read_equivalents() -> dict[tuple[str, str], str]:
    """Why a mutant changes nothing that a test may assert, by module and mutant."""
    if not EQUIVALENT.exists():
        return {}
    table = json.loads(EQUIVALENT.read_text(encoding="utf-8"))
    return {
        (module, mutant): reason
        for module, reasons in table.items()
        for reason, mutants in reasons.items()
        for mutant in mutants
    }


class Counts:
    """What is known of one module's mutants."""

    def __init__(self, name: str, result: dict[str, Any], equivalents: Equivalents) -> None:
        judged = result["mutants"]
        own = {k for k in judged if (name, k) in equivalents}
        self.all, self.run, self.equivalent = result["of"], len(judged), len(own)
        self.killed = sum(v["outcome"] == "killed" for k, v in judged.items() if k not in own)
        rest = {k: v for k, v in judged.items() if k not in own}
        self.survived = sorted(k for k, v in rest.items() if v["outcome"] != "killed")
        self.at_first = sum(v.get("first") == "killed" for v in rest.values())
        self.last = max((v["on"] for v in judged.values()), default="")

    def row(self, name: str) -> str:
        cells = (f"`{name}`", self.all, self.run, self.killed, len(self.survived), self.equivalent)
        return f"| {' | '.join(map(str, cells))} | {self.score} | {self.last} |"

    @property
    def score(self) -> str:
        counted = self.killed + len(self.survived)
        return f"{self.killed / counted:.1%}" if counted else "-"


def page(results: dict[str, Any], equivalents: Equivalents) -> str:
    """The page."""
    counts = {n: Counts(n, r, equivalents) for n, r in sorted(results.items()) if r["of"]}
    total = Counts("", {"mutants": {}, "of": 0}, {})
    for c in counts.values():
        for field in ("all", "run", "killed", "survived", "equivalent", "at_first"):
            setattr(total, field, getattr(total, field) + getattr(c, field))
        total.last = max(total.last, c.last)
    lines = [
        HEAD,
        f"Of {total.all} mutants of {len(counts)} modules {total.run} have been run: "
        f"{total.killed} were killed, {len(total.survived)} survived and {total.equivalent} are "
        f"equivalent. **{total.score}** of those that are not equivalent were killed, and "
        f"{total.at_first / max(total.killed + len(total.survived), 1):.1%} when they were first "
        "run, before tests were written for the others: that is what to expect of the mutants that "
        "have not been run. Where fewer were run than there are, it was every n-th of the module, "
        "from a start drawn by a seed.\n",
        "| module | mutants | run | killed | survived | equivalent | score | last run |",
        "|---|---|---|---|---|---|---|---|",
        *(c.row(_short(name)) for name, c in counts.items()),
        f"{total.row('all').replace('`', '**')}\n",
    ]
    if total.survived:
        lines += ["## Survived\n", "| module | mutant |", "|---|---|"]
        lines += [f"| `{_short(n)}` | {_code(m)} |" for n, c in counts.items() for m in c.survived]
        lines += [""]
    if equivalents:
        lines += [EQUIVALENTS, "| module | mutant | why |", "|---|---|---|"]
        lines += [f"| `{_short(n)}` | {_code(m)} | {why} |" for (n, m), why in equivalents.items()]
    return "\n".join(lines).rstrip() + "\n"


def _short(name: str) -> str:
    return name.removeprefix("src/halflife/")


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")


def score(name: str, result: dict[str, Any], equivalents: Equivalents) -> str:
    """One module's result in a line."""
    c = Counts(name, result, equivalents)
    return f"{c.run} of {c.all} run: {c.score} killed, {len(c.survived)} survived"


def write_page() -> None:
    """Write the page."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    PAGE.write_text(page(results, read_equivalents()), encoding="utf-8")
