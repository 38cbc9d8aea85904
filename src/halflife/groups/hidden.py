"""Which parameters are hidden matrices, those that Muon is for."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

from .depths import in_a_stack, inner_names, is_in_a_head
from .names import Parameter, Use
from .policies import is_embedding, is_weight

__all__ = ["hidden_matrices"]

# Conv1D is transformers' name of a transposed Linear.
_LINEAR_CLASS = re.compile(r"(linear|dense|Conv1D)$", re.IGNORECASE)
_INPUT = re.compile(r"embed|(^|_)(stem|input)(_|$)", re.IGNORECASE)


def hidden_matrices(model: nn.Module, parameters: Sequence[Parameter]) -> set[int]:
    """The ``id`` of each hidden matrix: a layer's two-dimensional weight in neither end.

    The ends are what lies outside numbered layers and is named like a head or an embedding, the
    head that the model names itself (``get_output_embeddings``), and, where there is none of
    these, the last matrix, unless that lies in a numbered layer.
    """
    every = [use.name for parameter in parameters for use in parameter.uses]
    inner = dict(zip(every, inner_names(every), strict=True))
    matrices = [p for p in parameters if all(_is_linear(use) for use in p.uses)]
    head = _own_head(model)
    ends = {
        id(p.tensor)
        for p in matrices
        if any(_is_end(inner[use.name]) or use.module is head for use in p.uses)
    }
    named = any(
        is_in_a_head(inner[use.name]) or use.module is head for p in parameters for use in p.uses
    )
    if matrices and not named and not in_a_stack(inner[matrices[-1].names[0]]):
        ends.add(id(matrices[-1].tensor))
    return {id(p.tensor) for p in matrices} - ends


def _is_linear(use: Use) -> bool:
    known = isinstance(use.module, (nn.Linear, nn.MultiheadAttention))
    by_name = _LINEAR_CLASS.search(type(use.module).__name__) is not None
    return (known or by_name) and len(use.shape) == 2 and is_weight(use) and not is_embedding(use)


def _is_end(name: str) -> bool:
    path = name.split(".")[:-1]
    is_input = not in_a_stack(name) and any(_INPUT.search(part) for part in path)
    return is_input or is_in_a_head(name)


def _own_head(model: nn.Module) -> object:
    ask = getattr(model, "get_output_embeddings", None)
    if not callable(ask):
        return None
    try:
        return ask()
    except NotImplementedError:
        return None
