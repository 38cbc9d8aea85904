"""Recipes are the papers' settings, and everything that they name is there."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from halflife.algorithms import algorithm
from halflife.cli import app
from halflife.lab.data import DATASETS
from halflife.lab.models import MODELS
from halflife.lab.recipes import RECIPES, recipe
from halflife.lab.recipes.cost import cost, network
from halflife.lab.recipes.entry import AUGMENTATIONS
from halflife.schedules import schedule_named

# Errors in percent of Xie et al. 2023, Table 1, by row and column, from the authors' README.
TABLE_1 = {
    ("resnet18-cifar10", "adams"): 4.91, ("resnet18-cifar10", "radam"): 6.01,
    ("vgg16-cifar10", "sgd"): 6.42, ("vgg16-cifar10", "padam"): 6.15,
    ("resnet34-cifar100", "adamw"): 22.99, ("densenet121-cifar100", "sgd"): 19.81,
    ("googlenet-cifar100", "yogi"): 24.24, ("googlenet-cifar100", "amsgrad"): 25.53,
}  # fmt: skip


@pytest.mark.parametrize("each", RECIPES.values(), ids=RECIPES)
def test_what_a_recipe_names_is_there(each):
    assert each.model in MODELS
    assert each.data in DATASETS
    assert each.augment in AUGMENTATIONS
    chosen = algorithm(each.algorithm)
    weights = [torch.nn.Parameter(torch.ones(2, 2))]
    optimizer = chosen.create(weights, lr=each.lr, weight_decay=each.weight_decay, **each.settings)
    weights[0].grad = torch.ones(2, 2)
    optimizer.step()
    assert weights[0].isfinite().all()
    curve = schedule_named(each.schedule, 100 * each.epochs, 100)
    assert curve(0) == (0.0 if each.schedule.startswith("warmup") else 1.0)
    assert re.fullmatch(r"(\d+\.\d+ %|accuracy [\d.]+ %|accuracy 84 to 86 %, .*|)", each.published)
    assert each.source
    assert re.fullmatch(rf"{each.paper}/[a-z0-9-]+/[a-z0-9-]+", each.name)


@pytest.mark.parametrize(("place", "error"), TABLE_1.items(), ids=map(str, TABLE_1))
def test_results_are_those_of_the_table(place, error):
    assert recipe("000/{}/{}".format(*place)).published == f"{error:.2f} %"


def test_cost_is_counted_by_hand():
    """ResNet-20: 40.5 million multiplications and additions an image, 50,000 images, 300 epochs."""
    found = cost(recipe("004/resnet20-cifar10/adamw"))
    widths, sides = (16, 32, 64), (32, 16, 8)
    products = 27 * 16 * 32 * 32  # the first convolution
    for stage, (width, side) in enumerate(zip(widths, sides, strict=True)):
        convolutions = [9 * width * width] * 6
        if stage:
            convolutions[0] //= 2  # from half the channels
        products += sum(convolutions) * side * side
    products += 64 * 10
    images = 300 * (50_000 // 128) * 128
    assert found.steps == 300 * (50_000 // 128)
    assert found.petaflop == pytest.approx(3 * 2 * products * images / 1e15)
    weights = network(recipe("004/resnet20-cifar10/adamw")).parameters()
    assert found.parameters == sum(p.numel() for p in weights)
    text = cost(recipe("000/lstm-ptb/adam"))
    assert text.steps == 200 * 1328  # windows of 35 tokens in 20 streams of 929,589 tokens


def test_a_name_that_is_none_is_answered_with_what_there_is():
    with pytest.raises(ValueError, match=r"recipe='000/resnet18-cifar10': is the beginning of 11"):
        recipe("000/resnet18-cifar10")
    with pytest.raises(ValueError, match="did you mean '000/resnet18-cifar10/adams'"):
        recipe("000/resnet18-cifar10/adms")
    with pytest.raises(ValueError, match=r"r: lr must be a finite number > 0, got -1"):
        replace(RECIPES["004/resnet20-cifar10/adamw"], name="r", lr=-1)


def test_the_command_lists_them_and_tells_one():
    def run(*words, code=0):
        ended = CliRunner().invoke(app, ["recipes", *words])
        assert ended.exit_code == code, ended.output
        return ended.output

    listed = run("000/resnet18-cifar10/")
    assert "11 recipes" in listed
    assert re.search(r"000/resnet18-cifar10/adams +11\.17 M +78,000 +33 +4\.91 %", listed)
    told = run("003/vit-s16-imagenet-300/adamw-d")
    assert "22,050,664 parameters" in told
    assert "375,300 steps" in told
    assert "accuracy 80.0 %" in told
    assert re.search(r"decay schedule +exponential", told)
    assert "there is none of that name" in run("900/none", code=2)
