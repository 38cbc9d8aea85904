"""The best diagonal rescaling: known optima, and a lower bound that does not trust the solver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from halflife.theory import conditioning
from halflife.theory.conditioning import best_condition, block_condition

F64 = torch.float64


def kappa(matrix: Tensor) -> float:
    found = torch.linalg.eigvals(matrix).real
    return float(found.max() / found.min())


def scaled(matrix: Tensor, spread: float = 2.0) -> tuple[Tensor, Tensor]:
    d = (spread * torch.randn(len(matrix), dtype=F64)).exp()
    return matrix * torch.outer(d, d), d


def random_matrix(d: int) -> Tensor:
    a = torch.randn(d, 2 * d, dtype=F64)
    return a @ a.T


def test_diagonal_matrices_become_the_identity() -> None:
    h = torch.diag(torch.tensor([1e-6, 1.0, 1e9, 3.0], dtype=F64))
    found = best_condition(h)
    assert found.condition == pytest.approx(1.0, abs=1e-12)
    assert found.unscaled == pytest.approx(1e15)
    products = found.scale * h.diagonal()
    torch.testing.assert_close(products, products[:1].expand(4), rtol=1e-12, atol=0)
    assert block_condition(h) == 1.0


@pytest.mark.parametrize("r", [-0.9, -0.3, 0.0, 0.5, 0.999])
def test_two_weights_in_closed_form(r: float) -> None:
    h, _ = scaled(torch.tensor([[1.0, r], [r, 1.0]], dtype=F64))
    found = best_condition(h, tol=1e-9)
    assert found.condition == pytest.approx((1 + abs(r)) / (1 - abs(r)), rel=1e-9)
    assert found.gap <= 1e-9
    assert found.scale[0] / found.scale[1] == pytest.approx(float(h[1, 1] / h[0, 0]), rel=1e-6)


def test_of_a_tridiagonal_matrix_the_unit_diagonal_is_best() -> None:
    """Forsythe & Straus; a scaled one comes back."""
    couplings = 0.45 * (2 * torch.rand(7, dtype=F64) - 1)
    unit = torch.eye(8, dtype=F64) + torch.diag(couplings, 1) + torch.diag(couplings, -1)
    h, _ = scaled(unit)
    found = best_condition(h)
    assert found.condition == pytest.approx(kappa(unit), rel=1e-6)
    assert kappa(found.scale[:, None] * h) == pytest.approx(found.condition, rel=1e-9)


def test_a_matrix_whose_extreme_vectors_weigh_all_alike_is_at_its_best() -> None:
    """Eigenvectors of a Hadamard matrix: no rescaling helps, and any that was made is undone."""
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=F64)
    u = torch.kron(torch.kron(signs, signs), signs) / 8**0.5
    best = u @ torch.diag(torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 20], dtype=F64)) @ u.T
    h, d = scaled(best)
    found = best_condition(h)
    assert found.condition == pytest.approx(20.0, rel=1e-6)
    wanted = d**-2 / (d**-2).log().mean().exp()
    torch.testing.assert_close(found.scale, wanted, rtol=1e-2, atol=0)


@pytest.mark.parametrize("d", [1, 3, 8, 20])
def test_the_bound_is_met_below_the_unit_diagonal_and_does_not_depend_on_the_scale(d: int) -> None:
    h = random_matrix(d)
    unit = h / h.diagonal().sqrt().outer(h.diagonal().sqrt())
    found = best_condition(h)
    assert 0.0 <= found.gap <= 1e-6
    assert found.condition <= kappa(unit) * (1 + 1e-9)
    assert kappa(found.scale[:, None] * h) == pytest.approx(found.condition, rel=1e-9)
    assert float(found.scale.log().mean()) == pytest.approx(0.0, abs=1e-12)
    again = best_condition(scaled(h)[0])
    assert again.condition == pytest.approx(found.condition, rel=2e-6)
    for _ in range(50):  # whatever the rescaling, near or far: none is below the bound
        for size in (1e-3, 0.1, 1.0):
            other = found.scale * (size * torch.randn(d, dtype=F64)).exp()
            assert kappa(other[:, None] * h) >= found.lower * (1 - 1e-9)


@pytest.mark.parametrize("power", [1.0, 10.0, 1e4])
def test_the_bound_holds_wherever_it_is_taken(power: float) -> None:
    """Far from the optimum too, where its two matrices have to be made to agree."""
    for d in (2, 5):
        h = random_matrix(d)
        best = best_condition(h, tol=1e-8).condition
        for _ in range(30):
            logs = 2 * torch.randn(d, dtype=F64)
            found = conditioning._bound(conditioning._point(h, logs, power))
            assert found <= best * (1 + 1e-7)
            # The same in the coordinates of H: two matrices whose diagonals are equal.
            root = torch.diag((0.5 * (logs - logs.mean())).exp())
            values, vectors = torch.linalg.eigh(root @ h @ root)
            large, small = (
                root @ vectors @ torch.diag(weights) @ vectors.T @ root
                for weights in (
                    torch.softmax(power * values.log(), 0),
                    torch.softmax(-power * values.log(), 0),
                )
            )
            equal = torch.diag((large.diagonal() / small.diagonal()).sqrt())
            small = equal @ small @ equal
            torch.testing.assert_close(small.diagonal(), large.diagonal())
            ratio = float((large * h).sum() / (small * h).sum())
            assert found == pytest.approx(ratio, rel=1e-6)


def test_only_blocks_can_be_rescaled_by_a_function() -> None:
    """Lambda H is symmetric, as a Hessian is, if Lambda is constant on connected blocks."""
    one, other = random_matrix(3), 1e4 * random_matrix(2)
    h = torch.block_diag(one, other)[[3, 0, 1, 4, 2]][:, [3, 0, 1, 4, 2]]
    wanted = max(kappa(one), kappa(other))
    assert block_condition(h) == pytest.approx(wanted, rel=1e-9)
    low = torch.tensor([float(torch.linalg.eigvalsh(m)[0]) for m in (one, other)], dtype=F64)
    lam = (1 / low)[[1, 0, 0, 1, 0]]
    rescaled = lam[:, None] * h
    torch.testing.assert_close(rescaled, rescaled.T, rtol=1e-12, atol=1e-12)
    assert kappa(rescaled) == pytest.approx(wanted, rel=1e-9)
    assert best_condition(h).condition <= wanted * (1 + 1e-9) <= kappa(h)
    dense = random_matrix(4)
    assert block_condition(dense) == pytest.approx(kappa(dense), rel=1e-9)


@pytest.mark.parametrize("call", [best_condition, block_condition])
@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (torch.ones(2, 3), "a square matrix"),
        (torch.tensor([[1.0, 0.5], [0.1, 1.0]]), "symmetric"),
        (torch.ones(2, 2), "positive definite"),
        (torch.diag(torch.tensor([1.0, -1.0])), "positive definite"),
        (torch.tensor([[1.0, 2.0], [2.0, 1.0]]), "a smallest eigenvalue of -1"),
    ],
)
def test_errors(call: Callable[..., Any], matrix: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(matrix)


def test_a_tolerance_is_positive() -> None:
    with pytest.raises(ValueError, match="tol must be a finite number > 0, got 0"):
        best_condition(torch.eye(2), tol=0)
