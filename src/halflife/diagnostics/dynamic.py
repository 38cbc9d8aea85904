r"""The loss that an optimizer of Adam's family minimises with its decay, read from its state.

    F_k(w) = F(w) + (c_k / 2) sum_j D_j w_j^2

with D the metric of its steps, ``sqrt(v_hat) + eps``, and c the fraction that it removes over the
size of its step: ``weight_decay`` for torch's AdamW, ``weight_decay / peak_lr`` for the AdamW of
its paper. `halflife.theory.dynamic_loss` has the theory and its source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..checks import require
from ..rules.facts import fact, preconditioner_column
from ..rules.step import Step
from ..rules.wish import wish_of
from ..theory.dynamic_loss import Alignment, DynamicLoss, GradientBound
from ..units.reading import read_group

__all__ = ["OptimizerLoss", "dynamic_loss_of"]


@dataclass(frozen=True)
class OptimizerLoss:
    """F_k of an optimizer as it is now, over the parameters that it has stepped.

    Args:
        loss: F_k's penalty; its tensors are the parameters', one after the other.
        params: those, in the optimizer's order.
    """

    loss: DynamicLoss
    params: tuple[Tensor, ...]

    @property
    def weights(self) -> Tensor:
        """The weights as they are now, ``[n]``."""
        return self.flat(self.params)

    def flat(self, tensors: Sequence[Tensor | None]) -> Tensor:
        """One tensor for each parameter, as one vector ``[n]``; None counts as zeros.

        Raises:
            ValueError: if there is not one for each, or a shape is another.
        """
        count, wanted = len(tensors), len(self.params)
        require(count == wanted, "flat: tensors", f"{wanted}, one a parameter", count, "pass those")
        parts = []
        for tensor, p in zip(tensors, self.params, strict=True):
            entries = torch.zeros_like(p) if tensor is None else tensor.detach()
            ok, shape = entries.shape == p.shape, tuple(entries.shape)
            require(ok, "flat: a tensor", f"of shape {tuple(p.shape)}", shape, "pass gradients")
            parts.append(entries.reshape(-1).to(self.loss.scale))
        return torch.cat(parts)

    def gradient(self, gradients: Sequence[Tensor | None] | None = None) -> Tensor:
        """``grad F_k`` at the weights, ``[n]``.

        Args:
            gradients: of F, one for each parameter. Default: what is in their ``grad``.
        """
        return self.loss.gradient(self._of_loss(gradients), self.weights)

    def alignment(self, gradients: Sequence[Tensor | None] | None = None) -> Alignment:
        """The two cosines that tell what a training came near to.

        Args:
            gradients: as for `gradient`; of the whole training set, to mean anything.
        """
        return self.loss.alignment(self._of_loss(gradients), self.weights)

    def gradient_bound(self, gradients: Sequence[Tensor | None] | None = None) -> GradientBound:
        """Corollary 1, at the weights.

        Args:
            gradients: as for `gradient`.
        """
        return self.loss.gradient_bound(self._of_loss(gradients), self.weights)

    def _of_loss(self, gradients: Sequence[Tensor | None] | None) -> Tensor:
        return self.flat([p.grad for p in self.params] if gradients is None else gradients)


def dynamic_loss_of(optimizer: Optimizer, peak_lr: float | None = None) -> OptimizerLoss:
    """F_k of an optimizer, from its state and settings as they are now.

    Args:
        optimizer: of Adam's family, torch's or ours, after at least one step. Groups without decay
            belong to it, with a coefficient of 0.
        peak_lr: the schedule's highest lr, where a group does not name its own. Default: its lr.

    Raises:
        ValueError: if the optimizer's class declares no preconditioner or has no state, a group's
            lr is 0, or its decay is L2 or a map: that has another objective, if any.

    Example:
        >>> w = torch.nn.Parameter(torch.tensor([2.0, 4.0]))
        >>> optimizer = torch.optim.AdamW([w], lr=0.5, weight_decay=0.125)
        >>> w.grad = torch.tensor([1.0, 3.0])
        >>> optimizer.step()  # D = |g| after a first step
        >>> found = dynamic_loss_of(optimizer)
        >>> found.loss.scale.round(decimals=3).tolist(), found.weights.round(decimals=3).tolist()
        ([1.0, 3.0], [1.375, 3.25])
        >>> [round(x, 3) for x in found.gradient().tolist()]  # g + 0.125 D w
        [1.172, 4.219]
    """
    kind = type(optimizer)
    if fact("preconditioner", kind) is None:
        raise ValueError(
            f"{kind.__name__} declares no preconditioner; use an optimizer of Adam's family, or "
            "declare it with halflife.rules.facts.declare."
        )
    params: list[Tensor] = []
    scales: list[Tensor] = []
    decays: list[Tensor] = []
    for number, group in enumerate(optimizer.param_groups):
        stepped = [p for p in group["params"] if optimizer.state.get(p)]
        if not stepped:
            continue
        coefficient = _coefficient(optimizer, group, number, peak_lr)
        with torch.no_grad():
            metric = preconditioner_column(optimizer, group, stepped)
        params += stepped
        scales += [d.reshape(-1) for d in metric]
        decays += [torch.full_like(d, coefficient).reshape(-1) for d in metric]
    if not params:
        raise ValueError("optimizer has no state; take a step first.")
    return OptimizerLoss(DynamicLoss(torch.cat(scales), torch.cat(decays)), tuple(params))


def _coefficient(
    optimizer: Optimizer, group: dict[str, Any], number: int, peak_lr: float | None
) -> float:
    """The fraction that a group's decay removes, over the size of its step."""
    weight_decay = float(group.get("weight_decay") or 0.0)
    if not weight_decay:
        return 0.0
    reading = read_group(optimizer, group, peak_lr)
    rule = reading.rule
    if rule is None or not rule.uniform:
        what = "not known" if rule is None else str(rule)
        raise ValueError(
            f"the decay of parameter group {number} is {what}: F_k is of a decay that removes a "
            "fraction of every weight; use a scalar rule, such as decay='decoupled'."
        )
    step = Step(float(group["lr"]), reading.peak_lr, weight_decay, reading.measured, label=number)
    wish = wish_of(rule, step)
    size = float(wish.size)
    remedy = "ask before the schedule ends"
    require(size > 0.0, f"lr of parameter group {number}", "above 0", group["lr"], remedy)
    return float(wish.amount) / size
