"""The benchmarks run and say what they claim to say; how long anything takes is never asserted."""

from __future__ import annotations

import functools
import gc
import importlib
import json
import math
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import halflife
from halflife.diagnostics import curvature as halflife_curvature
from halflife.mechanism.compiled import kernels
from halflife.rules.contract import DecayRule
from torch_versions import before

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import accelerator, curvature, imports, monitor, operations, rules, step
from benchmarks import lab as lab_benchmark
from benchmarks.__main__ import main
from benchmarks.peers import PEERS, Peer
from benchmarks.shapes import MODELS
from benchmarks.timing import Measured, paired
from benchmarks.workbench import Workbench, state_bytes


@pytest.mark.parametrize(
    ("model", "tensors", "parameters"),
    [("resnet20", 59, 269_722), ("resnet18", 62, 11_689_512), ("gpt2", 148, 124_439_808)],
)
def test_parameter_lists_are_those_of_the_models(model: str, tensors: int, parameters: int) -> None:
    shapes = MODELS[model]()
    assert len(shapes) == tensors
    assert sum(map(math.prod, shapes)) == parameters


@pytest.mark.slow
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


@pytest.fixture
def quick_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled is another matter's tests; here it has to be a row."""
    monkeypatch.setattr(kernels, "BACKEND", "eager")


@pytest.fixture
def results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_compiler: None
) -> dict[str, dict]:
    """Rows of the rules benchmark by name, of packages those of one that does not exist."""
    monkeypatch.setattr(rules, "PEERS", [Peer("no_such_package", "AdamW", "AdamW Decoupled")])
    file = tmp_path / "results.json"
    assert main(["rules", "--models", "tiny", "--rounds", "1", "--json", str(file)]) == 0
    (result,) = json.loads(file.read_text("utf-8"))["rules"]
    assert (result["model"], result["rounds"], result["peer_rounds"]) == ("tiny", 1, 1)
    return {row["name"]: row for row in result["rows"]}


@pytest.mark.slow
def test_rules_benchmark_has_every_rule(results: dict[str, dict]) -> None:
    own = {n for n, r in DecayRule._registry.items() if r.__module__.startswith("halflife.")}
    measured = {**rules.SCALAR_RULES, **rules.ELEMENTWISE, **rules.NORMS}
    assert {rule.name for rule in measured.values()} == own
    for name, rule in measured.items():
        assert "missing" not in results[f"AdamW {name}"]
        assert (f"AdamW {name}, compiled" in results) == getattr(rule, "elementwise", False), name


@pytest.mark.slow
def test_rules_benchmark_rows_are_complete_and_consistent(results: dict[str, dict]) -> None:
    missing = [name for name, row in results.items() if "missing" in row]
    assert missing == ["no_such_package.AdamW"]
    reason = "no_such_package is not installed: pip install --group third-party"
    assert results[missing[0]]["missing"] == reason
    targets = {row["target"] for row in results.values() if "target" in row}
    assert targets == {1.03, 1.05, 1.3, 1.6, 2.0}
    for name, row in results.items():
        if "missing" not in row:
            assert row["seconds"]["median"] > 0 < row["limit_seconds"]["median"], name
            # One round: the quotient of medians is the median of quotients.
            quotient = row["seconds"]["median"] / row["limit_seconds"]["median"]
            assert row["of_limit"]["median"] == pytest.approx(quotient, rel=1e-4), name


@pytest.mark.slow
def test_rules_benchmark_state_and_traffic_in_closed_form(results: dict[str, dict]) -> None:
    tensors, elements = len(MODELS["tiny"]()), sum(map(math.prod, MODELS["tiny"]()))
    adamw = 8 + 4 * tensors / elements  # two moments; a step count for each tensor
    wanted = {
        "torch AdamW, fused": (adamw, 28),  # reads w, g, m, v; writes w, m, v
        "AdamW Independent": (adamw, 28),
        "AdamW Stable": (adamw + 8 * tensors / elements, 32),  # a float64 each; g for its norm
        "AdamW Cautious": (adamw, 28),
        "AdamW Cautious, compiled": (adamw, 28),
        "AdamW Anchored": (adamw + 4, 32),  # the anchor
        "AdamW Anchored to 1": (adamw, 28),
        "AdamW NormControl": (adamw, 32),  # w for its norm
        "AdamW ProximalNorm": (adamw, 36),  # z is read for its norm, then read and written
        "torch SGD, fused": (4, 20),
        "SGD Cautious": (4, 20),
        "Lion Decoupled": (4, 20),
    }
    for name, (state, traffic) in wanted.items():
        assert results[name]["state_bytes"] == pytest.approx(state, rel=1e-5), name
        assert results[name]["traffic_bytes"] == traffic, name


