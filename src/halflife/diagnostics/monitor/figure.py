"""Measured beside predicted over the steps of a run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from .sinks import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_records"]

_LABELS = {
    "weight_rms": "weight RMS",
    "rotation": "rotation per step (radians)",
    "decay_share": "decay / update",
    "update_ratio": "update / weights",
    "gradient_norm": "gradient norm",
    "weight_gradient_product": "weight norm x gradient norm",
}
_MOST = 6  # curves in one panel


def plot_records(
    records: Sequence[Record],
    names: Collection[str] | None = None,
    quantities: Sequence[str] = ("weight_rms", "rotation", "decay_share", "gradient_norm"),
) -> Figure:
    """Records as a figure: one panel for each quantity, measured solid, predicted dashed.

    Args:
        records: of a monitor's history, or of `read_records`.
        names: of the records to draw. Default: "decayed" and the first tensors that decay.
        quantities: one panel for each that the records have.

    Raises:
        ImportError: without matplotlib.
        ValueError: if there is nothing to draw.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "figures need the extra 'plot': pip install torch-halflife[plot]"
        ) from error
    known = list(dict.fromkeys(record["name"] for record in records))
    chosen = _decaying(records) if names is None else [n for n in known if n in set(names)]
    shown = [q for q in quantities if any(r.get(q) is not None for r in records)]
    if not chosen or not shown:
        raise ValueError(f"names={names!r}: must be among the records' {known}; choose of them.")
    drawn = Figure(figsize=(9.0, 3.0 * ((len(shown) + 1) // 2)), layout="constrained")
    panels: Any = drawn.subplots((len(shown) + 1) // 2, min(2, len(shown)), squeeze=False)
    for panel in panels.flat[len(shown) :]:
        panel.set_axis_off()
    for panel, quantity in zip(panels.flat, shown, strict=False):
        for number, name in enumerate(chosen):
            mine = [r for r in records if r["name"] == name]
            for key, style in ((quantity, "-"), (f"{quantity}_predicted", "--")):
                points = [(r["step"], r[key]) for r in mine if r.get(key) is not None]
                if points:
                    panel.plot(
                        *zip(*points, strict=True),
                        style,
                        color=f"C{number}",
                        linewidth=1.2,
                        label=name if style == "-" else None,
                    )
        panel.set_yscale("log")
        panel.set_title(_LABELS.get(quantity, quantity.replace("_", " ")), fontsize=10)
        panel.set_xlabel("step")
        panel.grid(alpha=0.3)
    panels.flat[0].legend(fontsize=8)
    drawn.suptitle("measured (solid) and predicted at equilibrium (dashed)", fontsize=11)
    return drawn


def _decaying(records: Sequence[Record]) -> list[str]:
    decaying = dict.fromkeys(r["name"] for r in records if r["name"] == "decayed" or r["fraction"])
    every = dict.fromkeys(r["name"] for r in records)
    return list(decaying or every)[:_MOST]
