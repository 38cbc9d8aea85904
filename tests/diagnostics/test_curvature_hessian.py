"""Hessian-vector products of models: against the exact Hessian, and nothing is changed by them."""

from __future__ import annotations

import copy
import random
import warnings
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, mse_loss

from halflife.diagnostics import curvature
from halflife.diagnostics.curvature.batches import Batches

F64 = torch.float64


def mlp() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    model = nn.Sequential(
        nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 3)
    )
    return model, torch.randn(17, 5), torch.randint(3, (17,))


def conv() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.GELU(), nn.Flatten(), nn.Linear(48, 3)
    )
    return model, torch.randn(13, 1, 6, 6), torch.randint(3, (13,))


class Attention(nn.Module):
    """Two heads over three tokens, through torch's scaled dot product; one weight used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(4, 12)
        self.out = nn.Linear(4, 4, bias=False)
        self.again = nn.Linear(4, 4, bias=False)
        self.again.weight = self.out.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.project(x).unflatten(-1, (3, 2, 2)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.again(torch.tanh(self.out(mixed.transpose(1, 2).flatten(2)))).mean(1)


def attention() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    return Attention(), torch.randn(7, 3, 4), torch.randint(4, (7,))


def prepared(make) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A model whose batch norms have seen data, in training mode."""
    model, inputs, targets = make()
    with torch.no_grad():
        model(inputs * 2 + 1)
    return model, inputs, targets


def exact(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, loss=cross_entropy):
    """The Hessian by torch.func's forward-over-reverse differentiation, in float64, all at once."""
    model = copy.deepcopy(model).double().eval()
    params = {name: p.detach() for name, p in model.named_parameters()}
    targets = targets.double() if targets.is_floating_point() else targets
    sizes = [p.numel() for p in params.values()]

    def of(flat: torch.Tensor) -> torch.Tensor:
        parts = flat.split(sizes)
        named = {k: v.reshape(p.shape) for (k, p), v in zip(params.items(), parts, strict=True)}
        return loss(torch.func.functional_call(model, named, (inputs.double(),)), targets)

    with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, on its first jvp
        return torch.func.hessian(of)(torch.cat([p.flatten() for p in params.values()]))


def close(found: torch.Tensor, wanted: torch.Tensor, tolerance: float = 1e-10) -> None:
    assert (found - wanted).abs().max() <= tolerance * wanted.abs().max()


@pytest.mark.parametrize("make", [mlp, conv, attention])
@pytest.mark.parametrize("memory", [0, 2**30])
def test_products_are_those_of_the_exact_hessian(make, memory):
    model, inputs, targets = prepared(make)
    wanted = exact(model, inputs, targets)
    # Batches of unlike sizes: a mean of batch means would be something else.
    data = [(inputs[:4], targets[:4]), (inputs[4:], targets[4:])]
    operator = curvature.hessian(model, cross_entropy, data, dtype=F64, memory=memory)
    assert operator.keeps_graphs == (memory > 0)
    assert operator.shape == wanted.shape
    vectors = torch.randn(operator.dim, 3, dtype=F64)
    for vector in vectors.T:
        close(operator @ vector, wanted @ vector)
    close(operator @ vectors, wanted @ vectors)  # all at once
    close(curvature.dense(operator), wanted)


def test_float32_is_the_models_dtype_and_agrees_to_rounding():
    model, inputs, targets = prepared(mlp)
    operator = curvature.hessian(model, cross_entropy, (inputs, targets))
    assert operator.dtype == torch.float32
    close(curvature.dense(operator).double(), exact(model, inputs, targets), 1e-4)


def test_least_squares_has_the_spectrum_of_its_inputs():
    rows, spectrum = 12, torch.tensor([9.0, 4.0, 4.0, 0.25, 0.0], dtype=F64)
    left = torch.linalg.qr(torch.randn(rows, 5, dtype=F64))[0]
    right = torch.linalg.qr(torch.randn(5, 5, dtype=F64))[0]
    inputs = left * (rows * spectrum / 2).sqrt() @ right.T  # mse: (2 / rows) X^T X
    model = nn.Linear(5, 1, bias=False, dtype=F64)
    operator = curvature.hessian(model, mse_loss, (inputs, torch.randn(rows, 1, dtype=F64)))
    pairs = curvature.lanczos(operator, 2, which="both", tol=1e-9)
    close(pairs.values, spectrum[[0, 1, 4, 3]], 1e-12)


def test_weights_of_batches_can_be_other_than_their_rows():
    """A mean over tokens of sequences of unlike length."""
    model, inputs, targets = prepared(mlp)
    batches = [(inputs[:2], targets[:2]), (inputs[2:], targets[2:])]
    weights = {2: 0.75, 15: 0.25}
    operator = curvature.hessian(
        model, cross_entropy, batches, dtype=F64, rows=lambda batch: weights[len(batch[0])]
    )
    wanted = sum(weights[len(x)] * exact(model, x, y) for x, y in batches)
    close(curvature.dense(operator), wanted)


