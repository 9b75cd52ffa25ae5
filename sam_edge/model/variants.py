"""The variants of SAM that can be built, by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from sam_edge_runtime.bundle.conventions import EFFICIENT_SAM, EFFICIENTVIT_SAM, SAM, SAM_2, SAM_HQ
from sam_edge_runtime.errors import UsageError

from .efficient_sam_decoder import EfficientSAMMaskDecoder, EfficientSAMPromptEncoder
from .efficient_sam_encoder import EFFICIENT_SAM_S, EFFICIENT_SAM_TI, EfficientSAMConfig, EfficientSAMEncoder
from .efficientvit import EPS, L0, L1, L2, XL0, XL1, EfficientViTConfig, EfficientViTEncoder
from .feature_pyramid import PyramidImageEncoder, Trunk
from .hiera import HIERA_BASE_PLUS, HIERA_LARGE, HIERA_SMALL, HIERA_TINY, Hiera
from .hq_mask_decoder import HQMaskDecoder
from .image_encoder import ImageEncoderViT, ViTConfig
from .nano import build_nano, build_small
from .repvit import RepViT
from .repvit_sam_encoder import RepViTImageEncoder
from .sam import Sam
from .sam2_mask_decoder import SAM2MaskDecoder
from .tiny_vit import TinyViT

# "Segment Anything" (arXiv 2304.02643), appendix A: four equally spaced blocks of global attention, windows elsewhere.
VIT_B = ViTConfig(dim=768, depth=12, heads=12, global_blocks=(2, 5, 8, 11))
VIT_L = ViTConfig(dim=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23))
VIT_H = ViTConfig(dim=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31))

# SlimSAM (arXiv 2312.05284) prunes ViT-B: these are the uniform widths of its `build_sam`, 50 % and 77 % pruned.
SLIM_50 = ViTConfig(dim=384, depth=12, heads=12, global_blocks=VIT_B.global_blocks, mlp_widths=(1536,) * 12)
SLIM_77 = ViTConfig(dim=168, depth=12, heads=12, global_blocks=VIT_B.global_blocks, mlp_widths=(696,) * 12)


def _hq(encoder: ImageEncoderViT | TinyViT) -> Sam:
    """SAM-HQ, or Light-HQ, on an encoder with early features."""
    (early,) = encoder.further_outputs
    return Sam(encoder, mask_decoder=HQMaskDecoder(256, early.channels), conventions=SAM_HQ)


def _sam2(trunk: Trunk) -> Sam:
    """The image path of SAM 2, SAM 2.1 or EdgeTAM, without memory."""
    return Sam(PyramidImageEncoder(trunk), mask_decoder=SAM2MaskDecoder(), conventions=SAM_2)


def _efficient_sam(config: EfficientSAMConfig) -> Sam:
    """EfficientSAM, whose prompts are points inside the object and boxes."""
    return Sam(
        EfficientSAMEncoder(config),
        prompt_encoder=EfficientSAMPromptEncoder(),
        mask_decoder=EfficientSAMMaskDecoder(),
        conventions=EFFICIENT_SAM,
    )


def _efficientvit_sam(config: EfficientViTConfig) -> Sam:
    """EfficientViT-SAM, with its epsilon in every normalization, that of SAM's decoder too."""
    sam = Sam(EfficientViTEncoder(config), conventions=SAM if config.image_stride == 1 else EFFICIENTVIT_SAM)
    for module in sam.mask_decoder.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = EPS
    return sam


# A ViT that was pruned block by block: only its file says how wide each block is (`weights/pruned_vit.py`).
SLIM = "slimsam"

VARIANTS: dict[str, Callable[[], Sam]] = {
    "nano": build_nano,
    "small": build_small,
    "tiny_vit": lambda: Sam(TinyViT()),
    "vit_b": lambda: Sam(ImageEncoderViT(VIT_B)),
    "vit_l": lambda: Sam(ImageEncoderViT(VIT_L)),
    "vit_h": lambda: Sam(ImageEncoderViT(VIT_H)),
    "slimsam_50": lambda: Sam(ImageEncoderViT(SLIM_50)),
    "slimsam_77": lambda: Sam(ImageEncoderViT(SLIM_77)),
    "sam_hq_vit_b": lambda: _hq(ImageEncoderViT(VIT_B, early=True)),
    "sam_hq_vit_l": lambda: _hq(ImageEncoderViT(VIT_L, early=True)),
    "sam_hq_vit_h": lambda: _hq(ImageEncoderViT(VIT_H, early=True)),
    "light_hq": lambda: _hq(TinyViT(early=True)),
    "sam2.1_hiera_tiny": lambda: _sam2(Hiera(HIERA_TINY)),
    "sam2.1_hiera_small": lambda: _sam2(Hiera(HIERA_SMALL)),
    "sam2.1_hiera_base_plus": lambda: _sam2(Hiera(HIERA_BASE_PLUS)),
    "sam2.1_hiera_large": lambda: _sam2(Hiera(HIERA_LARGE)),
    "edgetam": lambda: _sam2(RepViT()),
    "repvit_sam": lambda: Sam(RepViTImageEncoder()),
    "efficient_sam_vitt": lambda: _efficient_sam(EFFICIENT_SAM_TI),
    "efficient_sam_vits": lambda: _efficient_sam(EFFICIENT_SAM_S),
    "efficientvit_sam_l0": lambda: _efficientvit_sam(L0),
    "efficientvit_sam_l1": lambda: _efficientvit_sam(L1),
    "efficientvit_sam_l2": lambda: _efficientvit_sam(L2),
    "efficientvit_sam_xl0": lambda: _efficientvit_sam(XL0),
    "efficientvit_sam_xl1": lambda: _efficientvit_sam(XL1),
}


def build_sam(variant: str) -> Sam:
    """Build an untrained SAM in evaluation mode, for frames of its native side: 512 pixels for nano, 1024 for others.

    Raises:
        UsageError: no variant has that name, or its widths are read off its file.
    """
    check_variant(variant)
    if variant == SLIM:
        raise UsageError(
            f"the widths of {SLIM} are read off its file: name it with --checkpoint, or choose slimsam_50 or slimsam_77"
        )
    return VARIANTS[variant]().eval()


def check_variant(variant: str) -> None:
    """Refuse a name that no variant has.

    Raises:
        UsageError: no variant has that name.
    """
    if variant not in VARIANTS and variant != SLIM:
        raise UsageError(f"no model called {variant!r}: choose one of {', '.join(VARIANTS)}")
