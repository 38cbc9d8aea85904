"""Normalization layers of anybody's making: what a vector is shows when the layer is run."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from halflife.diagnostics.auditing import audit
from halflife.diagnostics.auditing.norms import role_of

SIZE = 8


def rms(x, dim=-1):
    return x * torch.rsqrt(x.square().mean(dim, keepdim=True) + 1e-5)


def layer(forward, shape=(SIZE,), name="Scale", base=nn.Module, **others):
    """An instance of a class of this name, whose vector is ``weight``."""

    def build(self):
        base.__init__(self)
        self.weight = nn.Parameter(torch.ones(shape))
        for key, other in others.items():
            setattr(self, key, nn.Parameter(torch.zeros(other)))

    return type(name, (base,), {"__init__": build, "forward": forward})()


class Zero(nn.LayerNorm):
    """A layer norm around one, as Nemotron's: a subclass of torch's own."""

    def __init__(self, size):
        super().__init__(size)

    def forward(self, x):
        return functional.layer_norm(x, self.normalized_shape, 1 + self.weight, self.bias)


GAINS = {
    "gain": lambda: layer(lambda s, x: rms(x) * s.weight),
    "no norm in the name": lambda: layer(lambda s, x: rms(x) * s.weight, name="T5LN"),
    "with a bias": lambda: layer(lambda s, x: rms(x) * s.weight + s.b, b=(SIZE,)),
    "channels first": lambda: layer(lambda s, x: rms(x, 1) * s.weight, shape=(SIZE, 1, 1)),
    "channels first, flat": lambda: layer(lambda s, x: rms(x, 1) * s.weight[:, None, None]),
    "residual in and out": lambda: layer(lambda s, x, r: (rms(x + r) * s.weight, x + r)),
    "gated": lambda: layer(lambda s, x, gate: rms(x) * s.weight * functional.silu(gate)),
    "one number": lambda: layer(lambda s, x: rms(x) * s.weight, shape=()),
    "half precision": lambda: layer(lambda s, x: (rms(x).bfloat16() * s.weight).bfloat16()),
    "of torch": lambda: nn.LayerNorm(SIZE),
    "batch": lambda: nn.BatchNorm2d(SIZE),
    "group": lambda: nn.GroupNorm(2, SIZE),
}
ON_TOP = {
    "one plus": lambda: layer(lambda s, x: rms(x) * (1 + s.weight)),
    "one plus, of a layer norm": lambda: Zero(SIZE),
    "exponential": lambda: layer(lambda s, x: rms(x) * s.weight.exp()),
    "no norm in the name": lambda: layer(lambda s, x: rms(x) * (1 + s.weight), name="T5LN"),
    "channels first": lambda: layer(lambda s, x: rms(x, 1) * (1 + s.weight), shape=(1, SIZE, 1, 1)),
}
NEITHER = {
    "layer scale": lambda: layer(lambda s, x: x * s.weight),
    "response norm": lambda: layer(lambda s, x: x + s.weight * x * x.norm(dim=0)),
    "dynamic tanh": lambda: layer(lambda s, x: torch.tanh(s.weight * x), shape=()),
    "residual inside": lambda: layer(lambda s, x: x + rms(x) * s.weight),
}


@pytest.mark.parametrize(
    ("build", "role"),
    [
        *((b, "gain") for b in GAINS.values()),
        *((b, "on top") for b in ON_TOP.values()),
        *((b, "none") for b in NEITHER.values()),
    ],
)
@pytest.mark.parametrize("value", [0.2, 5.0, -1.0, 0.0])
def test_the_role_follows_from_the_layer_and_not_from_the_values(build, role, value):
    module = build()
    with torch.no_grad():
        module.weight.fill_(value)
    assert role_of(module, module.weight) == role


def test_what_is_added_is_no_gain():
    for module in (nn.LayerNorm(SIZE), Zero(SIZE), nn.BatchNorm1d(SIZE)):
        assert role_of(module, module.bias) == "shift"


def test_only_a_copy_runs():
    module = nn.Sequential(nn.BatchNorm1d(SIZE)).eval()
    norm, state = module[0], copy.deepcopy(module.state_dict())
    norm.register_forward_hook(lambda *_: pytest.fail("the model's hooks must not fire"))
    random = torch.get_rng_state()
    assert role_of(norm, norm.weight) == "gain"
    assert not norm.training
    assert torch.equal(torch.get_rng_state(), random)
    for key, value in module.state_dict().items():
        assert torch.equal(value, state[key])


def test_what_does_not_run_is_unknown():
    def wants_a_graph(self, x):
        raise RuntimeError

    module = layer(wants_a_graph)
    assert role_of(module, module.weight) == "unknown"
    block = nn.ModuleDict({"mlp": nn.Linear(SIZE, SIZE)})
    block.register_parameter("gain", nn.Parameter(torch.ones(SIZE)))
    assert role_of(block, block.gain) == "unknown"


class Watched(nn.Module):
    """A small model, whose forward tells others about it."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(SIZE)
        self.weight = nn.Parameter(torch.ones(SIZE))

    def forward(self, x):
        pytest.fail("a model is not to be run")


