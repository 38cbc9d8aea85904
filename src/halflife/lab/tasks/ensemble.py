r"""Many small models trained at once, each with its own rule, learning rate and decay.

Every parameter is stacked to ``[E, ...]`` and ``torch.vmap`` runs the model over the stack: a few
large operations instead of E times as many small ones, whose overhead would take most of the time.
No update rule is written a second time:

    u   the native torch optimizer, run at lr = 1 without decay on a buffer of zeros [E, ...]:
        what it writes there is -u, whatever the optimizer
    d   the same `DecayRule` objects, on scalars that are tensors [E]
    w   w <- (1 - d) w - s u

Members are independent: one that diverges to NaN touches no other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.func import functional_call
from torch.optim import Optimizer

from ...bases.measures import Measures
from ...checks import Scalar
from ...rules import Anchored, DecayMap, View, apply_maps
from ...rules.contract import DecayRule
from ...rules.facts import Column
from ...rules.step import Step
from ...rules.wish import check_fraction, never, wish_of
from ...tensors.reduction import PerMember
from .single import Scores, Single, train
from .task import Data
from .training import SCORES, STACKED, Member, Training

__all__ = ["LANES", "Ensemble", "train_ensemble", "train_one"]

# Vector kernels round the last elements of a tensor, those that fill no vector, a little
# differently (without fused multiply-add). In stacks of a multiple of this many members every
# element is in a full vector, so that a member's result does not depend on its company: bit for
# bit, as resuming needs.
LANES = 16

# Members evaluated at a time: the activations of a whole test set are large.
_EVALUATED_AT_ONCE = 8


def train_ensemble(
    training: Training, members: Sequence[Member], until: float = 1.0
) -> list[Scores]:
    """Train the members, all at once.

    Args:
        training: what they share.
        members: runs of one seed, which therefore see the same batches.
        until: share of the epochs after which they end.

    Returns:
        One outcome per member, in order.

    Raises:
        ValueError: if the seeds differ, or a rule would remove a whole weight in one step.
    """
    padding = [members[-1]] * (-len(members) % LANES)
    return train(training, Ensemble(training, [*members, *padding]), until)[: len(members)]


def train_one(training: Training, member: Member) -> Scores:
    """Train one model with halflife's own optimizer: slow, and what an ensemble must equal."""
    return train(training, Single(training, member))[0]


