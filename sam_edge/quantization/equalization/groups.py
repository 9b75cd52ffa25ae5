"""Where the methods apply: which layers write channels and which read them, by the structure of each module.

One function a class of module, so that each rule stands beside the reason why it is exact. A class without a function
has nothing to equalize: what lies between its layers is GELU, ReLU6, or an addition of something that has other scales.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from torch import nn

from sam_edge.model.image_encoder import Block, ImageEncoderViT, RelativeAttention
from sam_edge.model.layers import FeedForward, LayerNorm2d
from sam_edge.model.mask_decoder import MLP, MaskDecoder
from sam_edge.model.nano import LAST_OF_STRIDE, InvertedResidual, NanoImageEncoder
from sam_edge.model.nano_decoder import NanoMaskDecoder, Refine
from sam_edge.model.sam import Sam
from sam_edge.model.tiny_vit import Mlp, TinyViT, WindowAttention
from sam_edge.model.transformer import Attention
from sam_edge.quantization.layers import Layer


@dataclass(frozen=True)
class Writer:
    """A layer that writes the channels, with all of its outputs or with those in `rows`, in the channels' order."""

    layer: Layer
    rows: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Normed:
    """A normalization that is read by these layers and nothing else: for `smooth`."""

    norm: nn.LayerNorm | LayerNorm2d
    readers: tuple[Layer, ...]


@dataclass(frozen=True)
class Chain:
    """Channels with only positively homogeneous operations between those that write and read them: for `cross_layer`.

    Attributes:
        writers: all that write the channels.
        readers: all layers that read them.
        partners: layers whose outputs are multiplied with the channels, one by one.
    """

    writers: tuple[Writer, ...]
    readers: tuple[Layer, ...]
    partners: tuple[Layer, ...] = ()


@dataclass(frozen=True)
class Keys:
    """Projections whose outputs meet in a dot product: for `bimodal`."""

    query: nn.Linear
    key: nn.Linear


Group = Normed | Chain | Keys


def groups_of(sam: Sam) -> Iterator[Group]:
    """All groups of a model; no two of them scale the same channels."""
    for module in sam.modules():
        find = FINDERS.get(type(module))
        if find is not None:
            yield from find(module)


def pair(writer: Layer, reader: Layer) -> Chain:
    """Two layers with nothing but a ReLU between them."""
    return Chain((Writer(writer),), (reader,))


def in_nano_encoder(encoder: NanoImageEncoder) -> Iterator[Group]:
    """Residual streams: a narrow end has no activation, so what adds to a stream and what reads it share scales."""
    blocks = cast("list[InvertedResidual]", list(encoder.blocks))
    packs = {4: encoder.pack_4, 8: encoder.pack_8, 16: encoder.from_16, 32: encoder.from_32}
    also = {LAST_OF_STRIDE[stride]: layer for stride, layer in packs.items()}
    starts = [index for index, block in enumerate(blocks) if not block.residual]
    for start, stop in zip(starts, [*starts[1:], len(blocks)], strict=True):
        writers = [Writer(block.project) for block in blocks[start:stop]]
        readers = [block.expand for block in blocks[start + 1 : stop + 1] if block.expand is not None]
        readers += [also[index] for index in range(start, stop) if index in also]
        yield Chain(tuple(writers), tuple(readers))
    # relu(from_16 + from_32), then mixed + relu(mix(mixed)).
    writing = (encoder.from_16, encoder.from_32, encoder.mix)
    yield Chain(tuple(Writer(layer) for layer in writing), (encoder.mix, encoder.meaning))


