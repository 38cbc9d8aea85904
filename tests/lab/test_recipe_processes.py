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
from typing import Any

import pytest
import torch
from recipe_runs import PLAIN, apart, come_apart, covering, losses, text_in, tiny, whole_epoch
from torch import nn

from halflife.lab.recipes import RECIPES
from halflife.lab.recipes.options import Options
from halflife.lab.recipes.running import train

pytest.importorskip("lightning.fabric")
HERE = Path(__file__).parent
FAMILIES = [  # recurrent, convolutional without and with batch norm, transformers of both kinds
    "000/lstm-ptb/adam",
    "002/resnet20-nobn-cifar10/adamp",
    "000/vgg16-cifar10/adabound",
    "003/vit-s16-imagenet-100/adamw",
    "own/gpt-text/adamprox",
]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in covering() else pytest.mark.recipes)
        for name in RECIPES
    ],
)
def test_every_recipe_trains_and_goes_on_bit_for_bit(name, tmp_path):
    each = RECIPES[name]
    root = None if each.time is None else text_in(tmp_path)
    options = Options(root=root, accelerator="cpu", log_every=1)
    assert come_apart(tiny(each), tmp_path, options) == []


def by_two(strategy: str, folder: Path, *names: str) -> dict[str, Any]:
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
    assert not (folder / "group-is-left").exists()  # its threads may abort a process that ends
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "names"), [("ddp", covering()), ("fsdp2", FAMILIES)])
def test_two_processes_train_as_one_and_go_on_bit_for_bit(strategy, names, one_process, tmp_path):
    """Of each kind of recipe one; under FSDP2, which shards by layers, of each family of models.

    The algorithms under it are tests/test_fsdp2's, and `make test-recipes` has every recipe.
    """
    require_alike(by_two(strategy, tmp_path, *names), names, one_process)


@pytest.mark.recipes
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_train_every_recipe(strategy, one_process, tmp_path):
    require_alike(by_two(strategy, tmp_path), list(RECIPES), one_process)


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """Losses of six steps of one process, and the test loss of an epoch."""
    folder = tmp_path_factory.mktemp("one")
    alone = Options(accelerator="cpu")
    train(tiny(RECIPES[PLAIN]), folder / "six", replace(alone, until=6))
    tested = whole_epoch(PLAIN, folder / "epoch", alone)["test_loss"]
    return [loss for _, loss in losses(folder / "six")], tested


def require_alike(report: dict[str, Any], names: list[str], one: tuple[list[float], float]) -> None:
    """No recipe comes apart, and whoever has the rows of a batch, their mean is the same."""
    assert {name: report[name] for name in names} == {name: [] for name in names}
    for pieces in (1, 2):
        assert report[f"{pieces} pieces"] == pytest.approx(one[0], rel=1e-4)
    assert report["test_loss"] == pytest.approx(one[1], rel=1e-4)
    if "averages" in report:  # of both processes one network, though each has its batch norm
        ours, alone = report["averages"]
        assert ours == pytest.approx(alone, rel=1e-5)


def halflife_train(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "halflife", "train", *arguments]


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(tmp_path):
    small = ("--data", "digits", "--batch-size", "64", "--checkpoint-every", "3")
    killed(tmp_path, 10, *small, "--log-every", "2")


@pytest.mark.recipes
def test_a_killed_epoch_of_fashion_mnist_goes_on_bit_for_bit(tmp_path):
    killed(tmp_path, 200, "--data", "fashion-mnist", "--checkpoint-every", "75")


def killed(folder: Path, step: int, *arguments: str) -> None:
    """Require that an epoch that is killed, wherever it is after a step, ends as a whole one."""
    whole, cut = folder / "whole", folder / "cut"
    command = halflife_train(
        PLAIN, "--epochs", "1", "--accelerator", "cpu", "--devices",
        "2", *arguments,
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
