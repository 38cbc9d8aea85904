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
HERE = Path(__file__).parent


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_go_on_bit_for_bit(strategy, tmp_path):
    """Of each model, algorithm and kind of training one."""
    names = covering()
    assert by_two(strategy, tmp_path, *names) == {name: [] for name in names}


@pytest.mark.recipes
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_go_on_bit_for_bit_with_every_recipe(strategy, tmp_path):
    assert by_two(strategy, tmp_path) == {name: [] for name in RECIPES}


def halflife_train(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "halflife", "train", *arguments]


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """Losses of six steps of one process."""
    folder = tmp_path_factory.mktemp("one")
    chosen = replace(recipe("004/resnet20-nobn-cifar10/adamw"), data="digits", batch_size=32)
    train(chosen, folder, Options(accelerator="cpu", until=6))
    return [loss for _, loss in losses(folder)]


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_a_killed_run_goes_on_bit_for_bit(devices, tmp_path):
    small = ("--data", "digits", "--batch-size", "64", "--checkpoint-every", "3")
    killed(tmp_path, devices, 10, *small, "--log-every", "2")


@pytest.mark.recipes
def test_a_killed_epoch_of_fashion_mnist_goes_on_bit_for_bit(tmp_path):
    killed(tmp_path, 2, 200, "--data", "fashion-mnist", "--checkpoint-every", "75")


def killed(folder: Path, devices: int, step: int, *arguments: str) -> None:
    """Require that an epoch that is killed, wherever it is after a step, ends as a whole one."""
    whole, cut = folder / "whole", folder / "cut"
    command = halflife_train(
        "004/resnet20-nobn-cifar10/adamw", "--epochs", "1", "--accelerator", "cpu", "--devices",
        str(devices), *arguments,
    )  # fmt: skip
    subprocess.run([*command, "--out", str(whole)], check=True, capture_output=True)
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*command, "--out", str(cut)], start_new_session=True, **silent)
    while process.poll() is None and _last(cut) < step:
        time.sleep(0.01)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (cut / "result.json").exists()
    subprocess.run([*command, "--out", str(cut), "--resume"], check=True, capture_output=True)
    assert not apart(whole, cut)
    results = [json.loads((each / "result.json").read_text()) for each in (whole, cut)]
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
