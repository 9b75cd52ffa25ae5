"""Where the methods apply: which layers write channels and which layers read them, by class of module.

There is one function for each class, whose docstring says why its rule is exact. Most classes without a function have
nothing to equalize: between their layers lies a GELU, a ReLU6, or an addition of a tensor with other scales. SAM-HQ's
features have no function because no layer reads them: they are only multiplied with a filter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from torch import nn

from sam_edge.model.clip.image_encoder import AttentionPooling
from sam_edge.model.clip.layers import Attention as ClipAttention
from sam_edge.model.clip.layers import Block as ClipBlock
from sam_edge.model.feature_pyramid import Lateral, PyramidImageEncoder
from sam_edge.model.hiera import HieraBlock, PooledAttention
from sam_edge.model.hq_mask_decoder import HQMaskDecoder
from sam_edge.model.image_encoder import Block, ImageEncoderViT, RelativeAttention
from sam_edge.model.layers import FeedForward, LayerNorm2d
from sam_edge.model.mask_decoder import MLP, MaskDecoder
from sam_edge.model.nano import LAST_OF_STRIDE, InvertedResidual, NanoImageEncoder
from sam_edge.model.nano_decoder import NanoMaskDecoder, Refine
from sam_edge.model.sam import Sam
from sam_edge.model.sam2_mask_decoder import SAM2MaskDecoder
from sam_edge.model.tiny_vit import Mlp, TinyViT, WindowAttention
from sam_edge.model.transformer import Attention
from sam_edge.quantization.layers import Layer


@dataclass(frozen=True)
class Writer:
    """A layer that writes the channels: with all of its outputs, or with those in `rows`, in the channels' order."""

    layer: Layer
    rows: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Normed:
    """A normalization whose output only these layers read: for `smooth`."""

    norm: nn.LayerNorm | LayerNorm2d
    readers: tuple[Layer, ...]


@dataclass(frozen=True)
class Chain:
    """Channels with only positively homogeneous operations between writers and readers: for `cross_layer`.

    Attributes:
        writers: all layers that write the channels.
        readers: all layers that read them.
        partners: layers whose outputs are multiplied with the channels, elementwise.
    """

    writers: tuple[Writer, ...]
    readers: tuple[Layer, ...]
    partners: tuple[Layer, ...] = ()


@dataclass(frozen=True)
class Keys:
    """Projections whose outputs are multiplied in a dot product: for `bimodal`."""

    query: nn.Linear
    key: nn.Linear


Group = Normed | Chain | Keys


def groups_of(model: nn.Module) -> Iterator[Group]:
    """All groups of a model; no two scale the same channels."""
    for module in model.modules():
        groups = GROUPS_OF_MODULE.get(type(module))
        if groups is not None:
            yield from groups(module)


def pair(writer: Layer, reader: Layer) -> Chain:
    """Two layers with only a ReLU between them."""
    return Chain((Writer(writer),), (reader,))


def nano_encoder_groups(encoder: NanoImageEncoder) -> Iterator[Group]:
    """Residual streams: a block's narrow end has no activation, so all writers and readers of a stream share scales."""
    blocks = _blocks(encoder.blocks)
    packs = {4: encoder.pack_4, 8: encoder.pack_8, 16: encoder.from_16, 32: encoder.from_32}
    side_readers: dict[int, list[Layer]] = {LAST_OF_STRIDE[stride]: [layer] for stride, layer in packs.items()}
    side_writers: dict[int, list[Layer]] = {}
    further = _blocks(encoder.mixing)
    # relu(from_16 + from_32), then mixed + relu(mix(mixed)), then the further blocks.
    writing: list[Layer] = [encoder.from_16, encoder.from_32, encoder.mix, *(block.project for block in further)]
    reading: list[Layer] = [encoder.mix, encoder.meaning, *_expansions(further)]
    if (detail := encoder.detail) is not None:  # it goes on with the streams of strides 8 and 4
        reading.append(detail.to_8)
        side_readers[LAST_OF_STRIDE[8]].append(detail.to_4)
        for stride, layer, its_blocks in ((8, detail.to_8, detail.at_8), (4, detail.to_4, detail.at_4)):
            side_writers[LAST_OF_STRIDE[stride]] = [layer, *(block.project for block in _blocks(its_blocks))]
            side_readers[LAST_OF_STRIDE[stride]] += _expansions(_blocks(its_blocks))
    starts = [index for index, block in enumerate(blocks) if not block.residual]
    for start, stop in zip(starts, [*starts[1:], len(blocks)], strict=True):
        writers: list[Layer] = [block.project for block in blocks[start:stop]]
        readers = _expansions(blocks[start + 1 : stop + 1])
        for index in range(start, stop):
            writers += side_writers.get(index, [])
            readers += side_readers.get(index, [])
        yield Chain(tuple(Writer(layer) for layer in writers), tuple(readers))
    yield Chain(tuple(Writer(layer) for layer in writing), tuple(reading))


