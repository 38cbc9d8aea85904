"""Gradients of one batch after another, of a model that is left as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from .curvature.batches import Batches, mapped, rows_of
from .curvature.calling import as_it_was, call, inner_model, pair, recordable, recording

__all__ = ["BatchGradients", "Mode"]

Mode: TypeAlias = Literal["train", "eval"]


class BatchGradients:
    """A model's losses and gradients on batches of one size.

    The first batch sets the size; others are left out, since batch norm over three rows can have a
    gradient a thousand times larger. Parameters, their ``grad``, buffers, modes and random states
    are afterwards what they were.

    Args:
        model: on the device of the data.
        loss: ``loss(outputs, targets)``, the mean over the rows of a batch.
        data: batches, or one, as `halflife.diagnostics.curvature.hessian` takes them.
        mode: of the model.

    Raises:
        ValueError: for another mode, or if no parameter requires a gradient.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.ones_(model.weight)
        >>> batch = (torch.tensor([[2.0]]), torch.zeros(1, 1))
        >>> gradients = BatchGradients(model, nn.functional.mse_loss, batch, "eval")
        >>> gradients.visit(lambda value, grads: print(value.item(), grads[0].item()))  # w^2 x^2
        4.0 8.0
    """

    def __init__(
        self, model: nn.Module, loss: Callable[[Any, Any], Tensor], data: Iterable[Any], mode: Mode
    ) -> None:
        if mode not in ("train", "eval"):
            raise ValueError(f"mode={mode!r}: must be 'train' or 'eval'; choose one.")
        self._model, _ = inner_model(model)
        self._loss, self._mode = loss, mode
        with torch.inference_mode(False):
            held = {n: recordable(p).detach() for n, p in self._model.named_parameters()}
            self._held = held | {n: b.detach().clone() for n, b in self._model.named_buffers()}
            self.params = {
                n: held[n].requires_grad_()
                for n, p in self._model.named_parameters()
                if p.requires_grad
            }
        if not self.params:
            raise ValueError(
                "model: none of its parameters requires a gradient; pass one that trains."
            )
        self._batches = Batches(data)
        self.dropped = 0  # rows of the last pass that were left out

    def visit(
        self,
        visitor: Callable[[Tensor, tuple[Tensor, ...]], object],
        point: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Go over the data.

        Args:
            visitor: called with the loss and the gradients, one for each of `params`, of a batch.
            point: values in place of the parameters' own, by their names; of all or some.
        """
        held, leaves = self._held, self.params
        if point is not None:
            with torch.inference_mode(False):
                others = {
                    n: recordable(point[n]).detach().to(p, copy=True).requires_grad_()
                    for n, p in self.params.items()
                    if n in point
                }
            held, leaves = {**held, **others}, {**leaves, **others}
        size, self.dropped = 0, 0
        with as_it_was(self._model, training=self._mode == "train"), recording():
            for batch in self._batches:
                size = size or rows_of(batch)
                if rows_of(batch) != size:
                    self.dropped += rows_of(batch)
                    continue
                inputs, targets = pair(self._model, mapped(batch, recordable))
                value = self._loss(call(self._model, held, inputs), targets)
                grads = torch.autograd.grad(
                    value, list(leaves.values()), allow_unused=True, materialize_grads=True
                )
                visitor(value.detach(), grads)