def in_nano_decoder(decoder: NanoMaskDecoder) -> Iterator[Group]:
    """ReLU everywhere; the masks are a product of filters and features, so filters take the features' scales."""
    yield pair(decoder.maps_to_8, decoder.maps_to_16)
    yield pair(decoder.up_8, decoder.up_4)
    refines = cast("list[Refine]", list(decoder.refine))
    filters = [cast("nn.Linear", head.layers[-1]) for head in cast("list[MLP]", decoder.output_hypernetworks_mlps)]
    writing: list[Layer] = [decoder.up_4, decoder.unpack, decoder.maps_to_4, *(refine.pointwise for refine in refines)]
    reading = tuple(refine.depthwise for refine in refines)
    yield Chain(tuple(Writer(layer) for layer in writing), reading, tuple(filters))
    yield from in_mask_decoder(decoder)


def in_mask_decoder(decoder: MaskDecoder | NanoMaskDecoder) -> Iterator[Group]:
    """The tokens' last normalization is read by the heads alone; inside the transformer a residual reads each."""
    heads = [*cast("list[MLP]", decoder.output_hypernetworks_mlps), decoder.iou_prediction_head]
    readers = [cast("nn.Linear", head.layers[0]) for head in heads]
    yield Normed(decoder.transformer.norm_final_attn, tuple(readers))


def in_refine(refine: Refine) -> Iterator[Group]:
    """A ReLU between its two convolutions."""
    yield pair(refine.depthwise, refine.pointwise)


def in_mlp(mlp: MLP) -> Iterator[Group]:
    """ReLU between the layers."""
    for writer, reader in pairwise(cast("list[nn.Linear]", list(mlp.layers))):
        yield pair(writer, reader)


def in_feed_forward(mlp: FeedForward) -> Iterator[Group]:
    """The decoder's has a ReLU; the encoders' has GELU, which is not homogeneous."""
    if isinstance(mlp.act, nn.ReLU):
        yield pair(mlp.lin1, mlp.lin2)


def in_attention(attention: Attention) -> Iterator[Group]:
    """Values reach the output as weighted sums, channel by channel."""
    yield Keys(attention.q_proj, attention.k_proj)
    yield pair(attention.v_proj, attention.out_proj)


def in_relative_attention(attention: RelativeAttention) -> Iterator[Group]:
    """Values are the last third of the one projection."""
    width = attention.proj.in_features
    yield Chain((Writer(attention.qkv, np.arange(2 * width, 3 * width)),), (attention.proj,))


def in_window_attention(attention: WindowAttention) -> Iterator[Group]:
    """Values are the last third of each head's rows."""
    values = np.arange(3 * attention.heads * attention.head_dim).reshape(attention.heads, 3, attention.head_dim)
    yield Chain((Writer(attention.qkv, values[:, 2].flatten()),), (attention.proj,))
    yield Normed(attention.norm, (attention.qkv,))


def in_mlp_of_tiny_vit(mlp: Mlp) -> Iterator[Group]:
    """Its own normalization is read by its first layer alone."""
    yield Normed(mlp.norm, (mlp.fc1,))


def in_block(block: Block) -> Iterator[Group]:
    """Before attention and MLP; windows are padded with zeros after the normalization, and zero has no scale."""
    yield Normed(block.norm1, (block.attn.qkv,))
    yield Normed(block.norm2, (block.mlp.lin1,))


def in_encoder_with_neck(encoder: ImageEncoderViT | TinyViT) -> Iterator[Group]:
    """The neck's first normalization is read by its second convolution; its second one is the embedding."""
    _, norm, convolution, _ = encoder.neck
    yield Normed(cast("LayerNorm2d", norm), (cast("nn.Conv2d", convolution),))


FINDERS: dict[type[nn.Module], Callable[[Any], Iterator[Group]]] = {
    NanoImageEncoder: in_nano_encoder,
    NanoMaskDecoder: in_nano_decoder,
    MaskDecoder: in_mask_decoder,
    Refine: in_refine,
    MLP: in_mlp,
    FeedForward: in_feed_forward,
    Attention: in_attention,
    RelativeAttention: in_relative_attention,
    WindowAttention: in_window_attention,
    Mlp: in_mlp_of_tiny_vit,
    Block: in_block,
    ImageEncoderViT: in_encoder_with_neck,
    TinyViT: in_encoder_with_neck,
}
