"""Pictures of the predictions, beside measurements where there are some. Extra: ``plot``.

Functions take numbers and return a matplotlib ``Figure``, which belongs to no window and no global
state: save it with ``figure.savefig(...)``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..checks import require
from . import gradient_norms, pac_bayes
from .averaging import Averaging

__all__ = [
    "Path",
    "plot_averaging",
    "plot_error_terms",
    "plot_gradient_bound",
    "plot_paths",
    "plot_uncoupled_gradient",
]

# Told apart by colour-blind readers too (Okabe & Ito).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9")
_GREY = "#5a6069"


def plot_averaging(panels: Mapping[str, Mapping[str, Averaging]]) -> Any:
    """How much each step of the training counts in the final weights.

    Curves have mean 1: a curve at 1 everywhere is a plain average over the whole training.

    Args:
        panels: for each panel's title, the averagings by label.

    Raises:
        ImportError: without matplotlib.
        ValueError: if there is nothing to draw.

    Example:
        >>> from halflife.theory.averaging import averaging
        >>> constant = averaging([0.01] * 500, [1.0] * 500)
        >>> figure = plot_averaging({"constant lr": {"d = 0.01": constant}})
        >>> len(figure.axes)
        1
    """
    figure, axes = _panels(list(panels), "plot_averaging: panels")
    for ax, results in zip(axes, panels.values(), strict=True):
        for colour, (label, result) in zip(_cycle(len(results)), results.items(), strict=True):
            c = result.coefficients
            steps = len(c)
            position = [(i + 0.5) / steps for i in range(steps)]
            name = f"{label}: n_eff/T {result.effective_share:.2f}"
            ax.plot(position, (c / c.mean()).tolist(), color=colour, label=name)
        ax.axhline(1.0, color=_GREY, lw=0.6, ls=":")
        ax.set(xlabel="position in the training", xlim=(0, 1), ylim=(0, None))
        ax.legend(frameon=False, fontsize=8)
    for ax in axes[::2]:
        ax.set_ylabel("how much a step counts (mean 1)")
    return figure


@dataclass(frozen=True)
class Path:
    """A quantity along a training, measured and predicted.

    Args:
        steps: at which it was measured.
        measured: the values; drawn as points.
        predicted: values at the same steps, drawn as a line; None for none.
    """

    steps: Sequence[float]
    measured: Sequence[float]
    predicted: Sequence[float] | None = None


def plot_paths(
    panels: Mapping[str, Mapping[str, Path]],
    *,
    ylabel: str,
    log: bool = False,
    levels: Mapping[str, float] | None = None,
) -> Any:
    """Measured values as points, predicted ones as lines of the same colour.

    Args:
        panels: for each panel's title, the paths by label.
        ylabel: the quantity, with its unit.
        log: logarithmic axis; else it starts at 0.
        levels: for a panel's title, a horizontal line: where its paths should end.

    Raises:
        ImportError: without matplotlib.
        ValueError: if there is nothing to draw.

    Example:
        >>> path = Path([0, 1], [1.0, 0.5], [1.0, 0.6])
        >>> figure = plot_paths({"run": {"layer 1": path}}, ylabel="RMS")
        >>> len(figure.axes[0].lines)
        2
    """
    figure, axes = _panels(list(panels), "plot_paths: panels")
    for ax, (title, paths) in zip(axes, panels.items(), strict=True):
        for colour, (label, path) in zip(_cycle(len(paths)), paths.items(), strict=True):
            style = {"color": colour, "ms": 2.6, "marker": "o", "ls": "none"}
            ax.plot(path.steps, path.measured, label=label, **style)
            if path.predicted is not None:
                ax.plot(path.steps, path.predicted, color=colour, lw=1.2)
        if levels and title in levels:
            ax.axhline(levels[title], color=_GREY, lw=0.8, ls="--")
        ax.set(xlabel="step")
        if log:
            ax.set_yscale("log")
        else:
            ax.set_ylim(0, None)
        ax.legend(frameon=False, fontsize=8)
    for ax in axes[::2]:
        ax.set_ylabel(ylabel)
    return figure


def plot_error_terms(
    eigenvalues: Tensor,
    weight_decays: Sequence[float],
    *,
    lr: float,
    batch_size: int,
    prior_variance: float,
    floor: float,
    weights: Tensor | None = None,
    dimension: int | None = None,
) -> Any:
    """The PAC-Bayes error of a direction, and of a spectrum over weight decay.

    Args:
        eigenvalues: as for `halflife.theory.pac_bayes.error_term`, as are the others.
        weight_decays: to draw, ascending, > 0.
        lr: learning rate at the end of training.
        batch_size: b.
        prior_variance: rho.
        floor: s_min.
        weights: of quadrature nodes.
        dimension: d.

    Raises:
        ImportError: without matplotlib.
        ValueError: as `error_term` does, or if a weight decay is not positive.

    Example:
        >>> setting = dict(lr=1e-3, batch_size=64, prior_variance=0.05, floor=1e-9)
        >>> figure = plot_error_terms(torch.logspace(-4, 0, 9), [1e-3, 0.1], **setting)
        >>> [ax.get_xlabel() for ax in figure.axes]
        ['x, prior over posterior variance', 'weight_decay']
    """
    ok = len(weight_decays) > 0 and all(wd > 0 for wd in weight_decays)
    name, remedy = "plot_error_terms: weight_decays", "the axis is logarithmic"
    require(ok, name, "some numbers > 0", list(weight_decays), remedy)
    titles = ["h(x) = log x + 1/x", f"err per weight, eigenvalues raised to {floor:g}"]
    figure, (left, right) = _panels(titles, name)
    x = torch.logspace(-1.5, 3, 200, dtype=torch.float64)
    left.plot(x.tolist(), pac_bayes.h(x).tolist(), color=_COLOURS[0])
    left.axvline(1.0, color=_GREY, lw=0.6, ls=":")
    left.set(xscale="log", xlabel="x, prior over posterior variance", ylim=(0, 12))
    left.set_ylabel("error of a direction")
    methods: tuple[pac_bayes.Method, ...] = ("adamw", "l2")
    for colour, method in zip(_COLOURS, methods, strict=False):
        terms = [
            pac_bayes.error_term(
                eigenvalues,
                wd,
                lr=lr,
                batch_size=batch_size,
                prior_variance=prior_variance,
                floor=floor,
                method=method,
                weights=weights,
                dimension=dimension,
            ).per_weight
            for wd in weight_decays
        ]
        label = "AdamW" if method == "adamw" else "Adam with L2"
        right.plot(list(weight_decays), terms, color=colour, marker="o", ms=3, label=label)
    right.set(xscale="log", yscale="log", xlabel="weight_decay")
    right.tick_params(axis="y", which="minor", labelleft=False)
    right.legend(frameon=False, fontsize=8)
    return figure


def plot_uncoupled_gradient(
    schedules: Mapping[str, Sequence[float]], *, weight_decay: float, weight_norm: float
) -> Any:
    """The gradient that decay at a constant fraction leaves at a stationary point, along schedules.

    Args:
        schedules: the lr of every step, by label.
        weight_decay: fraction removed per step, whatever the lr.
        weight_norm: |w| at the stationary point.

    Raises:
        ImportError: without matplotlib.
        ValueError: as `halflife.theory.gradient_norms.uncoupled_decay_gradient` does, or without a
            schedule.

    Example:
        >>> lrs = {"cosine": [1.0, 0.75, 0.25]}
        >>> figure = plot_uncoupled_gradient(lrs, weight_decay=0.3, weight_norm=1.0)
        >>> [round(float(y), 3) for y in figure.axes[0].lines[0].get_ydata()]
        [0.1, 0.8]
    """
    title = f"fraction {weight_decay:g} at every step, |w| = {weight_norm:g}"
    require(
        bool(schedules), "plot_uncoupled_gradient: schedules", "not empty", schedules, "pass one"
    )
    figure, (ax,) = _panels([title], "plot_uncoupled_gradient: schedules")
    for colour, (label, lrs) in zip(_cycle(len(schedules)), schedules.items(), strict=True):
        values = [
            gradient_norms.uncoupled_decay_gradient(
                weight_norm=weight_norm, weight_decay=weight_decay, lr=lr, next_lr=following
            )
            for lr, following in itertools.pairwise(lrs)
        ]
        ax.plot(range(1, len(lrs)), values, color=colour, label=label)
    ax.set(xlabel="step", yscale="log")
    ax.set_ylabel("gradient at the next step's objective")
    ax.legend(frameon=False, fontsize=8)
    return figure


def plot_gradient_bound(weight_decays: Sequence[float], **constants: Any) -> Any:
    """The bound on SGD's smallest squared gradient over weight decay, derived and as published.

    Args:
        weight_decays: to draw, in units of 1/lr.
        **constants: the other arguments of `halflife.theory.gradient_norms.sgd_gradient_bound`.

    Raises:
        ImportError: without matplotlib.
        ValueError: as `sgd_gradient_bound` does, or without a weight decay.

    Example:
        >>> constants = dict(steps=4, lr=0.5, gap=2.0, smoothness=1.0, gradient_bound=2.0)
        >>> figure = plot_gradient_bound([0.0, 0.1], **constants)
        >>> [float(line.get_ydata()[0]) for line in figure.axes[0].lines]
        [2.0, 3.0]
    """
    name = "plot_gradient_bound: weight_decays"
    require(len(weight_decays) > 0, name, "not empty", list(weight_decays), "pass some")
    figure, (ax,) = _panels([f"SGD, {constants.get('steps')} steps, at fixed sup|w|"], name)
    for colour, (label, published) in zip(
        _COLOURS, {"derived": False, "as published": True}.items(), strict=False
    ):
        values = [
            gradient_norms.sgd_gradient_bound(weight_decay=wd, published=published, **constants)
            for wd in weight_decays
        ]
        ax.plot(list(weight_decays), values, color=colour, marker="o", ms=3, label=label)
    ax.set(xlabel="weight_decay", ylim=(0, None))
    ax.set_ylabel("bound on min |gradient|^2")
    ax.legend(frameon=False, fontsize=8)
    return figure


def _panels(titles: list[str], name: str) -> tuple[Any, list[Any]]:
    """A figure with two axes to a row."""
    require(bool(titles), name, "not empty", titles, "pass at least one")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "matplotlib is not installed: figures need it; pip install 'torch-halflife[plot]'."
        ) from error
    columns = min(2, len(titles))
    rows = -(-len(titles) // columns)
    figure = Figure(figsize=(4.4 * columns, 3.2 * rows), layout="constrained")
    cells = list(figure.subplots(rows, columns, squeeze=False).flat)
    axes = cells[: len(titles)]
    for empty in cells[len(titles) :]:
        empty.remove()
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title, fontsize=10)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    return figure, axes


def _cycle(number: int) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(number)]
