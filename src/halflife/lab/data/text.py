"""Text as tokens: characters or words, numbered by what the training part holds.

A token that the training part has not, or that a limit leaves out, is ``<unk>``; words' lines end
with ``<eos>``, as in Zaremba et al. 2014. Tokens are kept in 16 bits where these are enough: a
corpus of 100 million words is 200 MB, and is never held as text.
"""

from __future__ import annotations

import hashlib
import io
import os
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...checks import require, require_count
from .dataset import Dataset, Split
from .files import DataError, check_digest, contents, located, members, require_official

__all__ = ["Vocabulary", "load_ptb", "load_text", "unigram_entropy"]

EOS, UNKNOWN = "<eos>", "<unk>"
_LEVELS = ("char", "word")
_SMALL = 1 << 16
_PTB = {
    "ptb.train.txt": "f26c4b92c5fdc7b3f8c7cdcb991d8420",
    "ptb.valid.txt": "aa0affc06ff7c36e977d7cd49e3839bf",
    "ptb.test.txt": "8b80168b89c18661a38ef683c0dc3721",
}
_PTB_FOLDER, _PTB_ARCHIVE = "simple-examples/data", "simple-examples.tgz"
_PTB_LIMIT = 1 << 24


@dataclass(frozen=True)
class Vocabulary:
    """Which token is which number.

    Args:
        tokens: by their numbers.
        level: ``"char"`` or ``"word"``.

    Example:
        >>> letters = Vocabulary(("a", "b", "<unk>"), "char")
        >>> letters.encode("abc").tolist(), letters.decode([1, 0])
        ([0, 1, 2], 'ba')
    """

    tokens: tuple[str, ...]
    level: str
    numbers: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        numbers = {token: number for number, token in enumerate(self.tokens)}
        object.__setattr__(self, "numbers", numbers)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def unknown(self) -> int:
        """The number of what is not in it."""
        return self.numbers[UNKNOWN]

    def encode(self, text: str) -> Tensor:
        """Numbers of the tokens of a text, int64 ``[length]``."""
        tokens: Iterable[str] = text if self.level == "char" else _words(io.StringIO(text))
        return torch.tensor([self.numbers.get(t, self.unknown) for t in tokens], dtype=torch.int64)

    def decode(self, tokens: Sequence[int] | Tensor) -> str:
        """The text that some tokens are."""
        between = "" if self.level == "char" else " "
        return between.join(self.tokens[int(t)] for t in tokens)


def load_text(
    root: str | os.PathLike[str],
    *,
    level: str = "char",
    validation: float = 0.1,
    test: float = 0.1,
    limit: int | None = None,
) -> Dataset:
    """Any text: its first part to train on, the next for validation, the last for testing.

    Args:
        root: a file in UTF-8, packed (``.gz``) or not.
        level: ``"char"``, or ``"word"``: what blanks separate, and an ``<eos>`` for each line.
        validation: share of its tokens.
        test: share of its tokens.
        limit: tokens of the vocabulary, the most frequent ones; default: all of the training part.

    Raises:
        DataError: if the file is missing, empty or no text.
        ValueError: for shares that leave nothing to train on.
    """
    _check_level(level)
    require(min(validation, test) >= 0 and 0 < validation + test < 1, "validation, test",
            "shares, not both 0, that leave some text to train on", (validation, test),
            "pass 0.1 and 0.1")  # fmt: skip
    path = Path(root)
    data = contents(path, "a text in UTF-8")
    numbered, names = _numbered(data, str(path), level, {})
    del data
    length = len(numbered)
    ends = [0, round(length * (1 - validation - test)), length - round(length * test), length]
    parts = [numbered[a:b] for a, b in pairwise(ends)]
    if not len(parts[0]):
        raise DataError(f"{path}: expected more than {length} tokens; give a longer text.")
    return _dataset("text", parts, names, level, limit, str(path))


