"""Write docs/algorithms.md from the catalogue: python scripts/algorithms_page.py."""

from __future__ import annotations

from pathlib import Path

from halflife.algorithms import AMBIGUOUS, Algorithm, algorithms

PAGE = Path(__file__).resolve().parent.parent / "docs" / "algorithms.md"

HEAD = """\
# Algorithms by name

<!-- Written by scripts/algorithms_page.py from halflife.algorithms: edit that, not this. -->

Every algorithm of the papers on weight decay, and those they compare with, by its published name:

```python
from halflife.algorithms import algorithm, algorithms, create

print(algorithms())  # this page as a table
optimizer = create("adams", model.parameters(), lr=3e-4)
```

An entry is an optimizer, a decay rule and the paper's settings; what you pass overrides them. Its
weight decay is in the unit of its paper. Where an entry has a schedule,
`algorithm(name).schedule(optimizer, ...)` builds it.

In the equations `u` is the direction of the optimizer without decay, `alpha` the peak lr, `eta` the
schedule's multiplier, `lr = alpha eta`, and `lambda` the weight decay. `b1` and `b2` are torch's
betas.

torch's SGD multiplies its momentum buffer by the lr of the step; Loshchilov & Hutter's Algorithm 1
has the lr inside the buffer, which under a schedule is another update. Only the entries named
`*_paper` on `HeavyBall` run it so: there is no argument that switches it.

Each is tested against a float64 transcription of its paper, but where paper and practice differ:
{code} transcribe their authors' code or code in public use, {torch} torch's.
"""


def transcribed(what: str) -> str:
    """The entries whose source is code of this kind, as a list of words."""
    *names, last = (f"`{entry.name}`" for entry in algorithms() if what in entry.source)
    return f"{', '.join(names)} and {last}"


def page() -> str:
    """The page."""
    head = HEAD.format(code=transcribed("code"), torch=transcribed("torch"))
    lines = [head, "| Name | Optimizer | Rule | Published by |", "|---|---|---|---|"]
    for entry in algorithms():
        paper = entry.paper.split(",")[0]
        link = f"[`{entry.name}`](#{entry.name})"
        rule = "" if entry.rule is None else f"`{entry.rule_name}`"
        lines.append(f"| {link} | {entry.optimizer_name} | {rule} | {paper} |")
    for entry in algorithms():
        lines += ["", *section(entry)]
    lines += ["", "## Names with several meanings", ""]
    lines += [f"- `{name}`: {meanings}." for name, meanings in AMBIGUOUS.items()]
    return "\n".join(lines) + "\n"


def section(entry: Algorithm) -> list[str]:
    """One entry."""
    settings = ", ".join(f"{key}={value!r}" for key, value in entry.defaults.items())
    call = ", ".join(filter(None, [f'"{entry.name}"', "params", settings]))
    lines = [f"## {entry.name} {{ #{entry.name} }}", "", "```text"]
    lines += [*entry.equation.split(";  "), "```", "", f"{entry.paper}; {entry.source}."]
    if entry.optimizer is not None:
        lines += ["", f"`create({call})`"]
    facts = []
    if entry.aliases:
        facts.append(f"Also: {', '.join(f'`{alias}`' for alias in entry.aliases)}.")
    if entry.schedule is not None:
        facts.append(f"Schedule: `halflife.algorithms.schedule.{entry.schedule.__name__}`.")
    if entry.note:
        facts.append(f"{entry.note[0].upper()}{entry.note[1:]}.")
    return lines + (["", " ".join(facts)] if facts else [])


if __name__ == "__main__":
    PAGE.write_text(page())
