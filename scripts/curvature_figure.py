"""Draw docs/images/curvature.svg: Hessian spectra of a small network at two weight decays.

Takes about half a minute. Run from the repository's root: python scripts/curvature_figure.py
With --numbers it prints the table of docs/curvature.md and draws nothing.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import halflife
from halflife.diagnostics import curvature
from halflife.diagnostics.curvature.figures import plot_densities
from halflife.lab.tasks import Task, find_task, generator
from halflife.schedules import cosine
from halflife.theory.pac_bayes import error_term

TASKS = {"digits": "without", "digits-bn": "with"}
DECAYS = {"digits": (0.0, 3.0), "digits-bn": (0.0, 10.0)}  # none, and the best of 1, 3, 10, 30
LR, BETA1, FINAL = 0.01, 0.9, 0.1  # the lr falls along a cosine to a tenth
PRIOR_VARIANCE, FLOOR = 0.05, 1e-12


@dataclass
class Trained:
    """A network at the end of its training."""

    model: nn.Module
    data: tuple[Tensor, Tensor]
    optimizer: torch.optim.Optimizer
    error: float
    lr: float


def trained(task: Task, weight_decay: float) -> Trained:
    """The task's network by AdamW, every parameter decaying."""
    torch.manual_seed(0)
    model, data, order = task.model(), task.data(0), generator("order", 0)
    optimizer = halflife.AdamW(model.parameters(), LR, weight_decay=weight_decay)
    rows = len(data.train_targets)
    batches = rows // task.batch_size
    schedule = cosine(task.epochs * batches, final=FINAL)
    for epoch in range(task.epochs):
        for i, batch in enumerate(torch.randperm(rows, generator=order).split(task.batch_size)):
            optimizer.param_groups[0]["lr"] = lr = LR * schedule(epoch * batches + i)
            optimizer.zero_grad()
            task.loss(model(data.train_inputs[batch]), data.train_targets[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        model(data.train_inputs)  # batch norm's statistics: those of the training set
        model.eval()
        error = float(task.error(model(data.test_inputs), data.test_targets))
    return Trained(model, (data.train_inputs, data.train_targets), optimizer, error, lr)


def numbers(run: Trained, task: Task, weight_decay: float) -> dict[str, str]:
    """One column of the table."""
    hessian = curvature.hessian(run.model, task.loss, run.data)
    ends = curvature.lanczos(hessian, which="both", tol=1e-3, steps=300)
    trace = curvature.hutch_pp(hessian, 90)
    squared_norm = float(sum(p.detach().square().sum() for p in run.model.parameters()))
    metric = curvature.preconditioner(run.optimizer, run.model)
    scaled = curvature.lanczos(curvature.PreconditionedHessian(hessian, metric), tol=1e-3)
    limit = curvature.stability_limit(
        run.lr, momentum=BETA1, averaged=True, fraction=run.lr * weight_decay
    )
    density = curvature.spectral_density(hessian, vectors=4)
    small = density.share(-1.0, 1.0)
    term = error_term(
        density.nodes.abs().flatten(),
        weight_decay,
        lr=run.lr,
        batch_size=task.batch_size,
        prior_variance=PRIOR_VARIANCE,
        floor=FLOOR,
        weights=density.weights.flatten(),
        dimension=hessian.dim,
    )
    top, bottom = ends.values.tolist()
    return {
        "test error": f"{run.error:.1f} %",
        "largest eigenvalue": f"{top:.3g}",
        "smallest": f"{bottom:.2g}",
        "trace": f"{trace.value:.1f} ± {trace.standard_error:.1f}",
        "\\|w\\|²": f"{squared_norm:.3g}",
        "largest · \\|w\\|²": f"{top * squared_norm:.0f}",
        "preconditioned, over the stability limit": f"{scaled.value / limit:.2g}",
        "share of eigenvalues in [-1, 1]": f"{100 * small.value:.2f} %",
        "PAC-Bayes error per weight": f"{term.per_weight:.2f}",
    }


def table() -> list[str]:
    """The page's table, as Markdown."""
    columns = {}
    for name, title in TASKS.items():
        task = find_task(name)
        for weight_decay in DECAYS[name]:
            head = f"{title}, {weight_decay:g}"
            columns[head] = numbers(trained(task, weight_decay), task, weight_decay)
    lines = [f"| batch norm, weight_decay | {' | '.join(columns)} |", "|---" * 5 + "|"]
    for quantity in next(iter(columns.values())):
        cells = " | ".join(column[quantity] for column in columns.values())
        lines.append(f"| {quantity} | {cells} |")
    return lines


def draw(target: Path) -> None:
    """The densities, as SVG whose bytes depend on the picture alone."""
    import matplotlib

    panels = {}
    for name, title in TASKS.items():
        task = find_task(name)
        panel = panels[f"{title} batch norm"] = {}
        for weight_decay in DECAYS[name]:
            run = trained(task, weight_decay)
            hessian = curvature.hessian(run.model, task.loss, run.data)
            density = curvature.spectral_density(hessian, vectors=4)
            panel[f"weight_decay {weight_decay:g}"] = density
    with matplotlib.rc_context({"svg.hashsalt": "halflife", "svg.fonttype": "none"}):
        plot_densities(panels).savefig(target, metadata={"Date": None})
    print(target)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if "--numbers" in sys.argv[1:]:
        print("\n".join(table()))
    else:
        draw(Path("docs/images/curvature.svg"))
