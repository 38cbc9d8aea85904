"""Small models of many architectures, made offline from transformers' configurations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
TEXT = {**SIZES, "vocab_size": 32}
GROUPED = {**TEXT, "num_key_value_heads": 1, "head_dim": 8}
IMAGE = {**SIZES, "image_size": 16, "patch_size": 8}
STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1]}
SWIN = {
    "image_size": 16,
    "patch_size": 2,
    "embed_dim": 8,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": 2,
}
SPEECH = {
    **TEXT,
    "conv_dim": (8, 8),
    "conv_stride": (2, 2),
    "conv_kernel": (3, 3),
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
ENCODER_DECODER = {
    "vocab_size": 32,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 16,
}
SSM = {"vocab_size": 32, "hidden_size": 16, "state_size": 4, "num_hidden_layers": 2}
RESNET = {**STAGES, "embedding_size": 8, "layer_type": "basic"}
WINDOWS = {"focal_levels": [1, 1], "focal_windows": [3, 3], "use_layerscale": True}

# The class, its configuration's, and what makes it small.
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertForMaskedLM", "BertConfig", TEXT),
    "deberta": (
        "DebertaV2ForMaskedLM",
        "DebertaV2Config",
        {**TEXT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    ),
    "mpnet": ("MPNetForMaskedLM", "MPNetConfig", TEXT),
    "xlnet": (
        "XLNetLMHeadModel",
        "XLNetConfig",
        {"vocab_size": 32, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32},
    ),
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {"vocab_size": 32, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2},
    ),
    "t5": (
        "T5ForConditionalGeneration",
        "T5Config",
        {"vocab_size": 32, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2},
    ),
    "bart": ("BartForConditionalGeneration", "BartConfig", ENCODER_DECODER),
    "llama": ("LlamaForCausalLM", "LlamaConfig", GROUPED),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config", GROUPED),
    "mixtral": ("MixtralForCausalLM", "MixtralConfig", {**GROUPED, "num_local_experts": 2}),
    "gpt_oss": (
        "GptOssForCausalLM",
        "GptOssConfig",
        {**GROUPED, "num_local_experts": 2, "num_experts_per_tok": 1},
    ),
    "mamba": ("MambaForCausalLM", "MambaConfig", SSM),
    "mamba2": (
        "Mamba2ForCausalLM",
        "Mamba2Config",
        {**SSM, "num_heads": 4, "head_dim": 8, "n_groups": 1},
    ),
    "rwkv": (
        "RwkvForCausalLM",
        "RwkvConfig",
        {**TEXT, "attention_hidden_size": 16},
    ),
    "perceiver": (
        "PerceiverForMaskedLM",
        "PerceiverConfig",
        {
            "vocab_size": 32,
            "num_latents": 4,
            "d_latents": 16,
            "d_model": 16,
            "num_blocks": 1,
            "num_self_attends_per_block": 1,
            "num_self_attention_heads": 2,
            "num_cross_attention_heads": 2,
            "max_position_embeddings": 8,
            "qk_channels": 8,
            "v_channels": 16,
        },
    ),
    "vit": ("ViTForMaskedImageModeling", "ViTConfig", {**IMAGE, "encoder_stride": 8}),
    "vit_mae": (
        "ViTMAEForPreTraining",
        "ViTMAEConfig",
        {
            **IMAGE,
            "decoder_hidden_size": 16,
            "decoder_num_hidden_layers": 1,
            "decoder_num_attention_heads": 2,
            "decoder_intermediate_size": 32,
        },
    ),
    "dinov2": ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", IMAGE),
    "beit": (
        "BeitForImageClassification",
        "BeitConfig",
        {**IMAGE, "use_relative_position_bias": True, "use_mask_token": True, "out_indices": [1]},
    ),
    "swin": ("SwinForImageClassification", "SwinConfig", SWIN),
    "swinv2": ("Swinv2ForImageClassification", "Swinv2Config", SWIN),
    "convnext": ("ConvNextForImageClassification", "ConvNextConfig", {**STAGES, "num_stages": 2}),
    "convnextv2": (
        "ConvNextV2ForImageClassification",
        "ConvNextV2Config",
        {**STAGES, "num_stages": 2},
    ),
    "resnet": ("ResNetForImageClassification", "ResNetConfig", RESNET),
    "efficientnet": (
        "EfficientNetForImageClassification",
        "EfficientNetConfig",
        {"image_size": 32, "width_coefficient": 0.25, "depth_coefficient": 0.2, "hidden_dim": 16},
    ),
    "levit": (
        "LevitForImageClassification",
        "LevitConfig",
        {
            "image_size": 64,
            "hidden_sizes": [16, 16, 16],
            "num_attention_heads": [2, 2, 2],
            "depths": [1, 1, 1],
            "key_dim": [8, 8, 8],
        },
    ),
    "focalnet": (
        "FocalNetForImageClassification",
        "FocalNetConfig",
        {**STAGES, **WINDOWS, "image_size": 32, "embed_dim": 8},
    ),
    "clip": (
        "CLIPModel",
        "CLIPConfig",
        {
            "text_config": {**TEXT, "bos_token_id": 1, "eos_token_id": 2},
            "vision_config": IMAGE,
            "projection_dim": 8,
        },
    ),
    "whisper": (
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        {
            **ENCODER_DECODER,
            "num_mel_bins": 8,
            "max_source_positions": 8,
            "max_target_positions": 8,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
        },
    ),
    "wav2vec2": (
        "Wav2Vec2ForPreTraining",
        "Wav2Vec2Config",
        {**SPEECH, "codevector_dim": 8, "proj_codevector_dim": 8, "num_codevectors_per_group": 4},
    ),
    "conformer": (
        "Wav2Vec2ConformerModel",
        "Wav2Vec2ConformerConfig",
        {**SPEECH, "position_embeddings_type": "relative"},
    ),
    "vits": (
        "VitsModel",
        "VitsConfig",
        {
            "vocab_size": 32,
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "ffn_dim": 32,
            "flow_size": 16,
            "spectrogram_bins": 8,
            "upsample_initial_channel": 16,
            "upsample_rates": [2],
            "upsample_kernel_sizes": [4],
            "resblock_kernel_sizes": [3],
            "resblock_dilation_sizes": [[1]],
            "posterior_encoder_num_wavenet_layers": 1,
            "prior_encoder_num_flows": 1,
            "prior_encoder_num_wavenet_layers": 1,
            "duration_predictor_num_flows": 1,
            "depth_separable_num_layers": 1,
            "wavenet_dilation_rate": 1,
        },
    ),
}


def builder(name: str) -> Callable[[], nn.Module]:
    """What makes the model of this name, with random weights."""
    import transformers

    model, config, settings = MODELS[name]
    return lambda: getattr(transformers, model)(getattr(transformers, config)(**settings))
