"""The experiments of `halflife.diagnostics.probe`, each a few steps on a few numbers.

They stand on `halflife.bases.bench.Bench`, so that no weight, state or random number of the user's
moves.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from ...bases.bench import Bench, Make, again, take_step, unnoticed
from ...bases.judging import STILL, Evidence, NativeDecay, acting_from, fraction_law, judge
from ...rules.contract import DecayRule
from ...rules.step import Step

__all__ = [
    "FIRST_LR",
    "Found",
    "LrUse",
    "ScaleFree",
    "decays_without_gradient",
    "decays_zero_gradient",
    "first_bench",
    "half_precision",
    "lr_use",
    "observe",
    "reads_groups",
    "scale_free",
]

ScaleFree: TypeAlias = Literal["by coordinate", "as a whole", "no"]
LrUse: TypeAlias = Literal["the step", "the momentum", "nothing now", "not proportional"]

FIRST_LR = 0.125  # with which an optimizer is built
_TOLERANCE = 1e-4  # relative; as in halflife.bases.judging
_WARM = 8  # steps; RAdam of some packages does nothing before its sixth
_IMPLEMENTATIONS = {
    "for-loop": {"foreach": False, "fused": False},
    "foreach": {"foreach": True, "fused": False},
    "fused": {"foreach": False, "fused": True},
}
# Half the fraction 2^-9 under which a bfloat16 rounded to the nearest keeps its value.
_LOST_FRACTION = 2.0**-10
_HALF_LR, _HALF_STEPS, _HALF_SIZE = 2.0**-6, 64, 32


@dataclass(frozen=True)
class Found:
    """How the weights decay: the name of the behaviour and what was seen."""

    behaviour: str
    reason: str
    rates: tuple[float, float] | None = None  # fraction per unit of weight_decay, at the two lrs
    rule: DecayRule | None = None
    peak_lr: float | None = None
    evidence: Evidence | None = None


def first_bench(make: Make, lr: float) -> Bench:
    """The bench of the first dtype and number of tensors that the optimizer can be stepped on."""
    first: Exception | None = None
    for dtype, tensors in itertools.product((torch.float64, torch.float32), (2, 1)):
        bench = Bench(make, lr, tensors, dtype)
        try:
            bench.run(1.0)
        except Exception as error:  # it may take only the other dtype, or only matrices
            first = first or error
        else:
            return bench
    assert first is not None
    raise first


def reads_groups(bench: Bench) -> bool:
    """Whether every parameter group has the ``weight_decay`` that the bench writes."""
    with unnoticed():
        optimizer = bench.make(bench.parameters(), bench.lrs[0], bench.weight_decay)
    return all("weight_decay" in group for group in optimizer.param_groups)


# --- how the weights decay ------------------------------------------------------------------------


def observe(bench: Bench) -> tuple[Found, Bench]:
    """The behaviour, and the bench that showed it: after some steps if the first two do not."""
    found = _observe(bench)
    if found.behaviour not in ("absent", "other"):
        return found, bench
    idle, moves = acting_from(bench)
    if idle is None and not moves:
        return Found("unknown", STILL), bench
    for steps in dict.fromkeys((_WARM, max(_WARM, idle or 0))):
        warm = again(bench, warm=steps)
        later = _observe(warm)
        if later.behaviour not in ("absent", "other"):
            reason = f"after {steps} steps, {later.reason}; at first, {found.reason}"
            return replace(later, reason=reason), warm
    return found, bench


def _observe(bench: Bench) -> Found:
    native = judge(bench)
    evidence = native.evidence
    if native.kind == "other" and native.rule is None:
        return _alone(bench, native)
    if evidence is None or native.kind in ("absent", "l2"):
        return Found(native.kind, native.reason, None, native.rule, None, evidence)
    first, second = (d / evidence.weight_decay for d in evidence.fractions)
    name = native.rule.name if native.kind == "other" and native.rule else native.kind
    found = Found(name, native.reason, (first, second), native.rule, native.peak_lr, evidence)
    return _remembering(bench, found)


def _remembering(bench: Bench, found: Found) -> Found:
    """Tell an lr that is remembered from a constant factor: build it at another lr."""
    if found.peak_lr is None or found.rates is None:
        return found
    other = again(bench, lr=bench.lrs[0] / 2)
    amount, plain = other.weight_decay, other.run(1.0)
    removed = (plain[1] - other.run(1.0, (amount, 0.0))[1]) / plain[0]
    ratio = float(removed.mean()) / amount / found.rates[0]
    power = 1 if found.behaviour == "independent" else 2
    if math.isclose(ratio, 0.5 ** (power - 1), rel_tol=_TOLERANCE):
        return found
    name = "scaled" if math.isclose(ratio, 0.5, rel_tol=_TOLERANCE) else "other"
    return replace(found, behaviour=name, rule=None, peak_lr=None)


def _alone(bench: Bench, native: NativeDecay) -> Found:
    """From what the decay of one step alone removes: masked, or one fraction of every tensor."""
    amount, plain, removed = bench.weight_decay, bench.run(1.0), _removed(bench, 1.0)
    inward = [plain[t] * (plain[t] - plain[t + 1]) > 0.0 for t in (0, 1)]
    sizes = [p.numel() for p in bench.parameters()]
    for when in ("before", "after"):
        shares = [removed[t] / plain[t if when == "before" else t + 1] for t in (0, 1)]
        if any(not bool(s.isfinite().all()) or float(s.abs().max()) == 0.0 for s in shares):
            continue
        whole = _constants([[s] for s in shares])
        if whole and (found := _uniform(bench, native, when, whole)):
            return found
        if when == "before" and all(bool(m.any()) and not bool(m.all()) for m in inward):
            kept = max(float(s[~m].abs().max()) for s, m in zip(shares, inward, strict=True))
            masked = _constants([[s[m]] for s, m in zip(shares, inward, strict=True)])
            if masked and kept <= _TOLERANCE * min(masked):
                rates = (masked[0] / amount, masked[1] / amount)
                _, rule, peak = fraction_law(masked, bench.lrs, amount, when)
                reason = f"only of weights that the step moves toward 0, {_at(rates, bench.lrs)}"
                return Found("cautious", reason, rates, rule, peak, native.evidence)
        tensors = [s.split(sizes) for s in shares]
        if _constants(tensors) is None:
            continue
        if all(float(step[-1].abs().max()) == 0.0 for step in tensors):
            found = _observe(again(bench, tensors=1))
            return replace(found, reason=f"{found.reason}; vectors do not decay")
        quiet = [_removed(bench, 0.0)[t] / bench.run(0.0)[t + (when == "after")] for t in (0, 1)]
        if all(torch.allclose(a, b, _TOLERANCE) for a, b in zip(quiet, shares, strict=True)):
            break  # not the gradients: a law of the lr that is not known here
        seen = [float(piece.mean()) / amount for step in tensors for piece in step]
        reason = (
            f"{when} the step it removes one fraction of every tensor, which depends on the "
            f"gradients: from {min(seen):.3g} to {max(seen):.3g} times weight_decay"
        )
        return Found("gradient_dependent", reason, None, None, None, native.evidence)
    return Found("other", native.reason, None, None, None, native.evidence)


def _removed(bench: Bench, noise: float) -> list[Tensor]:
    """What the decay of each step removes in that step, the other one having none."""
    amount, plain = bench.weight_decay, bench.run(noise)
    first, second = bench.run(noise, (amount, 0.0)), bench.run(noise, (0.0, amount))
    return [plain[1] - first[1], plain[2] - second[2]]


def _uniform(
    bench: Bench, native: NativeDecay, when: str, fractions: tuple[float, float]
) -> Found | None:
    """A step alone removes one fraction, and yet decay by hand is not the same: why."""
    amount = bench.weight_decay
    rates = (fractions[0] / amount, fractions[1] / amount)
    kind, rule, peak = fraction_law(fractions, bench.lrs, amount, when)
    name = rule.name if kind == "other" and rule else kind
    reason = f"{when} the step {_at(rates, bench.lrs)}"
    if name == "other":
        return None
    # The decay of the first step taken back: what remains of it is in the state.
    plain = bench.run(1.0)
    first = bench.run(1.0, (amount, 0.0), restart=plain[1])
    if float((first[2] - plain[2]).abs().max()) > _TOLERANCE * float(fractions[0]):
        reason = f"{reason}, and what it removes joins the momentum"
        return Found("in_momentum", reason, rates, None, None, native.evidence)
    reason = f"{reason}; the step itself depends on the weights"
    return _remembering(bench, Found(name, reason, rates, rule, peak, native.evidence))


def _constants(pieces: Sequence[Sequence[Tensor]]) -> tuple[float, float] | None:
    """The first constant of each step, if within each piece all numbers are equal."""
    for piece in itertools.chain.from_iterable(pieces):
        if float(piece.max() - piece.min()) > _TOLERANCE * float(piece.abs().max()):
            return None
    first, second = (float(step[0].mean()) for step in pieces)
    return first, second


def _at(rates: tuple[float, float], lrs: tuple[float, float]) -> str:
    return (
        f"it removes {rates[0]:.6g} and {rates[1]:.6g} times weight_decay at the learning rates "
        f"{lrs[0]:.6g} and {lrs[1]:.6g}"
    )


def decays_zero_gradient(bench: Bench) -> bool:
    """Whether a parameter whose gradients are all zero loses weight."""
    amount = bench.weight_decay
    return not torch.equal(bench.run(0.0, (amount, amount))[2], bench.run(0.0)[2])


def decays_without_gradient(bench: Bench) -> bool | None:
    """Whether a parameter without gradient loses weight; None where a step fails without one."""
    amount = bench.weight_decay
    try:
        native = bench.run(1.0, (amount, amount), missing=True)
        plain = bench.run(1.0, missing=True)
    except Exception:
        return None
    size = bench.parameters()[-1].numel()
    return not torch.equal(native[2][-size:], plain[2][-size:])


# --- scale, learning rate, precision --------------------------------------------------------------


def scale_free(bench: Bench, decayed: bool) -> ScaleFree:
    """Whether gradients times powers of two give the same weights, with the group's eps at 0."""
    with unnoticed():
        group = bench.make(bench.parameters(), bench.lrs[0], bench.weight_decay).param_groups[0]
    entries = {k: _zero(v) for k, v in group.items() if k.startswith("eps") and v is not None}
    amount = (bench.weight_decay,) * 2 if decayed else (0.0, 0.0)
    for settings in (bench.entries | entries, bench.entries):
        tried = again(bench, entries=settings, warm=_WARM)  # RAdam begins as SGD
        try:
            base = tried.run(2.0**8, amount)
            whole, spread = tried.run(2.0**16, amount), tried.run(2.0**8, amount, spread=16.0)
        except Exception:  # it may refuse an eps of 0
            continue
        if not bool(torch.stack(base + whole + spread).isfinite().all()):
            continue
        size = float((base[2] - base[0]).abs().max())
        if size == 0.0:  # Adadelta without eps never begins
            continue
        if float((spread[2] - base[2]).abs().max()) <= _TOLERANCE * size:
            return "by coordinate"
        return (
            "as a whole" if float((whole[2] - base[2]).abs().max()) <= _TOLERANCE * size else "no"
        )
    return "no"


