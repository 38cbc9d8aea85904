"""The trainings of Xie et al. 2023, On the overlooked pitfalls of weight decay (paper 000).

Most numerals of the appendix are lost in the text at hand; they are those of the authors' code and
of their Adai paper, whose set-up this one shares.
"""

from __future__ import annotations

from collections.abc import Iterator

from .entry import Recipe

__all__ = ["xie_trainings"]

_TABLE = "Table 1 (errors in percent, 3 seeds); settings: appendix B.1 and the authors' README"
# Method: algorithm, peak lr, weight decay; appendix B.1.
_METHODS = {
    "adams": ("adams", 1e-3, 5e-4),
    "sgd": ("sgd_l2", 0.1, 5e-4),
    "adam": ("adam_l2", 1e-3, 5e-4),
    "amsgrad": ("amsgrad", 1e-3, 5e-4),
    "adamw": ("adamw", 1e-3, 0.5),
    "adabound": ("adabound", 1e-3, 5e-4),
    "padam": ("padam", 1e-2, 5e-4),
    "yogi": ("yogi", 1e-3, 5e-4),
    "radam": ("radam", 1e-3, 5e-4),
}
_NETWORKS = {
    # Model, data, schedule, and the errors in the order of the methods; "" where they are lost.
    "resnet18-cifar10": (
        "resnet18", "cifar10", "multistep:80,160",
        "4.91 5.01 6.53 6.16 5.08 5.65 5.12 5.87 6.01",
    ),
    "vgg16-cifar10": (
        "vgg16-bn", "cifar10", "multistep:80,160",
        "6.09 6.42 7.31 7.14 6.48 6.76 6.15 6.90 6.56",
    ),
    "resnet34-cifar100": (
        "resnet34", "cifar100", "multistep:100,150",
        "21.76 21.52 27.16 25.53 22.99 22.87 22.72 23.57 24.41",
    ),
    "densenet121-cifar100": (
        "densenet121", "cifar100", "multistep:100,150",
        "20.52 19.81 25.11 24.43 21.55 22.69 21.10 22.15 22.27",
    ),
    "googlenet-cifar100": (
        "googlenet", "cifar100", "multistep:100,150",
        "21.05 21.21 26.12 25.53 21.29 23.18 21.82 24.24 22.23",
    ),
}  # fmt: skip


def xie_trainings() -> Iterator[Recipe]:
    """All of them."""
    for place, (model, data, schedule, errors) in _NETWORKS.items():
        for (method, (algorithm, lr, decay)), error in zip(
            _METHODS.items(), errors.split(), strict=True
        ):
            yield _cifar(place, model, data, schedule, method, algorithm, lr, decay, f"{error} %")
    for method, algorithm, lr in (("sgds", "sgds", 0.1), ("adais", "adais", 1.0)):
        yield _cifar(
            "resnet18-cifar10", "resnet18", "cifar10", "multistep:80,160", method, algorithm, lr,
            5e-4, "", "appendix B.1, its stable form; not in Table 1",
        )  # fmt: skip
    for method in ("sgd", "adam", "adamw", "adams"):
        algorithm, lr, decay = _METHODS[method]
        yield _cifar(
            "vgg16-nobn-cifar10", "vgg16-nobn", "cifar10", "multistep:80,160", method, algorithm,
            lr, decay, "", "Figure 3, without batch norm",
        )  # fmt: skip
    for method in ("adams", "adamw", "adam"):
        algorithm, lr, decay = _METHODS[method]
        restarts = _cifar(
            "resnet18-cifar10-restarts", "resnet18", "cifar10", "restarts:14*2", method, algorithm,
            lr, decay, "", "Figures 12 and 20: T_0 = 14, T_mult = 2, 210 epochs", epochs=210,
        )  # fmt: skip
        yield restarts
        yield _cifar(
            "resnet18-cifar10-900", "resnet18", "cifar10", "multistep:300,600", method, algorithm,
            lr, decay, "", "Figure 17: 900 epochs; where its drops lie is lost", epochs=900,
        )  # fmt: skip
        yield Recipe(
            f"000/resnet50-imagenet/{method}", "resnet50", "imagenet", algorithm, lr,
            decay if method != "adamw" else 5e-2, 90, 256, "multistep:30,60",
            "Figure 18, appendix B.2", augment="resized-crop-flip",
            note="its weight decays are chosen from 5e-6 to 5e-2",
        )  # fmt: skip
        yield Recipe(
            f"000/lstm-ptb/{method}", "lstm", "ptb", algorithm, 1e-3,
            {"adams": 1e-5, "adamw": 1e-2, "adam": 1e-5}[method], 200, 20, "constant",
            "Figure 13, appendix B.3", model_settings={"width": 512, "layers": 2, "dropout": 0.5},
            clip=0.25, time=35,
            note="its weight decays are chosen from 1e-7 to 1e-4; epochs and schedule are lost",
        )  # fmt: skip


def _cifar(
    place: str, model: str, data: str, schedule: str, method: str, algorithm: str, lr: float,
    decay: float, published: str, source: str = _TABLE, epochs: int = 200,
) -> Recipe:  # fmt: skip
    return Recipe(
        f"000/{place}/{method}", model, data, algorithm, lr, decay, epochs, 128, schedule, source,
        augment="crop-flip", published=published,
    )  # fmt: skip
