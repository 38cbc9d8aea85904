"""Pictures of spectra show what they are given."""

from __future__ import annotations

import sys

import pytest
import torch

from halflife.diagnostics.curvature import spectral_density
from halflife.diagnostics.curvature.figures import plot_densities


def density(*eigenvalues: float):
    return spectral_density(torch.diag(torch.tensor(eigenvalues)))


def test_each_density_is_a_curve_with_its_largest_eigenvalue_marked():
    pytest.importorskip("matplotlib")
    panels = {"one": {"a": density(0.0, 1.0), "b": density(0.0, 3.0)}, "two": {"c": density(5.0)}}
    figure = plot_densities(panels, sigma=0.1)
    first, second = figure.axes
    assert [ax.get_title() for ax in figure.axes] == ["one", "two"]
    assert [t.get_text() for t in first.get_legend().get_texts()] == ["a", "b"]
    assert [list(line.get_xdata()) for line in first.lines[1::2]] == [
        [pytest.approx(1.0)],
        [pytest.approx(3.0)],
    ]
    x, y = (torch.tensor(values) for values in second.lines[0].get_data())
    assert float(x[y.argmax()]) == pytest.approx(5.0, abs=0.01)
    assert float(y.max()) == pytest.approx(1.0 / (0.1 * (2 * torch.pi) ** 0.5), rel=1e-3)
    bottom, top = second.get_ylim()
    assert bottom < y.max() < top


def test_bad_arguments_are_named(monkeypatch):
    with pytest.raises(ValueError, match="plot_densities: panels must be not empty"):
        plot_densities({})
    with pytest.raises(ValueError, match="plot_densities: sigma must be"):
        plot_densities({"a": {"b": density(1.0)}}, sigma=-1.0)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"torch-halflife\[plot\]"):
        plot_densities({"a": {"b": density(1.0)}})
