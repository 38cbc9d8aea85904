"""What differs from one version of torch to the next, and since when.

Everything else in the package is written for the newest; this module makes the older ones look like
it, or refuses by name what they have not. It is also the only one that names torch's private parts,
which move without notice (`scripts/check_source.py` holds the others to it).

    since 2.13   torch.compile(isolate_recompiles=); a code object of its own does it before
    since 2.12   Adagrad makes its state at the first step; before, at construction alone
    since 2.11   `Optimizer._accelerator_graph_capture_health_check`; named after CUDA before
    since 2.9    `torch.optim.Muon`; torch._foreach_copy_ takes empty tensors
    since 2.7    Adam's ``decoupled_weight_decay``, and AdamW derives from Adam
    since 2.6    everything else that is used here
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from torch.optim import Adagrad, Adam, AdamW, Optimizer
from torch.utils._foreach_utils import (
    _get_foreach_kernels_supported_devices,
    _get_fused_kernels_supported_devices,
)
from torch.utils._python_dispatch import _disable_current_modes

if TYPE_CHECKING or hasattr(torch.optim, "Muon"):
    from torch.optim import Muon as Muon
else:

    class Muon(Optimizer):
        """In the place of ``torch.optim.Muon``, where torch has none: cannot be built."""

        def __new__(cls, *_: Any, **__: Any) -> Muon:
            """Refuse.

            Raises:
                RuntimeError: naming the version that has it.
            """
            raise RuntimeError(
                f"{cls.__name__}: torch.optim.Muon came with torch 2.9, and this is "
                f"{torch.__version__}; update torch, or choose another optimizer."
            )


__all__ = [
    "ADAMS",
    "ADAM_ARGUMENTS",
    "CONVOLUTIONS",
    "NORMALIZATIONS",
    "STEP_TAKEN",
    "TORCH",
    "WEIGHT_NORM",
    "Muon",
    "before_compiling",
    "begin_state",
    "calls_plainly",
    "check_capture",
    "compiled_apart",
    "compiler_of",
    "compiles_for",
    "copy_each",
    "count_steps_for_scheduler",
    "counts_steps_for_scheduler",
    "flatten",
    "floats_as_constants",
    "foreach_devices",
    "fused_devices",
    "is_fake",
    "is_flat",
    "is_flattened",
    "mark_static",
    "no_step_hooks",
    "not_compiled",
    "same_call",
    "sharded_shapes",
    "takes_decay",
    "times_written",
    "unflatten",
    "watch_step",
    "without_modes",
]

_T = TypeVar("_T", bound="Callable[..., Any]")

TORCH = tuple(int(number) for number in torch.__version__.split(".")[:2])

# Each declares what Adam knows of itself: before 2.7 AdamW inherits none of it.
ADAMS: tuple[type[Optimizer], ...] = (Adam, AdamW)
# What Adam's constructor takes besides, since 2.7.
ADAM_ARGUMENTS = {"decoupled_weight_decay"} & inspect.signature(Adam).parameters.keys()

# Every batch and instance normalization, and every convolution.
NORMALIZATIONS: type[nn.Module] = nn.modules.batchnorm._NormBase
CONVOLUTIONS: type[nn.Module] = nn.modules.conv._ConvNd
STEP_TAKEN = "_opt_called"  # a scheduler's note in an optimizer
WEIGHT_NORM: Callable[..., Tensor] = torch._weight_norm  # both of torch's ways end in it


# --- tensors -------------------------------------------------------------------------------------


def is_fake(tensor: object) -> bool:
    """Whether it has a shape and no numbers."""
    return isinstance(tensor, FakeTensor)


def times_written(tensor: Tensor) -> int:
    """How often it was written to."""
    return tensor._version


def flatten(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors' elements in one new flat tensor."""
    return _flatten_dense_tensors(tensors)


