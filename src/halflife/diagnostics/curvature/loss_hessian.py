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
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ...tensors.reduction import is_sharded
from .batches import Batches, mapped, rows_of
from .calling import as_it_was, call, inner_model, pair, recordable, twice_differentiable
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
        _check_params(params)
        dtypes = [p.dtype for p in params.values()]
        self.dtype = dtype or max(dtypes, key=lambda kind: torch.finfo(kind).bits)
        self.device = next(iter(params.values())).device
        with torch.inference_mode(False):
            self.params = {
                name: p.detach().to(self.dtype, copy=True).requires_grad_()
                for name, p in params.items()
            }
        self.dim = sum(p.numel() for p in params.values())
        self._function, self._rows, self._alone = function, rows or rows_of, batches is None
        self._batches = Batches([()] if batches is None else batches)
        self._symmetric = False  # until it has been looked at
        self._many_at_once = True  # until torch cannot
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
            name: part.reshape((*vector.shape[:-1], *p.shape))
            for (name, p), part in zip(self.params.items(), parts, strict=True)
        }

    def matvec(self, vector: Tensor) -> Tensor:
        """The product with a vector ``[dim]``.

        The first product looks whether the map is symmetric, on one batch: ``u.Hv = v.Hu``.

        Raises:
            ValueError: if its shape or dtype is not the operator's, or the map is not symmetric:
                something in the model has no right second derivative.
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
        thousands of parameters it is slower. Takes n times the memory. Where torch cannot
        differentiate many at once, as through `GroupNorm`, they are taken one by one.
        """
        if vectors.shape[1] < 2 or not self._many_at_once:
            return super().matmat(vectors)
        try:
            products = self._times(vectors.T.contiguous(), batched=True).T
        except RuntimeError:  # torch's own; a wrong result has not been met, but would be as silent
            products = None
        if products is None or not self._is_product(products, vectors):
            self._many_at_once = False
            return super().matmat(vectors)
        return products

    def _is_product(self, products: Tensor, vectors: Tensor) -> bool:
        """Whether some mix of the columns is the product with the same mix of the vectors."""
        mix = torch.linspace(1.0, 2.0, vectors.shape[1], dtype=self.dtype, device=self.device)
        found, wanted = products @ mix, self.matvec(vectors @ mix)
        return bool((found - wanted).norm() <= self._slack * wanted.norm())

    def product(self, vector: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The product with a vector given, and returned, by the parameters' names."""
        return self.unflatten(self.matvec(self.flatten(vector)))

    def _times(self, vectors: Tensor, *, batched: bool) -> Tensor:
        if not self._symmetric:
            self._require_symmetry()
            self._symmetric = True
        with torch.inference_mode(False):
            vectors = recordable(vectors)
            total = torch.zeros_like(vectors)
            for part in self._gradients() if self._kept is None else self._kept:
                self._add(total, part, vectors, again=self._kept is not None, batched=batched)
        return total

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

    @torch.inference_mode(False)
    def _require_symmetry(self) -> None:
        """Refuse a map that is no Hessian: ``u.Hv = v.Hu`` on the first batch, to rounding."""
        generator = torch.Generator().manual_seed(0)
        u, v = (self.probe(generator, gaussian=True) for _ in range(2))
        hu, hv = torch.zeros_like(u), torch.zeros_like(v)
        part = next(iter(self._gradients() if self._kept is None else self._kept))
        self._add(hu, part, u, again=True)
        self._add(hv, part, v, again=self._kept is not None)
        left, right = float(u @ hv), float(v @ hu)
        # For such vectors a difference is about the norm of H - H^T, and |Hv| that of H.
        if abs(left - right) > self._slack * float((hu.norm() * hv.norm()).sqrt()):
            raise ValueError(
                f"the Hessian is not symmetric: u.Hv = {left:.6g} and v.Hu = {right:.6g} for "
                "random u and v, which must be equal: the second derivative of some operation is "
                "wrong; write that one in plain tensor operations, or leave out its parameters "
                "(params=)."
            )

    @property
    def _slack(self) -> float:
        """Relative differences that are rounding, with much room: sums of products lose digits."""
        return torch.finfo(self.dtype).eps ** (1 / 3)

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

    def _cast(self, tensor: Tensor) -> Tensor:
        return recordable(tensor).to(
            self.device, self.dtype if tensor.is_floating_point() else None
        )


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
    inner, prefix = inner_model(model)
    with torch.inference_mode(False):
        constants = {
            name: tensor.detach().to(
                kind if tensor.is_floating_point() else tensor.dtype, copy=True
            )
            for name, tensor in [*model.named_parameters(), *model.named_buffers()]
            if id(tensor) not in chosen
        }

    def mean_loss(current: Mapping[str, Tensor], batch: Any) -> Tensor:
        inputs, targets = pair(inner, batch)
        tensors = {
            name.removeprefix(prefix): tensor for name, tensor in {**constants, **current}.items()
        }
        with as_it_was(inner):
            return loss(call(inner, tensors, inputs), targets)

    return Hessian(mean_loss, params, data, rows=rows, dtype=kind, memory=memory)


def _check_params(params: Mapping[str, Tensor]) -> None:
    if not params:
        raise ValueError("params is empty; pass at least one parameter.")
    device = next(iter(params.values())).device
    for name, p in params.items():
        if not p.is_floating_point():
            raise ValueError(
                f"params: {name!r} has dtype {p.dtype}; pass real floating-point ones."
            )
        if is_sharded(p):
            raise ValueError(
                f"params: {name!r} is sharded over processes; gather the weights into a model of "
                "one process, as torch's get_model_state_dict with full_state_dict=True does."
            )
        if p.device != device:
            raise ValueError(
                f"params: {name!r} is on {p.device}, others on {device}; use one device."
            )
