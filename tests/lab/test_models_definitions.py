"""What the lab's models compute, by hand: Shake-Shake, shortcuts, masks, states, shapes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from model_cases import cases, inputs, logits, small
from torch import Tensor, nn

from halflife.lab.models import (
    MODELS,
    build,
    cifar_resnet,
    densenet_bc100,
    googlenet,
    gpt,
    lstm,
    shake_shake26,
    vit_s16,
)
from halflife.lab.models.attention import TransformerBlock
from halflife.lab.models.shake_shake import ShakeShake

# --- Shake-Shake ---------------------------------------------------------------------------------


def randoms(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_shake_shake_mixes_by_one_coefficient_and_its_gradient_by_the_other() -> None:
    first, second = randoms(6, 3, 2, 2).requires_grad_(), randoms(6, 3, 2, 2).requires_grad_()
    forth, back = torch.rand(2, 6, 1, 1, 1, dtype=torch.float64)
    gradient = randoms(6, 3, 2, 2)
    mixed = ShakeShake.apply(first, second, forth, back)
    mixed.backward(gradient)
    # A few roundings of numbers of order 1, eps = 2.2e-16.
    exactly = {"rtol": 0, "atol": 4e-15}
    torch.testing.assert_close(mixed, forth * first + (1 - forth) * second, **exactly)
    torch.testing.assert_close(first.grad, back * gradient, **exactly)
    torch.testing.assert_close(second.grad, (1 - back) * gradient, **exactly)


class _Recorder(nn.Module):
    """A branch that multiplies by one weight, so that its share of the gradient can be read."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        self.given = self.value * torch.ones_like(inputs)
        self.given.retain_grad()
        return self.given


