"""Operations, wrappers and surroundings in which a Hessian is taken, and what is no Hessian.

Wanted values: those of the model as it is, or a formula of the operation.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from halflife.diagnostics import curvature
from halflife.diagnostics.gradient_norms import gradient_norms

F64 = torch.float64
parametrized = nn.utils.parametrizations.weight_norm


# --- operations ----------------------------------------------------------------------------------


class Plain(nn.Module):
    """``g v / ||v||`` by its formula, with the parameters that weight normalization has."""

    def __init__(self, normalized: nn.Module, old: bool, dim: int | None) -> None:
        super().__init__()
        first = normalized if old else normalized.parametrizations.weight  # type: ignore[attr-defined]
        g, v = (first.weight_g, first.weight_v) if old else (first.original0, first.original1)
        self.bias = nn.Parameter(normalized.bias.detach().clone())  # type: ignore[attr-defined,operator]
        self.g, self.v = (nn.Parameter(t.detach().clone()) for t in (g, v))
        self.conv, self.dim = isinstance(normalized, nn.Conv2d), dim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        others = [i for i in range(self.v.dim()) if i != self.dim]
        norm = self.v.square().sum(others if self.dim is not None else None, keepdim=True).sqrt()
        weight = self.v * (self.g / norm)
        if self.conv:
            return nn.functional.conv2d(x, weight, self.bias)
        return nn.functional.linear(x, weight, self.bias)


@pytest.mark.parametrize("memory", [0, 2**30])
@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("conv", [False, True])
@pytest.mark.parametrize("old", [True, False])
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_weight_normalization_is_that_of_its_formula(
    old: bool, conv: bool, dim: int | None, memory: float
) -> None:
    """torch's own second derivative of it is wrong: not even symmetric."""
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, 2) if conv else nn.Linear(4, 3)
    make = nn.utils.weight_norm if old else parametrized
    normalized = make(layer, dim=dim)
    plain = Plain(normalized, old, dim)
    x = torch.randn(5, 2, 3, 3) if conv else torch.randn(5, 4)
    y = torch.randint(2, (5,))

    def found(model: nn.Module) -> torch.Tensor:
        network = nn.Sequential(model, nn.Tanh(), nn.Flatten(), nn.LazyLinear(2, bias=False))
        network(x)
        with torch.no_grad():
            network[-1].weight.copy_(torch.linspace(-1, 1, network[-1].weight.numel()).view(2, -1))
        operator = curvature.hessian(network, cross_entropy, (x, y), dtype=F64, memory=memory)
        return curvature.dense(operator)

    # Both hold bias, gain and direction, in this order.
    torch.testing.assert_close(found(normalized), found(plain), rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_a_normalized_model_can_be_copied_afterwards() -> None:
    """Old weight normalization leaves the weight of its last call in the module: not ours."""
    model = nn.utils.weight_norm(nn.Linear(3, 2))
    before = dict(vars(model))
    x, y = torch.randn(4, 3), torch.tensor([0, 1, 0, 1])
    operator = curvature.hessian(model, cross_entropy, (x, y))
    operator @ torch.ones(operator.dim)
    assert all(vars(model)[name] is value for name, value in before.items())
    assert vars(model).keys() == before.keys()
    gradient_norms(model, cross_entropy, (x, y))
    assert all(vars(model)[name] is value for name, value in before.items())


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_flat_weights_of_a_normalized_lstm_stay_its_own() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)
            nn.utils.weight_norm(self.cells, "weight_hh_l0")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.cells(x)[0][:, -1])

    model, data = Recurrent(), (torch.randn(5, 4, 3), torch.tensor([0, 1, 0, 1, 1]))
    held, before = model.cells._flat_weights, list(model.cells._flat_weights)
    operator = curvature.hessian(model, cross_entropy, data, dtype=F64)
    operator @ torch.ones(operator.dim, dtype=F64)
    assert model.cells._flat_weights is held
    assert all(now is then for now, then in zip(held, before, strict=True))


