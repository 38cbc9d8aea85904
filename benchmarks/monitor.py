"""What watching costs: a training step of a small GPT with a monitor and without.

Every candidate trains its own copy of the model with torch's fused AdamW. "Every step" samples all
of them; what one sample adds, divided by the 50 steps between two samples, is the share that the
default costs. "Between samples" has hooks that find nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from halflife.diagnostics import Monitor

from .shapes import MODELS
from .timing import Measured, paired

ROUNDS = 20
EVERY = 50  # the monitor's default
TARGET = 0.02
PRESETS = ("economy", "standard", "full")


class GPT(nn.Module):
    """Four layers of width 256, 64 tokens, 3.4 M parameters."""

    def __init__(self, width: int = 256, layers: int = 4, words: int = 1024, length: int = 64):
        super().__init__()
        self.words, self.length = words, length
        self.tokens, self.places = nn.Embedding(words, width), nn.Embedding(length, width)
        block = nn.TransformerEncoderLayer(
            width, width // 64 or 1, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, words, bias=False)

    def loss(self, text: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(self.length)
        x = self.tokens(text[:, :-1]) + self.places.weight
        logits = self.head(self.blocks(x, mask=mask, is_causal=True))
        return nn.functional.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten())


def _training(rows: int, **size: int) -> Callable[[], tuple[Any, Callable[[], object]]]:
    def make() -> tuple[Any, Callable[[], object]]:
        torch.manual_seed(0)
        model = GPT(**size)
        text = torch.randint(0, model.words, (rows, model.length + 1))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)

        def step() -> None:
            optimizer.zero_grad()
            model.loss(text).backward()
            optimizer.step()

        return optimizer, step

    return make


def _optimizing(name: str) -> Callable[[], tuple[Any, Callable[[], object]]]:
    def make() -> tuple[Any, Callable[[], object]]:
        torch.manual_seed(0)
        params = [nn.Parameter(torch.randn(shape)) for shape in MODELS[name]()]
        for p in params:
            p.grad = torch.randn_like(p)
        optimizer = torch.optim.AdamW(params, lr=1e-4, weight_decay=0.1, fused=True)
        return optimizer, optimizer.step

    return make


def measure(
    make: Callable[[], tuple[Any, Callable[[], object]]], rounds: int
) -> dict[str, dict[str, Any]]:
    """What each preset adds to a step, as a share of it, per sample and spread over 50 steps."""
    _, alone = make()
    candidates = {"alone": [alone]}
    for name in ("between samples", *PRESETS):
        optimizer, step = make()
        sampled = name in PRESETS
        Monitor(
            optimizer,
            every=1 if sampled else (lambda step: False),
            preset=name if sampled else "economy",
            keep=1,
        )
        candidates[name] = [step]
    times = paired(candidates, rounds, before=lambda: None)
    seconds = {name: rows[:, 0] for name, rows in times.items()}
    waiting = seconds["between samples"] / seconds["alone"] - 1.0
    found: dict[str, dict[str, Any]] = {
        "alone": {"seconds": Measured(seconds["alone"]).as_dict()},
        "between samples": {"extra": Measured(waiting).as_dict()},
    }
    for name in PRESETS:
        extra = seconds[name] / seconds["alone"] - 1.0
        found[name] = {
            "extra": Measured(extra).as_dict(),
            "spread over 50": Measured(extra / EVERY).as_dict(),
        }
    share = Measured(np.asarray(seconds["economy"] / seconds["alone"] - 1.0) / EVERY)
    found["economy"] |= {"target": TARGET, "verdict": share.verdict(at_most=TARGET)}
    return found


def main(
    rounds: int | None = None, show: Callable[[str], None] = print, tiny: bool = False
) -> dict[str, Any]:
    """Measure and show."""
    size = {"width": 16, "layers": 1, "words": 16, "length": 4} if tiny else {}
    work = {
        "a training step of a small GPT": _training(2 if tiny else 8, **size),
        "an optimizer step of resnet18's tensors": _optimizing("tiny" if tiny else "resnet18"),
    }
    results = {}
    for title, make in work.items():
        found = results[title] = measure(make, rounds or ROUNDS)
        show(f"{title}: {1e3 * found['alone']['seconds']['median']:.1f} ms; what a monitor adds")
        for name in ("between samples", *PRESETS):
            e = found[name]["extra"]
            line = f"  {name:16} {e['median']:+7.1%} ({e['low']:+.1%} to {e['high']:+.1%}) a step"
            if over := found[name].get("spread over 50"):
                line += f", {over['median']:.2%} with one sample in {EVERY}"
            if "verdict" in found[name] and "training" in title:
                line += f"; <= {TARGET:.0%} {found[name]['verdict']}"
            show(line)
        show("")
    return results
