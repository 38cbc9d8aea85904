"""What curvature over a data set has in common: parameters as a vector, batches, kept graphs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from ...tensors.reduction import is_sharded
from .batches import Batches, rows_of
from .calling import as_it_was, call, inner_model, pair, recordable
from .operators import Operator

__all__ = ["DataOperator", "Rows", "check_params", "function_of"]

Rows: TypeAlias = Callable[[Any], float]
Run: TypeAlias = "Callable[[Mapping[str, Tensor], Any, Callable[[Any, Any], Any]], Any]"


class DataOperator(Operator):
    """A sum over batches, ``sum_b rows_b A_b / sum_b rows_b``, of maps made of derivatives.

    A subclass says what is kept of a batch between products (`_part`), with its graph, and how its
    part of a product is made of that (`_add`).

    Args:
        params: as in `halflife.diagnostics.curvature.Hessian`; copied.
        batches: likewise; None for one that holds nothing.
        rows: likewise.
        dtype: likewise.
    """

    what: ClassVar[str] = "Hessian"  # in messages

    def __init__(
        self,
        params: Mapping[str, Tensor],
        batches: Iterable[Any] | None,
        rows: Rows | None,
        dtype: torch.dtype | None,
    ) -> None:
        check_params(params)
        dtypes = [p.dtype for p in params.values()]
        self.dtype = dtype or max(dtypes, key=lambda kind: torch.finfo(kind).bits)
        self.device = next(iter(params.values())).device
        with torch.inference_mode(False):
            self.params = {
                name: p.detach().to(self.dtype, copy=True).requires_grad_()
                for name, p in params.items()
            }
        self.dim = sum(p.numel() for p in params.values())
        self._rows, self._alone = rows or rows_of, batches is None
        self._batches = Batches([()] if batches is None else batches)
        self._symmetric = False  # until it has been looked at
        self._many_at_once = True  # until torch cannot

    def _begin(self, memory: float) -> None:
        """Go over the data once, when the subclass is ready for it.

        Raises:
            ValueError: if there is no row.
        """
        self._kept, self._total = self._first_pass(memory)
        if not self._total > 0:
            raise ValueError(f"batches hold {self._total:g} rows; pass at least one batch.")

    @abstractmethod
    def _part(self, batch: Any) -> Any:
        """What products need of a batch, with its graph."""

    @abstractmethod
    def _add(
        self, total: Tensor, part: Any, vectors: Tensor, *, again: bool, batched: bool = False
    ) -> None:
        """Add a batch's part of the product; it may be needed `again`.

        Args:
            total: of the vectors' shape.
            part: the batch's weight, and what `_part` made of it.
            vectors: ``[dim]``, or ``[n, dim]`` if `batched`.
            again: whether graphs must be left for another product.
            batched: whether there are many vectors.
        """

    @property
    def keeps_graphs(self) -> bool:
        """Whether the batches' graphs fit in `memory`, so that products need no forward pass."""
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
                f"vector has shape {tuple(vector.shape)} and dtype {vector.dtype}; the "
                f"{self.what}'s are ({self.dim},) and {self.dtype}."
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
            for part in self._parts() if self._kept is None else self._kept:
                self._add(total, part, vectors, again=self._kept is not None, batched=batched)
        return total

    @torch.inference_mode(False)
    def _require_symmetry(self) -> None:
        """Refuse a map that is no Hessian: ``u.Hv = v.Hu`` on the first batch, to rounding."""
        generator = torch.Generator().manual_seed(0)
        u, v = (self.probe(generator, gaussian=True) for _ in range(2))
        hu, hv = torch.zeros_like(u), torch.zeros_like(v)
        part = next(iter(self._parts() if self._kept is None else self._kept))
        self._add(hu, part, u, again=True)
        self._add(hv, part, v, again=self._kept is not None)
        left, right = float(u @ hv), float(v @ hu)
        # For such vectors a difference is about the norm of H - H^T, and |Hv| that of H.
        if abs(left - right) > self._slack * float((hu.norm() * hv.norm()).sqrt()):
            raise ValueError(
                f"the {self.what} is not symmetric: u.Hv = {left:.6g} and v.Hu = {right:.6g} for "
                "random u and v, which must be equal: the second derivative of some operation is "
                "wrong; write that one in plain tensor operations, or leave out its parameters "
                "(params=)."
            )

    @property
    def _slack(self) -> float:
        """Relative differences that are rounding, with much room: sums of products lose digits."""
        return torch.finfo(self.dtype).eps ** (1 / 3)

    def _first_pass(self, memory: float) -> tuple[list[tuple[float, Any]] | None, float]:
        """The batches' graphs if they fit, and the sum of the batches' weights."""
        seen: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
            return tensor.detach()  # its node restores the history; the tensor would be a cycle

        kept: list[tuple[float, Any]] | None = []
        total = 0.0
        for batch in self._batches:
            total += (weight := self._weight(batch))
            if kept is not None:
                with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                    kept.append((weight, self._part(batch)))
                kept = kept if sum(seen.values()) <= memory else None
        return kept, total

    def _parts(self) -> Iterator[tuple[float, Any]]:
        for batch in self._batches:
            yield self._weight(batch), self._part(batch)

    def _weight(self, batch: Any) -> float:
        return 1.0 if self._alone else float(self._rows(batch))

    def _cast(self, tensor: Tensor) -> Tensor:
        return recordable(tensor).to(
            self.device, self.dtype if tensor.is_floating_point() else None
        )


def function_of(
    model: nn.Module, params: Mapping[str, Tensor] | None, dtype: torch.dtype | None
) -> tuple[Mapping[str, Tensor], torch.dtype, Run]:
    """A model as a function of some parameters, in evaluation mode.

    Args:
        model: the model; its other weights and its buffers are copied.
        params: the parameters by which to differentiate. Default: those that require a gradient.
        dtype: of the computation. Default: that of the parameters.

    Returns:
        The parameters, the dtype, and ``run(current, batch, finish)``, which calls the model with
        the current parameters on a batch, gives ``finish(outputs, targets)``, and leaves the model
        as it was.

    Raises:
        ValueError: if a name in `params` is no parameter of the model, or there is none.
    """
    named = dict(model.named_parameters(remove_duplicate=False))
    if params is None:
        params = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for name in params.keys() - named.keys():
        raise ValueError(f"params: {name!r} is no parameter of the model.")
    if not params:
        raise ValueError("no parameter of the model requires a gradient; pass params=.")
    check_params(params)
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

    def run(current: Mapping[str, Tensor], batch: Any, finish: Callable[[Any, Any], Any]) -> Any:
        inputs, targets = pair(inner, batch)
        tensors = {
            name.removeprefix(prefix): tensor for name, tensor in {**constants, **current}.items()
        }
        with as_it_was(inner):
            return finish(call(inner, tensors, inputs), targets)

    return params, kind, run


def check_params(params: Mapping[str, Tensor]) -> None:
    """Refuse parameters that cannot be differentiated by, or not here.

    Raises:
        ValueError: if there is none, one is not real, sharded, or on another device.
    """
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
