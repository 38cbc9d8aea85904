"""From a small sweep to a large run: what its half-life becomes when the recipe changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..checks import aligned, is_number, near
from ..rules.contract import as_rule
from ..units.transfer import Answer, transfer
from .large_run import optimizer_code
from .wording import listed, scientific, steps

if TYPE_CHECKING:
    from .meta import Meta
    from .statistics.analysis import Analysis, RuleAnalysis
    from .statistics.surface import Record

__all__ = ["Transferred", "recommended"]

_RATIOS = ("batch", "data", "epochs", "steps", "parameters", "width", "lr")  # (old, new) each
_CHANGES = (*_RATIOS, "optimizer", "lr_scaling", "momentum", "dampening")


@dataclass(frozen=True)
class Transferred:
    """What to use at full size.

    Attributes:
        rule: the decay rule of the sweep's best setting.
        half_life: of that setting, in steps.
        lr: its peak learning rate.
        changed: names of what changes.
        answers: of the published rules that cover all of it; `value` is a half-life in steps of the
            new run.
        partial: of those that cover a part of it, and leave the rest out of account.
        run: steps of the new run, if they are known.
        caveats: what to know about it.
        code: an optimizer with the middle answer; empty where no rule covers the whole change.
    """

    rule: str
    half_life: float
    lr: float
    changed: tuple[str, ...]
    answers: tuple[Answer, ...]
    partial: tuple[Answer, ...]
    run: float | None
    caveats: tuple[str, ...]
    code: str

    @property
    def range(self) -> tuple[float, float] | None:
        """Shortest and longest half-life of the answers, in steps of the new run; None if none."""
        values = [a.value for a in self.answers]
        return (min(values), max(values)) if values else None

    @property
    def middle(self) -> Answer | None:
        """The answer in the middle of the range; of two, the longer half-life: less decay."""
        return _middle(self.answers)

    def __str__(self) -> str:
        found = (
            f"The sweep's best setting is lr {scientific(self.lr)} with a half-life of "
            f"{steps(self.half_life)} steps (rule {self.rule})."
        )
        return "\n".join([found, *self.caveats, "", *self._whole(), *self._parts()])

    def _whole(self) -> list[str]:
        """The rules that cover the change, and code."""
        if self.range is None:
            return [
                f"No published rule covers {listed(self.changed)} together, so that no single "
                "number is offered: change one thing at a time, with a small sweep between.",
            ]
        low, high = self.range
        if len(self.answers) == 1:
            spread = f"One published rule covers the change: a half-life of {steps(low)} steps."
        elif math.isclose(low, high, rel_tol=0.01):
            spread = f"The published rules agree: a half-life of {steps(low)} steps."
        else:
            spread = (
                f"The published rules range from {steps(low)} to {steps(high)} steps, a factor of "
                f"{high / low:.2g}: try both ends and the middle."
            )
        return [*self._table(self.answers), "", spread, "", self.code]

    def _parts(self) -> list[str]:
        """What others say of a part of the change."""
        if not self.partial:
            return []
        parts: dict[str, list[float]] = {}
        for a in self.partial:
            own = listed([name for name in self.changed if name not in a.silent])
            parts.setdefault(own, []).append(a.value)
        said = [f"Of {part} alone: {_ends(values)}." for part, values in parts.items()]
        head = "These cover a part of the change and leave the rest out of account, so that none "
        return ["", head + "is an answer to all of it:", *self._table(self.partial), "", *said]

    def _table(self, answers: Sequence[Answer]) -> list[str]:
        head = ["published rule", "half-life, steps", "share of the run", "lr", "constants"]
        rows = [[*head, "tested on", "note"]]
        for a in answers:
            share = "-" if self.run is None else f"{a.value / self.run:.2g}"
            checked = "checked" if a.verified else "unverified"
            own = [a.name, steps(a.value), share, scientific(a.lr), checked]
            rows.append([*own, a.validity, a.note or "-"])
        return aligned(rows)


def recommended(
    analysis: Analysis,
    meta: Meta,
    records: Sequence[Record],
    rule: str | None = None,
    **changes: Any,
) -> Transferred:
    """What a sweep's best half-life becomes when the recipe changes.

    Raises:
        TypeError: for a change of another name than there are.
        ValueError: if there is no half-life to start from, or no change.
    """
    for name, value in changes.items():
        if name not in _CHANGES:
            raise TypeError(
                f"{name}={value!r}: is no change that recommend knows; pass one of "
                f"{', '.join(_CHANGES)}{near(name, _CHANGES)}"
            )
    found = _rule(analysis, rule)
    best = found.best
    if best is None or not best.half_life or not math.isfinite(best.half_life):
        raise ValueError(
            f"rule={found.rule!r}: its best setting has no half-life to hand on; "
            f"{_way_to_one(analysis, meta, found.rule)}."
        )
    pairs: dict[str, Any] = {
        name: _pair(name, value, meta, best.lr)
        for name, value in changes.items()
        if value is not None
    }
    lr = pairs.pop("lr", None) or best.lr
    given = transfer(best.half_life, lr=lr, rule="half_life", **pairs)
    lost = [a.name for a in given if not math.isfinite(a.value)]
    answers = [a for a in given if math.isfinite(a.value)]
    if not answers:
        raise ValueError(
            f"{', '.join(changes)}: no published rule covers this change; change one thing at a "
            "time, or keep the half-life as a share of the run."
        )
    run = pairs["steps"][1] if "steps" in pairs else None
    if run is None and meta.steps and "batch" in pairs and not {"data", "epochs"} & pairs.keys():
        run = meta.steps * pairs["batch"][0] / pairs["batch"][1]
    caveats = _caveats(analysis, found)
    if lost:
        caveats.append(f"Left out, as it would remove whole weights in a step: {', '.join(lost)}.")
    whole = tuple(a for a in answers if not a.silent)
    middle, new = _middle(whole), pairs["optimizer"][1] if "optimizer" in pairs else None
    return Transferred(
        found.rule,
        best.half_life,
        best.lr,
        tuple(n for n in (*_RATIOS, "optimizer") if n in pairs and pairs[n][0] != pairs[n][1])
        or ("lr",),
        whole,
        tuple(a for a in answers if a.silent),
        run,
        tuple(caveats),
        "" if middle is None else optimizer_code(middle, best, meta, records, new),
    )


def _middle(answers: Sequence[Answer]) -> Answer | None:
    return sorted(answers, key=lambda a: a.value)[len(answers) // 2] if answers else None


def _ends(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    same = math.isclose(low, high, rel_tol=0.01)
    return f"{steps(low)} steps" if same else f"{steps(low)} to {steps(high)} steps"


def _way_to_one(analysis: Analysis, meta: Meta, rule: str) -> str:
    """What to do where a rule's best setting has no half-life."""
    known = [r.rule for r in analysis.rules if r.best is not None and r.best.half_life]
    if known:
        return f"pass rule={known[0]!r}"
    if meta.optimizer is None and as_rule(rule).uniform:
        return (
            "the trainings made their optimizer unseen: make it by trial.optimizer(model), or, if "
            "it is one of halflife's or decays as that does, state it by sweep(..., optimizer=...)"
        )
    return "sweep a rule that removes a fraction"


