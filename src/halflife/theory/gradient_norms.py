r"""What decay does to gradient norms: two theorems on SGD.

Decay that is not coupled to lr, ``w <- (1 - wd) w - lr_t g``, descends the objective

    f_t(w) = F(w) + wd / (2 lr_t) |w|^2

which moves whenever lr does: no stationary point but 0 survives (Theorem 1, exact here). Decay
that is coupled, ``w <- (1 - lr wd) w - lr g``, descends ``F + (wd / 2) |w|^2`` at every lr, and the
smallest gradient of its run is bounded (Theorem 2, re-derived here).

Source: Xie et al., "On the overlooked pitfalls of weight decay", NeurIPS 2023.
"""

from __future__ import annotations

from ..checks import require_count, require_nonnegative, require_positive

__all__ = ["sgd_gradient_bound", "uncoupled_decay_gradient"]


def uncoupled_decay_gradient(
    *, weight_norm: float, weight_decay: float, lr: float, next_lr: float
) -> float:
    """Gradient norm of the next step's objective where this step's is stationary (Theorem 1).

    If grad f_t(w) = 0 then ``|grad f_{t+1}(w)| = wd |1/lr_{t+1} - 1/lr_t| |w|``. The paper has
    twice this, by a convention: it writes penalties without the 1/2, so that its wd is half of what
    the step removes.

    Args:
        weight_norm: |w| at the stationary point.
        weight_decay: wd, fraction removed per step.
        lr: step size of the step at whose objective the point is stationary.
        next_lr: step size of the step after it.

    Raises:
        ValueError: if an lr is not positive or another argument negative.

    Example:
        >>> uncoupled_decay_gradient(weight_norm=2.0, weight_decay=0.5, lr=0.5, next_lr=0.25)
        2.0
    """
    require_nonnegative("uncoupled_decay_gradient: weight_norm", weight_norm, "pass |w|")
    remedy = "pass the fraction removed per step"
    require_nonnegative("uncoupled_decay_gradient: weight_decay", weight_decay, remedy)
    require_positive("uncoupled_decay_gradient: lr", lr, "pass a step size")
    require_positive("uncoupled_decay_gradient: next_lr", next_lr, "pass a step size")
    return weight_decay * abs(1.0 / next_lr - 1.0 / lr) * weight_norm


def sgd_gradient_bound(
    *,
    steps: int,
    lr: float,
    gap: float,
    smoothness: float,
    gradient_bound: float,
    noise: float = 0.0,
    weight_decay: float = 0.0,
    initial_norm: float = 0.0,
    weight_bound: float = 0.0,
    published: bool = False,
) -> float:
    r"""Bound on min_k E |grad f(w_k)|^2 of SGD with lr-coupled decay at constant lr (Theorem 2).

    With n steps, ``f = F + (wd / 2) |w|^2`` and D its gap at w_0, this is

        D / (n lr) + lr (L + wd) / 2 ((G + wd sup|w|)^2 + sigma^2)

    The paper's form of it has lr = C / sqrt(n) in it, without the 1/2. So that is its exact
    condition: at a smaller lr, as under "at most C / sqrt(n)", the first term is larger. That the
    bound rises with wd, the paper's conclusion, is at fixed sup|w|, which itself falls as wd rises.

    Args:
        steps: n, the paper's t + 1.
        lr: step size.
        gap: F(w_0) - min F; D is this and the penalty at w_0.
        smoothness: L, Lipschitz constant of grad F.
        gradient_bound: G, bound on |grad F|.
        noise: sigma, root of the bound on the variance of a step's gradient.
        weight_decay: wd, coefficient of the penalty. Unit: 1/lr, as in torch.
        initial_norm: |w_0|.
        weight_bound: sup|w|, largest norm of the weights in the run.
        published: leave out the 1/2.

    Raises:
        ValueError: if steps is not a count, lr not positive, or another argument negative.

    Example:
        >>> sgd_gradient_bound(steps=4, lr=0.5, gap=2.0, smoothness=1.0, gradient_bound=2.0)
        2.0
    """
    require_count("sgd_gradient_bound: steps", steps, "pass the number of steps")
    require_positive("sgd_gradient_bound: lr", lr, "pass a step size")
    for name, value in (
        ("gap", gap),
        ("smoothness", smoothness),
        ("gradient_bound", gradient_bound),
        ("noise", noise),
        ("weight_decay", weight_decay),
        ("initial_norm", initial_norm),
        ("weight_bound", weight_bound),
    ):
        require_nonnegative(f"sgd_gradient_bound: {name}", value, "pass a bound on it")
    first_gap = gap + 0.5 * weight_decay * initial_norm**2
    squared_gradient = (gradient_bound + weight_decay * weight_bound) ** 2 + noise**2
    step = lr * (smoothness + weight_decay) * squared_gradient
    return first_gap / (steps * lr) + (step if published else 0.5 * step)
