"""The parameters of a model, each once, under all its names and without wrappers' prefixes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

__all__ = ["Parameter", "collect", "listed_by_the_model", "name_cleaner"]


class Parameter(NamedTuple):
    """One tensor under all its names, with the module that holds each."""

    names: tuple[str, ...]
    tensor: Tensor
    modules: tuple[nn.Module, ...]


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


def collect(model: nn.Module, clean: Callable[[str], str]) -> list[Parameter]:
    """Every parameter of the model once, in the model's order, under its clean names."""
    found: dict[int, Parameter] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for key, tensor in module.named_parameters(recurse=False, remove_duplicate=False):
            name = clean(f"{path}.{key}" if path else key)
            if is_lazy(tensor):
                raise ValueError(
                    f"param_groups: parameter {name!r} must be initialized, got "
                    f"{type(tensor).__name__}; run one forward pass first."
                )
            names, _, modules = found.get(id(tensor), ((), tensor, ()))
            found[id(tensor)] = Parameter((*names, name), tensor, (*modules, module))
    return list(found.values())


def listed_by_the_model(model: nn.Module, clean: Callable[[str], str]) -> set[str]:
    """The clean names that ``no_weight_decay()`` methods list (timm's convention)."""
    listed = set()
    for path, module in model.named_modules(remove_duplicate=False):
        method = getattr(module, "no_weight_decay", None)
        if callable(method):
            listed |= {clean(f"{path}.{name}" if path else name) for name in method()}
    return listed
