"""The handwritten digits that come with scikit-learn: no file is needed."""

from __future__ import annotations

import torch

from .building import assembled
from .dataset import Dataset, hold_out

__all__ = ["load_digits"]

_TEST = 360  # rows, a fifth: scikit-learn's copy has no official test set
_SPLIT = 0  # seed of their choice, one for all


def load_digits(*, validation: float = 0.1, seed: int = 0) -> Dataset:
    """Digits: 1797 grey images of 8 x 8 pixels in ten classes, from scikit-learn.

    360 rows are the test set, the same ones always, a fifth of each class. Grey levels, which are
    0 to 16, are those times 15.

    Args:
        validation: rows to hold out of the other 1437, or their share.
        seed: of the choice of these rows.

    Example:
        >>> data = load_digits(validation=137)
        >>> len(data.train), len(data.validation), len(data.test), data.train.inputs.shape[1:]
        (1300, 137, 360, torch.Size([1, 8, 8]))
    """
    from sklearn import datasets

    pixels, labels = datasets.load_digits(return_X_y=True)
    images = torch.from_numpy(pixels * 15).to(torch.uint8).view(-1, 1, 8, 8)
    targets = torch.from_numpy(labels).long()
    train, test = hold_out(targets, _TEST, _SPLIT)
    return assembled(
        "digits", (images[train], targets[train]), (images[test], targets[test]),
        tuple(map(str, range(10))), validation=validation, seed=seed, source="scikit-learn",
    )  # fmt: skip
