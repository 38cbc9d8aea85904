"""From a small sweep to a large run: what its half-life becomes when the recipe changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..checks import aligned, is_number
from ..rules.contract import as_rule
from ..units.transfer import Answer, transfer
from .trials.bases import OptimizerKind
from .wording import scientific, steps

if TYPE_CHECKING:
    from .meta import Meta
    from .statistics.analysis import Analysis, RuleAnalysis

__all__ = ["Transferred", "recommended"]


@dataclass(frozen=True)
class Transferred:
    """What to use at full size.

    Attributes:
        rule: the decay rule of the sweep's best setting.
        half_life: of that setting, in steps.
        lr: its peak learning rate.
        answers: what each published rule makes of them; `value` is a half-life in steps of the new
            run.
        run: steps of the new run, if they are known.
        caveats: what to know about it.
        code: an optimizer with the middle answer.
    """

    rule: str
    half_life: float
    lr: float
    answers: tuple[Answer, ...]
    run: float | None
    caveats: tuple[str, ...]
    code: str

    @property
    def range(self) -> tuple[float, float]:
        """Shortest and longest half-life of the answers, in steps of the new run."""
        values = [a.value for a in self.answers]
        return min(values), max(values)

    @property
    def middle(self) -> Answer:
        """The answer in the middle of the range; of two, the longer half-life: less decay."""
        return _middle(self.answers)

    def __str__(self) -> str:
        head = ["published rule", "half-life, steps", "share of the run", "lr", "tested on"]
        rows = [head]
        for a in self.answers:
            share = "-" if self.run is None else f"{a.value / self.run:.2g}"
            rows.append([a.name, steps(a.value), share, scientific(a.lr), a.validity])
        low, high = self.range
        spread = (
            f"The published rules agree: a half-life of {steps(low)} steps."
            if math.isclose(low, high, rel_tol=0.01)
            else f"The published rules range from {steps(low)} to {steps(high)} steps, a factor of "
            f"{high / low:.2g}: try both ends and the middle."
        )
        found = (
            f"The sweep's best setting is lr {scientific(self.lr)} with a half-life of "
            f"{steps(self.half_life)} steps (rule {self.rule})."
        )
        return "\n".join([found, *self.caveats, "", *aligned(rows), "", spread, "", self.code])


def recommended(
    analysis: Analysis, meta: Meta, rule: str | None = None, **changes: Any
) -> Transferred:
    """What a sweep's best half-life becomes when the recipe changes.

    Raises:
        ValueError: if there is no half-life to start from, or no change.
    """
    found = _rule(analysis, rule)
    best = found.best
    if best is None or not best.half_life or not math.isfinite(best.half_life):
        known = [r.rule for r in analysis.rules if r.best is not None and r.best.half_life]
        remedy = f"pass rule={known[0]!r}" if known else "sweep a rule that removes a fraction"
        raise ValueError(
            f"rule={found.rule!r}: its best setting has no half-life to hand on; {remedy}."
        )
    pairs: dict[str, Any] = {
        name: _pair(name, value, meta) for name, value in changes.items() if value is not None
    }
    lr = pairs.pop("lr", None) or best.lr
    answers = tuple(
        a
        for a in transfer(best.half_life, lr=lr, rule="half_life", **pairs)
        if math.isfinite(a.value)
    )
    if not answers:
        raise ValueError(
            f"{', '.join(changes)}: no published rule covers this change; change one thing at a "
            "time, or keep the half-life as a share of the run."
        )
    run = pairs["steps"][1] if "steps" in pairs else None
    if run is None and meta.steps and "batch" in pairs and not {"data", "epochs"} & pairs.keys():
        run = meta.steps * pairs["batch"][0] / pairs["batch"][1]
    middle = _middle(answers)
    return Transferred(
        found.rule,
        best.half_life,
        best.lr,
        answers,
        run,
        tuple(_caveats(analysis, found)),
        _code(middle, found.rule, meta),
    )


def _middle(answers: Sequence[Answer]) -> Answer:
    return sorted(answers, key=lambda a: a.value)[len(answers) // 2]


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


def _pair(name: str, value: Any, meta: Meta) -> tuple[float, float]:
    """Old and new; of a number alone, the sweep knows the old one."""
    if not is_number(value):
        return value
    known = {"batch": meta.batch_size, "steps": meta.steps, "epochs": meta.epochs}.get(name)
    if known is None:
        raise ValueError(
            f"{name}={value!r}: the sweep does not know its own {name}; pass {name}=(old, new)."
        )
    return float(known), float(value)


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


def _code(answer: Answer, rule: str, meta: Meta) -> str:
    cls = OptimizerKind(meta.optimizer or "adamw").cls.__name__
    name = "decoupled" if as_rule(rule).follows_gradients else rule
    decay = f"halflife.HalfLife(steps={answer.value:.3g})"
    return (
        f"optimizer = halflife.{cls}(\n"
        f"    halflife.param_groups(model, weight_decay={decay}),\n"
        f"    lr={answer.lr:.3g}, decay={name!r},\n"
        ")"
    )