@pytest.fixture
def benchmarks_page() -> Any:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
    try:
        return importlib.import_module("benchmarks_page")
    finally:
        sys.path.pop(0)


def test_the_page_is_written_from_the_committed_results(benchmarks_page: Any) -> None:
    written = benchmarks_page.page(*benchmarks_page.read())
    assert benchmarks_page.PAGE.read_text("utf-8") == written


@before(2, 9, "a norm of a list of tensors dispatches an operation less")
def test_operations_are_counted_anew_as_the_page_has_them(benchmarks_page: Any) -> None:
    """Of GPT-2 small in float32: rules of all kinds."""
    _, counts, _, _ = benchmarks_page.read()
    (listed,) = [m["rows"] for m in counts if m["model"] == "gpt2"]
    with operations.all_kernels():
        for name in ("Decoupled", "Stable", "Cautious", "ProximalNorm"):
            rule = {**rules.SCALAR_RULES, **rules.ELEMENTWISE, **rules.NORMS}[name]
            make = functools.partial(operations.ours, rule)
            found = operations.operations(make, MODELS["gpt2"](), torch.float32)
            assert found == listed[f"AdamW {name}"]["float32"], name


def test_the_page_has_what_was_measured_on_a_device(benchmarks_page: Any) -> None:
    results, counts, of_lab, _ = benchmarks_page.read()
    assert "make test-gpu" in benchmarks_page.page(results, counts, of_lab)
    spread = {"median": 1.5, "low": 1.25, "high": 2.0}
    rows = [
        {"name": "torch AdamW, fused", "seconds": {"median": 1e-3}, "peak": 0},
        {"name": "AdamW Stable", "seconds": {"median": 2e-3}, "peak": 3 << 20, "ratio": spread},
        {"name": "SGD Stable", "missing": "RuntimeError: no"},
    ]
    model = {"model": "tiny", "dtype": "bfloat16", "tensors": 5, "parameters": 2e6, "rounds": 7}
    measured = {"device": "A device", "models": [{**model, "rows": rows}]}
    machine = {"torch": "9.9", "python": "3.99"}
    device = {"machine": machine, "accelerator": measured}
    page = benchmarks_page.page(results, counts, of_lab, device)
    assert benchmarks_page.NOT_MEASURED not in page
    assert "Device: A device, torch 9.9, Python 3.99." in page
    assert "### tiny in bfloat16" in page
    assert "| torch AdamW, fused | 1.000&nbsp;ms |  | 0.0 MiB |" in page
    assert "| AdamW Stable | 2.000&nbsp;ms | 1.50 (1.25-2.00) | 3.0 MiB |" in page
    assert "| SGD Stable | not measured: RuntimeError: no | | |" in page


@pytest.mark.slow
def test_accelerator_benchmark_rehearsed_on_the_cpu(
    tmp_path: Path, quick_compiler: None, benchmarks_page: Any
) -> None:
    file = tmp_path / "accelerator.json"
    command = ["accelerator", "--device", "cpu", "--models", "tiny", "--rounds", "1"]
    assert main([*command, "--json", str(file)]) == 0
    result = json.loads(file.read_text("utf-8"))
    assert list(result) == ["machine", "accelerator"]
    full, half = result["accelerator"]["models"]
    assert (full["model"], full["dtype"], half["dtype"]) == ("tiny", "float32", "bfloat16")
    own = {n for n, r in DecayRule._registry.items() if r.__module__.startswith("halflife.")}
    measured = {**rules.SCALAR_RULES, **rules.ELEMENTWISE, **rules.NORMS}
    assert {rule.name for rule in measured.values()} == own
    for model in (full, half):
        rows = {row["name"]: row for row in model["rows"]}
        missing = {name for name, row in rows.items() if "missing" in row}
        for name in measured:
            assert f"AdamW {name}, native" in rows
            assert (f"AdamW {name}, compiled" in rows) == (name not in rules.NORMS)
        for name, row in rows.items():
            if name not in missing:
                assert row["seconds"]["median"] > 0, name
                assert ("ratio" in row) == (row.get("against") is not None), name
        if model is full:
            assert not missing
            assert rows[f"AdamW: {accelerator.AGAIN}"]["ratio"]["median"] > 0
        else:  # older versions of torch have no fused SGD for it on the CPU
            assert all("SGD" in name for name in missing)
    assert "### tiny in float32" in benchmarks_page.page(*benchmarks_page.read()[:3], result)


