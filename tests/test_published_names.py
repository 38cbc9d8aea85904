"""One name, one meaning: what the catalogue trains is what conversion says of the name."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from halflife.algorithms import algorithms, create
from halflife.rules.published import PUBLISHED
from halflife.units.convert import CONVENTIONS, NAMES, REFUSED, Setting, convention_named, convert
from halflife.units.reading import read_group

LR = 0.02
CURVE = (0.1, 0.5, 1.0, 0.9, 0.6, 0.3, 0.05)
NUMBER = {"torch": 0.5, "stable": 0.5, "l2": 0.5, "corrected": 0.5}  # else a fraction, 0.01
CATALOGUE = [
    (key, entry)
    for entry in algorithms()
    for key in (entry.name, *entry.aliases)
    if entry.rule is not None
]
CREATED = [key for key, entry in CATALOGUE if entry.optimizer is not None and key in NAMES]


def settings(name: str) -> dict[str, Any]:
    """Without momentum an L2 term is a fraction at every step; SGD's rate is then 1, too."""
    return (
        {"momentum": 0.0} if name.startswith("sgd") and name not in ("sgdw", "sgdw_paper") else {}
    )


def course(name: str, weight_decay: float) -> list[torch.Tensor]:
    """The weights after each step of a changing lr, under a gradient of 1: Adam's v_hat is 1."""
    weight = torch.nn.Parameter(torch.full((2, 2), 3.0, dtype=torch.float64))
    optimizer = create(name, [weight], lr=LR, weight_decay=weight_decay, **settings(name))
    seen = [weight.detach().clone()]
    for multiplier in CURVE:
        optimizer.param_groups[0]["lr"] = LR * multiplier
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        seen.append(weight.detach().clone())
    return seen


@pytest.mark.parametrize("name", CREATED)
def test_a_training_by_name_is_what_conversion_says_of_it(name: str) -> None:
    convention = convention_named(name, "source")
    value = NUMBER.get(convention.name, 0.01)
    stable = {"effective_rate": 1.0} if convention.name == "stable" else {}
    sgd = name.startswith(("sgd", "hanson"))
    setting = Setting(LR, "sgd" if sgd else "adam", momentum=0.0 if sgd else None, **stable)
    plain, decayed = course(name, 0.0), course(name, value)
    weight = decayed[0]
    for t, multiplier in enumerate(CURVE):
        fraction, size = convention.at(value, LR, multiplier, setting)
        step = plain[t + 1] - plain[t]  # -lr u, the same whatever the weights
        weight = (1.0 - fraction) * weight + step * (size / (LR * multiplier))
        # Adam's eps of 1e-8 is in the effective rate, not in what conversion knows of it.
        torch.testing.assert_close(decayed[t + 1], weight, rtol=1e-7, atol=0.0)
        weight = decayed[t + 1]
        assert fraction > 0.0


def test_every_name_of_the_catalogue_is_known_to_conversion() -> None:
    """It is converted, or refused with the reason: never unknown."""
    for key, entry in CATALOGUE:
        assert PUBLISHED[key] == entry.rule, key
        assert (key in NAMES) is not (key in REFUSED), key


def test_every_published_name_is_in_the_catalogue_or_a_word_for_some_of_it() -> None:
    assert set(PUBLISHED) - {key for key, _ in CATALOGUE} == {"sgdc", "swd"}


def test_proxadam_is_that_of_its_source() -> None:
    """(w - eta alpha u) / (1 + eta lambda): lambda is a share per step, no multiple of the lr."""
    assert convert(1e-4, "proxadam", "half_life", lr=1e-3).fraction == pytest.approx(1e-4 / 1.0001)
    assert NAMES["proxadam"].convention == NAMES["adamprox"].convention == "proximal_independent"


def test_sgdw_is_that_of_its_paper_and_says_that_libraries_differ() -> None:
    result = convert(1e-4, "sgdw", "torch", lr=0.1)
    assert result.value == pytest.approx(1e-3)
    assert "'timm.sgdw'" in result.note
    assert convert(1e-3, "timm.sgdw", "torch", lr=0.1).value == 1e-3


