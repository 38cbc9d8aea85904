"""On which seeds settings are compared, where not all settings have all of them.

A sweep that was cut short, or to which seeds or settings were added since, has runs of some seeds
for some settings only. Means over different seeds are not compared: a seed shifts all settings
alike. Compared are the seeds that the most settings share, so that a seed that was begun takes no
setting away; what is lost are its few runs. A single seed, which knows no noise, is what settings
are compared on only if fewer than half of them share two.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["shared"]

_LEAST_KEPT = 0.5  # of the settings, for the sake of a second seed


def shared(usable: NDArray[np.bool_], least_kept: float = _LEAST_KEPT) -> NDArray[np.bool_]:
    """The seeds that the most settings share; of those sets the largest, and then the first.

    Args:
        usable: whether a setting has a usable run of a seed; shape (..., seeds).
        least_kept: share of the settings of the best single seed that two must keep; 0 where most
            settings have a single one by intent.

    Returns:
        Which seeds; shape (seeds,), none where no setting has a run.

    Example:
        >>> has = np.array([[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1]], dtype=bool)
        >>> shared(has).tolist()  # the fourth seed was begun
        [True, True, True, False]
    """
    has = usable.reshape(-1, usable.shape[-1])
    both = has.astype(np.int64).T @ has  # settings that have two seeds; on the diagonal, one
    single = np.diag(both)
    none = np.zeros(has.shape[-1], dtype=bool)
    if not has.any():
        return none
    pairs = np.triu(both, 1)
    enough = pairs.max() > 0 and pairs.max() >= least_kept * single.max()
    counts = pairs if enough else np.diag(single)
    best = none
    for one, other in np.argwhere(counts == counts.max()).tolist():
        these = has[has[:, one] & has[:, other]]
        found = np.asarray(these.all(0), dtype=bool)  # all seeds that these settings have
        best = found if found.sum() > best.sum() else best
    return best
