r"""Where decay and updates balance: weight RMS, rotation and angle in the random-walk model.

If updates point in random directions, ``w <- (1 - d) w - lr u`` settles where what decay removes
is what updates add. With ``a = 1 - d``, momentum ``b`` and updates of RMS ``U`` per entry,

    RMS(w)      = lr U sqrt( (1 + a b) / ((1 - a^2)(1 - a b)) )      ~ lr U' / sqrt(2 d)
    sin(angle)  = sqrt( (1 - a^2)(1 - b^2) ) / (1 + a b)             ~ sqrt( 2 d (1-b)/(1+b) )
    cos(w, u)   = - b sqrt( (1 - a^2) / ((1 + a b)(1 - a b)) )

The exact forms are those of Wen et al. (Hyperball, 2026), the approximations Kosson et al. 2023;
their rotation is the sine of the angle between successive weights, ours the angle.
For Adam ``U = sqrt((1 - b)/(1 + b))``, so that ``RMS(w) ~ sqrt(lr / (2 weight_decay))``. A network
that learns is no random walk: these are predictions to compare measurements with.
"""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = [
    "adam_update_rms",
    "effective_momentum",
    "fraction_for_rms",
    "fraction_for_rotation",
    "half_life",
    "nesterov_update_rms",
    "relaxation_time",
    "rms",
    "rotation",
    "sign_memory",
    "timescale",
    "update_cosine",
]


def adam_update_rms(beta1: float) -> float:
    """RMS per entry of Adam's update direction under gradients that are pure noise.

    Example:
        >>> adam_update_rms(0.0)
        1.0
    """
    return math.sqrt((1.0 - beta1) / (1.0 + beta1))


def nesterov_update_rms(beta: float) -> float:
    """As `adam_update_rms`, where ``beta m + (1 - beta) g`` looks one gradient ahead of ``m``.

    Example:
        >>> nesterov_update_rms(0.0)
        1.0
    """
    new = (1.0 - beta) * (1.0 + beta)
    return math.sqrt(new**2 + beta**4 * (1.0 - beta) / (1.0 + beta))


def sign_memory(beta1: float, beta2: float, fraction: float = 0.0) -> float:
    """``sum over k of corr(u_t, u_(t+k))`` of Lion's sign updates under Gaussian noise.

    The average inside the sign has correlation ``r beta2^(k-1)`` at lag k, its sign
    ``2/pi asin`` of that. Without memory it is 1. To first order in ``r``, and with
    ``asin(r) ~ r``, it gives the rotation of Kosson et al. 2023.

    Args:
        beta1: weight of the average in the sign.
        beta2: averaging factor of the gradient.
        fraction: removed per step; a correlation at lag k counts ``(1 - fraction)^k``. 0, the
            default, where decay is slow against the memory.

    Example:
        >>> sign_memory(0.0, 0.9)
        1.0
    """
    variance = (1.0 - beta1) ** 2 + beta1**2 * (1.0 - beta2) / (1.0 + beta2)
    lag_one = beta1 * (1.0 - beta2) * (1.0 - beta1 + beta1 * beta2 / (1.0 + beta2))
    r, total, kept = lag_one / variance, 1.0, 1.0
    while r > 1e-12:
        kept *= 1.0 - fraction
        total += 4.0 / math.pi * math.asin(r) * kept
        r *= beta2
    return total


def effective_momentum(memory: float, fraction: float = 0.0) -> float:
    """The momentum ``b`` whose average has this memory, ``(1 + a b)/(1 - a b)``.

    RMS, rotation and cosine depend on the memory alone, exactly if it was discounted by the same
    ``a = 1 - fraction``; without, where decay is slow against it.

    Args:
        memory: sum of the correlations of an update with all others and itself.
        fraction: by which the memory was discounted. Default 0.

    Example:
        >>> effective_momentum(19.0)
        0.9
    """
    return (memory - 1.0) / ((memory + 1.0) * (1.0 - fraction))


