"""Whether torch's fused kernels can take a group's tensors as they lie in the memory.

They go through it without a look at strides: of a parameter with gaps, or beside a gradient of
another layout, they would silently update the wrong elements.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch._prims_common import is_non_overlapping_and_dense_or_false
from torch.utils._foreach_utils import _get_fused_kernels_supported_devices

__all__ = ["Layout", "fits", "layout"]

Layout: TypeAlias = 'Literal["contiguous", "dense"] | None'

_KINDS = (Tensor, torch.nn.Parameter)


def layout(params: list[Tensor]) -> Layout:
    """What parameters have in common; None if a fused kernel cannot take one of them.

    Example:
        >>> w = torch.zeros(2, 4)
        >>> layout([w]), layout([w.t()]), layout([w[:, ::2]])
        ('contiguous', 'dense', None)
    """
    devices = _get_fused_kernels_supported_devices()
    for p in params:
        plain = type(p) in _KINDS and p.is_floating_point() and p.device.type in devices
        if not plain or not is_non_overlapping_and_dense_or_false(p):
            return None
    return "contiguous" if all(p.is_contiguous() for p in params) else "dense"


def fits(known: Layout, params: list[Tensor]) -> bool:
    """Whether parameters still lie so, and their gradients as they do; asked at every step."""
    if known is None:
        return False
    dense = known == "dense"
    for p in params:
        g = p.grad
        if dense:  # whose strides the caller knows
            if g is not None and g.stride() != p.stride():
                return False
        elif not p.is_contiguous() or (g is not None and not g.is_contiguous()):
            return False
    return True
