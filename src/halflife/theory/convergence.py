r"""Constants with which AdamW is proved to reach a small gradient.

AdamW as analysed has no bias correction and delta under the root, ``v_k = sqrt(n_k + delta)``
(`halflife.theory.stagewise.adamw`). Its beta_1 and beta_2 are one minus torch's. It minimises

    F_k(x) = F(x) + (lambda_k / 2) sum_j v_kj x_j^2       lambda_k = lambda (1 - mu)^k

and T steps with small enough lr and beta_1 have ``(1/T) sum_k E |grad F_k(x_k)|^2 <= accuracy^2``.
Source: Zhou et al., "Towards understanding convergence and generalization of AdamW", TPAMI 2024,
Theorems 2 and 3. The constants here come from the proof, step by step. Where they differ:

- Theorem 2 bounds lr and beta_1 from above one by one. The proof needs lr <= ratio * beta_1, and
  also lr <= c1^2 / (2 c2 (L + lambda c1)), which only the supplement has. Without it lr is
  unbounded as the noise goes to zero. Without beta_1 <= 1, which Theorem 3 lacks too, no average.
- T has no constants in the paper; here it has. The initial gap must be that of F_0, so it
  contains the decay's (lambda / 2) sum_j v_0j x_0j^2, which the paper drops.
- The main text's second claim, ``mean |x_k - x_{k+1}|^2_{v_k} <= lr^2 accuracy^2 / 4``, is false.
  The supplement's, ``mean |v_k (x_k - x_{k+1})|^2 <= 4 lr^2 accuracy^2``, holds.
- mu = b2 c^2 / delta must be below 1. With torch's 0.999 (b2 = 0.001), c = 1 and the paper's
  delta = 1e-4 it is 10, and (1 - mu)^k = (-9)^k. The proof only asks that lambda_k v_k does not
  grow, for which ``1 / sqrt(1 + mu)`` per step in place of ``1 - mu`` suffices, at any mu.

They are for moments that start as the main text's m_0 = g_0, n_0 = g_0^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..checks import require, require_count, require_nonnegative, require_positive

__all__ = [
    "Decaying",
    "Problem",
    "Steady",
    "decay_shrinkage",
    "slowest_decay_factor",
]


def decay_shrinkage(
    *, beta2: float, gradient_bound: float, delta: float, gradient_floor: float = 0.0
) -> float:
    """The mu of lambda_k = lambda (1 - mu)^k: b2 c^2 / (s^2 + delta) (Theorem 2 and Lemma 1).

    Args:
        beta2: b2, weight of the newest squared gradient: 1 - beta_2 of torch. In (0, 1).
        gradient_bound: c, bound on every gradient entry. Unit: that of the gradient.
        delta: constant under the root. Unit: gradient squared. Not torch's eps.
        gradient_floor: s of Lemma 1, a lower bound on every sqrt(n_kj); Theorem 2 has 0.

    Raises:
        ValueError: if beta2 is outside (0, 1), c or s negative, delta not positive, or mu >= 1.

    Example:
        >>> decay_shrinkage(beta2=0.25, gradient_bound=1.0, delta=0.5)
        0.5
    """
    ok, remedy = 0 < beta2 < 1, "pass 1 - beta_2 of torch, such as 0.001"
    require(ok, "decay_shrinkage: beta2", "above 0 and below 1", beta2, remedy)
    remedy = "pass a bound on |g| per entry"
    require_nonnegative("decay_shrinkage: gradient_bound", gradient_bound, remedy)
    require_nonnegative("decay_shrinkage: gradient_floor", gradient_floor, "pass 0 if unknown")
    require_positive("decay_shrinkage: delta", delta, "pass the constant under the root")
    mu = beta2 * gradient_bound**2 / (gradient_floor**2 + delta)
    least = beta2 * gradient_bound**2 - gradient_floor**2
    remedy = f"raise delta above {least:g}, or use slowest_decay_factor"
    require(mu < 1, "decay_shrinkage: mu = beta2 c^2 / (s^2 + delta)", "below 1", mu, remedy)
    return mu


def slowest_decay_factor(mu: float) -> float:
    """The slowest lambda_{k+1} / lambda_k the proof allows: 1 / sqrt(1 + mu), at any mu >= 0.

    ``v_{k+1}^2 <= (1 + mu) v_k^2``, and all that is used of lambda is lambda_k v_k not growing.

    Raises:
        ValueError: if mu is negative.

    Example:
        >>> slowest_decay_factor(3.0)
        0.5
    """
    require_nonnegative("slowest_decay_factor: mu", mu, "pass beta2 c^2 / delta")
    return 1.0 / math.sqrt(1.0 + mu)


@dataclass(frozen=True)
class Problem:
    """What the theorems assume to be known of a problem, and AdamW's fixed settings on it.

    Args:
        smoothness: L, Lipschitz constant of the gradient.
        gradient_bound: c, bound on every entry of every stochastic gradient.
        noise: sigma, root of the bound on E |grad f(x; one sample) - grad F(x)|^2.
        gap: F(x_0) - min F.
        delta: constant under the root.
        weight_decay: lambda, decay at step 0. Unit: 1/lr, as in torch.
        initial_norm: |x_0|. With it the decay's share of F_0(x_0) is counted, by its bound
            (lambda / 2) c2 |x_0|^2; the paper drops it.
        batch: b, samples per gradient.

    Raises:
        ValueError: if L, c or delta is not positive, another number negative, or batch no count.

    Example:
        >>> problem = Problem(smoothness=2.0, gradient_bound=1.0, noise=1.0, gap=1.0, delta=3.0)
        >>> problem.c2
        2.0
    """

    smoothness: float
    gradient_bound: float
    noise: float
    gap: float
    delta: float
    weight_decay: float = 0.0
    initial_norm: float = 0.0
    batch: int = 1

    def __post_init__(self) -> None:
        require_positive("Problem: smoothness", self.smoothness, "pass a bound on the Hessian")
        remedy = "pass a bound on |g| per entry"
        require_positive("Problem: gradient_bound", self.gradient_bound, remedy)
        require_positive("Problem: delta", self.delta, "pass the constant under the root")
        require_nonnegative("Problem: noise", self.noise, "pass a standard deviation")
        require_nonnegative("Problem: gap", self.gap, "pass F(x_0) - min F, or a bound on it")
        remedy = "pass lambda at step 0, 0 for none"
        require_nonnegative("Problem: weight_decay", self.weight_decay, remedy)
        require_nonnegative("Problem: initial_norm", self.initial_norm, "pass |x_0|")
        require_count("Problem: batch", self.batch, "pass samples per gradient")

    @property
    def c1(self) -> float:
        """Least ``v``: sqrt(delta)."""
        return math.sqrt(self.delta)

    @property
    def c2(self) -> float:
        """Largest ``v``: sqrt(c^2 + delta)."""
        return math.hypot(self.gradient_bound, self.c1)

    @property
    def variance(self) -> float:
        """Variance of a batch's gradient: sigma^2 / b."""
        return self.noise**2 / self.batch

    @property
    def first_gap(self) -> float:
        """Bound on F_0(x_0) - min F: the gap, and the decay's share of it."""
        return self.gap + 0.5 * self.weight_decay * self.c2 * self.initial_norm**2

    @property
    def ratio(self) -> float:
        """Largest lr / beta_1: c1^1.5 / (2 L sqrt(c2)), with which errors of m_k are absorbed."""
        return self.c1**1.5 / (2.0 * self.smoothness * math.sqrt(self.c2))

    @property
    def lr_limit(self) -> float:
        """Largest lr for which a step descends: c1^2 / (2 c2 (L + lambda c1)) (supplement)."""
        return self.c1**2 / (2.0 * self.c2 * (self.smoothness + self.weight_decay * self.c1))

    def lr(self, beta1: float) -> float:
        """The largest lr that is proved to work with this beta_1."""
        return min(self.ratio * beta1, self.lr_limit)


