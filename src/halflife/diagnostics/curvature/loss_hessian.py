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

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .batches import Batches, mapped, rows_of
from .operators import Operator

__all__ = ["Hessian", "hessian"]

Rows: TypeAlias = Callable[[Any], float]
Weighted: TypeAlias = tuple[float, tuple[Tensor, ...]]  # a batch's weight, and its gradient


class Hessian(Operator):
    """Hessian of ``sum_b rows_b f(params, batch_b) / sum_b rows_b`` with respect to `params`.

    It is the Hessian at the values that `params` have now: they are copied.

    Args:
        function: ``function(params, batch)`` gives the batch's mean loss, a 0-dim tensor;
            without `batches`, ``function(params)``. It must be the same at each call: no dropout.
        params: name -> floating-point tensor. Vectors hold their entries in this order.
        batches: one batch, or an iterable of batches that can be iterated over repeatedly.
        rows: a batch's weight in the mean. Default: its rows, the first dimension of its first
            tensor. For a loss that is a mean over tokens, count the tokens.
        dtype: of the computation; parameters and the floating-point tensors of each batch are cast.
            Default: the dtype of the parameters.
        memory: bytes that the kept graphs of gradients may take; above, they are made anew for
            every product. 0 keeps none. Default: 1 GiB.

    Raises:
        TypeError: if `batches` can be iterated over only once.
        ValueError: if there are no parameters, they differ in device, they are not real
            floating-point tensors, there is no batch, or the loss is no 0-dim tensor.

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
        _check_params(params)
        dtypes = [p.dtype for p in params.values()]
        self.dtype = dtype or max(dtypes, key=lambda kind: torch.finfo(kind).bits)
        self.device = next(iter(params.values())).device
        self.params = {
            name: p.detach().to(self.dtype, copy=True).requires_grad_()
            for name, p in params.items()
        }
        self.dim = sum(p.numel() for p in params.values())
        self._function, self._rows, self._alone = function, rows or rows_of, batches is None
        self._batches = Batches([()] if batches is None else batches)
        self._kept, self._total = self._first_pass(memory)
        if not self._total > 0:
            raise ValueError(f"batches hold {self._total:g} rows; pass at least one batch.")

    @property
    def keeps_graphs(self) -> bool:
        """Whether the gradients' graphs fit in `memory`, so that products need no forward pass."""
        return self._kept is not None

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Tensors of the parameters' names and shapes as one vector ``[dim]``.

        Raises:
            ValueError: if names or shapes are not those of the parameters.
        """
        for name in tensors.keys() ^ self.params.keys():
            where = "a parameter" if name in self.params else "in the vector"
            raise ValueError(f"{name!r} is only {where}; pass one tensor for each parameter.")
        for name, p in self.params.items():
            if tensors[name].shape != p.shape:
                raise ValueError(
                    f"{name!r} has shape {tuple(tensors[name].shape)}; the parameter's is "
                    f"{tuple(p.shape)}."
                )
        parts = [tensors[name].to(self.device, self.dtype).reshape(-1) for name in self.params]
        return torch.cat(parts)

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """A vector ``[dim]``, or vectors ``[n, dim]``, as tensors by the parameters' names."""
        parts = vector.split([p.numel() for p in self.params.values()], dim=-1)
        return {
            name: part.reshape(*vector.shape[:-1], *p.shape)
            for (name, p), part in zip(self.params.items(), parts, strict=True)
        }

    def matvec(self, vector: Tensor) -> Tensor:
        """The product with a vector ``[dim]``.

        Raises:
            ValueError: if its shape or dtype is not the operator's.
        """
        if vector.shape != (self.dim,) or vector.dtype != self.dtype:
            raise ValueError(
                f"vector has shape {tuple(vector.shape)} and dtype {vector.dtype}; the Hessian's "
                f"are ({self.dim},) and {self.dtype}."
            )
        return self._times(vector, batched=False)

    def matmat(self, vectors: Tensor) -> Tensor:
        """The products with the columns of ``[dim, n]``, all in one backward pass.

        Faster than one by one only for small models, where calls cost more than arithmetic; at
        thousands of parameters it is slower. Takes n times the memory.
        """
        return self._times(vectors.T.contiguous(), batched=True).T

    def product(self, vector: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The product with a vector given, and returned, by the parameters' names."""
        return self.unflatten(self.matvec(self.flatten(vector)))

    def _times(self, vectors: Tensor, *, batched: bool) -> Tensor:
        params = list(self.params.values())
        directions = self.unflatten(vectors).values()
        total = torch.zeros_like(vectors)
        for weight, gradients in self._gradients() if self._kept is None else self._kept:
            pairs = [(g, v) for g, v in zip(gradients, directions, strict=True) if g.requires_grad]
            if not pairs:  # a loss linear in all parameters
                continue
            derivatives = torch.autograd.grad(
                [g for g, _ in pairs],
                params,
                [v for _, v in pairs],
                retain_graph=self._kept is not None,
                is_grads_batched=batched,
                allow_unused=True,
            )
            for part, derivative in zip(self.unflatten(total).values(), derivatives, strict=True):
                if derivative is not None:
                    part.add_(derivative, alpha=weight / self._total)
        return total

    def _first_pass(self, memory: float) -> tuple[list[Weighted] | None, float]:
        """The gradients' graphs if they fit, and the sum of the batches' weights."""
        seen: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
            return tensor.detach()  # its node restores the history; the tensor would be a cycle

        kept: list[Weighted] | None = []
        total = 0.0
        for batch in self._batches:
            total += (weight := self._weight(batch))
            if kept is not None:
                with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                    kept.append((weight, self._gradient(batch)))
                kept = kept if sum(seen.values()) <= memory else None
        return kept, total

    def _gradients(self) -> Iterator[Weighted]:
        for batch in self._batches:
            yield self._weight(batch), self._gradient(batch)

    def _weight(self, batch: Any) -> float:
        return 1.0 if self._alone else float(self._rows(batch))

    def _gradient(self, batch: Any) -> tuple[Tensor, ...]:
        """The gradient of a batch's mean loss, with its graph."""
        # Attention's fused kernels cannot be differentiated twice.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
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

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, self.dtype if tensor.is_floating_point() else None)


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
    copied: training on does not change the operator. Tied parameters count once.

    Args:
        model: the model.
        loss: ``loss(outputs, targets)``, the mean over the rows of a batch.
        data: batches ``(inputs, targets)``, or one such pair. `inputs` is what the model is called
            with: a tensor, or a tuple or dict of arguments.
        params: the parameters to differentiate by, name -> value. Default: those that require a
            gradient. The others are constants.
        rows: as in `Hessian`.
        dtype: as in `Hessian`; float64 for exact work.
        memory: as in `Hessian`.

    Raises:
        TypeError: if `data` can be iterated over only once.
        ValueError: if a name in `params` is no parameter of the model, or as `Hessian` does.

    Example:
        >>> model, inputs = nn.Linear(2, 1, bias=False), torch.eye(2)
        >>> operator = hessian(model, nn.functional.mse_loss, (inputs, torch.zeros(2, 1)))
        >>> (operator @ torch.tensor([1.0, 2.0])).tolist()
        [1.0, 2.0]
    """
    named = dict(model.named_parameters(remove_duplicate=False))
    if params is None:
        params = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for name in params.keys() - named.keys():
        raise ValueError(f"params: {name!r} is no parameter of the model.")
    if not params:
        raise ValueError("no parameter of the model requires a gradient; pass params=.")
    _check_params(params)
    kind = dtype or max((p.dtype for p in params.values()), key=lambda k: torch.finfo(k).bits)
    chosen = {id(named[name]) for name in params}  # also under the other names of tied ones
    constants = {
        name: tensor.detach().to(kind if tensor.is_floating_point() else tensor.dtype, copy=True)
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
        if id(tensor) not in chosen
    }

    def mean_loss(current: Mapping[str, Tensor], batch: Any) -> Tensor:
        inputs, targets = batch
        args = (
            inputs if isinstance(inputs, tuple) else () if isinstance(inputs, dict) else (inputs,)
        )
        kwargs = inputs if isinstance(inputs, dict) else {}
        with _evaluating(model):
            outputs = torch.func.functional_call(model, {**constants, **current}, args, kwargs)
            return loss(outputs, targets)

    return Hessian(mean_loss, params, data, rows=rows, dtype=kind, memory=memory)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and every module's own mode again afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _check_params(params: Mapping[str, Tensor]) -> None:
    if not params:
        raise ValueError("params is empty; pass at least one parameter.")
    device = next(iter(params.values())).device
    for name, p in params.items():
        if not p.is_floating_point():
            raise ValueError(
                f"params: {name!r} has dtype {p.dtype}; pass real floating-point ones."
            )
        if p.device != device:
            raise ValueError(
                f"params: {name!r} is on {p.device}, others on {device}; use one device."
            )
