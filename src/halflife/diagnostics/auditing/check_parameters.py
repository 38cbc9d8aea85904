"""Findings about parameters: which decay, which do not, and who steps them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from .findings import Finding
from .groups import GroupDecay
from .report import names_of
from .subjects import Kind, Subject, local, times_held

__all__ = ["check_parameters"]

# Code, name, and what is wrong with it.
_WHAT: dict[Kind, tuple[str, str, str]] = {
    "bias": ("decayed-bias", "biases", "they shift and have no scale to balance"),
    "norm": (
        "decayed-norm",
        "parameters of normalization layers",
        "decay pulls a gain to 0, against the scale that the layer is to have",
    ),
    "gain": ("decayed-gain", "scales", "decay pulls what they scale to 0"),
}


def check_parameters(
    subjects: Sequence[Subject], groups: Sequence[GroupDecay]
) -> Iterator[Finding]:
    """All findings about parameters."""
    for kind in _WHAT:
        yield from _decayed(subjects, kind)
    yield from _undecayed(subjects)
    yield from _named(
        subjects,
        "decayed-against-model",
        lambda s: s.decays and s.listed,
        "{names} are exempt, by the model's no_weight_decay, a mark on the tensor or as a state "
        "matrix such as A_log, and their group decays (weight_decay {value}); build the groups "
        "with halflife.param_groups(model).",
    )
    yield from _named(
        subjects,
        "not-optimized",
        lambda s: s.group is None and s.tensor.requires_grad,
        "{names} require a gradient and are in no optimizer, so they neither train nor decay; add "
        "them, pass every optimizer to the audit, or call requires_grad_(False).",
    )
    yield from _named(
        subjects,
        "frozen-with-gradient",
        lambda s: _frozen_in_decay(s) and s.tensor.grad is not None,
        "{names} do not require a gradient but still hold one, so each step goes on decaying them "
        "(weight_decay {value}); set .grad = None after requires_grad_(False), or leave them out.",
    )
    yield from _named(
        subjects,
        "frozen-parameter",
        lambda s: _frozen_in_decay(s) and s.tensor.grad is None,
        "{names} do not require a gradient, so the weight_decay {value} of their group does "
        "nothing to them; leave them out of the optimizer.",
    )
    yield from _named(
        subjects,
        "tied-parameter",
        lambda s: len(s.parameter.names) > 1 and s.tensor.requires_grad,
        "{names} have several names (tied): one tensor, one decay (weight_decay {value}).",
    )
    yield from _memory(subjects, groups)
    yield from _strangers(subjects, groups)


def _decayed(subjects: Sequence[Subject], kind: Kind) -> Iterator[Finding]:
    code, what, why = _WHAT[kind]
    yield from _named(
        subjects,
        code,
        lambda s: s.decays and s.kind == kind and not (s.is_held_up or s.wanted),
        f"{what} decay (weight_decay {{value}}): {{names}}; {why}; put them in a group with "
        "weight_decay 0, as halflife.param_groups(model) does.",
    )


def _undecayed(subjects: Sequence[Subject]) -> Iterator[Finding]:
    if not any(s.decays for s in subjects):
        return  # a choice, such as that of many fine-tunings
    for kind, code, what in (
        ("matrix", "undecayed-matrix", "matrices"),
        ("embedding", "undecayed-embedding", "embeddings"),
    ):

        def left_out(s: Subject, kind: str = kind) -> bool:
            stepped = s.group is not None and s.tensor.requires_grad
            return stepped and s.kind == kind and not s.decays and not s.listed

        yield from _named(
            subjects,
            code,
            left_out,
            f"{what} do not decay (weight_decay {{value}}) while other parameters do: {{names}}; "
            f"move them to a group that decays, or ignore {code!r} if that is meant.",
        )


def _frozen_in_decay(subject: Subject) -> bool:
    group = subject.group
    return group is not None and group.decays and not subject.tensor.requires_grad


def _named(
    subjects: Sequence[Subject], code: str, holds: Callable[[Subject], bool], message: str
) -> Iterator[Finding]:
    """One finding about all subjects for which something holds."""
    found = [s for s in subjects if holds(s)]
    if found:
        names = tuple(s.name for s in found)
        value = found[0].group.weight_decay if found[0].group is not None else 0.0
        yield Finding(code, message.format(names=names_of(names), value=f"{value:g}"), names)


def _memory(subjects: Sequence[Subject], groups: Sequence[GroupDecay]) -> Iterator[Finding]:
    names = {id(s.tensor): s.name for s in subjects}
    stepped = {id(p): p for group in groups for p in group.settings["params"]}
    held = times_held(groups)
    twice = [key for key in stepped if held[key] > 1]
    if twice:
        found = tuple(names.get(key, "?") for key in twice)
        yield Finding(
            "duplicate-parameter",
            f"{names_of(found)} are {held[twice[0]]} times among the optimizers' parameters, so "
            "every step updates and decays them as often; pass each parameter once.",
            found,
        )
    spans = sorted((*span, key) for key, p in stepped.items() if (span := _span(p)) is not None)
    for (_, end, first), (start, _, second) in pairwise(spans):
        if start < end:
            found = (names.get(first, "?"), names.get(second, "?"))
            yield Finding(
                "shared-memory",
                f"{found[0]!r} and {found[1]!r} are two parameters over the same memory, so it is "
                "updated and decayed twice a step; tie by assigning the parameter itself "
                "(a.weight = b.weight), not its .data.",
                found,
            )


def _span(parameter: Tensor) -> tuple[int, int] | None:
    """Begin and end of its memory, where that can be told."""
    part = local(parameter)
    if part is None or part.layout is not torch.strided or not part.is_contiguous():
        return None
    if type(part) not in (Tensor, torch.nn.Parameter) or part.numel() == 0:
        return None
    start = part.data_ptr()
    return (start, start + part.numel() * part.element_size()) if start else None


def _strangers(subjects: Sequence[Subject], groups: Sequence[GroupDecay]) -> Iterator[Finding]:
    known = {id(s.tensor) for s in subjects}
    left = [p for g in groups for p in g.settings["params"] if id(p) not in known]
    if not left:
        return
    shapes = {(tuple(p.shape), p.dtype) for p in left}
    replaced = tuple(
        s.name
        for s in subjects
        if s.group is None
        and s.tensor.requires_grad
        and (tuple(s.tensor.shape), s.tensor.dtype) in shapes
    )
    if replaced:
        yield Finding(
            "stale-optimizer",
            f"the optimizer holds other tensors of the shapes of {names_of(replaced)} and not the "
            "model's, which are replaced when a model is copied, sharded or converted after the "
            "optimizer was built; build the optimizer afterwards.",
            replaced,
        )
    else:
        yield Finding(
            "foreign-parameter",
            f"{len(left)} parameters of the optimizer, the first of shape {tuple(left[0].shape)}, "
            "are not the model's; pass the whole model, or a ModuleList of all that it trains.",
        )
