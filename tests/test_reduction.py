"""Sums over one whole model, against NumPy in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from halflife.tensors.reduction import PerMember, WholeModel, like, plus, real

LAYOUTS: dict[str, Callable[[], Tensor]] = {
    "contiguous": lambda: torch.randn(5, 7),
    "vector": lambda: torch.randn(11),
    "zero-dim": lambda: torch.randn(()),
    "empty": lambda: torch.randn(0, 3),
    "transposed": lambda: torch.randn(4, 6).t(),
    "strided": lambda: torch.randn(6, 8)[::2, 1::3],
    "expanded": lambda: torch.randn(3, 1).expand(3, 4),
    "channels-last": lambda: torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "with a graph": lambda: torch.randn(5, requires_grad=True) * 2.0,
}
DTYPES = {
    torch.float64: 1e-14,
    torch.float32: 1e-6,
    torch.bfloat16: 1e-6,  # the sum is float32: only the values are rounded, and those we are given
    torch.float16: 1e-6,
    torch.complex64: 1e-6,
    torch.complex128: 1e-14,
}


def wide(tensor: Tensor) -> np.ndarray:
    """The values as float64, a complex one as its two parts."""
    return real(tensor.detach()).double().numpy()


def expected_squares(tensors: list[Tensor]) -> list[float]:
    return [float(np.sum(wide(t) ** 2)) for t in tensors]


def test_of_parameters_as_of_their_values() -> None:
    """That they require gradients changes neither how they are summed nor the last bit."""
    p = torch.nn.Parameter(torch.randn(70_000, generator=torch.Generator().manual_seed(0)))
    of_values = WholeModel().squares([p.detach()])
    assert np.array_equal(np.asarray(WholeModel().squares([p])), np.asarray(of_values))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_squares(layout: str, dtype: torch.dtype) -> None:
    t = LAYOUTS[layout]().to(dtype)
    result = WholeModel().squares([t])
    np.testing.assert_allclose(np.asarray(result), expected_squares([t]), rtol=DTYPES[dtype])
    assert np.asarray(result).dtype == np.float64


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sums(layout: str) -> None:
    t = LAYOUTS[layout]().double()
    result = WholeModel().sums([t])
    np.testing.assert_allclose(result.numpy(), [wide(t).sum()], rtol=1e-13, atol=1e-15)


def test_mixed_dtypes_in_one_list() -> None:
    tensors = [torch.randn(20).to(dtype) for dtype in DTYPES] + [torch.randn(()), torch.empty(0)]
    result = np.asarray(WholeModel().squares(tensors))
    np.testing.assert_allclose(result, expected_squares(tensors), rtol=1e-6)
    assert float(WholeModel().total(result)) == pytest.approx(sum(result), rel=1e-14)


@pytest.mark.parametrize("size", [65_536, 65_537, 100_000, 4_000_000])
def test_large_tensors_keep_their_accuracy(size: int) -> None:
    """A running float32 sum of so many like values would be off by 1e-4 and more."""
    t = torch.full((size,), 0.1) + 1e-3 * torch.rand(size)
    result = np.asarray(WholeModel().squares([t]))
    np.testing.assert_allclose(result, expected_squares([t]), rtol=2e-5)
    products = WholeModel().products([(t, 2.0 * t)])
    np.testing.assert_allclose(products, 2.0 * np.asarray(expected_squares([t])), rtol=2e-5)


def test_numbers_that_are_none() -> None:
    result = np.asarray(
        WholeModel().squares([torch.tensor([1.0, float("inf")]), torch.tensor([float("nan")])])
    )
    assert np.isinf(result[0])
    assert np.isnan(result[1])


def test_no_graph_is_kept() -> None:
    w = torch.randn(3, requires_grad=True)
    tensors = [w * 2.0, w.to(torch.float64)]
    assert not torch.as_tensor(WholeModel().squares(tensors)).requires_grad
    assert not WholeModel().sums(tensors).requires_grad
    assert not PerMember().squares(tensors).requires_grad


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_products_are_inner_products(layout: str, dtype: torch.dtype) -> None:
    """Of each pair; a complex one as two real vectors, the second in another memory layout."""
    a = LAYOUTS[layout]().detach().to(dtype)
    b = torch.randn(a.shape).to(dtype)
    found = WholeModel().products(
        [(a, b), (b.mT if b.dim() > 1 else b, a.mT if a.dim() > 1 else a)]
    )
    expected = (wide(a) * wide(b)).sum()
    size = float(np.abs(wide(a) * wide(b)).sum()) + 1.0
    np.testing.assert_allclose(found.numpy(), [expected] * 2, atol=DTYPES[dtype] * size, rtol=0.0)


def test_numel_counts_a_complex_number_twice() -> None:
    tensors = [torch.zeros(2, 3), torch.zeros(4, dtype=torch.complex64), torch.zeros(())]
    assert WholeModel().numel(tensors) == 6 + 8 + 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_per_member_is_a_loop_over_the_members(dtype: torch.dtype) -> None:
    members = 4
    tensors = [
        torch.randn(members, 3, 5, dtype=dtype),
        torch.randn(members, 2, dtype=dtype),
        torch.randn(members, dtype=dtype),  # a scalar parameter of each member
        torch.randn(members, 2, 3, 4, 4, dtype=dtype).transpose(1, 2),
    ]
    together, one = PerMember(), WholeModel()
    for member in range(members):
        own = [t[member] for t in tensors]
        for stacked, alone in (
            (together.squares(tensors), one.squares(own)),
            (together.sums(tensors), one.sums(own)),
            (
                together.products([(t, t.exp()) for t in tensors]),
                one.products([(t, t.exp()) for t in own]),
            ),
        ):
            assert stacked.shape == (len(tensors), members)
            np.testing.assert_allclose(
                stacked[:, member].numpy(), np.asarray(alone), rtol=1e-6, atol=1e-6
            )
        total = together.total(together.squares(tensors))
        assert float(total[member]) == pytest.approx(sum(expected_squares(own)), rel=1e-6)
    assert together.numel(tensors) == one.numel([t[0] for t in tensors])


def test_totals_of_both_kinds_add() -> None:
    terms, tensor = np.array([1.0, 2.0]), torch.tensor([3.0, 4.0])
    assert plus(1.5, 2.0) == 3.5
    np.testing.assert_array_equal(plus(terms, tensor), [4.0, 6.0])
    assert torch.equal(plus(tensor, terms), torch.tensor([4.0, 6.0]))
    assert torch.equal(like(tensor, terms), torch.tensor([1.0, 2.0]))
    assert isinstance(like(terms, tensor), np.ndarray)
    assert like(terms, 0.5) == 0.5


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("size", [1 << 16, (1 << 18) + 7, 5 * (1 << 16)])
def test_long_vectors_under_any_number_of_threads(
    size: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    generator = torch.Generator().manual_seed(0)
    vector = 1.0 + torch.rand(size, generator=generator)
    found = WholeModel().squares([vector, vector[:5]])
    exact = [float(v.double().square().sum()) for v in (vector, vector[:5])]
    assert list(found) == pytest.approx(exact, rel=1e-6)


def test_a_sparse_tensor_is_reduced_as_its_dense_one() -> None:
    """Entries of one place are one entry: [1 + 2, 0, 4]."""
    sparse = torch.sparse_coo_tensor([[0, 0, 2]], [1.0, 2.0, 4.0], (3,), check_invariants=True)
    squares = WholeModel().squares([sparse, torch.ones(2)])
    assert torch.as_tensor(squares).tolist() == [25.0, 2.0]
