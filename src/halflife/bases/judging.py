r"""Which update a native decay is: made by hand, around the same optimizer without decay.

Two steps with two learning rates tell how the fraction follows the lr, and whether the decay enters
the optimizer's state (as L2 does). Where the first steps do nothing, as some optimizers gather
moments first, they are those from the first one on in which the decay acts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from ..rules.contract import DecayRule
from ..rules.scalar import Constant, Corrected, Decoupled, Independent, L2Regularization, Proximal
from ..rules.step import Step
from .bench import Bench, again

__all__ = [
    "STILL",
    "TOLERANCE",
    "Evidence",
    "Kind",
    "NativeDecay",
    "acting_from",
    "distance",
    "fraction_law",
    "judge",
    "judge_first_acting",
]

Kind: TypeAlias = Literal[
    "absent",
    "l2",
    "decoupled",
    "decoupled_after",
    "independent",
    "constant",
    "other",
    "averaged",
    "unknown",
]

# Relative to what the decay does. Bases that compute in float32 agree to about 1e-5, and different
# updates differ by 1e-2 or more.
TOLERANCE = 1e-4
_PATIENCE = 64  # steps that an optimizer may do nothing at first
_AT_ONCE = 4  # steps in which most of those do something that do not in the first
STILL = f"its weights did not move in {_PATIENCE} steps"
_RULES: dict[str, DecayRule] = {
    "l2": L2Regularization(),
    "decoupled": Decoupled(),
    "independent": Independent(),
    "constant": Constant(),
}


@dataclass(frozen=True)
class Evidence:
    """What was measured.

    Args:
        lrs: learning rate of each of the two steps.
        weight_decay: the native coefficient.
        fractions: share of the weights that each step removed where all gradients were zero.
        errors: of each candidate, the weights' largest deviation from the native ones, relative to
            what the decay did, with zero and with other gradients. "before" and "after" remove
            those fractions before or after the step; below 1e-4 it is the native update.
    """

    lrs: tuple[float, float]
    weight_decay: float
    fractions: tuple[float, float]
    errors: dict[str, float]


@dataclass(frozen=True)
class NativeDecay:
    """The native meaning of an optimizer's ``weight_decay``.

    Args:
        kind: the update's name in `halflife.bases.native_decay`; "absent" if there is none, "other"
            if it is no known one, "averaged" if the weights are not the optimizer's iterate
            (schedule-free methods), "unknown" if it could not be run or never moved.
        reason: why, in a sentence.
        rule: our rule for the same update, if there is one.
        peak_lr: the lr by which an independent or corrected decay divides.
        evidence: the measurements; None if nothing was run.
        idle: steps at first in which its decay does nothing.
    """

    kind: Kind
    reason: str
    rule: DecayRule | None = None
    peak_lr: float | None = None
    evidence: Evidence | None = None
    idle: int = 0


def judge_first_acting(bench: Bench) -> NativeDecay:
    """`judge`, in the first steps in which the decay does something."""
    found = judge(bench)
    return found if _acts(found) else _judge_later(bench, found)


def _acts(found: NativeDecay) -> bool:
    """Whether the decay is in the first of the bench's steps already."""
    late = found.kind == "other" and found.evidence is not None and not found.evidence.fractions[0]
    return found.kind != "absent" and not late


def acting_from(bench: Bench) -> tuple[int | None, bool]:
    """The first step in which the decay acts; if none does, None, and whether the weights move."""
    for steps in (_AT_ONCE, _PATIENCE):  # a longer walk begins with the shorter one
        decayed, plain = bench.walk(bench.weight_decay, steps), bench.walk(0.0, steps)
        acting = [not _equal(a, b) for a, b in zip(decayed[1:], plain[1:], strict=True)]
        if any(acting):
            return acting.index(True), True
    return None, not _equal(plain[0], plain[-1])


def _judge_later(bench: Bench, found: NativeDecay) -> NativeDecay:
    """`judge` from the first step on in which the decay acts."""
    idle, moves = acting_from(bench)
    if idle is None and not moves:
        return NativeDecay("unknown", STILL)
    if not idle:
        return found
    later = judge(again(bench, warm=idle))
    if later.kind == "absent":  # it needs the decay of the steps before
        later = replace(later, kind="unknown", reason="its decay acts in some steps only")
    steps = "1 step" if idle == 1 else f"{idle} steps"
    return replace(later, reason=f"after {steps}, {later.reason}", idle=idle)


