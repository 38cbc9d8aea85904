"""What the exact studies share: random cases, optimizers on given gradients, and how far apart.

A statement without noise is asked of many random cases, all in float64: an equality comes to a
relative deviation, an inequality to the share by which it is exceeded. Each is judged by the
largest; what is left to tolerate is rounding, of some 1e-16 a step of the computation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ...algorithms import create
from ...schedules import cosine, exponential, multistep
from .bench_runs import findings
from .calls import Call, Findings, Values, call, study

__all__ = [
    "adam_moments", "apart", "between", "changing_rates", "excess", "largest", "no_gradient",
    "noisy_sine", "normal", "random_axes", "random_cases", "trajectory",
]  # fmt: skip

Random: TypeAlias = np.random.Generator
Gradient: TypeAlias = Callable[[Tensor, int], Tensor]
# A random case of a study: from a source of random numbers, and settings, to its endpoints.
Case: TypeAlias = Callable[..., Mapping[str, float]]


def random_cases(name: str) -> Callable[[Case], Callable[..., Values]]:
    """What makes a random case a study: so many for each seed are measured, and all are judged.

    Args:
        name: of the registered design. Its settings are ``seeds``, ``cases`` for each, and what is
            handed on to the case.
    """

    def registered(one: Case) -> Callable[..., Values]:
        @functools.wraps(one)
        def measure(*, seed: int, cases: int, **settings: Any) -> Values:
            rows = [one(np.random.default_rng([seed, k]), **settings) for k in range(cases)]
            return {key: [float(row[key]) for row in rows] for key in rows[0]}

        def plan(
            settings: Mapping[str, Any],
        ) -> Generator[list[Call], list[Values], Findings]:
            own = {key: value for key, value in settings.items() if key != "seeds"}
            found = yield [call(measure, seed=seed, **own) for seed in range(settings["seeds"])]
            return findings({key: np.concatenate([f[key] for f in found]) for key in found[0]})

        plan.__module__ = one.__module__
        study(name)(plan)
        return measure

    return registered


def normal(random: Random, *shape: int) -> Tensor:
    """Independent normal numbers, float64."""
    return torch.from_numpy(random.normal(size=shape))


def between(random: Random, low: float, high: float) -> float:
    """A number whose logarithm is uniform.

    Example:
        >>> 0.1 < between(np.random.default_rng(0), 0.1, 10.0) < 10.0
        True
    """
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def random_axes(random: Random, dimension: int) -> Tensor:
    """A random orthogonal matrix."""
    return torch.linalg.qr(normal(random, dimension, dimension))[0]


def changing_rates(random: Random, steps: int, peak: float) -> list[float]:
    """Learning rates of a run, none of them zero and few of them equal."""
    curves = (
        cosine(steps),
        multistep([steps // 3, 2 * steps // 3], 0.1),
        exponential(0.8),
    )
    curve = curves[random.integers(len(curves))]
    return [peak * curve(step) for step in range(steps)]


def noisy_sine(random: Random, dimension: int, steps: int) -> Gradient:
    """The gradient of ``-sum c_j cos w_j`` and noise of its own at each step."""
    curvatures = 0.5 + torch.from_numpy(random.uniform(size=dimension))
    noise = normal(random, steps, dimension)
    return lambda w, step: curvatures * w.sin() + noise[step]


def no_gradient(w: Tensor, step: int) -> Tensor:
    """Zero."""
    return torch.zeros_like(w)


def trajectory(
    optimizer: str | Callable[..., Any],
    start: Tensor,
    gradient: Gradient,
    lrs: Sequence[float],
    *,
    decays: Sequence[float] | None = None,
    groups: int = 2,
    peak: float | None = None,
    **settings: Any,
) -> Tensor:
    """Weights before a run and after each of its steps; shape ``[steps + 1, d]``.

    Args:
        optimizer: name of a published algorithm, or what builds one.
        start: initial weights, one vector; a tensor a group is made of it.
        gradient: at the weights, before a step.
        lrs: of the steps.
        decays: weight decay of each step, if it changes.
        groups: how many the weights are in.
        peak: highest lr of the schedule, if it is not among these.
        settings: of the optimizer.
    """
    build = functools.partial(create, optimizer) if isinstance(optimizer, str) else optimizer
    params = [part.clone().requires_grad_() for part in start.tensor_split(groups)]
    own = build([{"params": [p]} for p in params], lr=peak or max(lrs), **settings)
    weights = [start.clone()]
    for step, lr in enumerate(lrs):
        parts = gradient(weights[-1], step).tensor_split(groups)
        for group, p, part in zip(own.param_groups, params, parts, strict=True):
            group["lr"] = lr
            if decays is not None:
                group["weight_decay"] = decays[step]
            p.grad = part.clone()
        own.step()
        weights.append(torch.cat([p.detach() for p in params]))
    return torch.stack(weights)


def adam_moments(
    gradients: Sequence[Tensor], betas: tuple[float, float] = (0.9, 0.999)
) -> list[tuple[Tensor, Tensor]]:
    """Adam's two moments after each gradient, corrected for bias: a transcription."""
    first, second = betas
    m = v = torch.zeros_like(gradients[0])
    found = []
    for step, g in enumerate(gradients, start=1):
        m = first * m + (1.0 - first) * g
        v = second * v + (1.0 - second) * g * g
        found.append((m / (1.0 - first**step), v / (1.0 - second**step)))
    return found


def apart(a: Tensor | float, b: Tensor | float) -> float:
    """Largest difference, over the largest entry of the two.

    Example:
        >>> apart(torch.tensor([4.0, 1.0]), torch.tensor([4.0, 2.0]))
        0.25
    """
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (a, b))
    size = largest(float(a.abs().max()), float(b.abs().max()))
    return float((a - b).abs().max()) / size if size else 0.0


def excess(measured: float, bound: float) -> float:
    """Share by which a number is above its bound, 0 below it.

    Example:
        >>> excess(3.0, 2.0), excess(1.0, 2.0)
        (0.5, 0.0)
    """
    return largest(0.0, measured / bound - 1.0)


def largest(*values: float) -> float:
    """The largest of some numbers, and no number if one of them is none: `max` may lose it.

    Example:
        >>> largest(0.0, float("nan")), max(0.0, float("nan"))
        (nan, 0.0)
    """
    return float(np.max(values))