def _zero(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(_zero(v) for v in value)
    return torch.zeros_like(value) if isinstance(value, Tensor) else 0.0


def lr_use(bench: Bench) -> LrUse:
    """What a step's lr multiplies, from the second update at three second lrs.

    Proportional to it: the step. A constant and a part in proportion to it: the momentum.
    """
    tried, updates = again(bench, lr=1.0), []  # large, so that bounds on it are felt
    for second in (1.0, 0.5, 0.25):
        tried.lrs = (1.0, second)
        _, before, after = tried.run(1.0)
        updates.append(after - before)
    bound = _TOLERANCE * float(updates[0].abs().max())

    def same(a: Tensor, b: Tensor) -> bool:
        return float((a - b).abs().max()) <= bound

    if same(updates[0], 2.0 * updates[1]):
        return "the step"
    if same(updates[0], updates[1]) and same(updates[1], updates[2]):
        return "nothing now"
    linear = same(updates[0] - updates[1], 2.0 * (updates[1] - updates[2]))
    return "the momentum" if linear else "not proportional"


def half_precision(bench: Bench, found: Found) -> dict[str, float | str | None]:
    """By implementation, the share of a decay of 2^-10 per step that bfloat16 weights keep.

    It is the effect of 64 steps with noise as gradients, relative to that on the same weights in
    float32. A text where half precision fails, None where float32 shows no effect.
    """
    rate = _rate(found)
    with unnoticed():
        optimizer = bench.make(bench.parameters(), bench.lrs[0], bench.weight_decay)
    group = optimizer.param_groups[0]
    names: dict[str, dict[str, Any]] = {"for-loop": {}} if "foreach" in group else {"default": {}}
    names |= {n: _IMPLEMENTATIONS[n] for n in ("foreach", "fused") if n in group}
    kept: dict[str, float | str | None] = {}
    exact, drift = 0.0, 0.0
    for name, entries in names.items():
        tried = again(bench, lr=_HALF_LR, warm=0, entries=bench.entries | entries)
        try:
            half: float | str
            half, moved = _effect(tried, torch.bfloat16, _LOST_FRACTION / rate)
        except Exception as error:
            text = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:80]}"
            half, moved = text, 0.0
        try:
            if not kept or isinstance(half, str):
                exact, drift = _effect(tried, torch.float32, _LOST_FRACTION / rate)
        except Exception:  # a flag without the implementation
            continue
        if isinstance(half, str):
            kept[name] = f"refused: {half}"
        elif drift < 2.0**-7:
            kept[name] = None
        elif moved < drift / 8:
            kept[name] = "the weights do not move"
        else:
            kept[name] = half / exact if abs(exact) > 5e-3 and math.isfinite(half) else None
    return kept