def _blocks(modules: Iterable[nn.Module]) -> list[InvertedResidual]:
    return cast("list[InvertedResidual]", list(modules))


def _expansions(blocks: Iterable[InvertedResidual]) -> list[Layer]:
    """What the blocks read their input with, where it is a 1 x 1 convolution."""
    return [block.expand for block in blocks if block.expand is not None]


def nano_decoder_groups(decoder: NanoMaskDecoder) -> Iterator[Group]:
    """All activations are ReLU; a mask is the product of filter and features, so filters take the inverse scales."""
    yield pair(decoder.maps_to_8, decoder.maps_to_16)
    yield pair(decoder.up_8, decoder.up_4)
    refines = cast("list[Refine]", list(decoder.refine))
    filters = [cast("nn.Linear", head.layers[-1]) for head in cast("list[MLP]", decoder.output_hypernetworks_mlps)]
    writing: list[Layer] = [decoder.up_4, decoder.unpack, decoder.maps_to_4, *(refine.pointwise for refine in refines)]
    reading = tuple(refine.depthwise for refine in refines)
    yield Chain(tuple(Writer(layer) for layer in writing), reading, tuple(filters))
    yield from mask_decoder_groups(decoder)


def sam2_groups(sam: Sam) -> Iterator[Group]:
    """Only the projection reads the pyramid's finer maps, and no activation lies between the two convolutions."""
    if isinstance(sam.mask_decoder, SAM2MaskDecoder) and isinstance(sam.image_encoder, PyramidImageEncoder):
        *_, at_8, at_4 = cast("list[Lateral]", list(sam.image_encoder.neck.convs))
        yield pair(at_4.conv, sam.mask_decoder.conv_s0)
        yield pair(at_8.conv, sam.mask_decoder.conv_s1)


def mask_decoder_groups(decoder: MaskDecoder | NanoMaskDecoder) -> Iterator[Group]:
    """Only the heads read the tokens' last normalization; a residual also reads those inside the transformer."""
    heads = [*cast("list[MLP]", decoder.output_hypernetworks_mlps), decoder.iou_prediction_head]
    if isinstance(decoder, HQMaskDecoder):
        heads.append(decoder.hf_mlp)
    if isinstance(decoder, SAM2MaskDecoder):
        heads.append(decoder.pred_obj_score_head)
    readers = [cast("nn.Linear", head.layers[0]) for head in heads]
    yield Normed(decoder.transformer.norm_final_attn, tuple(readers))


def refine_groups(refine: Refine) -> Iterator[Group]:
    """There is a ReLU between its two convolutions."""
    yield pair(refine.depthwise, refine.pointwise)


def mlp_groups(mlp: MLP) -> Iterator[Group]:
    """There is a ReLU between the layers."""
    for writer, reader in pairwise(cast("list[nn.Linear]", list(mlp.layers))):
        yield pair(writer, reader)


def feed_forward_groups(mlp: FeedForward) -> Iterator[Group]:
    """The decoder's has a ReLU; the encoders' have a GELU, which is not homogeneous."""
    if isinstance(mlp.act, nn.ReLU):
        yield pair(mlp.lin1, mlp.lin2)


def attention_groups(attention: Attention) -> Iterator[Group]:
    """The output is a weighted sum of values in each channel, and scores are dot products of queries and keys."""
    yield Keys(attention.q_proj, attention.k_proj)
    yield pair(attention.v_proj, attention.out_proj)


