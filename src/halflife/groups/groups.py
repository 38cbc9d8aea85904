"""Sorting parameters into groups, with overrides by name and a table of reasons."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from ..checks import aligned, is_number
from .names import Parameter, collect, listed_by_the_model, name_cleaner
from .policies import POLICIES, decide

__all__ = ["ParamGroups", "ParameterDecision", "param_groups"]


@dataclass(frozen=True)
class ParameterDecision:
    """What was decided about one parameter.

    Attributes:
        name: Name in the model, without the prefixes of wrappers.
        shape: Its shape.
        decays: Whether weight decay applies.
        group: Index of its group, None if it is frozen and in no group.
        reason: Why, in a few words.
        tied_names: Its other names, if the tensor is shared.
    """

    name: str
    shape: tuple[int, ...]
    decays: bool
    group: int | None
    reason: str
    tied_names: tuple[str, ...] = ()


class ParamGroups(list[dict[str, Any]]):
    """A list of parameter groups that can explain itself; ``str()`` gives the table.

    A torch optimizer keeps and extends the dicts it is given: build one list per optimizer.

    Attributes:
        decisions: One `ParameterDecision` per parameter, in the order of the model.
    """

    def __init__(
        self, groups: Sequence[dict[str, Any]], decisions: Sequence[ParameterDecision]
    ) -> None:
        super().__init__(groups)
        self.decisions = tuple(decisions)

    def table(self) -> str:
        """One line for each parameter with its reason, then the totals."""
        rows = [("group", "decays", "parameter", "shape", "reason")]
        totals = {"yes": ("decayed", [0, 0]), "no": ("not decayed", [0, 0])}
        totals["-"] = ("frozen", [0, 0])
        for d in self.decisions:
            decays = "-" if d.group is None else "yes" if d.decays else "no"
            group = "-" if d.group is None else str(d.group)
            shape = "x".join(map(str, d.shape)) or "scalar"
            rows.append((group, decays, " = ".join((d.name, *d.tied_names)), shape, d.reason))
            total = totals[decays][1]
            total[0] += 1
            total[1] += math.prod(d.shape)
        lines = aligned(rows)
        for kind, (tensors, elements) in totals.values():
            if tensors:
                lines.append(
                    f"{kind}: {_plural(tensors, 'tensor')}, {_plural(elements, 'element')}"
                )
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()


def param_groups(
    model: nn.Module,
    policy: str = "norm-and-bias-free",
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    weight_decay: Any = None,
    lr: Any = None,
    named: bool = False,
) -> ParamGroups:
    """Sort the parameters of a model into groups with and without weight decay.

    The policies and what they exempt from decay:

    - ``"norm-and-bias-free"`` (default): biases by name, parameters of normalization layers by
      module type, and everything of one dimension or none.
    - ``"norm-bias-and-embedding-free"``: embeddings as well.
    - ``"matrices"``, also called ``"gpt2"``: all but tensors of two dimensions or more, as nanoGPT
      does.
    - ``"embedding-free"``, also called ``"olmo"``: embeddings only, as the training scripts of
      OLMo 2 do; gains and biases decay.
    - ``"all"``: nothing. ``"none"``: everything.

    Names listed by a ``no_weight_decay()`` method of the model or of one of its modules (timm's
    convention) are exempt too, except under ``"all"``. A tensor with several names is one
    parameter: it decays if any of its uses does (an embedding tied to a head follows the head),
    unless one of its names is listed. Parameters that do not require a gradient are left out.

    Names are given and matched without the prefixes of wrappers: ``module.`` (DDP) where all names
    begin with it, ``_orig_mod.`` (torch.compile), ``_forward_module.`` (Fabric),
    ``_fsdp_wrapped_module.`` and ``_checkpoint_wrapped_module.`` anywhere.

    Args:
        model: The model, wrapped or not.
        policy: One of the names above.
        overrides: Settings for parameters by name. Keys are shell patterns (``fnmatch``; ``*``
            also crosses dots), matched against the whole name; the first pattern that matches
            wins. Values become keys of the group: ``{"*.lora_*": {"weight_decay": 0.0, "lr":
            1e-3}}``.
        weight_decay: For the groups that decay, a number or whatever the optimizer accepts.
            None leaves it to the optimizer's ``weight_decay``.
        lr: For all groups. None leaves it to the optimizer's ``lr``. Unit: the optimizer's.
        named: Give parameters as ``(name, tensor)``, so that the optimizer's state dict has names.

    Returns:
        Groups for any torch optimizer: first those of the policy, then those of overrides.
        Parameters with the same settings share a group, because few groups are fast.

    Raises:
        TypeError: If `model` is not a module or an override is not a mapping.
        ValueError: If the policy is unknown, a pattern decides nothing, a setting is negative, NaN
            or not a setting, a parameter is not initialized, or nothing requires a gradient.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
        >>> groups = param_groups(model)
        >>> print(groups)
        group  decays  parameter  shape  reason
        0      yes     0.weight   4x3    2-d parameter of Linear
        1      no      0.bias     4      bias of Linear
        1      no      1.weight   4      normalization layer LayerNorm
        1      no      1.bias     4      bias of LayerNorm
        decayed: 1 tensor, 12 elements
        not decayed: 3 tensors, 12 elements
        >>> import torch
        >>> optimizer = torch.optim.AdamW(groups, weight_decay=0.1)
        >>> [group["weight_decay"] for group in optimizer.param_groups]
        [0.1, 0.0]
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"param_groups: model must be a torch.nn.Module, got {type(model).__name__}; "
            "pass the model itself."
        )
    if policy not in POLICIES:
        raise ValueError(
            f"param_groups: policy must be one of {', '.join(POLICIES)}, got {policy!r}; "
            f"the nearest is {_nearest(str(policy), POLICIES)[0]!r}."
        )
    overrides = overrides or {}
    common = _checked("param_groups", {} if lr is None else {"lr": lr})
    given = _checked("param_groups", {} if weight_decay is None else {"weight_decay": weight_decay})
    decaying, exempt = {**given, **common}, {"weight_decay": 0.0, **common}

    clean = name_cleaner([name for name, _ in model.named_parameters(remove_duplicate=False)])
    parameters = collect(model, clean)
    if not any(parameter.tensor.requires_grad for parameter in parameters):
        raise ValueError(
            "param_groups: model must have a parameter that requires a gradient, got "
            f"{len(parameters)} parameters without; call requires_grad_() on what is to be trained."
        )
    patterns = _match(overrides, parameters)
    listed = set() if policy == "all" else listed_by_the_model(model, clean)

    # First what becomes of each parameter (None: it is left out), then the groups.
    plans: list[tuple[dict[str, Any] | None, str]] = []
    for parameter, pattern in zip(parameters, patterns, strict=True):
        if not parameter.tensor.requires_grad:
            plans.append((None, "requires_grad is False: not optimized"))
            continue
        decays, reason = decide(parameter, POLICIES[policy], listed)
        settings = decaying if decays else exempt
        if decays and settings.get("weight_decay", 1.0) == 0:
            reason = "weight_decay is 0"
        if pattern is not None:
            settings = {**settings, **overrides[pattern]}
            reason = _with_override(reason, pattern, overrides[pattern])
        plans.append((settings, reason))

    used = [settings for settings, _ in plans if settings is not None]
    distinct: list[dict[str, Any]] = []
    for settings in (decaying, exempt, *used):
        if settings in used and settings not in distinct:
            distinct.append(settings)

    groups: list[dict[str, Any]] = [{"params": [], **settings} for settings in distinct]
    decisions = []
    for (names, tensor, _), (plan, reason) in zip(parameters, plans, strict=True):
        index = None if plan is None else distinct.index(plan)
        if index is not None:
            groups[index]["params"].append((names[0], tensor) if named else tensor)
        decays = plan is not None and bool(plan.get("weight_decay", 1.0) != 0)
        decisions.append(
            ParameterDecision(names[0], tuple(tensor.shape), decays, index, reason, names[1:])
        )
    return ParamGroups(groups, decisions)


