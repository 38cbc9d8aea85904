"""What an audit can find: the codes, which do not change, and how serious each is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["CODES", "SEVERITIES", "Finding", "Severity", "collected"]

Severity: TypeAlias = Literal["error", "warning", "info"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")

# What is decided here is stable: continuous integration ignores findings by code.
CODES: dict[str, tuple[Severity, str]] = {
    # The training does not do what its settings say.
    "decay-has-no-effect": ("error", "`weight_decay` is set and the optimizer never reads it"),
    "misspelled-key": ("error", "a group has a key that looks like `weight_decay` and is not it"),
    "invalid-weight-decay": ("error", "`weight_decay` is negative, infinite or not a number"),
    "sign-flip": ("error", "a step removes the whole weight or more, so its sign flips"),
    "lost-in-precision": ("error", "rounding loses most of the decay"),
    "duplicate-parameter": ("error", "a parameter is stepped, and decays, more than once"),
    "shared-memory": ("error", "different parameters of the optimizer lie in the same memory"),
    "stale-optimizer": ("error", "the optimizer holds tensors that the model has replaced"),
    "lr-above-peak": ("error", "the schedule goes above the `peak_lr` that the rule divides by"),
    "foreign-scheduler": ("error", "the scheduler drives another optimizer"),
    # It may not be what was meant.
    "decayed-bias": ("warning", "biases decay"),
    "decayed-norm": ("warning", "gains or biases of normalization layers decay"),
    "decayed-gain": ("warning", "other scales decay: vectors, scalars, weight-norm magnitudes"),
    "decayed-against-model": ("warning", "a parameter that the model exempts decays"),
    "undecayed-matrix": ("warning", "matrices do not decay while other parameters do"),
    "not-optimized": ("warning", "a trainable parameter is in no optimizer"),
    "foreign-parameter": ("warning", "a parameter of the optimizer is not the model's"),
    "frozen-with-gradient": ("warning", "a frozen parameter kept a gradient, so it still decays"),
    "coupled-l2": ("warning", "L2 joins the gradient of an adaptive optimizer"),
    "name-mismatch": ("warning", "an optimizer's name or flag and its behaviour disagree"),
    "group-name-mismatch": ("warning", "a group's name and its decay disagree"),
    "overridden-decay": ("warning", "the optimizer's `weight_decay` is overridden in every group"),
    "unread-lr-scale": ("warning", "`lr_scale` is set and every group has the same lr"),
    "large-fraction": ("warning", "a step removes a tenth of each weight or more"),
    "short-timescale": ("warning", "the timescale is shorter than an epoch"),
    "inert-decay": ("warning", "the whole training removes less than a hundredth of each weight"),
    "peak-not-reached": ("warning", "the schedule stays below `peak_lr`: less decay than meant"),
    "other-peak": (
        "warning",
        "a strength became a number at another lr than the schedule's peak",
    ),
    "decay-outlives-lr": ("warning", "decay goes on when the schedule has shrunk the updates"),
    "zero-lr": ("warning", "the lr is zero throughout, so the decay does nothing"),
    # Worth knowing.
    "tied-parameter": ("info", "one tensor under several names"),
    "frozen-parameter": ("info", "a frozen parameter is in a group that decays"),
    "undecayed-embedding": ("info", "embeddings do not decay while other parameters do"),
    "weak-decay": ("info", "the timescale is longer than the training"),
    "fading-decay": ("info", "decay fades with a schedule that ends near zero"),
    "uneven-timescales": ("info", "timescales of groups differ more than thirtyfold"),
    "unknown-decay": ("info", "the fraction per step cannot be known"),
    "unknown-schedule": ("info", "the schedule follows a metric, so the lr is taken as constant"),
}


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Args:
        code: what it is, one of `CODES`; stable between versions.
        message: name, value, what is wrong with it and what to do.
        parameters: names of the parameters concerned.
    """

    code: str
    message: str
    parameters: tuple[str, ...] = ()

    @property
    def severity(self) -> Severity:
        """``"error"``, ``"warning"`` or ``"info"``, fixed by the code."""
        return CODES[self.code][0]


def collected(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """One finding of each code, errors first, otherwise as the codes are listed.

    What holds of many groups is said of the first.
    """
    by_code: dict[str, list[Finding]] = {}
    for finding in findings:
        by_code.setdefault(finding.code, []).append(finding)
    ranked = sorted(CODES, key=lambda code: SEVERITIES.index(CODES[code][0]))
    found = []
    for code in (code for code in ranked if code in by_code):
        first, *others = by_code[code]
        message = first.message + (f" ({len(others)} more like it.)" if others else "")
        names = dict.fromkeys(name for finding in by_code[code] for name in finding.parameters)
        found.append(Finding(code, message, tuple(names)))
    return tuple(found)
