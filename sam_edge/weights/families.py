"""The families of models, as data: names that identify a family, and shapes that identify its variants.

A further family is one more entry of `FAMILIES`. The first whose marks a file has counts, so a family that adds names
to another's stands before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

from sam_edge.model import Sam, build_sam
from sam_edge.model.image_encoder import ImageEncoderViT
from sam_edge.model.variants import SLIM

from .layouts import (
    EFFICIENT_SAM_OFFICIAL,
    EFFICIENTVIT_SAM_OFFICIAL,
    HUGGING_FACE,
    OFFICIAL,
    REPVIT_SAM_OFFICIAL,
    SAM2_HUGGING_FACE,
    SAM2_OFFICIAL,
    Layout,
)
from .pruned_vit import read_widths

Shapes = Mapping[str, tuple[int, ...]]
Signature = Mapping[str, tuple[int | None, ...]]  # None: any size
Builder = Callable[[], Sam]
AnyModule = TypeVar("AnyModule", bound=torch.nn.Module)

POSITION = "image_encoder.pos_embed"  # (1, S/16, S/16, dim)
STEM = "image_encoder.patch_embed.seq.0.c.weight"  # of TinyViT
BODY_STEM = "image_encoder.trunk.body.stem.conv1.c.weight"  # of RepViT
FEATURES_STEM = "image_encoder.features.0.conv1.c.weight"  # of RepViT-SAM
HQ_MARK = "mask_decoder.hf_token.weight"
# The parts of SAM 2 that only videos need, by official and by Hugging Face names.
MEMORY = (
    r"(memory_attention|memory_encoder|mask_downsample|obj_ptr_proj|obj_ptr_tpos_proj|spatial_perceiver"
    r"|object_pointer_proj|temporal_positional_encoding_projection_layer)\..*"
    r"|maskmem_tpos_enc|no_mem_pos_enc|no_obj_ptr|no_obj_embed_spatial|memory_temporal_positional_encoding"
    r"|no_memory_positional_encoding|no_object_pointer|occlusion_spatial_embedding_parameter"
)
SAM2_NOTE = "not SAM 2.1's own file: SAM 2.0's, fine-tuned and converted weights have the same modules"


@dataclass(frozen=True)
class Family:
    """One architecture, by its official names.

    Attributes:
        title: for users.
        marks: names that each of its files has.
        variants: for each variant the shapes that identify it.
        spare: pattern of names that no mask depends on: a file may lack them, and they are zero then.
        unused: pattern of names that belong to the family's files, and that this package does not load.
        read: the variant and builder for shapes that no variant has, or None if they are not of this family either.
        note: what a user should know of the weights; shown where they are not the official ones.
        layouts: layouts that its tensors have names in.
    """

    title: str
    marks: tuple[str, ...]
    variants: Mapping[str, Signature]
    spare: str = ""
    unused: str = ""
    read: Callable[[Shapes], tuple[str, Builder] | None] | None = None
    note: str = ""
    layouts: tuple[Layout, ...] = (OFFICIAL,)


def _slimsam(shapes: Shapes) -> tuple[str, Builder] | None:
    config = read_widths(shapes)
    return None if config is None else (SLIM, lambda: Sam(ImageEncoderViT(config)).eval())


def _vit(dim: int) -> Signature:
    return {POSITION: (1, None, None, dim)}


def _hiera(last_stage: int, dim: int) -> Signature:
    """By the projection of the last stage's first block: its index, and the width of the stage before."""
    return {f"image_encoder.trunk.blocks.{last_stage}.proj.weight": (2 * dim, dim)}


def _efficientvit(stage: int, last: int, width: int) -> Signature:
    """By the last block's attention: its stage, index and channels. Deeper models have it, too, and go first."""
    return {f"image_encoder.stages.{stage}.{last}.context.proj.c.weight": (width, 2 * width, 1, 1)}


def _not_by(maker: str) -> str:
    return f"not {maker}'s own file: fine-tuned and converted weights have the same modules"


