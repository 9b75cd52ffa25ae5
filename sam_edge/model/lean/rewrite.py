"""Which modules of a decoder graph are replaced, and when the lean attention has less to multiply."""

from __future__ import annotations

from collections.abc import Collection

from sam_edge.model.graphs import DecoderGraph, TextDecoderGraph
from sam_edge.model.hq_mask_decoder import HQMaskDecoder
from sam_edge.model.mask_decoder import MaskDecoder
from sam_edge.model.nano_decoder import NanoMaskDecoder
from sam_edge.model.replacement import replace_modules
from sam_edge.model.sam2_mask_decoder import SAM2MaskDecoder
from sam_edge.model.transformer import Attention, TwoWayTransformer
from sam_edge_runtime.bundle.contract import MASK_OUTPUTS

from .attention import ImageReadsTokens, TokensReadImage
from .upscaling import CellwiseMaskDecoder, CellwiseNanoMaskDecoder, CellwiseSAM2MaskDecoder

# Attention without projections of the image; SAM's masks computed by cells; nano's features at stride 4 likewise.
PARTS = ATTENTION, MASKS, FEATURES = ("attention", "masks", "features")
OUTPUT_TOKENS = MASK_OUTPUTS + 1  # one for each mask, and one for the IoU predictions; SAM-HQ and SAM 2 have one more

_ATTENTIONS: dict[str, type[ImageReadsTokens] | type[TokensReadImage]] = {
    "cross_attn_token_to_image": TokensReadImage,
    "cross_attn_image_to_token": ImageReadsTokens,
    "final_attn_token_to_image": TokensReadImage,
}


def lean_rewrite(graph: DecoderGraph, parts: Collection[str] = PARTS) -> DecoderGraph:
    """A copy of `graph` with some parts replaced; its outputs are equal up to rounding.

    The parameters that both have are shared. `graph` itself stays as it is.

    Args:
        graph: a plain decoder graph.
        parts: the parts to replace, of `PARTS`; those that the decoder does not have are ignored.

    Raises:
        TypeError: the decoder's transformer is not a `TwoWayTransformer`.
    """
    copied = replace_modules(graph, {})
    transformer = _transformer(copied)
    for module in (transformer, *transformer.layers) if ATTENTION in parts else ():
        for name, child in list(module.named_children()):
            if name in _ATTENTIONS and isinstance(child, Attention):
                setattr(module, name, _ATTENTIONS[name](child))
    decoder = copied.mask_decoder
    if type(decoder) is MaskDecoder and MASKS in parts:  # SAM-HQ's convolutions need the features as maps
        copied.mask_decoder = CellwiseMaskDecoder(decoder)
    elif isinstance(decoder, SAM2MaskDecoder) and MASKS in parts:
        copied.mask_decoder = CellwiseSAM2MaskDecoder(decoder)
    elif isinstance(decoder, NanoMaskDecoder) and FEATURES in parts:
        copied.mask_decoder = CellwiseNanoMaskDecoder(decoder)
    return copied.train(graph.training)


def attention_is_cheaper(graph: DecoderGraph, points: int | None) -> bool:
    """Whether the lean attention has less to multiply than the plain one.

    Args:
        graph: a plain decoder graph.
        points: its prompt slots; None for a free number, which is taken to be small.

    Raises:
        TypeError: the decoder's transformer is not a `TwoWayTransformer`.
    """
    if points is None:
        return True
    attention = _transformer(graph).final_attn_token_to_image
    outputs = OUTPUT_TOKENS + isinstance(graph.mask_decoder, HQMaskDecoder | SAM2MaskDecoder)
    slots = points + graph.pads_boxes + isinstance(graph, TextDecoderGraph)
    return attention.heads * (outputs + slots) <= attention.k_proj.out_features


def _transformer(graph: DecoderGraph) -> TwoWayTransformer:
    transformer = graph.mask_decoder.transformer
    if not isinstance(transformer, TwoWayTransformer):
        raise TypeError(f"a lean decoder needs a TwoWayTransformer, not a {type(transformer).__name__}")
    return transformer
