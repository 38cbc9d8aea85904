r"""Weight decay as the prior of a Bayesian filter: why it is decoupled.

Each weight is tracked by itself, as a Gaussian belief of mean mu and variance s about where its
optimum is. Between minibatches the optimum drifts, as the other weights move (Eq. (4)),

    P(w_{t+1} | w_t) = N((1 - A) w_t, Q)        mu <- (1 - A) mu        s <- (1 - A)^2 s + Q

and a minibatch of log-likelihood gradient g and precision r then corrects the belief (Eq. (3)),

    1/s <- 1/s + r        mu <- mu + s g

so the posterior's own variance is the step size of each weight. With ``A = lambda`` the first line
is decoupled weight decay, ``w <- (1 - lambda) w``, the same for all weights, however uncertain. L2
regularization would be a likelihood of its own, ``g - lambda w``, and shrink each by its ``s``.

The variance settles where Q makes up for r. With ``Q = lr^2`` and ``r = g^2`` that is at
``lr / sqrt(mean g^2)`` for small Q: the step size of Adam and RMSprop (`settled_variance`).

Source: Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019, section 3, Eqs. (3)
and (4), after Aitchison, "Bayesian filtering unifies adaptive and non-adaptive neural network
optimization methods", NeurIPS 2020 (arXiv:1807.07540). The paper prints neither the prediction's
variance nor the update's: they are those of a Kalman filter. That r is the squared gradient is
Aitchison's factorised choice; for a Gaussian likelihood with its own r the filter is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from ..checks import Scalar, require, require_count, require_nonnegative

__all__ = ["Belief", "bayesian_filter", "settled_variance"]

Schedule: TypeAlias = "Scalar | Callable[[int], Scalar]"


@dataclass(frozen=True)
class Belief:
    """What is believed of each weight's optimum.

    Args:
        mean: mu, any shape. Unit: that of the weights.
        variance: s >= 0, of the same shape. Unit: weights squared.

    Raises:
        ValueError: if shapes differ, or a variance is negative or no number.

    Example:
        >>> belief = Belief(torch.tensor([8.0]), torch.tensor([2.0]))
        >>> prior = belief.predicted(shrinkage=0.5, drift=0.5)
        >>> prior.mean.item(), prior.variance.item()
        (4.0, 1.0)
        >>> posterior = prior.corrected(torch.tensor([-1.0]))
        >>> posterior.mean.item(), posterior.variance.item()
        (3.5, 0.5)
    """

    mean: Tensor
    variance: Tensor

    def __post_init__(self) -> None:
        shape, wanted = tuple(self.variance.shape), tuple(self.mean.shape)
        name, remedy = "Belief: variance", "pass one for each mean"
        require(shape == wanted, name, f"of the mean's shape {wanted}", shape, remedy)
        _require_nonnegative(name, self.variance, "pass the uncertainty of each weight")

    def predicted(self, *, shrinkage: Scalar = 0.0, drift: Scalar = 0.0) -> Belief:
        """The belief before the next minibatch (Eq. (4)).

        Args:
            shrinkage: A, in [0, 1]: the fraction of each weight that goes, a number for
                ``A = lambda I`` or one for each weight.
            drift: Q >= 0, variance added per step, likewise. Unit: weights squared.

        Raises:
            ValueError: if one is out of range.
        """
        _require_nonnegative("predicted: shrinkage", shrinkage, "pass the fraction that decays")
        most = float(shrinkage.max()) if isinstance(shrinkage, Tensor) else shrinkage
        require(most <= 1.0, "predicted: shrinkage", "at most 1", most, "pass a fraction")
        _require_nonnegative("predicted: drift", drift, "pass 0 for an optimum that stays")
        kept = 1.0 - shrinkage
        return Belief(kept * self.mean, kept**2 * self.variance + drift)

    def corrected(self, gradient: Tensor, precision: Scalar | None = None) -> Belief:
        """The belief after a minibatch (Eq. (3)).

        Args:
            gradient: g, of the minibatch's log-likelihood at this mean: minus that of a loss.
            precision: r >= 0 of the likelihood. Unit: 1 / weights squared. Default: ``g^2``.

        Raises:
            ValueError: if gradient has another shape, or precision is negative.
        """
        shape, wanted = tuple(gradient.shape), tuple(self.mean.shape)
        remedy = "pass one entry for each weight"
        require(shape == wanted, "corrected: gradient", f"of shape {wanted}", shape, remedy)
        if precision is None:
            precision = gradient.square()
        _require_nonnegative("corrected: precision", precision, "pass that of the likelihood")
        variance = self.variance / (1.0 + self.variance * precision)  # a variance of 0 stays one
        return Belief(self.mean + variance * gradient, variance)


def bayesian_filter(
    gradient: Callable[[Tensor], Tensor],
    belief: Belief,
    *,
    steps: int,
    shrinkage: Schedule = 0.0,
    drift: Schedule = 0.0,
    precision: Schedule | None = None,
) -> Iterator[Belief]:
    """The beliefs after each of some minibatches: predicted, then corrected.

    Args:
        gradient: ``gradient(mean)`` of the next minibatch's log-likelihood, at the predicted mean.
        belief: before the first prediction.
        steps: number of minibatches.
        shrinkage: A, or a function of the step from 0, as are the following.
        drift: Q.
        precision: r; None for the squared gradient.

    Raises:
        ValueError: if steps is no count; the others are checked as they go.

    Example:
        >>> start = Belief(torch.tensor([8.0]), torch.tensor([1.0]))
        >>> still = bayesian_filter(torch.zeros_like, start, steps=2, shrinkage=0.5)
        >>> [belief.mean.item() for belief in still]
        [4.0, 2.0]
    """
    require_count("bayesian_filter: steps", steps, "pass the number of minibatches")
    for t in range(steps):
        prior = belief.predicted(shrinkage=_at(shrinkage, t), drift=_at(drift, t))
        known = None if precision is None else _at(precision, t)
        belief = prior.corrected(gradient(prior.mean), known)
        yield belief


def settled_variance(*, drift: float, precision: float, shrinkage: float = 0.0) -> float:
    """The posterior variance at which drift and minibatches balance: each weight's step size.

    The positive root of ``r a s^2 + (1 + r Q - a) s - Q = 0`` with ``a = (1 - A)^2``; about
    ``sqrt(Q / r)`` for small Q and A, which is ``lr / |g|`` for ``Q = lr^2``, ``r = g^2``.

    Args:
        drift: Q. Unit: weights squared.
        precision: r of a minibatch. Unit: 1 / weights squared.
        shrinkage: A.

    Raises:
        ValueError: if an argument is negative, shrinkage above 1, or nothing bounds the variance
            as precision and shrinkage are 0.

    Example:
        >>> round(settled_variance(drift=1e-6, precision=4.0), 6)  # 1e-3 / 2
        0.0005
    """
    require_nonnegative("settled_variance: drift", drift, "pass the variance added per step")
    require_nonnegative("settled_variance: precision", precision, "pass that of a minibatch")
    require_nonnegative("settled_variance: shrinkage", shrinkage, "pass the fraction that decays")
    name = "settled_variance: shrinkage"
    require(shrinkage <= 1.0, name, "at most 1", shrinkage, "pass a fraction")
    if drift == 0.0:
        return 0.0
    name, remedy = "settled_variance: precision", "without both the variance grows for ever"
    require(precision > 0.0 or shrinkage > 0.0, name, "> 0 where shrinkage is 0", precision, remedy)
    a = (1.0 - shrinkage) ** 2
    middle = 1.0 + precision * drift - a
    return 2.0 * drift / (middle + math.sqrt(middle**2 + 4.0 * precision * a * drift))


def _at(schedule: Schedule, t: int) -> Scalar:
    return schedule(t) if callable(schedule) else schedule


def _require_nonnegative(name: str, value: Scalar, remedy: str) -> None:
    if isinstance(value, Tensor):
        ok = bool(torch.all(value >= 0))
        require(ok, name, ">= 0", "an entry that is not", remedy)
    else:
        require_nonnegative(name, value, remedy)
