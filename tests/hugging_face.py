"""transformers' SAM, SAM-HQ and SAM 2 with the widths and the weights of models here.

transformers is a test dependency. Functions import it, because that takes seconds.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from sam_edge.model import Sam
from sam_edge.model.hiera import HieraConfig
from sam_edge.model.image_encoder import ViTConfig
from sam_edge.weights.families import build_empty
from sam_edge.weights.layouts import HUGGING_FACE, SAM2_HUGGING_FACE, from_official

TWIN = "prompt_encoder.shared_embedding.positional_embedding"  # the same tensor as `shared_image_embedding`'s


def sam_model(config: ViTConfig, side: int = 1024, *, hq: bool = False) -> nn.Module:
    """SamModel or SamHQModel with these widths, for frames of `side` pixels, with random weights.

    The decoder's norms have SAM's own epsilon (transformers' is 1e-6). SamHQModel's decoder gets `keep_the_image`.
    """
    from transformers import SamConfig, SamHQConfig, SamHQModel, SamModel

    vision = {
        "hidden_size": config.dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "global_attn_indexes": list(config.global_blocks),
        "mlp_dim": config.mlp_widths[0] if config.mlp_widths else 4 * config.dim,
        "image_size": side,
    }
    parts = {"vision_config": vision, "prompt_encoder_config": {"image_size": side}}
    if hq:
        model = SamHQModel(SamHQConfig(**parts, mask_decoder_config={"vit_dim": config.dim})).eval()
        model.mask_decoder.transformer.register_forward_hook(keep_the_image, with_kwargs=True)
    else:
        model = SamModel(SamConfig(**parts)).eval()
    for module in model.mask_decoder.transformer.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-5
    return model


def keep_the_image(transformer: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
    """Let SamHQModel's decoder compute as the official code does, which it does not in transformers 5.24.

    The decoder drops the image that its transformer returns, and transposes the transformer's input in its place
    (modeling_sam_hq.py, `SamHQMaskDecoder.forward`). So the returned image is written into the input, transposed.
    """
    before, after = kwargs["image_embeddings"], output[1]  # (1, C, h, w) and (1, 1, h * w, C)
    _, channels, h, w = before.shape
    before.copy_(after[:, 0].mT.reshape(1, channels, w, h).mT)


def with_sam_weights(ours: Sam, config: ViTConfig, *, hq: bool = False) -> nn.Module:
    """`sam_model` with the weights of `ours`, for its side; the tensors are shared."""
    model = build_empty(lambda: sam_model(config, ours.side, hq=hq))
    state = from_official(ours.state_dict(), HUGGING_FACE)
    missing, unexpected = model.load_state_dict(state, strict=False, assign=True)
    assert (missing, unexpected) == ([TWIN], [])
    model.tie_weights()
    return model


def sam2_config(config: HieraConfig, side: int = 1024) -> dict[str, Any]:
    """Sam2Config's arguments for these widths and a frame of `side` pixels."""
    dims = [config.dim * 2**stage for stage in range(4)]
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": config.dim,
        "num_attention_heads": config.heads,
        "image_size": [side, side],
        "window_positional_embedding_background_size": [config.background] * 2,
        "blocks_per_stage": list(config.stages),
        "embed_dim_per_stage": dims,
        "num_attention_heads_per_stage": [config.heads * 2**stage for stage in range(4)],
        "window_size_per_stage": list(config.windows),
        "global_attention_blocks": list(config.global_blocks),
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": backbone,
        "backbone_channel_list": dims[::-1],
        "backbone_feature_sizes": [[side // stride] * 2 for stride in (4, 8, 16)],
    }
    return {"vision_config": vision, "prompt_encoder_config": {"image_size": side}}


def sam2_model(config: HieraConfig, side: int = 1024) -> nn.Module:
    """Sam2Model without numbers, on the meta device: drawing them takes seconds."""
    import transformers

    return build_empty(lambda: transformers.Sam2Model(transformers.Sam2Config(**sam2_config(config, side))).eval())


def with_sam2_weights(ours: Sam, config: HieraConfig) -> nn.Module:
    """`sam2_model` with the weights of `ours`, for its side, without its choice of masks; the tensors are shared."""
    model = sam2_model(config, ours.side)
    model.load_state_dict(from_official(ours.state_dict(), SAM2_HUGGING_FACE), assign=True)
    model.mask_decoder.dynamic_multimask_via_stability = False
    return model
