"""Which plain module is replaced by which, and by what rule.

Children are replaced first, so a replacement finds convolutions where the plain module has linear layers, and its
replaced children take and return BC1S.

The rules, with the numbers of the principles in Apple's article:

- Linear layers are 1 x 1 convolutions (1).
- Tensors are (B, C, 1, S), channels second and positions last, from the first layer to the last (1).
- Layer normalization runs over the second axis, as one operation, without transpositions (1, 3).
- Attention runs head by head: more operations, smaller tensors (2).
- A head's queries come in blocks where its scores would be large (2).
- Products of activations are the einsum `nchw,nwhu->nchu`; of each attention only the keys are transposed (3).
"""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from sam_edge.model.graphs import DecoderGraph, EncoderGraph
from sam_edge.model.image_encoder import Block, ImageEncoderViT, RelativeAttention
from sam_edge.model.layers import LayerNorm2d
from sam_edge.model.mask_decoder import MLP
from sam_edge.model.replacement import Replacements, replace_modules
from sam_edge.model.tiny_vit import TinyViTBlock, WindowAttention
from sam_edge.model.transformer import Attention, TwoWayTransformer

from .image_encoder import BC1SBlock, BC1SImageEncoder, HeadwiseRelativeAttention
from .layers import ChannelNorm, Pointwise, PointwiseMLP
from .tiny_vit import BC1SWindowBlock, HeadwiseWindowAttention
from .transformer import BC1STransformer, HeadwiseAttention

Graph = TypeVar("Graph", EncoderGraph, DecoderGraph)

REPLACEMENTS: Replacements = {
    nn.Linear: Pointwise,
    nn.LayerNorm: ChannelNorm,
    LayerNorm2d: ChannelNorm,
    MLP: PointwiseMLP,
    Attention: HeadwiseAttention,
    TwoWayTransformer: BC1STransformer,
    RelativeAttention: HeadwiseRelativeAttention,
    Block: BC1SBlock,
    ImageEncoderViT: BC1SImageEncoder,
    WindowAttention: HeadwiseWindowAttention,
    TinyViTBlock: BC1SWindowBlock,
}


def ane_rewrite(graph: Graph) -> Graph:
    """A copy of `graph` rewritten by the rules above.

    It has the same class, inputs and parameters, and its outputs are equal up to rounding. Parameters are shared: they
    are held in memory once, and a change is seen by both. `graph` itself stays as it is. nano's image encoder consists
    of convolutions, so nothing in it is replaced.
    """
    return replace_modules(graph, REPLACEMENTS)