def test_models_and_flat_weights_are_not_run():
    model = Watched()
    assert role_of(model, model.weight) == "unknown"
    flat = layer(lambda s, x: pytest.fail("too large to be a gain"), shape=(2**16 + 1,))
    assert role_of(flat, flat.weight) == "unknown"


# --- in an audit ----------------------------------------------------------------------------------


def findings(module, value):
    with torch.no_grad():
        module.weight.fill_(value)
    model = nn.Sequential(nn.Linear(SIZE, SIZE, bias=False), module)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    result = audit(model, optimizer)
    return [f.code for f in result.findings], {r.name: r.reason for r in result.parameters}


@pytest.mark.parametrize("value", [0.2, 1.0, 5.0, -0.3])
@pytest.mark.parametrize("name", ["MyRMSNorm", "T5LN"])
def test_decayed_gains_of_trained_layers_are_found(name, value):
    codes, reasons = findings(layer(lambda s, x: rms(x) * s.weight, name=name), value)
    assert codes == ["decayed-norm"]
    assert reasons["1.weight"] == f"gain of normalization layer {name}"


@pytest.mark.parametrize("value", [0.0, 0.2, 1.5, -0.8])
@pytest.mark.parametrize("name", ["MyRMSNorm", "T5LN"])
def test_gains_around_one_may_decay_however_large(name, value):
    assert findings(layer(lambda s, x: rms(x) * (1 + s.weight), name=name), value)[0] == []


def test_other_vectors_stay_what_they_were():
    assert findings(layer(lambda s, x: x * s.weight), 1e-4)[0] == ["decayed-gain"]
    assert findings(layer(lambda s, x: x + s.weight * x, name="ResponseNorm"), 0.0)[0] == [
        "decayed-norm"
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("llama.modeling_llama:LlamaRMSNorm", ["decayed-norm"]),
        ("t5.modeling_t5:T5LayerNorm", ["decayed-norm"]),
        ("gemma.modeling_gemma:GemmaRMSNorm", []),
        ("gemma3.modeling_gemma3:Gemma3RMSNorm", []),
        ("qwen3_next.modeling_qwen3_next:Qwen3NextRMSNorm", []),
        ("qwen3_next.modeling_qwen3_next:Qwen3NextRMSNormGated", ["decayed-norm"]),
        ("nemotron.modeling_nemotron:NemotronLayerNorm1P", ["decayed-bias"]),
    ],
)
@pytest.mark.parametrize("value", [0.2, 2.0])
def test_layers_of_transformers(path, expected, value):
    pytest.importorskip("transformers", reason="the extra hf is not installed")
    import importlib

    module, _, name = path.partition(":")
    if name == "Qwen3NextRMSNormGated":
        pytest.importorskip("transformers", "5.0", reason="transformers 5 changed this layer")
    cls = getattr(importlib.import_module(f"transformers.models.{module}"), name)
    assert findings(cls(SIZE), value)[0] == expected
