"""Exact studies of Zhou et al., "Towards Understanding ... AdamW" (003): section 5, tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from scipy.linalg import solve_continuous_lyapunov, solve_discrete_lyapunov
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from ...theory.pac_bayes import bound, error_term, h
from ...theory.posterior import (
    adamw_covariance,
    covariance_error_term,
    l2_covariance,
    mean_weights,
)
from .bench_exact import Random, apart, between, excess, largest, normal, random_axes, random_cases

Method = Literal["adamw", "l2"]
_ZEROS = torch.zeros(5, dtype=torch.float64)


def _hessian(random: Random, dimension: int = 5, turned: bool = True) -> Tensor:
    """Symmetric, positive definite, eigenvalues from 0.1 to 10."""
    values = torch.exp(torch.from_numpy(random.uniform(math.log(0.1), math.log(10.0), dimension)))
    basis = random_axes(random, dimension) if turned else torch.eye(dimension, dtype=torch.float64)
    matrix = basis @ torch.diag(values) @ basis.T
    return 0.5 * (matrix + matrix.T)


def _pull(hessian: Tensor, decay: float, method: Method) -> tuple[Tensor, Tensor]:
    """``A`` and ``Q H Q`` of the steps ``w - lr (A w - Q noise)``."""
    q = torch.diag(hessian.diagonal().rsqrt())
    identity = torch.eye(len(hessian), dtype=torch.float64)
    a = q @ hessian + decay * (identity if method == "adamw" else q)
    return a, q @ hessian @ q


@random_cases("003/lemma-5")
def posterior_covariances(random: Random) -> dict[str, float]:
    """Covariances of AdamW and l2-Adam near a minimum, against Lyapunov's equation."""
    full, diagonal = _hessian(random), _hessian(random, turned=False)
    decay, lr, batch = between(random, 0.05, 2.0), 1e-3, int(random.integers(1, 65))
    sizes: dict[str, Any] = {"lr": lr, "batch_size": batch}

    def solved(hessian: Tensor, method: Method) -> Tensor:
        a, noise = _pull(hessian, decay, method)
        return torch.from_numpy(solve_continuous_lyapunov(a.numpy(), (lr / batch * noise).numpy()))

    def discrete(rate: float) -> float:
        """Relative distance to the stationary covariance of the steps themselves."""
        a, noise = _pull(full, decay, "adamw")
        kept = torch.eye(5, dtype=torch.float64) - rate * a
        exact = solve_discrete_lyapunov(kept.numpy(), (rate**2 / batch * noise).numpy())
        told = adamw_covariance(full, decay, lr=rate, batch_size=batch)
        return apart(told, torch.from_numpy(exact))

    adamw = adamw_covariance(full, decay, **sizes)
    l2 = l2_covariance(full, decay, **sizes)
    printed = l2_covariance(full, decay, printed=True, **sizes)
    stronger = adamw_covariance(full, 1.5 * decay, **sizes)
    minimum = normal(random, 5)
    a, _ = _pull(full, decay, "adamw")
    q = full.diagonal().rsqrt()
    w, at = minimum, 1.0 / float(torch.linalg.eigvals(a).abs().max())
    for _ in range(2000):
        w = (1.0 - at * decay) * w - at * q * (full @ (w - minimum))
    mean = mean_weights(full, minimum, decay)
    falls = torch.linalg.eigvalsh(stronger) / torch.linalg.eigvalsh(adamw)
    rates = [2.0**-k for k in range(10, 15)]
    gaps = np.log([discrete(rate) for rate in rates])
    same = l2_covariance(full, 0.0, **sizes)
    return {
        "adamw": apart(adamw, solved(full, "adamw")),
        "adamw/null": apart(adamw, solved(full, "l2")),
        "l2": apart(l2, solved(full, "l2")),
        "l2/null": apart(printed, solved(full, "l2")),
        "printed l2": apart(printed, solved(full, "l2")),
        "printed l2/null": apart(adamw, solved(full, "l2")),
        "printed l2, diagonal": apart(
            l2_covariance(diagonal, decay, printed=True, **sizes), solved(diagonal, "l2")
        ),
        "printed l2, diagonal/null": apart(printed, solved(full, "l2")),
        "no decay": apart(adamw_covariance(full, 0.0, **sizes), same),
        "no decay/null": apart(adamw, l2),
        "centre": apart(w, minimum),
        "centre/null": apart(torch.zeros_like(w), minimum),
        "mean": apart(w, mean),
        "mean/null": apart(minimum, mean),
        "falls": excess(float(falls.max()), 1.0),
        "falls/null": excess(float((1.0 / falls).max()), 1.0),
        "first order": float(np.polyfit(np.log(rates), gaps, 1)[0]) - 1.0,
        "first order/null": float(np.polyfit(np.log(rates), 2.0 * gaps, 1)[0]) - 1.0,
        "first order/planted": float(np.polyfit(np.log(rates), np.log(rates), 1)[0]) - 1.0,
    }


