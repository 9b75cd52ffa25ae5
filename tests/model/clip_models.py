"""Small models of CLIP's kin, and transformers' of the same sizes."""

from __future__ import annotations

from typing import Any

from sam_edge.model.clip.config import GELU, QUICK_GELU, TANH_GELU, ClipConfig, TransformerConfig
from sam_edge.model.clip.variants import HALF, MEAN, STD

TEXT, VISION = TransformerConfig(32, 2, 4), TransformerConfig(48, 2, 3)


def small_config(title: str) -> ClipConfig:
    """A family's conventions in a small size: 64 tokens, texts of 12, images of 32 pixels."""
    if title == "SigLIP 2":
        return ClipConfig(title, 48, TEXT, VISION, 32, 8, 64, 12, TANH_GELU, 1e-6, HALF, HALF, end=1, pooled=True)
    activation = QUICK_GELU if title == "CLIP" else GELU
    return ClipConfig(title, 24, TEXT, VISION, 32, 8, 64, 12, activation, 1e-5, MEAN, STD, end=63)


def their_config(config: ClipConfig) -> dict[str, Any]:
    """The configuration as transformers' `CLIPConfig` or `SiglipConfig` takes it."""
    encoders = {
        name: {
            "hidden_size": each.width,
            "intermediate_size": each.hidden,
            "num_hidden_layers": each.layers,
            "num_attention_heads": each.heads,
            "hidden_act": config.activation,
            "layer_norm_eps": config.eps,
            **({} if config.pooled else {"projection_dim": config.dim}),
        }
        for name, each in (("text_config", config.text), ("vision_config", config.vision))
    }
    encoders["text_config"] |= {
        "vocab_size": config.vocabulary,
        "max_position_embeddings": config.context,
        "eos_token_id": config.end,
        "bos_token_id": config.end - 1,
        "pad_token_id": 0,
        **({"projection_size": config.dim} if config.pooled else {}),
    }
    encoders["vision_config"] |= {"image_size": config.side, "patch_size": config.patch}
    return {**encoders, **({} if config.pooled else {"projection_dim": config.dim})}
