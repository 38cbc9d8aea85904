"""Pictures of spectra. Extra: ``plot``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ...checks import require, require_positive
from .density import SpectralDensity

__all__ = ["plot_densities"]

# Told apart by colour-blind readers too (Okabe & Ito).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9")


def plot_densities(
    panels: Mapping[str, Mapping[str, SpectralDensity]], *, sigma: float | None = None
) -> Any:
    """Densities of eigenvalues on a logarithmic axis, one colour each, the largest node marked.

    Args:
        panels: for each panel's title, the densities by label.
        sigma: the Gaussian's standard deviation. Default: a hundredth of the panel's range, so that
            a single eigenvalue is as wide in all of its curves.

    Raises:
        ImportError: without matplotlib.
        ValueError: if there is nothing to draw, or `sigma` is not positive.

    Example:
        >>> from halflife.diagnostics.curvature import spectral_density
        >>> density = spectral_density(torch.diag(torch.tensor([0.0, 1.0, 2.0])))
        >>> figure = plot_densities({"three eigenvalues": {"matrix": density}})
        >>> len(figure.axes)
        1
    """
    ok = bool(panels) and all(panels.values())
    require(ok, "plot_densities: panels", "not empty", panels, "pass at least one density")
    if sigma is not None:
        require_positive("plot_densities: sigma", sigma, "pass a width in units of the eigenvalues")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "matplotlib is not installed: figures need it; pip install 'torch-halflife[plot]'."
        ) from error
    figure = Figure(figsize=(4.4 * len(panels), 3.2), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (title, densities) in zip(axes, panels.items(), strict=True):
        low = min(float(d.nodes.min()) for d in densities.values())
        high = max(float(d.nodes.max()) for d in densities.values())
        width = sigma or max(high - low, 1e-12) / 100.0
        grid = torch.linspace(low - 4 * width, high + 4 * width, 500, dtype=torch.float64)
        # A twentieth of one eigenvalue's peak: what lies below is the Gaussians' tails.
        floor, highest = 0.02 / max(d.dim for d in densities.values()) / width, 0.0
        for i, (label, density) in enumerate(densities.items()):
            colour, top = _COLOURS[i % len(_COLOURS)], float(density.nodes.max())
            curve = density.curve(grid, sigma=width)[1]
            highest = max(highest, float(curve.max()))
            ax.plot(grid.tolist(), curve.tolist(), color=colour, lw=1.2, label=label)
            ax.plot([top], [floor], color=colour, marker="v", ms=6, ls="none", clip_on=False)
        ax.set(yscale="log", xlabel="eigenvalue of the Hessian")
        ax.set_ylim(floor, 3.0 * highest)
        ax.set_title(title, fontsize=10)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
        ax.legend(frameon=False, fontsize=8)
    axes[0].set_ylabel("density, as a share per unit")
    return figure
