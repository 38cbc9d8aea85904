"""Pickles of arrays, read without running anything that is in them.

A pickle is a program: unpickling one as Python does runs what it names. Here the only names are
those that NumPy's arrays are written with, and none of them is NumPy's own: each stands for a small
class of this file that remembers what it is given, and arrays are made of that afterwards. Every
other name is refused. Old pickles, Python 2's, come with keys in bytes.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

from .files import DataError

__all__ = ["safely_unpickled"]

_KINDS = "biufSU"  # of numbers and of characters: no objects, no records


class _Refused(Exception):
    """What a pickle may not hold."""


class _Dtype:
    """What a pickle says of a dtype: its code, and in its state the order of its bytes."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code, self.order = _text(code), "|"

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])

    def real(self) -> np.dtype[Any]:
        dtype = np.dtype(self.code)
        if dtype.kind not in _KINDS or dtype.fields is not None:
            raise _Refused(f"an array of dtype {self.code!r}")
        return dtype.newbyteorder(self.order)


class _Array:
    """What a pickle says of an array."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def real(self) -> np.ndarray:
        _, shape, dtype, is_fortran, data = self.state
        if isinstance(data, str):  # of Python 2, read as text
            data = data.encode("latin1")
        order = "F" if is_fortran else "C"
        return np.frombuffer(data, dtype.real()).reshape(shape, order=order)  # type: ignore[call-overload]


class _Function:
    """One of the functions that arrays are written with. It has no attributes to set."""

    __slots__ = ()


class _Reconstruct(_Function):
    __slots__ = ()

    def __call__(self, *_: Any) -> _Array:
        return _Array()


class _Scalar(_Function):
    __slots__ = ()

    def __call__(self, dtype: _Dtype, data: Any) -> Any:
        data = data.encode("latin1") if isinstance(data, str) else data
        return np.frombuffer(data, dtype.real())[0].item()


class _Buffer(_Function):
    __slots__ = ()

    def __call__(self, data: Any, dtype: _Dtype, shape: Any, order: Any) -> _Array:
        array = _Array()
        array.state = (1, shape, dtype, _text(order) == "F", bytes(data))
        return array


class _Encode(_Function):
    __slots__ = ()

    def __call__(self, text: str, encoding: Any) -> bytes:
        if _text(encoding) not in ("latin1", "latin-1"):
            raise _Refused(f"the codec {encoding!r}")
        return text.encode("latin1")


class _Empty(_Function):
    """``bytes()``: how empty ones are written in old protocols."""

    __slots__ = ()

    def __call__(self) -> bytes:
        return b""


def _names() -> dict[tuple[str, str], Any]:
    # Made for each pickle anew: what one does to them no other one sees.
    array = type("Array", (_Array,), {})
    dtype = type("Dtype", (_Dtype,), {})
    known: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): array,
        ("numpy", "dtype"): dtype,
        ("_codecs", "encode"): _Encode(),
        ("__builtin__", "bytes"): _Empty(),
    }
    for core in ("numpy.core", "numpy._core"):  # before and since NumPy 2
        known[f"{core}.multiarray", "_reconstruct"] = _Reconstruct()
        known[f"{core}.multiarray", "scalar"] = _Scalar()
        known[f"{core}.numeric", "_frombuffer"] = _Buffer()
    return known


class _Reader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="bytes")
        self._known = _names()

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._known[module, name]
        except KeyError:
            raise _Refused(f"the name {module}.{name}") from None


def safely_unpickled(data: bytes, where: str) -> Any:
    """What a pickle holds: dicts, lists, tuples, text, bytes, numbers and arrays of numbers.

    Args:
        data: the pickle.
        where: it comes from, for messages.

    Returns:
        The same, with keys of dicts in text.

    Raises:
        DataError: if it holds anything else, naming it, or is no pickle.

    Example:
        >>> safely_unpickled(pickle.dumps({b"labels": [1, 2]}, protocol=2), "a file")
        {'labels': [1, 2]}
    """
    try:
        return _real(_Reader(io.BytesIO(data)).load())
    except _Refused as error:
        raise DataError(
            f"{where}: not read, as it holds {error}, expected arrays, lists and numbers alone; "
            "get the official file."
        ) from error
    except Exception as error:  # what a damaged pickle raises is up to where it is damaged
        raise DataError(
            f"{where}: cut off, damaged or no pickle ({type(error).__name__}: {error}); get the "
            "file again."
        ) from error


def _real(value: Any) -> Any:
    if isinstance(value, (_Array, _Dtype)):
        return value.real()
    if isinstance(value, dict):
        return {_text(key): _real(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_real, value))
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    raise _Refused(f"a {type(value).__name__}")


def _text(value: Any) -> Any:
    return value.decode("latin1") if isinstance(value, bytes) else value
