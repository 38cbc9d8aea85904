"""The lab's models at work: memory formats, compilers, bfloat16, training steps, groups."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from model_cases import IMAGES, cases, inputs, logits, small
from torch import Tensor, nn

import halflife
from halflife.lab.models import MODELS
from halflife.lab.models.shake_shake import shake_shake26


def loss_of(model: nn.Module, given: Tensor) -> Tensor:
    outputs = logits(model, given).float()
    targets = torch.arange(outputs.shape[0]) % outputs.shape[-1]
    if outputs.ndim == 3:
        outputs, targets = outputs.flatten(0, 1), given.flatten()
    return F.cross_entropy(outputs, targets)


# --- memory format -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", cases(IMAGES))
def test_channels_last(name: str) -> None:
    model: Any = small(name).eval()
    images = inputs(name)
    expected = model(images)
    model = model.to(memory_format=torch.channels_last)
    kept: list[bool] = []
    plain: list[bool] = []

    def note(module: nn.Module, given: Any, output: Tensor) -> None:
        kept.append(output.is_contiguous(memory_format=torch.channels_last))
        plain.append(output.is_contiguous())

    for module in (model.patches if name == "vit-s16" else model.features).modules():
        module.register_forward_hook(note)
    outputs = model(images.contiguous(memory_format=torch.channels_last))
    # Other kernels, other orders of sums: some hundred roundings of float32, eps = 1.2e-7.
    assert (outputs - expected).abs().max() < 1e-5 * expected.abs().max()
    assert all(kept)
    assert sum(plain) < len(plain) / 3  # what has one place, or one channel, is both


# --- compilers -----------------------------------------------------------------------------------

# Without a backend that generates code: is it one graph, and does it compute the same?
QUICK = ["vit-s16", "lstm", "gpt"]
LONGER = [
    "resnet20",
    "resnet18",
    "resnet50",
    "vgg16-bn",
    "vgg16-nobn",
    "densenet-bc-100-12",
    "googlenet",
]
LONGER += ["resnet20-nobn", "shake-shake-26-2x64d"]
# torch's compiler makes an instance of each autograd function, of which torch warns.
quietly = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


def assert_one_graph(model: nn.Module, given: Tensor) -> None:
    torch._dynamo.reset()
    compiled: Any = torch.compile(model, backend="eager", fullgraph=True)
    for training in (False, True):
        model.train(training)
        torch.manual_seed(0)
        expected = logits(model, given)
        torch.manual_seed(0)
        outputs = logits(compiled, given)
        assert torch.equal(outputs, expected)
    outputs.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    torch._dynamo.reset()


@quietly
@pytest.mark.parametrize("name", cases([*QUICK, *LONGER], LONGER))
def test_compiles_to_one_graph(name: str) -> None:
    assert_one_graph(small(name), inputs(name))


@quietly
def test_a_block_of_shake_shake_compiles_to_one_graph() -> None:
    block: Any = shake_shake26(4).features[6]
    assert_one_graph(block, torch.randn(2, 4, 4, 4))


@quietly
@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet20", "shake-shake-26-2x64d", "vit-s16", "lstm", "gpt"])
def test_gradients_of_the_compiled_model_are_those_of_the_model(name: str) -> None:
    """By AOTAutograd, which traces the backward pass too; without dropout, whose draws differ."""
    settings: dict[str, Any] = {"dropout": 0.0} if name == "lstm" else {}
    model, given = small(name, **settings).double(), inputs(name)
    given = given.double() if given.is_floating_point() else given
    torch._dynamo.reset()
    compiled: Any = torch.compile(model, backend="aot_eager", fullgraph=True)
    gradients = []
    for version in (model, compiled):
        torch.manual_seed(0)
        loss_of(version, given).backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        model.zero_grad()
    for plain, other in zip(*gradients, strict=True):
        torch.testing.assert_close(other, plain, rtol=1e-6, atol=1e-7)
    torch._dynamo.reset()


# --- bfloat16 ------------------------------------------------------------------------------------


def assert_finite_gradients(model: nn.Module, loss: Tensor) -> None:
    assert loss.isfinite()
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


# Processors without bfloat16 take seconds for these.
LARGE = ["resnet18", "resnet50", "vgg16-bn", "vgg16-nobn", "googlenet"]


@pytest.mark.parametrize("name", cases(MODELS, LARGE))
def test_bfloat16(name: str) -> None:
    model, given = small(name), inputs(name)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = logits(model, given)
        loss = loss_of(model, given)
    assert outputs.dtype == torch.bfloat16
    assert_finite_gradients(model, loss)
    model = small(name).to(torch.bfloat16)
    given = given.bfloat16() if given.is_floating_point() else given
    assert logits(model, given).dtype == torch.bfloat16
    assert_finite_gradients(model, loss_of(model, given))


def test_lstm_carries_its_state_under_autocast() -> None:
    model, tokens = small("lstm"), inputs("lstm")
    with torch.autocast("cpu", torch.bfloat16):
        _, state = model(tokens)
        outputs, _ = model(tokens, [tensor.detach() for tensor in state])
    assert outputs.isfinite().all()


# --- a training step -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", cases(MODELS))
def test_a_step_moves_every_parameter(name: str) -> None:
    model, given = small(name), inputs(name)
    optimizer = halflife.AdamW(halflife.param_groups(model), lr=1e-3, weight_decay=0.0)
    loss_of(model, given).backward()
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.any(), key
    optimizer.step()
    still = [k for k, p in model.named_parameters() if torch.equal(p, before[k])]
    assert not still


# --- groups --------------------------------------------------------------------------------------


def decayed(model: nn.Module, policy: Any) -> set[str]:
    groups = halflife.param_groups(model, policy)
    return {d.name for d in groups.decisions if d.decays}


def weights(model: nn.Module) -> set[str]:
    """Matrices and kernels of layers, by their shape."""
    return {name for name, parameter in model.named_parameters() if parameter.ndim > 1}


@pytest.mark.parametrize("name", cases(MODELS))
def test_biases_norms_and_positions_do_not_decay(name: str) -> None:
    with torch.device("meta"):
        model = small(name)
    assert decayed(model, "norm-and-bias-free") == weights(model) - {"class_token", "position"}


@pytest.mark.parametrize(
    ("name", "exempt"),
    [
        ("vit-s16", {"class_token", "position"}),
        ("lstm", {"tokens.weight"}),
        ("gpt", {"positions.weight"}),  # the tokens' table is the head, too, which decays
    ],
)
def test_tables_do_not_decay_where_the_policy_says_so(name: str, exempt: set[str]) -> None:
    model = small(name)
    assert decayed(model, "norm-bias-and-embedding-free") == weights(model) - exempt


@pytest.mark.parametrize("name", ["vit-s16", "gpt"])
def test_muon_has_the_matrices_of_the_blocks(name: str) -> None:
    model = small(name)
    groups = halflife.param_groups(model, "muon", named=True)
    found = {key for group in groups if group["use_muon"] for key, _ in group["params"]}
    parts = ("attention.qkv", "attention.projection", "mlp.0", "mlp.2")
    assert found == {f"blocks.{block}.{part}.weight" for block in (0, 1) for part in parts}
