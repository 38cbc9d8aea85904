"""Every recipe goes on bit for bit, by one process and by two, and after a kill too."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from recipe_runs import apart, come_apart, covering, losses, text_in, tiny
from torch import nn

from halflife.lab.recipes import RECIPES, recipe
from halflife.lab.recipes.options import Options
from halflife.lab.recipes.running import train

pytest.importorskip("lightning.fabric")
pytestmark = pytest.mark.slow

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_and_goes_on_bit_for_bit(name, tmp_path):
    each = RECIPES[name]
    root = None if each.time is None else text_in(tmp_path)
    options = Options(root=root, accelerator="cpu", log_every=1)
    assert come_apart(tiny(each), tmp_path, options) == []


def by_two(strategy: str, folder: Path, *names: str) -> dict[str, list[str]]:
    """What `recipe_runs` reports from two processes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2",
        f"--master-port={port}", str(HERE / "recipe_runs.py"), str(folder), strategy, *names,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, list[str]] = json.loads((folder / "report.json").read_text())
    return report


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_go_on_bit_for_bit(strategy, tmp_path):
    """The others, which are no other kind, by ``make test-recipes``."""
    names = covering() if "HALFLIFE_ALL_RECIPES" not in os.environ else list(RECIPES)
    assert by_two(strategy, tmp_path, *names) == {name: [] for name in names}


def halflife_train(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "halflife", "train", *arguments]


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """Losses of six steps of one process."""
    folder = tmp_path_factory.mktemp("one")
    chosen = replace(recipe("004/resnet20-nobn-cifar10/adamw"), data="digits", batch_size=32)
    train(chosen, folder, Options(accelerator="cpu", until=6))
    return [loss for _, loss in losses(folder)]


@pytest.mark.parametrize(
    ("strategy", "more"),
    [("ddp", []), ("ddp", ["--accumulate", "2"]), ("fsdp2", []), ("fsdp2", ["--accumulate", "2"])],
    ids=["ddp", "ddp in pieces", "fsdp2", "fsdp2 in pieces"],
)  # fmt: skip
def test_two_processes_train_as_one(strategy, more, one_process, tmp_path):
    """Of a network without batch norm a step is a mean over rows, whoever has them."""
    command = halflife_train(
        "004/resnet20-nobn-cifar10/adamw", "--data", "digits", "--batch-size", "32", "--out",
        str(tmp_path / "run"), "--until", "6", "--accelerator", "cpu", "--devices", "2",
        "--strategy", strategy, *more,
    )  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("004/resnet20") == 1  # the second process is silent
    found = [loss for _, loss in losses(tmp_path / "run")]
    assert found == pytest.approx(one_process, rel=1e-4)


@pytest.mark.parametrize("devices", [1, 2])
def test_a_killed_run_goes_on_bit_for_bit(devices, tmp_path):
    """kill -9 in the middle of an epoch, wherever it is."""
    arguments = (
        "004/resnet20-nobn-cifar10/adamw", "--data", "digits", "--epochs", "1", "--batch-size",
        "64", "--checkpoint-every", "3", "--log-every", "2", "--accelerator", "cpu", "--devices",
        str(devices),
    )  # fmt: skip
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run(halflife_train(*arguments, "--out", str(whole)), check=True, capture_output=True)
    command = halflife_train(*arguments, "--out", str(cut), "--resume")
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while process.poll() is None and _last(cut) < 10:
        time.sleep(0.01)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (cut / "result.json").exists()
    subprocess.run(
        halflife_train(*arguments, "--out", str(cut), "--resume"), check=True, capture_output=True
    )
    assert not apart(whole, cut)
    results = [json.loads((folder / "result.json").read_text()) for folder in (whole, cut)]
    for key in ("step", "test_loss", "test_error"):
        assert results[0][key] == results[1][key]


def _last(folder: Path) -> int:
    try:
        return losses(folder)[-1][0]
    except (OSError, ValueError, IndexError):
        return 0


class Tied(nn.Module):
    """A list of modules, and a head that is the table."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(6, 4)
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.ModuleList([nn.Linear(4, 4)])])
        self.drop = nn.Dropout()
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.table.weight


def test_what_fsdp2_shards_together():
    from halflife.lab.trials.fabric import units_to_shard

    model = Tied()
    found = [tuple(group) for group in units_to_shard(model)]
    first, second = model.blocks[0], model.blocks[1][0]
    assert set(found) == {(first,), (second,), (model.table, model.head)}
    assert torch.nn.utils.parameters_to_vector(model.parameters()).numel() == 24 + 2 * 20