def relative_attention_groups(attention: RelativeAttention) -> Iterator[Group]:
    """Values are the last third of the one projection."""
    width = attention.proj.in_features
    yield Chain((Writer(attention.qkv, np.arange(2 * width, 3 * width)),), (attention.proj,))


def window_attention_groups(attention: WindowAttention) -> Iterator[Group]:
    """Values are the last third of each head's rows."""
    values = np.arange(3 * attention.heads * attention.head_dim).reshape(attention.heads, 3, attention.head_dim)
    yield Chain((Writer(attention.qkv, values[:, 2].flatten()),), (attention.proj,))
    yield Normed(attention.norm, (attention.qkv,))


def tiny_vit_mlp_groups(mlp: Mlp) -> Iterator[Group]:
    """Only its first layer reads its normalization."""
    yield Normed(mlp.norm, (mlp.fc1,))


def block_groups(block: Block) -> Iterator[Group]:
    """One reader each, before attention and MLP; windows are padded after the normalization, with zeros."""
    yield Normed(block.norm1, (block.attn.qkv,))
    yield Normed(block.norm2, (block.mlp.lin1,))


def clip_block_groups(block: ClipBlock) -> Iterator[Group]:
    """One reader each, before attention and MLP."""
    yield Normed(block.ln_1, (block.attn.in_proj,))
    yield Normed(block.ln_2, (block.mlp.c_fc,))


def clip_attention_groups(attention: ClipAttention) -> Iterator[Group]:
    """Values are the last third of the one projection."""
    width = attention.out_proj.in_features
    yield Chain((Writer(attention.in_proj, np.arange(2 * width, 3 * width)),), (attention.out_proj,))


def attention_pooling_groups(pooling: AttentionPooling) -> Iterator[Group]:
    """Only the MLP reads the normalization."""
    yield Normed(pooling.ln, (pooling.mlp.c_fc,))


def hiera_block_groups(block: HieraBlock) -> Iterator[Group]:
    """As in a ViT's block; where the width changes, the residual's projection reads the first normalization too."""
    first: list[Layer] = [block.attn.qkv] if block.proj is None else [block.attn.qkv, block.proj]
    yield Normed(block.norm1, tuple(first))
    yield Normed(cast("nn.LayerNorm", block.norm2), (cast("nn.Linear", block.mlp.layers[0]),))


def pooled_attention_groups(attention: PooledAttention) -> Iterator[Group]:
    """Values are the last third of the one projection. Only the queries are max-pooled."""
    width = attention.proj.in_features
    yield Chain((Writer(attention.qkv, np.arange(2 * width, 3 * width)),), (attention.proj,))


def neck_groups(encoder: ImageEncoderViT | TinyViT) -> Iterator[Group]:
    """Only the second convolution reads the neck's first normalization; the second one's output is the embedding."""
    _, norm, convolution, _ = encoder.neck
    yield Normed(cast("LayerNorm2d", norm), (cast("nn.Conv2d", convolution),))


GROUPS_OF_MODULE: dict[type[nn.Module], Callable[[Any], Iterator[Group]]] = {
    Sam: sam2_groups,
    NanoImageEncoder: nano_encoder_groups,
    NanoMaskDecoder: nano_decoder_groups,
    MaskDecoder: mask_decoder_groups,
    HQMaskDecoder: mask_decoder_groups,
    SAM2MaskDecoder: mask_decoder_groups,
    Refine: refine_groups,
    MLP: mlp_groups,
    FeedForward: feed_forward_groups,
    Attention: attention_groups,
    RelativeAttention: relative_attention_groups,
    WindowAttention: window_attention_groups,
    Mlp: tiny_vit_mlp_groups,
    Block: block_groups,
    ClipBlock: clip_block_groups,
    ClipAttention: clip_attention_groups,
    AttentionPooling: attention_pooling_groups,
    HieraBlock: hiera_block_groups,
    PooledAttention: pooled_attention_groups,
    ImageEncoderViT: neck_groups,
    TinyViT: neck_groups,
}