def _with_override(reason: str, pattern: str, changes: Mapping[str, Any]) -> str:
    text = ", ".join(f"{key}={value!r}" for key, value in changes.items())
    text = f"override {pattern!r}: {text}"
    return text if "weight_decay" in changes else f"{reason}; {text}"


def _match(
    overrides: Mapping[str, Mapping[str, Any]], parameters: list[Parameter]
) -> list[str | None]:
    """The first pattern that matches each parameter, None where none does."""
    if not isinstance(overrides, Mapping):
        raise TypeError(
            f"param_groups: overrides must be a mapping of patterns to settings, got {overrides!r};"
            " write {'*.bias': {'weight_decay': 0.0}}."
        )
    for pattern, settings in overrides.items():
        if not isinstance(settings, Mapping):
            raise TypeError(
                f"param_groups: override {pattern!r} must be a mapping of settings, got "
                f"{settings!r}; write {{{pattern!r}: {{'weight_decay': 0.0}}}}."
            )
        _checked(f"param_groups: override {pattern!r}", settings)
    matches = [[p for p in overrides if _matches(p, parameter)] for parameter in parameters]
    effective = {patterns[0] for patterns in matches if patterns}
    for pattern in overrides:
        if pattern in effective:
            continue
        first = next((patterns[0] for patterns in matches if pattern in patterns), None)
        if first is not None:
            raise ValueError(
                f"param_groups: override {pattern!r} must decide some parameter, got only ones "
                f"that {first!r} has decided; put {pattern!r} first."
            )
        names = [name for parameter in parameters for name in parameter.names]
        nearest = ", ".join(map(repr, _nearest(pattern.replace("*", ""), names)))
        raise ValueError(
            f"param_groups: override {pattern!r} must match a parameter name, got no match among "
            f"{len(names)}; the nearest names are {nearest}."
        )
    return [patterns[0] if patterns else None for patterns in matches]


def _matches(pattern: str, parameter: Parameter) -> bool:
    return any(fnmatchcase(name, pattern) for name in parameter.names)


def _checked(where: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in settings.items():
        if key in ("params", "param_names"):
            raise ValueError(
                f"{where}: settings must be options of the optimizer, got {key!r}; "
                "choose parameters by the pattern."
            )
        if key in ("lr", "weight_decay") and not _is_admissible(value):
            raise ValueError(
                f"{where}: {key} must be a finite number >= 0, got {value!r}; pass 0.0 for none."
            )
    return dict(settings)


def _is_admissible(value: Any) -> bool:
    """Whether an lr or weight decay can be right; tensors and strengths are the optimizer's."""
    if is_number(value):
        return 0 <= value < math.inf
    return not (value is None or isinstance(value, bool | str))


def _nearest(word: str, names: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(word, list(names), n=3, cutoff=0.0)


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