@random_cases("003/theorem-6")
def divergence_from_prior(random: Random) -> dict[str, float]:
    """The error terms as divergences of the posterior from the prior ``N(0, rho I)``."""
    dimension = 5
    hessian, flat = _hessian(random), _hessian(random, turned=False)
    decay, lr, batch = between(random, 0.05, 2.0), between(random, 1e-3, 0.1), 16
    rho, samples, failure = between(random, 0.01, 1.0), int(random.integers(100, 10**6)), 0.05
    minimum = normal(random, dimension)
    scale = 2.0 * batch / lr

    def divergence(covariance: Tensor, mean: Tensor = _ZEROS) -> float:
        prior = MultivariateNormal(_ZEROS, rho * torch.eye(dimension, dtype=torch.float64))
        symmetric = 0.5 * (covariance + covariance.T)
        return float(kl_divergence(MultivariateNormal(mean, symmetric), prior))

    def printed(determinant: Tensor, trace: Tensor) -> float:
        logarithm = float(torch.linalg.slogdet(determinant)[1])
        constant = dimension * math.log(scale * rho)
        return -logarithm + float(trace.trace()) / (scale * rho) + constant

    m = adamw_covariance(hessian, decay, lr=lr, batch_size=batch)
    m_l2 = l2_covariance(hessian, decay, lr=lr, batch_size=batch)
    err, err_l2 = (2.0 * divergence(each) + dimension for each in (m, m_l2))

    def by_directions(method: Method) -> float:
        return error_term(
            flat.diagonal(), decay, lr=lr, batch_size=batch, prior_variance=rho, floor=1e-12,
            method=method,
        ).total  # fmt: skip

    diagonal = {
        "adamw": adamw_covariance(flat, decay, lr=lr, batch_size=batch),
        "l2": l2_covariance(flat, decay, lr=lr, batch_size=batch),
    }
    told = {key: 2.0 * divergence(each) + dimension for key, each in diagonal.items()}
    whole = divergence(m, minimum)
    size = float(minimum.square().sum())
    phi = bound(err, samples=samples, dimension=dimension, squared_norm=size,
                prior_variance=rho, failure=failure)  # fmt: skip
    chance = math.log(2.0 * samples / failure)
    catoni = 4.0 * math.sqrt((whole + chance) / samples)
    half = size / (2.0 * rho) - dimension / 2.0 + 2.0 * chance
    c0_printed = math.sqrt(8.0 / samples * max(err + half, 0.0))
    crossed = largest(
        apart(told["adamw"], by_directions("l2")), apart(told["l2"], by_directions("adamw"))
    )
    return {
        "divergence": apart(covariance_error_term(m, rho), err),
        "divergence/null": apart(covariance_error_term(m_l2, rho), err),
        "printed": apart(printed(m, m), err),
        "printed/null": apart(printed(m_l2, m_l2), err),
        "mended": apart(printed(scale * m, scale * m), err),
        "mended/null": apart(printed(m, m), err),
        "theorem 7": apart(printed(scale * m, scale * m_l2), err_l2),
        "theorem 7/null": apart(printed(m, m_l2), err_l2),
        "theorem 7 mended": apart(printed(scale * m_l2, scale * m_l2), err_l2),
        "theorem 7 mended/null": apart(printed(scale * m, scale * m_l2), err_l2),
        "corollary 3": largest(
            apart(told["adamw"], by_directions("adamw")), apart(told["l2"], by_directions("l2"))
        ),
        "corollary 3/null": crossed,
        "phi": apart(phi, catoni),
        "phi/null": apart(c0_printed, catoni),
        "printed c0": apart(c0_printed, catoni),
        "printed c0/null": apart(math.sqrt(8.0 / samples * err), catoni),
    }


