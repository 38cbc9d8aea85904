"""Trains every recipe three steps, whole and cut after two, and says where the two come apart.

``python recipe_runs.py FOLDER STRATEGY [NAMES...]``, by itself or under torchrun: one pair of
processes takes all recipes, as starting it takes longer than training one.
"""

from __future__ import annotations

import atexit
import inspect
import json
import os
import re
import shutil
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from halflife.lab.data import batches
from halflife.lab.models import MODELS
from halflife.lab.recipes import RECIPES, Recipe
from halflife.lab.recipes.building import changed, data_of, model_of, small
from halflife.lab.recipes.options import Options
from halflife.lab.recipes.running import train

ROWS = 8
PLAIN = "004/resnet20-nobn-cifar10/adamw"  # no batch norm, no dropout: a step is a mean over rows
SHALLOW = {"res": {"depth": 8}, "vit": {"depth": 1}}
NORMALIZED = "004/resnet20-cifar10/adamw"
TEXT = "the quick brown fox jumps over the lazy dog and on it goes, "


def tiny(recipe: Recipe) -> Recipe:
    """Small, on digits or a few letters, in batches of eight; of a ResNet for CIFAR one block."""
    data = "digits" if recipe.time is None else "text"
    new = changed(small(recipe), data=data, batch_size=ROWS)
    if "depth" in inspect.signature(MODELS[recipe.model]).parameters and recipe.time is None:
        new = replace(new, model_settings={**new.model_settings, **SHALLOW[recipe.model[:3]]})
    return new


def covering(*only: str) -> list[str]:
    """Names of recipes in which each kind occurs at least once.

    Args:
        only: of which kinds: of models, algorithms, schedules and losses; all by default.
    """
    seen: set[object] = set()
    found = []
    for name in sorted(RECIPES, key=lambda name: ("densenet" in name or "googlenet" in name, name)):
        each = RECIPES[name]
        kinds = {
            "model": re.sub(r"^resnet(44|56|110|218)", "resnet20", each.model),  # alike at depth 8
            "algorithm": each.algorithm,
            "schedule": (each.schedule.partition(":")[0], each.normalized, each.decay_schedule),
            "loss": (each.clip is None, each.loss_scale == 1.0, each.label_smoothing),
        }
        new = {(kind, what) for kind, what in kinds.items() if kind in (only or kinds)} - seen
        if new:
            found.append(name)
            seen |= new
    return found


def text_in(folder: Path) -> str:
    """A file of a few letters."""
    path = folder / "text.txt"
    path.write_text(400 * TEXT)
    return str(path)


def come_apart(recipe: Recipe, folder: Path, options: Options) -> list[str]:
    """Where a run of three steps and one that was cut after two differ."""
    whole, cut = folder / "whole", folder / "cut"
    train(recipe, whole, replace(options, until=3))
    train(recipe, cut, replace(options, until=2))
    train(recipe, cut, replace(options, until=3), resume=True)
    return apart(whole, cut) if os.environ.get("RANK", "0") == "0" else []


def apart(whole: Path, cut: Path) -> list[str]:
    """Parts of the newest checkpoint and of the losses that are not the same in both runs."""
    names = {(each / "latest").read_text() for each in (whole, cut)}
    if len(names) > 1:
        return sorted(names)
    name = names.pop()
    found = []
    for part in sorted(path.name for path in (whole / name).iterdir()):
        states = [read(each / name / part) for each in (whole, cut)]
        if not equal(*states):
            found.append(part)
    if losses(whole) != losses(cut):
        found.append("losses")
    return found


def read(path: Path) -> Any:
    """What a part of a checkpoint holds; one of shards is put together first."""
    if path.is_dir():
        together = path.with_suffix(".pt")
        dcp_to_torch_save(path, together)
        path = together
    return torch.load(path, weights_only=True)


def equal(a: Any, b: Any) -> bool:
    """Whether two checkpoints are the same to the bit; how long the steps took is not compared."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a if k != "seconds")
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


def losses(folder: Path) -> list[tuple[int, float]]:
    """Step and loss of each logged step."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def whole_epoch(name: str, folder: Path, options: Options) -> dict[str, Any]:
    """What an epoch of two steps comes to."""
    return train(replace(changed(tiny(RECIPES[name]), epochs=1), batch_size=600), folder, options)


def test_loss_of(folder: Path) -> float:
    """The test loss of the first process's average, by this process alone."""
    recipe, alone = tiny(RECIPES[NORMALIZED]), Options()
    data = data_of(recipe, alone)
    model = model_of(recipe, data, alone)
    latest = folder / (folder / "latest").read_text()
    model.load_state_dict(torch.load(latest / "process-0.pt", weights_only=True)["average"])
    with torch.no_grad():
        x, y = next(batches(data.test, 360, shuffle=False, drop_last=False))
        return float(torch.nn.functional.cross_entropy(model.eval()(x), y))


def main(folder: Path, strategy: str, names: list[str]) -> None:
    """Write ``report.json``: by recipe, where its two runs come apart; and losses of one of them.

    They are of a batch as a whole and of one in pieces.
    """
    atexit.register(_tell_a_group_that_is_left, folder)
    warnings.simplefilter("ignore")  # those of frameworks, which differ from process to process
    torch.set_num_threads(1)
    rank, world = (int(os.environ.get(key, d)) for key, d in (("RANK", "0"), ("WORLD_SIZE", "1")))
    text = text_in(folder) if rank == 0 else str(folder / "text.txt")
    options = Options(devices=world, accelerator="cpu", strategy=strategy, log_every=1)

    def together() -> None:
        if world > 1:
            torch.distributed.barrier()

    def finished(what: str, value: Any) -> None:
        report[what] = value
        together()
        if rank == 0:
            shutil.rmtree(folder / "run")
        together()  # nobody takes it for a run that was begun

    report: dict[str, Any] = {}
    for name in names or RECIPES:
        recipe = tiny(RECIPES[name])
        root = None if recipe.time is None else text
        finished(name, come_apart(recipe, folder / "run", replace(options, root=root)))
    for pieces in (1, 2):
        train(tiny(RECIPES[PLAIN]), folder / "run", replace(options, until=6, accumulate=pieces))
        finished(f"{pieces} pieces", [loss for _, loss in losses(folder / "run")])
    report["test_loss"] = whole_epoch(PLAIN, folder / "run", options)["test_loss"]
    finished("losses", None)
    if strategy != "fsdp2":  # which keeps no average
        found = whole_epoch(NORMALIZED, folder / "run", replace(options, ema=0.5))
        averages = [test_loss_of(folder / "run")] if rank == 0 else []
        report["averages"] = [found["test_loss_of_average"], *averages]
        finished("end", None)
    if rank == 0:
        (folder / "report.json").write_text(json.dumps(report))


def _tell_a_group_that_is_left(folder: Path) -> None:
    """Registered before all others, so called after them."""
    if torch.distributed.is_initialized():
        (folder / "group-is-left").touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
