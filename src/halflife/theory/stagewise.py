r"""AdamW as it is analysed, and stage-wise: one run after another, each aiming at half the error.

Algorithm 1, elementwise, with steps counted from k = 0:

    m_k = (1 - b1) m_{k-1} + b1 g_k        n_k = (1 - b2) n_{k-1} + b2 g_k^2
    v_k = sqrt(n_k + delta)                x_{k+1} = (1 - lr_k lambda_k) x_k - lr_k m_k / v_k

It is not torch's AdamW: b1 and b2 are one minus torch's, there is no bias correction, and delta is
under the root. These are reference functions over a gradient oracle, to check theorems with;
what trains a network is an optimizer, and those are in ``halflife.optim``.

Algorithm 2 calls Algorithm 1 from the last stage's output. Its output is an iterate drawn with
probability lr_i / sum(lr): uniformly, if lr is constant. The paper's index runs over x_1 ... x_T;
drawn here is from x_0 ... x_{T-1}, where the gradients are taken whose mean the theorem bounds.

Source: Zhou et al., "Towards understanding convergence and generalization of AdamW", TPAMI 2024,
Algorithms 1 and 2, and Theorem 4, whose lr and beta_1 are those of Theorem 2 at accuracy^2 =
mu e_k / 2. The paper does not say what becomes of the moments between stages. **Its T_k of order
1/e_k holds if those of the drawn iterate are carried over**, the default here: by Theorem 2's third
claim their error is at most 8 accuracy^2, and takes no longer to average out than the gap to close.
Fresh moments, as of a new call of Algorithm 1, bring back the gradient's whole variance: it takes
3 c2 sigma^2 / (c1 b1 b accuracy^2) steps, of order 1/e_k^2 as b1 ~ e_k. Decaying schedules begin
each stage at a beta_1 of 1, which forgets what is carried; what follows from Theorem 3 is 1/e_k^2,
up to a logarithm. The decay's schedule starts again in each stage. With weight decay, F_k changes
there; the proof, and so these T_k, take that as harmless.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..checks import require, require_count, require_nonnegative, require_positive
from .convergence import Decaying, Problem, Steady

__all__ = ["AdamWStep", "Stage", "adamw", "doubling_stages", "stagewise_adamw", "theorem_stages"]

Schedule = float | Callable[[int], float]
Moments = Literal["carried", "fresh"]


class AdamWStep(NamedTuple):
    """Step k of `adamw`: where it was, what it used, where it went; ``square`` is n."""

    x: Tensor
    momentum: Tensor
    scale: Tensor
    lr: float
    weight_decay: float
    next_x: Tensor
    square: Tensor


def adamw(
    grad: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    steps: int,
    lr: Schedule,
    beta1: Schedule,
    beta2: float,
    delta: float,
    weight_decay: Schedule = 0.0,
    moments: Literal["gradient", "zero"] | tuple[Tensor, Tensor] = "gradient",
    l2: bool = False,
) -> Iterator[AdamWStep]:
    """The steps k = 0 ... T-1 of AdamW as analysed (Algorithm 1), or of l2-Adam.

    Args:
        grad: unbiased gradient at a point, of the point's shape.
        x: x_0; not changed.
        steps: T.
        lr: step size, or a function of k, as are `beta1` and `weight_decay`.
        beta1: weight of the newest gradient in m, in [0, 1]: 1 - beta_1 of torch, 0.1 by default.
        beta2: weight of the newest squared gradient in n, likewise: 0.001 for torch's default.
        delta: constant under the root. Unit: gradient squared.
        weight_decay: lambda_k; a step removes lr_k lambda_k of each weight. Unit: 1/lr.
        moments: "gradient" for the main text's m_0 = g_0, n_0 = g_0^2; "zero" for m_{-1} = n_{-1}
            = 0, as in the supplement's proof of Theorem 1; or m_{-1} and n_{-1}, to go on from.
        l2: add lambda_k x_k to the gradient in place of decaying the weights.

    Raises:
        ValueError: if steps is no count, delta not positive, a beta outside [0, 1], lr not
            positive, weight_decay negative, or moments unknown; schedules are checked as they go.

    Example:
        >>> step = next(adamw(lambda x: x, torch.tensor([3.0]), steps=1, lr=0.5, beta1=0.1,
        ...                   beta2=0.001, delta=16.0, weight_decay=1.0))
        >>> step.next_x  # 3 (1 - 0.5) - 0.5 * 3 / sqrt(9 + 16)
        tensor([1.2000])
    """
    require_count("adamw: steps", steps, "pass the number of gradients to take")
    require_positive("adamw: delta", delta, "pass the constant under the root, such as 1e-4")
    _require_beta("adamw: beta2", beta2)
    m = n = torch.zeros_like(x)
    if isinstance(moments, str):
        known, remedy = ("gradient", "zero"), "pass one of them, or the moments themselves"
        require(moments in known, "adamw: moments", f"one of {known}", moments, remedy)
    else:
        m, n = moments
    for k in range(steps):
        rate, b1, decay = _at(lr, k), _at(beta1, k), _at(weight_decay, k)
        require_positive(f"adamw: lr at step {k}", rate, "pass a step size")
        _require_beta(f"adamw: beta1 at step {k}", b1)
        require_nonnegative(f"adamw: weight_decay at step {k}", decay, "pass 0 for none")
        g = grad(x) + decay * x if l2 else grad(x)
        first = k == 0 and moments == "gradient"
        m = g if first else (1.0 - b1) * m + b1 * g
        n = g.square() if first else (1.0 - beta2) * n + beta2 * g.square()
        v = (n + delta).sqrt()
        following = (x if l2 else (1.0 - rate * decay) * x) - rate * m / v
        yield AdamWStep(x, m, v, rate, decay, following, n)
        x = following


@dataclass(frozen=True)
class Stage:
    """One stage: AdamW's schedules, counted from the stage's own step 0, and its length.

    Args:
        lr: step size, or a function of the stage's step.
        beta1: weight of the newest gradient, or a function of the stage's step.
        steps: T_k.

    Raises:
        ValueError: if steps is not a count.
    """

    lr: Schedule
    beta1: Schedule
    steps: int

    def __post_init__(self) -> None:
        require_count("Stage: steps", self.steps, "pass the number of gradients to take")


def doubling_stages(lr: float, beta1: float, steps: int, *, stages: int) -> list[Stage]:
    """Stages as one runs them: lr and beta_1 halve, steps double, T_k = T_1 2^(k-1).

    Args:
        lr: step size of the first stage.
        beta1: weight of the newest gradient in the first stage: 1 - beta_1 of torch.
        steps: T_1.
        stages: K, number of stages.

    Raises:
        ValueError: if lr is not positive, beta1 outside [0, 1], or steps or stages not a count.

    Example:
        >>> [(s.lr, s.beta1, s.steps) for s in doubling_stages(0.5, 1.0, 10, stages=2)]
        [(0.5, 1.0, 10), (0.25, 0.5, 20)]
    """
    require_positive("doubling_stages: lr", lr, "pass a step size")
    _require_beta("doubling_stages: beta1", beta1)
    require_count("doubling_stages: steps", steps, "pass the steps of the first stage")
    require_count("doubling_stages: stages", stages, "pass the number of stages")
    return [Stage(lr / 2**k, beta1 / 2**k, steps * 2**k) for k in range(stages)]


def theorem_stages(
    problem: Problem,
    *,
    pl: float,
    stages: int,
    decaying: bool = False,
    moments: Moments = "carried",
) -> list[Stage]:
    """Stages after which E F_k(x_k) - F_k(x*) <= e_k = 2^-k (F_0(x_0) - F_0(x*)) (Theorem 4).

    A mean squared gradient of mu e_k / 2, which they reach, would by the condition give e_k / 4.

    Args:
        problem: what is known of the problem; stage k starts with a gap of e_{k-1} = 2 e_k.
        pl: mu of the Polyak-Lojasiewicz condition ``2 mu (F(x) - min F) <= |grad F(x)|^2``.
        stages: K, number of stages.
        decaying: Theorem 3's schedules in every stage, in place of constants.
        moments: as for `stagewise_adamw`: T_k doubles with "carried", and with "fresh" doubles at
            first and quadruples in the end. Without meaning where schedules decay.

    Raises:
        ValueError: if pl is not in (0, smoothness], stages not a count, the gap zero, or moments
            unknown.

    Example:
        >>> problem = Problem(smoothness=1.0, gradient_bound=1.0, noise=0.5, gap=1.0, delta=3.0)
        >>> [stage.steps for stage in theorem_stages(problem, pl=1.0, stages=7)]
        [207, 413, 826, 1651, 3302, 6603, 13205]
        >>> [s.steps for s in theorem_stages(problem, pl=1.0, stages=7, moments="fresh")][-2:]
        [12288, 49153]
    """
    remedy = "no smooth function has more"
    ok = 0 < pl <= problem.smoothness
    require(ok, "theorem_stages: pl", f"in (0, smoothness = {problem.smoothness:g}]", pl, remedy)
    require_count("theorem_stages: stages", stages, "pass the number of stages")
    _require_moments("theorem_stages: moments", moments)
    gap, remedy = problem.first_gap, "at the minimum there is nothing to do"
    require_positive("theorem_stages: gap of the problem", gap, remedy)
    chosen: list[Stage] = []
    carried: float | None = None  # bound on the error of the moments that the stage before leaves
    for k in range(1, stages + 1):
        error = gap / 2**k
        accuracy = math.sqrt(0.5 * pl * error)
        start = replace(problem, gap=2.0 * error, initial_norm=0.0)
        if decaying:
            falling = Decaying(start)
            chosen.append(Stage(falling.lr, falling.beta1, falling.steps(accuracy)))
        else:
            constant = Steady(start, accuracy, moment_error=carried)
            chosen.append(Stage(constant.lr, constant.beta1, constant.steps))
            carried = 8.0 * accuracy**2 if moments == "carried" else None
    return chosen


def stagewise_adamw(
    grad: Callable[[Tensor], Tensor],
    x: Tensor,
    stages: Sequence[Stage],
    *,
    beta2: float,
    delta: float,
    weight_decay: Schedule = 0.0,
    moments: Moments = "carried",
    generator: torch.Generator | None = None,
) -> list[Tensor]:
    """Run AdamW stage by stage, each from the output of the one before (Algorithm 2).

    Args:
        grad: unbiased gradient at a point, of the point's shape.
        x: starting point; not changed.
        stages: what to run, by `doubling_stages` or `theorem_stages`.
        beta2: as for `adamw`.
        delta: as for `adamw`.
        weight_decay: lambda, or a function of the step within a stage.
        moments: what a stage starts with: "carried" for the moments that belong to the drawn
            output, "fresh" for those of a new call of Algorithm 1. The first stage is always new.
        generator: source of the drawn outputs; the global one by default.

    Returns:
        The outputs of the stages; the last is the algorithm's.

    Raises:
        ValueError: if moments is unknown, or as `adamw` does.

    Example:
        >>> stages = doubling_stages(0.5, 1.0, 1, stages=1)
        >>> stagewise_adamw(lambda x: x, torch.tensor([3.0]), stages, beta2=0.001, delta=16.0)
        [tensor([3.])]
    """
    _require_moments("stagewise_adamw: moments", moments)
    outputs: list[Tensor] = []
    kept: tuple[Tensor, Tensor] | None = None
    for stage in stages:
        run = adamw(
            grad,
            x,
            steps=stage.steps,
            lr=stage.lr,
            beta1=stage.beta1,
            beta2=beta2,
            delta=delta,
            weight_decay=weight_decay,
            moments="gradient" if kept is None else kept,
        )
        drawn = _draw(run, generator)
        x = drawn.x
        kept = (drawn.momentum, drawn.square) if moments == "carried" else None
        outputs.append(x)
    return outputs


def _draw(run: Iterator[AdamWStep], generator: torch.Generator | None) -> AdamWStep:
    """One step, drawn with probability lr / sum(lr) in a single pass."""
    chosen = next(run)
    total = chosen.lr
    for step in run:
        total += step.lr
        if torch.rand((), generator=generator, dtype=torch.float64).item() * total < step.lr:
            chosen = step
    return chosen


def _at(schedule: Schedule, k: int) -> float:
    return schedule(k) if callable(schedule) else schedule


def _require_moments(name: str, value: str) -> None:
    known, remedy = ("carried", "fresh"), "pass one of them"
    require(value in known, name, f"one of {known}", value, remedy)


def _require_beta(name: str, value: float) -> None:
    remedy = "pass 1 - beta of torch, such as 0.1"
    require(0 <= value <= 1, name, "in [0, 1]", value, remedy)
