"""What a training is made of, so that an edited one is not taken for the one that was begun.

A part is a function or class of the user's own, found by following the names that the training
uses; its digest is that of its code without comments, docstrings and layout. Values that it takes
from around it (globals, closures, arguments of `functools.partial`) are parts too, where they are
plain data. What is installed is not followed: its versions are parts.
"""

from __future__ import annotations

import ast
import builtins
import functools
import hashlib
import inspect
import platform
import textwrap
import types
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.utils.data

from ... import __version__
from ...checks import is_number, is_users_own

__all__ = ["content_of", "difference", "mark", "parts_of"]

_PLAIN = (str, bytes, bool, type(None))
_CHEAP = 100_000_000  # bytes of an array whose content is read
# What holds data or functions of the user's and is installed.
_HOLDERS = (torch.utils.data.Dataset, torch.utils.data.DataLoader)


def parts_of(train: Any) -> dict[str, str]:
    """Digests of a training's parts, by name.

    Example:
        >>> def train(lr, weight_decay, seed):
        ...     return lr
        >>> sorted(parts_of(train))
        ['halflife', '...train', 'python', 'torch']
    """
    found: dict[str, str] = {}
    _Walk(found).visit(train)
    return found | {
        "torch": torch.__version__.partition("+")[0],
        "halflife": __version__,
        "python": ".".join(platform.python_version_tuple()[:2]),
    }


def mark(*values: Any) -> str:
    """Short text that is the same for equal data.

    Example:
        >>> mark({"a": 1}) == mark({"a": 1}), mark({"a": 1}) == mark({"a": 2})
        (True, False)
    """
    return _digest(str([content_of(v) or repr(v) for v in values]))