def test_some_parameters_only():
    model, inputs, targets = prepared(mlp)
    whole = exact(model, inputs, targets)
    model[0].requires_grad_(False)
    operator = curvature.hessian(model, cross_entropy, (inputs, targets), dtype=F64)
    assert list(operator.params) == ["1.weight", "1.bias", "4.weight", "4.bias"]
    close(curvature.dense(operator), whole[24:, 24:])
    chosen = {"4.bias": model[4].bias}
    operator = curvature.hessian(model, cross_entropy, (inputs, targets), params=chosen, dtype=F64)
    close(curvature.dense(operator), whole[-3:, -3:])


def test_parameters_at_other_values_than_the_models():
    model, inputs, targets = prepared(mlp)
    elsewhere = {"4.bias": model[4].bias.detach() + torch.tensor([1.0, -2.0, 0.0])}
    data = (inputs, targets)
    operator = curvature.hessian(model, cross_entropy, data, params=elsewhere, dtype=F64)
    here = exact(model, inputs, targets)[-3:, -3:]
    model[4].bias.data = elsewhere["4.bias"]
    there = exact(model, inputs, targets)[-3:, -3:]
    close(curvature.dense(operator), there)
    assert (there - here).abs().max() > 0.01


def test_tied_parameters_count_once_under_either_name():
    model, inputs, targets = prepared(attention)
    data = (inputs, targets)
    of = {}
    for name in ("out.weight", "again.weight"):
        params = {name: model.out.weight}
        of[name] = curvature.dense(
            curvature.hessian(model, cross_entropy, data, params=params, dtype=F64)
        )
    close(of["again.weight"], of["out.weight"])
    close(of["out.weight"], exact(model, inputs, targets)[-16:, -16:])


def test_vectors_by_the_parameters_names():
    model, inputs, targets = prepared(mlp)
    operator = curvature.hessian(model, cross_entropy, (inputs, targets), dtype=F64)
    vector = torch.randn(operator.dim, dtype=F64)
    named = operator.unflatten(vector)
    assert {name: t.shape for name, t in named.items()} == {
        name: p.shape for name, p in model.named_parameters()
    }
    reordered = dict(reversed(named.items()))
    assert torch.equal(operator.flatten(reordered), vector)
    assert torch.equal(operator.flatten(operator.product(named)), operator @ vector)


def test_a_function_of_parameters_alone():
    """(w1 w2)^2 / 2 has the Hessian [[w2^2, 2 w1 w2], [2 w1 w2, w1^2]]."""
    params = OrderedDict(w=torch.tensor([2.0, 3.0]), unused=torch.ones(1))
    operator = curvature.Hessian(lambda p: 0.5 * p["w"].prod() ** 2, params)
    wanted = [[9.0, 12.0, 0.0], [12.0, 4.0, 0.0], [0.0, 0.0, 0.0]]
    assert curvature.dense(operator).tolist() == wanted


def test_a_linear_loss_has_none():
    operator = curvature.Hessian(lambda p: p["w"].sum(), {"w": torch.ones(3)})
    assert (operator @ torch.ones(3)).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("memory", [0, 2**30])
def test_it_is_the_hessian_at_the_weights_of_its_making(memory):
    model, inputs, targets = prepared(mlp)
    wanted = exact(model, inputs, targets)
    operator = curvature.hessian(model, cross_entropy, (inputs, targets), dtype=F64, memory=memory)
    model(inputs)  # moves the running statistics
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    close(curvature.dense(operator), wanted)


