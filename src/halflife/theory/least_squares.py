r"""The least-squares problem on which AdamW is proved to beat l2-Adam, and a control.

    min_x  E (a x - xi)^2 / 2        g = a (a x - xi)        xi ~ N(mean, 1)        x* = mean / a

After K steps, with settings that depend on K and are constant over the run, Theorem 1 of Zhou et
al., "Towards understanding convergence and generalization of AdamW", TPAMI 2024, has

    AdamW    E |x_K - x*| <= (1 - K^-.5)^(1.5 K) Lambda + tau / K^(.5 + alpha)
    l2-Adam  E |x_K - x*| <= (1 - K^-.5)^(.5 K) Lambda + 2 tau / K^.5

with tau >= E |g_k| and Lambda = lr_0 + E |x_0 - x*|. The settings are in the proof only. AdamW has
lr lambda = 1.5 K^-.5; l2-Adam has lr_k = b1 v_k, which cancels its own preconditioner and leaves
SGD with momentum.

The theorem is for mean = 0: **x* = 0 is where decay alone takes the weights**. Its proof for AdamW
never uses that g is a gradient, only that it is bounded, and without any gradient x_K is closer
still. With mean = 1 both methods end near 0 and far from x* = 1, beyond either bound: what is
proved is shrinkage, not optimisation. Misprints: lambda_k = O(sqrt k), lr = O(1/k) in the main text
stand for powers of the horizon K; l2-Adam's interval for lambda has 1/b1 where the algebra gives
1/b1^2 (`LeastSquares.l2_interval`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import require, require_count, require_nonnegative, require_positive
from .stagewise import adamw

__all__ = ["LeastSquares", "Run"]


class Run(NamedTuple):
    """What a run came to: mean |x_K - x*|, and the largest mean |g_k| on the way (tau)."""

    error: float
    tau: float


@dataclass(frozen=True)
class LeastSquares:
    """The problem and Theorem 1's settings for one horizon; both methods start at x_0 = start.

    Args:
        horizon: K, steps of a run, at least 3: below, AdamW's decay would flip signs.
        mean: mean of xi. 0 is the theorem's problem, 1 the control.
        a: the problem's coefficient, not zero.
        alpha: exponent by which AdamW's second term is smaller, > 0.
        delta: constant under the root.
        start: x_0.

    Raises:
        ValueError: if horizon is below 3, a zero, or alpha or delta not positive.

    Example:
        >>> problem = LeastSquares(horizon=256, delta=0.0625, alpha=0.5)
        >>> problem.weight_decay, problem.lr * problem.weight_decay  # 16^2 / 0.25, 1.5 / 16
        (1024.0, 0.09375)
    """

    horizon: int
    mean: float = 0.0
    a: float = 1.0
    alpha: float = 0.1
    delta: float = 0.01
    start: float = 1.0

    def __post_init__(self) -> None:
        require_count("LeastSquares: horizon", self.horizon, "pass the steps of a run")
        remedy = "pass a longer run: lr * weight_decay is 1.5 / sqrt(horizon)"
        require(self.horizon >= 3, "LeastSquares: horizon", ">= 3", self.horizon, remedy)
        ok = math.isfinite(self.a) and self.a != 0
        require(ok, "LeastSquares: a", "finite and not zero", self.a, "pass 1.0")
        require_positive("LeastSquares: alpha", self.alpha, "pass an exponent such as 0.1")
        require_positive("LeastSquares: delta", self.delta, "pass the constant under the root")

    @property
    def minimum(self) -> float:
        """x* = mean / a."""
        return self.mean / self.a

    @property
    def lr(self) -> float:
        """AdamW's step size: 1.5 sqrt(delta) K^(-1 - alpha)."""
        return 1.5 * math.sqrt(self.delta) * self.horizon ** (-1.0 - self.alpha)

    @property
    def weight_decay(self) -> float:
        """AdamW's lambda: K^(.5 + alpha) / sqrt(delta)."""
        return self.horizon ** (0.5 + self.alpha) / math.sqrt(self.delta)

    @property
    def l2_beta1(self) -> float:
        """l2-Adam's b1, and its step size over v_k: K^-.5."""
        return self.horizon**-0.5

    @property
    def l2_weight_decay(self) -> float:
        """l2-Adam's lambda: sqrt(K)."""
        return math.sqrt(self.horizon)

    @property
    def l2_interval(self) -> tuple[float, float]:
        """The lambda between which l2-Adam contracts by (1 - b1)^.5 a step, as the bound has it.

        ``x_{k+1} - x_k = (1 - b1)(x_k - x_{k-1}) - b1^2 (lambda + a^2) x_k`` has complex roots,
        of modulus (1 - b1)^.5, for ``(1 -+ sqrt(1 - b1))^2 / b1^2 - a^2``.
        """
        b1, root = self.l2_beta1, math.sqrt(1.0 - self.l2_beta1)
        return ((1.0 - root) / b1) ** 2 - self.a**2, ((1.0 + root) / b1) ** 2 - self.a**2

    def bound(self, tau: float) -> float:
        """AdamW's bound on E |x_K - x*|; tau bounds E |g_k|."""
        k, lam = self.horizon, self.lr + abs(self.start - self.minimum)
        require_nonnegative("LeastSquares.bound: tau", tau, "pass a bound on E |g|")
        return float((1.0 - k**-0.5) ** (1.5 * k) * lam + tau / k ** (0.5 + self.alpha))

    def l2_bound(self, tau: float) -> float:
        """l2-Adam's bound on E |x_K - x*|, with lr_0 at its smallest, b1 sqrt(delta)."""
        lam = self.l2_beta1 * math.sqrt(self.delta) + abs(self.start - self.minimum)
        require_nonnegative("LeastSquares.l2_bound: tau", tau, "pass a bound on E |g|")
        return float((1.0 - self.horizon**-0.5) ** (0.5 * self.horizon) * lam) + (
            2.0 * tau / self.horizon**0.5
        )

    def run_adamw(self, *, replicas: int = 4000, seed: int = 0, with_gradient: bool = True) -> Run:
        """Run AdamW on independent replicas, with moments from zero, b1 = 0.1 and b2 = 0.001.

        Args:
            replicas: runs to take the mean over.
            seed: of the samples xi.
            with_gradient: False for decay alone, the second control.

        Raises:
            ValueError: if replicas is not a count.

        Example:
            >>> LeastSquares(64).run_adamw().error < LeastSquares(64).run_l2().error
            True
        """
        grad, x, seen = self._oracle(replicas, seed)
        steps = adamw(
            grad if with_gradient else torch.zeros_like,
            x,
            steps=self.horizon,
            lr=self.lr,
            beta1=0.1,
            beta2=0.001,
            delta=self.delta,
            weight_decay=self.weight_decay,
            moments="zero",
        )
        for step in steps:
            x = step.next_x
        return Run((x - self.minimum).abs().mean().item(), max(seen, default=0.0))

    def run_l2(self, *, replicas: int = 4000, seed: int = 0) -> Run:
        """Run l2-Adam, which lr_k = b1 v_k makes x -= b1 m, on replicas, with m from zero.

        Args:
            replicas: runs to take the mean over.
            seed: of the samples xi.

        Raises:
            ValueError: if replicas is not a count.
        """
        grad, x, seen = self._oracle(replicas, seed)
        m, b1 = torch.zeros_like(x), self.l2_beta1
        for _ in range(self.horizon):
            m = (1.0 - b1) * m + b1 * (grad(x) + self.l2_weight_decay * x)
            x = x - b1 * m
        return Run((x - self.minimum).abs().mean().item(), max(seen, default=0.0))

    def _oracle(
        self, replicas: int, seed: int
    ) -> tuple[Callable[[Tensor], Tensor], Tensor, list[float]]:
        """The gradient, x_0 for every replica, and a list that collects mean |g_k|."""
        require_count("LeastSquares: replicas", replicas, "pass runs to take the mean over")
        generator = torch.Generator().manual_seed(seed)
        seen: list[float] = []

        def grad(x: Tensor) -> Tensor:
            xi = self.mean + torch.randn(replicas, generator=generator, dtype=torch.float64)
            g = self.a * (self.a * x - xi)
            seen.append(g.abs().mean().item())
            return g

        return grad, torch.full((replicas,), self.start, dtype=torch.float64), seen
