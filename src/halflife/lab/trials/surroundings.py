"""What a training may change of the process it is in, and puts right for the next."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

__all__ = ["alone", "determinism", "kept", "set_determinism"]


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Keep the process's settings, and put back those that have changed.

    They are the folder, the environment, the filters of warnings, and torch's default dtype and
    device, threads, deterministic mode, precision of matrix products and grad mode.
    """
    before = [_read(read) for read, _ in _SETTINGS]
    try:
        yield
    finally:
        for (read, put), value in zip(_SETTINGS, before, strict=True):
            if value is not None and _read(read) != value:
                put(value)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """End a process that the code within forked and did not end.

    It would go on as a second one of those that called, on the same pipes and files.
    """
    began, code = os.getpid(), 0
    try:
        yield
    except BaseException as error:
        if os.getpid() == began:
            raise
        code = _exit_code(error)
    if os.getpid() != began:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _exit_code(error: BaseException) -> int:
    """The code that Python would end with."""
    if not isinstance(error, SystemExit):
        traceback.print_exception(error)
        return 1
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    sys.stderr.write(f"{error.code}\n")
    return 1


def _read(read: Callable[[], Any]) -> Any:
    """A setting; None where it cannot be told, as of one that two interfaces of torch have set."""
    try:
        return read()
    except (OSError, RuntimeError):
        return None


def _folder(path: str) -> None:
    with contextlib.suppress(OSError):  # deleted meanwhile
        os.chdir(path)


def _default_device(device: torch.device) -> None:
    # Set to the CPU it would slow every call down; not set it is the CPU too.
    torch.set_default_device(None if device.type == "cpu" else device)


def determinism() -> tuple[bool, ...]:
    """Torch's modes of algorithms that give the same bits each time, and cuDNN's."""
    cudnn = torch.backends.cudnn
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        cudnn.deterministic,
        cudnn.benchmark,
    )


def set_determinism(mode: tuple[bool, ...]) -> None:
    """Put the modes back, or others."""
    torch.use_deterministic_algorithms(mode[0], warn_only=mode[1])
    with contextlib.suppress(RuntimeError):  # where they may not be set, they were not
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = mode[2:]


def _environment(variables: dict[str, str]) -> None:
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


def _filters() -> tuple[Any, list[Any], Any]:
    return warnings.filters, list(warnings.filters), warnings.showwarning


def _set_filters(known: tuple[Any, list[Any], Any]) -> None:
    whole: Any = warnings
    whole.filters, content, whole.showwarning = known
    whole.filters[:] = content
    with warnings.catch_warnings():  # it takes notice of other filters at its beginning and end
        pass


_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (os.getcwd, _folder),
    (lambda: dict(os.environ), _environment),
    (_filters, _set_filters),
    (np.geterr, lambda known: np.seterr(**known)),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_default_device, _default_device),
    (torch.get_num_threads, torch.set_num_threads),
    (determinism, set_determinism),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.is_grad_enabled, torch.set_grad_enabled),
)
