"""Which module of a decoder is replaced by which."""

from __future__ import annotations

from collections.abc import Collection

from sam_edge.model.graphs import DecoderGraph
from sam_edge.model.mask_decoder import MaskDecoder
from sam_edge.model.nano_decoder import NanoMaskDecoder
from sam_edge.model.transformer import Attention, TwoWayTransformer
from sam_edge.model.twin import twin_of
from sam_edge_runtime.bundle.contract import MASK_OUTPUTS

from .attention import ImageReadsTokens, TokensReadImage
from .upscaling import CellwiseMaskDecoder, CellwiseNanoMaskDecoder

# Attention without projections of the image; SAM's masks cell by cell; nano's features at stride 4 cell by cell.
PARTS = ATTENTION, MASKS, FEATURES = ("attention", "masks", "features")
OUTPUT_TOKENS = MASK_OUTPUTS + 1  # one a mask, and that of the IoU prediction

_ATTENTIONS: dict[str, type[ImageReadsTokens] | type[TokensReadImage]] = {
    "cross_attn_token_to_image": TokensReadImage,
    "cross_attn_image_to_token": ImageReadsTokens,
    "final_attn_token_to_image": TokensReadImage,
}


def lean(graph: DecoderGraph, parts: Collection[str] = PARTS) -> DecoderGraph:
    """The twin of `graph`; parameters are shared as far as it has them, and `graph` stays as it is.

    Args:
        graph: the plain one.
        parts: what is to be other, of `PARTS`.
    """
    twin = twin_of(graph, {})
    transformer = _transformer(twin)
    for module in (transformer, *transformer.layers) if ATTENTION in parts else ():
        for name, child in list(module.named_children()):
            if name in _ATTENTIONS and isinstance(child, Attention):
                setattr(module, name, _ATTENTIONS[name](child))
    decoder = twin.mask_decoder
    if isinstance(decoder, MaskDecoder) and MASKS in parts:
        twin.mask_decoder = CellwiseMaskDecoder(decoder)
    elif isinstance(decoder, NanoMaskDecoder) and FEATURES in parts:
        twin.mask_decoder = CellwiseNanoMaskDecoder(decoder)
    return twin.train(graph.training)


def pays(graph: DecoderGraph, points: int | None) -> bool:
    """Whether a decoder of `points` slots has less to multiply this way; of any number of slots, one of few has."""
    if points is None:
        return True
    attention = _transformer(graph).final_attn_token_to_image
    return attention.heads * (OUTPUT_TOKENS + points) <= attention.k_proj.out_features


def _transformer(graph: DecoderGraph) -> TwoWayTransformer:
    found = graph.mask_decoder.transformer
    if not isinstance(found, TwoWayTransformer):
        raise TypeError(f"{type(found).__name__} is not the transformer that this is about")
    return found
