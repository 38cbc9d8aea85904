"""How a table of bad arguments is written and checked.

A message must say which argument, its value, and what is required or what to do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

NAN, INF = math.nan, math.inf
_REQUIREMENT = re.compile(
    r"must|should|raise |needed|leave it out|needs?\b|pass|Invalid|unknown|use|give|keep|lower"
    r"|choose|did you mean|requires"
    r"|several meanings|not supported|is not an",
)


@dataclass(frozen=True)
class Row:
    """One argument of one call."""

    what: str  # where: shown in the test's name
    call: Callable[[Any], Any]  # with the argument
    name: str  # as the message has it, a regular expression
    error: type[Exception]
    values: tuple[Any, ...]


def cases(rows: list[Row]) -> Iterator[Any]:
    for row in rows:
        for value in row.values:
            label = f"{row.what}={value!r}"[:70]
            yield pytest.param(row.call, row.name, row.error, value, id=label)


def spellings(value: Any) -> set[str]:
    """How a message may write a value; that of a list may be its elements'."""
    found = {repr(value), str(value)}
    if isinstance(value, (list, tuple)):
        found |= {repr(v) for v in value} | {repr(tuple(value))}
    if isinstance(value, dict):
        found |= {repr(v) for inner in value.values() for v in dict(inner).values()}
        found |= {repr(key) for key in value}
    if isinstance(value, int) and not isinstance(value, bool):
        found.add(str(float(value)))
    if isinstance(value, type):
        found.add(value.__name__)
    return found | {type(value).__name__}


def check(call: Callable[[Any], Any], name: str, error: type[Exception], value: Any) -> None:
    with pytest.raises(error) as caught:
        call(value)
    assert type(caught.value) is error
    message = str(caught.value)
    assert re.search(name, message), message
    assert any(text in message for text in spellings(value)), message
    assert _REQUIREMENT.search(message), message
    assert "\n" not in message
