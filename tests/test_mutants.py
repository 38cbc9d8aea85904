"""The mutation run of scripts/mutants.py: its mutations, and the page of its last results."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import mutants_page  # noqa: E402
from mutations import mutants_of  # noqa: E402

SOURCE = '''
"""Nothing in here 1 + 1."""
LIMIT = 2.0

def f(x: int = 3) -> int:
    """Nor 1 < 2."""
    if x > LIMIT and not done:
        raise ValueError(f"{x + 1}: too much")
    with torch.no_grad():
        state["n"] = g(x, step=-1)
    return x * 2
'''
EXPECTED = [
    "module: 2.0 -> 4.0 in LIMIT = 2.0",
    "f: 3 -> 4 in x: int=3",
    "f: x > LIMIT and (not done) -> x > LIMIT or not done",
    "f: x > LIMIT and (not done) -> not (x > LIMIT and (not done)) in if x > LIMIT and (not done)",
    "f: x > LIMIT -> x >= LIMIT",
    "f: not done -> done in x > LIMIT and (not done)",
    "f: no raise ValueError",
    "f: no with torch.no_grad()",
    "f: no state['n'] = g(x, step=-1)",
    "f: g(x, step=-1) without step=",
    "f: -1 -> +1",
    "f: 1 -> 2 in -1",
    "f: x * 2 -> x / 2",
    "f: 2 -> 3 in x * 2",
]


def test_what_is_mutated() -> None:
    assert [mutant.key for mutant in mutants_of(ast.parse(SOURCE))] == EXPECTED


def test_each_mutant_is_other_code_and_is_undone() -> None:
    tree = ast.parse(SOURCE)
    whole, seen = ast.unparse(tree), set()
    for mutant in mutants_of(tree):
        mutant.apply()
        compile(tree, "planted", "exec")
        seen.add(ast.unparse(tree))
        mutant.revert()
        assert ast.unparse(tree) == whole
    assert len(seen - {whole}) == len(EXPECTED)


def test_mutants_that_read_the_same_have_names_of_their_own() -> None:
    tree = ast.parse("a = b < 1\na = b < 1\n")
    keys = [mutant.key for mutant in mutants_of(tree)]
    assert len({*keys}) == len(keys) == 4
    assert keys[2] == "module: b < 1 -> b <= 1 #1"


def test_the_page_is_written_from_the_results() -> None:
    results = json.loads(mutants_page.RESULTS.read_text(encoding="utf-8"))
    page = mutants_page.page(results, mutants_page.read_equivalents())
    written = mutants_page.PAGE.read_text(encoding="utf-8")
    assert written == page, "run python scripts/mutants.py --page"


def test_the_score_counts_what_was_run_and_can_be_noticed() -> None:
    mutants = {
        name: {"outcome": outcome, "on": "2026-01-01"}
        for name, outcome in zip("abcd", ["killed", "killed", "survived", "survived"], strict=True)
    }
    result = {"mutants": mutants, "of": 9}
    assert mutants_page.score("m", result, {}) == "4 of 9 run: 50.0% killed, 2 survived"
    assert "66.7% killed" in mutants_page.score("m", result, {("m", "d"): "a reason"})
    assert "| `m` | 9 | 4 | 2 | 1 | 1 | 66.7% |" in mutants_page.page(
        {"m": result}, {("m", "d"): "a reason"}
    )


def test_equivalents_have_reasons() -> None:
    assert all(len(reason) > 10 for reason in mutants_page.read_equivalents().values())