@pytest.mark.parametrize("structure", [tuple, dict])
def test_inputs_of_several_arguments(structure):
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(5, 3)

        def forward(self, x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
            return self.linear(x) * factor

    model, x, y = Scaled(), torch.randn(6, 5), torch.randint(3, (6,))
    factor = torch.full((6, 1), 2.0)
    inputs = (x, factor) if structure is tuple else {"factor": factor, "x": x}
    operator = curvature.hessian(model, cross_entropy, [(inputs, y)], dtype=F64)
    logits = 2.0 * model.double().linear(x.double())
    probabilities = logits.softmax(1).detach()
    inner = torch.diag_embed(probabilities) - probabilities[:, :, None] * probabilities[:, None]
    rows = torch.cat([x.double(), torch.ones(6, 1, dtype=F64)], 1)  # the bias last
    wanted = 4.0 / 6.0 * torch.einsum("nij,na,nb->iajb", inner, rows, rows)
    weights = wanted[:, :5, :, :5].reshape(15, 15)
    close(curvature.dense(operator)[:15, :15], weights)


# --- nothing is changed --------------------------------------------------------------------------


class Noisy(torch.utils.data.Dataset):
    """Draws from all three random generators, as augmentations do."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int):
        noise = random.random() + np.random.rand() + float(torch.rand(()))
        return torch.full((5,), index / 12.0) + noise, index % 3


def states() -> tuple[bytes, bytes, bytes]:
    numpy = np.random.get_state()
    return (
        repr(random.getstate()).encode(),
        numpy[1].tobytes() + repr(numpy[2:]).encode(),
        torch.get_rng_state().numpy().tobytes(),
    )


@pytest.mark.parametrize("own_generator", [False, True])
@pytest.mark.parametrize("memory", [0, 2**30])
def test_nothing_is_changed(memory, own_generator):
    model, _, _ = prepared(mlp)
    model[1].eval()  # modes of its own, to be found again
    optimizer = torch.optim.AdamW(model.parameters())
    cross_entropy(model(torch.randn(4, 5)), torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    generator = torch.Generator().manual_seed(5) if own_generator else None
    loader = torch.utils.data.DataLoader(Noisy(), 5, shuffle=True, generator=generator)
    weights = copy.deepcopy(model.state_dict())
    gradients = [p.grad.clone() for p in model.parameters()]
    moments = copy.deepcopy(optimizer.state_dict())
    modes = [m.training for m in model.modules()]
    random_states = states(), None if generator is None else generator.get_state().tolist()

    operator = curvature.hessian(model, cross_entropy, loader, memory=memory)
    curvature.lanczos(operator, 2, which="both", steps=20, tol=1.0)
    curvature.power_iteration(operator, max_iter=4, tol=1e6)
    curvature.spectral_density(operator, steps=3, vectors=2)
    curvature.hutch_pp(operator, 6)
    curvature.hutchinson(operator, 2)
    curvature.dense(operator)
    metric = curvature.preconditioner(optimizer, model)
    curvature.lanczos(curvature.PreconditionedHessian(operator, metric), steps=20, tol=1.0)

    assert random_states == (
        states(),
        None if generator is None else generator.get_state().tolist(),
    )
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert [m.training for m in model.modules()] == modes
    for index, state in optimizer.state_dict()["state"].items():
        assert all(torch.equal(v, moments["state"][index][k]) for k, v in state.items())
    assert all(not p.requires_grad or p.grad_fn is None for p in model.parameters())


def test_every_pass_sees_the_same_augmented_batches():
    loader = torch.utils.data.DataLoader(Noisy(), 5, shuffle=True)
    batches = Batches(loader)
    torch.rand(3)
    first = [(x.clone(), y.clone()) for x, y in batches]
    torch.rand(7)
    random.random()
    second = list(batches)
    for (x, y), (x2, y2) in zip(first, second, strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)


def test_modes_return_when_the_loss_raises():
    model, inputs, targets = prepared(mlp)
    before = states()
    with pytest.raises(ValueError, match="0-dim"):
        curvature.hessian(model, lambda out, y: out.sum(1), (inputs, targets))
    assert all(m.training for m in model.modules())
    assert states() == before


# --- errors --------------------------------------------------------------------------------------


def test_bad_arguments_are_named():
    model, inputs, targets = prepared(mlp)
    data = (inputs, targets)
    with pytest.raises(TypeError, match="can be iterated over once"):
        curvature.hessian(model, cross_entropy, iter([data]))
    with pytest.raises(TypeError, match="data is a int"):
        curvature.hessian(model, cross_entropy, 3)
    with pytest.raises(ValueError, match="at least one batch"):
        curvature.hessian(model, cross_entropy, [])
    with pytest.raises(ValueError, match="'head' is no parameter"):
        curvature.hessian(model, cross_entropy, data, params={"head": torch.ones(2)})
    with pytest.raises(ValueError, match="requires a gradient"):
        curvature.hessian(model.requires_grad_(False), cross_entropy, data)
    with pytest.raises(ValueError, match="params is empty"):
        curvature.Hessian(lambda p: torch.ones(()), {})
    with pytest.raises(ValueError, match=r"'w' has dtype torch.complex64"):
        curvature.Hessian(lambda p: p["w"].real, {"w": torch.ones(2, dtype=torch.complex64)})
    with pytest.raises(ValueError, match="no tensor whose first dimension"):
        curvature.Hessian(lambda p, b: p["w"].sum(), {"w": torch.ones(2)}, [("text", 3)])
    operator = curvature.Hessian(lambda p: (p["w"] ** 2).sum(), {"w": torch.ones(2)})
    with pytest.raises(ValueError, match=r"vector has shape \(3,\)"):
        operator @ torch.ones(3)
    with pytest.raises(ValueError, match=r"dtype torch.float64"):
        operator @ torch.ones(2, dtype=F64)
    with pytest.raises(ValueError, match="'w' has shape"):
        operator.product({"w": torch.ones(3)})
    with pytest.raises(ValueError, match="'b' is only in the vector"):
        operator.product({"w": torch.ones(2), "b": torch.ones(2)})
