"""Train on the digits with a monitor: docs/images/monitor_*.svg and monitor_*.txt of the page
"The audit and the monitor".

Takes about half a minute. Run from the repository's root: python scripts/monitor_figures.py
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import halflife
from halflife.diagnostics import histograms
from halflife.diagnostics.gradient_norms import gradient_norms
from halflife.diagnostics.monitor import Monitor
from halflife.diagnostics.monitor.figure import plot_records
from halflife.diagnostics.monitor.table import table

IMAGES = Path("docs/images")
STEPS, BATCH, PEAK, DECAY = 4000, 50, 2e-3, 1.0


def digits() -> tuple[Tensor, Tensor]:
    inputs, targets = load_digits(return_X_y=True)
    return torch.tensor(inputs, dtype=torch.float32) / 8.0 - 1.0, torch.tensor(targets)


def network() -> nn.Module:
    torch.manual_seed(0)
    sizes, layers = (64, 128, 128), []
    for size, wider in pairwise(sizes):
        layers += [nn.Linear(size, wider, bias=False), nn.BatchNorm1d(wider), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], 10))


def train(
    make: Any, watch: bool = True, steps: int = STEPS
) -> tuple[nn.Module, Any, Monitor | None]:
    """A run under a cosine to 2 % with noisy labels, so that there is a gradient to the end."""
    model = network()
    optimizer = make(halflife.param_groups(model))
    every = STEPS // 80
    monitor = Monitor(optimizer, model, every=every, preset="standard") if watch else None
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS, 0.02 * PEAK)
    inputs, targets = digits()
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        rows = torch.randint(len(inputs), (BATCH,), generator=generator)
        labels = targets[rows].clone()
        wrong = torch.rand(BATCH, generator=generator) < 0.2
        labels[wrong] = torch.randint(10, (int(wrong.sum()),), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs[rows]), labels).backward()
        optimizer.step()
        scheduler.step()
    return model, optimizer, monitor


def adamw(rule: str) -> Any:
    return lambda groups: halflife.AdamW(groups, lr=PEAK, weight_decay=DECAY, decay=rule)


def watched() -> None:
    """One run as the monitor draws it and prints it; two rules side by side; G1 and G2."""
    inputs, targets = digits()
    data = [(inputs[i : i + BATCH], targets[i : i + BATCH]) for i in range(0, 1750, BATCH)]
    lines = [f"{'rule':10} {'G1':>8} {'G2':>8} {'||w||':>8} {'||w|| G1':>9}"]
    together = []
    for rule in ("decoupled", "corrected"):
        model, _, monitor = train(adamw(rule))
        assert monitor is not None
        if rule == "decoupled":
            middle = [r for r in monitor.history if r["step"] == STEPS // 2]
            save(monitor.figure(["decayed", "0.weight", "6.weight"]), "monitor_run")
            shown = ["weight_rms", "gradient_norm", "rotation", "decay_share"]
            text = table(middle, [*shown, "settled"])
            (IMAGES / "monitor_table.txt").write_text(text + "\n", "utf-8")
        together += [
            {**r, "name": rule} for r in monitor.history if r["name"] == "decayed" and r["step"] > 1
        ]
        g = gradient_norms(model, nn.functional.cross_entropy, data)
        lines.append(
            f"{rule:10} {g.full:8.3g} {g.minibatch:8.3g} {g.weight_norm:8.3g} {g.product:9.3g}"
        )
    quantities = ("weight_rms", "rotation", "gradient_norm", "weight_gradient_product")
    save(plot_records(together, ["decoupled", "corrected"], quantities), "monitor_rules")
    (IMAGES / "monitor_gradients.txt").write_text("\n".join(lines) + "\n", "utf-8")


def counted() -> None:
    """Updates of step 300, with decoupled decay and with L2, at the same weight_decay."""
    found = {}
    for title, cls in (("AdamW", torch.optim.AdamW), ("Adam with L2", torch.optim.Adam)):
        _, optimizer, _ = train(
            lambda groups, cls=cls: cls(groups, lr=PEAK, weight_decay=0.1),
            watch=False,
            steps=300,
        )
        found[title] = histograms.update_histogram(optimizer)
    save(histograms.figure(found), "monitor_updates")


def save(drawn: Any, name: str) -> None:
    import matplotlib

    matplotlib.rcParams["svg.hashsalt"] = name
    drawn.savefig(IMAGES / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    torch.set_num_threads(1)
    watched()
    counted()
