"""The parameters of a model, what each is, and the group that steps it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from ...groups.marks import Mark, marks_of
from ...groups.names import Parameter, collect, name_cleaner
from ...groups.policies import POLICIES, decide
from ...rules import Anchored
from ...tensors.reduction import shards
from .groups import GroupDecay
from .norms import role_of

__all__ = ["Kind", "Subject", "local", "subjects_of", "times_held"]

Kind: TypeAlias = Literal["bias", "norm", "gain", "embedding", "matrix"]

# The exemptions of this policy, in its order.
_KINDS: tuple[Kind, ...] = ("bias", "norm", "embedding", "gain")
_EXEMPTIONS = POLICIES["norm-bias-and-embedding-free"]

# What a module holds itself and may be looked up or added; not by name alone what does not decay.
_TOKEN = re.compile(r"pos|token|embed|query|queries|mask|register|prompt|latent", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Subject:
    """One tensor of the model.

    Args:
        parameter: it under all its names.
        kind: what it is.
        reason: why, in a few words.
        mark: what the model says of it itself; None if nothing.
        group: the group that steps it; None if there is none.
        on_top: whether it is added to a fixed gain, as in ``(1 + gain) x``.
    """

    parameter: Parameter
    kind: Kind
    reason: str
    mark: Mark | None
    group: GroupDecay | None
    on_top: bool = False

    @property
    def name(self) -> str:
        """Its first name, without the prefixes of wrappers."""
        return self.parameter.names[0]

    @property
    def listed(self) -> bool:
        """Whether the model exempts it: by ``no_weight_decay``, or a mark on the tensor."""
        return self.mark is not None and self.mark.exempts

    @property
    def wanted(self) -> bool:
        """Whether the model gives it a decay of its own."""
        return not self.listed and self.mark is not None and "weight_decay" in self.mark.settings

    @property
    def tensor(self) -> Tensor:
        """The tensor itself."""
        return self.parameter.tensor

    @property
    def decays(self) -> bool:
        """Whether its group decays and the optimizer will step it."""
        return self.group is not None and self.group.decays and self.tensor.requires_grad

    @property
    def is_to_decay(self) -> bool:
        """Whether it would decay in the groups of ``param_groups``, embeddings left free or not."""
        decays, _ = decide(self.parameter, _EXEMPTIONS)
        return decays and not self.listed and self.tensor.requires_grad

    @property
    def is_held_up(self) -> bool:
        """Whether its decay does not lead to zero: an anchored one, or that of ``1 + gain``."""
        anchored = self.group is not None and isinstance(self.group.rule, Anchored)
        return anchored or self.on_top


def subjects_of(model: nn.Module, groups: Sequence[GroupDecay]) -> list[Subject]:
    """Every parameter of the model, in its order."""
    clean = name_cleaner([name for name, _ in model.named_parameters(remove_duplicate=False)])
    parameters = collect(model, clean, "audit")
    marks = marks_of(model, parameters, clean)
    owner = {id(p): group for group in groups for p in group.settings["params"]}
    found = []
    for parameter in parameters:
        kind, reason = _kind(parameter)
        key, on_top = id(parameter.tensor), False
        group = owner.get(key)
        if group is not None and group.decays and parameter.tensor.requires_grad:
            kind, reason, on_top = _by_running(parameter, kind, reason)
        found.append(Subject(parameter, kind, reason, marks.get(key), group, on_top))
    return found


def times_held(groups: Sequence[GroupDecay]) -> Counter[int]:
    """How often each tensor is among the optimizers' parameters."""
    return Counter(id(p) for group in groups for p in group.settings["params"])


def local(tensor: Tensor) -> Tensor | None:
    """The values in this process, as a plain tensor; None where there are none to compute with."""
    with torch.no_grad():
        part = shards([tensor.detach()])[0]
    # A quantised tensor of another package refuses arithmetic, and one of torch has codes.
    computes = type(part).__torch_dispatch__ is Tensor.__torch_dispatch__
    usable = computes and part.layout is torch.strided and not part.is_quantized
    return part if usable and not part.is_meta and not part.is_complex() else None


def _kind(parameter: Parameter) -> tuple[Kind, str]:
    for kind, exemption in zip(_KINDS, _EXEMPTIONS, strict=True):
        decays, reason = decide(parameter, (exemption,))
        if not decays:
            return kind, reason
    _, reason = decide(parameter, ())
    attribute = parameter.uses[0].attribute
    if not attribute.startswith("weight") and _TOKEN.search(attribute):
        return "embedding", f"{attribute!r}, looked up or added"
    return "matrix", reason


def _by_running(parameter: Parameter, kind: Kind, reason: str) -> tuple[Kind, str, bool]:
    """Kind and reason, and whether it is on top of a gain, as its layer shows when it is run."""
    tensor, module = parameter.tensor, parameter.uses[0].module
    vector = kind in ("norm", "gain") or tensor.numel() == max(tensor.shape, default=1)
    if not vector or kind == "bias" or _is_of_torch(module):
        return kind, reason, False
    role = role_of(module, tensor)
    if role == "unknown":  # what is left is to look at its values
        values = local(tensor) if kind == "norm" else None
        small = values is not None and values.numel() > 0 and float(values.abs().mean()) < 0.5
        return kind, reason, small
    if role == "none":
        return kind, reason, False
    return "norm", f"{role} of normalization layer {type(module).__name__}", role == "on top"


def _is_of_torch(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn")
