"""Published rules for moving a weight decay: the factor of the fraction per step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from ...theory import equilibrium

__all__ = ["LR_SCALINGS", "POWER_LINES", "RULES", "Change", "TransferRule"]

# tau as a share of the run = factor * (tokens per parameter) ^ exponent
POWER_LINES = (1.084, -0.527)

LR_SCALINGS: dict[str, Callable[[Change], float]] = {
    "none": lambda c: 1.0,
    "sqrt": lambda c: math.sqrt(c.batch),
    "linear": lambda c: c.batch,
    "mup": lambda c: 1.0 / c.width,
}


@dataclass(frozen=True)
class Change:
    """Factors from the old recipe to the new one; 1 is no change.

    Args:
        changed: names of what was stated to change.
        batch: samples or tokens per step.
        data: size of the data set (samples or tokens per epoch).
        epochs: passes over it.
        parameters: size of the model.
        width: width of its layers.
        repeats: epochs of the new run, if known.
        fraction: of the old recipe, at the peak.
        momenta: averaging factors of the two optimizers' directions.
        optimizers: their names.
        lr: factor of the lr, if it was stated.
    """

    changed: frozenset[str]
    batch: float = 1.0
    data: float = 1.0
    epochs: float = 1.0
    parameters: float = 1.0
    width: float = 1.0
    repeats: float | None = None
    fraction: float = 0.0
    momenta: tuple[float | None, float | None] = (None, None)
    optimizers: frozenset[str] = frozenset()
    lr: float | None = None

    @property
    def samples(self) -> float:
        """Factor of the samples (or tokens) seen in the whole run."""
        return self.data * self.epochs

    @property
    def steps(self) -> float:
        """Factor of the run's length."""
        return self.samples / self.batch


@dataclass(frozen=True)
class TransferRule:
    """One published rule.

    Args:
        name: what it holds fixed, or its usual name.
        covers: the changes it speaks of.
        ratio: factor of the fraction per step.
        source: paper or code.
        validity: where it was tested.
        lr: factor of the lr, if it prescribes one.
        applies: further condition.
        note: what to know about it.
        verified: whether its constants were checked against the source.
    """

    name: str
    covers: frozenset[str]
    ratio: Callable[[Change], float]
    source: str
    validity: str
    lr: Callable[[Change], float] | None = None
    applies: Callable[[Change], bool] = field(default=lambda change: True)
    note: str = ""
    verified: bool = True


def _rotation(change: Change) -> float:
    old, new = change.momenta
    if old is None or new is None or change.fraction == 0.0:
        return 1.0
    angle = equilibrium.rotation(change.fraction, old)
    most = equilibrium.rotation(1.0, new)
    if angle >= most:
        raise ValueError(
            f"optimizer=: the old recipe turns the weights by {angle:.3g} radians a step and the "
            f"new optimizer by {most:.3g} at most; state the weight decay in its own convention."
        )
    return equilibrium.fraction_for_rotation(angle, new) / change.fraction


_BUDGET = frozenset({"batch", "data", "epochs", "steps"})

