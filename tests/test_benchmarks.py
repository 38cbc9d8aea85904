"""The benchmarks run and say what they claim to say; how long anything takes is never asserted."""

from __future__ import annotations

import gc
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import imports, step
from benchmarks.__main__ import main
from benchmarks.shapes import MODELS
from benchmarks.timing import Measured, paired
from benchmarks.workbench import Workbench


@pytest.mark.parametrize(
    ("model", "tensors", "parameters"),
    [("resnet20", 59, 269_722), ("resnet18", 62, 11_689_512), ("gpt2", 148, 124_439_808)],
)
def test_parameter_lists_are_those_of_the_models(model: str, tensors: int, parameters: int) -> None:
    shapes = MODELS[model]()
    assert len(shapes) == tensors
    assert sum(map(math.prod, shapes)) == parameters


def test_step_benchmark_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "results.json"
    assert main(["step", "--models", "tiny", "--rounds", "2", "--json", str(file)]) == 0
    result, cold = json.loads(file.read_text("utf-8"))["step"]
    assert (result["caches"], cold["caches"]) == ("warm", "cold")
    rows = {row["name"]: row for row in result["rows"]}
    assert result["rounds"] == 2
    assert result["tensors"] == len(MODELS["tiny"]())
    assert rows.keys() == {row.name for row in step.ROWS}
    assert all(row["seconds"]["median"] > 0 for row in rows.values())
    targets = {name: row["target"] for name, row in rows.items() if "target" in row}
    assert targets == {
        **{f"halflife AdamW, {rule}": 1.03 for rule in ("Decoupled", "Independent", "Corrected")},
        "halflife AdamW, Proximal": 1.03,
        "halflife AdamW, Stable": 1.40,
        "clip + step: halflife, Stable": 1.05,
        "  of this, the step alone": 1.05,
    }
    shown = capsys.readouterr().out
    assert all(name in shown for name in rows)


def test_every_candidate_of_the_step_benchmark_moves_the_weights() -> None:
    """A row that silently did nothing would be the fastest."""
    params = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2, 2))]
    for p in params:
        p.grad = torch.ones_like(p)
    calls, optimizers = step._candidates(Workbench(params), max_norm=1e-3)
    assert {row.candidate for row in step.ROWS} <= calls.keys()
    for name, parts in calls.items():
        before = params[0].detach().clone()
        for p in params:
            p.grad = torch.ones_like(p)
        for call in parts:
            call()
        assert not torch.equal(params[0], before), name
        if len(parts) == 2:  # the clip is active
            norm = math.hypot(*(float(p.grad.norm()) for p in params))  # type: ignore[union-attr]
            assert norm == pytest.approx(1e-3, rel=1e-3)
    first, *others = (o for o in optimizers.values() if isinstance(o, torch.optim.AdamW))
    assert all(o.state[params[0]]["exp_avg"] is first.state[params[0]]["exp_avg"] for o in others)


def test_paired_runs_every_candidate_once_a_round_in_changing_order() -> None:
    calls: list[str] = []
    candidates = {name: [lambda name=name: calls.append(name)] * 2 for name in "abc"}
    times = paired(candidates, rounds=6, before=lambda: calls.append("-"))
    rounds = ["".join(calls)[i : i + 9] for i in range(0, len(calls), 9)]
    assert len(rounds) == 7  # one warms up
    assert all(sorted(r.split("-")) == ["", "aa", "bb", "cc"] for r in rounds)
    assert len(set(rounds)) > 1
    assert all(array.shape == (6, 2) for array in times.values())
    assert gc.isenabled()


def test_measured_median_spread_and_interval() -> None:
    m = Measured(np.arange(101.0))
    assert (m.median, m.low, m.high) == (50.0, 10.0, 90.0)
    # Binomial(101, 1/2): ranks 40 and 61 of the order statistics hold the median with >= 95 %.
    assert (m.least, m.most) == (40.0, 61.0)


@pytest.mark.parametrize(
    ("target", "verdict"), [(51.0, "met"), (50.0, "met"), (49.0, "within noise"), (30.0, "missed")]
)
def test_verdict_on_an_upper_bound(target: float, verdict: str) -> None:
    assert Measured(np.arange(101.0)).verdict(at_most=target) == verdict


@pytest.mark.parametrize(
    ("target", "verdict"), [(49.0, "met"), (51.0, "within noise"), (70.0, "missed")]
)
def test_verdict_on_a_lower_bound(target: float, verdict: str) -> None:
    assert Measured(np.arange(101.0)).verdict(at_least=target) == verdict


def test_import_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    result = imports.main(rounds=1)
    assert result["ratio"]["median"] > 1.0  # torch is part of it
    assert "import halflife / import torch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "resnet21"], "'resnet21': unknown model; known are resnet20, resnet18"),
        (["--rounds", "0"], "'0': must be a whole number >= 1."),
        (["stride"], "invalid choice: 'stride'"),
    ],
)
def test_bad_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("how to read it", "examples", "within noise", "share"))
