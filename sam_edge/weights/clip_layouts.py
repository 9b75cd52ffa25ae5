"""The names that checkpoints give to the tensors of CLIP's kin, as data.

The models here have OpenAI's names under `visual.` and `text.`. Three differences are more than names: OpenAI's code
keeps queries, keys and values in one matrix without a layer around it; it multiplies by two projections from the right;
and transformers has three matrices in place of the one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from sam_edge_runtime.errors import CheckpointError, short_name

from .layouts import Layout, to_official
from .unwrapping import State, tensor_names

_OPENAI_BLOCKS = tuple(
    (f"{theirs}.in_proj_{kind}", f"{ours}.in_proj.{kind}")
    for theirs, ours in (
        ("visual.transformer.resblocks.*.attn", "visual.transformer.resblocks.*.attn"),
        ("transformer.resblocks.*.attn", "text.transformer.resblocks.*.attn"),
    )
    for kind in ("weight", "bias")
)
_OPENAI_TEXT = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.")
OPENAI = Layout(
    "official",
    "official names",
    ("visual",),
    ("transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection", "logit_scale"),
    (
        *_OPENAI_BLOCKS,
        ("visual.proj", "visual.proj.weight"),
        ("text_projection", "text.text_projection.weight"),
        *((name, f"text.{name}") for name in _OPENAI_TEXT),
    ),
)
# TinyCLIP's code puts each encoder into a module of its own; names inside are OpenAI's.
TINYCLIP = Layout(
    "official",
    "official names",
    ("_image_encoder", "_text_encoder", "_logit_scale"),
    (),
    (
        ("_image_encoder.visual.transformer.resblocks.*.attn.in_proj_", "visual.transformer.resblocks.*.attn.in_proj."),
        ("_image_encoder.visual.proj", "visual.proj.weight"),
        ("_image_encoder.", ""),
        ("_text_encoder.transformer.resblocks.*.attn.in_proj_", "text.transformer.resblocks.*.attn.in_proj."),
        ("_text_encoder.text_projection", "text.text_projection.weight"),
        ("_text_encoder.", "text."),
        ("_logit_scale.logit_scale", "logit_scale"),
    ),
)
_HF_BLOCK = (
    ("self_attn.", "attn."),
    ("layer_norm1.", "ln_1."),
    ("layer_norm2.", "ln_2."),
    ("mlp.fc1.", "mlp.c_fc."),
    ("mlp.fc2.", "mlp.c_proj."),
)
# CLIPModel and SiglipModel, whose text models differ in the last layer, and whose image models in how they pool.
CLIP_HUGGING_FACE = Layout(
    "hf",
    "Hugging Face names",
    ("text_model", "vision_model"),
    ("visual_projection", "text_projection", "logit_scale", "logit_bias"),
    (
        *(
            (f"{theirs}.encoder.layers.*.{their_part}", f"{ours}.transformer.resblocks.*.{part}")
            for theirs, ours in (("text_model", "text"), ("vision_model", "visual"))
            for their_part, part in _HF_BLOCK
        ),
        ("text_model.embeddings.token_embedding.", "text.token_embedding."),
        ("text_model.embeddings.position_embedding.weight", "text.positional_embedding"),
        ("text_model.final_layer_norm.", "text.ln_final."),
        ("text_model.head.", "text.text_projection."),
        ("text_projection.", "text.text_projection."),
        ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
        ("vision_model.embeddings.patch_embedding.", "visual.conv1."),
        ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
        ("vision_model.pre_layrnorm.", "visual.ln_pre."),
        ("vision_model.post_layernorm.", "visual.ln_post."),
        ("vision_model.head.attention.in_proj_", "visual.head.attn.in_proj."),
        ("vision_model.head.attention.", "visual.head.attn."),
        ("vision_model.head.layernorm.", "visual.head.ln."),
        ("vision_model.head.mlp.fc1.", "visual.head.mlp.c_fc."),
        ("vision_model.head.mlp.fc2.", "visual.head.mlp.c_proj."),
        ("vision_model.head.", "visual.head."),
        ("visual_projection.", "visual.proj."),
    ),
)

CLIP_LAYOUTS = (TINYCLIP, CLIP_HUGGING_FACE, OPENAI)
CLIP_ROOTS = frozenset(root for layout in CLIP_LAYOUTS for root in (*layout.own, *layout.shared))
# What sets a file of CLIP's kin apart from others with a `transformer` or a `visual` in it: one of these for each part.
CLIP_MARKS = (
    re.compile(r"(.*\.)?(visual\.conv1|vision_model\.embeddings\.patch_embedding)\.weight"),
    re.compile(r"(.*\.)?token_embedding\.weight"),
)
# Sizes and masks that are no weights: OpenAI's three integers and constants of transformers' and OpenCLIP's modules.
_NO_WEIGHTS = re.compile(r"input_resolution|context_length|vocab_size|(.*\.)?position_ids|(.*\.)?attn_mask")
_TRANSPOSED = ("visual.proj.weight", "text.text_projection.weight")  # where OpenAI multiplies from the right
_SPLIT = re.compile(r"(?P<at>.*\.attn)\.q_proj\.(?P<kind>weight|bias)")


class HoldsClipError(CheckpointError):
    """A file for SAM holds a text and an image encoder instead."""


def holds_clip(tree: Mapping[object, object]) -> bool:
    """Whether the tensors of a file are a text encoder and an image encoder of CLIP's kin."""
    names = tensor_names(tree)
    return all(any(mark.fullmatch(name) for name in names) for mark in CLIP_MARKS)


def clip_layout_of(names: Mapping[str, object]) -> Layout:
    """The layout that the names follow; OpenAI's if they follow none."""
    roots = {name.partition(".")[0] for name in names}
    return next((layout for layout in CLIP_LAYOUTS if not roots.isdisjoint(layout.own)), OPENAI)


def to_clip(state: Mapping[str, torch.Tensor], layout: Layout, label: str) -> State:
    """The tensors under the names of the models here.

    Raises:
        CheckpointError: two tensors get one name, or queries, keys and values do not fit each other.
    """
    kept = {name: tensor for name, tensor in state.items() if not _NO_WEIGHTS.fullmatch(name)}
    result = to_official(kept, layout, label)
    if layout is not CLIP_HUGGING_FACE:
        for name in _TRANSPOSED:
            if name in result and result[name].ndim == 2:
                result[name] = result[name].t()
    for found in [match for name in result if (match := _SPLIT.fullmatch(name))]:
        names = [f"{found['at']}.{part}_proj.{found['kind']}" for part in "qkv"]
        parts = [each for name in names if (each := result.pop(name, None)) is not None]
        if len(parts) != 3 or len({(each.shape, each.dtype, each.layout) for each in parts}) != 1 or not parts[0].ndim:
            raise CheckpointError(
                f"{label}: {short_name(found['at'])} has no three projections q, k and v of one width: copy the file "
                "again"
            )
        result[f"{found['at']}.in_proj.{found['kind']}"] = torch.cat(parts)
    return result
