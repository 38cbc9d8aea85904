"""Pictures that stay in their files until a batch wants them: ImageNet is never held.

Names are kept as one string of bytes, 30 MB for ImageNet's 1.3 million: as many Python strings
would be copied into every worker once their reference counts are touched.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..adapters.asking import needed
from .boxes import Boxed
from .files import DataError

__all__ = ["ENDINGS", "HubPictures", "PictureFiles", "Pictures"]

ENDINGS = (".jpeg", ".jpg", ".png", ".ppm", ".bmp", ".webp")


class Pictures(ABC):
    """Pictures of any size, opened one by one."""

    @abstractmethod
    def __len__(self) -> int:
        """How many."""

    @abstractmethod
    def opened(self, row: int) -> Any:
        """One picture, as Pillow has it, in red, green and blue."""

    def some(self, rows: Tensor) -> Pictures:
        """Those of these numbers."""
        return _SomePictures(self, rows)

    def cut(self, rows: Tensor, boxed: Boxed, uniform: Tensor) -> Tensor:
        """The boxes of some pictures, brought to one size.

        Args:
            rows: their numbers.
            boxed: how a box is chosen.
            uniform: its numbers, ``[len(rows), boxed.draws]``.

        Returns:
            uint8 ``[len(rows), 3, size, size]``.
        """
        size = boxed.size
        found = torch.empty(len(rows), 3, size, size, dtype=torch.uint8)
        for place, row in enumerate(rows.tolist()):
            picture = self.opened(row)
            sizes = torch.tensor([[picture.height, picture.width]])
            box = boxed.boxes(sizes, uniform[place : place + 1])[0].tolist()
            array = np.asarray(_cut(picture, box, size, boxed.beyond))
            found[place] = torch.from_numpy(array.copy()).permute(2, 0, 1)
        flipped = boxed.flipped(uniform)
        if flipped is None:
            return found
        return torch.where(flipped[:, None, None, None], found.flip(3), found)


class PictureFiles(Pictures):
    """Picture files below one folder.

    Args:
        root: the folder.
        names: of the files, relative to it.
    """

    def __init__(self, root: Path, names: Iterable[str]) -> None:
        self.root = root
        encoded = [os.fsencode(name) for name in names]
        self._ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)
        self._names = b"".join(encoded)

    def __len__(self) -> int:
        return len(self._ends)

    def path(self, row: int) -> Path:
        """Where a picture is."""
        start = self._ends[row - 1] if row else 0
        return self.root / os.fsdecode(self._names[start : self._ends[row]])

    def opened(self, row: int) -> Any:
        """One picture, as Pillow has it, in red, green and blue.

        Raises:
            DataError: if it is missing, cut off or no picture.
        """
        images = needed("PIL.Image", "images", "Reading pictures")
        path = self.path(row)
        try:
            with images.open(path) as picture:
                return picture.convert("RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(
                f"{path}: cannot be read as a picture ({error}); unpack the archive again."
            ) from error


class HubPictures(Pictures):
    """Pictures of a data set of Hugging Face, decoded when they are asked for.

    Args:
        rows: the data set.
        column: of the pictures.
    """

    def __init__(self, rows: Any, column: str) -> None:
        self.rows, self.column = rows, column

    def __len__(self) -> int:
        return len(self.rows)

    def opened(self, row: int) -> Any:
        """One picture, as Pillow has it, in red, green and blue."""
        return self.rows[row][self.column].convert("RGB")


class _SomePictures(Pictures):
    def __init__(self, pictures: Pictures, rows: Tensor) -> None:
        self.pictures, self.rows = pictures, rows.numpy()

    def __len__(self) -> int:
        return len(self.rows)

    def opened(self, row: int) -> Any:
        return self.pictures.opened(int(self.rows[row]))


def _cut(picture: Any, box: list[float], size: int, beyond: bool) -> Any:
    """The box of a picture, brought to one size."""
    images = needed("PIL.Image", "images", "Reading pictures")
    left, top, width, height = box
    right, bottom = min(left + width, picture.width), min(top + height, picture.height)
    left, top = max(left, 0.0), max(top, 0.0)  # rounding may leave the box a hair outside
    inside = left, top, right, bottom
    if not beyond:
        edges = int(left), int(top), math.ceil(right), math.ceil(bottom)
        inside = left - edges[0], top - edges[1], right - edges[0], bottom - edges[1]
        picture = picture.crop(edges)
    return picture.resize((size, size), images.Resampling.BILINEAR, box=inside)
