"""What a vector does in a layer of anybody's making, found by running a copy of the layer.

A layer normalizes where a larger input makes the same output. Its vector is then a gain if at 0
nothing of the input is left, so that decay pulls against the scale which the layer is to have; a
shift if it adds the same to every input; and one on top of a fixed gain, as in ``(1 + g) x``, if at
0 the input is still there, normalized: decay pulls that one to a layer without it. No size of the
values tells these apart, for a trained gain may be small and ``g`` large.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from ...bases.bench import unnoticed

__all__ = ["Role", "role_of"]

Role: TypeAlias = Literal["gain", "shift", "on top", "none", "unknown"]

_TIMES = 4.0
_MOST = 2**16  # elements: wider than any layer
_CLOSE = 1e-2  # relative; layers have an eps, and some compute in half precision


def role_of(module: nn.Module, parameter: Tensor) -> Role:
    """What a parameter does in the layer that holds it.

    Args:
        module: the layer; only a copy of it is run, on the CPU, with weights of our own.
        parameter: one of its own, with one dimension above 1.

    Returns:
        "gain", "shift" or "on top" where the layer normalizes; "none" where it does not, and
        "unknown" where it does not run on its own, holds larger parameters than this one, or has
        layers with parameters inside.

    Example:
        >>> norm = nn.RMSNorm(3)
        >>> role_of(norm, norm.weight)
        'gain'
    """
    own_names = dict(module.named_parameters(recurse=False))
    if len(own_names) < len(list(module.parameters())) or parameter.numel() > _MOST:
        return "unknown"  # a model, not a layer; or the flat weights of one
    if any(p.numel() > parameter.numel() for p in own_names.values()):
        return "unknown"
    noise = torch.Generator().manual_seed(0)
    tensors = (*module.parameters(), *module.buffers())
    memo: dict[int, Any] = {id(t): _like(t, noise) for t in tensors}
    own, size, shape = memo[id(parameter)], max(parameter.numel(), 2), tuple(parameter.shape)
    shapes = ((2, *shape), (2, 3, *shape), (2, size), (2, 3, size), (2, size, 3))
    try:
        with unnoticed(), torch.no_grad():
            layer = copy.deepcopy(module, memo).train()  # batch norms are norms in training
            value, inputs = own.clone(), _inputs(layer)
            for tried in (*shapes, (2, size, 3, 3), (2, 3, 3, size), (2, size, 3, 3, 3)):
                x, y = (torch.randn(tried, generator=noise) for _ in range(2))

                def out(value: Any, first: Tensor, others: Tensor) -> list[Tensor]:
                    own.copy_(torch.as_tensor(value).expand_as(own))
                    given = [first, *[others] * (inputs - 1)]
                    return _tensors(layer.forward(*(t.clone() for t in given)))

                try:
                    found = _role(out, x, y, value)
                except Exception:  # it wants another shape
                    continue
                if found != "unknown":
                    return found
    except Exception:  # it cannot be copied
        return "unknown"
    return "unknown"


def _role(out: Any, x: Tensor, y: Tensor, value: Tensor) -> Role:
    with_x, with_y, without_x, without_y = (out(v, t, t) for v in (value, 0.0) for t in (x, y))
    # A second input may be a residual, which grows with the first, or a gate, which need not.
    larger = [(_TIMES * x, _TIMES * x), (_TIMES * x, x)]
    grown, bare = ([out(v, *given) for given in larger] for v in (value, 0.0))
    for i, (full, empty) in enumerate(zip(with_x, without_x, strict=True)):
        if _close(full, empty) or _close(full, with_y[i]) or not full.isfinite().all():
            continue  # an output that it has no part in, or in which there is nothing to see
        same = [_close(full, outputs[i]) for outputs in grown]
        if not any(same):
            return "none"
        if _close(empty, without_y[i]):
            return "gain"
        if _close(full - empty, with_y[i] - without_y[i]):
            return "shift"
        return "on top" if _close(empty, bare[same.index(True)][i]) else "none"
    return "unknown"


def _like(tensor: Tensor, noise: torch.Generator) -> Tensor:
    if not tensor.dtype.is_floating_point:
        return torch.zeros(tensor.shape, dtype=tensor.dtype)
    values = 0.5 + torch.rand(tensor.shape, generator=noise)
    return nn.Parameter(values) if isinstance(tensor, nn.Parameter) else values


def _inputs(layer: nn.Module) -> int:
    """How many tensors it must be given."""
    wanted = inspect.signature(layer.forward).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return max(1, sum(p.default is p.empty and p.kind in kinds for p in wanted))


def _tensors(output: Any) -> list[Tensor]:
    several = output if isinstance(output, (tuple, list)) else [output]
    return [t.float() for t in several if isinstance(t, Tensor)]


def _close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).norm() <= _CLOSE * torch.maximum(a.norm(), b.norm()))
