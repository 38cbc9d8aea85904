"""Trainings of no paper: a small GPT on any text, for what the papers say of transformers."""

from __future__ import annotations

from collections.abc import Iterator

from .entry import Recipe

__all__ = ["own_trainings"]

_METHODS = {
    "adamw": ("adamw", 1e-3, 0.1),
    "adams": ("adams", 1e-3, 1e-4),
    "adamprox": ("adamprox", 1e-3, 1e-4),
    "sgds": ("sgds", 0.1, 5e-4),
}


def own_trainings() -> Iterator[Recipe]:
    """All of them."""
    for method, (algorithm, lr, decay) in _METHODS.items():
        yield Recipe(
            f"own/gpt-text/{method}", "gpt", "text", algorithm, lr, decay, 5, 32,
            "warmup-cosine:0.05", "no paper: halflife's own", clip=1.0, time=128,
            note="name any text by --data-root; the cost is that of a million characters",
        )  # fmt: skip