def test_a_device_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["accelerator", "--device", "hpu"])
    assert "--device hpu: there is no such device here" in capsys.readouterr().err


def made_or_skipped(peer: Peer) -> None:
    try:
        peer.make([torch.nn.Parameter(torch.ones(2, 2))], 0.1, 0.1)
    except ImportError as error:
        pytest.skip(f"pip install --group third-party: {error}")


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
@pytest.mark.filterwarnings("ignore")  # theirs
def test_a_peer_does_what_our_row_does(peer: Peer) -> None:
    """Three steps at a falling lr: its weights are ours, to a hundredth of what the decay does."""
    made_or_skipped(peer)
    base, name = peer.against.split()
    rule = {**rules.SCALAR_RULES, **rules.ELEMENTWISE}[name]
    momentum = {"momentum": 0.9} if base == "SGD" else {}

    def end(make: Any, weight_decay: float) -> torch.Tensor:
        w = torch.nn.Parameter(torch.linspace(-1.0, 1.0, 64).view(8, 8))
        optimizer = make([w], weight_decay)
        for t, lr in enumerate((0.01, 0.005, 0.002)):
            for group in optimizer.param_groups:
                group["lr"] = lr
            w.grad = torch.cos(torch.arange(64.0) + t).view(8, 8) * 0.1
            optimizer.step()
        return w.detach()

    def ours(params: Any, weight_decay: float) -> Any:
        cls = getattr(halflife, base)
        return cls(params, 0.01, weight_decay=weight_decay, decay=rule, **momentum)

    def theirs(params: Any, weight_decay: float) -> Any:
        return peer.make(params, 0.01, weight_decay)

    strength = {"Independent": 0.05, "Constant": 0.05, "Stable": 0.5}.get(name, 5.0)
    effect = (end(ours, strength) - end(ours, 0.0)).abs().max()
    assert (end(theirs, strength) - end(ours, strength)).abs().max() < 0.01 * effect


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
@pytest.mark.filterwarnings("ignore")
def test_a_peer_that_shares_moments_has_the_state_of_one_that_does_not(peer: Peer) -> None:
    made_or_skipped(peer)
    bench = Workbench("tiny")
    alone = peer.make(bench.params, 1e-4, 1e-5)
    sharing = peer.on(bench, 1e-4, 1e-5)
    for optimizer in (alone, sharing):
        bench.before()
        optimizer.step()
    assert state_bytes(sharing) == state_bytes(alone)
    if peer.state is not None:
        reference = getattr(bench, peer.reference).state[bench.params[0]]
        for own, name in peer.state.items():
            assert sharing.state[bench.params[0]][own] is reference[name]


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


@pytest.mark.slow
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


