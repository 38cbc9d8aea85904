"""Draw what each rule does to three weights: docs/images/rule_paths.svg.

AdamW for 300 steps at a cosine lr, the same noisy gradients for every rule, decay of equal strength
at the peak. Grey: without decay. Run from the repository's root: python scripts/rule_paths.py
"""

from __future__ import annotations

import math
from pathlib import Path

import torch

import halflife
from halflife import rules

STEPS, LR, FRACTION = 300, 0.01, 0.01
STARTS = (1.0, 0.4, -0.25)
WIDTH, HEIGHT, COLUMNS = 220, 130, 4
COLOURS = ("#0072b2", "#d55e00", "#009e73")  # told apart by colour-blind readers too

RULES: dict[str, tuple[halflife.DecayRule | None, float]] = {
    "Decoupled": (halflife.Decoupled(), FRACTION / LR),
    "Independent": (halflife.Independent(), FRACTION),
    "Constant": (halflife.Constant(), FRACTION),
    "Corrected": (halflife.Corrected(), FRACTION / LR),
    "Stable": (halflife.Stable(), FRACTION / LR),
    "Adaptive": (halflife.Adaptive(), 0.5),
    "Proximal": (halflife.Proximal(), FRACTION / LR),
    "L2Regularization": (halflife.L2Regularization(), 1.0),
    "Cautious": (rules.Cautious(), FRACTION / LR),
    "Anchored, to 0.5": (rules.Anchored(to=0.5), FRACTION / LR),
    "HuberDecay, delta 0.2": (rules.HuberDecay(delta=0.2), FRACTION / LR),
    "NormControl, RMS 0.6": (rules.NormControl(target=0.6), FRACTION / LR),
    "ProximalL1": (rules.ProximalL1(), 0.3),
    "ProximalNorm": (rules.ProximalNorm(), 0.5),
    "Preconditioned": (rules.Preconditioned(), FRACTION / LR),
    "PowerDecay, p 0.8": (rules.PowerDecay(power=0.8), 0.5),
}


def path(rule: halflife.DecayRule | None, weight_decay: float) -> list[list[float]]:
    """The three weights after every step."""
    weights = torch.nn.Parameter(torch.tensor(STARTS))
    optimizer = halflife.AdamW(
        [weights], LR, (0.9, 0.99), weight_decay=weight_decay, decay=rule or "decoupled"
    )
    generator = torch.Generator().manual_seed(3)
    points = [list(STARTS)]
    for t in range(STEPS):
        optimizer.param_groups[0]["lr"] = 0.5 * LR * (1 + math.cos(math.pi * t / STEPS))
        weights.grad = torch.randn(len(STARTS), generator=generator)
        optimizer.step()
        points.append(weights.tolist())
    return points


def line(points: list[list[float]], weight: int, colour: str, width: float) -> str:
    """One weight's path as an SVG polyline."""
    xy = (
        f"{10 + t * (WIDTH - 20) / STEPS:.1f},{78 - 52 * max(-0.9, min(1.2, p[weight])):.1f}"
        for t, p in enumerate(points)
        if t % 4 == 0
    )
    stroke = f'stroke="{colour}" stroke-width="{width}"'
    return f'<polyline fill="none" {stroke} points="{" ".join(xy)}"/>'


def main() -> None:
    """Write the picture."""
    bare = path(None, 0.0)
    rows = -(-len(RULES) // COLUMNS)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH * COLUMNS} '
        f'{HEIGHT * rows}" font-family="sans-serif" font-size="12">',
        "<title>Three weights over 300 steps under each decay rule, and without decay</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for i, (name, (rule, weight_decay)) in enumerate(RULES.items()):
        x, y = WIDTH * (i % COLUMNS), HEIGHT * (i // COLUMNS)
        parts.append(f'<g transform="translate({x},{y})">')
        parts.append(f'<text x="10" y="13" fill="#222222">{name}</text>')
        parts.append(f'<line x1="10" x2="{WIDTH - 10}" y1="78" y2="78" stroke="#cccccc"/>')
        decayed = path(rule, weight_decay)
        parts += [line(bare, w, "#bbbbbb", 1.0) for w in range(len(STARTS))]
        parts += [line(decayed, w, COLOURS[w], 1.6) for w in range(len(STARTS))]
        parts.append("</g>")
    target = Path("docs/images/rule_paths.svg")
    target.write_text("\n".join([*parts, "</svg>"]) + "\n", "utf-8")


if __name__ == "__main__":
    main()
