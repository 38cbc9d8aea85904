r"""AdaGrad with projection, averaging and restarts: what being scale-free buys, as an algorithm.

One round is AdaGrad on a hypercube of half-width r around its starting point, and returns the
average of the points at which it took gradients:

    S_t = S_{t-1} + g_t^2        x_{t+1} = clip(x_t - lr g_t / sqrt(S_t))        mean of x_1 ... x_T

Rounds follow each other from average to average, each with half the r and half the lr of the one
before. On a mu-strongly convex, M-smooth function, T of order d M/mu per round halves the distance
to the minimum in the largest coordinate. No step changes if a gradient coordinate is multiplied by
a constant. M/mu may therefore be that of the best rescaling of the coordinates: 1 on every
diagonal quadratic, where gradient descent needs the condition number itself.

Source: Zhuang et al., "Understanding AdamW through proximal methods and scale-freeness", appendix
B: Algorithms 2 and 3, Theorems 2 and 3. There is no epsilon: 0/0 is 0, or it would not be
scale-free. Theorem 2 holds as printed. **The proof of Theorem 3 has a gap.** It applies Theorem 2
with the half-width D_i of round i in place of the cube's diameter, which is 2 D_i. With the
diameter, the same argument needs T = 200 d M/mu at the published lr = r/sqrt(2), or
T = 128 d M/mu at lr = sqrt(2) r, in place of 32 d M/mu. `Restarts` has the published constants and
the latter. The published T is ample on diagonal quadratics: with d = 3 and T = 96, every round ends
within 3 % of the distance it is allowed, at condition numbers from 1 to 10^6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from ..checks import require, require_count, require_positive

__all__ = ["AdaGrad", "Restarts", "adagrad", "adagrad_with_restarts", "regret_bound"]


class AdaGrad(Optimizer):
    """AdaGrad without epsilon, on a hypercube around the initial weights, with averaged weights.

    ``torch.optim.Adagrad`` adds 1e-10 to the root, and neither projects nor averages. Use as any
    optimizer; call `restart` between rounds, and once at the end to be left with the averages.

    Args:
        params: parameters or parameter groups.
        lr: step size. Unit: that of the weights, for the first step moves every coordinate by lr.
            Published: radius / sqrt(2). With the smallest proven constant: radius * sqrt(2).
        radius: half-width r of the hypercube around the round's first weights; infinite, the
            default, for no projection. Unit: that of the weights.

    Raises:
        ValueError: if lr or radius is not positive, or lr is infinite.

    Example:
        >>> w = torch.nn.Parameter(torch.tensor([4.0]))
        >>> optimizer = AdaGrad([w], lr=1.0)
        >>> w.grad = torch.tensor([1e-30])
        >>> optimizer.step()
        >>> w.item()
        3.0
    """

    def __init__(self, params: ParamsT, lr: float, *, radius: float = math.inf) -> None:
        super().__init__(params, {"lr": lr, "radius": radius})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, with its own `lr` and `radius` if it has them."""
        group = {**self.defaults, **param_group}
        lr, radius = group["lr"], group["radius"]
        require_positive("AdaGrad: lr", lr, "pass radius / sqrt(2)")
        require(radius > 0, "AdaGrad: radius", "> 0", radius, "pass a bound on the distance to go")
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step, and count the weights from before it into the average."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    self._update(param, param.grad, group["lr"], group["radius"])
        return loss

    def _update(self, x: Tensor, grad: Tensor, lr: float, radius: float) -> None:
        state = self.state[x]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["center"] = x.clone()
            state["average"] = torch.zeros_like(x)
            state["root"] = torch.zeros_like(x)
        state["step"] += 1
        state["average"].lerp_(x, 1.0 / state["step"].item())
        # The root of the sum of squares, without their underflow: gradients may be of any scale. It
        # is zero if all gradients were: 0/0, and the coordinate stays. NaN is not: it shows.
        root = state["root"].hypot_(grad)
        x.sub_(torch.where(root == 0, 0.0, lr * (grad / root)))
        if radius < math.inf:
            x.clamp_(state["center"] - radius, state["center"] + radius)

    @torch.no_grad()
    def restart(self) -> None:
        """Set the weights to their averages, forget the gradients, halve `lr` and `radius`.

        A parameter that took no step in this round keeps its value.
        """
        for group in self.param_groups:
            group["lr"] /= 2
            group["radius"] /= 2
            for param in group["params"]:
                state = self.state.pop(param, None)
                if state:
                    param.copy_(state["average"])


def adagrad(
    grad: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    steps: int,
    lr: float,
    radius: float = math.inf,
) -> Tensor:
    """Average iterate of one round from x (Algorithm 2).

    Args:
        grad: gradient at a point, of the point's shape.
        x: starting point; not changed.
        steps: T, gradients to take, and points in the average.
        lr: as for `AdaGrad`.
        radius: as for `AdaGrad`.

    Raises:
        ValueError: if steps is not an integer >= 1, or as `AdaGrad` does.

    Example:
        >>> adagrad(lambda x: x, torch.tensor([1.0]), steps=2, lr=0.5)  # (1 + 0.5) / 2
        tensor([0.7500])
    """
    require_count("adagrad: steps", steps, "pass the number of gradients to take")
    point = x.detach().clone()
    optimizer = AdaGrad([point], lr, radius=radius)
    for _ in range(steps):
        point.grad = grad(point.clone())  # which an oracle may return as it is
        optimizer.step()
    optimizer.restart()
    return point


