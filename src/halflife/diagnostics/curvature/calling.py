"""A model as a function of its parameters: which call a batch means, with what around it.

A call leaves the model as it was: its modes, and what its modules have stored of the call.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils.rnn import PackedSequence
from torch.overrides import TorchFunctionMode

from ...versions import WEIGHT_NORM, before_compiling, not_compiled
from .batches import field_names

__all__ = [
    "as_it_was",
    "call",
    "inner_model",
    "pair",
    "recordable",
    "recording",
    "twice_differentiable",
]


def inner_model(model: nn.Module) -> tuple[nn.Module, str]:
    """The model inside ``torch.compile``, `DataParallel` and DDP, and what they put before names.

    Raises:
        ValueError: if a part of it is in FSDP's first version, or the whole of it is scripted: such
            modules take no weights.

    Example:
        >>> inner, prefix = inner_model(DataParallel(nn.Linear(2, 1)))
        >>> type(inner).__name__, prefix
        ('Linear', 'module.')
    """
    fsdp = sys.modules.get("torch.distributed.fsdp")  # not imported, where nobody has
    if fsdp and any(isinstance(m, fsdp.FullyShardedDataParallel) for m in model.modules()):
        raise ValueError(
            f"model: {type(model).__name__} is sharded by FullyShardedDataParallel; load its full "
            "state dict into a model of one process."
        )
    prefix = ""
    while True:
        if isinstance(model, (DataParallel, DistributedDataParallel)):
            model, prefix = model.module, prefix + "module."
        elif (inner := before_compiling(model)) is not None:
            model, prefix = inner, prefix + "_orig_mod."
        else:
            break
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError(
            f"model: {type(model).__name__} is scripted, and takes no other weights than its own; "
            "pass the module that it was made of."
        )
    return model, prefix


def pair(model: nn.Module, batch: Any) -> tuple[Any, Any]:
    """The inputs and the targets of a batch.

    Raises:
        ValueError: if the batch is neither a pair nor a dict of the model's arguments.
    """
    forward = f"{type(model).__name__}.forward"
    if isinstance(batch, Mapping):
        if signature := _signature(model):
            try:
                signature.bind(**batch)
            except TypeError as error:
                raise ValueError(
                    f"data: a batch is a dict of {sorted(map(str, batch))}, and a dict holds the "
                    f"arguments of {forward} ({error}); pass pairs (inputs, targets) instead."
                ) from None
        return batch, batch
    names = field_names(batch)
    if _are_arguments(model, names):
        raise ValueError(
            f"data: a batch is a {type(batch).__name__} of {list(names)}, all of them arguments of "
            f"{forward}, so none holds the targets; pass pairs (inputs, targets)."
        )
    if names and len(names) == 2:
        return getattr(batch, names[0]), getattr(batch, names[1])
    if not names and isinstance(batch, (tuple, list)) and len(batch) == 2:
        return batch[0], batch[1]
    what = type(batch).__name__
    what += f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
    raise ValueError(
        f"data: a batch is a {what}; it must be a pair (inputs, targets), or a dict of the model's "
        "arguments: for others give curvature.Hessian a function of your own."
    )


def call(model: nn.Module, tensors: Mapping[str, Tensor], inputs: Any) -> Any:
    """What the model gives for inputs, with tensors in place of its own."""
    args: tuple[Any, ...] = (inputs,)
    kwargs: dict[str, Any] = {}
    if isinstance(inputs, Mapping):
        args, kwargs = (), dict(inputs)
    elif names := field_names(inputs):
        if _are_arguments(model, names):
            args, kwargs = (), {name: getattr(inputs, name) for name in names}
    elif isinstance(inputs, (tuple, list)) and not isinstance(inputs, PackedSequence):
        args = tuple(inputs)
    return torch.func.functional_call(model, dict(tensors), args, kwargs)


def _signature(model: nn.Module) -> inspect.Signature | None:
    try:
        return inspect.signature(model.forward)
    except (TypeError, ValueError):  # of a scripted module
        return None


def _are_arguments(model: nn.Module, names: Collection[str]) -> bool:
    """Whether the names, of which there are some, are all arguments of the model."""
    signature = _signature(model)
    return bool(names) and signature is not None and {*names} <= {*signature.parameters}


@contextmanager
def as_it_was(model: nn.Module, *, training: bool = False) -> Iterator[None]:
    """Put all modules in one mode, and everything that they hold back afterwards."""
    before = [(module, module.training, dict(vars(module))) for module in model.modules()]
    # What is written into in place: the flat weights of an RNN, a module's own cache.
    held = [value for _, _, values in before for value in values.values() if type(value) is list]
    contents = [list(value) for value in held]
    model.train(training)
    try:
        yield
    finally:
        for module, mode, then in before:
            module.training = mode
            for name in vars(module).keys() - then.keys():
                del vars(module)[name]
            vars(module).update(then)
        for value, entries in zip(held, contents, strict=True):
            value[:] = entries


def recordable(tensor: Tensor) -> Tensor:
    """The tensor, or a copy of one made in inference mode, which autograd does not keep."""
    return tensor.clone() if tensor.is_inference() else tensor


@contextmanager
def recording() -> Iterator[None]:
    """Gradients by autograd as it is, whatever the surroundings say: not compiled, not inferred."""
    with torch.inference_mode(False), torch.enable_grad(), not_compiled():
        yield


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Operations whose second derivatives are right.

    Attention's fused kernels cannot be differentiated twice, compiled code neither, and torch's
    kernel for weight normalization gives wrong second derivatives.
    """
    with recording(), sdpa_kernel(SDPBackend.MATH), _WeightNorm():
        yield


class _WeightNorm(TorchFunctionMode):
    """``g v / ||v||`` in operations of its own, for both of torch's ways to normalize weights."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is WEIGHT_NORM:
            return _weight_norm(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    return v * (g / torch.norm_except_dim(v, 2, dim))