def unflatten(flat: Tensor, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """The pieces of a flat tensor, shaped as the tensors."""
    return _unflatten_dense_tensors(flat, tensors)


def copy_each(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Copy a list of tensors onto another; before 2.9 foreach refuses empty ones."""
    pairs = [(t, s) for t, s in zip(targets, sources, strict=True) if t.numel()]
    if pairs:
        torch._foreach_copy_(*map(list, zip(*pairs, strict=True)))  # type: ignore[arg-type]


def is_flattened(parameter: Tensor) -> bool:
    """Whether it is one process's flat piece of a parameter that FSDP1 shards."""
    return getattr(parameter, "_fsdp_flattened", False)


def is_flat(parameter: Tensor) -> bool:
    """Whether it is FSDP1's concatenation of parameters."""
    return getattr(parameter, "_is_flat_param", False)


def sharded_shapes(module: nn.Module) -> dict[int, tuple[int, ...]]:
    """The shapes of the parameters that FSDP1 shards here, by ``id`` of this process's piece."""
    flat = getattr(getattr(module, "_handle", None), "flat_param", None)
    parameters, shapes = getattr(flat, "_params", None), getattr(flat, "_shapes", None)
    if parameters is None or shapes is None:
        return {}
    return {id(p): tuple(s) for p, s in zip(parameters, shapes, strict=True)}


# --- optimizers ----------------------------------------------------------------------------------


def foreach_devices() -> list[str]:
    """Device types that foreach operations have kernels for."""
    return _get_foreach_kernels_supported_devices()


def fused_devices() -> list[str]:
    """Device types that fused optimizers have kernels for."""
    return _get_fused_kernels_supported_devices()


def takes_decay(weight_decay: float | Tensor) -> bool:
    """Whether a native L2 can be given it: one with a gradient since 2.9 only."""
    return not (isinstance(weight_decay, Tensor) and weight_decay.requires_grad) or TORCH >= (2, 9)


def check_capture(optimizer: Optimizer) -> None:
    """Let torch say what is wrong with a step that is captured in a graph."""
    getattr(optimizer, _HEALTH_CHECK)()


_HEALTH_CHECK = next(
    name
    for name in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check")
    if hasattr(Optimizer, name)
)


def no_step_hooks() -> dict[str, Any]:
    """What an optimizer keeps of the hooks around its step, where there are none."""
    return {"_optimizer_step_pre_hooks": {}, "_optimizer_step_post_hooks": {}}


def watch_step(optimizer: Optimizer) -> None:
    """Have hooks called around the step of a class that an instance has been given."""
    optimizer._patch_step_function()


def begin_state(optimizer: Optimizer) -> None:
    """Make the state of parameters that have none, where torch makes it at construction alone.

    That is Adagrad's before 2.12: a group that is added later has none, nor has a copy.
    """
    if TORCH >= (2, 12) or not isinstance(optimizer, Adagrad):
        return
    for group in optimizer.param_groups:
        start = group["initial_accumulator_value"]
        for p in group["params"]:
            if not optimizer.state.get(p):
                filled = complex(start, start) if p.is_complex() else start
                total = torch.full_like(p, filled, memory_format=torch.preserve_format).detach()
                fused, wide = group.get("fused"), torch.get_default_dtype() == torch.float64
                dtype = torch.float64 if wide and not fused else torch.float32
                step = torch.zeros((), dtype=dtype, device=p.device if fused else "cpu")
                optimizer.state[p] = {"step": step, "sum": total}


def count_steps_for_scheduler(optimizer: Optimizer) -> None:
    """Put back what a scheduler wraps around ``step``: a note that it has been called."""
    reference, step = weakref.ref(optimizer), type(optimizer).step

    @functools.wraps(step)
    def counted(*args: Any, **kwargs: Any) -> Any:
        live = reference()
        setattr(live, STEP_TAKEN, True)
        return step(live, *args, **kwargs)  # type: ignore[arg-type]

    counted._wrapped_by_lr_sched = True  # type: ignore[attr-defined]
    optimizer.step = counted  # type: ignore[method-assign]


def counts_steps_for_scheduler(step: Any) -> bool:
    """Whether a ``step`` is what a scheduler has wrapped around it."""
    return getattr(step, "_wrapped_by_lr_sched", False)


# --- modes and compilation -----------------------------------------------------------------------


def without_modes() -> AbstractContextManager[Any]:
    """Outside of every mode that takes operations, such as that of fake tensors."""
    return _disable_current_modes()


@contextlib.contextmanager
def not_compiled() -> Iterator[None]:
    """Compiled functions run as they are written; the compiler is not imported for it.

    Also where a graph was broken for it: before 2.9 the compiler is on there, and takes no stance.
    """
    if "torch._dynamo" not in sys.modules:
        yield
        return
    frames = torch._C._dynamo.eval_frame
    compiler = frames.get_eval_frame_callback()
    on = compiler is not None and compiler is not False
    if on:
        frames.set_eval_frame(None)
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        if on:
            frames.set_eval_frame(compiler)


def before_compiling(model: nn.Module) -> nn.Module | None:
    """The module that ``torch.compile`` has been given; None of one that it has not made."""
    inner = getattr(model, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else None


def compiles_for(device: torch.device) -> bool:
    """Whether ``torch.compile`` has a backend for an accelerator that is worth its time."""
    if device.type not in ("cuda", "xpu"):
        return False
    from torch.utils._triton import has_triton

    return has_triton()


def mark_static(tensor: Tensor) -> None:
    """Have the compiler take the shape as it is."""
    torch._dynamo.mark_static(tensor)


def compiler_of(backend: Any) -> Callable[..., Callable[..., Any]]:
    """The function that ``torch.compile`` hands a graph to, of a backend's name or of itself."""
    return torch._dynamo.lookup_backend(backend) if isinstance(backend, str) else backend


def floats_as_constants() -> AbstractContextManager[Any]:
    """A compiler that takes numbers in what it compiles as they are; dynamic ones are symbols."""
    return torch._dynamo.config.patch(specialize_float=True)


def same_call(tensors: Sequence[Tensor]) -> Callable[..., bool] | None:
    """What says of tensors whether a compiled function's guards would take them for these, now.

    It compares what dynamo's guards may depend on: of each tensor its type, dtype, device, sizes,
    strides and dispatch keys, whether one is there twice; the mode of gradients, of autocast and of
    determinism, the default dtype and the like. None where this torch has no such thing.
    """
    try:
        guards: Any = torch._C._dynamo.guards
        at_large = guards.GlobalStateGuard().check
        sizes, strides = [list(t.shape) for t in tensors], [list(t.stride()) for t in tensors]
        of_each = guards.TensorGuards(
            *tensors, dynamic_dims_sizes=sizes, dynamic_dims_strides=strides
        ).check
    except (AttributeError, TypeError):
        return None
    return lambda *others: at_large() and of_each(*others)


def calls_plainly() -> bool:
    """Whether there is no mode, transform or stance, under which compiled functions run otherwise.

    A default device other than the CPU is such a mode.
    """
    return not (
        torch._C._len_torch_dispatch_stack()
        or torch._C._len_torch_function_stack()
        or torch.is_inference_mode_enabled()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch._dynamo.eval_frame._stance.stance != "default"
    )


def compiled_apart(function: _T, **options: Any) -> _T:
    """``torch.compile`` of a closure, whose recompilations are its own.

    They are counted for each code object, which all closures that one function makes share.
    """
    if "isolate_recompiles" in inspect.signature(torch.compile).parameters:
        options["isolate_recompiles"] = True
    else:
        function.__code__ = function.__code__.replace()
    compiled: Any = torch.compile(function, **options)
    return compiled
