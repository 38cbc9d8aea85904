"""Whether torch's fused kernels can take a group's tensors as they lie in the memory.

They go through it without a look at strides: of a parameter with gaps, or beside a gradient or a
state of another layout, they would silently update the wrong elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from ..versions import fused_devices

__all__ = ["WALKED", "Layout", "fits", "lay_state", "layout", "lies_alike"]

Layout: TypeAlias = 'Literal["contiguous", "dense", "with gaps"] | None'

_KINDS = (Tensor, torch.nn.Parameter)
_is_contiguous = Tensor.is_contiguous  # called by `map`, which costs half of a loop

# State beside the weights in torch's fused optimizers.
WALKED = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "sum")


def layout(params: list[Tensor]) -> Layout:
    """What parameters have in common; None if torch has no fused kernel for one of them.

    Example:
        >>> w = torch.zeros(2, 4)
        >>> layout([w]), layout([w.t()]), layout([w[:, ::2]])
        ('contiguous', 'dense', 'with gaps')
    """
    devices = fused_devices()
    for p in params:
        if not (_is_plain(p) and p.is_floating_point() and p.device.type in devices):
            return None
    if all(p.is_contiguous() for p in params):
        return "contiguous"
    return "dense" if all(map(_is_dense, params)) else "with gaps"


def fits(known: Layout, params: list[Tensor]) -> bool:
    """Whether parameters still lie so, and their gradients as they do; asked at every step."""
    if known is None or known == "with gaps":
        return False
    if known == "contiguous":
        grads = [g for p in params if (g := p.grad) is not None]
        return all(map(_is_contiguous, params)) and all(map(_is_contiguous, grads))
    return all(  # the caller knows the strides
        g.stride() == p.stride() for p in params if (g := p.grad) is not None
    )


def lies_alike(params: list[Tensor], state: Any, keys: Sequence[str]) -> bool:
    """Whether gradients and state lie as their parameters; in a graph, which mends nothing."""
    for p in params:
        beside = [p.grad, *(state.get(p, {}).get(key) for key in keys)]
        if any(t is not None and t.stride() != p.stride() for t in beside):
            return False
    return True


def lay_state(known: Layout, params: list[Tensor], state: Any, keys: Sequence[str]) -> None:
    """Lay what a kernel walks of the state as the parameters lie, where it lies otherwise.

    After a checkpoint, or a change of the memory format, it may. Nearly always it does not, so at
    every step this only looks, in few calls.

    Args:
        known: the parameters' layout.
        params: the parameters.
        state: the optimizer's.
        keys: of the state's tensors.

    Raises:
        RuntimeError: if that is to be mended in a step that is being captured in a graph.
    """
    # To look a tensor up costs more than the rest: where all states can be theirs, all are taken.
    states = state.values() if len(state) <= len(params) else map(state.get, params)
    states = [s for s in states if s]
    for key in keys:
        column = [s[key] for s in states if s.get(key) is not None]
        if known == "contiguous" and all(map(_is_contiguous, column)):
            continue
        for p in params:
            t = (state.get(p) or {}).get(key)
            if t is None or t.stride() == p.stride():
                continue
            if t.is_cuda and torch.cuda.is_current_stream_capturing():
                raise RuntimeError(
                    f"{key!r} lies in memory otherwise than its weight, which a captured step "
                    "cannot mend; take one step before the capture."
                )
            state[p][key] = torch.empty_like(p, dtype=t.dtype, device=t.device).copy_(t)


def _is_dense(p: Tensor) -> bool:
    """Whether its elements fill their stretch of memory, each once, in some order of dimensions."""
    size = 1
    for stride, length in sorted(zip(p.stride(), p.shape, strict=True)):
        if length != 1 and stride != size:
            return False
        size *= length
    return True


def _is_plain(p: Tensor) -> bool:
    """Whether it is memory and no more; a parameter's subclass may be."""
    kind = type(p)
    return kind in _KINDS or (
        isinstance(p, torch.nn.Parameter)
        and kind.__torch_function__ is torch.nn.Parameter.__torch_function__
        and kind.__torch_dispatch__ is Tensor.__torch_dispatch__
    )
