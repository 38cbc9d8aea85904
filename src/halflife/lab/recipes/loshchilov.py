"""The trainings of Loshchilov & Hutter 2019, Decoupled weight decay regularization (paper 001)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .entry import Recipe

__all__ = ["loshchilov_trainings"]

# Algorithm, lr, and a weight decay that is normalized where it is decoupled: sections 4 and B.1.
_METHODS = {
    "sgd": ("sgd_l2", 0.05, 5e-4),
    "sgdw": ("sgdw", 0.05, 0.025),
    "adam": ("adam_l2", 1e-3, 5e-4),
    "adamw": ("adamw_paper", 1e-3, 0.025),
}
_SCHEDULES = {"fixed": "constant", "drops": "multistep:30,60,80", "cosine": "cosine"}
_SHAKE = "section 4 and Gastaldi 2017, whose augmentation is random crops and flips"


def loshchilov_trainings() -> Iterator[Recipe]:
    """All of them."""
    for kind, schedule in _SCHEDULES.items():
        for method in _METHODS:
            yield _shake(
                64, "cifar10", method, f"-{kind}", 100, schedule, f"Figures 1, 2; {_SHAKE}"
            )
    for method in ("adam", "adamw"):
        yield _shake(96, "cifar10", method, "-1800", 1800, "cosine", f"Figure 3; {_SHAKE}")
        yield _shake(96, "imagenet32", method, "", 100, "cosine", f"SuppFigure 4; {_SHAKE}")
    yield _shake(96, "cifar10", "adam", "-1800-fixed", 1800, "constant", f"SuppFigure 2; {_SHAKE}")
    for data, epochs in (("cifar10", 1500), ("imagenet32", 150)):
        first = 100 if data == "cifar10" else 10
        for method, base in (("sgdwr", "sgdw"), ("adamwr", "adamw")):
            yield _shake(
                96, data, base, "-restarts", epochs, f"restarts:{first}*2",
                f"Figure 4, SuppFigures 5, 6; {_SHAKE}", method=method, algorithm=method,
            )  # fmt: skip


def _shake(
    width: int, data: str, base: str, suffix: str, epochs: int, schedule: str, source: str,
    **more: Any,
) -> Recipe:  # fmt: skip
    algorithm, lr, decay = _METHODS[base]
    return Recipe(
        f"001/shake-shake-2x{width}d-{data}{suffix}/{more.get('method', base)}",
        f"shake-shake-26-2x{width}d", data, more.get("algorithm", algorithm), lr, decay, epochs,
        128, schedule, source, augment="crop-flip-mean", normalized=base in ("sgdw", "adamw"),
    )  # fmt: skip
