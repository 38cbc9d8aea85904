r"""Muon's updates under noise: their size is known, their memory within a few percent.

Muon steps along ``polar(m)``, the average of the gradients with every singular value set to 1. A
matrix of r rows and c columns then has Frobenius norm ``sqrt(min(r, c))`` whatever the gradients
are. Decay so has a known equilibrium, `halflife.theory.equilibrium.rms`, if one knows how long
successive updates stay alike.

For a vector that is the memory of m itself, ``(1 + b)/(1 - b)``. For a matrix it is shorter: the
polar factor is no linear function, and forgets the singular values. If m_t and m_{t+k} are Gaussian
with correlation rho, their polar factors have correlation ``sum_j a_j rho^(2j+1)`` with
``a_j >= 0`` and ``sum_j a_j = 1`` (the Hermite expansion of an odd function), so it lies between

    a_0 rho    and    a_0 rho + (1 - a_0) rho^3        a_0 = (mean singular value)^2 / mean square

with a_0 = 1 for a vector and ``(8 / 3 pi)^2 = 0.72`` for a large square matrix (Marchenko-Pastur).
Both ends are computed here. Derived here; the equilibrium is that of Kosson et al. 2023 and Wen et
al. 2026, who count the memory of m.

Implementations differ from ``polar``: five steps of Newton-Schulz, as in ``torch.optim.Muon``,
leave singular values between about 0.7 and 1.2.
"""

from __future__ import annotations

import math

from ..checks import require_count, require_momentum
from .equilibrium import nesterov_update_rms

__all__ = ["update_memory", "update_rms"]


def update_rms(rows: int, columns: int, scale: float = 1.0) -> float:
    """RMS per entry of an orthogonalized update: ``scale / sqrt(max(rows, columns))``.

    Args:
        rows: of the matrix.
        columns: of the matrix.
        scale: by which an implementation multiplies lr: ``max(1, rows / columns)**0.5`` for
            ``torch.optim.Muon`` by default, ``0.2 * max(rows, columns)**0.5`` with
            "match_rms_adamw", so that the RMS is 0.2 for every shape.

    Raises:
        ValueError: if rows or columns is not a count.

    Example:
        >>> update_rms(16, 64)
        0.125
    """
    _require_shape("update_rms", rows, columns)
    return scale / math.sqrt(max(rows, columns))


def update_memory(
    rows: int, columns: int, momentum: float, *, nesterov: bool = True, fraction: float = 0.0
) -> tuple[float, float]:
    """Bounds on ``sum over k of corr(u_t, u_(t+k))`` of Muon's updates under Gaussian noise.

    `halflife.theory.equilibrium.effective_momentum` turns a memory into the ``b`` of the
    equilibrium formulas; the RMS goes with the memory's root.

    Args:
        rows: of the matrix.
        columns: of the matrix.
        momentum: ``b``, averaging factor of the gradient. Muon's default is 0.95.
        nesterov: the average looks one gradient ahead, as by default in torch.
        fraction: removed per step; a correlation at lag k counts ``(1 - fraction)^k``. 0, the
            default, where decay is slow against the memory.

    Returns:
        The lower and the upper bound, for large matrices.

    Raises:
        ValueError: if rows or columns is not a count, or momentum not in [0, 1).

    Example:
        >>> low, high = update_memory(512, 512, momentum=0.95, nesterov=False)
        >>> round(low, 1), round(high, 1)  # that of m itself is 39
        (28.4, 31.7)
    """
    _require_shape("update_memory", rows, columns)
    require_momentum("update_memory: momentum", momentum)
    first = momentum
    if nesterov:  # correlation of (1 - b) g + b m with the next
        lag_one = momentum**2 * (1.0 - momentum) ** 2
        lag_one *= 1.0 + momentum + momentum**3 / (1.0 - momentum**2)
        first = lag_one / nesterov_update_rms(momentum) ** 2
    kept = 1.0 - fraction
    linear = kept * first / (1.0 - kept * momentum)  # sum over lags k >= 1, rho = first b^(k-1)
    cubic = kept * first**3 / (1.0 - kept * momentum**3)
    share = _linear_share(min(rows, columns) / max(rows, columns))
    low = 1.0 + 2.0 * share * linear
    return low, low + 2.0 * (1.0 - share) * cubic


def _linear_share(aspect: float, points: int = 400) -> float:
    """``(E s)^2 / E s^2`` of the singular values of a large Gaussian matrix, Marchenko-Pastur.

    With ``s^2 = 1 + c + 2 sqrt(c) cos(angle)`` the law has density ``2 sin(angle)^2 / (pi s^2)``,
    and E s^2 is 1.
    """
    mean = 0.0
    for k in range(points):
        angle = math.pi * (k + 0.5) / points
        square = 1.0 + aspect + 2.0 * math.sqrt(aspect) * math.cos(angle)
        mean += 2.0 * math.sin(angle) ** 2 / math.sqrt(square) / points
    return mean**2


def _require_shape(name: str, rows: int, columns: int) -> None:
    require_count(f"{name}: rows", rows, "pass the matrix's shape")
    require_count(f"{name}: columns", columns, "pass the matrix's shape")
