"""Values as text: the same for equal ones, in every process, and before and after they are used.

What cannot be told, such as an open file, a lock or an object written in C, is its type's name.
So are devices, and generators, which move on with each number drawn; trainable parameters, which
are drawn anew in each process and moved by a training, are their shapes.
"""

from __future__ import annotations

import copyreg
import functools
import hashlib
import inspect
import os
import random
import re
import sys
import types
import weakref
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Mapping, Set
from typing import Any

import numpy as np
import torch

from .source import is_theirs

__all__ = ["Teller", "content_of", "qualified", "wrapped_in"]

_CHEAP = 100_000_000  # bytes of an array whose content is read
_MOST = 200_000  # objects of one value that are looked into
_DEPTH = 60
_PLAIN = (str, bytes, bool, int, float, complex, type(None), type(...), type(NotImplemented), range)
_NUMBERS = (int, float, bool, type(None))
_DEVICE = re.compile(r"(cpu|cuda|mps|xpu|xla|hpu|mtia|npu|tpu|gpu)(:\d+)?")
# Of the process or the machine, or moved on by whoever uses it.
_PASSING: tuple[type, ...] = (
    torch.device,
    torch.Generator,
    random.Random,
    np.random.Generator,
    np.random.BitGenerator,
    np.random.RandomState,
    weakref.ref,
    weakref.WeakKeyDictionary,
    weakref.WeakValueDictionary,
    weakref.WeakSet,
)
_NO_CACHES = (types.FunctionType, types.MemberDescriptorType, staticmethod, classmethod)
_PICKLES = ("__reduce__", "__reduce_ex__", "__getstate__", "__getnewargs__", "__getnewargs_ex__")
_TOLD = frozenset({"_parameters", "_buffers", "_modules", "hooks"})  # of what a module has itself
_MODULE = frozenset(vars(torch.nn.Module())) - _TOLD