def load_ptb(
    root: str | os.PathLike[str] | None = None, *, level: str = "word", verify: bool = True
) -> Dataset:
    """Penn Treebank as Mikolov et al. prepared it (2010): 10,000 words.

    929,589 training, 73,760 validation and 82,430 test tokens with the ends of lines.

    Args:
        root: the folder of ``ptb.train.txt``, ``ptb.valid.txt`` and ``ptb.test.txt``, or
            ``simple-examples.tgz`` or what it unpacks to. Default: ``$HALFLIFE_DATA``.
        level: ``"word"`` or ``"char"``.
        verify: compare with the official files.

    Raises:
        DataError: if the files are missing, cut off or others.
    """
    _check_level(level)
    path = located(
        "ptb", root, _ptb_path, "put ptb.train.txt, ptb.valid.txt and ptb.test.txt there"
    )
    known: dict[str, int] = {}
    parts: dict[str, np.ndarray] = {}
    names: list[str] = []
    for name, data in members(path, _PTB_FOLDER, list(_PTB), "a file of Penn Treebank", _PTB_LIMIT):
        where = path / name
        if path.is_dir():
            check_digest(where, _PTB, verify)
        elif verify:
            _check_bytes(data, f"{path}: {name}", _PTB[name])
        parts[name], names = _numbered(data, str(where), level, known)
    ordered = [parts[name] for name in _PTB]
    return _dataset("ptb", ordered, names, level, None, str(path))


def unigram_entropy(tokens: Tensor) -> float:
    """Entropy of the tokens' frequencies, in nats: what a model that knows no context can reach.

    Args:
        tokens: of one part, ``[length]``.

    Example:
        >>> import math
        >>> round(unigram_entropy(torch.tensor([0, 1, 2, 3])) / math.log(2), 12)
        2.0
    """
    counts = torch.bincount(tokens.to(torch.int64)).double()
    share = counts[counts > 0] / counts.sum()
    return float(-(share * share.log()).sum())


def _check_level(level: str) -> None:
    require(level in _LEVELS, "level", "'char' or 'word'", level, "say what a token is")


def _check_bytes(data: bytes, where: str, wanted: str) -> None:
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    require_official(found == wanted, where, f"MD5 {wanted}", found)


def _ptb_path(place: Path) -> Path | None:
    if place.is_file():
        return place
    for path in (place, place / _PTB_FOLDER, place / "data"):
        if (path / "ptb.train.txt").is_file():
            return path
    archive = place / _PTB_ARCHIVE
    return archive if archive.is_file() else None


def _words(lines: Iterable[str]) -> Iterable[str]:
    for line in lines:
        yield from line.split()
        yield EOS


def _numbered(
    data: bytes, where: str, level: str, known: dict[str, int]
) -> tuple[np.ndarray, list[str]]:
    """Tokens by the order in which they first came, and their names in that order.

    Args:
        data: the text.
        where: it comes from, for messages.
        level: of its tokens.
        known: those of texts before this one; it grows.

    Raises:
        DataError: if it is no text, or empty.
    """
    # Line by line, so that no more than a line of it is held as Python's strings.
    lines = io.TextIOWrapper(io.BytesIO(data), "utf-8", newline="" if level == "char" else None)
    found = array("i")
    try:
        for line in lines:
            tokens = line if level == "char" else _words([line])
            found.extend([known.setdefault(token, len(known)) for token in tokens])
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: expected a text in UTF-8, found byte 0x{error.object[error.start]:02x}, "
            "which is none; give a text, converted to UTF-8."
        ) from error
    if not found:
        raise DataError(f"{where}: expected a text, found no tokens in it; give another file.")
    return np.frombuffer(found, np.int32), list(known)


def _dataset(
    name: str,
    parts: Sequence[np.ndarray],
    names: list[str],
    level: str,
    limit: int | None,
    source: str,
) -> Dataset:
    if limit is not None:
        require_count("limit", limit, "pass None for all tokens", minimum=2)
    counts = np.bincount(parts[0], minlength=len(names))  # of the training part, and of no other
    order = sorted(np.flatnonzero(counts).tolist(), key=lambda n: (-counts[n], names[n]))
    if limit is not None:
        without = [n for n in order if names[n] != UNKNOWN]
        order = [n for n in order if names[n] == UNKNOWN or n in set(without[: limit - 1])]
    tokens = [names[n] for n in order]
    if UNKNOWN not in tokens:
        tokens.append(UNKNOWN)
    vocabulary = Vocabulary(tuple(tokens), level)
    kind = np.uint16 if len(vocabulary) <= _SMALL else np.int32
    table = np.full(len(names), vocabulary.unknown, kind)
    table[order] = np.arange(len(order), dtype=kind)
    splits = []
    for part in parts:
        numbers = torch.from_numpy(table[part])
        splits.append(Split(numbers, numbers))
    train, held, test = splits
    return Dataset(name, train, held if len(held) else None, test, vocabulary.tokens, source,
                   vocabulary)  # fmt: skip