def test_without_arguments_every_benchmark_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make bench`: argparse of Python 3.11 refuses an empty list where there are choices."""
    run: list[str] = []
    for module in (step, rules, operations, curvature, monitor, imports):
        name = module.__name__.rpartition(".")[2]
        monkeypatch.setattr(module, "main", lambda *_, name=name: run.append(name) or [])
    for name in ("lab", "recipes"):
        late = SimpleNamespace(main=lambda *_, name=name: run.append(name), __spec__=True)
        monkeypatch.setitem(sys.modules, f"benchmarks.{name}", late)  # type: ignore[arg-type]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: True)  # what these two need
    assert main([]) == 0
    assert run == [
        *("step", "rules", "operations", "lab", "recipes", "curvature", "monitor", "imports"),
    ]


@pytest.mark.slow
def test_the_benchmark_of_recipes_rehearsed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its networks and data; a step of a few rows, once."""
    pytest.importorskip("lightning", reason="needs the extra lightning")
    recipes = importlib.import_module("benchmarks.recipes")
    few = {n: (recipe, data, (2, 2), (1, 1)) for n, (recipe, data, *_) in recipes.CASES.items()}
    monkeypatch.setattr(recipes, "CASES", few)
    found = recipes.main(1, "cpu")["cases"]
    assert found.keys() == few.keys()
    shown = capsys.readouterr().out
    for name, row in found.items():
        assert row["ratio"]["median"] == pytest.approx(row["ours"] / row["plain"]), name
        assert f"{row['ratio']['median']:.3f}" in shown


def test_rules_are_measured_with_each_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, benchmarks_page: Any
) -> None:
    counts, before = [1, os.cpu_count()], torch.get_num_threads()

    def measure(models: list[str], _: int | None) -> list[dict[str, Any]]:
        threads = torch.get_num_threads()
        spread = {"median": 1.0 + threads, "low": 1.0, "high": 2.0}
        row = {"name": "AdamW Stable", "ratio": spread}
        return [{"model": model, "threads": threads, "rows": [row]} for model in models]

    monkeypatch.setattr(rules, "main", measure)
    file = tmp_path / "results.json"
    try:
        main(["rules", "--models", "tiny", "--threads", "1,all", "--json", str(file)])
    finally:
        torch.set_num_threads(before)
    found = json.loads(file.read_text("utf-8"))["rules"]
    assert [m["threads"] for m in found] == counts
    lines = benchmarks_page.by_threads(found)
    assert f"| | tiny, 1 | tiny, {counts[1]} |" in lines
    ratios = " | ".join(f"{1.0 + n:.2f} (1.00-2.00)" for n in counts)
    assert lines[-1] == f"| AdamW Stable | {ratios} |"


@pytest.mark.slow
def test_the_lab_is_measured(capsys: pytest.CaptureFixture[str], benchmarks_page: Any) -> None:
    """One cell by each executor, some records by each ledger; and the page has them all."""
    rows = lab_benchmark.executors(1, ("digits",), stack=2, alone=1)
    kept = lab_benchmark.ledgers(records=5, many=60)
    shown = capsys.readouterr().out
    assert len(rows) == 5
    assert min(row["best"] for row in rows) == 1.0
    assert sum(row["chosen"] for row in rows) == 1
    assert [row["ledger"] for row in kept][:3] == ["memory", "journal", "SQLite"]
    assert all(row["last"] > 0.0 for row in kept)
    assert "journal" in shown
    machine = {"processor": "a", "cores": 2, "torch": "9.9", "python": "3.99"}
    told = {"stacking": 5.25, "scaling": 1.9, "worst_choice": 1.2, "verdict": "missed"}
    written = benchmarks_page.lab_section(
        {"machine": machine, "lab": {"executors": rows, "ledgers": kept, **told}}
    )
    assert sum("chosen" in line for line in written) == 1
    assert any("5.2 times as fast a core" in line and "missed." in line for line in written)


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("how to read it", "examples", "within noise", "share"))


# --- curvature -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's, on its first jvp
def test_candidates_of_the_curvature_benchmark_find_the_same_eigenvalue() -> None:
    model = torch.nn.Sequential(
        torch.nn.Linear(10, 6), torch.nn.BatchNorm1d(6), torch.nn.Tanh(), torch.nn.Linear(6, 10)
    )
    problem = curvature.Problem.of("tiny", model, torch.randn(40, 10), 20)
    exact = halflife_curvature.hessian(
        model, torch.nn.functional.cross_entropy, problem.data, dtype=torch.float64
    )
    top = torch.linalg.eigvalsh(halflife_curvature.dense(exact))[-1]
    assert problem.top == pytest.approx(float(top), rel=1e-9)
    for task, calls in curvature.candidates(problem).items():
        assert {"halflife", "halflife, memory=0"} <= calls.keys()
        for name, call in calls.items():
            found = call()
            if task == "largest eigenvalue":
                assert abs(found / problem.top - 1) <= curvature.ERROR, name


@pytest.mark.slow
def test_monitor_benchmark_says_what_a_sample_adds(capsys: pytest.CaptureFixture[str]) -> None:
    found = monitor.main(rounds=2, tiny=True)
    for rows in found.values():
        assert set(rows) == {"alone", "between samples", *monitor.PRESETS}
        for preset in monitor.PRESETS:
            extra, spread = rows[preset]["extra"], rows[preset]["spread over 50"]
            assert spread["median"] == pytest.approx(extra["median"] / 50)
    assert capsys.readouterr().out.count("with one sample in 50") == 6