class Crooked(torch.autograd.Function):
    """x^2, with the right first derivative and a wrong second one."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x.square().sum()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return 2.0 * grad * x + 0.5 * (x.roll(1) - x.roll(1).detach())


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("product", ["matvec", "matmat", "dense", "lanczos"])
def test_what_is_no_hessian_is_refused_at_the_first_product(
    product: str, dtype: torch.dtype
) -> None:
    w = {"w": torch.tensor([1.0, 2.0, -3.0], dtype=dtype)}
    operator = curvature.Hessian(lambda params: Crooked.apply(params["w"]), w)
    run = {
        "matvec": lambda: operator @ torch.ones(3, dtype=dtype),
        "matmat": lambda: operator @ torch.eye(3, dtype=dtype),
        "dense": lambda: curvature.dense(operator),
        "lanczos": lambda: curvature.lanczos(operator),
    }[product]
    for _ in range(2):  # each time
        with pytest.raises(
            ValueError, match=r"not symmetric: u.Hv = .* and v.Hu = .* must be equal"
        ):
            run()


def test_looking_for_symmetry_costs_two_passes_of_the_first_batch() -> None:
    calls = []

    def loss(params: dict[str, torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
        calls.append(float(batch[0]))
        return (params["w"] ** 3).sum() * batch.mean()

    batches = [torch.full((2,), 1.0), torch.full((2,), 2.0)]
    data = torch.utils.data.DataLoader([b[0] for b in batches], batch_size=1)
    operator = curvature.Hessian(loss, {"w": torch.ones(2)}, data, memory=0)
    state = torch.get_rng_state()
    calls.clear()
    operator @ torch.ones(2)
    assert calls == [1.0, 1.0, 2.0]  # the first one's graph serves both
    operator @ torch.ones(2)
    assert calls[3:] == [1.0, 2.0]
    assert torch.equal(state, torch.get_rng_state())


class Grouped(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(1, 4, 2), norm, nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.norm(self.first(x)).tanh().flatten(1))


@pytest.mark.parametrize("memory", [0, 2**30])
@pytest.mark.parametrize(
    "norm", [nn.GroupNorm(2, 4), nn.GroupNorm(4, 4), nn.InstanceNorm2d(4, affine=True)]
)
def test_many_products_at_once_are_those_one_by_one(norm: nn.Module, memory: float) -> None:
    """torch cannot vectorize the second derivative of GroupNorm."""
    torch.manual_seed(0)
    model = Grouped(copy.deepcopy(norm))
    data = (torch.randn(5, 1, 3, 3), torch.randint(2, (5,)))
    operator = curvature.hessian(model, cross_entropy, data, dtype=F64, memory=memory)
    vectors = torch.randn(operator.dim, 5, dtype=F64)
    columns = torch.stack([operator @ v for v in vectors.T], dim=1)
    torch.testing.assert_close(operator @ vectors, columns, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(curvature.dense(operator) @ vectors, columns, rtol=1e-10, atol=1e-12)


def test_a_wrong_vectorized_product_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = curvature.Hessian(lambda p: (p["w"] ** 3).sum(), {"w": torch.tensor([1.0, 2.0])})
    right = operator._add

    def wrong(total: torch.Tensor, *args: Any, batched: bool = False, **kwargs: Any) -> None:
        right(total, *args, batched=batched, **kwargs)
        if batched:
            total[0] *= 1.5

    monkeypatch.setattr(operator, "_add", wrong)
    assert (operator @ torch.eye(2)).tolist() == [[6.0, 0.0], [0.0, 12.0]]


def test_parameters_of_no_dimension() -> None:
    """A logit scale: d^2/ds^2 of s^3 x is 6 s x, and the cross derivative 3 s^2."""
    params = {"s": torch.tensor(2.0), "x": torch.tensor([1.0])}
    operator = curvature.Hessian(lambda p: (p["s"] ** 3 * p["x"]).sum(), params)
    assert (operator @ torch.tensor([1.0, 0.0])).tolist() == [12.0, 12.0]
    assert curvature.dense(operator).tolist() == [[12.0, 12.0], [12.0, 0.0]]


# --- surroundings and wrappers -------------------------------------------------------------------


def small() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))
    return model, torch.randn(6, 3), torch.randint(2, (6,))


@pytest.mark.parametrize("memory", [0, 2**30])
@pytest.mark.parametrize("made_inside", [False, True])
def test_inference_mode_around_the_call(made_inside: bool, memory: float) -> None:
    model, x, y = small()
    expected = curvature.dense(curvature.hessian(model, cross_entropy, (x, y), dtype=F64))
    norms = gradient_norms(model, cross_entropy, (x, y))
    with torch.inference_mode():
        if made_inside:
            (model, x, y) = small()
        operator = curvature.hessian(model, cross_entropy, (x, y), dtype=F64, memory=memory)
        torch.testing.assert_close(curvature.dense(operator), expected, rtol=1e-12, atol=1e-15)
        found = operator @ torch.ones(operator.dim, dtype=F64)
        top = curvature.lanczos(operator).value
        assert gradient_norms(model, cross_entropy, (x, y)).full == pytest.approx(norms.full)
    torch.testing.assert_close(found, expected.sum(1), rtol=1e-9, atol=1e-12)
    assert top == pytest.approx(float(torch.linalg.eigvalsh(expected)[-1]))


def wrapped_ways() -> dict[str, Any]:
    def inner(model: nn.Module) -> nn.Module:
        model[0] = torch.compile(model[0], backend="eager")
        return model

    def in_place(model: nn.Module) -> nn.Module:
        model.compile(backend="eager")
        return model

    return {
        "compiled": lambda model: torch.compile(model, backend="aot_eager"),
        "a part compiled": inner,
        "compiled in place": in_place,
        "DataParallel": nn.DataParallel,
        "both": lambda model: nn.DataParallel(torch.compile(model, backend="aot_eager")),
    }


@pytest.mark.parametrize("way", wrapped_ways())
def test_wrapped_models_are_run_as_they_are_inside(way: str) -> None:
    model, x, y = small()
    expected = curvature.dense(curvature.hessian(model, cross_entropy, (x, y), dtype=F64))
    norms = gradient_norms(model, cross_entropy, (x, y))
    wrapped = wrapped_ways()[way](model)
    wrapped(x)  # compiles it
    if way != "DataParallel":
        norms = gradient_norms(copy.deepcopy(model), cross_entropy, (x, y))
    with torch.no_grad():
        model[1].running_mean.zero_(), model[1].running_var.fill_(1.0)
    operator = curvature.hessian(wrapped, cross_entropy, (x, y), dtype=F64)
    torch.testing.assert_close(curvature.dense(operator), expected, rtol=1e-12, atol=1e-15)
    names = [name for name, _ in wrapped.named_parameters()]
    assert list(operator.params) == names  # as the user knows them
    some = curvature.hessian(
        wrapped, cross_entropy, (x, y), params={names[0]: model_first(wrapped)}
    )
    assert some.dim == 12
    assert gradient_norms(wrapped, cross_entropy, (x, y)).full == pytest.approx(norms.full)
    metric = torch.optim.AdamW(wrapped.parameters())
    cross_entropy(wrapped(x), y).backward()
    metric.step()
    assert curvature.preconditioner(metric, wrapped).keys() == {*names}


def model_first(model: nn.Module) -> torch.Tensor:
    return next(model.parameters()).detach()


def test_sharded_weights_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from halflife.diagnostics.curvature import data_operator

    model, x, y = small()
    monkeypatch.setattr(data_operator, "is_sharded", lambda p: p.shape == (2, 4))
    with pytest.raises(ValueError, match=r"params: '3.weight' is sharded over processes; gather"):
        curvature.hessian(model, cross_entropy, (x, y))


@pytest.mark.filterwarnings("ignore:`torch.jit.*is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # since torch 2.14 or so
def test_scripted_parts_are_run_and_scripted_models_refused() -> None:
    model, x, y = small()
    expected = curvature.dense(curvature.hessian(model, cross_entropy, (x, y), dtype=F64))
    model[1] = torch.jit.script(model[1])
    found = curvature.dense(curvature.hessian(model, cross_entropy, (x, y), dtype=F64))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)
    assert model[1].training  # the mode is put back there too
    for function in (curvature.hessian, gradient_norms):
        with pytest.raises(ValueError, match=r"model: .* is scripted, and takes no other weights"):
            function(torch.jit.script(model), cross_entropy, (x, y))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:FSDP is switching to use `NO_SHARD`")
def test_fsdps_first_version_is_refused_by_name() -> None:
    """Its modules would not see the weights that they are handed: the Hessian was 0."""
    fsdp = pytest.importorskip("torch.distributed.fsdp", reason="torch is built without it")
    model, x, y = small()
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        wrapped = fsdp.FullyShardedDataParallel(model, device_id=torch.device("cpu"))
        for function in (curvature.hessian, gradient_norms):
            with pytest.raises(ValueError, match=r"model: .* is sharded by FullyShardedData"):
                function(wrapped, cross_entropy, (x, y))
    finally:
        torch.distributed.destroy_process_group()
