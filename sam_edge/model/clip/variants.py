"""The variants of CLIP, TinyCLIP and SigLIP 2 that can be built, by name.

MobileCLIP is left out: its weights are under Apple's licence for research only, so no app may ship them.
"""

from __future__ import annotations

from sam_edge_runtime.errors import UsageError

from .clip import Clip
from .config import GELU, QUICK_GELU, TANH_GELU, ClipConfig, Colour, TransformerConfig

# OpenAI's normalization (https://github.com/openai/CLIP, clip/clip.py: _transform), which TinyCLIP shares.
MEAN: Colour = (0.48145466, 0.4578275, 0.40821073)
STD: Colour = (0.26862954, 0.26130258, 0.27577711)
HALF: Colour = (0.5, 0.5, 0.5)
END = 49407  # OpenAI's end token, the last of the vocabulary
VOCABULARY, CONTEXT = 49408, 77


def _clip(
    title: str, dim: int, text: TransformerConfig, vision: TransformerConfig, side: int, patch: int
) -> ClipConfig:
    """OpenAI's conventions. TinyCLIP's code has the exact GELU unless a configuration asks for OpenAI's."""
    activation = QUICK_GELU if title == "CLIP" else GELU
    return ClipConfig(title, dim, text, vision, side, patch, VOCABULARY, CONTEXT, activation, 1e-5, MEAN, STD, end=END)


def _siglip2(side: int, patch: int) -> ClipConfig:
    """SigLIP 2's base size (https://arxiv.org/abs/2502.14786), with Gemma's vocabulary."""
    base = TransformerConfig(768, 12, 12)
    return ClipConfig(
        "SigLIP 2", 768, base, base, side, patch, 256_000, 64, TANH_GELU, 1e-6, HALF, HALF, end=1, pooled=True
    )


# Sizes of CLIP: the paper's table 20. Sizes of TinyCLIP (https://arxiv.org/abs/2309.12314): `model_configs` in its
# code. Its models of automatic weight inheritance have other widths in each block, and its ResNets no ViT: they are
# left out.
CLIP_CONFIGS: dict[str, ClipConfig] = {
    "tinyclip_vit_8m_16": _clip("TinyCLIP", 512, TransformerConfig(256, 3, 4), TransformerConfig(256, 10, 4), 224, 16),
    "tinyclip_vit_39m_16": _clip("TinyCLIP", 512, TransformerConfig(512, 6, 8), TransformerConfig(512, 12, 8), 224, 16),
    "tinyclip_vit_40m_32": _clip("TinyCLIP", 512, TransformerConfig(512, 6, 8), TransformerConfig(512, 12, 8), 224, 32),
    "tinyclip_vit_61m_32": _clip(
        "TinyCLIP", 512, TransformerConfig(512, 9, 8), TransformerConfig(640, 12, 10), 224, 32
    ),
    "clip_vit_b_32": _clip("CLIP", 512, TransformerConfig(512, 12, 8), TransformerConfig(768, 12, 12), 224, 32),
    "clip_vit_l_14_336": _clip("CLIP", 768, TransformerConfig(768, 12, 12), TransformerConfig(1024, 24, 16), 336, 14),
    "siglip2_base_32_256": _siglip2(256, 32),
    "siglip2_base_16_224": _siglip2(224, 16),
    "siglip2_base_16_256": _siglip2(256, 16),
    "siglip2_base_16_384": _siglip2(384, 16),
    "siglip2_base_16_512": _siglip2(512, 16),
}


def clip_config(variant: str) -> ClipConfig:
    """The sizes and conventions of a variant.

    Raises:
        UsageError: no variant has that name.
    """
    if variant not in CLIP_CONFIGS:
        raise UsageError(f"no text encoder called {variant!r:.60}: choose one of {', '.join(CLIP_CONFIGS)}")
    return CLIP_CONFIGS[variant]


def build_clip(variant: str) -> Clip:
    """Build an untrained model in evaluation mode.

    Raises:
        UsageError: no variant has that name.
    """
    return Clip(clip_config(variant)).eval()