def _rate(found: Found) -> float:
    """The fraction per unit of weight_decay at the lr of these runs, which is also the first."""
    if found.rule is not None:
        try:
            return float(found.rule.rate(Step(_HALF_LR, _HALF_LR))) or _HALF_LR  # L2's is 0
        except Exception:  # that of a rule on the data needs them
            return _HALF_LR
    return (
        found.rates[0] / FIRST_LR * _HALF_LR if found.rates and found.rates[0] > 0.0 else _HALF_LR
    )


def _effect(bench: Bench, dtype: torch.dtype, amount: float) -> tuple[float, float]:
    """Share of the weights that the decay removed, and how far they moved without it."""
    start = torch.linspace(0.25, 1.0, _HALF_SIZE**2).view(_HALF_SIZE, _HALF_SIZE).bfloat16()
    ends = []
    for weight_decay in (0.0, amount):
        with unnoticed():
            generator = torch.Generator().manual_seed(0)
            p = torch.nn.Parameter(start.to(dtype, copy=True))
            optimizer = bench.make([p], bench.lrs[0], amount)
            for _ in range(_HALF_STEPS):
                for group in optimizer.param_groups:
                    bench.set(group, bench.lrs[0], weight_decay)
                p.grad = torch.randn(start.shape, generator=generator).bfloat16().to(dtype)
                take_step(optimizer)
            ends.append(p.detach().double().flatten())
    weights = start.double().flatten()
    removed = float((ends[0] - ends[1]).dot(weights) / weights.dot(weights))
    return removed, float((ends[0] - weights).norm() / weights.norm())
