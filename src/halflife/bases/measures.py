"""The numbers that a rule may ask of a step, measured over one whole model.

    effective_rate   the base optimizer's own step scale, as its class declares it
    mean_square      the mean whose inverse root that is: of v_hat, on Adam
    gradient_norm    ||g||, the gradients of all groups as one vector, unscaled
    weight_norm      ||w||, the weights that have a gradient, as one vector

Each is computed when a rule asks for it, once per step, by the one reduction: a number of one
model, of a model that is spread over processes (one all-reduce for both norms), or one for each
member of a stacked ensemble.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..checks import Scalar
from ..rules import facts
from ..rules.contract import DecayRule
from ..rules.step import inverse_root, inverse_square
from ..tensors.reduction import Terms, WholeModel, plus
from .effective_rate import AdamRate, HandedSquares, effective_rate_of

__all__ = ["Measures"]

_NORMS = ("gradient_norm", "weight_norm")
_RATES = ("effective_rate", "mean_square")


class Measures:
    """What the steps of one optimizer measure.

    Args:
        optimizer: whose gradients, weights and state are read.
        reduction: what one whole model is.
        wanted: the norms that will be asked for, which are then measured together. Default: what
            the rules in its groups need.
        weights: the weights, where the optimizer's own parameters are none.

    Attributes:
        rate: the effective rate that the class declares, or None.
        handed: squared gradient norms that clipping has computed, by group; for the next step only.

    Example:
        >>> w = torch.tensor([3.0, 4.0], requires_grad=True)
        >>> w.grad = torch.tensor([0.0, 2.0])
        >>> optimizer = torch.optim.SGD([w])
        >>> measures = Measures(optimizer, wanted=["gradient_norm", "weight_norm"])
        >>> measures.of(optimizer.param_groups[0], "gradient_norm")
        2.0
        >>> measures.of(optimizer.param_groups[0], "weight_norm")
        5.0
    """

    def __init__(
        self,
        optimizer: Optimizer,
        reduction: WholeModel | None = None,
        *,
        wanted: Collection[str] | None = None,
        weights: Callable[[], list[Tensor]] | None = None,
    ) -> None:
        self._optimizer, self._wanted, self._weights = optimizer, wanted, weights
        self._reduction = reduction or WholeModel()
        self.rate = effective_rate_of(optimizer, reduction)
        self.handed: dict[int, HandedSquares] = {}
        if isinstance(self.rate, AdamRate):
            self.rate.handed = self.handed
        self._norms: dict[str, Scalar] = {}
        self._last: dict[str, Scalar] = {}
        self._asked: list[tuple[dict[str, Any], str, Scalar]] = []  # rates, by group
        self._last_asked = [*self._asked]

    def of(self, group: dict[str, Any], name: str) -> Scalar:
        """A number of this step, for one of the optimizer's groups.

        Raises:
            ValueError: if the optimizer's class declares none.
        """
        if name in _RATES and self.rate is not None:
            mean_square = getattr(self.rate, "mean_square", None)
            if name == "effective_rate" or mean_square is None:
                value = _as(name, "effective_rate", self.rate.of(group))
            else:
                value = mean_square(group)
            self._asked.append((group, name, value))
            return value
        if name not in _NORMS:
            raise ValueError(
                f"{name}: {type(self._optimizer).__name__} declares none, which this rule needs; "
                "choose another rule or optimizer, or declare it with halflife.rules.facts.declare."
            )
        if name not in self._norms:
            wanted = self._needed() if self._wanted is None else self._wanted
            self._measure([norm for norm in _NORMS if norm == name or norm in wanted])
        return self._norms[name]

    @property
    def reads_gradients(self) -> bool:
        """Whether some rule follows the gradients' norms, so that they are worth handing over."""
        return bool({"gradient_norm", *_RATES} & self._needed())

    def hand(self, squares: dict[int, HandedSquares]) -> None:
        """Take over squared gradient norms, by group, for the coming step only."""
        self.handed.clear()
        self.handed.update(squares)

    def last(self, name: str, group: dict[str, Any] | None = None) -> float | None:
        """A number of the last step that was taken; None if no rule has asked for it.

        Args:
            name: of the number.
            group: whose, where the groups differ in it. Default: that of all.

        Raises:
            ValueError: if they differ, and no group is given.
        """
        if name not in _RATES:
            value = self._last.get(name)
            return None if value is None else float(value)
        found = {
            float(_as(name, asked, value))
            for own, asked, value in self._last_asked
            if group is None or own is group
        }
        if len(found) > 1:
            raise ValueError(
                f"{name}: the groups of the last step have {sorted(found)}; ask for one of them, "
                f"as last_measured({name!r}, optimizer.param_groups[0])."
            )
        return found.pop() if found else None

    def finish(self, taken: bool) -> None:
        """Keep what this step has added, if the native step was taken, and forget the rest."""
        if self.rate is not None:
            self.rate.finish(taken)
        if taken and self._norms:
            self._last = self._norms
        if taken and self._asked:
            self._last_asked = self._asked
        self._norms, self._asked = {}, []
        self.handed.clear()  # it holds on to the gradients

    def _needed(self) -> set[str]:
        rules = [group.get("decay") for group in self._optimizer.param_groups]
        # A name that has just been written into a group becomes a rule in the step.
        return {name for rule in rules if isinstance(rule, DecayRule) for name in rule.needs}

    @torch.no_grad()
    def _measure(self, names: Collection[str]) -> None:
        """Measure the norms among the names, with the communication of one."""
        lists: dict[tuple[str, int], list[Tensor]] = {}
        known: dict[tuple[str, int], Terms] = {}
        for name in names:
            for index, tensors in enumerate(self._tensors(name)):
                handed = self.handed.get(index) if name == "gradient_norm" else None
                if handed is not None and handed.still_describes(tensors):
                    known[name, index] = handed.squares
                elif tensors:
                    lists[name, index] = tensors
        if lists:
            computed = self._reduction.squares_of(list(lists.values()))
            known.update(zip(lists, computed, strict=True))
        scale = getattr(self._optimizer, "grad_scale", None)
        for name in names:
            totals = [
                self._reduction.total(terms) for (own, _), terms in known.items() if own == name
            ]
            norm = _root(functools.reduce(plus, totals)) if totals else 0.0
            if scale is not None and name == "gradient_norm":
                norm = norm / (float(scale) if scale.is_cpu else scale)
            self._norms[name] = norm

    def _tensors(self, name: str) -> list[list[Tensor]]:
        if name == "weight_norm" and self._weights is not None:
            return [self._weights()]
        of: Any = facts.fact(name, type(self._optimizer))  # every optimizer has both
        return of(self._optimizer)


def _as(name: str, given: str, value: Scalar) -> Scalar:
    """The one of `_RATES` that is asked for, from the one that is given."""
    if name == given:
        return value
    return inverse_root(value) if given == "mean_square" else inverse_square(value)


def _root(total: Any) -> Scalar:
    # Gradients that are no numbers must not spread to weights that they do not belong to.
    on_host = not isinstance(total, Tensor) or (total.is_cpu and total.dim() == 0)
    if not on_host or torch.compiler.is_compiling():
        return torch.where(total.isfinite(), total.sqrt(), 0.0)
    total = float(total)
    return math.sqrt(total) if math.isfinite(total) else 0.0
