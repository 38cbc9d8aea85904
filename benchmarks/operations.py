"""How many operations a step dispatches on an accelerator, where each costs its launch.

Counted, not timed, and on meta tensors, which have shapes and no numbers: torch's lists of devices
are told for the time that theirs has foreach, fused and capturable kernels. Views count too; what
touches numbers of the host only does not.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._foreach_utils import _get_foreach_kernels_supported_devices as foreach
from torch.utils._foreach_utils import _get_fused_kernels_supported_devices as fused
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import halflife

from .rules import ELEMENTWISE, NORMS, SCALAR_RULES
from .shapes import MODELS

DEVICE = "meta"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Counting(TorchDispatchMode):
    """Counts every operation that is dispatched on the device's tensors, views included.

    Args:
        everywhere: on tensors of the CPU too.
    """

    def __init__(self, everywhere: bool = False) -> None:
        super().__init__()
        self.devices = {DEVICE, "cpu"} if everywhere else {DEVICE}
        self.operations: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        result = None if _only_writes(name, args) else func(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs, result))
        if any(isinstance(t, Tensor) and t.device.type in self.devices for t in leaves):
            self.operations[name] += 1
        return result


def _only_writes(name: str, args: Any) -> bool:
    """Whether an operation changes nothing but numbers, which tensors of the device have not.

    Fused ones have no meta kernel. Those in place on lists have one in Python, most of a count's
    time.
    """
    in_place = name.startswith("aten::_foreach_") and name.endswith("_")
    return name.startswith("aten::_fused_") or (in_place and args[0][0].device.type == DEVICE)


@contextlib.contextmanager
def all_kernels(device: str = DEVICE) -> Iterator[None]:
    """Let torch think that the device has all kernels, as CUDA does."""
    known = {
        "_get_foreach_kernels_supported_devices": [device, *foreach()],
        "_get_fused_kernels_supported_devices": [device, *fused()],
        "_get_capturable_supported_devices": [device],
    }
    with contextlib.ExitStack() as patched:
        for module in modules_with(*known):
            for name in known.keys() & vars(module).keys():
                patched.enter_context(mock.patch.object(module, name, _lister(known[name])))
        yield


def _lister(devices: list[str]) -> Callable[..., list[str]]:
    """What torch asks for devices: a list that it may change."""
    return lambda *_, **__: [*devices]


def modules_with(*names: str) -> list[Any]:
    """Modules of torch's optimizers and ours that have one of some names."""
    places = ("torch.optim", "torch.utils", "halflife")
    found = [m for n, m in sys.modules.items() if n.startswith(places)]
    return [m for m in found if not vars(m).keys().isdisjoint(names)]


def stepped(
    make: Callable[[list[Tensor]], Optimizer], shapes: list[tuple[int, ...]], dtype: torch.dtype
) -> Optimizer:
    """An optimizer on the device after two steps, which make state, views and buffers."""
    params = [torch.nn.Parameter(torch.empty(s, device=DEVICE, dtype=dtype)) for s in shapes]
    optimizer = make(params)
    for p in params:
        p.grad = torch.empty_like(p)
    for _ in range(2):
        with Counting():
            optimizer.step()
    return optimizer


def operations(
    make: Callable[[list[Tensor]], Optimizer], shapes: list[tuple[int, ...]], dtype: torch.dtype
) -> int:
    """Operations of a step with decay due."""
    optimizer = stepped(make, shapes, dtype)
    with Counting() as counting:
        optimizer.step()
    return counting.operations.total()


def main(models: list[str]) -> list[dict[str, Any]]:
    """Print a table for each model; the same as plain data."""
    results = []
    for model in models:
        shapes = MODELS[model]()
        large = sum(torch.Size(shape).numel() > 1 << 16 for shape in shapes)
        rows = {}
        with all_kernels():
            rows["torch AdamW, fused"] = _row(
                functools.partial(torch.optim.AdamW, fused=True), shapes
            )
            for name, decay in {**SCALAR_RULES, **ELEMENTWISE, **NORMS}.items():
                rows[f"AdamW {name}"] = _row(functools.partial(ours, decay), shapes)
        print(f"{model}: operations of a step on an accelerator")
        print(f"{len(shapes)} tensors, {large} of them above 65,536 elements\n")
        print(f"{'':44}" + "".join(f"{name:>10}" for name in DTYPES))
        for name, counts in rows.items():
            print(f"{name:44}" + "".join(f"{count:>10,}" for count in counts.values()))
        print()
        results.append({"model": model, "tensors": len(shapes), "large": large, "rows": rows})
    return results


def ours(decay: Any, params: list[Tensor]) -> Optimizer:
    """AdamW under a rule."""
    # So much that the decay of half-precision weights is due at every step.
    return halflife.AdamW(params, weight_decay=0.9, decay=decay, lr=1e-2)


def _row(
    make: Callable[[list[Tensor]], Optimizer], shapes: list[tuple[int, ...]]
) -> dict[str, int]:
    return {name: operations(make, shapes, dtype) for name, dtype in DTYPES.items()}
