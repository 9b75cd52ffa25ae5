"""SAM 2's feature pyramid with one convolution where the decoder's projection follows another.

The pyramid brings strides 4 and 8 to 256 channels, and the decoder's projection brings these to 32 and 64. Both are
1 x 1 convolutions with nothing between them, so their product is one as well: from a trunk's channels to 32 or 64. In
EdgeTAM that is an eighth of the encoder's multiplications, and the largest map, 67 MB at 1024 pixels, goes away. The
embedding of `NoMemory` becomes part of a bias.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from sam_edge.model.feature_pyramid import Lateral, PyramidImageEncoder
from sam_edge.model.graphs import EncoderGraph
from sam_edge.model.replacement import replace_modules
from sam_edge.model.sam import Sam
from sam_edge.model.sam2_mask_decoder import SAM2MaskDecoder, SAM2Projection

AT_16, AT_8, AT_4 = 1, 2, 3  # places of the strides in `FeaturePyramid.convs`


def with_merged_projection(graph: EncoderGraph) -> EncoderGraph:
    """A copy of an encoder graph whose pyramid makes the decoder's inputs at once; other parameters are shared.

    Its outputs are equal up to rounding. Graphs without `SAM2Projection` stay as they are.
    """
    projection = graph.projection
    if not isinstance(projection, SAM2Projection) or not isinstance(graph.image_encoder, PyramidImageEncoder):
        return graph
    copied = replace_modules(graph, {})
    neck = cast("PyramidImageEncoder", copied.image_encoder).neck
    laterals = [cast("Lateral", lateral) for lateral in neck.convs]
    laterals[AT_4] = _lateral(merged(laterals[AT_4].conv, projection.conv_s0))
    laterals[AT_8] = _lateral(merged(laterals[AT_8].conv, projection.conv_s1))
    laterals[AT_16] = _lateral(_with_bias(laterals[AT_16].conv, projection.no_memory.embed.detach().flatten()))
    neck.convs = nn.ModuleList(laterals)
    for name, _ in list(projection.named_children()):
        setattr(copied.projection, name, nn.Identity())
    return copied.train(graph.training)


def merged_layers(sam: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The weights that only graphs of `with_merged_projection` have, each with the name of the decoder's layer."""
    if not isinstance(sam, Sam) or not isinstance(sam.image_encoder, PyramidImageEncoder):
        return
    decoder = cast("SAM2MaskDecoder", sam.mask_decoder)
    laterals = [cast("Lateral", lateral) for lateral in sam.image_encoder.neck.convs]
    yield "mask_decoder.conv_s0", merged(laterals[AT_4].conv, decoder.conv_s0).weight
    yield "mask_decoder.conv_s1", merged(laterals[AT_8].conv, decoder.conv_s1).weight


@torch.no_grad()
def merged(first: nn.Conv2d, second: nn.Conv2d) -> nn.Conv2d:
    """One 1 x 1 convolution in place of two, computed in double precision."""
    if first.bias is None or second.bias is None:
        raise TypeError(f"{first} and {second} need biases")
    inner, outer = (each.weight.flatten(1).double() for each in (first, second))
    layer = nn.Conv2d(first.in_channels, second.out_channels, kernel_size=1, device="meta")
    layer.weight = nn.Parameter((outer @ inner).float()[:, :, None, None], requires_grad=False)
    layer.bias = nn.Parameter((outer @ first.bias.double() + second.bias.double()).float(), requires_grad=False)
    return layer.eval()


def _with_bias(plain: nn.Conv2d, further: Tensor) -> nn.Conv2d:
    """A convolution with the weight of `plain`, shared, whose bias has a further addend."""
    layer = nn.Conv2d(plain.in_channels, plain.out_channels, kernel_size=1, bias=False, device="meta")
    layer.weight = plain.weight
    layer.bias = nn.Parameter(further if plain.bias is None else plain.bias.detach() + further, requires_grad=False)
    return layer.eval()


def _lateral(convolution: nn.Conv2d) -> Lateral:
    lateral = Lateral(1, 1)
    lateral.conv = convolution
    return lateral