@dataclass(frozen=True)
class Steady:
    r"""Constant lr and beta_1 that reach an accuracy, and the steps it takes (Theorem 2).

    The proof ends in ``mean |grad F_k|^2 <= 2 c2 D / (lr T) + (c2 V / c1) (1 / (beta_1 T) +
    beta_1)`` with D the gap of F_0 and V the gradient's variance; each term gets a third.

    Args:
        problem: what is known of the problem.
        accuracy: epsilon, bound on the root of the mean squared gradient norm of F_k.
        moment_error: bound on E |m - grad F|^2 of the moment that the run starts with. Default: the
            gradient's variance, that of m_0 = g_0. The theorem's third claim is 8 accuracy^2, for
            the moments that belong to a step drawn from a run.

    Raises:
        ValueError: if accuracy is not positive, or moment_error negative.

    Example:
        >>> problem = Problem(smoothness=0.5, gradient_bound=1.0, noise=2.0, gap=1.0, delta=1.0)
        >>> constants = Steady(problem, accuracy=1.0)
        >>> round(constants.beta1, 6), round(constants.lr, 6), constants.steps
        (0.058926, 0.04955, 289)
    """

    problem: Problem
    accuracy: float
    moment_error: float | None = None

    def __post_init__(self) -> None:
        require_positive("Steady: accuracy", self.accuracy, "pass a gradient norm")
        remedy = "pass a bound on E |m - grad F|^2, or None"
        if self.moment_error is not None:
            require_nonnegative("Steady: moment_error", self.moment_error, remedy)

    @property
    def beta1(self) -> float:
        """Weight of the newest gradient, 1 - beta_1 of torch: c1 b e^2 / (3 c2 sigma^2) or 1."""
        p = self.problem
        noise = 3.0 * p.c2 * p.variance
        return min(1.0, p.c1 * self.accuracy**2 / noise) if noise > 0 else 1.0

    @property
    def lr(self) -> float:
        """Step size: `ratio` times beta_1, the published bound, and at most `lr_limit`."""
        return self.problem.lr(self.beta1)

    @property
    def steps(self) -> int:
        """T = max(6 c2 D / (lr e^2), 3 c2 V / (c1 beta_1 e^2)), V the first moment's error."""
        p, squared = self.problem, self.accuracy**2
        first = p.variance if self.moment_error is None else self.moment_error
        travel = 6.0 * p.c2 * p.first_gap / (self.lr * squared)
        start = 3.0 * p.c2 * first / (p.c1 * self.beta1 * squared)
        return max(1, math.ceil(max(travel, start)))


