"""The names that checkpoints give to SAM's tensors, as data: each layout's names beside the official ones.

A layout is a list of pairs. `*` stands for one segment of a name, mostly an index. A pair renames the beginning of
every name that it fits, so what follows (`weight`, `bias`, an adapter's suffix) stays. The first pair that fits counts;
a name that none fits is the same in both. A further layout is one more entry of `LAYOUTS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import torch

from sam_edge_runtime.errors import CheckpointError, UsageError, short_name

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Layout:
    """One way to name the tensors of a model.

    Attributes:
        name: as `sam-edge convert --layout` takes it.
        title: for users.
        own: first segments that only this layout has.
        shared: first segments that other layouts have, too.
        pairs: beginnings of this layout's names and of the official ones.
    """

    name: str
    title: str
    own: tuple[str, ...]
    shared: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...] = ()


OFFICIAL = Layout("official", "official names", ("image_encoder",), ("prompt_encoder", "mask_decoder"))

# transformers' SamModel and SamHQModel (models/sam/modeling_sam.py and models/sam_hq/modeling_sam_hq.py of transformers
# 5.24). The second has the names of the first and a few more.
_MLPS = (
    ("mask_decoder.output_hypernetworks_mlps.*", "mask_decoder.output_hypernetworks_mlps.*"),
    ("mask_decoder.iou_prediction_head", "mask_decoder.iou_prediction_head"),
    ("mask_decoder.hq_mask_mlp", "mask_decoder.hf_mlp"),
)
_HF_PAIRS = (
    ("vision_encoder.patch_embed.projection.", "image_encoder.patch_embed.proj."),
    ("vision_encoder.layers.*.layer_norm1.", "image_encoder.blocks.*.norm1."),
    ("vision_encoder.layers.*.layer_norm2.", "image_encoder.blocks.*.norm2."),
    ("vision_encoder.layers.*.", "image_encoder.blocks.*."),
    ("vision_encoder.neck.conv1.", "image_encoder.neck.0."),
    ("vision_encoder.neck.layer_norm1.", "image_encoder.neck.1."),
    ("vision_encoder.neck.conv2.", "image_encoder.neck.2."),
    ("vision_encoder.neck.layer_norm2.", "image_encoder.neck.3."),
    ("vision_encoder.", "image_encoder."),
    ("shared_image_embedding.positional_embedding", "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"),
    # Tied to the one above; files hold either or both.
    (
        "prompt_encoder.shared_embedding.positional_embedding",
        "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
    ),
    ("prompt_encoder.point_embed.*.", "prompt_encoder.point_embeddings.*."),
    ("prompt_encoder.mask_embed.conv1.", "prompt_encoder.mask_downscaling.0."),
    ("prompt_encoder.mask_embed.layer_norm1.", "prompt_encoder.mask_downscaling.1."),
    ("prompt_encoder.mask_embed.conv2.", "prompt_encoder.mask_downscaling.3."),
    ("prompt_encoder.mask_embed.layer_norm2.", "prompt_encoder.mask_downscaling.4."),
    ("prompt_encoder.mask_embed.conv3.", "prompt_encoder.mask_downscaling.6."),
    *(
        (f"mask_decoder.transformer.layers.*.layer_norm{n}.", f"mask_decoder.transformer.layers.*.norm{n}.")
        for n in (1, 2, 3, 4)
    ),
    ("mask_decoder.transformer.layer_norm_final_attn.", "mask_decoder.transformer.norm_final_attn."),
    ("mask_decoder.upscale_conv1.", "mask_decoder.output_upscaling.0."),
    ("mask_decoder.upscale_layer_norm.", "mask_decoder.output_upscaling.1."),
    ("mask_decoder.upscale_conv2.", "mask_decoder.output_upscaling.3."),
    *(
        (f"{their_mlp}.{theirs}.", f"{mlp}.{ours}.")
        for their_mlp, mlp in _MLPS
        for theirs, ours in (("proj_in", "layers.0"), ("layers.0", "layers.1"), ("proj_out", "layers.2"))
    ),
    ("mask_decoder.hq_token.", "mask_decoder.hf_token."),
    *(
        (f"mask_decoder.{theirs}_{layer}.", f"mask_decoder.{ours}.{index}.")
        for theirs, ours in (
            ("compress_vit", "compress_vit_feat"),
            ("encoder", "embedding_encoder"),
            ("mask", "embedding_maskfeature"),
        )
        for layer, index in (("conv1", 0), ("norm", 1), ("conv2", 3))
    ),
)
HUGGING_FACE = Layout(
    "hf",
    "Hugging Face names",
    ("vision_encoder", "shared_image_embedding"),
    ("prompt_encoder", "mask_decoder"),
    _HF_PAIRS,
)

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in (OFFICIAL, HUGGING_FACE)}

ENCODERS = tuple(f"{layout.own[0]}." for layout in LAYOUTS.values())  # what the names of an image encoder begin with

# First segments of all layouts; SAM 2's own are here, so that its files are recognized.
SAM2_ROOTS = (
    "sam_prompt_encoder",
    "sam_mask_decoder",
    "memory_attention",
    "memory_encoder",
    "maskmem_tpos_enc",
    "no_mem_embed",
    "no_mem_pos_enc",
    "no_obj_ptr",
    "no_obj_embed_spatial",
    "mask_downsample",
    "obj_ptr_proj",
    "obj_ptr_tpos_proj",
    "spatial_perceiver",
)
ROOTS = frozenset(
    (*(root for layout in LAYOUTS.values() for root in (*layout.own, *layout.shared)), *SAM2_ROOTS),
)


def layout_named(name: str) -> Layout:
    """The layout of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in LAYOUTS:
        raise UsageError(f"no layout called {name!r:.60}: choose one of {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def layout_of(names: Iterable[str], label: str) -> Layout:
    """The layout that `names` follow; the official one if they are common to all.

    Raises:
        CheckpointError: some follow one layout and some another.
    """
    first: dict[str, str] = {}
    for name in names:
        root = name.partition(".")[0]
        for layout in LAYOUTS.values():
            if root in layout.own:
                first.setdefault(layout.name, name)
    if len(first) > 1:
        shown = " and ".join(f"{LAYOUTS[each].title} ({short_name(name)})" for each, name in first.items())
        raise CheckpointError(f"{label} mixes two layouts: {shown}: save the weights of one model alone")
    return LAYOUTS[next(iter(first), OFFICIAL.name)]


def to_official(state: Mapping[str, torch.Tensor], layout: Layout, label: str) -> State:
    """The tensors under the official names.

    Raises:
        CheckpointError: two different tensors get one name.
    """
    result: State = {}
    for name, tensor in state.items():
        official = _renamed(name, _compiled(layout.pairs))
        before = result.setdefault(official, tensor)
        if before is not tensor and not _same(before, tensor):
            raise CheckpointError(
                f"{label} holds two different tensors for {short_name(official)}, one of them {short_name(name)}: "
                "save the model again"
            )
    return result


def from_official(state: Mapping[str, torch.Tensor], layout: Layout) -> State:
    """The tensors under the layout's names; where it has two for one tensor, under the first."""
    backwards = _compiled(tuple((official, theirs) for theirs, official in layout.pairs))
    return {_renamed(name, backwards): tensor for name, tensor in state.items()}


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    alike = one.shape == other.shape and one.dtype == other.dtype
    dense = all(each.layout is torch.strided and each.device.type == "cpu" for each in (one, other))
    return alike and dense and torch.equal(one, other)


@cache
def _compiled(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[re.Pattern[str], str], ...]:
    """A pattern of each pair's left side, and what takes its place, with a group for each `*`."""
    compiled = []
    for left, right in pairs:
        pattern = re.compile(re.escape(left).replace(r"\*", r"([^.]+)"))
        pieces = right.split("*")
        places = "".join(f"\\{index}{piece}" for index, piece in enumerate(pieces[1:], 1))
        compiled.append((pattern, pieces[0] + places))
    return tuple(compiled)


def _renamed(name: str, pairs: tuple[tuple[re.Pattern[str], str], ...]) -> str:
    for pattern, replacement in pairs:
        if found := pattern.match(name):
            return found.expand(replacement) + name[found.end() :]
    return name
