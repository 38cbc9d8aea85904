r"""The Hessian of a loss over a data set, as products with vectors.

    H v = d/dw <grad L(w), v>        L the mean loss over all rows of the data

by differentiating the gradient once more ("double backward"; Pearlmutter 1994). The gradient's
graph does not depend on `v`, so it is kept between products as long as it fits in `memory`: a
product is then one backward pass, without the forward pass and the gradient. On a CPU this was
several times faster than forward-over-reverse differentiation (``jvp`` of ``grad``), which has to
start again for every vector; ``python -m benchmarks curvature`` measures it against a package that
does so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from .batches import mapped
from .calling import twice_differentiable
from .data_operator import DataOperator, Rows, function_of

__all__ = ["Hessian", "hessian"]

Weighted: TypeAlias = tuple[float, tuple[Tensor, ...]]  # a batch's weight, and its gradient


class Hessian(DataOperator):
    """Hessian of ``sum_b rows_b f(params, batch_b) / sum_b rows_b`` with respect to `params`.

    It is the Hessian at the values that `params` have now: they are copied.

    Args:
        function: ``function(params, batch)`` gives the batch's mean loss, a 0-dim tensor;
            without `batches`, ``function(params)``. It must be the same at each call: no dropout.
        params: name -> floating-point tensor. Vectors hold their entries in this order.
        batches: one batch (a tuple, namedtuple, dataclass or dict, a tensor, a list that holds a
            tensor), or an iterable of batches that can be iterated over repeatedly.
        rows: a batch's weight in the mean. Default: its rows, the first dimension of the first
            tensor that has one. For a loss that is a mean over tokens, count the tokens.
        dtype: of the computation; parameters and the floating-point tensors of each batch are cast.
            Default: the dtype of the parameters.
        memory: bytes that the kept graphs of gradients may take; above, they are made anew for
            every product. 0 keeps none. Default: 1 GiB.

    Raises:
        TypeError: if `batches` can be iterated over only once.
        ValueError: if there are no parameters, they differ in device, they are not real
            floating-point tensors or sharded, `batches` is a tuple that may be one batch or
            several, there is no batch, or the loss is no 0-dim tensor.

    Example:
        The Hessian of least squares is ``X^T X / rows``.

        >>> inputs, targets = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.zeros(2)
        >>> def loss(params, batch):
        ...     return 0.5 * ((batch[0] @ params["w"] - batch[1]) ** 2).mean()
        >>> operator = Hessian(loss, {"w": torch.ones(2)}, (inputs, targets))
        >>> (operator @ torch.eye(2)).tolist()
        [[5.0, 7.0], [7.0, 10.0]]
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        params: Mapping[str, Tensor],
        batches: Iterable[Any] | None = None,
        *,
        rows: Rows | None = None,
        dtype: torch.dtype | None = None,
        memory: float = 2**30,
    ) -> None:
        super().__init__(params, batches, rows, dtype)
        self._function = function
        self._begin(memory)

    def _add(
        self, total: Tensor, part: Weighted, vectors: Tensor, *, again: bool, batched: bool = False
    ) -> None:
        """Add a batch's part of the product; its gradients may be needed `again`."""
        weight, gradients = part
        directions = self.unflatten(vectors).values()
        pairs = [(g, v) for g, v in zip(gradients, directions, strict=True) if g.requires_grad]
        if not pairs:  # a loss linear in all parameters
            return
        derivatives = torch.autograd.grad(
            [g for g, _ in pairs],
            list(self.params.values()),
            [v for _, v in pairs],
            retain_graph=again,
            is_grads_batched=batched,
            allow_unused=True,
        )
        for entries, derivative in zip(self.unflatten(total).values(), derivatives, strict=True):
            if derivative is not None:
                entries.add_(derivative, alpha=weight / self._total)

    def _part(self, batch: Any) -> tuple[Tensor, ...]:
        """The gradient of a batch's mean loss, with its graph."""
        with twice_differentiable():
            return torch.autograd.grad(
                self._loss(batch),
                list(self.params.values()),
                create_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )

    def _loss(self, batch: Any) -> Tensor:
        if self._alone:
            loss = self._function(self.params)
        else:
            loss = self._function(self.params, mapped(batch, self._cast))
        if not isinstance(loss, Tensor) or loss.dim():
            shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise ValueError(f"the loss is {shape}; it must be a 0-dim tensor, the batch's mean.")
        return loss


def hessian(
    model: nn.Module,
    loss: Callable[[Any, Any], Tensor],
    data: Iterable[Any],
    *,
    params: Mapping[str, Tensor] | None = None,
    rows: Rows | None = None,
    dtype: torch.dtype | None = None,
    memory: float = 2**30,
) -> Hessian:
    """Hessian of a model's mean loss over a data set, in evaluation mode.

    Batch norm uses its running statistics, as the published studies do (PyHessian calls
    ``model.eval()``), and dropout is off. So this is not the curvature of the loss that training in
    batch-norm mode sees: for that, give `Hessian` a function of your own. Neither the model, its
    modes, gradients and statistics, nor any random state is changed. Weights and buffers are
    copied: training on does not change the operator. Tied parameters count once. A model in
    `DataParallel`, DDP or ``torch.compile`` is run as it is inside, under its own names.

    Args:
        model: the model.
        loss: ``loss(outputs, targets)``, the mean over the rows of a batch.
        data: batches, such as a `DataLoader` or a list of them, or one batch. A batch is a pair
            ``(inputs, targets)``: a tuple, a list that holds a tensor, or a namedtuple or dataclass
            of two fields. `inputs` is what the model is called with: a tuple, list or dict of its
            arguments, a namedtuple or dataclass of them, or else its one argument. Or a batch is a
            dict of the model's arguments, as tokenizers make them, and stands for the targets too:
            ``loss=lambda outputs, batch: outputs.loss``.
        params: the parameters to differentiate by, name -> value. Default: those that require a
            gradient. The others are constants.
        rows: as in `Hessian`.
        dtype: as in `Hessian`; float64 for exact work.
        memory: as in `Hessian`.

    Raises:
        TypeError: if `data` can be iterated over only once.
        ValueError: if a name in `params` is no parameter of the model, a parameter is sharded, a
            batch is no pair, `data` is a tuple that may be one batch or several, or as `Hessian`.

    Example:
        >>> model, inputs = nn.Linear(2, 1, bias=False), torch.eye(2)
        >>> operator = hessian(model, nn.functional.mse_loss, (inputs, torch.zeros(2, 1)))
        >>> (operator @ torch.tensor([1.0, 2.0])).tolist()
        [1.0, 2.0]
    """
    params, kind, run = function_of(model, params, dtype)

    def mean_loss(current: Mapping[str, Tensor], batch: Any) -> Tensor:
        return run(current, batch, loss)

    return Hessian(mean_loss, params, data, rows=rows, dtype=kind, memory=memory)
