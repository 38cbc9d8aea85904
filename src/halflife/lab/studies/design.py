"""A study as it is registered: a file of claims, written and committed before anything is run.

`designs/` has one TOML file a study. Its SHA-256 is the first thing that a study's ledger holds,
and a ledger that another file began is refused: what was predicted cannot be bent to what was
found.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...checks import near, require_nonnegative

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["BUDGETS", "KINDS", "Claim", "Design", "DesignError", "designs", "read_design"]

KINDS = ("above", "below", "equivalent", "exact")
BUDGETS = ("minutes", "hours", "paper")
_WORDS = ("name", "title", "source", "published", "small", "confounds", "cannot_say")


class DesignError(ValueError):
    """A design that cannot be registered."""


@dataclass(frozen=True)
class Claim:
    """One statement with one primary endpoint.

    Args:
        name: of the endpoint within its study.
        words: the claim as people repeat it.
        statement: what must be measured for it to hold.
        kind: ``"above"`` or ``"below"`` 0, ``"equivalent"`` to 0, or ``"exact"``.
        effect: the smallest effect of interest; the margin of an equivalence; the tolerance of an
            exact statement.
        unit: of the endpoint.
        published: the figure that the paper gives of this claim; empty where there is none.
        matched: further endpoints, at which the rules are compared with something else held equal.
        floor: least standard deviation of a value, such as that of a share of so many test rows.
        exploratory: whether it is told without being a primary: no correction, no weight.
        reading: whether it goes beyond what the paper says, as people read it.
        null: what the claim is asked of that must not replicate it.
        planted: what is asked that must.

    Raises:
        DesignError: for a kind that is none, or a size that is negative or no number.
    """

    name: str
    words: str = ""
    statement: str = ""
    kind: str = "above"
    effect: float = 0.0
    unit: str = ""
    published: str = ""
    matched: tuple[str, ...] = ()
    floor: float = 0.0
    exploratory: bool = False
    reading: bool = False
    null: str = ""
    planted: str = ""

    @property
    def label(self) -> str:
        """What to know of its standing; empty for a primary claim of the source."""
        if self.reading:
            return "a reading that goes beyond the source"
        return "exploratory" if self.exploratory else ""

    def __post_init__(self) -> None:
        """Refuse what cannot be judged."""
        if self.kind not in KINDS:
            raise DesignError(f"{self.name}: kind={self.kind!r}: must be one of {', '.join(KINDS)}"
                              f"{near(self.kind, KINDS)}")  # fmt: skip
        try:
            require_nonnegative(
                f"{self.name}: effect", self.effect, "pass the smallest of interest"
            )
            require_nonnegative(f"{self.name}: floor", self.floor, "pass 0 for none")
        except ValueError as error:
            raise DesignError(str(error)) from None


@dataclass(frozen=True)
class Design:
    """A study as its file has it.

    Args:
        name: ``paper/item``.
        title: one line.
        rows: of the table of everything that the papers have (docs/studies.md).
        source: where the paper has it.
        published: what the paper shows, in figures.
        small: what is trained or computed here, in words.
        confounds: what else could make the endpoint what it is.
        cannot_say: what does not follow from it.
        claims: what is judged.
        minutes: settings of the small configuration.
        hours: those that are others in the larger one.
        recipes: the paper's own configurations, by name (`halflife.lab.recipes`).
        data: what must be on the machine: a data set of `halflife.lab.data`; empty for none.
        sha256: of the file.
    """

    name: str
    title: str
    source: str
    published: str
    small: str
    confounds: str
    cannot_say: str
    claims: tuple[Claim, ...]
    rows: tuple[int, ...] = ()
    minutes: Mapping[str, Any] = field(default_factory=dict)
    hours: Mapping[str, Any] = field(default_factory=dict)
    recipes: tuple[str, ...] = ()
    data: str = ""
    sha256: str = ""

    def settings(self, budget: str) -> dict[str, Any]:
        """What is trained at a budget.

        Raises:
            ValueError: for one that has no settings of its own.
        """
        if budget not in ("minutes", "hours"):
            raise ValueError(f"budget={budget!r}: must be minutes or hours; the paper's own "
                             "configurations are recipes.")  # fmt: skip
        return {**self.minutes, **(self.hours if budget == "hours" else {})}

    @property
    def exact(self) -> bool:
        """Whether no claim of it has any noise."""
        return all(claim.kind == "exact" for claim in self.claims)

    @property
    def paper(self) -> str:
        """The paper's number, or ``"practice"``."""
        return self.name.partition("/")[0]

    @property
    def slug(self) -> str:
        """The name as a file has it."""
        return self.name.replace("/", "-")


def read_design(text: str, where: str = "design") -> Design:
    """The study that a TOML text registers.

    Raises:
        DesignError: if it lacks something, or has what is not known.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DesignError(f"{where}: is no TOML: {error}") from error
    if missing := [word for word in _WORDS if not str(content.get(word, "")).strip()]:
        raise DesignError(f"{where}: says nothing of {', '.join(missing)}")
    claims = []
    for each in content.pop("claims", []):
        given = {**each, "matched": tuple(each.get("matched", ()))}
        try:
            claim = Claim(**given)
        except TypeError as error:
            raise DesignError(f"{where}: a claim: {error}") from error
        lacking = [
            word for word in ("words", "statement", "unit", "null") if not getattr(claim, word)
        ]
        if claim.kind != "exact" and not claim.planted:
            lacking.append("planted")
        if lacking:
            raise DesignError(f"{where}: claim {claim.name!r} says nothing of {', '.join(lacking)}")
        claims.append(claim)
    if not claims:
        raise DesignError(f"{where}: has no [[claims]]")
    if doubled := {c.name for c in claims if sum(c.name == d.name for d in claims) > 1}:
        raise DesignError(f"{where}: has two claims named {', '.join(sorted(doubled))}")
    for key in ("rows", "recipes"):
        content[key] = tuple(content.get(key, ()))
    try:
        return Design(
            claims=tuple(claims), sha256=hashlib.sha256(text.encode()).hexdigest(), **content
        )
    except TypeError as error:
        raise DesignError(f"{where}: {error}") from error


@functools.cache
def designs() -> dict[str, Design]:
    """Every registered design, by name, in the order of the names."""
    folder = importlib.resources.files(__package__) / "designs"
    files = sorted(
        (f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: _order(f.name)
    )
    found = {}
    for file in files:
        design = read_design(file.read_text(encoding="utf-8"), file.name)
        if file.name != f"{design.slug}.toml":
            raise DesignError(f"{file.name}: registers {design.name!r}; name it {design.slug}.toml")
        found[design.name] = design
    return found


def _order(name: str) -> tuple[Any, ...]:
    """Numbers within a name by their value: figure-9 before figure-10."""
    parts: list[tuple[int, Any]] = []
    for word in name.removesuffix(".toml").split("-"):
        parts.append((0, int(word)) if word.isdigit() else (1, word))
    return tuple(parts)
