"""Sums over one whole model, for the rules whose fraction depends on a norm.

A rule never sums by itself. What "one whole model" is differs between a plain model and a stacked
ensemble of models, and only these reductions know:

    WholeModel   every element of every tensor belongs to the one model
    PerMember    the leading axis of every tensor counts the members of an ensemble

Terms come back in float64: there are few of them, and they feed recurrences.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["PerMember", "WholeModel", "real"]


class WholeModel:
    """Sums over all elements: one number per tensor, one number per model.

    Example:
        >>> tensors = [torch.ones(2, 3), torch.full((2,), 2.0)]
        >>> WholeModel().squares(tensors)
        tensor([6., 8.], dtype=torch.float64)
        >>> WholeModel().numel(tensors)
        8
    """

    def squares(self, tensors: list[Tensor]) -> Tensor:
        """Sum of squares of each tensor, shape ``[len(tensors)]`` (plus a member axis)."""
        return _gather([self._square(real(t)) for t in tensors])

    def sums(self, tensors: list[Tensor]) -> Tensor:
        """Sum of each tensor, shape ``[len(tensors)]`` (plus a member axis)."""
        return _gather([self._sum(real(t)) for t in tensors])

    def total(self, terms: Tensor) -> Tensor:
        """Sum over the tensors of a model: the last step of every norm."""
        return terms.sum(0)

    def numel(self, tensors: list[Tensor]) -> int:
        """Number of real elements per model; a complex one counts twice, as in torch's Adam."""
        return sum(t.numel() * (2 if t.is_complex() else 1) for t in tensors)

    def _square(self, tensor: Tensor) -> Tensor:
        if tensor.device.type != "cpu" or tensor.dtype not in (torch.float32, torch.float64):
            dtype = torch.promote_types(tensor.dtype, torch.float32)
            return torch.linalg.vector_norm(tensor, dtype=dtype).square()
        # On the CPU a dot product is faster than a norm, and its blocked sum more accurate.
        flat = _flat(tensor)
        return torch.dot(flat, flat)

    def _sum(self, tensor: Tensor) -> Tensor:
        return tensor.sum(dtype=torch.float64)


class PerMember(WholeModel):
    """Sums over all but the leading axis: one number per member of a stacked ensemble.

    Example:
        >>> PerMember().squares([torch.ones(2, 3), torch.tensor([[2.0], [0.0]])])
        tensor([[3., 3.],
                [4., 0.]], dtype=torch.float64)
    """

    def numel(self, tensors: list[Tensor]) -> int:
        """Number of elements of one member."""
        return super().numel(tensors) // tensors[0].shape[0] if tensors else 0

    def _square(self, tensor: Tensor) -> Tensor:
        return tensor.flatten(1).square().sum(1, dtype=torch.float64)

    def _sum(self, tensor: Tensor) -> Tensor:
        return tensor.flatten(1).sum(1, dtype=torch.float64)


def real(tensor: Tensor) -> Tensor:
    """A real view of a complex tensor, as torch's optimizers see it."""
    return torch.view_asreal(tensor) if tensor.is_complex() else tensor


def _flat(tensor: Tensor) -> Tensor:
    """A 1-d view in memory order where one exists (channels-last gradients), else a copy."""
    if tensor.is_contiguous():
        return tensor.view(-1)
    if tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        return tensor.permute(0, 2, 3, 1).view(-1)
    return tensor.reshape(-1)


def _gather(terms: list[Tensor]) -> Tensor:
    if len({term.device for term in terms}) > 1:  # a model spread over several devices
        terms = [term.to(terms[0].device, non_blocking=True) for term in terms]
    stacked = torch.stack(terms)
    return stacked if stacked.device.type == "mps" else stacked.double()