@dataclass(frozen=True)
class Decaying:
    r"""Step size and beta_1 that fall as 1/sqrt(k + 1), for any accuracy (Theorem 3).

    ``beta_1k = min(1, gamma / sqrt(k + 1))`` and ``lr_k = min(ratio beta_1k, lr_limit)``, with
    ``gamma = max(1, c^.25 L^.5 D^.5 / (delta^.125 sigma))``. The minima are not in the paper.

    Args:
        problem: what is known of the problem; its noise must not be zero.

    Raises:
        ValueError: if the noise is zero, for then gamma is infinite.

    Example:
        >>> problem = Problem(smoothness=1.0, gradient_bound=1.0, noise=1.0, gap=16.0, delta=1.0)
        >>> Decaying(problem).gamma
        4.0
        >>> [Decaying(problem).beta1(k) for k in (0, 15, 63)]
        [1.0, 1.0, 0.5]
    """

    problem: Problem

    def __post_init__(self) -> None:
        remedy = "use Steady, which needs no noise"
        require_positive("Decaying: problem.noise", self.problem.noise, remedy)

    @property
    def gamma(self) -> float:
        """Scale of both schedules, at least 1."""
        p = self.problem
        scale = p.gradient_bound**0.25 * math.sqrt(p.smoothness * p.first_gap)
        return max(1.0, scale / (p.delta**0.125 * p.noise))

    def beta1(self, k: int) -> float:
        """Weight of the newest gradient at step k, counted from 0."""
        return min(1.0, self.gamma / math.sqrt(k + 1))

    def lr(self, k: int) -> float:
        """Step size at step k, counted from 0."""
        return self.problem.lr(self.beta1(k))

    def bound(self, steps: int) -> float:
        """Bound on (1/T) sum_k E |grad F_k(x_k)|^2 after T steps.

        ``2 c2 (D + (ratio V / (sqrt(2) c1)) (1 + gamma^2 ln(T + 1))) / (T lr_{T-1})``.
        """
        p = self.problem
        noise = p.ratio * p.variance * (1.0 + self.gamma**2 * math.log(steps + 1))
        total = 2.0 * p.c2 * (p.first_gap + noise / (math.sqrt(2.0) * p.c1))
        return total / (steps * self.lr(steps - 1))

    def steps(self, accuracy: float) -> int:
        """Least T from which on the bound is at most accuracy^2.

        Raises:
            ValueError: if accuracy is not positive.
        """
        require_positive("Decaying.steps: accuracy", accuracy, "pass a gradient norm")
        low, high = 0, 1
        while self.bound(high) > accuracy**2:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.bound(middle) <= accuracy**2 else (middle, high)
        return high
