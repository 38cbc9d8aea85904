"""Write the tables, and the outputs of commands, into the pages of docs/ that show them.

    python scripts/recipe_pages.py

Tables stand between markers such as <!-- table: conventions --> and <!-- end -->. In console
blocks, what follows a line that begins with "$ halflife" is replaced by what it prints, run in the
folder examples/. A block that begins otherwise is left alone: its commands take minutes.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import torch
from typer.testing import CliRunner

from halflife.cli import app
from halflife.units.convert import CONVENTIONS, NAMES, REFUSED, convert

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = tuple(
    DOCS / f"{name}.md"
    for name in (
        *("units", "moving_a_recipe", "monday_morning", "fine_tuning", "precision"),
        "coming_from",
    )
)
# Where the commands run: what they name, such as `train:build`, is there.
FOLDER = DOCS.parent / "examples"

# One decay in every convention: torch's AdamW, weight_decay 0.1 at lr 3e-4, 2,000 steps of cosine.
EXAMPLE = {"lr": 3e-4, "schedule": "cosine", "steps": 2_000}
BUDGET = {"batch_size": 128, "dataset_size": 50_000, "epochs": 100}


def conventions() -> list[str]:
    """What each convention removes, and the example in it."""
    lines = ["| convention | one step | unit | the example | agreement |", "|---|---|---|---|---|"]
    for name, convention in CONVENTIONS.items():
        sgd = {"optimizer": "sgd", "momentum": 0.9} if name in ("l2", "stable") else {}
        result = convert(0.1, "decoupled", name, **EXAMPLE, **BUDGET, **sgd)
        lr = f" at lr {result.lr:.9g}" if result.changes_lr else ""
        cells = (f"`{name}`", f"`{convention.formula}`", convention.unit)
        lines.append(f"| {' | '.join(cells)} | {result.value:.6g}{lr} | {result.exactness} |")
    return lines


def names() -> list[str]:
    """Names of papers and libraries."""
    lines = ["| name | convention | meaning |", "|---|---|---|"]
    for name, known in NAMES.items():
        meaning = known.meaning if known.verified else f"{known.meaning} (unverified)"
        lines.append(f"| `{name}` | `{known.convention}` | {meaning} |")
    return lines


def refused() -> list[str]:
    """Names without a conversion, by reason."""
    reasons: dict[str, list[str]] = {}
    for name, reason in REFUSED.items():
        reasons.setdefault(reason, []).append(f"`{name}`")
    return [f"- {', '.join(group)}: {reason}." for reason, group in reasons.items()]


TABLES = {"conventions": conventions, "names": names, "refused": refused}


def with_tables(page: str) -> str:
    """The page with its tables written again."""

    def write(match: re.Match[str]) -> str:
        table = "\n".join(TABLES[match[1]]())
        return f"<!-- table: {match[1]} -->\n\n{table}\n\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->\n.*?<!-- end -->", write, page, flags=re.S)


def with_outputs(page: str) -> str:
    """The page with the outputs of its commands written again."""

    def write(match: re.Match[str]) -> str:
        commands = re.findall(r"^\$ halflife (.*)$", match[1], flags=re.M)
        parts = [f"$ halflife {command}\n{output_of(command)}" for command in commands]
        return "```console\n" + "\n".join(parts) + "```"

    return re.sub(r"```console\n(\$ halflife .*?)```", write, page, flags=re.S)


def output_of(command: str) -> str:
    """What a command prints on a terminal of 80 columns, without trailing blanks."""
    torch.manual_seed(0)  # of models that an audit builds
    result = CliRunner(env={"COLUMNS": "80", "NO_COLOR": "1"}).invoke(app, shlex.split(command))
    assert result.exit_code in (0, 1, 2), result.output
    lines = (line.rstrip() for line in result.output.strip("\n").splitlines())
    return "\n".join(lines) + "\n"


def written(page: str) -> str:
    """The page as it should be."""
    return with_outputs(with_tables(page))


if __name__ == "__main__":
    os.chdir(FOLDER)
    for path in PAGES:
        path.write_text(written(path.read_text("utf-8")), "utf-8")
