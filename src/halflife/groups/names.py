"""The parameters of a model, each once, under all its names and without wrappers' prefixes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList

from ..versions import is_flat, sharded_shapes

__all__ = ["Parameter", "Use", "collect", "name_cleaner"]


class Use(NamedTuple):
    """One use of a parameter.

    Attributes:
        name: Its name there.
        holder: The module that holds the tensor.
        module: The layer that it is of; another one than `holder` under a parametrization.
        attribute: What it is, or makes up, in that layer: ``weight`` also for each part of one.
        shape: Of the tensor.
    """

    name: str
    holder: nn.Module
    module: nn.Module
    attribute: str
    shape: tuple[int, ...]


class Parameter(NamedTuple):
    """One tensor with all its uses, and its shape (that of the whole where it is sharded)."""

    tensor: Tensor
    shape: tuple[int, ...]
    uses: tuple[Use, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Its names, in the model's order."""
        return tuple(use.name for use in self.uses)


_WRAPPERS = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\."
)


def name_cleaner(raw: list[str]) -> Callable[[str], str]:
    """The function that removes the prefixes of wrappers from names such as `raw`."""
    names = [_WRAPPERS.sub("", name) for name in raw]
    prefix = ""
    # A model may have a child called "module"; a wrapper has nothing else.
    while names and all(name.startswith(f"{prefix}module.") for name in names):
        prefix += "module."
    return lambda name: _WRAPPERS.sub("", name).removeprefix(prefix)


def collect(
    model: nn.Module, clean: Callable[[str], str], caller: str = "param_groups"
) -> list[Parameter]:
    """Every parameter of the model once, in the model's order, under its clean names."""
    found: dict[int, Parameter] = {}
    layers: dict[str, nn.Module] = {}
    whole: dict[int, tuple[int, ...]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        layers[path] = module
        whole |= sharded_shapes(module)
        for key, tensor in module.named_parameters(recurse=False, remove_duplicate=False):
            name = clean(f"{path}.{key}" if path else key)
            _check(caller, name, tensor)
            # DeepSpeed's stage 3 keeps the whole shape beside an empty tensor.
            own = tuple(getattr(tensor, "ds_shape", tensor.shape))
            shape = whole.get(id(tensor), own)
            layer, attribute = module, key
            if isinstance(module, ParametrizationList):  # at LAYER.parametrizations.ATTRIBUTE
                above, _, attribute = path.rpartition(".")
                layer = layers[above.rpartition(".")[0]]
            use = Use(name, module, layer, attribute, shape)
            known = found.get(id(tensor), Parameter(tensor, shape, ()))
            found[id(tensor)] = known._replace(uses=(*known.uses, use))
    return list(found.values())


def _check(caller: str, name: str, tensor: Tensor) -> None:
    if is_lazy(tensor):
        raise ValueError(
            f"{caller}: parameter {name!r} must be initialized, got "
            f"{type(tensor).__name__}; run one forward pass first."
        )
    if is_flat(tensor):
        raise ValueError(
            f"{caller}: parameter {name!r} must be one tensor of the model, got FSDP's "
            "FlatParameter, which lays matrices, biases and gains end to end; wrap the model with "
            "FullyShardedDataParallel(model, use_orig_params=True), or use fully_shard (FSDP2)."
        )
