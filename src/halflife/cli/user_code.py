"""The user's own code, named on the command line: found, called, and its errors without ours.

Of what it raises, only its own frames are shown: none of ours, nor of installed packages.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from ..checks import in_short, is_users_own, near
from .terminal import Mistake

__all__ = ["Frame", "UserCodeError", "called", "load", "theirs"]

_OURS = str(Path(__file__).resolve().parent.parent) + os.sep


class UserCodeError(Exception):
    """Raised from what the user's own code raised, under the name it was asked for by."""


class Frame(NamedTuple):
    """A line of the user's code on the way to an error."""

    file: str
    line: int
    function: str
    code: str = ""

    def __str__(self) -> str:
        path = Path(self.file)
        with contextlib.suppress(ValueError):
            path = path.relative_to(Path.cwd())
        where = f"  {path}, line {self.line}" + (f", in {self.function}" if self.function else "")
        return f"{where}\n    {self.code}" if self.code else where


def load(target: str, what: str = "function", example: str = "train:build") -> Any:
    """What ``module:name`` names; modules in the current folder are found.

    Raises:
        Mistake: for a target that is none, a module or a name that does not exist.
        UserCodeError: if the module raises when it is imported.
    """
    module, _, name = target.partition(":")
    if not module or not name:
        raise Mistake(f"{target!r}: must name a module and its {what}, as {example} does.")
    if module.endswith(".py") or "/" in module:
        dotted = module.removesuffix(".py").strip("./").replace("/", ".")
        raise Mistake(f"{target!r}: must name a module, not a file; write {dotted}:{name}.")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for the result
            home = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise UserCodeError(_said(target, error)) from error
        here = {path.stem for path in Path.cwd().glob("*.py")}
        raise Mistake(
            f"{target}: No module named {error.name!r} in this folder or installed"
            f"{near(error.name, here)}"
        ) from None
    except (Exception, SystemExit) as error:
        raise UserCodeError(_said(target, error, " when it was imported")) from error
    if not hasattr(home, name):
        known = [key for key in vars(home) if not key.startswith("_")]
        raise Mistake(f"{target}: module {module} has no attribute {name!r}{near(name, known)}")
    return getattr(home, name)


def called(target: str, function: Any) -> Any:
    """What the user's function returns.

    Raises:
        Mistake: for what is no function, or one with arguments.
        UserCodeError: if it raises.
    """
    if not callable(function) or isinstance(function, nn.Module):
        raise Mistake(f"{target}: must be a function, got {type(function).__name__}.")
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise Mistake(f"{target}: must be a function without arguments: {error}.") from None
    except ValueError:  # no signature: written in C
        pass
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return function()
    except (Exception, SystemExit) as error:
        raise UserCodeError(_said(target, error)) from error


def _said(target: str, error: BaseException, when: str = "") -> str:
    if isinstance(error, SystemExit):
        remedy = 'put what runs as a program under if __name__ == "__main__"'
        return f"{target}: ended the program{when} (exit {error.code}); {remedy}."
    return f"{target}: {in_short(error)}"  # type: ignore[arg-type]


def theirs(error: BaseException | None) -> list[Frame]:
    """The user's frames of an error, the last call last: none of ours, nor of packages."""
    if error is None:
        return []
    remote = getattr(error, "trace", None)  # of a training elsewhere: its traceback as text
    if isinstance(remote, str):
        found = re.findall(r'File "(.+)", line (\d+), in (\S+)\n +(.*)', remote)
        stack = [Frame(file, int(line), name, code) for file, line, name, code in found]
    else:
        lines = traceback.extract_tb(error.__traceback__)
        stack = [Frame(s.filename, s.lineno or 0, s.name, s.line or "") for s in lines]
    # What came as text has none of our frames before the user's.
    last = 0 if isinstance(remote, str) else len(stack)
    ours = next((i for i, frame in enumerate(stack) if frame.file.startswith(_OURS)), last)
    frames = [frame for frame in stack[ours:] if is_users_own(frame.file)]
    if isinstance(error, SyntaxError) and error.filename and is_users_own(error.filename):
        frames.append(Frame(error.filename, error.lineno or 0, "", (error.text or "").strip()))
    return frames or (theirs(error.__cause__) if error.__cause__ is not None else [])
