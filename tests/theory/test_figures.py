"""The pictures show the numbers they are given; the page has the numbers that the script prints."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch

from halflife.theory import figures, pac_bayes
from halflife.theory.averaging import averaging

ROOT = Path(__file__).resolve().parent.parent.parent
SETTING = {"lr": 1e-3, "batch_size": 64, "prior_variance": 0.05, "floor": 1e-9}


def test_averaging_has_one_panel_each_and_curves_of_mean_one() -> None:
    pytest.importorskip("matplotlib")
    results = {str(d): averaging([d] * 100, [1.0] * 100) for d in (0.0, 0.1)}
    figure = figures.plot_averaging({"a": results, "b": results, "c": results})
    assert [ax.get_title() for ax in figure.axes] == ["a", "b", "c"]
    for line in figure.axes[2].lines[:2]:
        assert sum(line.get_ydata()) == pytest.approx(100)
    label = figure.axes[0].lines[0].get_label()
    assert label == "0.0: n_eff/T 1.00"


def test_paths_show_points_and_lines() -> None:
    pytest.importorskip("matplotlib")
    panels = {"with": {"x": figures.Path([0, 1], [3.0, 2.0], [3.0, 1.0])}}
    panels["without"] = {"x": figures.Path([0, 1], [3.0, 2.0])}
    figure = figures.plot_paths(panels, ylabel="RMS", log=True, levels={"with": 1.5})
    measured, predicted, level = figure.axes[0].lines
    assert list(measured.get_ydata()) == [3.0, 2.0]
    assert list(predicted.get_ydata()) == [3.0, 1.0]
    assert set(level.get_ydata()) == {1.5}
    assert len(figure.axes[1].lines) == 1
    assert figure.axes[0].get_yscale() == "log"


def test_error_terms_are_those_of_the_spectrum() -> None:
    pytest.importorskip("matplotlib")
    sigma = torch.logspace(-4, 0, 9)
    figure = figures.plot_error_terms(sigma, [1e-3, 0.1], **SETTING)
    for line, method in zip(figure.axes[1].lines, ("adamw", "l2"), strict=True):
        expected = pac_bayes.error_term(sigma, 0.1, **SETTING, method=method).per_weight
        assert line.get_ydata()[1] == pytest.approx(expected)


def test_uncoupled_gradients_grow_as_the_lr_falls() -> None:
    pytest.importorskip("matplotlib")
    lrs = {"flat": [0.5, 0.5], "falling": [1.0, 0.5, 0.1]}
    figure = figures.plot_uncoupled_gradient(lrs, weight_decay=0.01, weight_norm=3.0)
    flat, falling = figure.axes[0].lines
    assert list(flat.get_ydata()) == [0.0]
    assert list(falling.get_ydata()) == pytest.approx([0.03 * (2 - 1), 0.03 * (10 - 2)])
    with pytest.raises(ValueError, match="schedules must be not empty"):
        figures.plot_uncoupled_gradient({}, weight_decay=0.01, weight_norm=3.0)


def test_the_published_bound_is_the_larger() -> None:
    pytest.importorskip("matplotlib")
    constants = {"steps": 10, "lr": 0.1, "gap": 1.0, "smoothness": 2.0, "gradient_bound": 1.0}
    figure = figures.plot_gradient_bound([0.0, 1.0], **constants)
    derived, published = figure.axes[0].lines
    assert list(derived.get_ydata()) == pytest.approx([1.0 + 0.1, 1.0 + 0.15])
    assert list(published.get_ydata()) == pytest.approx([1.0 + 0.2, 1.0 + 0.3])


def test_figures_are_repeatable_and_leave_no_state(tmp_path, monkeypatch) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # whose state is the process's
    path = figures.Path([0, 1], [3.0, 2.0])
    with matplotlib.rc_context({"svg.hashsalt": "x"}):
        for name in ("a.svg", "b.svg"):
            figure = figures.plot_paths({"t": {"x": path}}, ylabel="y")
            figure.savefig(tmp_path / name, metadata={"Date": None})
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_without_matplotlib_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'torch-halflife\[plot\]'"):
        figures.plot_paths({"t": {"x": figures.Path([0], [1.0])}}, ylabel="y")


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="panels must be not empty"):
        figures.plot_averaging({})
    with pytest.raises(ValueError, match=r"weight_decays must be some numbers > 0, got \[0.0\]"):
        figures.plot_error_terms(torch.ones(1), [0.0], **SETTING)


@pytest.mark.parametrize(
    "table", ["averaging_table", pytest.param("stages_table", marks=pytest.mark.slow)]
)
def test_page_has_the_table_of_the_script(table: str) -> None:
    lines = runpy.run_path(str(ROOT / "scripts" / "theory_figures.py"))[table]()
    page = (ROOT / "docs" / "theory.md").read_text("utf-8")
    assert "\n".join(lines) in page, "run python scripts/theory_figures.py --numbers"