def _rule(analysis: Analysis, rule: str | None) -> RuleAnalysis:
    if rule is None:
        if analysis.best is None:
            raise ValueError("no setting is trained yet, so there is nothing to recommend.")
        return analysis.best
    found = [r for r in analysis.rules if r.rule == rule]
    if not found:
        names = ", ".join(r.rule for r in analysis.rules)
        raise ValueError(f"rule={rule!r}: must be one of those that were swept: {names}.")
    return found[0]


def _pair(name: str, value: Any, meta: Meta, lr: float) -> Any:
    """Old and new; of the new one alone, the sweep knows the old one."""
    own = {
        "batch": meta.batch_size,
        "steps": meta.steps,
        "epochs": meta.epochs,
        "lr": lr,
        "optimizer": meta.optimizer,
    }
    alone = isinstance(value, str) if name == "optimizer" else is_number(value)
    if not alone or name not in (*_RATIOS, "optimizer"):
        return value
    known = own.get(name)
    if known is None:
        raise ValueError(
            f"{name}={value!r}: the sweep does not know its own {name}; pass {name}=(old, new)."
        )
    return (known, value) if name == "optimizer" else (float(known), float(value))


def _caveats(analysis: Analysis, found: RuleAnalysis) -> list[str]:
    out = []
    if analysis.verdict == "no difference told":
        out.append(
            "The sweep tells no difference between decay and none, so what follows is what others "
            "do, not what it found."
        )
    if analysis.verdict == "hurts":
        out.append("Decay made the sweep's training worse: think of using none.")
    within = found.within.half_life if found.within is not None else None
    if within and within[1] > 1.5 * within[0]:
        out.append(
            f"Its noise leaves half-lives from {steps(within[0])} to {steps(within[1])} steps "
            "open: what follows can be off by as much."
        )
    if found.borders:
        out.append("It lies on the border of the grid, so that it is no optimum.")
    if as_rule(found.rule).follows_gradients:
        out.append(
            f"The number of rule {found.rule} follows the gradients and does not transfer; its "
            "half-life does, under rule decoupled."
        )
    return out
