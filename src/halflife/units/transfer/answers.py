"""What each transfer rule makes of a weight decay."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

from ...checks import is_number
from ...theory import equilibrium
from ..convert import Convention, Setting, base_named, convention_named, convert, optimizer_named
from ..strength import Fraction
from .rules import LR_SCALINGS, RULES, Change, TransferRule

__all__ = ["Answer", "transfer"]

Pair: TypeAlias = "tuple[float, float] | None"


@dataclass(frozen=True)
class Answer:
    """What one rule makes of a weight decay.

    Args:
        name: the rule.
        value: the new weight decay, in the convention of the old one.
        lr: the new peak lr that belongs to it.
        fraction: share of each weight removed per step at that lr.
        timescale: 1 / fraction. Unit: steps.
        source: paper or code.
        validity: where it was tested.
        note: what to know about it.
        verified: whether its constants were checked against the source.
        silent: changes that it says nothing of, and leaves out of account.
    """

    name: str
    value: float
    lr: float
    fraction: float
    timescale: float
    source: str
    validity: str
    note: str = ""
    verified: bool = True
    silent: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def transfer(
    weight_decay: float,
    *,
    lr: float | tuple[float, float],
    rule: str = "decoupled",
    batch: Pair = None,
    data: Pair = None,
    epochs: Pair = None,
    steps: Pair = None,
    parameters: Pair = None,
    width: Pair = None,
    optimizer: tuple[str, str] | None = None,
    lr_scaling: str | None = None,
    momentum: float | None = None,
    dampening: float = 0.0,
) -> list[Answer]:
    """What each published rule makes of a weight decay when the recipe changes.

    Every change is a pair ``(old, new)``; only the ratio matters, apart from the rules on repeated
    data and on optimizers. The data seen in the run is ``data`` times ``epochs``; ``steps`` alone
    is read as more epochs over the same data.

    Args:
        weight_decay: the old number.
        lr: old peak lr; or old and new, if you have decided on it.
        rule: convention of the number, a name of `halflife.convert`. Default "decoupled", torch's.
            An L2 term is SGD's unless ``optimizer`` says otherwise.
        batch: samples (or tokens) per step.
        data: samples (or tokens) of the data set.
        epochs: passes over it.
        steps: length of the run.
        parameters: size of the model.
        width: width of its layers.
        optimizer: "adamw", "lion" or "sgd"; needs both learning rates.
        lr_scaling: how the lr changes: "none", "sqrt" or "linear" (in the batch), or "mup" (in the
            width). Default: as each rule prescribes. Rules that prescribe another lr than yours are
            left out.
        momentum: beta1 or SGD's momentum. Default 0.9.
        dampening: SGD's.

    Raises:
        ValueError: for a pair that is no pair of positive numbers, pairs that contradict each
            other, no change at all, or an L2 term at an adaptive optimizer, with the call that has
            an answer.

    Example:
        >>> answers = transfer(0.1, lr=3e-4, batch=(256, 1024))
        >>> [(a.name, round(a.value, 3)) for a in answers][:2]
        [('fixed timescale in epochs', 0.4), ('tokens per parameter', 0.4)]
    """
    pairs = {
        "batch": batch,
        "data": data,
        "epochs": epochs,
        "steps": steps,
        "parameters": parameters,
        "width": width,
    }
    ratios = {name: _ratio(name, pair) for name, pair in pairs.items() if pair is not None}
    old_lr, wanted = _learning_rates(lr, lr_scaling, optimizer)
    if not is_number(weight_decay) or not weight_decay >= 0.0:
        raise ValueError(f"weight_decay={weight_decay!r}: must be a number >= 0.")
    names = ("adamw", "adamw") if optimizer is None else _optimizers(optimizer)
    convention = convention_named(rule, "rule")
    reading = ""
    if convention.name == "l2":
        momentum = 0.9 if momentum is None else momentum
        if optimizer is None:
            names, reading = ("sgd", "sgd"), f"read as L2 of SGD with momentum {momentum:g}"
    old = Setting(lr=old_lr, optimizer=names[0], momentum=momentum, dampening=dampening)
    change = _change(ratios, epochs, wanted, optimizer is not None)
    momenta = tuple(base_named(n, old_lr, momentum, dampening).momentum for n in names)
    if convention.name == "l2" and names != ("sgd", "sgd"):
        raise ValueError(_way_from_l2(weight_decay, rule, old, lr, names, optimizer))
    decay, step_size = convention.given(weight_decay, old, False)
    fraction = decay.fraction(old.base(old_lr))
    change = replace(change, fraction=fraction, momenta=momenta, optimizers=frozenset(names))  # type: ignore[arg-type]
    if not isinstance(wanted, float):
        wanted = None if lr_scaling is None else LR_SCALINGS[lr_scaling](change)
    change = replace(change, lr=wanted)
    new = replace(old, optimizer=names[1])
    answers = []
    for each in RULES:
        if not each.covers & change.changed or not each.applies(change):
            continue
        own = None if each.lr is None else each.lr(change)
        if own is not None and wanted is not None and not math.isclose(own, wanted, rel_tol=1e-6):
            continue
        factor = own if own is not None else 1.0 if wanted is None else wanted
        scaled = fraction * each.ratio(change)
        answer = _answer(each, change, convention, new, scaled, step_size * factor)
        notes = filter(None, (answer.note, reading))
        answers.append(replace(answer, note="; ".join(notes)))
    return answers


def _way_from_l2(
    weight_decay: float, rule: str, old: Setting, lr: Any, names: tuple[str, str], pair: Any
) -> str:
    """Why an L2 number has no place at another optimizer, and the call that has an answer."""
    why = (
        f"rule={rule!r} with optimizer={pair!r}: an L2 term in an adaptive optimizer is divided by "
        "its gradients' size, so no number of it removes a known fraction"
    )
    if names[0] == "sgd":
        value = convert(
            weight_decay,
            rule,
            "decoupled",
            lr=old.lr,
            momentum=old.momentum,
            dampening=old.dampening,
        ).value
        momentum = "" if old.momentum == 0.9 else f", momentum={old.momentum:g}"
        return (
            f"{why}; SGD's {weight_decay:g} is the decoupled {value:.6g}: call "
            f"transfer({value:.6g}, rule='decoupled', lr={lr!r}, optimizer={pair!r}{momentum}), "
            "and use a decoupled rule there."
        )
    return (
        f"{why}; choose the timescale you want, say 10000 steps: call transfer(10000, "
        f"rule='timescale', lr={lr!r}, optimizer={pair!r}), or give the old number under a "
        "decoupled rule, rule='decoupled'."
    )


def _answer(
    rule: TransferRule,
    change: Change,
    convention: Convention,
    setting: Setting,
    fraction: float,
    step_size: float,
) -> Answer:
    notes = [rule.note] if rule.note else []
    silent = tuple(sorted(change.changed - rule.covers - {"lr"}))
    if silent:
        notes.append(f"says nothing of {' or '.join(silent)}: left out of account")
    value = lr = math.nan
    if fraction < 1.0:
        at_new_lr = replace(setting, lr=step_size)
        value, lr = convention.solve(Fraction(fraction), step_size, at_new_lr, False)
    else:
        notes.append("it would remove whole weights: outside the range of this rule")
    return Answer(
        name=rule.name,
        value=value,
        lr=lr,
        fraction=fraction,
        timescale=equilibrium.timescale(fraction),
        source=rule.source,
        validity=rule.validity,
        note="; ".join(notes),
        verified=rule.verified,
        silent=silent,
    )


def _change(
    ratios: dict[str, float], epochs: Pair, wanted: float | None, optimizer: bool
) -> Change:
    changed = {name for name, ratio in ratios.items() if ratio != 1.0}
    changed |= {"lr"} if wanted not in (None, 1.0) else set()
    changed |= {"optimizer"} if optimizer else set()
    if not changed:
        raise ValueError(
            "nothing changes: pass what does as (old, new), for example batch=(256, 1024), "
            "lr=(1e-3, 3e-4) or width=(512, 2048)."
        )
    batch, data = ratios.get("batch", 1.0), ratios.get("data", 1.0)
    passes = ratios.get("epochs", 1.0)
    if "steps" in ratios:
        implied = ratios["steps"] * batch / data
        if "epochs" in ratios and not math.isclose(implied, passes, rel_tol=1e-3):
            raise ValueError(
                f"steps: their ratio {ratios['steps']:.6g} contradicts data, epochs and batch, "
                f"which make it {data * passes / batch:.6g}; leave steps out."
            )
        passes = implied
    return Change(
        changed=frozenset(changed),
        batch=batch,
        data=data,
        epochs=passes,
        parameters=ratios.get("parameters", 1.0),
        width=ratios.get("width", 1.0),
        repeats=None if epochs is None else float(epochs[1]),
    )


def _learning_rates(
    lr: float | tuple[float, float], lr_scaling: str | None, optimizer: object
) -> tuple[float, float | None]:
    """The old lr, and the factor to the new one if it was stated."""
    if lr_scaling is not None and lr_scaling not in LR_SCALINGS:
        raise ValueError(f"lr_scaling={lr_scaling!r}: must be one of {', '.join(LR_SCALINGS)}.")
    if isinstance(lr, (tuple, list)):
        if lr_scaling is not None:
            raise ValueError(
                f"lr_scaling={lr_scaling!r} with lr={lr!r}: the pair says how the lr changes; "
                "leave one of the two out."
            )
        factor = _ratio("lr", lr)
        return float(lr[0]), factor
    if optimizer is not None:
        raise ValueError(
            f"lr={lr!r}: learning rates of different optimizers have different units; pass "
            "lr=(old, new)."
        )
    return lr, None


def _optimizers(pair: object) -> tuple[str, str]:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise ValueError(
            f"optimizer={pair!r}: must be a pair (old, new), such as ('adamw', 'lion')."
        )
    return optimizer_named(pair[0]), optimizer_named(pair[1])


def _ratio(name: str, pair: Any) -> float:
    holds = isinstance(pair, (tuple, list)) and len(pair) == 2
    if not holds or not all(is_number(value) and 0.0 < value < math.inf for value in pair):
        raise ValueError(f"{name}={pair!r}: must be a pair (old, new) of positive numbers.")
    return float(pair[1] / pair[0])
