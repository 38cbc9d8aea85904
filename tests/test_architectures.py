"""Parameter groups of many architectures: no objection of the audit, all in their places."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import nn

import halflife
from architectures import MODELS, builder
from halflife.diagnostics import audit
from halflife.groups import param_groups

transformers = pytest.importorskip("transformers", reason="needs the extra hf")


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    """transformers logs that small configurations are unusual."""
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    yield
    transformers.logging.set_verbosity(before)


@pytest.mark.parametrize("name", MODELS)
def test_audit_has_no_objection(name: str) -> None:
    model = builder(name)()
    for policy in ("norm-and-bias-free", "norm-bias-and-embedding-free"):
        for make in (torch.optim.AdamW, halflife.AdamW):
            optimizer = make(param_groups(model, policy), lr=1e-3, weight_decay=0.1)
            result = audit(model, optimizer, steps=20_000)
            assert not [f for f in result.findings if f.severity != "info"]


@pytest.mark.parametrize("name", MODELS)
def test_vectors_and_weights_by_their_shapes(name: str) -> None:
    model = builder(name)()
    modules = dict(model.named_modules())
    for d in param_groups(model).decisions:
        owner = modules[d.name.rpartition(".")[0]]
        if d.decays and not isinstance(owner, (nn.Linear, nn.Embedding, nn.modules.conv._ConvNd)):
            assert sum(size > 1 for size in d.shape) >= 2
        if type(owner) in (nn.Linear, nn.Conv1d, nn.Conv2d) and d.name.endswith(".weight"):
            assert d.decays


# Layers between a parameter and the head, for what has two layers of one kind: 3 for its inputs.
PLACES = {
    "bert": {
        "bert.embeddings.word_embeddings.weight": 3,
        "bert.embeddings.LayerNorm.weight": 3,
        "bert.encoder.layer.0.output.dense.weight": 2,
        "bert.encoder.layer.1.attention.self.query.bias": 1,
        "cls.predictions.transform.dense.weight": 0,
    },
    "gpt2": {
        "transformer.wpe.weight": 3,
        "transformer.h.0.mlp.c_fc.weight": 2,
        "transformer.h.1.ln_1.bias": 1,
        "transformer.ln_f.weight": 0,
    },
    "t5": {
        "shared.weight": 3,
        "encoder.block.0.layer.1.DenseReluDense.wi.weight": 2,
        "decoder.block.1.layer.0.SelfAttention.q.weight": 1,
        "encoder.final_layer_norm.weight": 0,
    },
    "swin": {
        "swin.embeddings.patch_embeddings.projection.weight": 3,
        "swin.encoder.layers.0.blocks.0.mlp.fc1.weight": 2,
        "swin.encoder.layers.0.downsample.reduction.weight": 2,
        "swin.encoder.layers.1.blocks.0.mlp.fc1.weight": 1,
        "classifier.weight": 0,
    },
    "convnext": {
        "convnext.embeddings.patch_embeddings.weight": 3,
        "convnext.encoder.stages.0.layers.0.dwconv.weight": 2,
        "convnext.encoder.stages.1.downsampling_layer.1.weight": 1,
        "convnext.encoder.stages.1.layers.0.dwconv.weight": 1,
        "classifier.bias": 0,
    },
    "clip": {
        "text_model.embeddings.token_embedding.weight": 3,
        "vision_model.embeddings.class_embedding": 3,
        "vision_model.encoder.layers.0.mlp.fc1.weight": 2,
        "text_model.encoder.layers.1.mlp.fc1.weight": 1,
        "text_projection.weight": 0,
        "logit_scale": 0,
    },
    "wav2vec2": {
        "wav2vec2.feature_projection.projection.weight": 3,
        "wav2vec2.feature_extractor.conv_layers.0.conv.weight": 2,
        "wav2vec2.encoder.layers.1.feed_forward.output_dense.weight": 1,
        "project_q.weight": 0,
    },
}


@pytest.mark.parametrize("name", PLACES)
def test_depths(name: str) -> None:
    if name == "swin":
        pytest.importorskip("transformers", "5.0", reason="transformers 5 names its layers so")
    groups = param_groups(builder(name)(), lr=1.0, layer_decay=0.5)
    below = {d.name: -math.log2(groups[d.group]["lr"]) for d in groups.decisions}  # type: ignore[index]
    assert {name: below[name] for name in PLACES[name]} == PLACES[name]


# What decays and is not Muon's.
NOT_HIDDEN = {
    "gpt2": {"transformer.wte.weight", "transformer.wpe.weight"},
    "t5": {"shared.weight"},
    "llama": {"model.embed_tokens.weight", "lm_head.weight"},
    "rwkv": {"rwkv.embeddings.weight", "head.weight"},
    "beit": {"beit.embeddings.patch_embeddings.projection.weight", "classifier.weight"},
    "clip": {
        "text_model.embeddings.token_embedding.weight",
        "text_model.embeddings.position_embedding.weight",
        "vision_model.embeddings.patch_embedding.weight",
        "vision_model.embeddings.position_embedding.weight",
        "visual_projection.weight",
        "text_projection.weight",
    },
}


@pytest.mark.parametrize("name", NOT_HIDDEN)
def test_hidden_matrices(name: str) -> None:
    model = builder(name)()
    hidden, others = param_groups(model, "muon").split()
    assert {d.name for d in others.decisions if d.decays} == NOT_HIDDEN[name]
    optimizers = [torch.optim.Muon(hidden, lr=0.02), torch.optim.AdamW(others, weight_decay=0.1)]
    result = audit(model, optimizers, steps=20_000)
    assert not [f for f in result.findings if f.severity != "info"]