class Teller:
    """What tells values, and hands on the functions and classes in them, told by their names.

    Args:
        follow: what is done with a function or class.
        stored: attributes that a class of the user's own stores while it is used, and ``""`` if it
            stores items of itself.
        named: whether an attribute is named anywhere in the training.
        content: whether arrays are read.

    Attributes:
        untold: whether something of the last value could not be told.
    """

    def __init__(
        self,
        follow: Callable[[Any], None],
        stored: Callable[[type], Set[str]] = lambda kind: frozenset(),
        named: Callable[[str], bool] = lambda name: True,
        *,
        content: bool = True,
    ) -> None:
        self.untold, self._left = False, _MOST
        self._follow, self._stored, self._named, self._content = follow, stored, named, content
        # The objects themselves: an identity may be given again when its object is gone.
        self._read: dict[int, tuple[Any, str]] = {}

    def text(self, value: Any) -> str:
        """A value as text."""
        self.untold, self._left = False, _MOST
        return self._text(value, [])

    def _text(self, value: Any, above: list[int]) -> str:
        if type(value) is str and _DEVICE.fullmatch(value):
            return "a device"
        if type(value) in _PLAIN:
            return repr(value)
        if id(value) in above:
            return f"@{above.index(id(value))}"
        self._left -= 1
        if len(above) == _DEPTH or self._left < 0:
            return self._type_alone(value)
        above.append(id(value))
        try:
            return self._told(value, above)
        except Exception:  # whatever the object does when it is looked into
            return self._type_alone(value)
        finally:
            above.pop()

    def _told(self, value: Any, above: list[int]) -> str:
        kind = type(value)
        if isinstance(value, (np.ndarray, np.generic, torch.Tensor)):
            return self._array(value)
        if isinstance(value, types.ModuleType):
            return f"module {value.__name__}"
        if isinstance(value, (type, types.FunctionType)):
            self._follow(value)
            return f"{kind.__name__} {qualified(value)}"
        if isinstance(value, types.MethodType):
            held = [self._text(v, above) for v in (value.__func__, value.__self__)]
            return f"method {held}"
        if isinstance(value, types.BuiltinFunctionType):
            owner = value.__self__
            plain = owner is None or isinstance(owner, types.ModuleType)
            return f"{qualified(value)} {'' if plain else self._text(owner, above)}"
        if (inner := wrapped_in(value)) is not None:
            return f"{qualified(kind)} of {self._text(inner, above)}"
        if self._is_passing(value):
            return self._type_alone(value)
        if (table := _table(value, self._content)) is not None:
            return table
        if isinstance(value, Mapping):
            self._follow(kind)
            items = [(self._text(k, above), v) for k, v in value.items()]
            items.sort(key=lambda item: item[0])
            return f"{{{', '.join(f'{k}: {self._text(v, above)}' for k, v in items)}}}"
        if isinstance(value, (list, tuple, deque)):
            self._follow(kind)
            if all(type(v) in _NUMBERS for v in value):
                return repr([*value])
            return f"[{', '.join([self._text(v, above) for v in value])}]"
        if isinstance(value, (set, frozenset)):
            return f"{{{', '.join(sorted(self._text(v, above) for v in value))}}}"
        return self._object(value, above)

    def _is_passing(self, value: Any) -> bool:
        """Whether a value is the process's, or is used up or moved on by whoever uses it."""
        kind = type(value)
        if isinstance(value, _PASSING) or any(value is v for v in _of_process()):
            return True
        if is_theirs(kind):
            return isinstance(value, (Mapping, list, set, deque)) and "" in self._stored(kind)
        return hasattr(kind, "__next__")

    def _object(self, value: Any, above: list[int]) -> str:
        kind = type(value)
        self._follow(kind)
        # What torch has for itself holds caches and counters.
        private = kind.__module__.startswith("torch._") and not isinstance(value, torch.nn.Module)
        if private or getattr(value, "nbytes", 0) > _CHEAP:
            return self._type_alone(value)
        state = self.state(value)
        if state is None:
            return self._type_alone(value)
        return f"{qualified(kind)} {self._text(state, above)}"

    def state(self, value: Any) -> Any:
        """What an object is made of: what pickle keeps of it, less what its use stores in it.

        None where there is nothing to be told. Of what is installed, private attributes count as
        caches, unless the class says itself what is kept.
        """
        kind = type(value)
        if isinstance(value, Namespace):
            everything = self._named("vars") or self._named("__dict__")
            return {k: v for k, v in vars(value).items() if everything or self._named(k)}
        if not isinstance(value, torch.nn.Module) and _says_itself(kind):
            pickled = value.__reduce_ex__(4)
            if isinstance(pickled, str):
                return f"{kind.__module__}.{pickled}"
            made, arguments, *rest = pickled
            return [made, arguments, *(_listed(r) for r in rest)]
        fields = {n: getattr(value, n) for n in _slots(kind) if hasattr(value, n)}
        fields |= getattr(value, "__dict__", {})
        if not fields and not hasattr(value, "__dict__") and not _slots(kind):
            return None
        theirs = is_theirs(kind)
        left_out = self._stored(kind) if theirs else frozenset()
        kept: Set[str] = set()
        if isinstance(value, torch.nn.Module):
            fields, kept = _of_module(fields), _TOLD
        return {
            n: v for n, v in fields.items()
            if n not in left_out and not _is_cache(kind, n)
            and (n in kept or not n.startswith("_") or (theirs and self._named(n)))
        }  # fmt: skip

    def _array(self, value: Any) -> str:
        if isinstance(value, np.generic):
            return f"{value.dtype} {value.item()!r}"
        if not self._content or (isinstance(value, torch.nn.Parameter) and value.requires_grad):
            return _shape(value)
        if id(value) not in self._read:
            self._read[id(value)] = value, _array(value)
        return self._read[id(value)][1]

    def _type_alone(self, value: Any) -> str:
        self.untold = True
        name = inspect.getattr_static(value, "__name__", None)
        return f"{qualified(type(value))} {name if isinstance(name, str) else ''}"


