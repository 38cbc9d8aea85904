"""Eigenvalues, densities and traces of matrices whose spectrum is chosen."""

from __future__ import annotations

import json
import math

import pytest
import torch

from halflife.diagnostics import curvature
from halflife.diagnostics.curvature import ConvergenceWarning

F64 = torch.float64


def matrix(spectrum: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """A symmetric matrix with these eigenvalues in a random basis."""
    generator = torch.Generator().manual_seed(seed)
    n = len(spectrum)
    basis = torch.linalg.qr(torch.randn(n, n, dtype=F64, generator=generator))[0]
    product = basis * spectrum.double() @ basis.T
    return (product + product.T) / 2


def bulk(*outliers: float, n: int = 200) -> torch.Tensor:
    """A Hessian's usual shape: most eigenvalues near zero, some of them negative, few large."""
    return torch.cat(
        [torch.linspace(-0.1, 0.5, n - len(outliers)), torch.tensor(outliers)]
    ).double()


SPECTRA = {
    "outliers": bulk(5.0, 9.0, 3.0, -2.0),
    "negative": -bulk(5.0, 9.0, 3.0, n=60) - 1.0,
    "condition 1e6": torch.logspace(-6, 0, 80, dtype=F64),
    "zeros": torch.cat([torch.zeros(50), torch.tensor([1.0, 2.0, -0.5])]).double(),
    "one": torch.tensor([3.0], dtype=F64),
}


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("which", ["largest", "smallest", "magnitude", "both"])
def test_lanczos_finds_the_ends(name, which):
    spectrum = SPECTRA[name].sort().values
    a, k = matrix(spectrum), 1 if len(spectrum) == 1 else 2
    k = 1 if which == "both" and len(spectrum) == 1 else k
    if which == "both" and len(spectrum) == 1:
        pytest.skip("one eigenvalue has no two ends")
    pairs = curvature.lanczos(a, k, which=which, tol=1e-6)
    top, bottom = spectrum.flip(0)[:k], spectrum[:k]
    wanted = {
        "largest": top,
        "smallest": bottom,
        "magnitude": spectrum[spectrum.abs().argsort(descending=True)][:k],
        "both": torch.cat([top, bottom]),
    }[which]
    norm = float(spectrum.abs().max())
    assert pairs.converged
    assert pairs.products <= min(100, len(spectrum))  # the stated budget
    assert (pairs.values - wanted).abs().max() <= 1e-9 * norm
    # What the residuals claim is so, and the vectors are orthonormal.
    found = (a @ pairs.vectors - pairs.vectors * pairs.values).norm(dim=0)
    assert (found - pairs.residuals).abs().max() <= 1e-11 * norm
    assert (found <= 1e-6 * pairs.values.abs().clamp(min=1e-6 * norm)).all()
    identity = torch.eye(len(wanted), dtype=F64)
    assert (pairs.vectors.T @ pairs.vectors - identity).abs().max() <= 1e-12


def test_lanczos_has_no_ghosts():
    """Without re-orthogonalisation a converged eigenvalue comes back as a copy."""
    spectrum = bulk(50.0, 100.0)
    pairs = curvature.lanczos(matrix(spectrum).float(), 4, steps=200, tol=1e-9)
    wanted = spectrum.sort(descending=True).values[:4]
    assert (pairs.values - wanted).abs().max() < 1e-4


def test_a_multiple_eigenvalue_needs_as_many_starting_vectors():
    spectrum = torch.cat([bulk(n=100), torch.tensor([7.0, 7.0, 4.0]).double()])
    a = matrix(spectrum)
    assert curvature.lanczos(a, 2).values.tolist() == pytest.approx([7.0, 4.0])
    assert curvature.lanczos(a, 2, block=2).values.tolist() == pytest.approx([7.0, 7.0])


def test_the_whole_space_is_searched_when_a_subspace_is_exhausted():
    """Three distinct eigenvalues span three dimensions from any one vector."""
    spectrum = torch.tensor([2.0, 2.0, 1.0, 1.0, 1.0, 0.0]).double()
    pairs = curvature.lanczos(matrix(spectrum), 6)
    assert (pairs.values - spectrum).abs().max() < 1e-12
    assert pairs.products == 6


@pytest.mark.parametrize(
    ("spectrum", "which", "wanted"),
    [
        (bulk(5.0, 9.0), "magnitude", 9.0),
        (bulk(5.0, -9.0), "magnitude", -9.0),
        (bulk(5.0, -9.0), "largest", 5.0),
        (bulk(5.0, 9.0, -3.0), "smallest", -3.0),
        (bulk(5.0, 9.0, -3.0), "largest", 9.0),
        (torch.cat([torch.full((3,), 4.0), bulk(n=50)]), "largest", 4.0),
        (torch.zeros(5), "magnitude", 0.0),
        (-torch.ones(5), "largest", -1.0),
    ],
)
def test_power_iteration_finds_the_end(spectrum, which, wanted):
    found = curvature.power_iteration(matrix(spectrum), which=which, max_iter=300)
    assert found.converged
    assert found.products <= 300
    # The error is of the order of the residual's square over the gap.
    assert found.value == pytest.approx(wanted, abs=1e-5 * float(spectrum.abs().max()))


def test_an_iteration_that_does_not_converge_says_so():
    a = matrix(torch.linspace(0.99, 1.0, 50))
    with pytest.warns(ConvergenceWarning, match="after 5 products; raise max_iter or tol"):
        found = curvature.power_iteration(a, max_iter=5, tol=1e-9)
    assert not found.converged
    with pytest.warns(ConvergenceWarning, match="after 5 products; raise steps or tol"):
        found = curvature.lanczos(a, steps=5, tol=1e-9)
    assert not found.converged
    assert found.products == 5
    # The residual is the error bar that the warning calls it.
    assert abs(found.value - 1.0) <= float(found.residuals[0])
    # Two eigenvalues of one magnitude: no limit, so no convergence.
    with pytest.warns(ConvergenceWarning):
        assert not curvature.power_iteration(torch.diag(torch.tensor([1.0, -1.0]))).converged


def test_lanczos_needs_far_fewer_products_than_power_iteration():
    a = matrix(bulk(8.0, 9.0))
    products = [
        function(a, tol=1e-4).products
        for function in (curvature.lanczos, curvature.power_iteration)
    ]
    assert 3 * products[0] < products[1]


# --- density -------------------------------------------------------------------------------------


def test_density_has_the_moments_that_its_vector_sees():
    """Gauss quadrature: exact up to degree 2 steps - 1 for z^T f(A) z, whatever the spectrum."""
    spectrum = bulk(2.0, 1.5, n=60)
    a = matrix(spectrum)
    steps = 6
    density = curvature.spectral_density(a, steps=steps, vectors=2, seed=3)
    generator = torch.Generator().manual_seed(3)
    probes = [torch.randint(2, (60,), generator=generator) * 2.0 - 1.0 for _ in range(2)]
    for degree in range(2 * steps + 1):
        power = torch.linalg.matrix_power(a, degree)
        wanted = torch.stack([z.double() @ power @ z.double() for z in probes]) / 60
        each = (density.weights * density.nodes**degree).sum(dim=1)
        if degree < 2 * steps:
            assert torch.allclose(each, wanted, rtol=1e-11, atol=1e-13)
        else:
            assert not torch.allclose(each, wanted, rtol=1e-7)


def test_density_has_the_moments_of_the_eigenvalues_within_its_standard_error():
    spectrum = bulk(2.0, 1.5, -1.0, n=300)
    density = curvature.spectral_density(matrix(spectrum), steps=40, vectors=20)
    functions = [torch.ones_like, lambda x: x, lambda x: x**2, lambda x: (1 + x**2).log()]
    for function in functions:
        estimate = density.mean(function)
        error = abs(estimate.value - float(function(spectrum).mean()))
        assert error <= 4.0 * estimate.standard_error + 1e-12
    share = density.share(low=1.2)  # the two outliers, of 300
    assert share.value == pytest.approx(2 / 300, abs=4.0 * share.standard_error)
    # A random direction's share of one eigenvector has variance 2 / 300^2 nearly.
    assert share.standard_error == pytest.approx((2 * 2 / 20) ** 0.5 / 300, rel=0.5)


def test_density_stops_where_a_vector_sees_no_more():
    density = curvature.spectral_density(matrix(SPECTRA["zeros"]), steps=50, vectors=3)
    assert density.products == 3 * 4  # four distinct eigenvalues
    assert torch.allclose(density.weights.sum(dim=1), torch.ones(3, dtype=F64))
    assert density.mean(lambda x: x**3).value == pytest.approx(
        float((density.weights * density.nodes**3).sum() / 3)
    )
    masses = density.share(-0.25, 0.25)
    assert masses.value == pytest.approx(50 / 53, abs=4 * masses.standard_error)


def test_curve_is_a_density_of_the_given_width():
    density = curvature.spectral_density(torch.diag(torch.tensor([1.0, 1.0, 3.0, 1.0])))
    grid, curve = density.curve(points=4001, sigma=0.05)
    assert float(torch.trapezoid(curve, grid)) == pytest.approx(1.0, abs=1e-4)  # within 4 sigma
    peak = 0.25 / (0.05 * math.sqrt(2 * math.pi))
    at = density.curve(torch.tensor([1.0, 3.0], dtype=F64), sigma=0.05)[1]
    assert at.tolist() == pytest.approx([3 * peak, peak])
    default = density.curve(torch.tensor([3.0], dtype=F64))[1]  # PyHessian's width
    assert float(default) == pytest.approx(0.25 / math.sqrt(2e-5 * 2 * math.pi))


# --- trace ---------------------------------------------------------------------------------------


def test_hutchinson_has_the_error_that_it_states():
    spectrum = bulk(2.0, -1.5, n=100)
    a = matrix(spectrum)
    estimates = [curvature.hutchinson(a, 50, seed=seed) for seed in range(40)]
    errors = torch.tensor([e.value for e in estimates]) - float(spectrum.sum())
    stated = torch.tensor([e.standard_error for e in estimates])
    theory = float((2 * ((a**2).sum() - a.diag().square().sum()) / 50).sqrt())
    assert stated.mean().item() == pytest.approx(theory, rel=0.1)
    assert errors.square().mean().sqrt().item() == pytest.approx(theory, rel=0.35)


def test_hutch_pp_is_better_at_equal_products_where_the_spectrum_decays():
    spectrum = torch.arange(1, 151).double() ** -1.5
    a = matrix(spectrum)

    def error(function) -> float:
        runs = [function(a, 30, seed=seed) for seed in range(20)]
        assert {run.products for run in runs} == {30}
        return torch.tensor([r.value - spectrum.sum() for r in runs]).square().mean().sqrt().item()

    assert error(curvature.hutch_pp) < 0.25 * error(curvature.hutchinson)


def test_hutch_pp_states_its_error():
    spectrum = bulk(20.0, -15.0, n=100)
    a = matrix(spectrum)
    runs = [curvature.hutch_pp(a, 60, seed=seed) for seed in range(30)]
    z = torch.tensor([(r.value - float(spectrum.sum())) / r.standard_error for r in runs])
    assert 0.6 < z.square().mean().sqrt().item() < 1.6


def test_hutch_pp_is_exact_when_its_basis_holds_everything():
    spectrum = torch.tensor([3.0, -1.0, 0.5, 1e-3], dtype=F64)
    full = curvature.hutch_pp(matrix(spectrum), 12)
    assert full.value == pytest.approx(float(spectrum.sum()), abs=1e-12)
    assert (full.standard_error, full.products) == (0.0, 8)


# --- results and arguments -----------------------------------------------------------------------


def test_results_are_plain_data():
    a = matrix(bulk(2.0, n=20))
    results = [
        curvature.lanczos(a, 2),
        curvature.spectral_density(a),
        curvature.hutchinson(a, 3),
    ]
    for result in results:
        assert json.loads(json.dumps(result.as_dict())) == result.as_dict()
        with pytest.raises(AttributeError):
            result.products = 0


def test_the_same_seed_gives_the_same_result_and_draws_nothing():
    a = matrix(bulk(2.0, n=40))
    before = torch.get_rng_state()
    for function in (curvature.spectral_density, curvature.hutchinson, curvature.hutch_pp):
        first, again, other = (function(a, seed=seed).as_dict() for seed in (1, 1, 2))
        assert first == again != other
    assert torch.equal(torch.get_rng_state(), before)


def test_progress_counts_the_products():
    a, calls = matrix(bulk(2.0, n=40)), []
    found = curvature.lanczos(a, progress=lambda *at: calls.append(at))
    assert calls == [(i + 1, 40) for i in range(found.products)]
    for function, total in (
        (curvature.hutchinson, 30),
        (curvature.hutch_pp, 30),
        (curvature.power_iteration, 100),
        (curvature.spectral_density, 40),
    ):
        calls.clear()
        found = function(a, progress=lambda *at: calls.append(at))
        assert calls == [(i + 1, total) for i in range(found.products)]


def test_bad_arguments_are_named():
    a = torch.eye(4)
    for call, message in [
        (lambda: curvature.lanczos(a, 5), "lanczos: k must be at most 4, got 5"),
        (lambda: curvature.lanczos(a, 3, which="both"), "lanczos: k must be at most 2, got 3"),
        (lambda: curvature.lanczos(a, 0), "lanczos: k must be an integer >= 1"),
        (lambda: curvature.lanczos(a, 3, steps=2), "lanczos: steps must be at least 3, got 2"),
        (lambda: curvature.lanczos(a, which="top"), "lanczos: which must be one of"),
        (lambda: curvature.lanczos(a, tol=0.0), "lanczos: tol must be"),
        (lambda: curvature.power_iteration(a, which="both"), "power_iteration: which must be"),
        (lambda: curvature.power_iteration(a, max_iter=0), "power_iteration: max_iter"),
        (lambda: curvature.hutch_pp(a, 2), "hutch_pp: products must be at least 3"),
        (lambda: curvature.hutchinson(a, 0), "hutchinson: products must be"),
        (lambda: curvature.spectral_density(a, steps=0), "spectral_density: steps"),
        (lambda: curvature.spectral_density(a).curve(sigma=0.0), "curve: sigma"),
        (lambda: curvature.dense(a, max_dim=3), "dense: operator's dim must be at most 3, got 4"),
        (lambda: curvature.Matrix(torch.ones(2, 3)), r"matrix has shape \(2, 3\)"),
        (lambda: curvature.Matrix(torch.eye(2).int()), "matrix has dtype torch.int32"),
        (lambda: curvature.Matrix(torch.tensor([[0.0, 1], [0, 0]])), "matrix is not symmetric"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="operator is a list"):
        curvature.lanczos([[1.0]])


@pytest.mark.parametrize("name", ["lanczos", "power_iteration", "hutchinson", "spectral_density"])
def test_a_product_of_nan_is_refused(name):
    operator = curvature.Hessian(lambda p: p["w"].log().sum(), {"w": torch.zeros(3)})
    with pytest.raises(ValueError, match="NaN or infinity"):
        getattr(curvature, name)(operator)