RULES: tuple[TransferRule, ...] = (
    TransferRule(
        "fixed fraction per step",
        frozenset({"lr"}),
        lambda c: 1.0,
        "Loshchilov & Hutter 2019; Schaipp 2024: double the lr, halve torch's weight_decay",
        "AdamW with a schedule; a change of the lr alone",
        applies=lambda c: c.changed == {"lr"},
    ),
    TransferRule(
        "fixed timescale in epochs",
        _BUDGET,
        lambda c: c.batch / c.data,
        "Wang & Aitchison 2025 (arXiv 2405.13698)",
        "AdamW; ResNet-18 and ViT on CIFAR and ImageNet, NanoGPT; timescales from one epoch to all",
        note="the number of epochs does not enter",
    ),
    TransferRule(
        "tokens per parameter",
        _BUDGET | {"parameters"},
        lambda c: c.batch / c.samples * (c.samples / c.parameters) ** -POWER_LINES[1],
        "Bergsma et al. 2025, Power Lines (arXiv 2505.13738)",
        "AdamW, language models of 111M to 3.3B parameters, muP lr, data seen once",
        note=f"the exponent {POWER_LINES[1]} is unverified",
        verified=False,
    ),
    TransferRule(
        "normalized weight decay",
        _BUDGET,
        lambda c: c.steps**-0.5,
        "Loshchilov & Hutter 2019, appendix B.1",
        "AdamW and SGDW on CIFAR-10 and ImageNet32x32",
    ),
    TransferRule(
        "fixed timescale, lr by the square root of the batch",
        frozenset({"batch", "data", "epochs", "steps"}),
        lambda c: c.batch / c.samples,
        "nanochat's scaling code: weight_decay by sqrt(batch) / tokens",
        "language models seen once, Muon and AdamW",
        lr=lambda c: math.sqrt(c.batch),
        applies=lambda c: "batch" in c.changed,
    ),
    TransferRule(
        "linear scaling",
        frozenset({"batch"}),
        lambda c: c.batch,
        "Goyal et al. 2017 (arXiv 1706.02677): the lr by the batch, the number unchanged",
        "SGD with momentum, ResNet-50 on ImageNet",
        lr=lambda c: c.batch,
        note="not for Adam; unverified here",
        verified=False,
    ),
    TransferRule(
        "fixed fraction, muP lr",
        frozenset({"width"}),
        lambda c: 1.0,
        "Wang & Aitchison 2025; Kosson et al. 2025 (arXiv 2510.19093)",
        "AdamW, matrices under muP: the lr by 1/width, weight_decay by width",
        lr=lambda c: 1.0 / c.width,
    ),
    TransferRule(
        "fixed fraction per step",
        frozenset({"width"}),
        lambda c: 1.0,
        "Wang & Aitchison 2025 (arXiv 2405.13698): one timescale for models of all sizes",
        "AdamW; ResNet-18, ViT and NanoGPT of several sizes; at the old lr the number is unchanged",
        applies=lambda c: c.lr is not None and not math.isclose(c.lr * c.width, 1.0, rel_tol=1e-6),
    ),
    TransferRule(
        "square root of the width, muP lr",
        frozenset({"width"}),
        lambda c: c.width**-0.5,
        "Fan et al. 2025 (arXiv 2510.15262)",
        "AdamW, matrices under muP: the lr by 1/width, weight_decay by sqrt(width); vectors none",
        lr=lambda c: 1.0 / c.width,
    ),
    TransferRule(
        "inverse square of the width",
        frozenset({"width"}),
        lambda c: c.width**-2.0,
        "nanochat's sweep over depths 8 to 20",
        "Muon with cautious decay, width proportional to depth, tokens per parameter fixed",
        note="its authors replaced it by a fixed timescale",
    ),
    TransferRule(
        "fixed timescale",
        frozenset({"optimizer"}),
        lambda c: 1.0,
        "Chen et al. 2023 (arXiv 2302.06675): keep lr times weight_decay",
        "Lion in place of AdamW or Adafactor; vision, diffusion and language models",
        applies=lambda c: c.optimizers == {"adamw", "lion"},
        note="Lion's lr is usually 3 to 10 times smaller",
    ),
    TransferRule(
        "fixed timescale",
        frozenset({"optimizer"}),
        lambda c: 1.0,
        "Loshchilov & Hutter 2019, appendix B.1: one normalized weight decay for SGDW and AdamW",
        "SGDW and AdamW on CIFAR-10 and ImageNet32x32",
        applies=lambda c: c.optimizers == {"adamw", "sgd"},
    ),
    TransferRule(
        "fixed rotation per step",
        frozenset({"optimizer"}),
        _rotation,
        "Kosson et al. 2023 (arXiv 2305.17212)",
        "AdamW, SGD with momentum and Lion, weights before a normalization, at equilibrium",
    ),
    TransferRule(
        "repeated data, upper end",
        frozenset({"epochs"}),
        lambda c: 30.0,
        "Kim et al. 2025 (arXiv 2509.14786): the best decay was up to 30 times the usual",
        "language models trained many times over a small data set",
        applies=lambda c: c.repeats is not None and c.repeats > 1.0 >= c.repeats / c.epochs,
        note="the end of a range to search, not a setting",
    ),
)
