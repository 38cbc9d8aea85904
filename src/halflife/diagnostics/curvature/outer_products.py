r"""Gauss-Newton and Fisher matrices over a data set, as products with vectors.

    G = mean over rows of J' M J        J = dz/dw of the outputs z, M the loss's Hessian in z
    F = mean over rows of g g'          g the gradient of one row's loss
    C = F - (mean g)(mean g)'           the covariance of those gradients

G is the Hessian without the part in which the model itself bends, and the Hessian where the model
is linear. For cross-entropy, and for half of a squared error, it is the Fisher matrix of what the
model predicts. F takes the labels as they are instead, and is called the empirical one: the
"Fisher" of Zhou et al. Their Assumption 4 puts F for C, as near a minimum the mean is small, and
the Hessian for F, which holds where residuals are those that the model predicts.

F is a Gauss-Newton matrix too: of the rows' losses as outputs, and half their mean square as the
loss. So no row's gradient is ever formed. A product is ``J v``, by differentiating ``J' u``, linear
in u, by u ("double backward"); then M; then one backward pass. No product needs a forward pass as
long as the graphs fit in `memory`.

Source: Zhou et al., "Towards understanding convergence and generalization of AdamW", TPAMI 2024,
Eq. (7) and Assumption 4; the double backward pass: Townsend, "A new trick for calculating
Jacobian vector products", 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ...checks import require
from .batches import mapped
from .calling import twice_differentiable
from .data_operator import DataOperator, Rows, function_of

__all__ = ["Fisher", "GaussNewton", "fisher", "gauss_newton"]


class Linearized(NamedTuple):
    """A batch's outputs and what is linear in a cotangent of theirs, with graphs.

    Attributes:
        outputs: z, with the graph to the parameters.
        cotangent: u, of z's shape, that may be differentiated by.
        pulled: ``J' u``, a tensor for each parameter.
        leaf: z as a leaf.
        slope: the loss's gradient in z, with the graph to the leaf.
    """

    outputs: Tensor
    cotangent: Tensor
    pulled: tuple[Tensor, ...]
    leaf: Tensor
    slope: Tensor


class GaussNewton(DataOperator):
    """``sum_b rows_b J_b' M_b J_b / sum_b rows_b``, M_b the Hessian of a loss in its outputs.

    Args:
        function: ``function(params, batch)`` gives the batch's outputs, a tensor of any shape, and
            what the loss takes besides, or None. It must be the same at each call: no dropout.
        loss: ``loss(outputs, others)``, the batch's mean, a 0-dim tensor; convex in the outputs
            for a matrix that is positive semidefinite.
        params: as in `Hessian`.
        batches: as in `Hessian`.
        rows: as in `Hessian`.
        dtype: as in `Hessian`.
        memory: as in `Hessian`.

    Raises:
        TypeError: if `batches` can be iterated over only once.
        ValueError: as `Hessian`, or if the outputs are no real floating-point tensor.

    Example:
        Of ``a w^2`` as an output and half of its square as the loss it is ``(2 a w)^2``.

        >>> operator = GaussNewton(
        ...     lambda params, batch: (batch * params["w"] ** 2, None),
        ...     lambda outputs, _: 0.5 * outputs.square().mean(),
        ...     {"w": torch.tensor(3.0)},
        ...     torch.tensor([0.5]),
        ... )
        >>> (operator @ torch.ones(1)).tolist()
        [9.0]
    """

    what: ClassVar[str] = "Gauss-Newton matrix"

    def __init__(
        self,
        function: Callable[[Mapping[str, Tensor], Any], tuple[Tensor, Any]],
        loss: Callable[[Tensor, Any], Tensor],
        params: Mapping[str, Tensor],
        batches: Iterable[Any],
        *,
        rows: Rows | None = None,
        dtype: torch.dtype | None = None,
        memory: float = 2**30,
    ) -> None:
        super().__init__(params, batches, rows, dtype)
        self._function, self._loss = function, loss
        self._begin(memory)

    def _part(self, batch: Any) -> Linearized:
        with twice_differentiable():
            outputs, others = self._function(self.params, mapped(batch, self._cast))
            if not isinstance(outputs, Tensor) or not outputs.is_floating_point():
                kind = outputs.dtype if isinstance(outputs, Tensor) else type(outputs).__name__
                raise ValueError(
                    f"the outputs are {kind}; they must be one real floating-point tensor: give "
                    "curvature.GaussNewton a function that picks it out."
                )
            leaf = outputs.detach().requires_grad_()
            loss = self._loss(leaf, others)
            if loss.dim():
                shape = tuple(loss.shape)
                raise ValueError(
                    f"the loss is {shape}; it must be a 0-dim tensor, the batch's mean."
                )
            cotangent = torch.zeros_like(outputs).requires_grad_()
            pulled = _derivatives(outputs, list(self.params.values()), cotangent)
            slope = _derivatives(loss, [leaf])[0]
            return Linearized(outputs, cotangent, pulled, leaf, slope)

    def _add(
        self, total: Tensor, part: Any, vectors: Tensor, *, again: bool, batched: bool = False
    ) -> None:
        """Add a batch's part of the product, whose graphs may be needed `again`."""
        weight, at = part
        directions = self.unflatten(vectors).values()
        pairs = [(g, v) for g, v in zip(at.pulled, directions, strict=True) if g.requires_grad]
        if not pairs or not at.slope.requires_grad:  # no parameter in the outputs; a linear loss
            return
        settings: dict[str, Any] = {"is_grads_batched": batched, "allow_unused": True}
        (pushed,) = torch.autograd.grad(
            [g for g, _ in pairs],
            [at.cotangent],
            [v for _, v in pairs],
            retain_graph=True,  # the last of the three passes may free them
            **settings,
        )
        if pushed is None:
            return
        (weighed,) = torch.autograd.grad(
            at.slope, [at.leaf], pushed, retain_graph=again, **settings
        )
        if weighed is None:
            return
        entries = torch.autograd.grad(
            at.outputs, list(self.params.values()), weighed, retain_graph=again, **settings
        )
        for where, entry in zip(self.unflatten(total).values(), entries, strict=True):
            if entry is not None:
                where.add_(entry, alpha=weight / self._total)


