"""The PAC-Bayes terms and covariances from their definitions; the printed theorems against them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from halflife.theory import pac_bayes, posterior
from halflife.theory.pac_bayes import bound, error_term, h, ratio

LR, BATCH, RHO, WD = 0.01, 16, 0.05, 0.3
SETTING = {"lr": LR, "batch_size": BATCH, "prior_variance": RHO}
SCALE = 2 * RHO * BATCH / LR


def hessian(size: int = 5) -> torch.Tensor:
    """Symmetric, with eigenvalues from 0.2 to 5 in a random basis."""
    generator = torch.Generator().manual_seed(3)
    normal = torch.randn(size, size, generator=generator, dtype=torch.float64)
    basis, _ = torch.linalg.qr(normal)
    return basis @ torch.diag(torch.logspace(-0.7, 0.7, size, dtype=torch.float64)) @ basis.T


def covariances(matrix: torch.Tensor, wd: float = WD) -> dict[str, torch.Tensor]:
    return {
        "adamw": posterior.adamw_covariance(matrix, wd, lr=LR, batch_size=BATCH),
        "l2": posterior.l2_covariance(matrix, wd, lr=LR, batch_size=BATCH),
    }


def drift(matrix: torch.Tensor, method: str, wd: float = WD) -> tuple[torch.Tensor, torch.Tensor]:
    """A and Q of the model."""
    q, identity = torch.diag(matrix.diagonal() ** -0.5), torch.eye(len(matrix)).double()
    return (q @ matrix + wd * identity if method == "adamw" else q @ (matrix + wd * identity)), q


def divergence(covariance: torch.Tensor) -> float:
    zero = torch.zeros(len(covariance), dtype=torch.float64)
    prior = MultivariateNormal(zero, RHO * torch.eye(len(covariance)).double())
    return kl_divergence(MultivariateNormal(zero, covariance), prior).item()


# --- covariances ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["adamw", "l2"])
@pytest.mark.parametrize("wd", [0.0, WD, 10.0])
def test_covariances_solve_the_lyapunov_equation(method: str, wd: float) -> None:
    linalg = pytest.importorskip("scipy.linalg")
    matrix = hessian()
    a, q = drift(matrix, method, wd)
    noise = LR / BATCH * q @ matrix @ q
    expected = torch.from_numpy(linalg.solve_continuous_lyapunov(a.numpy(), noise.numpy()))
    torch.testing.assert_close(covariances(matrix, wd)[method], expected, rtol=1e-10, atol=1e-16)


@pytest.mark.parametrize("method", ["adamw", "l2"])
def test_covariance_and_mean_of_a_simulation(method: str) -> None:
    """3000 replicas of the stochastic steps themselves; 3 % is their sampling error and O(lr)."""
    rng = np.random.default_rng(0)
    matrix, replicas = hessian(), 3000
    a, q = (x.numpy() for x in drift(matrix, method))
    minimum = np.array([1.0, -2.0, 0.5, 3.0, -1.0])
    pull = q @ matrix.numpy() @ minimum  # the gradient is H (w - x*)
    noise = q @ np.linalg.cholesky(matrix.numpy() / BATCH)
    w, total, squares, counted = np.tile(minimum, (replicas, 1)), 0.0, 0.0, 0
    for t in range(2600):
        w = w - LR * (w @ a.T - pull) + LR * rng.standard_normal(w.shape) @ noise.T
        if t >= 1000 and t % 100 == 0:
            total, squares, counted = total + w.mean(0), squares + w.T @ w / replicas, counted + 1
    mean = total / counted
    sampled = torch.from_numpy(squares / counted - np.outer(mean, mean))
    expected = covariances(matrix)[method]
    assert (sampled - expected).norm() < 0.03 * expected.norm()
    if method == "adamw":
        predicted = posterior.mean_weights(matrix, torch.from_numpy(minimum), WD)
        np.testing.assert_allclose(mean, predicted.numpy(), rtol=0.01, atol=2e-3)
        assert np.linalg.norm(mean - minimum) > 0.3  # the paper's mean is x*


def test_printed_covariance_of_l2_is_right_for_diagonal_hessians_only() -> None:
    setting = {"lr": LR, "batch_size": BATCH}
    matrix = hessian()
    diagonal = torch.diag(matrix.diagonal())
    printed = posterior.l2_covariance(diagonal, WD, **setting, printed=True)
    torch.testing.assert_close(printed, covariances(diagonal)["l2"], rtol=1e-12, atol=1e-18)
    printed, solution = (
        posterior.l2_covariance(matrix, WD, **setting, printed=p) for p in (True, False)
    )
    assert not torch.allclose(printed, printed.T, rtol=0.01)
    assert (printed - solution).norm() > 0.02 * solution.norm()
    torch.testing.assert_close(solution, solution.T, rtol=1e-12, atol=0)


def test_more_decay_less_fluctuation_and_none_without_difference() -> None:
    matrix = hessian()
    for method in ("adamw", "l2"):
        weak, strong = (covariances(matrix, wd)[method] for wd in (0.1, 1.0))
        assert (torch.linalg.eigvalsh(weak) > torch.linalg.eigvalsh(strong)).all()
    bare = covariances(matrix, 0.0)
    torch.testing.assert_close(bare["adamw"], bare["l2"], rtol=1e-12, atol=1e-16)


# --- error terms ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["adamw", "l2"])
def test_error_term_is_twice_the_divergence_plus_d(method: str) -> None:
    """For a diagonal Hessian Corollary 3 is exact: sum h == 2 KL + d == the mended Theorem 6."""
    sigma = torch.tensor([0.01, 0.3, 1.0, 4.0], dtype=torch.float64)
    covariance = covariances(torch.diag(sigma))[method]
    result = error_term(sigma, WD, **SETTING, floor=1e-12, method=method)
    assert result.total == pytest.approx(2 * divergence(covariance) + 4, rel=1e-12)
    mended = posterior.covariance_error_term(covariance, RHO)
    assert mended == pytest.approx(result.total, rel=1e-12)
    assert result.per_weight == pytest.approx(result.total / 4)
    assert (result.floored, result.floored_total) == (0.0, 0.0)


def test_mended_theorem_6_on_a_full_hessian() -> None:
    for covariance in covariances(hessian()).values():
        expected = 2 * divergence(covariance) + 5
        assert posterior.covariance_error_term(covariance, RHO) == pytest.approx(expected)


def test_theorem_6_as_printed_counts_the_lr_twice() -> None:
    """-log det M + (lr / 2 rho b) tr M + d log(2 b rho / lr), with M as in Lemma 5."""
    covariance = covariances(hessian())["adamw"]

    def printed(matrix: torch.Tensor) -> float:
        trace = matrix.trace().item() * LR / (2 * RHO * BATCH)
        return -torch.logdet(matrix).item() + trace + 5 * math.log(SCALE)

    right = posterior.covariance_error_term(covariance, RHO)
    assert printed(covariance * 2 * BATCH / LR) == pytest.approx(right, rel=1e-12)
    assert printed(covariance) > 1.5 * right


def test_theorem_7_as_printed_has_the_determinant_of_adamw() -> None:
    adamw, l2 = (m * 2 * BATCH / LR for m in covariances(hessian()).values())
    right = posterior.covariance_error_term(l2 * LR / (2 * BATCH), RHO)

    def term(determinant: torch.Tensor) -> float:
        trace = l2.trace().item() / SCALE
        return -torch.logdet(determinant).item() + trace + 5 * math.log(SCALE)

    assert term(l2) == pytest.approx(right, rel=1e-12)
    assert abs(term(adamw) - right) > 0.1


def test_bound_is_that_of_the_divergence() -> None:
    """4 sqrt((KL + log(2 n / tau)) / n), the theorem that the paper uses."""
    covariance, minimum = covariances(hessian())["adamw"], torch.linspace(-1, 1, 5).double()
    prior = MultivariateNormal(torch.zeros(5).double(), RHO * torch.eye(5).double())
    kl = kl_divergence(MultivariateNormal(minimum, covariance), prior).item()
    n, tau = 10_000, 0.1
    expected = 4 * math.sqrt((kl + math.log(2 * n / tau)) / n)
    squared = minimum.square().sum().item()
    error = posterior.covariance_error_term(covariance, RHO)
    value = bound(
        error, samples=n, dimension=5, squared_norm=squared, prior_variance=RHO, failure=tau
    )
    assert value == pytest.approx(expected, rel=1e-12)
    as_printed = squared / (2 * RHO) - 5 / 2 + 2 * math.log(2 * n / tau)
    assert abs(math.sqrt(8 / n * (error + as_printed)) - expected) > 0.1 * expected


def test_h_is_smallest_where_posterior_and_prior_agree() -> None:
    x = torch.linspace(0.1, 10.0, 991, dtype=torch.float64)
    assert x[h(x).argmin()].item() == pytest.approx(1.0)
    assert (h(x[x > 1]).diff() > 0).all()


def test_error_rises_with_decay_from_the_first() -> None:
    """Where x > 1 at wd = 0, as the paper argues that it is: so the bound prefers no decay."""
    sigma = torch.logspace(-3, 0, 20, dtype=torch.float64)
    assert (ratio(sigma, 0.0, **SETTING) > 1).all()
    for method in ("adamw", "l2"):
        terms = [
            error_term(sigma, wd, **SETTING, floor=1e-9, method=method).total
            for wd in (0.0, 1e-4, 1e-2, 0.1, 1.0, 10.0)
        ]
        assert terms == sorted(terms)
        assert terms[0] < terms[1]


def test_adamw_against_l2_is_a_matter_of_sigma_and_of_equal_decay() -> None:
    small, large = torch.tensor([1e-3, 0.5]), torch.tensor([2.0, 50.0])
    terms = {
        (name, method): error_term(sigma, WD, **SETTING, floor=1e-9, method=method).total
        for name, sigma in (("small", small), ("large", large))
        for method in ("adamw", "l2")
    }
    assert terms["small", "adamw"] < terms["small", "l2"]  # the paper's claim
    assert terms["large", "adamw"] > terms["large", "l2"]
    weaker = error_term(small, WD / 1000, **SETTING, floor=1e-9, method="l2").total
    assert weaker < terms["small", "adamw"]  # and it turns with separately chosen decay


@pytest.mark.parametrize("method", ["adamw", "l2"])
def test_quadrature_nodes_stand_for_eigenvalues(method: str) -> None:
    nodes, counts = torch.tensor([0.0, 0.5, 2.0, -0.1]), torch.tensor([6.0, 2.0, 1.0, 1.0])
    listed = nodes.repeat_interleave(counts.long())
    setting = {**SETTING, "floor": 1e-3, "method": method}
    whole = error_term(listed, WD, **setting)
    summed = error_term(nodes, WD, **setting, weights=3 * counts, dimension=10)
    assert summed.total == pytest.approx(whole.total, rel=1e-6)
    assert summed.floored == pytest.approx(0.6)
    assert summed.floored_total == pytest.approx(whole.floored_total, rel=1e-6)


def test_floor_decides_where_the_spectrum_is_zero() -> None:
    """L2's term grows as -log(floor)/2 per direction; AdamW's with decay settles."""
    zeros = torch.zeros(10)
    low, high = (error_term(zeros, WD, **SETTING, floor=f, method="l2") for f in (1e-12, 1e-8))
    assert low.total - high.total == pytest.approx(10 * 0.5 * math.log(1e4), rel=1e-3)
    assert low.floored == 1.0
    assert low.floored_total == low.total
    adamw = [error_term(zeros, WD, **SETTING, floor=f).per_weight for f in (1e-12, 1e-10)]
    assert adamw[0] == pytest.approx(adamw[1], rel=1e-4)


ONE = torch.ones(1)
ERRORS = [
    (lambda: ratio(ONE, 0.1, **SETTING, method="sgd"), "method must be 'adamw' or 'l2'"),
    (lambda: ratio(ONE, -0.1, **SETTING), "weight_decay must be a finite number >= 0, got -0.1"),
    (lambda: ratio(0 * ONE, 0.1, **SETTING), "eigenvalues must be > 0"),
    (lambda: ratio(ONE, 0.1, lr=0, batch_size=1, prior_variance=1), "lr must be .* > 0, got 0"),
    (lambda: error_term(ONE, 0.1, **SETTING, floor=0.0), "floor must be .* > 0, got 0.0"),
    (lambda: error_term(ONE[0], 0.1, **SETTING, floor=1.0), r"must be of shape \[k\]"),
    (lambda: error_term(ONE, 0.1, **SETTING, floor=1.0, weights=ONE), "dimension must be an int"),
    (
        lambda: error_term(ONE, 0.1, **SETTING, floor=1.0, weights=-ONE, dimension=3),
        "weights must be of shape",
    ),
    (lambda: posterior.diagonal_preconditioner(torch.ones(2, 3)), "must be a symmetric matrix"),
    (lambda: posterior.diagonal_preconditioner(-torch.eye(2)), "smallest eigenvalue must be > 0"),
    (lambda: posterior.covariance_error_term(-torch.eye(1), 1.0), "must be positive definite"),
    (lambda: posterior.mean_weights(torch.eye(1), ONE, -1.0), "weight_decay must be"),
    (
        lambda: bound(1.0, samples=9, dimension=3, squared_norm=0.0, prior_variance=1.0),
        "total must be >= dimension = 3, got 1.0",
    ),
]


@pytest.mark.parametrize(("call", "message"), ERRORS)
def test_refused_with_the_reason(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_method_names_are_those_of_the_type() -> None:
    assert pac_bayes.Method.__args__ == ("adamw", "l2")