@dataclass(frozen=True)
class Restarts:
    """The constants of AdaGrad with restarts, and what they promise (Algorithm 3, Theorem 3).

    Args:
        radius: D, a bound on the largest coordinate of ``|x_0 - x*|``. Unit: that of the weights.
        dimension: d, number of coordinates.
        condition: M/mu, smoothness over strong convexity, after the rescaling of coordinates that
            makes it smallest: 1 for a diagonal quadratic, whatever its condition number.
        proved: take the T that follows from Theorem 2 with the hypercube's diameter, and the lr
            for which it is smallest, in place of the published ones.

    Raises:
        ValueError: if radius is not positive, dimension not a count, or condition below 1.

    Example:
        >>> Restarts(radius=1.0, dimension=3, condition=1.0).steps
        96
        >>> Restarts(radius=1.0, dimension=3, condition=1.0, proved=True).steps
        384
    """

    radius: float
    dimension: int
    condition: float
    proved: bool = False

    def __post_init__(self) -> None:
        require_positive("Restarts: radius", self.radius, "pass a bound on max |x_0 - x*|")
        require_count("Restarts: dimension", self.dimension, "pass the number of coordinates")
        ok = 1 <= self.condition < math.inf
        remedy = "pass smoothness / strong convexity"
        require(ok, "Restarts: condition", "a finite number >= 1", self.condition, remedy)

    @property
    def steps(self) -> int:
        """T, gradients per round: 32 d M/mu as published, 128 d M/mu as proved, rounded up."""
        return math.ceil((128 if self.proved else 32) * self.dimension * self.condition)

    @property
    def lr(self) -> float:
        """Step size of the first round: D/sqrt(2) as published, sqrt(2) D for the proof."""
        return self.radius * math.sqrt(2.0 if self.proved else 0.5)

    def error_bound(self, rounds: int) -> float:
        """Largest coordinate of ``|x - x*|`` after so many rounds: D / 2^rounds."""
        return self.radius / 2.0**rounds

    def rounds(self, tolerance: float) -> int:
        """Rounds after which `error_bound` is at most the tolerance, at least one.

        The paper counts in squares, log_4(D^2 / e) for a squared distance e: the same, log_2 of
        D over the distance.

        Raises:
            ValueError: if tolerance is not positive.
        """
        require_positive("Restarts.rounds: tolerance", tolerance, "pass a distance to the minimum")
        return max(1, math.ceil(math.log2(self.radius / tolerance)))


def adagrad_with_restarts(
    grad: Callable[[Tensor], Tensor], x: Tensor, constants: Restarts, *, rounds: int
) -> list[Tensor]:
    """Run rounds of AdaGrad, each from the average of the one before (Algorithm 3).

    Args:
        grad: gradient at a point, of the point's shape.
        x: starting point, of ``constants.dimension`` entries; not changed.
        constants: T, step size and hypercube.
        rounds: N, number of rounds.

    Returns:
        The averages after rounds 1 to N; the last is the algorithm's output.

    Raises:
        ValueError: if rounds is not an integer >= 1, or x has another dimension.

    Example:
        >>> constants = Restarts(radius=1.0, dimension=1, condition=1.0)
        >>> x = adagrad_with_restarts(lambda x: 1e9 * x, torch.ones(1), constants, rounds=3)[-1]
        >>> bool(x.abs() <= constants.error_bound(3))
        True
    """
    require_count("adagrad_with_restarts: rounds", rounds, "pass Restarts.rounds(tolerance)")
    ok, remedy = x.numel() == constants.dimension, "set Restarts.dimension to x.numel()"
    require(ok, "adagrad_with_restarts: x", f"of {constants.dimension} entries", x.numel(), remedy)
    averages = []
    for k in range(rounds):
        lr, radius = constants.lr / 2**k, constants.radius / 2**k
        x = adagrad(grad, x, steps=constants.steps, lr=lr, radius=radius)
        averages.append(x)
    return averages


def regret_bound(gradients: Tensor, diameter: float, lr: float | None = None) -> float:
    r"""Bound on ``sum_t f(x_t) - f(x)`` over a round, for every x in the hypercube (Theorem 2).

    Per coordinate it is ``(diameter^2 / (2 lr) + lr) sqrt(S_T)``. At lr = diameter/sqrt(2), where
    this is smallest, the sum is at most the published ``sqrt(2 d diameter^2 sum_t |g_t|^2)``.

    Args:
        gradients: the gradients met, of shape (T, d).
        diameter: side of the hypercube, **twice** the radius. Unit: that of the weights.
        lr: step size; None for the published bound, which is that of lr = diameter/sqrt(2).

    Raises:
        ValueError: if diameter or lr is not positive, or gradients is not of shape (T, d).

    Example:
        >>> regret_bound(torch.tensor([[3.0, 4.0]]), diameter=2.0)  # sqrt(2 * 2 * 4 * 25)
        20.0
        >>> round(regret_bound(torch.tensor([[3.0, 4.0]]), diameter=2.0, lr=2**0.5), 4)
        19.799
    """
    require_positive("regret_bound: diameter", diameter, "pass the side of the hypercube")
    shape = tuple(gradients.shape)
    require(len(shape) == 2, "regret_bound: gradients", "of shape (T, d)", shape, "stack them")
    if lr is None:
        return diameter * math.sqrt(2.0 * shape[1] * gradients.square().sum().item())
    require_positive("regret_bound: lr", lr, "pass the step size of the round")
    roots = gradients.square().sum(dim=0).sqrt().sum().item()
    return (diameter**2 / (2.0 * lr) + lr) * roots
