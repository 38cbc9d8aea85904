"""Files of data sets: where they are, whether they are whole, and what is in an archive.

A data set is looked for below `root`, or without one in ``$HALFLIFE_DATA`` and in the folders that
distributions keep data in. Archives are read and never unpacked; a member is read if it is a
regular file of exactly the name that is expected, so links and names with ``..`` lead nowhere.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

__all__ = [
    "DataError",
    "check_digest",
    "contents",
    "located",
    "members",
    "places",
    "require_official",
]

VARIABLE = "HALFLIFE_DATA"
_CHUNK = 1 << 20
# What reading an archive that is cut off or damaged raises, by where it happens.
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError, OSError)


class DataError(ValueError):
    """A file of a data set is missing, cut off, or not what it should be."""


def places(root: str | os.PathLike[str] | None, below: str = "") -> list[Path]:
    """Folders and files to look at, in this order.

    Args:
        root: the only one, if it is given.
        below: name of the data set's folder in a folder of many.

    Example:
        >>> [place.name for place in places("/data", "cifar10")]
        ['data', 'cifar10']
    """
    if root is not None:
        roots = [Path(root)]
    else:
        named = os.environ.get(VARIABLE)
        roots = [Path(named)] if named else []
        prefixes = dict.fromkeys((sys.prefix, "/usr/local", "/usr"))
        roots += [Path(prefix, "share", "datasets") for prefix in prefixes]
    return [place for r in roots for place in (r, *([r / below] if below else []))]


def located(
    name: str,
    root: str | os.PathLike[str] | None,
    accept: Callable[[Path], Path | None],
    remedy: str,
) -> Path:
    """The first place where a data set is.

    Args:
        name: of the data set, and of its folder in a folder of many.
        root: the only place to look at, if it is given.
        accept: what is read of a place, or None if it is not there.
        remedy: where to get the files and how to name them.

    Raises:
        DataError: if it is in none, with the places.
    """
    looked = places(root, name)
    for place in looked:
        found = accept(place)
        if found is not None:
            return found
    # Which of the system's folders were looked at helps nobody who has given one.
    where = ", ".join(map(str, looked))
    told = "" if root is not None or VARIABLE in os.environ else f" ({VARIABLE} is not set)"
    raise DataError(f"{name}: not found in {where}{told}; {remedy}.")


def check_digest(path: Path, known: Mapping[str, str], verify: bool) -> None:
    """Compare a file with the published one.

    Args:
        path: the file.
        known: MD5, by names of files.
        verify: False: do nothing.

    Raises:
        DataError: if it is another file.
    """
    wanted = known.get(path.name)
    if not verify or wanted is None:
        return
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    found = digest.hexdigest()
    require_official(found == wanted, path, f"MD5 {wanted}", found)


def require_official(ok: bool, where: Path | str, expected: str, found: object) -> None:
    """Raise `DataError` unless what was read is the published data set."""
    if not ok:
        raise DataError(
            f"{where}: expected the official data ({expected}), found {found}; get it again, or "
            "pass verify=False to read a part of it or files of your own."
        )


def contents(path: Path, expected: str, limit: int | None = None) -> bytes:
    """All bytes of a file, unpacked if it ends in ``.gz``.

    Args:
        path: the file.
        expected: what it should be, for messages.
        limit: most bytes that it may have, unpacked: a small file must not fill the memory.

    Raises:
        DataError: if it is missing, empty, cut off or larger.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read() if limit is None else file.read(limit + 1)
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing, expected {expected}; put it there.") from error
    except _DAMAGED as error:
        raise DataError(
            f"{path}: cut off or damaged ({error}), expected {expected}; get the file again."
        ) from error
    if not data:
        raise DataError(f"{path}: empty, expected {expected}; get the file again.")
    if limit is not None and len(data) > limit:
        raise DataError(
            f"{path}: more than {limit} bytes, expected {expected}; give the file that is asked "
            "for."
        )
    return data


def members(
    path: Path,
    folder: str,
    names: Sequence[str],
    expected: str,
    limit: int,
    optional: Sequence[str] = (),
) -> Iterator[tuple[str, bytes]]:
    """Files of a folder, or of that folder in an archive, in the order in which they come.

    Args:
        path: the folder, or a tar archive, packed or not.
        folder: the folder's name in the archive.
        names: of the files that are wanted.
        expected: what one of them should be, for messages.
        limit: most bytes of one.
        optional: names that may be missing.

    Yields:
        Name and bytes, each name once.

    Raises:
        DataError: if one is missing, a link, too large, or the archive is damaged.
    """
    if path.is_dir():
        for name in names:
            yield name, contents(path / name, expected, limit)
        for name in optional:
            if (path / name).is_file():
                yield name, contents(path / name, expected, limit)
        return
    wanted = {f"{folder}/{name}": name for name in (*names, *optional)}
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                whole = member.name.removeprefix("./")
                if whole not in wanted:
                    continue
                where = f"{path}: {member.name}"
                file = archive.extractfile(member) if member.isreg() else None
                if file is None:
                    raise DataError(
                        f"{where} is a link or a folder, expected {expected}; get the official "
                        "archive."
                    )
                if not 0 < member.size <= limit:
                    raise DataError(
                        f"{where} has {member.size} bytes, expected {expected}; get the archive "
                        "again."
                    )
                data = file.read()
                if len(data) != member.size:
                    raise DataError(
                        f"{where} is cut off, expected {expected}; get the archive again."
                    )
                yield wanted.pop(whole), data
                if not wanted:
                    return
    except DataError:
        raise
    except _DAMAGED as error:
        raise DataError(
            f"{path}: cut off, damaged or no tar archive ({error}); get the archive again."
        ) from error
    missing = [whole for whole, name in wanted.items() if name not in optional]
    if missing:
        raise DataError(
            f"{path}: holds no {', '.join(missing)}, expected {expected}; get the archive again."
        )
