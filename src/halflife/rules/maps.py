"""What a map is, and what it may see of the group whose weights it changes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..checks import Scalar
from ..tensors.elementwise import sweep
from ..tensors.packs import Row, packs_of
from ..tensors.reduction import WholeModel
from ..tensors.rounding import is_half, next_step
from . import facts
from .contract import DecayRule, as_rule
from .facts import Column, Deferred
from .scalar import Decoupled
from .step import Step
from .wish import never

__all__ = ["ANCHOR_KEY", "DecayMap", "View", "apply_maps", "keep_anchors"]

ANCHOR_KEY = "anchor"  # in the optimizer's per-parameter state

_DECOUPLED = Decoupled()


class Seen:
    """An optimizer as facts see it: with the state of some parameters only."""

    def __init__(self, optimizer: Optimizer, params: list[Tensor]) -> None:
        self.optimizer, self.kind = optimizer, type(optimizer)
        self.state = {p: optimizer.state[p] for p in params if p in optimizer.state}
        self._pending_anchors = vars(optimizer).setdefault("_pending_anchors", {})

    def __getattr__(self, name: str) -> Any:
        return getattr(self.optimizer, name)


def seen_by_facts(optimizer: Optimizer, params: list[Tensor]) -> Seen:
    """The optimizer as facts see it."""
    return Seen(optimizer, params)


class View:
    """One group's weights at one step, as a map sees them.

    Args:
        rule: the map.
        optimizer: whose state and gradients the facts are read from.
        group: the parameter group.
        params: its parameters that have a gradient, as the optimizer knows them.
        amount: fraction or threshold of this step; a tensor has one entry per member.
        weights: the weights to change; the parameters themselves, except in a stacked ensemble.
        reduction: what one whole model is.
    """

    def __init__(
        self,
        rule: DecayMap,
        optimizer: Optimizer,
        group: dict[str, Any],
        params: list[Tensor],
        amount: Scalar,
        weights: list[Tensor] | None = None,
        reduction: WholeModel | None = None,
    ) -> None:
        self.rule, self.optimizer, self.group, self.params = rule, optimizer, group, params
        self.weights = params if weights is None else weights
        self.reduction = reduction or WholeModel()
        self.amount = amount
        self.seen: Any = optimizer

    def look(self) -> None:
        """Take what facts may read out of the optimizer, before a graph is made of the map.

        A graph that reads the whole state is guarded by the gradients of all parameters, those of
        other groups too, and made anew whenever one of them is replaced: at every step. Nor is one
        made of the looking: torch 2.10 takes it for another group's with as many tensors.
        """
        seen = seen_by_facts
        if torch.compiler.is_compiling():
            seen = torch.compiler.disable(seen)
        self.seen = seen(self.optimizer, self.params)

    def anchors(self) -> list[Tensor]:
        """What `Anchored` remembered of each parameter."""
        return [anchor_of(self.seen, p) for p in self.params]

    def gradients(self) -> Column:
        """The gradients to descend along, unscaled, for `elementwise`."""
        return facts.gradients(self.seen, self.group, self.params)

    def directions(self) -> Column:
        """The coming update directions, for `elementwise`; their signs are exact."""
        return facts.ask("direction", self.seen, self.group, self.params)

    def preconditioners(self) -> Column:
        """The metric ``D`` of the step just taken, for `elementwise`."""
        return facts.ask("preconditioner", self.seen, self.group, self.params)

    def amount_for(self, weight: Tensor, amount: Any = None) -> Any:
        """The amount, shaped to broadcast against a weight of a stacked ensemble."""
        amount = self.amount if amount is None else amount
        if isinstance(amount, Tensor) and amount.dim() == 1:
            amount = amount.view(-1, *[1] * (weight.dim() - 1))
        # A tensor without dimensions keeps its precision, and does not raise the weight's.
        if isinstance(amount, Tensor) and amount.dim():
            return amount.to(torch.float32 if is_half(weight) else weight.dtype)
        return amount

    def numbers(self, values: Tensor) -> list[Tensor]:
        """One number (per member) of each weight, for `elementwise`, on the weight's device.

        Args:
            values: shape ``[weights]`` (plus members).
        """
        found = zip(self.weights, values.unbind(), strict=True)
        return [
            self.amount_for(w, value if value.device == w.device else value.to(w.device))
            for w, value in found
        ]

    def elementwise(self, function: Callable[..., None], *others: Column) -> None:
        """Call ``function(weight, amount, *others)``, which writes the weight, piece by piece.

        Not where the amount is the number 0, which changes nothing.

        Half-precision weights come as float32 and are rounded stochastically: rounded to the
        nearest, a small decay would be lost.

        Args:
            function: acts on each element by itself.
            others: one tensor for each weight, of its shape or with one number (per member).
        """
        # Counted only now, when nothing refuses the step any more.
        step = next_step(self.group)
        if never(self.amount):
            return
        compiling = torch.compiler.is_compiling()
        packs = packs_of(self.optimizer)
        kinds: dict[Any, tuple[Callable[..., None], dict[int, Row]]] = {}
        for number, (weight, *entries) in enumerate(zip(self.weights, *others, strict=True)):
            amount = self.amount_for(weight)
            spans, row = _as_row(weight, entries)
            by_member = isinstance(amount, Tensor) and amount.dim() > 0
            if by_member:
                row.insert(1, amount)  # cut, or not, as the weight is
            given = None if by_member else amount
            # By identity: a function need not be hashable.
            kind: Any = number if compiling else (by_member, *[(id(f), n) for f, n in spans])
            if kind not in kinds:
                kinds[kind] = _on_tensors(function, spans, given), {}
            kinds[kind][1][number] = row
        for act, rows in kinds.values():
            sweep(act, rows, step, packs)


# How the arguments beside a weight are made of tensors: by which function, of how many.
_Spans: TypeAlias = "tuple[tuple[Callable[..., Tensor] | None, int], ...]"


def _as_row(weight: Tensor, entries: list[Tensor | Deferred]) -> tuple[_Spans, Row]:
    """A weight and the tensors that its arguments are made of, and how."""
    row: Row = [weight]
    spans: list[tuple[Callable[..., Tensor] | None, int]] = []
    for entry in entries:
        if isinstance(entry, Deferred):
            spans.append((entry.function, len(entry.tensors)))
            row += entry.tensors
        else:
            spans.append((None, 1))
            row.append(entry)
    return tuple(spans), row


def _on_tensors(function: Callable[..., None], spans: _Spans, amount: Any) -> Callable[..., None]:
    """The function as one of tensors only, which evaluates what was deferred.

    Args:
        function: of the weight, the amount and its arguments.
        spans: how the arguments are made.
        amount: the amount; None where it comes as the first tensor beside the weight.
    """
    if amount is not None and not spans:
        return lambda weight: function(weight, amount)
    if amount is not None and len(spans) == 1:  # the usual cases, each in one call
        ((one, _),) = spans
        if one is None:
            return lambda weight, given: function(weight, amount, given)
        return lambda weight, *given: function(weight, amount, one(*given))

    def act(weight: Tensor, *given: Tensor) -> None:
        tensors = iter(given)
        own = next(tensors) if amount is None else amount
        arguments = []
        for made_by, count in spans:
            taken = [next(tensors) for _ in range(count)]
            arguments.append(taken[0] if made_by is None else made_by(*taken))
        function(weight, own, *arguments)

    return act


@dataclass(frozen=True)
class DecayMap(DecayRule):
    """A rule whose decay is a map on the weights; the inner rule says how much.

    Args:
        rule: gives the fraction (or threshold), its coefficient and unit. Default ``Decoupled()``.

    Attributes:
        acts: "before" or "after" the native step.
        caveat: what a reader of the fraction has to know, as a note beside it.
        elementwise: whether what an element becomes is its own affair.
    """

    rule: DecayRule = _DECOUPLED

    acts: ClassVar[str] = "before"
    caveat: ClassVar[str] = (
        "an upper bound, the half-life a lower one: the map decides what each weight loses of it."
    )
    elementwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Accept the inner rule by name; refuse one that is no plain fraction."""
        object.__setattr__(self, "rule", as_rule(self.rule))
        if not self.rule.uniform or self.rule.scales_step:
            raise ValueError(
                f"rule={self.rule!r}: {type(self).__name__} takes its strength from a rule that is "
                "a plain fraction; use Decoupled(), Independent(), Constant(), Corrected() or "
                "Stable()."
            )

    def rate(self, step: Step) -> Scalar:
        """The inner rule's rate."""
        return self.rule.rate(step)

    @property
    def needs(self) -> tuple[str, ...]:
        """What the map and its inner rule ask of the base optimizer."""
        return (*self.requires, *self.rule.needs)

    @property
    def uniform(self) -> bool:
        """Never: what each weight loses is the map's affair."""
        return False

    @property
    def carries_tensors(self) -> bool:
        """Whether it holds tensors that `begin` has still to take out of it."""
        return False

    @abstractmethod
    def apply(self, view: View) -> None:
        """Change the weights of one group in place; an amount of 0 changes nothing."""

    @classmethod
    def apply_all(cls, views: list[View]) -> None:
        """Change the weights of all groups that have this kind of rule."""
        for view in views:
            view.rule.apply(view)

    def begin(self, params: list[Tensor]) -> tuple[DecayRule, list[Tensor] | None]:
        """The rule as the group keeps it, and what it has to remember of each parameter."""
        return self, None


