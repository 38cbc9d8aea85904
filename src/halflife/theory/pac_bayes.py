r"""The PAC-Bayes account of AdamW against Adam with L2: the formulas, and where they fail.

Near a minimum x* with Hessian H, at batch size b and with the preconditioner
``Q = diag(H)^(-1/2)``, the weights are taken to fluctuate with covariance M. A Gaussian prior
``N(0, rho I)`` then bounds the generalisation gap by ``Phi = sqrt(8 / n) sqrt(err + c0)``. If H and
Q are diagonal with entries sigma and ``sigma^(-1/2)``,

    err = sum_i h(x_i)                                    h(x) = log x + 1/x
    x_i = (2 rho b / lr) (sigma_i^(1/2) + wd)                     AdamW
    x_i = (2 rho b / lr) (sigma_i^(1/2) + wd sigma_i^(-1/2))      Adam with L2

Source: Zhou et al., "Towards understanding convergence and generalization of AdamW", TPAMI 2024:
Theorems 6 and 7, Corollary 3. Here is what holds. Where the paper differs:

- **Theorem 6 counts lr / (2 b) twice.** With the M of Lemma 5, ``-log det M`` has it, and the term
  ``d log(2 b rho / lr)`` brings it again. The sum is right for ``M 2 b / lr``; then it equals that
  of Corollary 3, and twice the divergence from the prior plus d (at x* = 0).
- **Theorem 7 prints AdamW's determinant** in the term of Adam with L2.
- **c0 is** ``|x*|^2 / rho - d + 2 log(2 n / tau)``; the paper halves the first two terms.
- **Decay helps no direction in which x > 1**, and the paper argues that x > 1 in most: h rises
  there, and x with wd. What decay can gain, it gains where the curvature is nearly 0, and for AdamW
  that ends at ``wd = lr / (2 rho b)``, far below those in use.
- That AdamW's term is the smaller one *at equal wd* is because sigma < 1; L2's is the smaller one
  at a smaller wd.

The covariances themselves are in `halflife.theory.posterior`. Nothing here trains or measures:
`error_term` takes eigenvalues from anywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..checks import require, require_count, require_nonnegative, require_positive

__all__ = [
    "ErrorTerm",
    "bound",
    "error_term",
    "h",
    "ratio",
]

Method = Literal["adamw", "l2"]


def h(x: Tensor) -> Tensor:
    """``log x + 1/x``, the error of a direction: smallest, 1, where posterior and prior agree.

    Args:
        x: prior over posterior variance of a direction, > 0.

    Example:
        >>> h(torch.tensor(1.0)).item()
        1.0
    """
    return x.log() + 1.0 / x


def ratio(
    eigenvalues: Tensor,
    weight_decay: float,
    *,
    lr: float,
    batch_size: int,
    prior_variance: float,
    method: Method = "adamw",
) -> Tensor:
    """``x``, prior over posterior variance of a direction, by Corollary 3.

    Args:
        eigenvalues: sigma, of the Hessian, > 0. Any shape.
        weight_decay: wd, as in torch: of `Decoupled`, or of L2 for method "l2".
        lr: learning rate at the end of training.
        batch_size: b.
        prior_variance: rho, per weight.
        method: "adamw" or "l2".

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> sigma = torch.tensor([0.25])
        >>> setting = dict(lr=0.5, batch_size=1, prior_variance=1.0)
        >>> ratio(sigma, 1.0, **setting).item(), ratio(sigma, 1.0, method="l2", **setting).item()
        (6.0, 10.0)
    """
    require(method in ("adamw", "l2"), "ratio: method", "'adamw' or 'l2'", method, "choose one")
    require_nonnegative("ratio: weight_decay", weight_decay, "pass torch's weight_decay")
    scale = _scale("ratio", lr, batch_size, prior_variance)
    positive = bool((eigenvalues > 0).all())
    name, remedy = "ratio: eigenvalues", "use error_term, which has a floor"
    require(positive, name, "> 0", "one that is not", remedy)
    root = eigenvalues.sqrt()
    return scale * (root + weight_decay * (1.0 if method == "adamw" else 1.0 / root))


@dataclass(frozen=True)
class ErrorTerm:
    """``err`` of a spectrum, and how much of it was guessed.

    Args:
        total: ``sum_i h(x_i)`` over the d directions.
        per_weight: ``total / d``, the number that the paper's Table 1 has.
        floor: sigma below which the spectrum was raised to it.
        floored: share of the directions that were raised.
        floored_total: their part of `total`.
    """

    total: float
    per_weight: float
    floor: float
    floored: float
    floored_total: float


def error_term(
    eigenvalues: Tensor,
    weight_decay: float,
    *,
    lr: float,
    batch_size: int,
    prior_variance: float,
    floor: float,
    method: Method = "adamw",
    weights: Tensor | None = None,
    dimension: int | None = None,
) -> ErrorTerm:
    """``err`` of Corollary 3 for a spectrum, exact or as quadrature nodes.

    Negative eigenvalues count by size, as in the paper, whose singular values these are. Most of a
    network's eigenvalues are 0 to measuring accuracy, and there the formulas diverge (L2's, and
    AdamW's without decay, as ``log sigma``): the result then is a statement about the floor, so
    there is no default, and `ErrorTerm` says how much rests on it.

    Args:
        eigenvalues: sigma, of the Hessian. Shape ``[k]``.
        weight_decay: as for `ratio`, as are lr, batch_size, prior_variance and method.
        lr: learning rate at the end of training.
        batch_size: b.
        prior_variance: rho, per weight.
        floor: s_min; smaller sizes are raised to it. Unit: that of the eigenvalues.
        method: "adamw" or "l2".
        weights: of quadrature nodes, as from stochastic Lanczos quadrature; normalised to sum 1.
            None: the eigenvalues are all there are.
        dimension: d. Default: the number of eigenvalues.

    Raises:
        ValueError: if an argument is out of range, weights is of another shape, or dimension is
            missing where weights are given.

    Example:
        >>> setting = dict(lr=0.5, batch_size=1, prior_variance=1.0, floor=0.25)
        >>> result = error_term(torch.tensor([1.0, 0.0]), 0.0, **setting)
        >>> result.floored, round(result.total, 4)  # x = 4 and 2
        (0.5, 2.8294)
    """
    name, shape = "error_term", tuple(eigenvalues.shape)
    ok = len(shape) == 1 and shape[0] > 0
    require(ok, f"{name}: eigenvalues", "of shape [k]", shape, "pass one row of them")
    require_positive(f"{name}: floor", floor, "pass the accuracy of the eigenvalues")
    sizes = eigenvalues.detach().double().abs()
    if weights is None:
        share = torch.full_like(sizes, 1.0 / len(sizes))
        dimension = len(sizes) if dimension is None else dimension
    else:
        share = weights.detach().double()
        ok = share.shape == sizes.shape and bool((share >= 0).all()) and bool(share.sum() > 0)
        value, remedy = tuple(share.shape), "pass one weight >= 0 for each eigenvalue"
        require(ok, f"{name}: weights", f"of shape {shape}, >= 0", value, remedy)
        share = share / share.sum()
    require_count(f"{name}: dimension", dimension, "pass the number of parameters")
    assert dimension is not None
    low = sizes < floor
    x = ratio(
        sizes.clamp(min=floor),
        weight_decay,
        lr=lr,
        batch_size=batch_size,
        prior_variance=prior_variance,
        method=method,
    )
    parts = share * h(x)
    total = float(parts.sum())
    floored, floored_total = float(share[low].sum()), float(parts[low].sum())
    return ErrorTerm(dimension * total, total, floor, floored, dimension * floored_total)


def bound(
    total: float,
    *,
    samples: int,
    dimension: int,
    squared_norm: float,
    prior_variance: float,
    failure: float = 0.05,
) -> float:
    """``Phi = sqrt(8/n) sqrt(err + c0)``, with ``c0 = |x*|^2/rho - d + 2 log(2 n / tau)``.

    The gap between expected and training risk is at most this, for a loss in [0, 1], except with
    probability tau over the data. It is above 1, and so empty, for networks of the usual size.

    Args:
        total: err, `ErrorTerm.total`.
        samples: n, of the training set.
        dimension: d, number of weights.
        squared_norm: ``|x*|^2``, of the posterior's mean.
        prior_variance: rho.
        failure: tau. Default 0.05.

    Raises:
        ValueError: if an argument is out of range, or total below d, which no posterior has.

    Example:
        >>> setting = dict(dimension=10, squared_norm=0.0, prior_variance=1.0)
        >>> round(bound(10.0, samples=10_000, **setting), 4)  # posterior = prior
        0.1437
    """
    require_count("bound: samples", samples, "pass the size of the training set")
    require_count("bound: dimension", dimension, "pass the number of parameters")
    require_nonnegative("bound: squared_norm", squared_norm, "pass the weights' squared norm")
    require_positive("bound: prior_variance", prior_variance, "pass the prior's variance")
    require_positive("bound: failure", failure, "pass a probability")
    require(failure < 1, "bound: failure", "below 1", failure, "pass a probability")
    require_positive("bound: total", total, "pass that of an error term")
    least = dimension * (1.0 - 1e-9)
    require(total >= least, "bound: total", f">= dimension = {dimension}", total, "pass the sum")
    c0 = squared_norm / prior_variance - dimension + 2.0 * math.log(2.0 * samples / failure)
    return math.sqrt(8.0 / samples * (total + c0))


def _scale(name: str, lr: float, batch_size: int, prior_variance: float) -> float:
    require_positive(f"{name}: lr", lr, "pass the lr at the end of training")
    require_count(f"{name}: batch_size", batch_size, "pass the samples per step")
    require_positive(f"{name}: prior_variance", prior_variance, "pass the prior's variance")
    return 2.0 * prior_variance * batch_size / lr