def _equal(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=0.0, atol=0.0, equal_nan=True)


def judge(bench: Bench) -> NativeDecay:
    """What the decay of the bench's optimizer is."""
    evidence = _measure(bench)
    if not evidence.errors:
        return NativeDecay("absent", "weight_decay changed nothing", evidence=evidence)
    fits = [name for name, error in evidence.errors.items() if error < TOLERANCE]
    if not fits:
        reason = "neither L2 nor one fraction of every weight, before or after the step"
        return NativeDecay("other", reason, evidence=evidence)
    if fits[0] == "l2":
        return NativeDecay("l2", "it joins the gradient", _RULES["l2"], evidence=evidence)
    when = fits[0]
    first, second = (d / evidence.weight_decay for d in evidence.fractions)
    reason = (
        f"{when} the step it removes {first:.6g} and {second:.6g} times weight_decay at the "
        f"learning rates {evidence.lrs[0]:.6g} and {evidence.lrs[1]:.6g}"
    )
    kind, rule, peak = fraction_law(evidence.fractions, evidence.lrs, evidence.weight_decay, when)
    return NativeDecay(kind, reason, rule, peak, evidence)


def fraction_law(
    fractions: tuple[float, float], lrs: tuple[float, float], weight_decay: float, when: str
) -> tuple[Kind, DecayRule | None, float | None]:
    """The kind, our rule and the remembered lr behind two fractions, the second at half the lr.

    Args:
        fractions: share of the weights that each of two steps removes.
        lrs: their learning rates.
        weight_decay: the coefficient of both.
        when: "before" or "after" the step.
    """
    first, second = (d / weight_decay for d in fractions)
    kind: Kind = "other"
    rule: DecayRule | None = None
    peak: float | None = None
    steps = [Step(lr, weight_decay=weight_decay) for lr in lrs]
    bent = Proximal()
    if _agree((first, second), lrs):
        kind = "decoupled" if when == "before" else "decoupled_after"
    elif when == "after" and _agree(fractions, [float(bent.fraction(s)) for s in steps]):
        rule = bent
    elif when == "before" and _agree((first, second), (1.0, 1.0)):
        kind = "constant"
    elif when == "before" and _agree((first, second), (first, first / 2)):
        kind, peak = "independent", lrs[0] / first
    elif when == "before" and _agree((first, second), (first, first / 4)):
        rule, peak = Corrected(), lrs[0] ** 2 / first
    return kind, rule or _RULES.get(kind), peak


def _measure(bench: Bench) -> Evidence:
    """Which decay made by hand gives the native weights; no errors where nothing decays."""
    amount = bench.weight_decay
    still, held = bench.run(False, (amount, amount)), bench.run(False, (amount, 0.0))
    fractions = (
        _share(bench.run(False)[1] - still[1], still[0]),
        _share(held[2] - still[2], still[1]),
    )
    hands: dict[str, dict[str, Any]] = {
        "l2": {"l2": amount},
        "before": {"before": fractions},
        "after": {"after": fractions},
    }
    errors: dict[str, float] = {}
    for noise in (False, True):
        native, plain = bench.run(noise, (amount, amount)), bench.run(noise)
        effect = distance(native, plain)
        if effect > 0.0:
            for name, hand in hands.items():
                error = distance(bench.run(noise, **hand), native) / effect
                errors[name] = max(errors.get(name, 0.0), error)
    return Evidence(bench.lrs, amount, fractions, errors)


def distance(a: list[Tensor], b: list[Tensor]) -> float:
    """The largest deviation of one run's weights from another's."""
    apart = float(torch.stack(a).sub(torch.stack(b)).abs().max())
    return apart if math.isfinite(apart) else math.inf


def _share(removed: Tensor, weights: Tensor) -> float:
    return float(removed.dot(weights) / weights.dot(weights))


def _agree(found: Sequence[float], wanted: Sequence[float]) -> bool:
    pairs = zip(found, wanted, strict=True)
    return all(math.isclose(a, b, rel_tol=TOLERANCE) for a, b in pairs)