def apply_maps(views: list[View]) -> None:
    """Apply each view's map; maps of one kind together, as a norm may span groups."""
    kinds: dict[type[DecayMap], list[View]] = {}
    for view in views:
        kinds.setdefault(type(view.rule), []).append(view)
    for kind, members in kinds.items():
        kind.apply_all(members)


def anchor_of(optimizer: Optimizer, param: Tensor) -> Tensor:
    """The anchor of a parameter, captured now if nothing has been yet."""
    state = optimizer.state.get(param) or {}
    if ANCHOR_KEY in state:
        return state[ANCHOR_KEY]
    pending = vars(optimizer).setdefault("_pending_anchors", {})
    if param not in pending:
        pending[param] = param.detach().clone()
    return pending[param]


def keep_anchors(optimizer: Optimizer, rule: DecayMap, params: list[Tensor]) -> None:
    """Move captured anchors into the state of parameters that have one by now.

    Not before: torch's optimizers make a parameter's state when they find it empty.
    """
    pending = vars(optimizer).get("_pending_anchors", {})
    for param in params if pending else ():
        if param in pending:
            anchor = pending.pop(param)
            optimizer.state[param][ANCHOR_KEY] = anchor.to(anchor_device(rule, param))


def anchor_device(rule: Any, param: Tensor) -> torch.device:
    """Where an anchor lies: beside its parameter, unless the rule names a place.

    Elsewhere it would be copied there at every step.
    """
    named = getattr(rule, "device", None)
    return param.device if named is None else torch.device(named)