# --- libraries ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["pytorch_optimizer.fixed_decay", "optax.adafactor", "tfa", "tensorflow_addons"]
)
def test_decay_at_lr_0_is_told_from_constant(name: str) -> None:
    unknown = convert(1e-4, name, "constant", lr=LR)
    assert (unknown.value, unknown.exactness) == (1e-4, "at the peak")
    assert "all steps but those at lr 0 are the same" in unknown.note
    assert convert(1e-4, name, "constant", lr=LR, schedule=[1.0, 0.5]).exactness == "exact"
    assert convert(1e-4, name, "constant", lr=LR, schedule=[1.0, 0.0]).exactness == "at the peak"
    assert convert(1e-4, name, "tfa", lr=LR, schedule=[1.0, 0.0]).exactness == "exact"
    # three steps of the library's, two of Constant's: the totals are equal
    total = convert(1e-4, name, "constant", lr=LR, schedule=[1.0, 0.5, 0.0], reference="mean")
    assert total.value == pytest.approx(1.5e-4)
    back = convert(1.5e-4, "constant", name, lr=LR, schedule=[1.0, 0.5, 0.0], reference="mean")
    assert back.value == pytest.approx(1e-4)


def test_fixed_decay_does_what_is_said_of_it_at_lr_0() -> None:
    package = pytest.importorskip("pytorch_optimizer")
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
    optimizer = package.AdaBelief([weight], lr=LR, weight_decay=0.25, fixed_decay=True)
    optimizer.param_groups[0]["lr"] = 0.0
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    fraction, size = convention_named("pytorch_optimizer.fixed_decay", "source").at(
        0.25, LR, 0.0, Setting(LR)
    )
    assert (fraction, size) == (0.25, 0.0)
    assert weight.tolist() == [1.0 - fraction] * 3
    assert CONVENTIONS["constant"].at(0.25, LR, 0.0, Setting(LR)) == (0.0, 0.0)
    reading = read_group(optimizer, optimizer.param_groups[0])  # as describe and the audit do
    assert reading.fraction_at(0.0, 0.25) == 0.25
    lrs, decays = torch.tensor([0.0, LR]).double(), torch.tensor([0.25, 0.125]).double()
    assert reading.fraction_at(lrs, decays).tolist() == [0.25, 0.125]


def test_bitsandbytes_is_named_by_device() -> None:
    after = convert(0.1, "bitsandbytes", "torch", lr=1e-3)
    assert after.changes_lr
    assert "on CUDA only" in after.note
    before = convert(0.1, "bitsandbytes.cpu", "torch", lr=1e-3)
    assert (before.value, before.changes_lr, before.exactness) == (0.1, False, "exact")


@pytest.mark.parametrize("name", ["optax.lion", "deepspeed"])
def test_what_was_read_is_not_called_unverified(name: str) -> None:
    result = convert(0.1, name, "torch", lr=LR)
    assert (result.value, result.exactness) == (0.1, "exact")
    assert "unverified" not in result.note


def test_timm_says_which_of_its_optimizers() -> None:
    assert all(name in NAMES["timm"].meaning for name in ("adamw", "nadamw", "lion"))
    assert "others" not in NAMES["timm"].meaning
    assert NAMES["timm.laprop"].convention == "decoupled_after"
    assert NAMES["timm.adan"].convention == "proximal"


@pytest.mark.parametrize("name", ["lion", "optax.lion", "lion_pytorch"])
def test_a_prediction_is_that_of_the_optimizer_named(name: str) -> None:
    named = convert(0.1, name, "rms", lr=1e-4)
    assert named.value == convert(0.1, "torch", "rms", lr=1e-4, optimizer="lion").value
    assert named.value != convert(0.1, "torch", "rms", lr=1e-4).value
    other = convert(0.1, name, "rms", lr=1e-4, optimizer="adam")  # what is given wins
    assert other.value == convert(0.1, "torch", "rms", lr=1e-4).value
