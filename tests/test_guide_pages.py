"""The guide: its commands are commands, its code runs, and its numbers are printed by them."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import halflife
from halflife import DecayRule, lab

pytest.importorskip("typer", reason="needs the extra cli")

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
EXAMPLES = ROOT / "examples"
PAGES = [*sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("api/*.md")), ROOT / "README.md"]
RECIPES = runpy.run_path(str(ROOT / "scripts" / "recipe_pages.py"))
MONDAY = runpy.run_path(str(ROOT / "scripts" / "monday_page.py"))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in examples/, and see no rules that other tests have defined."""
    monkeypatch.chdir(EXAMPLES)
    for name in ("train", "monday_morning"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    rules = {n: r for n, r in DecayRule._registry.items() if r.__module__.startswith("halflife.")}
    monkeypatch.setattr(DecayRule, "_registry", rules)


def commands(text: str) -> list[str]:
    """Commands of console blocks, and those within a sentence that have an argument."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", text, flags=re.S):
        lines = re.sub(r"\\\n", " ", block)
        found += re.findall(r"^\$ halflife (.*)$", lines, flags=re.M)
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    found += [" ".join(c.split()) for c in re.findall(r"`halflife (\w+\s[^`]*)`", prose)]
    return [re.sub(r"\s+#.*", "", command) for command in found]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_command_is_one(path: Path) -> None:
    """With options and arguments that can be read; what they print is compared elsewhere."""
    import typer
    from typer.main import get_command

    from halflife.cli import app

    group: Any = get_command(app)
    context = typer.Context(group, info_name="halflife")
    wrong = []
    for command in commands(path.read_text("utf-8")):
        name, *arguments = shlex.split(command)
        if name.startswith("--"):
            continue
        try:
            group.commands[name].make_context(name, arguments, parent=context)
        except Exception as error:
            if not isinstance(error, (SystemExit, typer.Exit)):  # --help
                wrong.append((command, str(error)))
    assert wrong == []


class Loader:
    def __len__(self) -> int:
        return 40


def pretrained() -> nn.Module:
    model = nn.Module()
    model.body, model.head = nn.Linear(4, 4), nn.Linear(4, 2)
    return model


def tiny(trial: Any) -> float:
    """Ten steps of a line: something to sweep."""
    weight = nn.Linear(4, 1)
    optimizer = trial.optimizer(weight)
    x = torch.randn(16, 4)
    for _ in trial.epochs(10):
        optimizer.zero_grad()
        weight(x).square().mean().backward()
        optimizer.step()
    return weight(x).square().mean().item()


def scope_of(page: str) -> dict[str, Any]:
    """What a page supposes that the reader has."""
    model = pretrained()
    scope: dict[str, Any] = {"halflife": halflife, "torch": torch, "model": model}
    scope["params"], scope["loader"] = list(model.parameters()), Loader()
    scope["optimizer"] = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scope["scheduler"] = torch.optim.lr_scheduler.CosineAnnealingLR(scope["optimizer"], 50)
    if page == "is_it_doing_anything":
        scope["build"] = lambda: (model, scope["optimizer"], scope["scheduler"])
    if page == "lab":
        scope["result"] = lab.sweep(
            tiny,
            out="runs/mine",
            lr=[1e-3, 1e-2],
            weight_decay=[1.0, 10.0],
            seeds=2,
            confirm=2,
            executor=lab.InProcess(),
            extend=False,
            progress=False,
        )
    if page == "curvature":
        network = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8))
        scope |= {"model": network, "loss": nn.functional.cross_entropy}
        scope |= {"lr": 1e-3, "weight_decay": 0.1}
        scope["loader"] = [(torch.randn(16, 4), torch.arange(16) % 8)]
        scope["optimizer"] = torch.optim.AdamW(network.parameters())
        network(torch.randn(2, 4)).sum().backward()
        scope["optimizer"].step()
    return scope


# test_readme and integrations/test_transformers run the code of the first two; the third quotes a
# class of the package.
ELSEWHERE = {"README", "frameworks", "architecture"}
WITH_CODE = [
    path
    for path in PAGES
    if path.parent != DOCS / "api"
    and path.stem not in ELSEWHERE
    and "```python\n" in path.read_text("utf-8")
]


@pytest.mark.parametrize(
    "path",
    [
        # It asks the catalogue for all of its optimizers, as test_algorithms_catalogue.py does.
        pytest.param(path, marks=[pytest.mark.slow] if path.stem == "algorithms" else [])
        for path in WITH_CODE
    ],
    ids=[path.stem for path in WITH_CODE],
)
def test_its_code_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)
    scope = scope_of(path.stem)
    for code in re.findall(r"```python\n(.*?)```", path.read_text("utf-8"), flags=re.S):
        exec(code, scope)
    for name, function in list(scope.items()):
        if name.startswith("test_"):
            function()


def answers() -> list[tuple[str, str]]:
    page = (DOCS / "faq.md").read_text("utf-8")
    parts = re.split(r"^### (.*)$", page, flags=re.M)
    return list(zip(parts[1::2], parts[2::2], strict=True))


SLOW_COMMANDS = ("sweep", "landscape")
PRINTED: dict[str, str] = {}


@pytest.mark.parametrize(("question", "answer"), answers(), ids=lambda text: text[:40].strip())
def test_an_answer_says_what_its_command_prints(question: str, answer: str, here: None) -> None:
    printed = ""
    for command in commands(answer):
        if not command.startswith(SLOW_COMMANDS):
            if command not in PRINTED:
                PRINTED[command] = " ".join(RECIPES["output_of"](command).split()) + " "
            printed += PRINTED[command]
    claimed = re.findall(r"\*\*(.+?)\*\*", answer, flags=re.S)
    missing = [
        c for c in claimed if not re.search(rf"(?<![\d.]){re.escape(c)}(?![\d.]*\d)", printed)
    ]
    assert [" ".join(c.split()) for c in missing if " ".join(c.split()) not in printed] == []
    sentences = len(re.findall(r"[.:?!)](?:\s|$)", re.sub(r"\*\*|`[^`]*`", "x", answer)))
    assert 2 <= sentences <= 9, question
    assert re.search(r"\d|`halflife ", answer), "a number or a command"
    assert re.search(r"\]\([\w/#.:-]+", answer), "somewhere to read on"


STEPS = {
    "lr*wd": ("decoupled", "decoupled_after"),
    "wd": ("constant",),
    "(lr/max_lr)*wd": ("independent",),
    "(lr/peak)*wd": ("independent",),
    "(lr^2/peak)*wd": ("corrected",),
    "lr*wd/(1+lr*wd)": ("proximal",),
    "lr*wd/(1-momentum)": ("l2",),
}


def test_the_table_of_libraries_says_what_convert_knows() -> None:
    """The names and what they remove; defaults of what is installed."""
    import inspect

    from halflife.units.convert import NAMES, REFUSED

    page = (DOCS / "coming_from.md").read_text("utf-8")
    table = page[page.index("| there |") : page.index("torch, optimi, lion-pytorch")]
    rows = [[c.strip() for c in row.strip("|").split("|")] for row in table.split("\n")[2:] if row]
    assert len(rows) > 15
    for there, removed, _, names, _ in rows:
        for name in re.findall(r"`([\w.]+)`", names):
            if "refused" in names:
                assert name in REFUSED, there
            else:
                (step,) = re.findall(r"`([^`]+)`", removed)
                assert NAMES[name].convention in STEPS[step], there
    defaults = {row[0]: row[4] for row in rows}
    for there, make in (("torch `SGD`", torch.optim.SGD), ("torch `Muon`", torch.optim.Muon)):
        found = inspect.signature(make).parameters["weight_decay"].default
        assert f"{found:g}" == defaults[there]


def test_monday_says_what_was_trained() -> None:
    found = json.loads(MONDAY["KEPT"].read_text("utf-8"))
    page = MONDAY["PAGE"].read_text("utf-8")
    assert MONDAY["written"](page, found) == page, "run python scripts/monday_page.py"
    assert MONDAY["FIGURE"].read_text("utf-8") == MONDAY["figure"](found)
    words = " ".join(page.split())
    trainings = sum(len(sweep["trainings"]) for sweep in found.values())
    assert f"the {trainings} networks" in words
    assert found["messy"]["verdict"] == "helps"
    assert found["clean"]["verdict"] == "no difference told"
    for seeds, width in ((5, "1.2 `s` with 5"), (12, "0.6 `s` with 12")):
        from scipy import stats

        half = stats.t.ppf(0.975, seeds - 1) / seeds**0.5
        assert f"{half:.1f} `s` with {seeds}" == width
        assert width in words
    assert "decay saved 1.2 points" in " ".join((DOCS / "faq.md").read_text("utf-8").split())
    assert f"{found['messy']['gain']:.1f}" == "1.2"


def test_monday_tries_the_values_of_its_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    values = runpy.run_path(str(EXAMPLES / "monday_morning.py"))["three_values"]()
    assert [f"{value:.4g}" for value in values] == [f"{v:.4g}" for v in MONDAY["VALUES"][1:]]
    page = MONDAY["PAGE"].read_text("utf-8")
    swept = [c for c in commands(page) if c.startswith("sweep")]
    listed = ",".join(f"{value:g}" for value in MONDAY["VALUES"])
    for task, command in zip(MONDAY["TASKS"], swept, strict=True):
        words = shlex.split(command)
        assert words[1] == f"monday_morning:{task}"
        given = dict(zip(words[2::2], words[3::2], strict=False))
        assert given["--weight-decay"] == listed
        assert (given["--seeds"], given["--confirm"]) == (
            str(MONDAY["SEEDS"]),
            str(MONDAY["CONFIRM"]),
        )


@pytest.mark.slow
def test_mondays_trainings_repeat(tmp_path: Path) -> None:
    """One value, one seed of each kind: up to what another processor's rounding does."""
    pytest.importorskip("sklearn")
    kept = json.loads(MONDAY["KEPT"].read_text("utf-8"))
    for task in MONDAY["TASKS"]:
        out = str(tmp_path / task)
        result = MONDAY["swept"](task, out, weight_decay=[1.667], seeds=1, confirm=0)
        rows = {(r["weight_decay"], r["seed"]): r for r in kept[task]["trainings"]}
        fresh = MONDAY["trainings"](result)
        assert [(row["weight_decay"], row["seed"]) for row in fresh] == [(0.0, 0), (1.667, 0)]
        for row in fresh:
            same = rows[row["weight_decay"], row["seed"]]
            assert row["val"] == pytest.approx(same["val"], abs=1.5)
            assert row["test"] == pytest.approx(same["test"], abs=1.0)


def shown(page: str, example: str) -> str:
    text = (DOCS / f"{page}.md").read_text("utf-8")
    (block,) = re.findall(rf"<!-- example: {example} -->\n\n```text\n(.*?)```", text, flags=re.S)
    return block


def test_the_page_on_lora_shows_what_its_example_prints(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "lora.py"), run_name="__main__")
    printed = "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines())
    assert shown("fine_tuning", "lora").strip() == printed.strip()