def difference(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Names of the parts that differ, are gone or are new."""
    return sorted(n for n in {*known, *wanted} if known.get(n) != wanted.get(n))


class _Walk:
    def __init__(self, found: dict[str, str]) -> None:
        self._found = found
        # The objects themselves: an identity may be given again when its object is gone.
        self._seen: dict[int, Any] = {}

    def _part(self, name: str, text: str) -> None:
        """Take a digest; of several that have one name, such as lambdas, all count."""
        digest = _digest(text)
        known = self._found.get(name, digest)
        self._found[name] = digest if known == digest else _digest(known + digest)

    def visit(self, value: Any, name: str = "train") -> None:
        """Take a value's digest, and follow what is in it."""
        if (text := content_of(value)) is not None:
            self._part(name, text)
            return
        if id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if isinstance(value, functools.partial):
            self.visit(value.func, name)
            self.each({**dict(enumerate(value.args)), **value.keywords}, name)
        elif isinstance(value, types.MethodType):
            self.visit(value.__func__, name)
            self.visit(value.__self__, name)
        elif isinstance(value, types.FunctionType):
            self.function(value)
        elif isinstance(value, type):
            self.kind(value)
        elif callable(inner := getattr(value, "__wrapped__", None)):  # functools.lru_cache
            self.visit(inner, name)
        elif isinstance(value, Mapping):
            self.each(value, name)
        elif isinstance(value, (list, tuple, set, frozenset)):
            self.each(dict(enumerate(value)), name)
        elif _theirs(type(value)) or isinstance(value, _HOLDERS) or _is_ours(value):
            self.visit(type(value), name)
            for key, held in getattr(value, "__dict__", {}).items():
                self.visit(held, f"{name}.{key}")

    def each(self, values: Mapping[Any, Any], name: str) -> None:
        """Follow what is in a container."""
        for key, value in values.items():
            self.visit(value, f"{name}({key})")

    def function(self, function: types.FunctionType) -> None:
        """Take a function's code and what it uses; of a decorated one, the one inside too."""
        inner = getattr(function, "__wrapped__", None)
        if inner is not None:
            self.visit(inner)
        if not _theirs(function.__code__):
            return
        name = f"{function.__module__}.{function.__qualname__}"
        if inner is not None:  # which has that name
            name += f" ({function.__code__.co_name})"
        self._part(name, _code_text(function.__code__))
        self.names(function.__code__, function.__globals__, name)
        for variable, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            try:
                content = cell.cell_contents
            except ValueError:  # not filled yet
                continue
            if isinstance(content, types.ModuleType):
                self.module(content, function.__code__.co_names)
            elif content is not inner:
                self.visit(content, f"{name}: {variable}")
        self.each(dict(enumerate(function.__defaults__ or ())), f"{name}: default ")
        self.each(function.__kwdefaults__ or {}, f"{name}: default ")

    def kind(self, kind: type) -> None:
        """Take a class's code, that of its bases, and what its methods use."""
        if not _theirs(kind):
            return
        name = f"{kind.__module__}.{kind.__qualname__}"
        self._part(name, _code_text(kind))
        for base in kind.__mro__[1:]:
            self.visit(base)
        for member in vars(kind).values():
            function = getattr(member, "__func__", getattr(member, "fget", member))
            function = inspect.unwrap(function) if callable(function) else function
            if isinstance(function, types.FunctionType):
                self.names(function.__code__, function.__globals__, name)

    def names(self, code: types.CodeType, known: Mapping[str, Any], owner: str) -> None:
        """Follow the global names in some code, and in the code within it."""
        for name in code.co_names:
            if name in known and not hasattr(builtins, name):
                value = known[name]
                if isinstance(value, types.ModuleType):
                    self.module(value, code.co_names)
                else:
                    self.visit(value, f"{owner}: {name}")
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self.names(constant, known, owner)

    def module(self, module: types.ModuleType, used: Sequence[str]) -> None:
        """Take what some code uses of a module of the user's own."""
        if is_users_own(getattr(module, "__file__", None)):
            for attribute in used:
                if attribute in vars(module):
                    self.visit(vars(module)[attribute], f"{module.__name__}.{attribute}")


def content_of(value: Any, depth: int = 4) -> str | None:
    """Data as text that is the same for equal data; None for anything else.

    Arrays, tensors and datasets of Hugging Face are told by their content up to 100 MB; above, by
    their shape, or the dataset's own fingerprint, in which the times of files are.

    Example:
        >>> content_of({"b": 1, "a": [2.0]}), content_of(len)
        ("{'a': [2.0], 'b': 1}", None)
    """
    if isinstance(value, _PLAIN) or is_number(value):
        return repr(value)
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return _array(value)
    if isinstance(own := getattr(value, "_fingerprint", None), str):
        return _table(value) or f"dataset {own}"
    if depth and isinstance(value, (list, tuple)):
        parts = [content_of(v, depth - 1) for v in value]
        return None if None in parts else f"[{', '.join(map(str, parts))}]"
    if depth and isinstance(value, (set, frozenset)):
        parts = [content_of(v, depth - 1) for v in value]
        return None if None in parts else f"{{{', '.join(sorted(map(str, parts)))}}}"
    if depth and isinstance(value, Mapping):
        items = [(content_of(k), content_of(v, depth - 1)) for k, v in value.items()]
        if any(None in item for item in items):
            return None
        return f"{{{', '.join(sorted(f'{k}: {v}' for k, v in items))}}}"
    return None


def _array(value: np.ndarray[Any, Any] | torch.Tensor) -> str | None:
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


def _table(dataset: Any) -> str | None:
    """A dataset of Hugging Face as the digest of its rows; None where reading them is not cheap."""
    data = getattr(dataset, "data", None)
    if data is None or data.nbytes > _CHEAP:
        return None
    rows = dataset.with_format("arrow")[:].combine_chunks().replace_schema_metadata(None)
    digest = hashlib.sha256(str(rows.schema).encode())
    for batch in rows.to_batches():
        digest.update(batch.serialize())
    return f"dataset {dataset.format['type']} {digest.hexdigest()[:16]}"


def _code_text(thing: type | types.CodeType) -> str:
    """Code without comments, docstrings and layout; of what has no source, its instructions.

    Of a lambda too: its source is the whole statement in which it stands.
    """
    if isinstance(thing, types.CodeType) and thing.co_name == "<lambda>":
        return _instructions(thing)
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError):
        return _instructions(thing) if isinstance(thing, types.CodeType) else repr(thing)
    for node in ast.walk(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            node.body[:1] = [] if node.body[1:] else [ast.Pass()]
    return ast.dump(tree)


def _instructions(code: types.CodeType) -> str:
    constants = [
        _instructions(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts
    ]
    return f"{code.co_code.hex()} {constants} {code.co_names} {code.co_varnames}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _is_ours(value: Any) -> bool:
    """Whether it is an object of an adapter, or the like: what it holds is the user's."""
    return type(value).__module__.startswith("halflife.lab.")


def _theirs(thing: Any) -> bool:
    """Whether code is the user's own: neither installed, nor ours, nor Python's."""
    try:
        file = inspect.getsourcefile(thing) or inspect.getfile(thing)
    except (TypeError, OSError):
        # Typed in, or run from text: there is no file.
        return getattr(thing, "__module__", None) == "__main__"
    if file.startswith("<"):
        return True
    return is_users_own(file)
