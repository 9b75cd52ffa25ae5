"""SAM in torch: the model's parts, under the official parameter names, and the two graphs that are exported.

| file | what |
|---|---|
| `sam` | the model: image encoder, prompt encoder, mask decoder |
| `image_encoder` | SAM's ViT-B, ViT-L and ViT-H |
| `tiny_vit` | MobileSAM's TinyViT-5M |
| `hiera`, `repvit` | the trunks of SAM 2's and EdgeTAM's image encoders |
| `repvit_sam_encoder` | RepViT-SAM's image encoder |
| `efficient_sam_encoder`, `efficient_sam_decoder` | EfficientSAM's image encoder; its prompt encoder and mask decoder |
| `efficientvit` | EfficientViT-SAM's image encoder |
| `feature_pyramid` | the image encoder of both: a trunk and its neck |
| `nano` | nano's image encoder, a MobileNetV2 |
| `prompt_encoder`, `mask_decoder`, `transformer` | SAM's prompt encoder and mask decoder |
| `hq_mask_decoder` | the mask decoder of SAM-HQ and Light-HQ |
| `sam2_mask_decoder` | the mask decoder of SAM 2 and EdgeTAM |
| `nano_decoder` | nano's prompt encoder and mask decoder |
| `text_token` | a CLIP embedding as one more prompt token |
| `clip/` | the text and image encoders of CLIP, TinyCLIP and SigLIP 2 |
| `words` | maps of words, for nano |
| `layers` | layers that several parts share |
| `variants` | every model by its name |
| `graphs` | the encoder graph and the decoder graph under the tensor contract |
| `forms` | which form of the two graphs a bundle gets |
| `lean/` | the decoder rewritten for CPU runtimes |
| `ane/` | both graphs rewritten for Apple's Neural Engine |
| `norms` | normalization rewritten so that converters leave the weights alone |
| `replacement` | a copy of a module with some submodules replaced; what the rewrites are made with |
| `torch_backend` | the fp32 torch model as a backend of the runtime |
"""

from __future__ import annotations

from .ane import ane_rewrite
from .forms import Graphs, graphs_of
from .graphs import DecoderGraph, EncoderGraph
from .norms import fold_batch_norms, without_batch_norms
from .sam import Sam
from .variants import VARIANTS, build_sam

__all__ = [
    "VARIANTS",
    "DecoderGraph",
    "EncoderGraph",
    "Graphs",
    "Sam",
    "ane_rewrite",
    "build_sam",
    "fold_batch_norms",
    "graphs_of",
    "without_batch_norms",
]
