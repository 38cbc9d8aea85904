"""docs/probe.md is what its script writes, and other packages decay as that page says.

The rows of torch and of other packages are run again here; bfloat16 is left out, where the last
digit is the machine's. What each package documents stands in the script.
"""

from __future__ import annotations

import importlib
import runpy
from pathlib import Path

import pytest

import torch_versions
from torch_versions import before, since

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "probe_table.py"))
PAGE = (ROOT / "docs" / "probe.md").read_text("utf-8")
BFLOAT16 = 7  # its column, between the bars

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs, not ours

# One or two of each package; the page has the rest. Found otherwise than documented:
CONTRADICTED = {
    "torch.optim.Muon": "decoupled",
    "pytorch_optimizer.Adan": "proximal",
    "pytorch_optimizer.NovoGrad": "in_momentum",
    "came_pytorch.CAME": "decoupled",
    "heavyball.NAdam": "other",
}
QUICK = {
    "pytorch_optimizer.AdamS",
    "pytorch_optimizer.RAdam",
    "pytorch_optimizer.SGDP",
    "optimi.Adam",
    "optimi.AdamW",
    "optimi.Adan",
    "optimi.StableAdamW",
    "lion_pytorch.Lion",
    "heavyball.AdamC",
    "torchao.optim.AdamW8bit",
    "schedulefree.AdamWScheduleFree",
    *CONTRADICTED,
}
TORCH = {  # behaviour, scale-free without decay and with, what the lr multiplies
    "ASGD": ("l2", "no", "no", "nothing now"),  # eta is set at the end of a step
    "Adadelta": ("l2", "by coordinate", "no", "the step"),
    "Adafactor": ("decoupled", "as a whole", "as a whole", "not proportional"),  # factored v
    "Adagrad": ("l2", "by coordinate", "no", "the step"),
    "Adam": ("l2", "by coordinate", "no", "the step"),
    "AdamW": ("decoupled", "by coordinate", "by coordinate", "the step"),
    "Adamax": ("l2", "by coordinate", "no", "the step"),
    "LBFGS": ("absent", "as a whole", None, "the step"),
    "Muon": ("decoupled", "as a whole", "as a whole", "the step"),
    "NAdam": ("l2", "by coordinate", "no", "the step"),
    "RAdam": ("l2", "no", "no", "the step"),  # its first steps are SGD's
    "RMSprop": ("l2", "by coordinate", "no", "the step"),
    "Rprop": ("absent", "by coordinate", None, "nothing now"),
    "SGD": ("l2", "no", "no", "the step"),
    "SparseAdam": ("absent", None, None, None),
}

SWITCHED = {"optimi.AdamW", "lion_pytorch.Lion"}  # also with their flag
THEIRS = [r for r in SCRIPT["THEIRS"] if r.path in (SWITCHED if r.arguments else QUICK)]
ROWS = SCRIPT["TORCH"] + THEIRS


def written(row) -> str:
    (found,) = [line for line in PAGE.splitlines() if line.startswith(f"| {row.name} |")]
    return found


def cells(row: str) -> list[str]:
    found = row.split("|")
    return found[:BFLOAT16] + found[BFLOAT16 + 1 :]


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name.strip("`"))
def test_a_row_of_the_page(row) -> None:
    package = row.path.partition(".")[0]
    pytest.importorskip(package, reason=f"{package}: pip install -e .[third-party]")
    module = importlib.import_module(row.path.rpartition(".")[0])
    if package == "heavyball" and not hasattr(module, row.path.rpartition(".")[2]):
        pytest.skip("heavyball 3 needs Python 3.11")
    if row.path == "torch.optim.Muon" and torch_versions.TORCH < (2, 9):
        pytest.skip("torch 2.9: torch.optim.Muon came with it")
    assert cells(SCRIPT["line"](row)) == cells(written(row)), "run python scripts/probe_table.py"


@pytest.mark.parametrize("name", TORCH)
def test_torch_by_definition(name: str) -> None:
    """The page against what the equations of torch's documentation say."""
    (row,) = [r for r in SCRIPT["TORCH"] if r.path == f"torch.optim.{name}" and not r.arguments]
    behaviour, plain, decayed, multiplies = TORCH[name]
    scale = plain if decayed in (None, plain) else f"{plain}; with decay: {decayed}"
    found = [cell.strip(" `") for cell in written(row).split("|")]
    assert (found[2], found[5], found[6]) == (behaviour, scale or "-", multiplies or "-")


@pytest.mark.parametrize("row", SCRIPT["TORCH"] + SCRIPT["THEIRS"], ids=lambda row: row.name)
def test_what_is_found_is_what_is_documented_but_for_those_that_are_named(row) -> None:
    """From the page: its behaviour column against the words of each package's documentation."""
    line = written(row)
    found = line.split("|")[2].strip(" `")
    if row.path in CONTRADICTED and not row.arguments:
        assert found == CONTRADICTED[row.path]
        assert "**contradicted**" in line
    elif row.documented:
        assert found in row.documented.split()
        assert "confirmed" in line


def test_the_page_has_at_least_25_optimizers_and_every_one_of_torch() -> None:
    import torch

    rows = SCRIPT["TORCH"] + SCRIPT["OURS"] + SCRIPT["THEIRS"]
    assert len({row.path for row in rows}) >= 25
    torchs = {
        n
        for n, c in vars(torch.optim).items()
        if isinstance(c, type) and issubclass(c, torch.optim.Optimizer)
    }
    assert {r.path.rpartition(".")[2] for r in SCRIPT["TORCH"]} == torchs - {"Optimizer"}


@before(2, 9, "the page quotes the documentation of torch.optim.Muon")
def test_what_torch_documents_otherwise_is_still_so() -> None:
    test_what_surprised_us_is_still_so("documented")


@since(2, 14, "the fused SGD on the CPU trains half-precision weights")
def test_what_the_fused_sgd_leaves_is_still_so() -> None:
    test_what_surprised_us_is_still_so("half_sgd")


@pytest.mark.parametrize("fact", ["asgd", "implementations", "scale"])
def test_what_surprised_us_is_still_so(fact: str) -> None:
    words = " ".join(SCRIPT[fact]().split())
    assert words in " ".join(PAGE.split())


def test_a_row_that_cannot_be_run_is_kept() -> None:
    row = SCRIPT["Row"]("no_such_package.Adam", "l2", "")
    old = "| `no_such_package.Adam` | as it was |"
    assert SCRIPT["line"](row, f"a\n{old}\nb") == old
    assert SCRIPT["line"](row) == "| `no_such_package.Adam` | not installed |"
