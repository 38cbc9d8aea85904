"""What each published rule gives for a budget, and what that means at the peak lr."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from ...theory import equilibrium
from ..convert import Convention, Setting, convention_named
from ..convert.conventions import RuleConvention
from ..strength import Fraction, Normalized, Strength, Timescale
from ..transfer import POWER_LINES
from ..writing import counted, duration, in_percent, quantity

__all__ = ["CLASSES", "DECAYS", "USUAL", "DecayName", "Option", "Plan", "options_for"]

CLASSES = {"adamw": "AdamW", "lion": "Lion", "sgd": "SGD"}
DecayName: TypeAlias = Literal["constant", "corrected", "decoupled", "independent", "proximal"]
DECAYS: tuple[DecayName, ...] = get_args(DecayName)

_WANG = "Wang & Aitchison 2025 (arXiv 2405.13698)"
_WANG_TESTED = "AdamW; ResNet-18 and ViT on CIFAR and ImageNet, NanoGPT"
_POWER_LINES = "Bergsma et al. 2025, Power Lines (arXiv 2505.13738)"
_NORMALIZED = "Loshchilov & Hutter 2019, appendix B.1"
_NORMALIZED_TESTED = "AdamW and SGDW on CIFAR-10 and ImageNet32x32"
# Optimizers that the rules of a source were tested with.
_OPTIMIZERS = {_WANG: ("adamw",), _POWER_LINES: ("adamw",), _NORMALIZED: ("adamw", "sgd")}

_SHORTEST = 100  # steps; shorter averages, and runs, are outside what any rule was tested on
_INERT = 0.05  # a total decay below this takes less than 5 % off any weight
_FELT = 0.05  # of the pretrained weights


class _Usual(NamedTuple):
    """What is published as the usual number for an optimizer, in a convention."""

    name: str
    value: float
    convention: str
    source: str
    validity: str


USUAL = {
    "adamw": _Usual(
        "torch's default", 0.01, "decoupled", "torch.optim.AdamW", "nowhere in particular"
    ),
    "lion": _Usual(
        "ten times AdamW's default",
        0.1,
        "decoupled",
        "Chen et al. 2023 (arXiv 2302.06675): 3 to 10 times AdamW's, at as much less lr",
        "diffusion models at lr 3e-5; a ViT-B/16 on ImageNet took 10 at lr 1e-4",
    ),
    "sgd": _Usual(
        "the usual L2 of 0.0005",
        5e-4,
        "l2",
        "Zagoruyko & Komodakis 2016 (arXiv 1605.07146), as a decoupled number",
        "SGD with momentum 0.9 and lr 0.1, residual networks on CIFAR",
    ),
}


@dataclass(frozen=True)
class Option:
    """One weight decay for the run, and what it means at the peak lr.

    Args:
        name: the rule it comes from.
        value: the coefficient, in the unit of the decay rule asked for.
        fraction: share of each weight removed per step.
        half_life: steps until half of a weight is left if nothing is added.
        timescale: steps over which the weights average past updates.
        timescale_epochs: the same in epochs.
        rms: predicted equilibrium RMS of the weights; None where it cannot be predicted.
        rotation: predicted equilibrium angle per step, in radians.
        total: sum of the fractions over the run; about ``exp(-total)`` of the start survives.
        removed: share of the initial, or pretrained, weights that the run removes.
        source: paper or code.
        validity: where it was tested.
        note: what to know about it.
        argument: what to pass as ``weight_decay``, as code.
    """

    name: str
    value: float
    fraction: float
    half_life: float
    timescale: float
    timescale_epochs: float
    rms: float | None
    rotation: float | None
    total: float
    removed: float
    source: str
    validity: str
    note: str
    argument: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class Plan:
    """A run: its setting, decay rule and length.

    Args:
        setting: lr, optimizer, and the schedule sampled over the run.
        decay: name of the decay rule.
        steps_per_epoch: optimizer steps in an epoch.
        steps: length of the run.
        batch: samples (or tokens) per step.
        data: samples (or tokens) of the data set.
    """

    setting: Setting
    decay: str
    steps_per_epoch: int
    steps: int
    batch: float
    data: float

    @property
    def epochs(self) -> float:
        """Passes over the data."""
        return self.steps / self.steps_per_epoch

    @property
    def convention(self) -> Convention:
        """That of the decay rule."""
        return convention_named(self.decay, "decay")

    def option(
        self,
        name: str,
        strength: Strength | float,
        source: str,
        validity: str,
        note: str = "",
        argument: str = "",
    ) -> Option:
        """An option from a strength, or from a coefficient of the decay rule."""
        setting, convention = self.setting, self.convention
        assert isinstance(convention, RuleConvention)
        base = setting.base(setting.lr)
        value = (
            float(strength.coefficient(convention.rule, base))
            if isinstance(strength, Strength)
            else float(strength)
        )
        fraction = convention.at(value, setting.lr, 1.0, setting)[0]
        multipliers = setting.require_multipliers("a plan")
        removed = [convention.at(value, setting.lr, m, setting)[0] for m in multipliers]
        each = self.steps / len(multipliers)  # steps that a sample of the schedule stands for
        size = rotation = None
        if base.momentum is not None:
            rotation = equilibrium.rotation(fraction, base.momentum)
            if base.update_rms is not None:
                size = equilibrium.rms(fraction, setting.lr, base.momentum, base.update_rms)
        notes = [note] if note else []
        if setting.optimizer not in _OPTIMIZERS.get(source, (setting.optimizer,)):
            notes.append(f"not tested with {CLASSES[setting.optimizer]}")
        return Option(
            name=name,
            value=value,
            fraction=fraction,
            half_life=equilibrium.half_life(fraction),
            timescale=equilibrium.timescale(fraction),
            timescale_epochs=equilibrium.timescale(fraction) / self.steps_per_epoch,
            rms=size,
            rotation=rotation,
            total=each * math.fsum(removed),
            removed=abs(math.expm1(each * math.fsum(math.log1p(-d) for d in removed))),
            source=source,
            validity=validity,
            note="; ".join(notes),
            argument=argument or f"{value:.6g}",
        )

    def timescale(
        self, name: str, steps: float, source: str, validity: str, note: str = ""
    ) -> Option:
        """An option from a timescale in whole steps; one shorter than any tested is clipped."""
        if steps < _SHORTEST:
            clipped = (
                f"clipped to {_SHORTEST} steps from {quantity(steps)}, an average shorter than any "
                "that was tested"
            )
            note = f"{note}; {clipped}" if note else clipped
        steps = max(_SHORTEST, round(steps))
        shown = f"halflife.Timescale(steps={steps})"
        return self.option(name, Timescale(steps=steps), source, validity, note, shown)

    def usual(self, finetune: bool) -> Option:
        """The published number for the optimizer; in a fine-tuning no more than goes unnoticed."""
        setting, (name, value, convention, source, validity) = self.setting, USUAL[self.optimizer]
        if setting.momentum is None:
            setting = replace(setting, momentum=0.9)
        fraction = convention_named(convention, "rule").at(value, setting.lr, 1.0, setting)[0]
        most, limit = 0.5, "half of each weight in a step"
        if finetune:
            most, limit = _FELT / self.steps, f"{_FELT:.0%} of the pretrained weights"
            name = "a usual number"
            source = f"habit: {value:g} as in {source}" if self.optimizer == "adamw" else source
        note = f"clipped from {value:g}, which might remove more than {limit}"
        option = self.option(
            name, Fraction(min(fraction, most)), source, validity, note if fraction > most else ""
        )
        if finetune:
            remark = (
                f"takes {in_percent(option.removed)} of the pretrained weights in the whole run"
            )
        elif self.steps < _SHORTEST:
            remark = (
                f"{counted(self.steps, 'step')} are fewer than any rule for a whole run was "
                "tested on"
            )
        else:
            return option
        return _remarked(option, remark)

    @property
    def optimizer(self) -> str:
        """Its name."""
        return self.setting.optimizer

    def objection(self, option: Option, finetune: bool) -> str:
        """What speaks against an option in this run, as the end of a sentence; empty if nothing."""
        if finetune:
            share = f"removes {in_percent(option.removed)} of the pretrained weights"
            return share if option.removed > _FELT else ""
        if option.total < _INERT:
            return (
                f"is inert: over the whole run it takes {in_percent(option.removed)} off a weight"
            )
        short = option.timescale < 0.1 * min(self.steps_per_epoch, self.steps)
        if short and option.source != _POWER_LINES:  # of data seen once, where it is usual
            return f"averages over {duration(option.timescale)}, less than a tenth of an epoch"
        return ""


def _remarked(option: Option, remark: str) -> Option:
    return replace(option, note="; ".join(filter(None, (option.note, remark))))


def options_for(plan: Plan, parameters: float, unit: str, finetune: bool) -> list[Option]:
    """The options, the recommended one first.

    Args:
        plan: the run.
        parameters: size of the model.
        unit: "samples" or "tokens".
        finetune: whether the model is pretrained.
    """
    options = _averages(plan)
    if unit == "tokens":
        power_lines = _tokens_per_parameter(plan, parameters)
        usable = plan.epochs <= 1.5 and power_lines.timescale > _SHORTEST
        options.insert(0 if usable else len(options), power_lines)
    options += _normalized(plan)
    usual = plan.usual(finetune)
    if plan.steps < _SHORTEST and not finetune:
        return [usual, *options]
    options.sort(key=lambda option: option.removed if finetune else 0.0)
    options = [usual, *options] if finetune else [*options, usual]
    objections = {option.name: plan.objection(option, finetune) for option in options}
    found = [_remarked(option, objections[option.name]) for option in options]
    return sorted(found, key=lambda option: bool(objections[option.name]))


def _averages(plan: Plan) -> list[Option]:
    """Averages over one epoch to the whole run, and between the two."""
    whole = plan.timescale("average over the whole run", plan.steps, _WANG, _WANG_TESTED)
    if plan.epochs <= 1.0 or plan.steps < _SHORTEST:
        return [whole]
    epoch = max(float(plan.steps_per_epoch), 1.5)
    between = plan.timescale(
        "average between one epoch and the whole run",
        math.sqrt(epoch * plan.steps),
        _WANG,
        _WANG_TESTED,
        "they give the range; that we start at its geometric mean is our choice",
    )
    return [
        between,
        plan.timescale("average over one epoch", epoch, _WANG, _WANG_TESTED),
        whole,
    ]


def _tokens_per_parameter(plan: Plan, parameters: float) -> Option:
    factor, exponent = POWER_LINES
    tokens = plan.batch * plan.steps
    note = f"the constants {factor} and {exponent} are unverified"
    if plan.epochs > 1.0:
        note += "; this run repeats its data, which theirs did not"
    return plan.timescale(
        "tokens per parameter",
        plan.steps * factor * (tokens / parameters) ** exponent,
        _POWER_LINES,
        "AdamW, language models of 111M to 3.3B parameters, muP lr, data seen once",
        note,
    )


def _normalized(plan: Plan) -> list[Option]:
    found = []
    for value in (0.025, 0.05):
        strength = Normalized(
            value,
            batch_size=plan.batch,  # type: ignore[arg-type]  # a ratio is all it needs
            dataset_size=plan.data,  # type: ignore[arg-type]
            epochs=plan.epochs,
        )
        name = f"normalized weight decay {value}"
        steps = 1.0 / strength.fraction(plan.setting.base(plan.setting.lr))
        if steps < _SHORTEST:
            found.append(plan.timescale(name, steps, _NORMALIZED, _NORMALIZED_TESTED))
        else:
            found.append(plan.option(name, strength, _NORMALIZED, _NORMALIZED_TESTED))
    return found
