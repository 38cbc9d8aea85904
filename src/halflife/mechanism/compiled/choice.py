"""Where a group that leaves its implementation open is compiled all the same.

On an accelerator that torch.compile has a backend for, and where one pass was measured to take less
time there than torch's step with the rule beside it (docs/benchmarks.md, "What is chosen on a
GPU"). A compiled step takes what the host takes to call it, under any rule; what it saves is passes
of the device. There are enough of those in an elementwise map of half-precision weights, and in one
that needs the preconditioner, and fewer in other maps. A rule of one fraction has none to save, and
few where half-precision weights are rounded: that is done only once the weight can show it.

Memory is not what decides. A map beside torch's step holds up to four temporaries of the largest
tensor (in half precision six) in float32, each of 128 MiB at most; a compiled one holds none.

On the CPU it is not chosen, as compiling takes longer there than a small training.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ... import versions
from ...rules import Anchored, DecayMap
from ...tensors.reduction import is_sharded
from ...tensors.rounding import is_half
from . import kernels

if TYPE_CHECKING:
    from ..known import Known
    from .optimizer import Compilable

__all__ = ["bring_back", "compiles_by_itself", "pays", "works"]


def compiles_by_itself(
    optimizer: Compilable,
    known: Known,
    group: dict[str, Any],
    kernel: Callable[..., kernels.Kernel],
    options: tuple[Any, ...],
) -> bool:
    """Whether a group whose ``implementation`` is None takes the compiled step.

    Args:
        optimizer: whose step it is.
        known: what is known of the group.
        group: the group, without another implementation of its own.
        kernel: of the base optimizer.
        options: the kernel's.
    """
    rule, params = group["decay"], group["params"]
    if not pays(rule, known.halves):
        return False
    if not params or not versions.compiles_for(params[0].device):
        return False
    if getattr(optimizer, "found_inf", None) is not None:  # whose number it would wait for
        return False
    for p in params:
        if p.is_complex() or p.device != params[0].device or is_sharded(p):
            return False
        if p.grad is not None and p.grad.layout is not torch.strided:
            return False
    if not _is_hashable(rule):  # a rule of the user's own, whose kernel could not be kept
        return False
    kinds = {p.dtype for p in params}
    return all(works(kernel, rule, options, d, params[0].device.type) for d in kinds)


def pays(rule: Any, halves: bool) -> bool:
    """Whether a compiled step is the faster one on a GPU.

    Args:
        rule: of the group, or None.
        halves: whether some weights are in half precision.

    Example:
        >>> from halflife.rules import Cautious, Decoupled, Preconditioned
        >>> [pays(rule, True) for rule in (Decoupled(), Cautious(), Preconditioned())]
        [False, True, True]
        >>> [pays(rule, False) for rule in (Decoupled(), Cautious(), Preconditioned())]
        [False, False, True]
    """
    if not (isinstance(rule, DecayMap) and rule.elementwise):
        return False
    return halves or "preconditioner" in rule.needs


@functools.cache
def works(
    kernel: Callable[..., kernels.Kernel],
    rule: DecayMap,
    options: tuple[Any, ...],
    dtype: torch.dtype,
    device: str,
) -> bool:
    """Whether a kernel can be compiled: tried once in a process, on tensors of its own.

    A warning says why not, once.
    """
    anchored = isinstance(rule, Anchored) and not isinstance(rule.to, (int, float))
    beside = kernels.states_of(kernel, options) + 1 + anchored  # and the gradient
    numbers = torch.full((kernels.NUMBERS[kernel],), 0.5, device=device, dtype=torch.float64)
    versions.mark_static(numbers)
    tensors = [torch.ones(64, dtype=dtype, device=device) for _ in range(1 + beside)]
    seed = torch.zeros((), dtype=torch.int64, device=device) if is_half(tensors[0]) else None
    try:
        with torch.no_grad():
            kernels.compiled(kernel, rule, options, dtype, device, kernels.BACKEND)(
                numbers, seed, *tensors
            )
    except Exception as error:  # whatever a compiler or its tools may raise, also without a word
        said = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]
        warnings.warn(
            f"halflife: {rule!r} could not be compiled for {device} in {dtype} and takes "
            "operations of its own beside torch's step, which is slower and equal up to rounding "
            f"({said[:200]}); "
            "implementation='native' says so from the start.",
            stacklevel=2,
        )
        return False
    return True


def _is_hashable(rule: DecayMap) -> bool:
    try:
        hash(rule)
    except TypeError:
        return False
    return True


def bring_back(params: list[Tensor], state: Any) -> None:
    """Put counts of steps beside their weights, where torch's fused kernels read them.

    A compiled step keeps them on the host, and so may a checkpoint.

    Args:
        params: of one group, all on an accelerator or none.
        state: the optimizer's.
    """
    if not params or params[0].is_cpu:
        return
    for p in params:
        known = state.get(p) or {}
        step = known.get("step")
        if isinstance(step, Tensor) and step.is_cpu:
            known["step"] = step.to(p.device, non_blocking=True)
