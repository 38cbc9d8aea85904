r"""Gradient norms over a whole data set, as Xie et al. (stable weight decay, 2020) measure them.

    G1 = || mean over batches of g_b ||       the gradient of the loss on the training set
    G2 = mean over batches of || g_b ||^2     what single minibatches see

of the loss alone, without regularizer. The gradient of a network with normalization layers grows as
``1/||w||`` when decay makes the weights smaller, so ``||w|| G1`` says whether anything else grew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..tensors.reduction import WholeModel
from .curvature.batches import Batches, mapped, rows_of
from .curvature.calling import as_it_was, call, inner_model, pair, recordable, recording

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
    """

    full: float
    minibatch: float
    weight_norm: float
    batches: int
    dropped: int
    mode: str

    @property
    def product(self) -> float:
        """``||w|| G1``: unchanged by the weights' scale where the loss is."""
        return self.weight_norm * self.full

    @property
    def noise(self) -> float:
        """``G2 - G1^2``: the variance of a minibatch's gradient, summed over its entries."""
        return self.minibatch - self.full**2

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "product": self.product, "noise": self.noise}


def gradient_norms(
    model: nn.Module,
    loss: Callable[[Any, Any], Tensor],
    data: Iterable[Any],
    *,
    mode: Literal["train", "eval"] = "train",
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

    Raises:
        ValueError: for another mode, without batches, if a batch is no pair, or if no parameter
            requires a gradient.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.ones_(model.weight)
        >>> inputs, targets = torch.tensor([[1.0], [2.0]]), torch.zeros(2, 1)
        >>> batches = [(inputs[:1], targets[:1]), (inputs[1:], targets[1:])]
        >>> found = gradient_norms(model, nn.functional.mse_loss, batches)  # 2 w x^2: 2 and 8
        >>> found.full, found.minibatch, found.noise
        (5.0, 34.0, 9.0)
    """
    if mode not in ("train", "eval"):
        raise ValueError(f"mode={mode!r}: must be 'train' or 'eval'; choose one.")
    model, _ = inner_model(model)
    with torch.inference_mode(False):
        held = {n: recordable(p).detach() for n, p in model.named_parameters()}
        held |= {n: b.detach().clone() for n, b in model.named_buffers()}
        params = {
            n: held[n].requires_grad_() for n, p in model.named_parameters() if p.requires_grad
        }
    if not params:
        raise ValueError("model: none of its parameters requires a gradient; pass one that trains.")
    reduction, leaves = WholeModel(), list(params.values())
    total: list[Tensor] = []
    squares, count, size, dropped = 0.0, 0, 0, 0
    with as_it_was(model, training=mode == "train"), recording():
        for batch in Batches(data):
            size = size or rows_of(batch)
            if rows_of(batch) != size:
                dropped += rows_of(batch)
                continue
            inputs, targets = pair(model, mapped(batch, recordable))
            outputs = call(model, held, inputs)
            grads = torch.autograd.grad(
                loss(outputs, targets), leaves, allow_unused=True, materialize_grads=True
            )
            squares += float(sum(reduction.squares(list(grads)).tolist()))
            total = [t + g for t, g in zip(total, grads, strict=True)] if total else list(grads)
            count += 1
    if not count:
        raise ValueError("data: holds no batch; pass the training set.")
    norm = math.sqrt(sum(reduction.squares(total).tolist())) / count
    weights = math.sqrt(sum(reduction.squares([p.detach() for p in leaves]).tolist()))
    return GradientNorms(norm, squares / count, weights, count, dropped, mode)