@random_cases("003/corollary-3")
def error_by_decay(random: Random) -> dict[str, float]:
    """The error terms of random spectra at equal decay and at each method's own."""
    count = 50
    small = torch.from_numpy(random.uniform(-12.0, -0.1, count)).exp()
    lr, batch = between(random, 1e-4, 1e-2), int(random.integers(64, 4097))
    decay = between(random, 1e-3, 0.5)
    low = float(small.sqrt().min())  # rho such that x > 1 in all directions, at any decay
    rho = between(random, 1.5, 100.0) * lr / (2.0 * batch * low)

    def err(spectrum: Tensor, weight_decay: float, method: Method) -> float:
        return error_term(
            spectrum, weight_decay, lr=lr, batch_size=batch, prior_variance=rho, floor=1e-30,
            method=method,
        ).total  # fmt: skip

    def on_small(weight_decay: float, method: Method) -> float:
        return err(small, weight_decay, method)

    w, l2 = on_small(decay, "adamw"), on_small(decay, "l2")
    own = on_small(decay * float(small.min()), "l2")
    grid = torch.linspace(0.2, 5.0, 97, dtype=torch.float64)
    steps = h(grid).diff()
    rises = float((-steps[grid[:-1] >= 1.0]).clamp_min(0.0).max())
    falls = float((-steps).clamp_min(0.0).max())
    return {
        "smaller": excess(w, l2),
        "smaller/null": excess(err(1.0 / small, decay, "adamw"), err(1.0 / small, decay, "l2")),
        "own decay": excess(w, own),
        "own decay/null": excess(l2, own),
        "h": rises,
        "h/null": falls,
        "helps": excess(w, on_small(0.0, "adamw")),
        "helps/null": excess(l2, on_small(0.0, "l2")),
        "rises": excess(w, on_small(2.0 * decay, "adamw")),
        "rises/null": excess(on_small(2.0 * decay, "adamw"), w),
    }


@random_cases("003/printed-figures")
def what_is_printed(
    random: Random, *, shares: Sequence[float], errors: Sequence[float],
    accuracies: Sequence[Sequence[float]], dimension: float,
) -> dict[str, float]:  # fmt: skip
    """Sentences of section 6 against the figures that are printed there."""
    least = min(shares)
    apart_by = [abs(d - constant) for constant, d in accuracies]
    gains = [w - l2 for w, l2 in zip(errors[::2], errors[1::2], strict=True)]
    return {
        "99 percent": max(0.0, 99.0 - least),
        "99 percent/null": max(0.0, 99.9 - least),
        "similar": max(0.0, max(apart_by) - 0.3),
        "similar/null": max(0.0, max(apart_by) - 0.1),
        "smaller error": max(0.0, max(gains)),
        "smaller error/null": max(0.0, -min(gains)),
        "a sum": excess(dimension, min(errors)),
        "a sum/null": excess(0.5 * dimension, min(errors)),
    }
