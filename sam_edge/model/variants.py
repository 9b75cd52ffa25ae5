"""The variants of SAM that can be built, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sam_edge_runtime.errors import UsageError

from .image_encoder import ImageEncoderViT, ViTConfig
from .nano import build_nano
from .sam import Sam
from .tiny_vit import TinyViT

# "Segment Anything" (arXiv 2304.02643), appendix A: four equally spaced blocks of global attention, windows elsewhere.
VIT_B = ViTConfig(dim=768, depth=12, heads=12, global_blocks=(2, 5, 8, 11))
VIT_L = ViTConfig(dim=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23))
VIT_H = ViTConfig(dim=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31))

VARIANTS: dict[str, Callable[[], Sam]] = {
    "nano": build_nano,
    "tiny_vit": lambda: Sam(TinyViT()),
    "vit_b": lambda: Sam(ImageEncoderViT(VIT_B)),
    "vit_l": lambda: Sam(ImageEncoderViT(VIT_L)),
    "vit_h": lambda: Sam(ImageEncoderViT(VIT_H)),
}


def build_sam(variant: str) -> Sam:
    """Build an untrained SAM in evaluation mode, for frames of its native side: 512 pixels for nano, 1024 for others.

    Raises:
        UsageError: no variant has that name.
    """
    check_variant(variant)
    return VARIANTS[variant]().eval()


def native_side(variant: str) -> int:
    """The frame side in pixels that a variant is trained for.

    Raises:
        UsageError: no variant has that name.
    """
    with torch.device("meta"):
        return build_sam(variant).native_side


def check_variant(variant: str) -> None:
    """Refuse a name that no variant has.

    Raises:
        UsageError: no variant has that name.
    """
    if variant not in VARIANTS:
        raise UsageError(f"no model called {variant!r}: choose one of {', '.join(VARIANTS)}")
