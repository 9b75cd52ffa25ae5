"""CLIP, TinyCLIP and SigLIP 2 in torch: text encoders and image encoders whose embeddings can be compared.

| file | what |
|---|---|
| `config` | sizes and conventions, as data |
| `layers` | attention, MLP and blocks |
| `text_encoder`, `image_encoder` | the two encoders |
| `clip` | both as one model, and the graphs that are exported |
| `variants` | every model by its name |
| `int8_embedding` | the table of tokens in INT8, which exporters' quantizers leave in float |

Texts become tokens in `sam_edge_runtime.bundle.tokenizer`, which needs no torch.
"""

from __future__ import annotations

from .clip import Clip, ClipImageGraph, ClipTextGraph
from .config import ClipConfig, TransformerConfig
from .variants import CLIP_CONFIGS, build_clip, clip_config

__all__ = [
    "CLIP_CONFIGS",
    "Clip",
    "ClipConfig",
    "ClipImageGraph",
    "ClipTextGraph",
    "TransformerConfig",
    "build_clip",
    "clip_config",
]
