r"""Gradient norms over a whole data set, as Xie et al. (stable weight decay, 2020) measure them.

    G1 = || mean over batches of g_b ||       the gradient of the loss on the training set
    G2 = mean over batches of || g_b ||^2     what single minibatches see

of the loss alone, or with its regularizer ``(weight_decay / 2) ||w||^2``: the paper speaks of both.
The gradient of a network with normalization layers grows as ``1/||w||`` when decay makes the
weights smaller, so ``||w|| G1`` says whether anything else grew.

G2 is also what small steps of SGD regularise by themselves, as if their loss were

    L + (lr / 4) G2          G2 = (1/m) sum_i ||grad L_i||^2 over the m batches

(Eq. (6) of the paper, after Smith et al., "On the origin of implicit regularization in stochastic
gradient descent", ICLR 2021, who have it for the mean over an epoch, to first order in lr).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from ..checks import is_number, require_nonnegative
from ..tensors.reduction import WholeModel
from .batch_gradients import BatchGradients, Mode

__all__ = ["GradientNorms", "gradient_norms"]


@dataclass(frozen=True)
class GradientNorms:
    """What `gradient_norms` found.

    Args:
        full: G1, norm of the gradient over all batches.
        minibatch: G2, mean of the squared norms of the batches' gradients.
        weight_norm: of the parameters that require a gradient.
        batches: that were used, all of the same size.
        dropped: rows of batches of another size, which were left out.
        mode: the model's, "train" or "eval".
        loss: mean over the batches, with its regularizer if the gradients have it.
    """

    full: float
    minibatch: float
    weight_norm: float
    batches: int
    dropped: int
    mode: str
    loss: float = math.nan

    @property
    def product(self) -> float:
        """``||w|| G1``: unchanged by the weights' scale where the loss is."""
        return self.weight_norm * self.full

    @property
    def noise(self) -> float:
        """``G2 - G1^2``: the variance of a minibatch's gradient, summed over its entries."""
        return self.minibatch - self.full**2

    def implicit_loss(self, lr: float) -> float:
        """``L + (lr / 4) G2``: the loss that SGD minimises, to first order in lr (Eq. (6)).

        Args:
            lr: of SGD without momentum.

        Raises:
            ValueError: if lr is negative.

        Example:
            >>> found = GradientNorms(5.0, 34.0, 1.0, 2, 0, "train", loss=2.5)
            >>> found.implicit_loss(lr=0.5)
            6.75
        """
        require_nonnegative("implicit_loss: lr", lr, "pass a step size")
        return self.loss + 0.25 * lr * self.minibatch

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "product": self.product, "noise": self.noise}


def gradient_norms(
    model: nn.Module,
    loss: Callable[[Any, Any], Tensor],
    data: Iterable[Any],
    *,
    mode: Mode = "train",
    weight_decay: float | Mapping[str, float] = 0.0,
) -> GradientNorms:
    """G1 and G2 of a model on a data set.

    The first batch sets the size; an incomplete last one is left out, since batch norm over three
    rows can have a gradient a thousand times larger. Parameters, their ``grad``, buffers, modes and
    random states are afterwards what they were.

    Args:
        model: on the device of the data.
        loss: ``loss(outputs, targets)``, the mean over the rows of a batch.
        data: batches, or one batch, as `halflife.diagnostics.curvature.hessian` takes them: pairs
            ``(inputs, targets)``, or dicts of the model's arguments.
        mode: "train" for the gradients that training sees, with the batch's own statistics in batch
            norm and with dropout; "eval" for running statistics and no dropout.
        weight_decay: coefficient c of a regularizer ``(c / 2) ||w||^2`` to include: of L2, or the
            one that `halflife.units.stationary.stationarity_of` finds of a rule. A number for all
            parameters, or one by name for those that decay. Unit: loss / weight^2. Default: none.

    Raises:
        ValueError: for another mode, without batches, if a batch is no pair, if no parameter
            requires a gradient, or if a weight_decay is negative or of no parameter.

    Example:
        >>> import torch
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.ones_(model.weight)
        >>> inputs, targets = torch.tensor([[1.0], [2.0]]), torch.zeros(2, 1)
        >>> batches = [(inputs[:1], targets[:1]), (inputs[1:], targets[1:])]
        >>> found = gradient_norms(model, nn.functional.mse_loss, batches)  # 2 w x^2: 2 and 8
        >>> found.full, found.minibatch, found.noise, found.loss
        (5.0, 34.0, 9.0, 2.5)
        >>> gradient_norms(model, nn.functional.mse_loss, batches, weight_decay=0.5).full
        5.5
    """
    batches = BatchGradients(model, loss, data, mode)
    leaves = list(batches.params.values())
    decays = _coefficients(weight_decay, batches.params)
    reduction = WholeModel()
    total: list[Tensor] = []
    squares: list[float] = []
    values: list[float] = []

    def visit(value: Tensor, batch_grads: tuple[Tensor, ...]) -> None:
        grads = [
            g + c * p.detach() if c else g
            for g, c, p in zip(batch_grads, decays, leaves, strict=True)
        ]
        squares.append(sum(reduction.squares(grads).tolist()))
        total[:] = [t + g for t, g in zip(total, grads, strict=True)] if total else grads
        values.append(float(value))

    batches.visit(visit)
    count = len(values)
    if not count:
        raise ValueError("data: holds no batch; pass the training set.")
    norm = math.sqrt(sum(reduction.squares(total).tolist())) / count
    sizes = reduction.squares([p.detach() for p in leaves]).tolist()
    penalty = 0.5 * sum(c * size for c, size in zip(decays, sizes, strict=True))
    return GradientNorms(
        norm,
        sum(squares) / count,
        math.sqrt(sum(sizes)),
        count,
        batches.dropped,
        mode,
        sum(values) / count + penalty,
    )


def _coefficients(
    weight_decay: float | Mapping[str, float], params: Mapping[str, Tensor]
) -> list[float]:
    """The regularizer's coefficient of each parameter."""
    if is_number(weight_decay) or not isinstance(weight_decay, Mapping):
        require_nonnegative("gradient_norms: weight_decay", weight_decay, "pass 0 for none")
        return [float(weight_decay)] * len(params)  # type: ignore[arg-type]
    for name, value in weight_decay.items():
        if name not in params:
            raise ValueError(
                f"weight_decay: {name!r} is no parameter of the model that requires a gradient; "
                "use the names of model.named_parameters()."
            )
        require_nonnegative(f"gradient_norms: weight_decay of {name}", value, "leave it out")
    return [float(weight_decay.get(name, 0.0)) for name in params]
