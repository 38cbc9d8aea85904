"""From a model and its optimizer to rows and findings."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal

from torch import nn
from torch.optim import Optimizer

from ...bases.bench import outside
from ...bases.wrappers import unwrapped
from ...checks import is_number
from ...theory import equilibrium
from ...units.writing import per
from .check_groups import check_settings
from .check_parameters import check_parameters
from .check_strength import check_strength
from .findings import CODES, Finding, collected
from .groups import groups_of
from .precision import unchanged_share
from .report import Audit, ParameterAudit
from .schedules import TrainingPlan, plan_of
from .subjects import Subject, local, subjects_of

__all__ = ["audit"]


@outside()
def audit(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer],
    *,
    schedule: Any = None,
    steps: int | None = None,
    steps_per_epoch: float | None = None,
    interval: Literal["step", "epoch"] = "step",
    ignore: Collection[str] = (),
) -> Audit:
    """Every parameter's weight decay in human units, and what is wrong with it.

    Nothing is changed: not the model, the optimizer, the scheduler, or a random state. What an
    optimizer does with its ``weight_decay`` is found by running a small copy of it.

    Args:
        model: the model, wrapped or not.
        optimizer: any torch optimizer, or all of them if there are several.
        schedule: an ``LRScheduler``, or all of them; a function of the step that multiplies each
            group's lr (and timm's key ``lr_scale``, if that is not in the lr yet); the learning
            rates of all steps, for the first group, which the others follow in proportion; None for
            a constant lr. A scheduler is followed from the state it is in, on a copy; timm's, whose
            count the training keeps, from their start.
        steps: optimizer steps of the training. Default: the schedule's own length, if it has one.
        steps_per_epoch: states durations in epochs too, and looks at the timescale in them.
        interval: what the schedule counts, steps or epochs.
        ignore: codes of findings to leave out, see `CODES`.

    Returns:
        The rows, the findings, and an exit code for continuous integration.

    Raises:
        TypeError: if ``model`` is no module, ``optimizer`` no optimizer or ``schedule`` none, or
            one whose interface is not known.
        ValueError: if a number is not positive, a code is unknown, or the schedule has no length
            or cannot be followed on a copy.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
        >>> optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
        >>> result = audit(model, optimizer, steps=50_000)
        >>> [finding.code for finding in result.findings]
        ['decayed-bias', 'decayed-norm']
        >>> result.parameters[0].timescale
        10000.0
    """
    optimizers = _optimizers(optimizer)
    _check(model, steps, steps_per_epoch, interval, ignore)
    plan = plan_of(optimizers, schedule, steps, steps_per_epoch, interval, model)
    groups = groups_of(optimizers, plan)
    subjects = subjects_of(model, groups)

    def findings() -> Iterator[Finding]:
        yield from check_settings(groups, subjects)
        yield from check_parameters(subjects, groups)
        yield from check_strength(groups, subjects, plan, schedule, steps_per_epoch)

    return Audit(
        optimizer=" + ".join(type(o).__name__ for o in optimizers),
        parameters=tuple(_row(s, plan, steps_per_epoch) for s in subjects),
        findings=collected(f for f in findings() if f.code not in ignore),
        steps=plan.steps,
        steps_per_epoch=steps_per_epoch,
    )


def _row(subject: Subject, plan: TrainingPlan, steps_per_epoch: float | None) -> ParameterAudit:
    group, tensor = subject.group, subject.tensor
    fraction = group.fraction if group is not None and subject.decays else None
    half_life = timescale = unchanged = None
    if fraction and 0.0 < fraction < 1.0:
        half_life, timescale = equilibrium.half_life(fraction), equilibrium.timescale(fraction)
        unchanged = unchanged_share(tensor, fraction)
    known_length = group is not None and fraction and plan.steps is not None
    return ParameterAudit(
        name=subject.name,
        tied_names=subject.parameter.names[1:],
        shape=tuple(tensor.shape),
        dtype=str(tensor.dtype).removeprefix("torch."),
        optimizer=None if group is None else group.number,
        group=None if group is None else group.index,
        decays=subject.decays,
        rule="" if group is None or group.rule is None else str(group.rule),
        lr=None if group is None or not group.has_lr else group.strongest.lr,
        weight_decay=None if group is None else group.strongest.weight_decay,
        fraction=fraction,
        half_life=half_life,
        timescale=timescale,
        half_life_epochs=per(half_life, steps_per_epoch),
        timescale_epochs=per(timescale, steps_per_epoch),
        timescale_of_training=per(timescale, plan.steps),
        total_decay=group.total if known_length and group is not None else None,
        rms=_rms(subject),
        predicted_rms=group.rms if group is not None and subject.decays else None,
        unchanged=unchanged,
        reason=_reason(subject),
    )


def _reason(subject: Subject) -> str:
    group, reason = subject.group, subject.reason
    if not subject.tensor.requires_grad:
        return f"{reason}; frozen"
    if group is None:
        return f"{reason}; in no optimizer"
    if subject.decays:
        return reason
    read = group.native is None or group.native.kind != "absent"
    why = "weight_decay 0" if read else "its optimizer knows no weight_decay"
    return f"{reason}; {why}"


def _rms(subject: Subject) -> float | None:
    values = local(subject.tensor)
    if values is None or values.numel() == 0 or not values.dtype.is_floating_point:
        return None
    return float(values.float().square().mean().sqrt())


def _optimizers(optimizer: Any) -> list[Optimizer]:
    several = list(optimizer) if isinstance(optimizer, (list, tuple)) else [optimizer]
    found = [unwrapped(one) for one in several]
    for one in found or [optimizer]:
        if not isinstance(one, Optimizer):
            raise TypeError(
                f"audit: optimizer={one!r} must be a torch Optimizer, or a list of them; pass what "
                "takes the steps."
            )
    return found


def _check(
    model: Any, steps: Any, steps_per_epoch: Any, interval: str, ignore: Collection[str]
) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"audit: model={model!r} must be a torch.nn.Module; pass the model itself.")
    for name, value in (("steps", steps), ("steps_per_epoch", steps_per_epoch)):
        if value is not None and not (is_number(value) and value > 0):
            raise ValueError(f"audit: {name}={value!r} must be a positive number; or leave it out.")
    if steps is not None and not isinstance(steps, int):
        raise ValueError(f"audit: steps={steps!r} must be a whole number; pass round(steps).")
    if interval not in ("step", "epoch"):
        raise ValueError(f"audit: interval={interval!r} must be 'step' or 'epoch'.")
    if interval == "epoch" and steps_per_epoch is None:
        raise ValueError(
            "audit: interval='epoch' needs to know how long an epoch is; pass "
            "steps_per_epoch=len(dataloader)."
        )
    if isinstance(ignore, str):
        raise TypeError(f"audit: ignore={ignore!r} must be a list of codes; write [{ignore!r}].")
    for code in ignore:
        if code not in CODES:
            near = difflib.get_close_matches(code, CODES, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"audit: ignore={code!r} must be the code of a finding; the nearest is {near!r}."
            )
