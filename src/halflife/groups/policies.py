"""Policies: lists of exemptions from weight decay.

An exemption looks at one use of a parameter and returns a reason, or None if it does not hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from ..versions import CONVOLUTIONS, NORMALIZATIONS
from .names import Parameter, Use

__all__ = ["MUON", "POLICIES", "Exemption", "PolicyName", "decide", "is_embedding", "is_weight"]

Exemption = Callable[[Use], str | None]

# The name of the policy whose groups say besides which optimizer is to step them.
MUON: Literal["muon"] = "muon"

_BIAS = re.compile(r"(^|_)bias(es)?(_|$)")
# Layers by the end of their class name, so that LlamaRMSNorm is found and NormLinear is not.
_NORM_CLASS = re.compile(r"norm(alization)?(act)?(\d+d?)?$", re.IGNORECASE)
_EMBEDDING_CLASS = re.compile(r"embeddings?(bag)?$", re.IGNORECASE)
_LAYER_CLASS = re.compile(r"(linear|dense|conv(olution)?(transpose)?(\d+d?)?)$", re.IGNORECASE)
_NORM_TYPES = (
    NORMALIZATIONS,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)
_LAYER_TYPES = (
    nn.Linear,
    nn.Bilinear,
    CONVOLUTIONS,
    nn.MultiheadAttention,
    nn.RNNBase,
    nn.RNNCellBase,
)
# weight, in_proj_weight, weight_hh_l0; what weight_norm, spectral_norm and pruning make of them.
_WEIGHT = re.compile(r"(^|_)weight(_v|_orig|_(ih|hh|hr)(_\w+)?)?$")
# The two factors of an adapter's matrix, a vector each if its rank is 1.
_FACTOR = re.compile(r"(^|\.)(lora_(embedding_)?[AB]|hada_w\d_[ab]|lokr_w\d(_[ab])?)(\.|$)")
# Parameters that a module holds itself, and that are looked up or added to its input.
_TOKEN = re.compile(
    r"(^|_)(tokens?|emb|embed|embeds|embeddings?|pos|position|positional|positions|cls|registers?"
    r"|w[tp]e|queries|latents|prompts?)(_(?!.*(proj|projection|kernel|matrix|scale|gain)$)|$)"
)
# Tables of relative position biases, and T5's embedding or LayoutLMv3's Linear in their place.
_TABLE = re.compile(r"(^|_)rel(ative)?_\w*bias(es)?(_table)?$|bias_table$|^rpb$")


def _is_bias(use: Use) -> str | None:
    if _BIAS.search(use.attribute) or _TABLE.search(use.attribute):
        return f"bias of {_kind(use.module)}"
    own_name = use.name.rpartition(".")[0].rpartition(".")[2]
    is_table = is_weight(use) and _TABLE.search(own_name)
    return f"bias {own_name!r}" if is_table else None


def _is_in_norm(use: Use) -> str | None:
    found = isinstance(use.module, _NORM_TYPES) or _NORM_CLASS.search(_kind(use.module))
    return f"normalization layer {_kind(use.module)}" if found else None


def _is_one_dimensional(use: Use) -> str | None:
    found = len(use.shape) <= 1
    return f"{len(use.shape)}-d parameter of {_kind(use.module)}" if found else None


def _is_vector(use: Use) -> str | None:
    """At most one dimension above 1, unless it is the weight of a layer."""
    if _is_magnitude(use):
        return "magnitude of a weight normalization"
    if sum(size > 1 for size in use.shape) > 1 or is_weight(use):
        return None
    return _is_one_dimensional(use) or f"vector of {_kind(use.module)}, with unit dimensions"


def _is_magnitude(use: Use) -> bool:
    """Whether it is the lengths that torch's weight_norm splits off a weight."""
    if isinstance(use.holder, ParametrizationList):
        first = use.name.endswith("original0")
        return first and type(use.holder[0]).__name__ == "_WeightNorm"
    return use.attribute == "weight_g"  # the hook of earlier versions


def is_weight(use: Use) -> bool:
    """Whether it is the matrix or the kernel of a layer, or a factor of one, of any shape."""
    if len(use.shape) < 2 or _is_magnitude(use):
        return False
    found = isinstance(use.module, _LAYER_TYPES) or _LAYER_CLASS.search(_kind(use.module))
    is_layer = bool(found) or _is_embedding_layer(use)
    return bool(_FACTOR.search(use.name)) or (is_layer and bool(_WEIGHT.search(use.attribute)))


def is_embedding(use: Use) -> str | None:
    """Why it counts as an embedding: by its layer, or by its name as a parameter of its own."""
    if _is_embedding_layer(use):
        return f"embedding {_kind(use.module)}"
    name = use.attribute
    if is_weight(use) or _WEIGHT.search(name) or _is_in_norm(use):
        return None
    found = _TABLE.search(name) or (_TOKEN.search(name) and not _BIAS.search(name))
    return f"embedding {name!r}" if found else None


def _is_embedding_layer(use: Use) -> bool:
    if isinstance(use.module, (nn.Embedding, nn.EmbeddingBag)):
        return True
    by_name = _EMBEDDING_CLASS.search(_kind(use.module)) is not None
    return by_name and not isinstance(use.module, _LAYER_TYPES)


def _is_anything(use: Use) -> str | None:
    return "policy 'none'"


PolicyName: TypeAlias = Literal[
    "norm-and-bias-free",
    "norm-bias-and-embedding-free",
    "matrices",
    "gpt2",
    "embedding-free",
    "olmo",
    "muon",
    "all",
    "none",
]
POLICIES: dict[PolicyName, tuple[Exemption, ...]] = {
    "norm-and-bias-free": (_is_bias, _is_in_norm, _is_vector),
    "norm-bias-and-embedding-free": (_is_bias, _is_in_norm, is_embedding, _is_vector),
    "matrices": (_is_one_dimensional,),
    "gpt2": (_is_one_dimensional,),
    "embedding-free": (is_embedding,),
    "olmo": (is_embedding,),
    MUON: (_is_bias, _is_in_norm, _is_vector),
    "all": (),
    "none": (_is_anything,),
}


def decide(parameter: Parameter, exemptions: Iterable[Exemption]) -> tuple[bool, str]:
    """Whether a parameter decays, and why: it does if any of its uses does."""
    reasons = []
    for use in parameter.uses:
        reason = next((r for exemption in exemptions if (r := exemption(use))), None)
        if reason is None:
            return True, f"{len(use.shape)}-d parameter of {_kind(use.module)}"
        reasons.append(reason)
    return False, reasons[0]


def _kind(module: nn.Module) -> str:
    return type(module).__name__