def test_lora_factors_keep_the_square_and_alpha_does_not_matter() -> None:
    example = runpy.run_path(str(EXAMPLES / "lora.py"))
    left = [example["share_left"](alpha, 20) for alpha in (1.0, 8.0, 64.0)]
    assert left == pytest.approx([0.5] * 3, rel=1e-5)


def test_pefts_adapters_sort_as_those_written_by_hand() -> None:
    peft = pytest.importorskip("peft", reason="no dependency: tested where it is installed")
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=1, target_modules=["0"]))
    decided = {d.name: d.decays for d in halflife.param_groups(adapted).decisions}
    assert [name for name, decays in decided.items() if "lora_" in name and not decays] == []


def test_bfloat16_loses_what_the_page_says() -> None:
    """Two columns of the table on fewer steps; the whole takes a minute."""
    example = runpy.run_path(str(EXAMPLES / "bf16_decay.py"))
    example["kept"].__globals__["STEPS"] = 100
    half = torch.bfloat16
    by_loop, fused, ours = (
        example["kept"](make, 1e-3, half)
        for make in (
            example["torch_adamw"](foreach=False),
            example["torch_adamw"](fused=True),
            halflife.AdamW,
        )
    )
    assert abs(by_loop) < 0.02
    assert 0.8 < fused < 1.2
    assert 0.8 < ours < 1.2

    def attached(params: list[nn.Parameter], **settings: Any) -> torch.optim.Optimizer:
        return halflife.attach(torch.optim.AdamW(params, **settings), "decoupled")

    assert 0.8 < example["kept"](attached, 1e-3, half) < 1.2


@pytest.mark.slow
def test_the_table_of_bfloat16(capsys: pytest.CaptureFixture[str]) -> None:
    """Within three points, as a processor's kernels may round otherwise."""
    runpy.run_path(str(EXAMPLES / "bf16_decay.py"), run_name="__main__")
    tables = [
        [[float(n) for n in re.findall(r"(-?\d+) %", line)] for line in text.splitlines()[1:]]
        for text in (capsys.readouterr().out.strip(), shown("precision", "bf16_decay").strip())
    ]
    assert len(tables[1]) == 5
    for found, kept in zip(*tables, strict=True):
        assert found == pytest.approx(kept, abs=3.0)
