"""Sorting parameters into groups, with overrides by name."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ..checks import is_number
from .decisions import ParameterDecision, ParamGroups
from .depths import depths_of
from .hidden import hidden_matrices
from .marks import marks_of
from .names import Parameter, collect, name_cleaner
from .policies import MUON, POLICIES, PolicyName, decide

if TYPE_CHECKING:
    from ..units.strength import Strength

__all__ = ["param_groups"]


def param_groups(
    model: nn.Module,
    policy: PolicyName = "norm-and-bias-free",
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    weight_decay: float | Tensor | Strength | None = None,
    lr: float | Tensor | None = None,
    layer_decay: float | None = None,
    named: bool = False,
) -> ParamGroups:
    """Sort the parameters of a model into groups with and without weight decay.

    The policies and what they exempt from decay:

    - ``"norm-and-bias-free"`` (default): biases by name, parameters of normalization layers by
      module type, and vectors: what has at most one dimension above 1 and is not the weight of a
      linear, convolution or embedding layer (``layer_scale`` of shape (C, 1, 1), the magnitudes of
      ``weight_norm``). Tables of relative position biases are biases, T5's embedding of them too.
    - ``"norm-bias-and-embedding-free"``: embeddings as well, by module type, and by name what a
      module holds itself (``cls_token``, ``pos_embed``, ``register_tokens``).
    - ``"matrices"``, also called ``"gpt2"``: all but tensors of two dimensions or more, as nanoGPT
      does.
    - ``"embedding-free"``, also called ``"olmo"``: embeddings only, as the training scripts of
      OLMo 2 do; gains and biases decay.
    - ``"muon"``: as the default. Its groups have a key ``use_muon`` besides, True for the hidden
      matrices; `ParamGroups.split` makes lists for two optimizers of them.
    - ``"all"``: nothing. ``"none"``: everything.

    What the model marks as exempt is so under every policy but ``"all"``: tensors with
    ``_no_weight_decay`` (Mamba), names and patterns listed by ``no_weight_decay`` (timm) and parts
    of names by ``no_weight_decay_keywords`` (Swin) of the model or one of its modules, be it a
    method, a property or a set; the state matrices ``A_log`` of Mamba and S4 by their name. The
    settings that S4 attaches to a tensor, ``_optim = {"lr": 1e-3, "weight_decay": 0.0}``, become
    those of its group; ``"all"`` and ``"none"`` keep only its lr. A tensor with several names is
    one parameter: it decays if any of its uses does (an embedding tied to a head follows the head),
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
        layer_decay: Layer-wise lr decay, in (0, 1]: the lr of a parameter ``k`` layers below the
            head is ``lr layer_decay^k``, as in BEiT. Layer ``i`` of ``n`` (from 0) in names such
            as ``blocks.i``, ``encoder.layer.i`` or ``h.i`` is ``n - i`` below it, what comes before
            the first layer ``n + 1``, head and final norm 0; stacks side by side count each from
            its own end. Written into each group's own ``lr``, so `lr` must be given. There is no
            ``lr_scale``, timm's key, which its schedulers would multiply by a second time.
        named: Give parameters as ``(name, tensor)``, so that the optimizer's state dict has names.

    Returns:
        Groups for any torch optimizer: first those of the policy, then those of overrides.
        Parameters with the same settings share a group, because few groups are fast.

    Raises:
        TypeError: If `model` is not a module or an override is not a mapping.
        ValueError: If the policy is unknown, a pattern decides nothing, a setting is negative, NaN
            or not a setting, a parameter is not initialized or is FSDP's ``FlatParameter``, nothing
            requires a gradient, or a `layer_decay` has no lr or no numbered layers.

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

        Layer-wise lr decay, the head last:

        >>> groups = param_groups(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), lr=1.0,
        ...                       layer_decay=0.5)
        >>> [group["lr"] for group in groups]
        [0.5, 0.5, 1.0, 1.0]
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
    marks = marks_of(model, parameters, clean)
    scales = _scales(parameters, layer_decay, lr)
    hidden = hidden_matrices(model, parameters) if policy == MUON else set()

    # First what becomes of each parameter (None: it is left out), then the groups.
    plans: list[tuple[dict[str, Any] | None, str]] = []
    for parameter, pattern, (scale, depth) in zip(parameters, patterns, scales, strict=True):
        if not parameter.tensor.requires_grad:
            plans.append((None, "requires_grad is False: not optimized"))
            continue
        decays, reason = decide(parameter, POLICIES[policy])
        settings = dict(decaying if decays else exempt)
        if decays and settings.get("weight_decay", 1.0) == 0:
            reason = "weight_decay is 0"
        if policy == MUON:
            settings["use_muon"] = id(parameter.tensor) in hidden
        if layer_decay is not None and lr is not None:
            settings["lr"], reason = lr * scale, f"{reason}; {depth}"
        if mark := marks.get(id(parameter.tensor)):
            asked = _checked(f"param_groups: the mark on {parameter.names[0]!r}", mark.settings)
            if policy in ("all", "none"):
                asked.pop("weight_decay", None)
            settings.update(asked)
            if asked:
                reason = mark.reason if "weight_decay" in asked else f"{reason}; {mark.reason}"
        if pattern is not None:
            settings = {**settings, **overrides[pattern]}
            reason = _with_override(reason, pattern, overrides[pattern])
        plans.append((settings, reason))

    used = [settings for settings, _ in plans if settings is not None]
    distinct: list[dict[str, Any]] = []
    first = (decaying, exempt) if layer_decay is None else ()  # else by depth
    for settings in (*first, *used):
        if settings in used and settings not in distinct:
            distinct.append(settings)

    groups: list[dict[str, Any]] = [{"params": [], **settings} for settings in distinct]
    decisions = []
    for parameter, (plan, reason) in zip(parameters, plans, strict=True):
        (name, *tied), tensor = parameter.names, parameter.tensor
        index = None if plan is None else distinct.index(plan)
        if index is not None:
            groups[index]["params"].append((name, tensor) if named else tensor)
        decays = plan is not None and bool(plan.get("weight_decay", 1.0) != 0)
        decisions.append(
            ParameterDecision(name, parameter.shape, decays, index, reason, tuple(tied))
        )
    return ParamGroups(groups, decisions)


def _scales(
    parameters: Sequence[Parameter], layer_decay: float | None, lr: Any
) -> list[tuple[float, str]]:
    """What each parameter's lr is multiplied by, and why."""
    if layer_decay is None:
        return [(1.0, "")] * len(parameters)
    if not (is_number(layer_decay) and 0.0 < layer_decay <= 1.0):
        raise ValueError(
            f"param_groups: layer_decay must be a number in (0, 1], got {layer_decay!r}; 0.75 is "
            "usual for fine-tuning."
        )
    if lr is None:
        raise ValueError(
            f"param_groups: layer_decay={layer_decay!r} must come with lr, that of the head, got "
            "None; pass lr= here as well, because each group is given its own."
        )
    depths = depths_of(parameters)
    if depths is None:
        names = ", ".join(repr(p.names[0]) for p in parameters[:3])
        raise ValueError(
            f"param_groups: layer_decay={layer_decay!r} must find numbered layers, such as "
            f"'blocks.0', in the names, got {names}, ...; give each lr by overrides."
        )
    return [
        (layer_decay**k, f"{k} of {depths.deepest} below the head, lr x {layer_decay**k:.3g}")
        for k in depths.below
    ]


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