class Fisher(GaussNewton):
    """The mean of ``g g'`` over gradients of rows or of batches, or their covariance.

    Args:
        losses: ``losses(params, batch)`` gives the losses whose gradients are meant, ``[n]``: one
            for each row, or one for the batch. Their mean is the batch's loss.
        params: as in `Hessian`.
        batches: as in `Hessian`.
        centered: take ``(mean g)(mean g)'`` off, which leaves the covariance.
        rows: as in `Hessian`.
        dtype: as in `Hessian`.
        memory: as in `Hessian`.

    Raises:
        TypeError: if `batches` can be iterated over only once.
        ValueError: as `GaussNewton`.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [1.0, 2.0]])  # of a linear loss: its gradients
        >>> params = {"w": torch.zeros(2)}
        >>> operator = Fisher(lambda p, batch: batch @ p["w"], params, rows)
        >>> (operator @ torch.eye(2)).tolist()
        [[1.0, 1.0], [1.0, 2.0]]
        >>> spread = Fisher(lambda p, batch: batch @ p["w"], params, rows, centered=True)
        >>> (spread @ torch.eye(2)).tolist()
        [[0.0, 0.0], [0.0, 1.0]]
    """

    what: ClassVar[str] = "Fisher matrix"

    def __init__(
        self,
        losses: Callable[[Mapping[str, Tensor], Any], Tensor],
        params: Mapping[str, Tensor],
        batches: Iterable[Any],
        *,
        centered: bool = False,
        rows: Rows | None = None,
        dtype: torch.dtype | None = None,
        memory: float = 2**30,
    ) -> None:
        super().__init__(
            lambda current, batch: (losses(current, batch), None),
            lambda outputs, _: 0.5 * outputs.square().mean(),
            params,
            batches,
            rows=rows,
            dtype=dtype,
            memory=memory,
        )
        self.mean: Tensor = self._mean_gradient()
        self.centered = centered

    def matvec(self, vector: Tensor) -> Tensor:
        """The product with a vector ``[dim]``."""
        product = super().matvec(vector)
        return product - self.mean * (self.mean @ vector) if self.centered else product

    def matmat(self, vectors: Tensor) -> Tensor:
        """The products with the columns of ``[dim, n]``."""
        if self.centered:  # less what each has along the mean; the check of many at once is of F
            self.centered = False
            try:
                products = super().matmat(vectors)
            finally:
                self.centered = True
            return products - torch.outer(self.mean, self.mean @ vectors)
        return super().matmat(vectors)

    @torch.inference_mode(False)
    def _mean_gradient(self) -> Tensor:
        """The gradient of the mean loss, ``[dim]``."""
        total = torch.zeros(self.dim, dtype=self.dtype, device=self.device)
        for weight, at in self._parts() if self._kept is None else self._kept:
            entries = torch.autograd.grad(
                at.outputs,
                list(self.params.values()),
                torch.full_like(at.outputs, 1.0 / at.outputs.numel()),
                retain_graph=self._kept is not None,
                allow_unused=True,
            )
            for where, entry in zip(self.unflatten(total).values(), entries, strict=True):
                if entry is not None:
                    where.add_(entry, alpha=weight / self._total)
        return total