def shaken(rows: int, training: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Of the second block of a network: the shares a, b and 1 - b, for each row."""
    model = shake_shake26(4).double()
    block: Any = model.features[3]
    assert block.shortcut is None
    block.train(training)
    block.first, block.second = _Recorder(1.0), _Recorder(0.0)
    given = randoms(rows, 4, 2, 2)
    outputs = block(given)
    outputs.sum().backward()
    forth = outputs - given  # a 1 + (1 - a) 0
    per_row = [forth, block.first.given.grad, block.second.given.grad]
    for share in per_row:  # one number for the whole image
        assert torch.allclose(share, share[:, :1, :1, :1].expand_as(share), rtol=0, atol=1e-14)
    a, b, rest = (share[:, 0, 0, 0].detach() for share in per_row)
    return a, b, rest


def test_coefficients_are_drawn_for_each_image_and_for_each_direction() -> None:
    rows = 4000
    a, b, rest = shaken(rows, training=True)
    torch.testing.assert_close(b + rest, torch.ones_like(b), rtol=0, atol=1e-14)
    for share in (a, b):  # uniform: mean 1/2, variance 1/12; five standard errors
        assert len(share.unique()) > 0.99 * rows
        assert 0 <= share.min() < 0.01
        assert 0.99 < share.max() <= 1
        assert abs(share.mean() - 0.5) < 5 * (1 / 12 / rows) ** 0.5
        assert abs(share.var() - 1 / 12) < 5 * (1 / 180 / rows) ** 0.5
    assert abs(torch.corrcoef(torch.stack((a, b)))[0, 1]) < 5 / rows**0.5
    again, _, _ = shaken(rows, training=True)
    assert not torch.equal(a, again)


def test_coefficients_are_one_half_at_evaluation() -> None:
    state = torch.get_rng_state()
    shares = shaken(5, training=False)
    for share in shares:
        torch.testing.assert_close(share, torch.full_like(share, 0.5), rtol=0, atol=1e-15)
    model = small("shake-shake-26-2x64d").eval()
    state = torch.get_rng_state()
    model(torch.ones(1, 3, 4, 4))
    assert torch.equal(torch.get_rng_state(), state)  # nothing was drawn


def test_shake_shake_draws_in_float32_for_bfloat16() -> None:
    first, second = torch.ones(2000, 1, 1, 1), torch.zeros(2000, 1, 1, 1)
    from halflife.lab.models.shake_shake import _mixed

    assert len(_mixed(first.bfloat16(), second.bfloat16(), True).unique()) > 257


def test_shortcut_of_shake_shake_by_hand() -> None:
    """Each half sees every second pixel, the second half of the image moved down and right."""
    block: Any = shake_shake26(4).double().features[6]
    block.eval()  # the batch norm, still the identity but for its eps, is then affine
    given = randoms(2, 4, 6, 5).relu()
    here, shifted = block.shortcut.here.weight, block.shortcut.shifted.weight
    moved = torch.zeros_like(given)
    moved[:, :, 1:, 1:] = given[:, :, :-1, :-1]
    parts = [
        torch.einsum("oi,nihw->nohw", weight[:, :, 0, 0], image[:, :, ::2, ::2])
        for weight, image in ((here, given), (shifted, moved))
    ]
    expected = torch.cat(parts, 1) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(block.shortcut(given), expected, rtol=1e-12, atol=1e-12)


def test_block_of_shake_shake_by_hand() -> None:
    block: Any = shake_shake26(4).double().eval().features[3]
    given = randoms(2, 4, 5, 5)
    scale = (1 + 1e-5) ** 0.5

    def branch(layers: Any) -> Tensor:
        inner = (F.conv2d(given.relu(), layers[0].weight, padding=1) / scale).relu()
        return F.conv2d(inner, layers[3].weight, padding=1) / scale

    expected = given + (branch(block.first) + branch(block.second)) / 2  # not relu(given)
    torch.testing.assert_close(block(given), expected, rtol=1e-12, atol=1e-12)


# --- CIFAR residual networks ---------------------------------------------------------------------


@pytest.mark.parametrize("side", [6, 7])
@pytest.mark.parametrize("leak", [0.0, 0.1])
def test_option_a_shortcut_by_hand(leak: float, side: int) -> None:
    model: Any = cifar_resnet(20, batch_norm=False, leak=leak).double()
    block = model.features[2 + 3]  # the first of the second stage: 16 to 32 channels
    given = randoms(2, 16, side, side)
    first, second = block.layers[0].weight, block.layers[2].weight
    assert (first.shape, second.shape) == ((32, 16, 3, 3), (32, 32, 3, 3))
    inner = F.leaky_relu(F.conv2d(given, first, stride=2, padding=1), leak)
    expected = F.conv2d(inner, second, padding=1)
    for channel in range(16):  # eight channels of zeros before and behind
        expected[:, 8 + channel] += given[:, channel, ::2, ::2]
    expected = F.leaky_relu(expected, leak)
    torch.testing.assert_close(block(given), expected, rtol=1e-12, atol=1e-12)


def test_leak_is_in_every_activation() -> None:
    leaky = [m for m in small("resnet20-nobn", leak=0.1).modules() if isinstance(m, nn.LeakyReLU)]
    plain = [m for m in small("resnet20-nobn").modules() if isinstance(m, nn.ReLU)]
    assert len(leaky) == len(plain) == 19  # one of each convolution
    assert {m.negative_slope for m in leaky} == {0.1}


@pytest.mark.parametrize("name", cases(name for name in MODELS if name.endswith("-nobn")))
def test_without_batch_norm_there_is_none(name: str) -> None:
    with torch.device("meta"):
        model = build(name)
    assert not [m for m in model.modules() if "norm" in type(m).__name__.lower()]
    assert not list(model.buffers())


def test_dense_layers_keep_what_came_in() -> None:
    model: Any = small("densenet-bc-100-12-nobn")
    given = torch.randn(2, 24, 4, 4)
    once = model.features[1](given)
    twice = model.features[2](once)
    assert torch.equal(once[:, :24], given)
    assert torch.equal(twice[:, :36], once)
    assert twice.shape == (2, 48, 4, 4)


# --- what stands side by side --------------------------------------------------------------------

NORM = (1 + 1e-5) ** 0.5  # what a new batch norm divides by at evaluation


def test_dense_layer_and_transition_by_hand() -> None:
    features: Any = densenet_bc100().double().eval().features
    given = randoms(2, 24, 5, 4)
    _, reduce, _, _, add = features[1].layers
    inner = F.conv2d((given / NORM).relu(), reduce.weight)
    added = F.conv2d((inner / NORM).relu(), add.weight, padding=1)
    assert added.shape == (2, 12, 5, 4)
    expected = torch.cat((given, added), 1)
    torch.testing.assert_close(features[1](given), expected, rtol=1e-12, atol=1e-12)

    given = randoms(2, 24 + 16 * 12, 4, 4)  # after a block of sixteen layers
    halved = F.conv2d((given / NORM).relu(), features[18].weight)
    assert halved.shape[1] == (24 + 16 * 12) // 2
    expected = halved.unflatten(2, (2, 2)).unflatten(4, (2, 2)).mean((3, 5))
    torch.testing.assert_close(features[17:20](given), expected, rtol=1e-12, atol=1e-12)


def test_inception_module_by_hand() -> None:
    module: Any = googlenet().double().eval().features[1]
    given = randoms(2, 192, 3, 3)

    def layer(sequence: Any, given: Tensor) -> Tensor:
        weight, bias = sequence[0].weight, sequence[0].bias
        return (F.conv2d(given, weight, bias, padding=weight.shape[-1] // 2) / NORM).relu()

    one, three, five, pooled = module.branches
    expected = [
        layer(one, given),
        layer(three[1], layer(three[0], given)),
        layer(five[2], layer(five[1], layer(five[0], given))),
        layer(pooled[1], F.max_pool2d(given, 3, 1, 1)),
    ]
    assert [part.shape[1] for part in expected] == [64, 128, 32, 32]
    torch.testing.assert_close(module(given), torch.cat(expected, 1), rtol=1e-12, atol=1e-12)


# --- shapes --------------------------------------------------------------------------------------

# Height and width that the papers trained at, channels before the head, places left of a side.
SHAPES = [
    ("resnet20", {}, 32, 64, 8),
    ("resnet18", {}, 224, 512, 7),
    ("resnet18", {"stem": "cifar"}, 32, 512, 4),
    ("resnet50", {}, 224, 2048, 7),
    ("vgg16-bn", {}, 32, 512, 1),
    ("densenet121", {}, 32, 1024, 4),
    ("densenet121", {"stem": "imagenet"}, 224, 1024, 7),
    ("densenet-bc-100-12", {}, 32, 342, 8),
    ("googlenet", {}, 32, 1024, 8),
    ("shake-shake-26-2x64d", {}, 32, 256, 8),
    ("shake-shake-26-2x96d", {}, 32, 384, 8),
]


@pytest.mark.parametrize(("name", "settings", "side", "width", "places"), SHAPES)
def test_shapes(name: str, settings: dict[str, Any], side: int, width: int, places: int) -> None:
    with torch.device("meta"):
        model: Any = build(name, classes=7, **settings)
        features = model.features(torch.empty(2, 3, side, side))
        assert features.shape == (2, width, places, places)
        assert model.head(features.mean((2, 3))).shape == (2, 7)


@pytest.mark.parametrize("name", ["resnet20", "resnet18", "googlenet"])
def test_grey_images_of_28_pixels(name: str) -> None:
    with torch.device("meta"):
        model = build(name, classes=10, channels=1)
        assert model(torch.empty(2, 1, 28, 28)).shape == (2, 10)


def test_language_models_and_vit_give_their_shapes() -> None:
    with torch.device("meta"):
        assert build("vit-s16")(torch.empty(2, 3, 224, 224)).shape == (2, 1000)
        tokens = torch.empty(2, 1024, dtype=torch.long)
        assert build("gpt2-small")(tokens).shape == (2, 1024, 50257)
        logits, state = build("lstm", vocabulary=10_000)(tokens[:, :35])
    assert logits.shape == (2, 35, 10_000)
    assert state[0].shape == state[1].shape == (2, 2, 512)


def test_vit_takes_images_of_its_size_only() -> None:
    model = vit_s16(image=28, patch=7, depth=1, width=12, heads=2, channels=1, classes=3)
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 3)
    with pytest.raises(ValueError, match=r"^images must be \(28, 28\) pixels, got .*32, 32"):
        model(torch.zeros(2, 1, 32, 32))


# --- language models -----------------------------------------------------------------------------


def test_gpt_does_not_see_later_tokens() -> None:
    model = gpt(11, context=12, layers=3, width=32).double().eval()
    tokens = torch.randint(11, (2, 12))
    before = model(tokens)
    changed = tokens.clone()
    changed[:, 7] = (tokens[:, 7] + 1) % 11
    after = model(changed)
    # Equal but for the order of sums, which may depend on the shape, not on the values.
    torch.testing.assert_close(before[:, :7], after[:, :7], rtol=0, atol=1e-14)
    assert (before[:, 7:] - after[:, 7:]).abs().amin(-1).min() > 1e-9  # each later place does
    shorter = model(tokens[:, :7])
    torch.testing.assert_close(shorter, before[:, :7], rtol=0, atol=1e-14)


def test_gpt_refuses_what_is_longer_than_its_context() -> None:
    with pytest.raises(ValueError, match=r"^tokens must be at most 8 long, got 9; pass context="):
        gpt(11, context=8, layers=1)(torch.zeros(1, 9, dtype=torch.long))


def test_gpt_has_one_table() -> None:
    model: Any = gpt(11, layers=1)
    assert model.head.weight is model.tokens.weight


def test_transformer_block_by_hand() -> None:
    torch.manual_seed(0)
    block = TransformerBlock(6, 2, causal=True, approximate="tanh").double()
    given = randoms(1, 3, 6)
    normal = F.layer_norm(given, (6,))
    weights = block.attention.qkv.weight.view(3, 2, 3, 6)  # q, k, v; heads; width of a head
    q, k, v = torch.einsum("phdw,btw->pbhtd", weights, normal) + (
        block.attention.qkv.bias.view(3, 1, 2, 1, 3)
    )
    scores = q @ k.transpose(-1, -2) / 3**0.5
    for query in range(3):
        scores[..., query, query + 1 :] = -torch.inf
    heads = torch.softmax(scores, -1) @ v
    joined = torch.cat((heads[:, 0], heads[:, 1]), -1)
    middle = given + F.linear(
        joined, block.attention.projection.weight, block.attention.projection.bias
    )
    up, _, down, _ = block.mlp
    inner = F.linear(F.layer_norm(middle, (6,)), up.weight, up.bias)
    inner = inner / 2 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (inner + 0.044715 * inner**3)))
    expected = middle + F.linear(inner, down.weight, down.bias)
    torch.testing.assert_close(block(given), expected, rtol=1e-12, atol=1e-12)


def test_drop_path_leaves_a_part_out_for_a_row_or_makes_up_for_it() -> None:
    block = TransformerBlock(4, 1, causal=False, drop_path=0.25).double()
    part = torch.ones(4000, 2, 4, dtype=torch.float64)
    kept = block._kept(part)
    assert set(kept.unique().tolist()) == {0.0, 1 / 0.75}
    assert torch.equal(kept, kept[:, :1, :1].expand_as(kept))
    share = (kept[:, 0, 0] == 0).double().mean()
    assert abs(share - 0.25) < 5 * (0.25 * 0.75 / 4000) ** 0.5
    assert block.eval()._kept(part) is part


def test_drop_path_rises_with_the_depth() -> None:
    model: Any = small("vit-s16", depth=5, drop_path=0.2)
    assert [b.drop_path for b in model.blocks] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])


def test_vit_reads_the_class_token() -> None:
    """Without blocks it sees nothing of the image; with one it does."""
    model: Any = small("vit-s16").double().eval()
    one, other = (inputs("vit-s16") + shift for shift in (0.0, 1.0))
    assert not torch.allclose(model(one.double()), model(other.double()))
    model.blocks = nn.ModuleList()
    assert torch.equal(model(one.double()), model(other.double()))


@pytest.mark.parametrize("layers", [1, 2])
def test_lstm_carries_its_state(layers: int) -> None:
    model = lstm(11, width=6, layers=layers).double().eval()
    tokens = torch.randint(11, (3, 10))
    whole, last = model(tokens)
    first, state = model(tokens[:, :4])
    second, end = model(tokens[:, 4:], state)
    torch.testing.assert_close(torch.cat((first, second), 1), whole, rtol=0, atol=1e-14)
    torch.testing.assert_close(end, last, rtol=0, atol=1e-14)
    assert not torch.allclose(model(tokens[:, 4:])[0], second)
    assert last[0].shape == last[1].shape == (layers, 3, 6)


def test_lstm_is_torchs() -> None:
    model: Any = lstm(11, width=6).double().eval()
    torchs = nn.LSTM(6, 6, 2, batch_first=True).double()
    torchs.load_state_dict(model.cells.state_dict())
    tokens = torch.randint(11, (3, 5))
    outputs, _ = torchs(model.tokens(tokens))
    assert torch.equal(model(tokens)[0], model.head(outputs))


def test_lstm_drops_out_while_training_only() -> None:
    model = lstm(11, width=6, dropout=0.5)
    tokens = torch.randint(11, (3, 5))
    assert not torch.equal(model(tokens)[0], model(tokens)[0])
    model.eval()
    assert torch.equal(logits(model, tokens), logits(model, tokens))


def test_gradients_end_where_the_state_is_detached() -> None:
    model: Any = lstm(11, width=6, dropout=0.0)
    first, second = torch.full((1, 3), 2), torch.full((1, 3), 5)
    _, state = model(first)
    model(second, [tensor.detach() for tensor in state])[0].sum().backward()
    assert not model.tokens.weight.grad[2].any()
    assert model.tokens.weight.grad[5].any()
