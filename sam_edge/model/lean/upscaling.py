"""Mask decoders with their upscaling as products over cells, and one rearrangement at the very end.

Transposed convolutions whose stride is their kernel make 2 x 2 cells of each from its own channels alone. In SAM's
decoder the normalization, GELU and the product with a mask's filter look at no neighbour either. So cells need not lie
in a picture while they are computed. They stay in the transformer's order, channels last, where every step is a plain
product or works along the last axis, and only the four finished masks are put together: an eighth of the features.
nano's decoder has 3 x 3 convolutions at stride 4, so there the features are put together before those.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sam_edge.model.layers import LayerNorm2d
from sam_edge.model.mask_decoder import MaskDecoder
from sam_edge.model.nano_decoder import FINE, NanoMaskDecoder


class CellwiseMaskDecoder(MaskDecoder):
    """`MaskDecoder`, with the plain one's parts."""

    def __init__(self, plain: MaskDecoder) -> None:
        nn.Module.__init__(self)
        take_parts(self, plain)
        first, _, _, second, _ = plain.output_upscaling
        self.first, self.second = CellProduct(first), CellProduct(second)

    def draw(self, image: Tensor, filters: Tensor, grid: int) -> Tensor:
        """See `MaskDecoder.draw`."""
        b = image.shape[0]
        _, norm, first_gelu, _, second_gelu = self.output_upscaling
        if not isinstance(norm, LayerNorm2d):
            raise TypeError(f"{type(norm).__name__} stands where the channels are normalized")
        x = self.first(image.flatten(0, 1))  # (B * HW * 2 * 2, C/4)
        x = first_gelu(F.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps))
        x = second_gelu(self.second(x)).reshape(b, grid * grid * 16, -1)  # (B, HW * 2 * 2 * 2 * 2, C/8)
        masks = filters @ x.transpose(1, 2)
        return put_together(masks, grid, 1).reshape(b, -1, 4 * grid, 4 * grid)


class CellwiseNanoMaskDecoder(NanoMaskDecoder):
    """`NanoMaskDecoder`, with the plain one's parts."""

    def __init__(self, plain: NanoMaskDecoder) -> None:
        nn.Module.__init__(self)
        take_parts(self, plain)
        self.meaning = plain.meaning
        self.first, self.second, self.all = (CellProduct(each) for each in (plain.up_8, plain.up_4, plain.unpack))

    def to_stride_4(self, image: Tensor, detail: Tensor) -> Tensor:
        """See `NanoMaskDecoder.to_stride_4`."""
        b, grid = image.shape[0], detail.shape[-1]
        coarse = self.second(F.relu(self.first(image.flatten(0, 1)))).reshape(b, grid * grid * 16, -1)
        unpacked = self.all(detail.flatten(2).transpose(1, 2).flatten(0, 1)).reshape(-1, grid * grid * 16, FINE)
        return put_together(coarse + unpacked, grid, FINE).permute(0, 3, 1, 2)


class CellProduct(nn.Module):
    """A transposed convolution whose stride is its kernel, 2 or 4, as a linear layer on cells.

    Raises:
        TypeError: it is another one.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, plain: nn.Module) -> None:
        super().__init__()
        if (
            not isinstance(plain, nn.ConvTranspose2d)
            or plain.stride != plain.kernel_size
            or plain.stride not in {(2, 2), (4, 4)}
            or plain.bias is None
        ):
            raise TypeError(f"{plain} is no transposed convolution that makes 2 x 2 or 4 x 4 cells of one")
        weight = plain.weight.detach()  # (C, C', K, K)
        if plain.stride == (4, 4):  # rows and columns of halves, then of quarters
            weight = weight.reshape(*weight.shape[:2], 2, 2, 2, 2).permute(2, 4, 3, 5, 1, 0)
        else:
            weight = weight.permute(2, 3, 1, 0)
        self.channels = plain.out_channels
        self.register_buffer("weight", weight.reshape(-1, plain.in_channels).contiguous(), persistent=False)
        self.register_buffer("bias", plain.bias.detach().repeat(plain.stride[0] ** 2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Cells `(L, C)` to the K * K cells that each becomes, `(L * K * K, C')`."""
        return F.linear(x, self.weight, self.bias).reshape(-1, self.channels)


def put_together(cells: Tensor, grid: int, channels: int) -> Tensor:
    """Cells in the order of the grid, their halves and quarters, `(K, G * G * 2 * 2 * 2 * 2, C)`, as `(K, 4G, 4G, C)`.

    Each pair of twos is rows, then columns. Four axes at a time: phones' delegates take no more.
    """
    halves = cells.reshape(-1, grid, 2, 8 * channels).transpose(1, 2)  # (K * G, 2, G, ..): rows of halves
    quarters = halves.reshape(-1, 2 * grid, 2, 2 * channels).transpose(1, 2)  # (K * 2G, 2, 2G, ..): rows of quarters
    return quarters.reshape(-1, 4 * grid, 4 * grid, channels)


def take_parts(twin: nn.Module, plain: nn.Module) -> None:
    """Give `twin` what `plain` consists of."""
    for name, child in plain.named_children():
        setattr(twin, name, child)