def content_of(value: Any, depth: int = 4) -> str | None:
    """Data as text that is the same for equal data; None for anything else.

    Arrays, tensors and datasets of Hugging Face are told by their content up to 100 MB; above, by
    their shape, or the dataset's own fingerprint, in which the times of files are.

    Example:
        >>> content_of({"b": 1, "a": [2.0]}), content_of(len)
        ("{'a': [2.0], 'b': 1}", None)
    """
    if type(value) in _PLAIN or isinstance(value, (str, bytes, np.generic)):
        return repr(value)
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return _array(value)
    if (table := _table(value)) is not None:
        return table
    if depth and isinstance(value, (list, tuple, set, frozenset)):
        parts = [content_of(v, depth - 1) for v in value]
        if None in parts:
            return None
        ordered = isinstance(value, (list, tuple))
        texts = [str(p) for p in parts]
        return f"[{', '.join(texts)}]" if ordered else f"{{{', '.join(sorted(texts))}}}"
    if depth and isinstance(value, Mapping):
        items = [(content_of(k), content_of(v, depth - 1)) for k, v in value.items()]
        if any(None in item for item in items):
            return None
        return f"{{{', '.join(sorted(f'{k}: {v}' for k, v in items))}}}"
    return None


def qualified(thing: Any) -> str:
    """The qualified name of a function or class."""
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", "?")
    return f"{getattr(thing, '__module__', None)}.{name}"


def wrapped_in(value: Any) -> Any:
    """What a decorator's object wraps, such as that of `functools.lru_cache`; None if nothing."""
    inner = inspect.getattr_static(value, "__wrapped__", None)
    return inner if callable(inner) else None


def _of_process() -> tuple[Any, ...]:
    return (os.environ, sys.argv, sys.path, sys.modules)


def _says_itself(kind: type) -> bool:
    """Whether a class says what pickle keeps of it."""
    if kind in copyreg.dispatch_table:
        return True
    return any(getattr(kind, n, None) is not getattr(object, n, None) for n in _PICKLES)


def _listed(part: Any) -> Any:
    """A part of what pickle keeps, its iterators as lists."""
    return part if part is None or not hasattr(part, "__next__") else list(part)


def _slots(kind: type) -> list[str]:
    slots: list[str] = []
    for base in kind.__mro__:
        own = vars(base).get("__slots__", ())
        for name in (own,) if isinstance(own, str) else tuple(own):
            private = name.startswith("__") and not name.endswith("__")
            slots.append(f"_{base.__name__.lstrip('_')}{name}" if private else name)
    return [n for n in slots if n not in ("__dict__", "__weakref__")]


def _is_cache(kind: type, name: str) -> bool:
    """Whether an attribute of an object is what a descriptor of its class has stored there."""
    static = inspect.getattr_static(kind, name, None)
    if isinstance(static, _NO_CACHES):
        return False
    return isinstance(static, functools.cached_property) or hasattr(type(static), "__get__")


def _of_module(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What a module holds, without its mode and the numbers that its hooks have."""
    own = {n: v for n, v in fields.items() if n not in _MODULE}
    if own.get("_parameters"):  # then its buffers are averages over batches, as a rule
        own["_buffers"] = {n: _shape(b) for n, b in own["_buffers"].items()}
    hooks = [list(v.values()) for n, v in fields.items() if n.endswith("_hooks") and v]
    return own | ({"hooks": hooks} if hooks else {})


def _shape(value: Any) -> str:
    return "none" if value is None else f"{value.dtype} {tuple(value.shape)}"


def _array(value: np.ndarray[Any, Any] | torch.Tensor) -> str:
    """An array's type, shape and, where reading it is cheap, content."""
    text = f"{value.dtype} {tuple(value.shape)}"
    if value.nbytes > _CHEAP:
        return text
    if isinstance(value, torch.Tensor):
        if value.layout is not torch.strided or value.is_meta or value.is_quantized:
            return text
        value = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    if value.dtype.hasobject:
        return f"{text} {content_of(value.tolist())}"
    return f"{text} {hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()[:16]}"


def _table(value: Any, content: bool = True) -> str | None:
    """A dataset of Hugging Face as the digest of its rows, or where that is not cheap, its own.

    None for anything else.
    """
    own = inspect.getattr_static(value, "_fingerprint", None)
    if not isinstance(own, str):
        return None
    data = getattr(value, "data", None)
    if not content or data is None or data.nbytes > _CHEAP:
        return f"dataset {own}"
    rows = value.with_format("arrow")[:].combine_chunks().replace_schema_metadata(None)
    digest = hashlib.sha256(str(rows.schema).encode())
    for batch in rows.to_batches():
        digest.update(batch.serialize())
    return f"dataset {value.format['type']} {digest.hexdigest()[:16]}"
