"""How any optimizer decays its weights, found by experiment and not from its documentation.

>>> import torch
>>> from halflife.diagnostics.probing import probe
>>> found = probe(torch.optim.Adam)
>>> found.behaviour, found.scale_free, found.scale_free_decayed
('l2', 'by coordinate', 'no')

Three facts about the same word: torch's Adam adds ``weight_decay w`` to the gradient, its update
does not depend on the gradients' scale, and with that decay it does.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass, field, fields
from typing import Any, cast

from torch.optim import Optimizer

from ...bases.bench import Make, arguments, build_optimizer, copied, unnoticed
from ...checks import in_short
from . import runs
from .names import check_arguments, find, parse
from .runs import FIRST_LR, LrUse, ScaleFree

__all__ = ["BEHAVIOURS", "COLUMNS", "Probe", "find", "parse", "probe"]

BEHAVIOURS = {
    "absent": "weight_decay changes nothing",
    "l2": "g + wd w in place of the gradient g",
    "decoupled": "(1 - lr wd) w, then the step",
    "decoupled_after": "the step, then (1 - lr wd) w",
    "independent": "(1 - (lr / p) wd) w, then the step",
    "constant": "(1 - wd) w at any lr, then the step",
    "scaled": "(1 - c lr wd) w, c a constant of its own, then the step",
    "in_momentum": "u + wd w in place of the update direction u, inside the momentum",
    "corrected": "(1 - (lr^2 / p) wd) w, then the step",
    "proximal": "the step, then w / (1 + lr wd)",
    "cautious": "a fraction of those weights that the step moves toward 0",
    "gradient_dependent": "one fraction of every tensor, which depends on the gradients",
    "averaged": "the parameters are not the weights it trains (schedule-free)",
    "other": "no form known here",
    "unknown": "it could not be run, or moves nothing in its first 64 steps",
}


COLUMNS = ("behaviour", "fraction / wd", "scale-free", "lr multiplies", "bfloat16")


@dataclass(frozen=True)
class Probe:
    """How one optimizer decays, and the evidence.

    Args:
        name: import path and arguments.
        behaviour: a key of `BEHAVIOURS`.
        reason: what was measured, in a sentence.
        weight_decay: the default value; None if it has no such argument.
        lrs: learning rates of the two steps that were run.
        rates: share of the weights each removed, per unit of weight_decay; None if it is no one
            share.
        errors: how far the weights are from the native ones, relative to what the decay did, when
            it is made by hand: "l2" in the gradient, "before" or "after" the step.
        peak_lr: the remembered lr that the fraction is divided by.
        scale_free: whether gradients times a constant give the same weights without decay: any
            constant for each coordinate, only one for all, or no.
        scale_free_decayed: the same with decay.
        lr_multiplies: the step, or the momentum (so that older steps keep their lr), or not the
            lr of the step at all, or not in proportion.
        zero_gradient: whether weights whose gradient is 0 decay.
        no_gradient: whether weights whose gradient is None decay.
        bfloat16: by implementation, the share of a decay of 2^-10 per step that bfloat16 weights
            keep, by its effect after 64 steps; a text if they are refused.
    """

    name: str
    behaviour: str
    reason: str
    weight_decay: float | None = None
    lrs: tuple[float, float] | None = None
    rates: tuple[float, float] | None = None
    errors: dict[str, float] = field(default_factory=dict)
    peak_lr: float | None = None
    scale_free: ScaleFree | None = None
    scale_free_decayed: ScaleFree | None = None
    lr_multiplies: LrUse | None = None
    zero_gradient: bool | None = None
    no_gradient: bool | None = None
    bfloat16: dict[str, float | str | None] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def explain(self) -> str:
        """The findings in sentences, one a line; what it all comes to is the last."""
        lines = [f"Evidence: {self.reason}."]
        if self.errors:
            apart = ", ".join(f"{way} {error:.1g}" for way, error in self.errors.items())
            lines.append(f"The same by hand is off, relative to the decay, by: {apart}.")
        if self.weight_decay is not None:
            lines.append(f"Its weight_decay is {self.weight_decay:g} unless given.")
        if self.peak_lr is not None:
            lines.append(
                f"p is an lr that it remembers: {self.peak_lr:g}, built with {FIRST_LR:g}."
            )
        if self.scale_free is not None:
            lines.append(_scale_sentence(self.scale_free, self.scale_free_decayed))
        if self.lr_multiplies is not None:
            lines.append(_LR_SENTENCES[self.lr_multiplies])
        if self.zero_gradient is not None and self.behaviour != "absent":
            zero = "decay" if self.zero_gradient else "do not decay"
            none = {True: "decay", False: "do not", None: "make a step fail"}[self.no_gradient]
            lines.append(
                f"Weights whose gradient is 0 {zero}; those whose gradient is None {none}."
            )
        for name, kept in self.bfloat16.items():
            lines.append(f"bfloat16, {name}: a decay of 2^-10 per step: {in_words(kept)}.")
        return "\n".join([*lines, self.sentence])

    @property
    def sentence(self) -> str:
        """What its weight_decay does, in one sentence.

        Example:
            >>> print(probe("AdamW").sentence)
            AdamW: decoupled, (1 - lr wd) w, then the step.
        """
        return f"{self.name}: {self.behaviour}, {BEHAVIOURS[self.behaviour]}."

    def cells(self) -> list[str]:
        """One short text for each of `COLUMNS`."""
        at = "" if self.rates is None else " ".join(f"{rate:.3g}" for rate in self.rates)
        scale: str = self.scale_free or "-"
        if self.scale_free_decayed not in (None, self.scale_free):
            scale = f"{scale}; with decay: {self.scale_free_decayed}"
        half: dict[str, list[str]] = {}
        for name, kept in self.bfloat16.items():
            half.setdefault(in_words(kept), []).append(name)
        if len(half) == 1:
            texts = list(half)
        else:
            texts = [f"{', '.join(names)}: {words}" for words, names in half.items()]
        return [
            self.behaviour,
            at or "-",
            scale,
            self.lr_multiplies or "-",
            "; ".join(texts) or "-",
        ]

    def __str__(self) -> str:
        return self.explain()


_LR_SENTENCES = {
    "the step": "The lr multiplies the step.",
    "the momentum": "The lr is inside the momentum: after it changes, older gradients keep theirs.",
    "nothing now": "A step does not depend on the lr that is set for it.",
    "not proportional": "A step is not proportional to the lr.",
}


def _scale_sentence(plain: str, decayed: str | None) -> str:
    texts = {
        "by coordinate": "does not depend on the scale of any coordinate's gradients",
        "as a whole": "does not depend on the gradients' scale as a whole",
        "no": "depends on the gradients' scale",
    }
    if decayed in (None, plain):
        return f"Its update {texts[plain]}."
    return f"Without decay its update {texts[plain]}; with decay it {texts[str(decayed)]}."


def in_words(kept: float | str | None) -> str:
    """A share of the decay that is kept, to the precision that it repeats with elsewhere."""
    if kept is None:
        return "not measurable"
    if isinstance(kept, str):
        return kept
    return "lost" if kept < 0.2 else "partly kept" if kept < 0.67 else "kept"


def probe(optimizer: str | type[Optimizer] | Optimizer | Make, **others: Any) -> Probe:
    """How an optimizer decays: by some dozens of steps on a few numbers, and nothing changes.

    Args:
        optimizer: an import path ("torch.optim.AdamW"), a class, an instance, which answers for
            the settings of its first group, or a function of (parameters, lr, weight_decay) that
            makes one. A halflife optimizer answers for its rule.
        **others: arguments of the class, beyond lr and weight_decay.

    Raises:
        ValueError: for a path without an optimizer, or an argument that is unknown or missing.
        TypeError: for anything else than these.

    Example:
        >>> print(probe("torch.optim.SGD", momentum=0.9).lr_multiplies)
        the step
    """
    if isinstance(optimizer, str):
        return _of_class(find(optimizer), others, optimizer.strip())
    if isinstance(optimizer, type) and issubclass(optimizer, Optimizer):
        return _of_class(optimizer, others, _path(optimizer))
    if others:
        raise ValueError(f"{', '.join(others)}: arguments go with a class; pass the class.")
    if isinstance(optimizer, Optimizer):
        if not optimizer.param_groups:
            return Probe(_path(type(optimizer)), "unknown", "it has no parameter group")
        group = optimizer.param_groups[0]
        make = functools.partial(copied, optimizer, group)
        return _probe(make, _path(type(optimizer)), type(optimizer), group.get("weight_decay"))
    if callable(optimizer):
        return _probe(
            cast("Make", optimizer), getattr(optimizer, "__name__", "function"), None, None
        )
    raise TypeError(
        f"optimizer={optimizer!r}: must be an optimizer class, its import path, an instance, or a "
        "function that makes one."
    )


def _of_class(cls: type[Optimizer], others: dict[str, Any], name: str) -> Probe:
    check_arguments(cls, others)
    if others:
        name = f"{name}({', '.join(f'{k}={v!r}' for k, v in others.items())})"
    known = arguments(cls).get("weight_decay")
    default: Any = known.default if known is not None else None
    number = isinstance(default, (int, float)) and not isinstance(default, bool)
    make = functools.partial(build_optimizer, cls, **others)
    return _probe(make, name, cls, float(default) if number else None)


def _takes_decay(cls: type[Optimizer]) -> bool:
    signature = inspect.signature(cls).parameters
    return "weight_decay" in signature or any(p.kind is p.VAR_KEYWORD for p in signature.values())


def _path(cls: type[Optimizer]) -> str:
    module = cls.__module__
    return f"{'torch.optim' if module.startswith('torch.optim') else module}.{cls.__qualname__}"


@unnoticed()
def _probe(make: Make, name: str, cls: type[Optimizer] | None, default: float | None) -> Probe:
    if cls is not None and all(callable(getattr(cls, n, None)) for n in ("train", "eval")):
        return Probe(name, "averaged", "train() and eval() exchange the parameters", default)
    absent = cls is not None and not _takes_decay(cls)
    try:
        bench = runs.first_bench(make, FIRST_LR)
    except Exception as error:
        if absent:
            return Probe(name, "absent", "its constructor has no weight_decay")
        reason = f"a copy of it could not take a step on a few numbers ({in_short(error)})"
        return Probe(name, "unknown", reason, default)
    if absent:
        found = runs.Found("absent", "its constructor has no weight_decay")
    elif not runs.reads_groups(bench):
        return Probe(name, "unknown", "it keeps weight_decay outside its parameter groups", default)
    else:
        found, bench = runs.observe(bench)
        if found.behaviour == "unknown":
            return Probe(name, "unknown", found.reason, default)
    decays = found.behaviour != "absent"
    return Probe(
        name,
        found.behaviour,
        found.reason,
        default,
        bench.lrs,
        found.rates,
        {} if found.evidence is None else found.evidence.errors,
        found.peak_lr,
        runs.scale_free(bench, False),
        runs.scale_free(bench, True) if decays else None,
        runs.lr_use(bench),
        runs.decays_zero_gradient(bench) if decays else None,
        runs.decays_without_gradient(bench) if decays else None,
        runs.half_precision(bench, found) if decays else {},
    )
