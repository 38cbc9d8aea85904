"""A published training as data: what is trained, by what, how long, and where that is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...checks import near, require, require_count, require_nonnegative, require_positive
from ..data import DATASETS, Augmentation, PadCropFlip, RandomResizedCrop
from ..models import MODELS

__all__ = ["AUGMENTATIONS", "Recipe", "require_known"]

AUGMENTATIONS: Mapping[str, Augmentation | None] = {
    "": None,
    "crop-flip": PadCropFlip(),
    "crop-flip-mean": PadCropFlip(border="mean"),  # as fb.resnet.torch, where Shake-Shake is from
    "resized-crop-flip": RandomResizedCrop(),
}


_DECAY_SCHEDULES = ("", "exponential")


@dataclass(frozen=True)
class Recipe:
    """One training of a paper.

    Args:
        name: ``paper/model-data/method``.
        model: name of `halflife.lab.models`.
        data: name of `halflife.lab.data`.
        algorithm: name of `halflife.algorithms`, which is optimizer and decay rule.
        lr: peak learning rate.
        weight_decay: the algorithm's coefficient, in its paper's unit.
        epochs: passes over the training set.
        batch_size: rows of a step, over all devices.
        schedule: of the learning rate (`halflife.schedules.schedule_named`).
        source: where settings and result are written.
        augment: name of what is done to the images, a key of `AUGMENTATIONS`.
        settings: of the optimizer, over the algorithm's.
        model_settings: of the model.
        normalized: whether the weight decay is normalized (Loshchilov & Hutter 2019, B.1), so that
            its coefficient follows from the number of steps.
        decay_schedule: of the weight decay; "exponential" is AdamW-D's.
        loss_scale: factor of the loss.
        label_smoothing: share of the targets that is spread over all classes.
        clip: largest norm of the gradient; None for no clipping.
        time: tokens of a window, for text; gradients end at its border.
        published: the result as published, with its unit; empty where there is none, or it is lost.
        note: what to know before it is run.
    """

    name: str
    model: str
    data: str
    algorithm: str
    lr: float
    weight_decay: float
    epochs: int
    batch_size: int
    schedule: str
    source: str
    augment: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    model_settings: Mapping[str, Any] = field(default_factory=dict)
    normalized: bool = False
    decay_schedule: str = ""
    loss_scale: float = 1.0
    label_smoothing: float = 0.0
    clip: float | None = None
    time: int | None = None
    published: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        require_positive(f"{self.name}: lr", self.lr, "pass the peak learning rate")
        require_nonnegative(f"{self.name}: weight_decay", self.weight_decay, "pass 0 for none")
        require_count(f"{self.name}: epochs", self.epochs, "pass passes over the training set")
        require_count(f"{self.name}: batch_size", self.batch_size, "pass rows of a step")
        require_positive(f"{self.name}: loss_scale", self.loss_scale, "pass 1 for the loss itself")
        smoothing = self.label_smoothing
        require(0 <= smoothing < 1, f"{self.name}: label_smoothing", "in [0, 1)", smoothing,
                "pass 0 for none")  # fmt: skip
        if self.clip is not None:
            require_positive(f"{self.name}: clip", self.clip, "pass None for no clipping")
        if self.time is not None:
            require_count(f"{self.name}: time", self.time, "pass the tokens of a window")
        for field_, known in (
            ("model", MODELS), ("data", DATASETS), ("augment", AUGMENTATIONS),
            ("decay_schedule", _DECAY_SCHEDULES),
        ):  # fmt: skip
            value = getattr(self, field_)
            if value not in known:
                raise ValueError(
                    f"{self.name}: {field_}={value!r}: must be one of "
                    f"{', '.join(filter(None, known))}{near(value, known)}"
                )

    @property
    def paper(self) -> str:
        """The paper's number."""
        return self.name.partition("/")[0]


def require_known(name: str, known: Mapping[str, Recipe]) -> Recipe:
    """The recipe of a name.

    Raises:
        ValueError: for another name, with the nearest, or those that begin like it.
    """
    if name in known:
        return known[name]
    begun = [each for each in known if each.startswith(name.rstrip("/") + "/")]
    if begun:
        shown = ", ".join(begun[:8]) + (", ..." if len(begun) > 8 else "")
        raise ValueError(f"recipe={name!r}: is the beginning of {len(begun)}; name one: {shown}.")
    raise ValueError(
        f"recipe={name!r}: there is none of that name{near(name, known)} `halflife recipes` lists "
        "them."
    )
