"""How deep in the model each parameter lies, read from the names of numbered layers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

from .names import Parameter
from .policies import is_embedding

__all__ = ["Depths", "depths_of", "in_a_stack", "inner_names", "is_in_a_head"]

# What comes before the number of a layer: encoder.layer.3, blocks.3, h.3, resblocks.3, features.3.
_STACK = re.compile(r"(layers?|blocks?|stages?|groups?|features|norms|^h)$", re.IGNORECASE)
# layer1.0, encoder_layer_3, stages_0.blocks.1
_NUMBERED = re.compile(r"^((?:\w+_)?(?:layer|block|stage)s?|denseblock)_?(\d+)$", re.IGNORECASE)
# What is numbered in there is part of the head.
_HEAD = re.compile(
    r"^(?!multi)(\w*_)?((heads?|classifiers?)(_dist(ill)?)?|score|logits?|predictions?"
    r"|unembed(ding)?|fc|bbox_\w+|class_embed|(text|visual|vision|image)_projection"
    r"|(output|out)_(proj|projection|layer)|proj_out|vocab_\w+)$",
    re.IGNORECASE,
)
# Outputs that may be registered before the layers: OPT's final_layer_norm, CLIP's projections.
_OUTPUT = re.compile(
    r"(^|\.)(pooler\..*|((?!in)\w+_)?proj(ection)?|(project_out|final_\w*norm)\.\w+)$"
)
_INNER = re.compile(r"(layers|blocks)$", re.IGNORECASE)  # stages.1.blocks.0, not block.0.layer.1


class Depths(NamedTuple):
    """Where each parameter lies.

    Attributes:
        below: Layers between each parameter and the head, in their order; 0 is the head.
        deepest: The largest that there can be: that of the embeddings of the longest stack.
    """

    below: list[int]
    deepest: int


class _Place(NamedTuple):
    stack: str
    number: tuple[int, ...]


def depths_of(parameters: Sequence[Parameter]) -> Depths | None:
    """The depth of each parameter by its first name; None if no layer is numbered.

    Layer i of n (from 0) is n - i below the head, what is registered before the first layer n + 1,
    what is after the last one 0, and what is between two layers as deep as the first of them.
    Stacks side by side count each from their own end. Where no stack has a known name, any number
    is a layer's; if there is nothing besides, the last is the head.
    """
    names = inner_names([parameter.names[0] for parameter in parameters])
    places = [_place(name) for name in names]
    is_known = any(places)
    if not is_known:
        places = [_numbered(name) for name in names]
    if not any(places):
        return None
    levels, spans = _levels(places), _spans(places)
    has_head = is_known or len(levels) > 1 or not all(places)
    count = {stack: max(level.values()) + has_head for stack, level in levels.items()}
    below: list[int] = []
    for index, (parameter, place) in enumerate(zip(parameters, places, strict=True)):
        if place is not None:
            below.append(count[place.stack] - levels[place.stack][place.number])
            continue
        near = _nearest(names[index], count)
        after = [stack for stack in near if index < spans[stack][0]]
        within = [stack for stack in near if spans[stack][0] < index < spans[stack][1]]
        if is_embedding(parameter.uses[0]) is not None:
            after = after or near  # wherever it is registered, a token is an input
        elif parameter.shape == () or _is_output(names[index], near):
            after = within = []  # such as a temperature of the loss, first as the model's own
        if within and not after:  # between two layers: a transition, the next stage's patches
            below.append(below[index - 1])
        else:
            below.append(max((count[stack] + 1 for stack in after), default=0))
    return Depths(below, max(count.values()) + has_head)


def inner_names(names: Sequence[str]) -> list[str]:
    """The names without what all begin with, where that is a head's name: a model in a wrapper."""
    columns = zip(*(name.split(".")[:-1] for name in names), strict=False)
    common = [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]
    outer = max((at + 1 for at, part in enumerate(common) if _HEAD.match(part)), default=0)
    inner = [".".join(name.split(".")[outer:]) for name in names]
    return inner if any(in_a_stack(name) for name in inner) else list(names)


def in_a_stack(name: str) -> bool:
    """Whether a parameter of this name lies in a numbered layer."""
    return _place(name) is not None


def is_in_a_head(name: str) -> bool:
    """Whether a parameter of this name lies outside numbered layers, under a head's name."""
    path = name.split(".")[:-1]
    return not in_a_stack(name) and any(_HEAD.match(part) for part in path)


def _place(name: str) -> _Place | None:
    """The outermost numbered stack that a name is in, and its number; two if there are stages."""
    parts = name.split(".")
    for at, part in enumerate(parts[:-1]):
        if _HEAD.match(part):
            return None
        numbered = _NUMBERED.match(part)
        if numbered:
            stack, number, rest = numbered[1], int(numbered[2]), parts[at + 1 :]
        elif _STACK.search(part) and parts[at + 1].isdigit():
            stack, number, rest = part, int(parts[at + 1]), parts[at + 2 :]
        else:
            continue
        inner = rest[0] if rest else ""
        if inner.isdigit():
            second: tuple[int, ...] = (int(inner),)
        elif len(rest) > 1 and _INNER.search(inner) and rest[1].isdigit():
            second = (int(rest[1]),)
        else:
            second = ()
        return _Place(".".join((*parts[:at], stack)), (number, *second))
    return None


def _numbered(name: str) -> _Place | None:
    """The outermost number in a name, whatever stands before it."""
    parts = name.split(".")
    at = next((at for at, part in enumerate(parts) if part.isdigit()), None)
    return None if at is None else _Place(".".join(parts[:at]), (int(parts[at]),))


def _is_output(name: str, stacks: Sequence[str]) -> bool:
    """Whether it is used after the layers, wherever it is registered."""
    module = name.rpartition(".")[0]
    norms = (f"{'.'.join(stack.split('.')[:-1])}.norm".lstrip(".") for stack in stacks)
    return bool(_OUTPUT.search(name)) or is_in_a_head(name) or module in norms


def _levels(places: Sequence[_Place | None]) -> dict[str, dict[tuple[int, ...], int]]:
    """Each stack's numbers in their order; what a stage has besides blocks joins one of them."""
    found: dict[str, dict[tuple[int, ...], int]] = {}
    for place in places:
        if place is not None:
            found.setdefault(place.stack, {}).setdefault(place.number, 0)
    for numbers in found.values():
        level, previous = -1, None
        for number in list(numbers):
            same = previous is not None and previous[0] == number[0]
            if not (same and previous is not None and len(previous) != len(number)):
                level += 1
            numbers[number], previous = level, number
    return found


def _spans(places: Sequence[_Place | None]) -> dict[str, tuple[int, int]]:
    """Where each stack's first and last parameters are in the model's order."""
    found: dict[str, tuple[int, int]] = {}
    for index, place in enumerate(places):
        if place is not None:
            found[place.stack] = (found.get(place.stack, (index,))[0], index)
    return found


def _nearest(name: str, stacks: dict[str, int]) -> list[str]:
    """The stacks that share the longest path with a name, of those the least nested."""

    def nearness(stack: str) -> tuple[int, int]:
        parts = stack.split(".")
        pairs = zip(name.split("."), parts, strict=False)
        return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs))), -len(parts)

    best = max(nearness(stack) for stack in stacks)
    return [stack for stack in stacks if nearness(stack) == best]