class Ensemble:
    """E models of one seed, stacked.

    Args:
        training: what they share.
        members: the runs; those of one rule should be adjacent, as each change costs a little.
        native: class and settings of the optimizer whose direction moves them; by default that of
            the training. Each element's step must be its own, and proportional to the lr.

    Raises:
        ValueError: if the seeds differ, or a rule would remove a whole weight in one step.
    """

    def __init__(
        self,
        training: Training,
        members: Sequence[Member],
        native: tuple[type[Any], Mapping[str, Any]] | None = None,
    ) -> None:
        seeds = {member.seed for member in members}
        if len(seeds) != 1:
            raise ValueError(
                f"seeds={sorted(seeds)}: the members of one ensemble share their batches, so they "
                "must be one or more runs of one seed; train each seed by itself."
            )
        self.members = members
        self._training = training
        self._model = training.model(members[0].seed)
        self.params = {
            name: p.detach().expand(len(members), *p.shape).clone().requires_grad_()
            for name, p in self._model.named_parameters()
        }
        self._buffers = {
            name: b.expand(len(members), *b.shape).clone()
            for name, b in self._model.named_buffers()
        }
        # The direction: the native optimizer's, and the zeros it moves.
        self._moved = [torch.zeros_like(p) for p in self.params.values()]
        kind, settings = native or STACKED[training.optimizer]
        if native is None:
            settings = {"fused": True, **settings}
        self._native = kind(self._moved, lr=1.0, weight_decay=0.0, **settings)
        self._segments = list(_segments(members))
        self._measures = Measures(
            self._native,
            PerMember(),
            wanted={name for segment in self._segments for name in segment.rule.needs},
            weights=lambda: list(self.params.values()),
        )
        for segment in self._segments:
            segment.check()
        # Only for the rules that decay toward where they started.
        anchored = any(isinstance(segment.rule, Anchored) for segment in self._segments)
        self._initial = [p.detach().clone() for p in self.params.values()] if anchored else []

    @property
    def native(self) -> Optimizer:
        """What moves the members: its state is of the stacks, in the order of `params`."""
        return self._native

    def set_weight_decay(self, member: int, value: float) -> None:
        """Give a member another coefficient from here on."""
        for segment in self._segments:
            if segment.rows.start <= member < segment.rows.stop:
                segment.weight_decay[member - segment.rows.start] = value

    def step(self, inputs: Tensor, targets: Tensor, multiplier: float) -> tuple[Tensor, Tensor]:
        """One step at this multiple of each member's peak lr.

        Returns:
            Fraction ``d`` and step size ``s``, each of shape ``[E]``, float64.
        """
        # The members share no parameter, so the gradient of the sum is each member's own.
        self.losses(inputs, targets).sum().backward()
        with torch.no_grad():
            return self._update(multiplier)

    def losses(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Training loss of each member on the same rows, to be differentiated; shape ``[E]``."""
        return torch.vmap(self._loss, in_dims=(0, 0, None, None))(
            self.params, self._buffers, inputs, targets
        )

    def _loss(
        self, params: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor, targets: Tensor
    ) -> Tensor:
        outputs = functional_call(self._model, (params, buffers), (inputs,))
        return self._training.task.loss(outputs, targets)

    def _update(self, multiplier: float) -> tuple[Tensor, Tensor]:
        weights = list(self.params.values())
        for w, moved in zip(weights, self._moved, strict=True):
            moved.grad, w.grad = w.grad, None
        group = self._native.param_groups[0]
        measured = functools.partial(self._measures.of, group)
        steps = [segment.at(multiplier, measured) for segment in self._segments]

        wishes = [wish_of(s.rule, step) for s, step in zip(self._segments, steps, strict=True)]
        for segment, wish in zip(self._segments, wishes, strict=True):
            if not never(wish.gradient):
                coefficient = segment.of_members(wish.gradient)
                for w, moved in zip(weights, self._moved, strict=True):
                    own, gradient = w[segment.rows], cast("Tensor", moved.grad)[segment.rows]
                    gradient.addcmul_(own, _column(coefficient, own))

        fraction = torch.cat(
            [s.of_members(w.amount) for s, w in zip(self._segments, wishes, strict=True)]
        )
        size = torch.cat(
            [s.of_members(w.size) for s, w in zip(self._segments, wishes, strict=True)]
        )
        views, multiplied = [], fraction
        for segment in self._segments:
            if isinstance(segment.rule, DecayMap):
                views.append(self._view(segment, weights, fraction[segment.rows]))
                multiplied = multiplied.clone()
                multiplied[segment.rows] = 0.0
        apply_maps([view for view in views if view.rule.acts == "before"])
        self._native.step()
        self._measures.finish(True)
        for w, moved in zip(weights, self._moved, strict=True):
            # Subtracting d*w, where a factor 1 - d would be rounded to the dtype first.
            w.addcmul_(w, _column(-multiplied, w)).addcmul_(moved, _column(size, w))
        apply_maps([view for view in views if view.rule.acts == "after"])
        for moved in self._moved:
            moved.zero_()
        return fraction, size

    def _view(self, segment: _Segment, weights: list[Tensor], amount: Tensor) -> View:
        rule = cast("DecayMap", segment.rule)
        rows, own = segment.rows, [w[segment.rows] for w in weights]
        return _MemberView(self._native, self._moved, rule, rows, own, amount, self._initial)

    @torch.no_grad()
    def evaluate(self, data: Data, names: Sequence[str] = SCORES) -> Tensor:
        """What is asked for of `SCORES`, of each member; shape ``[len(names), E]``."""

        def one(params: dict[str, Tensor], buffers: dict[str, Tensor]) -> tuple[Tensor, ...]:
            return self._training.evaluate(self._model, params, buffers, data, names)

        measured = torch.vmap(one, chunk_size=_EVALUATED_AT_ONCE)(self.params, self._buffers)
        return torch.stack(measured)

    @torch.no_grad()
    def mean_square(self) -> Tensor:
        """Mean square of the entries of all weight matrices, shape ``[E]``."""
        matrices = [w for w in self.params.values() if w.dim() >= 3]
        reduction = PerMember()
        return reduction.total(reduction.squares(matrices)) / reduction.numel(matrices)


class _MemberView(View):
    """The weights of adjacent members, beside the native optimizer that moves the whole stack."""

    def __init__(
        self,
        native: Optimizer,
        moved: list[Tensor],
        rule: DecayMap,
        rows: slice,
        weights: list[Tensor],
        amount: Tensor,
        initial: list[Tensor],
    ) -> None:
        group = native.param_groups[0]
        super().__init__(rule, native, group, moved, amount, weights, PerMember())
        self._of_rows, self._initial = rows, initial

    def gradients(self) -> Column:
        """Those of these members."""
        return [g[self._of_rows] for g in super().gradients()]

    def directions(self) -> Column:
        """Those of these members."""
        return [u[self._of_rows] for u in super().directions()]

    def preconditioners(self) -> Column:
        """Those of these members."""
        return [d[self._of_rows] for d in super().preconditioners()]

    def anchors(self) -> list[Tensor]:
        """Where these members started."""
        return [w[self._of_rows] for w in self._initial]


class _Segment(NamedTuple):
    """Adjacent members of one rule; scalars of shape ``[members]``, float64."""

    rule: DecayRule
    rows: slice
    peak_lr: Tensor
    weight_decay: Tensor

    def check(self) -> None:
        """Refuse a member that would lose a whole weight in one step."""
        if self.rule.follows_gradients or not self.rule.removes_fraction:
            return  # bounded at each step; or there is no fraction
        for lr, weight_decay in zip(self.peak_lr.tolist(), self.weight_decay.tolist(), strict=True):
            step = Step(lr, lr, weight_decay, label="a member of the ensemble")
            check_fraction(self.rule, self.rule.fraction(step), step)

    def at(self, multiplier: float, measured: Callable[[str], Scalar]) -> Step:
        """What the rule may know at this multiple of the peak lr."""
        return Step(
            lr=self.peak_lr * multiplier,
            peak_lr=self.peak_lr,
            weight_decay=self.weight_decay,
            measured=lambda name: _rows(measured(name), self.rows),
        )

    def of_members(self, value: Scalar) -> Tensor:
        """A number of a wish as one for each member."""
        return torch.as_tensor(value, dtype=torch.float64).expand_as(self.peak_lr)


def _segments(members: Sequence[Member]) -> list[_Segment]:
    segments, start = [], 0
    for rule, adjacent in groupby(members, key=lambda member: member.rule):
        own = list(adjacent)
        segments.append(
            _Segment(
                rule,
                slice(start, start + len(own)),
                torch.tensor([m.lr for m in own], dtype=torch.float64),
                torch.tensor([m.weight_decay for m in own], dtype=torch.float64),
            )
        )
        start += len(own)
    return segments


def _rows(value: Scalar, rows: slice) -> Scalar:
    return value[rows] if isinstance(value, Tensor) else value


def _column(scalars: Tensor, like: Tensor) -> Tensor:
    """Scalars of shape ``[E]``, to broadcast over ``[E, ...]`` in its dtype."""
    return scalars.to(like.dtype).view(-1, *[1] * (like.dim() - 1))
