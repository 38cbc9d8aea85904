"""What went wrong, in the command line's language: flags for arguments, no frames of ours.

The library says ``weight_decay=-1.0: must be a number >= 0``; here that is ``--weight-decay -1.0:
must be a number >= 0``. Of what the user's own code raises, its own frames are shown.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import typer

from ..checks import in_short
from .terminal import Mistake, errors
from .user_code import Frame, UserCodeError, theirs

__all__ = ["explained", "extra", "flags_of", "in_flags", "spoken"]

Flags = Mapping[str, str]

_CALLS = ("transfer", "convert", "recommend")
_VALUE = r"\((?P<tuple>[^()]*)\)|'(?P<text>[^']*)'|(?P<plain>[^\s,;:()'\"]*[^\s,;:()'\".])"


def explained(command: Callable[..., None]) -> Callable[..., None]:
    """The command, its errors said in one line, and no traceback of ours."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        with _this_folder():
            try:
                command(*args, **kwargs)
            except (typer.Exit, typer.Abort):
                raise
            except Mistake as error:
                _end(str(error), theirs(error.__cause__))
            except UserCodeError as error:
                _end(str(error), theirs(error.__cause__))
            except ValueError as error:
                _end(in_flags(str(error), flags_of(command)), theirs(error))
            except Exception as error:
                if not (frames := theirs(error)):
                    raise  # our own mistake
                _end(in_short(error), frames)

    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    # Of prose, the terminal breaks the lines; what is indented is to be copied.
    run.__doc__ = "\n\n".join(p if p[:1] == " " else p.replace("\n", " ") for p in paragraphs)
    return run


def _end(message: str, frames: list[Frame] | None = None) -> NoReturn:
    errors.print("[red]Error:[/red] ", end="")
    errors.print(message, markup=False, soft_wrap=True, highlight=False)
    for frame in frames or []:
        errors.print(str(frame), markup=False, soft_wrap=True, highlight=False)
    raise typer.Exit(2) from None


@contextlib.contextmanager
def _this_folder() -> Iterator[None]:
    """Modules in the current folder are found, as ``python -m halflife`` finds them."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


@contextlib.contextmanager
def extra(name: str, command: str) -> Iterator[None]:
    """Name the extra that brings what is imported inside, if it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "halflife").partition(".")[0]
        if package == "halflife":
            raise
        raise Mistake(
            f"halflife {command} needs {package}, which is not installed: "
            f'pip install "torch-halflife[{name}]"'
        ) from None


# --- the language ---------------------------------------------------------------------------------


def flags_of(command: Callable[..., Any]) -> dict[str, str]:
    """How each argument is written: by its name in Python, a text with a place for its value.

    What the library calls by another name, the command says in an attribute ``spoken``.
    """
    flags = {}
    # Not by typing.get_type_hints, which before Python 3.11 hides what has None for a default.
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        for about in getattr(parameter.annotation, "__metadata__", ()):
            declared = (getattr(about, "default", None), *(getattr(about, "param_decls", ()) or ()))
            long = [text for text in declared if isinstance(text, str) and text.startswith("--")]
            argument = type(about).__name__ == "ArgumentInfo"
            shown = (about.metavar or name.upper()) if argument else f"--{name.replace('_', '-')}"
            flags[name] = f"{long[0].partition('/')[0] if long else shown} {{}}"
    return flags | getattr(command, "spoken", {})


def spoken(**names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """How a command writes what the library calls by these names."""

    def mark(command: Callable[..., None]) -> Callable[..., None]:
        vars(command)["spoken"] = names
        return command

    return mark


def in_flags(text: str, flags: Flags) -> str:
    """An error of the library as the command line says it.

    Example:
        >>> in_flags("lr=-1.0: must be positive; pass batch=(256, 1024) or steps=.",
        ...          {"lr": "--lr {}", "batch": "--batch {} {}", "steps": "--steps {}"})
        '--lr -1.0: must be positive; pass --batch 256 1024 or --steps.'
    """
    text = re.sub(r"^(audit|describe|transfer|convert|recommend): ", "", text)
    text = _calls_as_commands(text, flags)
    names = "|".join(sorted(map(re.escape, flags), key=len, reverse=True))

    def write(match: re.Match[str]) -> str:
        value = match["tuple"] or match["text"] or match["plain"] or ""
        words = re.split(r",\s*", value) if match["tuple"] else [value]
        return _written(flags[match["name"]], [] if value in ("", "None") else words)

    text = re.sub(rf"(?<![\w.-])(?P<name>{names})=(?:{_VALUE})?", write, text)
    head = re.match(rf"({names})(?=:| must be | holds )", text)
    return _written(flags[head[1]], []) + text[head.end() :] if head else text


def _written(form: str, values: list[str]) -> str:
    shown = [value.strip().strip("'\"") for value in values]
    if form.count("{}") == 0 and shown == ["True"]:
        return form  # a flag, which takes no value
    if form.count("{}") == len(shown):
        return form.format(*shown)
    return " ".join([form.partition(" ")[0], *shown])


def _calls_as_commands(text: str, flags: Flags) -> str:
    """Calls that a message recommends, as commands."""
    found = re.search(rf"(?:call )?\b({'|'.join(_CALLS)})\(", text)
    if not found:
        return text
    depth, end = 1, found.end()
    while depth and end < len(text):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        end += 1
    call = ast.parse(text[found.start(1) : end], mode="eval").body
    assert isinstance(call, ast.Call)
    words = ["run halflife", found[1], *(str(ast.literal_eval(a)) for a in call.args)]
    for keyword in call.keywords:
        value = ast.literal_eval(keyword.value)
        several = value if isinstance(value, tuple) else (value,)
        words.append(_written(flags[str(keyword.arg)], [str(v) for v in several]))
    return f"{text[: found.start()]}{' '.join(words)}{text[end:]}"