def gauss_newton(
    model: nn.Module,
    loss: Callable[[Any, Any], Tensor],
    data: Iterable[Any],
    *,
    params: Mapping[str, Tensor] | None = None,
    rows: Rows | None = None,
    dtype: torch.dtype | None = None,
    memory: float = 2**30,
) -> GaussNewton:
    """Gauss-Newton matrix of a model's mean loss over a data set, in evaluation mode.

    Args:
        model: as for `hessian`; its output is one tensor.
        loss: ``loss(outputs, targets)``, the mean over the rows of a batch.
        data: as for `hessian`.
        params: as for `hessian`.
        rows: as in `Hessian`.
        dtype: as in `Hessian`; float64 for exact work.
        memory: as in `Hessian`.

    Raises:
        TypeError: as `hessian`.
        ValueError: as `hessian`, or if the model's output is not one tensor.

    Example:
        >>> model, inputs = nn.Linear(2, 1, bias=False), torch.eye(2)
        >>> operator = gauss_newton(model, nn.functional.mse_loss, (inputs, torch.zeros(2, 1)))
        >>> (operator @ torch.tensor([1.0, 2.0])).tolist()  # of a linear model, the Hessian's
        [1.0, 2.0]
    """
    params, kind, run = function_of(model, params, dtype)

    def outputs(current: Mapping[str, Tensor], batch: Any) -> tuple[Tensor, Any]:
        return run(current, batch, lambda outputs, targets: (outputs, targets))

    return GaussNewton(outputs, loss, params, data, rows=rows, dtype=kind, memory=memory)


def fisher(
    model: nn.Module,
    loss: Callable[[Any, Any], Tensor],
    data: Iterable[Any],
    *,
    per: Literal["row", "batch"] = "row",
    centered: bool = False,
    params: Mapping[str, Tensor] | None = None,
    rows: Rows | None = None,
    dtype: torch.dtype | None = None,
    memory: float = 2**30,
) -> Fisher:
    """Empirical Fisher matrix of a model on a data set, in evaluation mode.

    ``per="batch", centered=True`` is the covariance of minibatch gradients, the noise of a step;
    for random batches of b rows it is about that of the rows over b.

    Args:
        model: as for `hessian`.
        loss: ``loss(outputs, targets)``, the mean over the rows of a batch. With ``per="row"`` it
            is also called on one row at a time, so outputs and targets must be tensors.
        data: as for `hessian`.
        per: whose gradients: "row" for each row's, "batch" for each batch's.
        centered: take the mean gradient off: the covariance in place of the second moment.
        params: as for `hessian`.
        rows: as in `Hessian`.
        dtype: as in `Hessian`; float64 for exact work.
        memory: as in `Hessian`.

    Raises:
        TypeError: as `hessian`.
        ValueError: as `hessian`, for another `per`, or if the rows' losses do not have the batch's
            as their mean.

    Example:
        >>> model, inputs = nn.Linear(2, 1, bias=False), torch.eye(2)
        >>> _ = nn.init.ones_(model.weight)
        >>> operator = fisher(model, nn.functional.mse_loss, (inputs, torch.zeros(2, 1)))
        >>> (operator @ torch.eye(2)).tolist()  # each row's gradient is 2 on its input
        [[2.0, 0.0], [0.0, 2.0]]
    """
    require(per in ("row", "batch"), "fisher: per", "'row' or 'batch'", per, "choose one")
    params, kind, run = function_of(model, params, dtype)

    def losses_of(outputs: Any, targets: Any) -> Tensor:
        whole = loss(outputs, targets)
        if per == "batch":
            return whole.reshape(1)
        if not (isinstance(outputs, Tensor) and isinstance(targets, Tensor)):
            kinds = f"{type(outputs).__name__} and {type(targets).__name__}"
            raise ValueError(
                f"outputs and targets are {kinds}; to take a row of them they must be tensors: use "
                "per='batch' on batches of one row, or give curvature.Fisher the rows' losses."
            )
        pairs = zip(outputs.split(1), targets.split(1), strict=True)
        losses = torch.stack([loss(output, target) for output, target in pairs])
        found, wanted = losses.detach().mean().item(), whole.detach().item()
        scale = losses.detach().abs().mean().item()
        if abs(found - wanted) > torch.finfo(losses.dtype).eps ** 0.5 * scale:
            raise ValueError(
                f"the rows' losses have a mean of {found:.6g} and the batch's loss is "
                f"{wanted:.6g}, which must be equal; pass a loss that is the mean over the rows."
            )
        return losses

    def losses(current: Mapping[str, Tensor], batch: Any) -> Tensor:
        return run(current, batch, losses_of)

    return Fisher(losses, params, data, centered=centered, rows=rows, dtype=kind, memory=memory)


def _derivatives(
    outputs: Tensor, inputs: list[Tensor], cotangent: Tensor | None = None
) -> tuple[Tensor, ...]:
    return torch.autograd.grad(
        outputs, inputs, cotangent, create_graph=True, allow_unused=True, materialize_grads=True
    )
