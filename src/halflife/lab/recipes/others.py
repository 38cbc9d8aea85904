"""The trainings of papers 002 (Schaipp), 003 (Zhou et al.) and 004 (Zhuang et al.)."""

from __future__ import annotations

from collections.abc import Iterator

from .entry import Recipe

__all__ = ["other_trainings"]

# 003, Table 1: epochs and accuracies in percent; "" where there is none.
_ZHOU = {
    ("resnet18", 90): {"adamw": "67.9", "adamw-d": "70.1", "l2-adam": "67.2", "l2-adam-d": "67.4"},
    ("resnet50", 100): {"adamw": "77.0", "adamw-d": "77.1", "l2-adam": "76.5", "l2-adam-d": "76.4"},
    ("vit-s16", 100): {"adamw": "76.1", "adamw-d": "75.9", "l2-adam": "75.3", "l2-adam-d": "75.4"},
    ("vit-s16", 200): {"adamw": "79.2", "adamw-d": "79.3", "l2-adam": "77.6", "l2-adam-d": "77.7"},
    ("vit-s16", 300): {"adamw": "79.8", "adamw-d": "80.0", "l2-adam": "78.5", "l2-adam-d": "78.6"},
}
_ALGORITHMS = {
    "adamw": "adamw", "adamw-d": "adamw_d", "l2-adam": "adam_l2", "l2-adam-d": "l2_adam_d",
}  # fmt: skip
# 004: lr and weight decay of Adam with L2 and of AdamW, from the authors' README.
_ZHUANG = {
    "resnet20-nobn": ((1e-3, 5e-4), (1e-3, 5e-5)),
    "resnet44-nobn": ((5e-4, 5e-4), (5e-4, 5e-5)),
    "resnet56-nobn": ((5e-4, 5e-4), (5e-4, 5e-5)),
    "resnet110-nobn": ((1e-3, 5e-4), (5e-4, 1e-4)),
    "resnet218-nobn": ((5e-4, 5e-3), (5e-4, 5e-5)),
    "densenet-bc-100-12-nobn": ((5e-4, 1e-3), (1e-3, 5e-5)),
    "resnet20": ((5e-3, 0.0), (5e-3, 0.0)),
    "resnet44": ((5e-3, 0.0), (5e-3, 0.0)),
    "resnet56": ((5e-3, 0.0), (5e-3, 0.0)),
    "resnet110": ((5e-3, 0.0), (5e-3, 0.0)),
    "resnet218": ((5e-3, 0.0), (5e-3, 0.0)),
    "densenet-bc-100-12": ((5e-3, 0.0), (5e-3, 0.0)),
}
_README = "Figures 2 and 3; best settings of the authors' README (errors are in lost pictures)"


def other_trainings() -> Iterator[Recipe]:
    """All of them."""
    yield from _schaipp()
    yield from _zhou()
    yield from _zhuang()


def _schaipp() -> Iterator[Recipe]:
    for method, algorithm in (("adamw", "adamw"), ("adamp", "adamp_blog")):
        yield Recipe(
            f"002/resnet20-nobn-cifar10/{method}", "resnet20-nobn", "cifar10", algorithm, 1e-3,
            1e-4, 100, 128, "constant", "the experiment's section: lr 1e-3 to 1e-1, weight decay "
            "1e-5 to 1e-2", augment="crop-flip", published="accuracy 84 to 86 %, read off a plot",
        )  # fmt: skip


def _zhou() -> Iterator[Recipe]:
    for (model, epochs), accuracies in _ZHOU.items():
        for method, accuracy in accuracies.items():
            vit = model.startswith("vit")
            length = f"-{epochs}" if vit else ""
            falling = method.endswith("-d")
            yield Recipe(
                f"003/{model}-imagenet{length}/{method}", model, "imagenet", _ALGORITHMS[method],
                1e-3, (0.05 if falling else 0.5) if vit else (5e-3 if falling else 5e-2), epochs,
                1024, "warmup-cosine:5", "section 6, Table 1, Figure 2",
                augment="resized-crop-flip",
                decay_schedule="exponential" if falling else "",
                label_smoothing=0.1 if vit else 0.0, published=f"accuracy {accuracy} %",
                note="only ViT-S's weight decays are stated; batch, schedule and the others are "
                "usual ones",
            )  # fmt: skip


def _zhuang() -> Iterator[Recipe]:
    for model, settings in _ZHUANG.items():
        dense = model.startswith("densenet")
        place = f"{model}-{'cifar100' if dense else 'cifar10'}"
        for (method, algorithm), (lr, decay) in zip(
            (("adam-l2", "adam_l2"), ("adamw", "adamw_paper")), settings, strict=True
        ):
            yield _constant(f"{place}/{method}", model, algorithm, lr, decay, _README, dense=dense)
    model = "resnet110-nobn"
    for method, algorithm in (("adamprox", "adamprox"), ("adamproxl2", "adamproxl2")):
        yield _constant(
            f"{model}-cifar10/{method}", model, algorithm, 5e-4, 1e-4, "Figures 5 and 6"
        )
    for factor, l2, w in ((10, (1e-3, 5e-3), (5e-4, 1e-4)), (100, (1e-4, 1e-1), (5e-4, 1e-4))):
        for method, algorithm, (lr, decay) in (
            ("adam-l2", "adam_l2", l2), ("adamw", "adamw_paper", w),
        ):  # fmt: skip
            yield _constant(
                f"{model}-cifar10-loss{factor}/{method}", model, algorithm, lr, decay,
                f"Figure 4: the loss times {factor}", loss_scale=float(factor),
            )  # fmt: skip


def _constant(
    name: str, model: str, algorithm: str, lr: float, decay: float, source: str, *,
    dense: bool = False, loss_scale: float = 1.0,
) -> Recipe:  # fmt: skip
    return Recipe(
        f"004/{name}", model, "cifar100" if dense else "cifar10", algorithm, lr, decay,
        100 if dense and "nobn" in model else 300, 128, "constant", source, augment="crop-flip",
        loss_scale=loss_scale,
    )  # fmt: skip
