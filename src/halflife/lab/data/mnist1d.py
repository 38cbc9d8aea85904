"""MNIST-1D: ten short signals, stretched, shifted and noisy (Greydanus & Kobak 2024).

Made here by the published recipe, with the published random numbers in the order in which it draws
them, so that seed 42 gives the data set that its authors distribute. Each signal is

    pad 12 points by 36 to 60 zeros;  resample to 72;  times 1 +- 0.2;  shift by up to 47 points
    zeros become smooth noise (0.25, smoothed over 2 points);  plus noise of 0.02
    minus a ramp of slope up to 0.375;  resample to 40

and all of them together get mean 0 and standard deviation 1.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from .building import assembled, checked_targets
from .dataset import Dataset
from .files import DataError, contents, located
from .unpickling import safely_unpickled

__all__ = ["load_mnist1d", "make_mnist1d"]

_FILE = "mnist1d_data.pkl"
_LIMIT = 1 << 28
# The ten digits as curves, by the paper's figure 2.
_DIGITS = """
    5 6 6.5 6.75 7 7 7 7 6.75 6.5 6 5
    5 3 3 3.4 3.8 4.2 4.6 5 5.4 5.8 5 5
    5 6 6.5 6.5 6 5.25 4.75 4 3.5 3.5 4 5
    5 6 6.5 6.5 6 5 5 6 6.5 6.5 6 5
    5 4.4 3.8 3.2 2.6 2.6 5 5 5 5 5 5
    5 3 3 3 3 5 6 6.5 6.5 6 4.5 5
    5 4 3.5 3.25 3 3 3 3 3.25 3.5 4 5
    5 7 7 6.6 6.2 5.8 5.4 5 4.6 4.2 5 5
    5 4 3.5 3.5 4 5 5 4 3.5 3.5 4 5
    5 4 3.5 3.5 4 5 5 5 5 4.7 4.3 5
"""
_PADDING = (36, 60)
_SHIFT = 48
_LONG = 12 + _PADDING[1]
_SHORT = 40


def make_mnist1d(
    samples: int = 5000, seed: int = 42
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Signals and digits to train on, and those to test on, four to one.

    Args:
        samples: of all; 5000 in the published data set.
        seed: of everything; 42 there.

    Returns:
        Signals ``[rows, 40]``, float64, and digits ``[rows]``, of each part.

    Example:
        >>> (x, y), (x_test, y_test) = make_mnist1d(100)
        >>> x.shape, x_test.shape
        ((80, 40), (20, 40))
    """
    from scipy.ndimage import gaussian_filter1d

    draws = np.random.RandomState(seed)  # the recipe's own, which never changes
    each = samples // 10
    rows = each * 10
    signals = np.empty((rows, _LONG))
    smooth, rough = np.empty((rows, _LONG)), np.empty((rows, _LONG))
    slope = np.empty(rows)
    places = np.linspace(0, 1, _LONG)
    for row, digit in enumerate(np.repeat(_templates(), each, axis=0)):
        zeros = _PADDING[0] + int(draws.rand() * (_PADDING[1] - _PADDING[0] + 1))
        padded = np.concatenate([digit + 1e-8, np.zeros(zeros)])  # a 0 of a digit is no padding
        stretched = np.interp(places, np.linspace(0, 1, len(padded)), padded)
        stretched *= 1 + 0.4 * (draws.rand() - 0.5)
        signals[row] = np.roll(stretched, draws.choice(_SHIFT))
        smooth[row], rough[row] = draws.randn(_LONG), draws.randn(_LONG)
        slope[row] = 0.75 * (draws.rand() - 0.5)
    smooth = gaussian_filter1d(0.25 * smooth, 2)
    signals = np.where(signals != 0, signals, smooth) + 0.02 * rough
    signals -= slope[:, None] * np.linspace(-0.5, 0.5, _LONG)
    targets_in = np.linspace(0, 1, _SHORT)
    short = np.stack([np.interp(targets_in, places, signal) for signal in signals])
    order = draws.permutation(rows)
    digits = np.repeat(np.arange(10), each)[order]
    short = short[order]
    short = (short - short.mean()) / short.std()
    cut = int(rows * 0.8)
    return (short[:cut], digits[:cut]), (short[cut:], digits[cut:])


def load_mnist1d(
    root: str | os.PathLike[str] | None = None,
    *,
    validation: float = 0.1,
    seed: int = 0,
    verify: bool = True,
) -> Dataset:
    """MNIST-1D: 4000 and 1000 signals of 40 points in ten classes.

    Args:
        root: ``mnist1d_data.pkl`` as its authors distribute it, or its folder. Default: it is made,
            as they made it (about a second).
        validation: rows to hold out of the 4000, or their share.
        seed: of the choice of these rows, not of the signals.
        verify: require the published numbers of signals.

    Returns:
        Signals are float32 ``[rows, 40]``, of mean 0 and variance 1 as they are.

    Raises:
        DataError: if the file is missing, cut off or another one.
    """
    if root is None:
        (x, y), (x_test, y_test) = make_mnist1d()
        source = "made by its published recipe, seed 42"
    else:
        path = located("mnist1d", root, _accept, f"put {_FILE} there, or pass no root to make it")
        source = str(path)
        found = safely_unpickled(contents(path, "a pickle of MNIST-1D", _LIMIT), source)
        x, y, x_test, y_test = _checked(found, source)
        if verify and (len(x), len(x_test)) != (4000, 1000):
            raise DataError(
                f"{source}: expected 4000 and 1000 signals, found {len(x)} and {len(x_test)}; get "
                "the file again, or pass verify=False."
            )
    train, test = (
        (torch.from_numpy(np.array(a, np.float32)), checked_targets(b, len(a), 10, source))
        for a, b in ((x, y), (x_test, y_test))
    )
    return assembled(
        "mnist1d", train, test, tuple(map(str, range(10))),
        validation=validation, seed=seed, source=source,
    )  # fmt: skip


def _accept(place: Path) -> Path | None:
    path = place if place.is_file() else place / _FILE
    return path if path.is_file() else None


def _checked(found: object, where: str) -> list[np.ndarray]:
    keys = ("x", "y", "x_test", "y_test")
    if not isinstance(found, dict) or not all(isinstance(found.get(k), np.ndarray) for k in keys):
        raise DataError(
            f"{where}: expected a dict of arrays {', '.join(keys)}, found something else; get the "
            "file again."
        )
    for key in ("x", "x_test"):
        if found[key].ndim != 2 or found[key].shape[1] != _SHORT:
            raise DataError(
                f"{where}: expected {key!r} of [rows, {_SHORT}], found {found[key].shape}; get the "
                "file again."
            )
    return [found[key] for key in keys]


def _templates() -> np.ndarray:
    """The digits, of mean 0 and variance 1 each, then moved to begin at 0, and a sixth as high."""
    curves = np.array([line.split() for line in _DIGITS.strip().splitlines()], dtype=np.float64)
    curves -= curves.mean(1, keepdims=True)
    curves /= curves.std(1, keepdims=True)
    return (curves - curves[:, :1]) / 6.0