def rms(fraction: float, lr: float, momentum: float, update_rms: float) -> float:
    """Equilibrium RMS of the weights; infinite without decay.

    Args:
        fraction: share of each weight removed per step, in [0, 1].
        lr: learning rate.
        momentum: ``b``, beta1 of Adam.
        update_rms: ``U``, RMS per entry of the direction that lr multiplies.

    Example:
        >>> round(rms(1e-4, lr=1e-3, momentum=0.0, update_rms=1.0), 6)  # sqrt(1e-3 / (2 * 0.1))
        0.070712
    """
    if fraction <= 0.0:
        return math.inf
    a = 1.0 - fraction
    removed = fraction * (1.0 + a)  # 1 - a^2, without cancellation
    return lr * update_rms * math.sqrt((1.0 + a * momentum) / (removed * (1.0 - a * momentum)))


def rotation(fraction: float, momentum: float) -> float:
    """Equilibrium angle between the weights of successive steps, in radians.

    Example:
        >>> round(rotation(1e-4, momentum=0.0), 6)  # sqrt(2e-4)
        0.014142
    """
    a = 1.0 - fraction
    sine = math.sqrt(fraction * (1.0 + a) * (1.0 - momentum**2)) / (1.0 + a * momentum)
    return math.asin(sine)


def update_cosine(fraction: float, momentum: float) -> float:
    """Equilibrium cosine between the weights and the update direction.

    Example:
        >>> update_cosine(1e-4, momentum=0.0)
        -0.0
    """
    a = 1.0 - fraction
    removed = fraction * (1.0 + a)
    return -momentum * math.sqrt(removed / ((1.0 + a * momentum) * (1.0 - a * momentum)))


def half_life(fraction: float) -> float:
    """Steps after which half of a weight is left if nothing is added: ln 2 / -ln(1 - d).

    Example:
        >>> half_life(0.5)
        1.0
    """
    if fraction >= 1.0:
        return 0.0
    return math.log(2.0) / -math.log1p(-fraction) if fraction > 0.0 else math.inf


def timescale(fraction: float) -> float:
    """Steps over which the weights average past updates, as an exponential average: 1/d.

    Example:
        >>> timescale(1e-4)
        10000.0
    """
    return 1.0 / fraction if fraction > 0.0 else math.inf


def relaxation_time(fraction: float) -> float:
    """Steps in which the mean square of the weights comes e times closer to its equilibrium.

    ``1 / (-2 ln(1 - d))``, about half the `timescale`, for updates whose size does not depend on
    the weights. Infinite without decay.

    Example:
        >>> round(relaxation_time(1e-3), 2)
        499.75
    """
    if fraction >= 1.0:
        return 0.0
    return -0.5 / math.log1p(-fraction) if fraction > 0.0 else math.inf


def fraction_for_rms(target: float, lr: float, momentum: float, update_rms: float) -> float:
    """The fraction whose equilibrium RMS is the target: inverse of `rms`.

    Example:
        >>> round(fraction_for_rms(0.070712, lr=1e-3, momentum=0.0, update_rms=1.0), 7)
        0.0001
    """
    return _solve(lambda d: -rms(d, lr, momentum, update_rms), -target)


def fraction_for_rotation(target: float, momentum: float) -> float:
    """The fraction whose equilibrium rotation is the target: inverse of `rotation`.

    Example:
        >>> round(fraction_for_rotation(0.0141411, momentum=0.0), 7)
        0.0001
    """
    return _solve(lambda d: rotation(d, momentum), target)


def _solve(rising: Callable[[float], float], target: float) -> float:
    """The fraction in (0, 1] at which a rising function meets the target, by bisection in log d.

    Returns the nearest end where the function does not reach the target in the interval.
    """
    low, high = math.log(1e-300), 0.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if rising(math.exp(middle)) > target else (middle, high)
    return math.exp(high)
