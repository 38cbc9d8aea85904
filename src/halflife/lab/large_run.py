"""Code of a large run: the sweep's optimizer with its settings, at another half-life."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from ..rules.contract import as_rule
from ..units.transfer import Answer
from .meta import Meta
from .statistics.surface import Record, Setting, key_of
from .trials.bases import OptimizerKind

__all__ = ["optimizer_code"]

_OURS = ("params", "lr", "weight_decay", "decay")  # what the code says by itself


def optimizer_code(
    answer: Answer, best: Setting, meta: Meta, records: Sequence[Record], new: str | None = None
) -> str:
    """An optimizer with an answer's half-life and lr, else as the best setting's trainings had it.

    Args:
        answer: with a half-life in steps.
        best: the setting that it comes from.
        meta: of the sweep.
        records: of the sweep; what its trials made is written there.
        new: name of another optimizer that is changed to.
    """
    known = _record(best, records)
    name = known.get("optimizer") or meta.optimizer
    own, notes = _settings(best, meta, known, name)
    swept = {k: v for k, v in best.params.items() if own.get(k) != v}
    if new is not None and new != name:
        if own:
            notes.append(f"Of the sweep's {name or 'optimizer'}, not carried over: {_written(own)}")
        name, own = new, dict(OptimizerKind(new).settings)
    if swept:
        notes.append(f"Swept too, and none of the settings below: {_written(swept)}")
    rule = "decoupled" if as_rule(best.rule).follows_gradients else best.rule
    groups = (
        f"halflife.param_groups(model, weight_decay=halflife.HalfLife(steps={answer.value:.3g}))"
    )
    kind = _kind(name)
    if kind is None:
        notes.append("YourOptimizer is that of the training, which made it by itself")
        code = (
            f"groups = {groups}\n"
            f"optimizer = YourOptimizer(groups, lr={answer.lr:.3g})\n"
            f"halflife.attach(optimizer, {rule!r})"
        )
    else:
        more = f", {_written(own)}" if own else ""
        code = (
            f"optimizer = halflife.{kind.cls.__name__}(\n"
            f"    {groups},\n"
            f"    lr={answer.lr:.3g}, decay={rule!r}{more},\n"
            ")"
        )
    return "\n".join([*(f"# {note}." for note in notes), code])


def _record(best: Setting, records: Sequence[Record]) -> Record:
    """Of a finished training of the setting; empty if none says what its optimizer was."""
    own = (r for r in records if r["status"] == "done" and key_of(r) == best.key)
    return next((r for r in own if r.get("optimizer")), {})


def _settings(
    best: Setting, meta: Meta, known: Record, name: str | None
) -> tuple[dict[str, Any], list[str]]:
    """The optimizer's settings beside lr and decay, and what is to be said of them."""
    if known.get("settings") is not None:  # as the trial made it
        return _plain(known["settings"]), []
    kind = _kind(name)
    if known or kind is None:
        return {}, ["The training made its optimizer by itself: give this its other settings"]
    fields = {n: getattr(meta, n) for n in ("betas", "eps", "momentum", "dampening")}
    told = {n: v for n, v in fields.items() if v is not None}
    taken = inspect.signature(kind.cls).parameters
    swept = {n: v for n, v in best.params.items() if n in taken}
    return _plain({**kind.settings, **told, **meta.settings, **swept}), []


def _kind(name: str | None) -> OptimizerKind | None:
    try:
        return None if name is None else OptimizerKind(name)
    except ValueError:  # none of halflife's
        return None


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As an optimizer takes them: what was stored as a list was a tuple."""
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in settings.items()
        if name not in _OURS
    }


def _written(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in settings.items())