FAMILIES: tuple[Family, ...] = (
    Family(
        "EdgeTAM (RepViT)",
        (BODY_STEM,),
        {"edgetam": {BODY_STEM: (24, 3, 3, 3)}},
        unused=MEMORY,
        note=_not_by("EdgeTAM"),
        layouts=(SAM2_OFFICIAL, SAM2_HUGGING_FACE),
    ),
    Family(
        "SAM 2 (Hiera)",
        ("image_encoder.trunk.pos_embed_window",),
        {
            "sam2.1_hiera_tiny": _hiera(10, 384),
            "sam2.1_hiera_small": _hiera(14, 384),
            "sam2.1_hiera_base_plus": _hiera(21, 448),
            "sam2.1_hiera_large": _hiera(44, 576),
        },
        unused=MEMORY,
        note=SAM2_NOTE,
        layouts=(SAM2_OFFICIAL, SAM2_HUGGING_FACE),
    ),
    Family("Light-HQ (TinyViT)", (HQ_MARK, STEM), {"light_hq": {STEM: (32, 3, 3, 3)}}),
    Family(
        "SAM-HQ (ViT)",
        (HQ_MARK,),
        {"sam_hq_vit_b": _vit(768), "sam_hq_vit_l": _vit(1024), "sam_hq_vit_h": _vit(1280)},
        layouts=(OFFICIAL, HUGGING_FACE),
    ),
    Family(
        "EfficientSAM (ViT)",
        ("prompt_encoder.bbox_top_left_embeddings.weight",),
        {
            "efficient_sam_vitt": {POSITION: (1, 197, 192)},
            "efficient_sam_vits": {POSITION: (1, 197, 384)},
        },
        note=_not_by("EfficientSAM"),
        layouts=(EFFICIENT_SAM_OFFICIAL,),
    ),
    Family(
        "EfficientViT-SAM",
        ("image_encoder.stages.0.0.c.weight",),
        {
            "efficientvit_sam_xl1": _efficientvit(5, 6, 1024),
            "efficientvit_sam_xl0": _efficientvit(5, 3, 1024),
            "efficientvit_sam_l2": _efficientvit(4, 8, 512),
            "efficientvit_sam_l1": _efficientvit(4, 6, 512),
            "efficientvit_sam_l0": _efficientvit(4, 4, 512),
        },
        note=_not_by("EfficientViT-SAM"),
        layouts=(EFFICIENTVIT_SAM_OFFICIAL,),
    ),
    Family(
        "RepViT-SAM",
        (FEATURES_STEM,),
        {"repvit_sam": {FEATURES_STEM: (40, 3, 3, 3)}},
        note=_not_by("RepViT-SAM"),
        layouts=(REPVIT_SAM_OFFICIAL,),
    ),
    Family(
        "MobileSAM (TinyViT)",
        (STEM,),
        {"tiny_vit": {STEM: (32, 3, 3, 3)}},
        spare=r"image_encoder\.(norm_head|head)\..*",
        # TinyViT's attention biases, gathered for inference; they follow from `attention_biases`.
        unused=r"image_encoder\..*\.attn\.(ab|attention_bias_idxs)",
        note="not MobileSAM's own file: TinySAM's and fine-tuned weights have the same modules",
    ),
    Family(
        "nano",
        ("image_encoder.stem.weight",),
        {
            "small": {"image_encoder.mixing.0.expand.weight": (512, 128, 1, 1)},
            "nano": {"image_encoder.stem.weight": (32, 3, 3, 3)},
        },
    ),
    Family(
        "SAM (ViT)",
        (POSITION,),
        {
            "vit_b": _vit(768),
            "vit_l": _vit(1024),
            "vit_h": _vit(1280),
            "slimsam_50": _vit(384),
            "slimsam_77": _vit(168),
        },
        read=_slimsam,
        layouts=(OFFICIAL, HUGGING_FACE),
    ),
)


def family_of(shapes: Shapes) -> Family | None:
    """The first family whose marks are all among the names."""
    return next((family for family in FAMILIES if all(mark in shapes for mark in family.marks)), None)


def guess_variant(shapes: Shapes) -> str | None:
    """The variant whose marks and identifying shapes are there, whatever the rest is; None if there is none."""
    family = family_of(shapes)
    if family is None:
        return None
    return next((variant for variant, signature in family.variants.items() if _matches(shapes, signature)), None)


def _matches(shapes: Shapes, signature: Signature) -> bool:
    return all(
        name in shapes
        and len(shapes[name]) == len(wanted)
        and all(b is None or a == b for a, b in zip(shapes[name], wanted, strict=True))
        for name, wanted in signature.items()
    )


@cache
def shapes_of_variant(variant: str) -> Shapes:
    """Names and shapes of a variant's state dict; no memory is used for the numbers."""
    return shapes_built(lambda: build_sam(variant))


def shapes_built(build: Callable[[], torch.nn.Module]) -> Shapes:
    """Names and shapes of the state dict of the model that `build` makes."""
    return {name: tuple(tensor.shape) for name, tensor in build_empty(build).state_dict().items()}


def build_empty(build: Callable[[], AnyModule]) -> AnyModule:
    """The model that `build` makes, on the meta device: names, shapes and types without numbers."""
    with torch.device("meta"), _NoNumbers():
        return build()


class _NoNumbers(TorchFunctionMode):
    """Leaves out the drawing of initial weights. On the meta device it would import torch's compiler, for seconds."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        keywords = kwargs or {}
        if getattr(func, "__name__", "") in ("normal_", "uniform_"):  # Tensor's methods, and torch.nn.init's functions
            return args[0] if args else keywords["tensor"]
        return func(*args, **keywords)


def is_spare(name: str) -> bool:
    """Whether no mask depends on the tensor, in any family."""
    return any(family.spare and re.fullmatch(family.spare, name) for family in FAMILIES)


def is_unused(name: str) -> bool:
    """Whether the tensor belongs to a family's files without being a part of the models here."""
    return any(family.unused and re.fullmatch(family.unused, name) for family in FAMILIES)
