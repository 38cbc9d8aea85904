"""What each published rule gives for a budget, and what that means at the peak lr."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from ...theory import equilibrium
from ..convert import Convention, Setting, convention_named
from ..convert.conventions import RuleConvention
from ..strength import Fraction, Normalized, Strength, Timescale
from ..transfer import POWER_LINES

__all__ = ["DECAYS", "Option", "Plan", "options_for"]

DECAYS = ("constant", "corrected", "decoupled", "independent", "proximal")

_WANG = "Wang & Aitchison 2025 (arXiv 2405.13698)"
_WANG_TESTED = "AdamW; ResNet-18 and ViT on CIFAR and ImageNet, NanoGPT"
_NORMALIZED = "Loshchilov & Hutter 2019, appendix B.1"
_NORMALIZED_TESTED = "AdamW and SGDW on CIFAR-10 and ImageNet32x32"


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
        mean = convention.total(value, setting, "a plan") / len(multipliers)
        size = rotation = None
        if base.momentum is not None:
            rotation = equilibrium.rotation(fraction, base.momentum)
            if base.update_rms is not None:
                size = equilibrium.rms(fraction, setting.lr, base.momentum, base.update_rms)
        return Option(
            name=name,
            value=value,
            fraction=fraction,
            half_life=equilibrium.half_life(fraction),
            timescale=equilibrium.timescale(fraction),
            timescale_epochs=equilibrium.timescale(fraction) / self.steps_per_epoch,
            rms=size,
            rotation=rotation,
            total=mean * self.steps,
            source=source,
            validity=validity,
            note=note,
            argument=argument or f"{value:.6g}",
        )

    def timescale(
        self, name: str, steps: float, source: str, validity: str, note: str = ""
    ) -> Option:
        """An option from a timescale in steps, in whole steps where it is long."""
        steps = float(round(steps)) if steps >= 100.0 else steps
        shown = f"halflife.Timescale(steps={steps:.6g})"
        if steps >= 100.0:
            shown = f"halflife.Timescale(steps={int(steps)})"
        return self.option(name, Timescale(steps=steps), source, validity, note, shown)


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
        options.insert(0 if plan.epochs <= 1.5 else len(options), power_lines)
    options += _normalized(plan)
    usual = plan.option(
        "a usual number" if finetune else "torch's default",
        Fraction(min(0.01 * plan.setting.lr, 0.5)),
        "torch.optim.AdamW" if not finetune else "habit: 0.01 as in torch.optim.AdamW",
        "nowhere in particular",
    )
    return [usual, *options] if finetune else [*options, usual]


def _averages(plan: Plan) -> list[Option]:
    """Averages over one epoch to the whole run, and between the two."""
    whole = plan.timescale("average over the whole run", plan.steps, _WANG, _WANG_TESTED)
    if plan.epochs <= 1.0:
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
        "Bergsma et al. 2025, Power Lines (arXiv 2505.13738)",
        "AdamW, language models of 111M to 3.3B parameters, muP lr, data seen once",
        note,
    )


def _normalized(plan: Plan) -> list[Option]:
    return [
        plan.option(
            f"normalized weight decay {value}",
            Normalized(
                value,
                batch_size=plan.batch,  # type: ignore[arg-type]  # a ratio is all it needs
                dataset_size=plan.data,  # type: ignore[arg-type]
                epochs=plan.epochs,
            ),
            _NORMALIZED,
            _NORMALIZED_TESTED,
        )
        for value in (0.025, 0.05)
    ]
