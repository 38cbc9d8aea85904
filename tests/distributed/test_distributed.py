"""Two processes take the same steps as one: DDP, FSDP2 with uneven shards, tensor parallelism.

One pair of processes runs all cases, see `training`; what they report is looked at here.
"""

from __future__ import annotations

import fcntl
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import training

from halflife.mechanism.compiled import kernels
from torch_versions import before

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not dist.is_available(), reason="torch was built without distributed"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch.distributed"),
]
CASES = training.all_cases()
IN_SHARDS = ("FSDP2", "FSDP2 and tensor parallel", "traffic", "monitor:", "save:")
needs_fsdp2 = before(2, 7, "FSDP2 trains on the CPU")


@pytest.fixture(autouse=True)
def interpreted_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs as the two processes run them."""
    monkeypatch.setattr(kernels, "BACKEND", "eager")


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the two processes left their reports; under xdist, of one run for all."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen-") else base) / "two-processes"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            context = multiprocessing.get_context("spawn")
            pair = [
                context.Process(target=training.run, args=(rank, folder), daemon=True)
                for rank in range(training.WORLD)
            ]
            for process in pair:
                process.start()
            for process in pair:
                process.join(timeout=300)
                process.kill()
            (folder / "done").touch()
    return folder


def failures(folder: Path) -> dict[str, str]:
    merged: dict[str, str] = {}
    for rank in range(training.WORLD):
        report = folder / f"failures-{rank}"
        assert report.exists(), f"process {rank} left no report"
        for name, trace in torch.load(report).items():
            merged.setdefault(name, trace)
    return merged


def names(failed: dict[str, str], kind: str) -> list[str]:
    found = [name for name in failed if name.startswith(kind)]
    if found:
        print(failed[found[0]])  # noqa: T201
    return found


def each(*values: str) -> list[Any]:
    return [pytest.param(v, marks=needs_fsdp2 if v in IN_SHARDS else ()) for v in values]


@pytest.mark.parametrize("setting", each(*training.SETTINGS))
def test_every_rule_trains_as_in_one_process(setting: str, reports: Path) -> None:
    assert not names(failures(reports), f"{setting}:")


@pytest.mark.parametrize(
    "what", each("reduction", "traffic", "monitor:", "zero:", "flat:", "initialisation:", "save:")
)
def test_what_the_processes_checked(what: str, reports: Path) -> None:
    assert not names(failures(reports), what)


@needs_fsdp2  # in which the two have trained
@pytest.mark.parametrize("case", [c for c in CASES if c.clip is None], ids=lambda c: c.id)
def test_one_process_resumes_where_two_have_stopped(case: training.Case, reports: Path) -> None:
    model, share = training.alone()
    training.train(case, model, case.make(model), share)
    resumed = training.resume_alone(case, reports)
    for mine, expected in zip(resumed, training.weights(model), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-14)
