"""Policies: lists of exemptions from weight decay.

An exemption looks at one use of a parameter and returns a reason, or None if it does not hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Set
from typing import NamedTuple

from torch import Tensor, nn

from .names import Parameter

__all__ = ["POLICIES", "Exemption", "Use", "decide"]


class Use(NamedTuple):
    """One use of a parameter: its name, the module that holds it, the tensor."""

    name: str
    module: nn.Module
    tensor: Tensor


Exemption = Callable[[Use], str | None]

_BIAS = re.compile(r"(^|_)bias(_|$)")
# Layers by the end of their class name, so that LlamaRMSNorm is found and NormLinear is not.
_NORM_CLASS = re.compile(r"norm(alization)?(act)?(\d+d?)?$", re.IGNORECASE)
_EMBEDDING_CLASS = re.compile(r"embedding(bag)?$", re.IGNORECASE)
_NORM_TYPES = (
    nn.modules.batchnorm._NormBase,  # every batch and instance normalization
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


def _is_bias(use: Use) -> str | None:
    last = use.name.rpartition(".")[2]
    return f"bias of {_kind(use.module)}" if _BIAS.search(last) else None


def _is_in_norm(use: Use) -> str | None:
    found = isinstance(use.module, _NORM_TYPES) or _NORM_CLASS.search(_kind(use.module))
    return f"normalization layer {_kind(use.module)}" if found else None


def _is_vector(use: Use) -> str | None:
    return f"{use.tensor.ndim}-d parameter of {_kind(use.module)}" if use.tensor.ndim <= 1 else None


def _is_embedding(use: Use) -> str | None:
    found = isinstance(use.module, (nn.Embedding, nn.EmbeddingBag)) or _EMBEDDING_CLASS.search(
        _kind(use.module)
    )
    return f"embedding {_kind(use.module)}" if found else None


def _is_anything(use: Use) -> str | None:
    return "policy 'none'"


POLICIES: dict[str, tuple[Exemption, ...]] = {
    "norm-and-bias-free": (_is_bias, _is_in_norm, _is_vector),
    "norm-bias-and-embedding-free": (_is_bias, _is_in_norm, _is_vector, _is_embedding),
    "matrices": (_is_vector,),
    "gpt2": (_is_vector,),
    "embedding-free": (_is_embedding,),
    "olmo": (_is_embedding,),
    "all": (),
    "none": (_is_anything,),
}


def decide(
    parameter: Parameter, exemptions: Iterable[Exemption], listed: Set[str]
) -> tuple[bool, str]:
    """Whether a parameter decays, and why.

    It decays if any of its uses does. `listed` holds names that are exempt under any policy.
    """
    if not listed.isdisjoint(parameter.names):
        return False, "listed by no_weight_decay()"
    reasons = []
    for name, module in zip(parameter.names, parameter.modules, strict=True):
        use = Use(name, module, parameter.tensor)
        reason = next((r for exemption in exemptions if (r := exemption(use))), None)
        if reason is None:
            return True, f"{parameter.tensor.ndim}-d parameter of {_kind(module)}"
        reasons.append(reason)
    return False, reasons[0]


def _kind(module: nn.Module) -> str:
    return type(module).__name__
