"""SAM's mask decoder with its upscaling as products over cells, and one rearrangement at the very end.

Both transposed convolutions have strides equal to their kernels: each cell becomes 2 x 2 others from its own channels
alone. The normalization, GELU and the product with a mask's filter look at no neighbour either. So cells need not lie
in a picture while they are computed. They stay in the transformer's order, channels last, where every step is a plain
product or works along the last axis, and only the four finished masks are put together: an eighth of the features.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sam_edge.model.layers import LayerNorm2d
from sam_edge.model.mask_decoder import MaskDecoder


class CellwiseMaskDecoder(MaskDecoder):
    """`MaskDecoder`, with the plain one's parts."""

    first: Tensor
    first_bias: Tensor
    second: Tensor
    second_bias: Tensor

    def __init__(self, plain: MaskDecoder) -> None:
        nn.Module.__init__(self)  # the parts come from the plain one
        for name, child in plain.named_children():
            setattr(self, name, child)
        first, _, _, second, _ = plain.output_upscaling
        for name, module in (("first", first), ("second", second)):
            weight, bias = as_product(module)
            self.register_buffer(name, weight, persistent=False)
            self.register_buffer(f"{name}_bias", bias, persistent=False)

    def draw(self, image: Tensor, filters: Tensor, grid: int) -> Tensor:
        """See `MaskDecoder.draw`."""
        b, cells, _ = image.shape
        _, norm, first_gelu, _, second_gelu = self.output_upscaling
        if not isinstance(norm, LayerNorm2d):
            raise TypeError(f"{type(norm).__name__} stands where the channels are normalized")
        # Two axes: products with something added to them are one operation then.
        x = F.linear(image.reshape(b * cells, -1), self.first, self.first_bias).reshape(4 * b * cells, -1)
        x = first_gelu(F.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps))  # (B * HW * 2 * 2, C/4)
        x = second_gelu(F.linear(x, self.second, self.second_bias).reshape(b, 16 * cells, -1))
        masks = filters @ x.transpose(1, 2)  # (B, 4, HW * 16)
        return put_together(masks.reshape(-1, masks.shape[2]), grid).reshape(b, -1, 4 * grid, 4 * grid)


def as_product(upscale: nn.Module) -> tuple[Tensor, Tensor]:
    """A transposed convolution of kernel and stride 2 as a linear layer's weight `(2 * 2 * C', C)` and bias `(4 * C')`.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(upscale, nn.ConvTranspose2d) or upscale.kernel_size != (2, 2) or upscale.stride != (2, 2):
        raise TypeError(f"{upscale} is no transposed convolution of kernel and stride 2")
    weight = upscale.weight.detach().permute(2, 3, 1, 0).flatten(0, 2).contiguous()
    bias = upscale.bias.detach() if upscale.bias is not None else weight.new_zeros(upscale.out_channels)
    return weight, bias.repeat(4)


def put_together(cells: Tensor, grid: int) -> Tensor:
    """Numbers in the order of cells, halves of cells and quarters, `(K, G * G * 2 * 2 * 2 * 2)`, as `(K, 4G, 4G)`.

    Each pair of twos is rows, then columns. Four axes at a time: phones' delegates take no more.
    """
    halves = cells.reshape(-1, grid, 2, 8).transpose(1, 2)  # (K * G, 2, G, 8): rows of halves
    quarters = halves.reshape(-1, 2 * grid, 2, 2).transpose(1, 2)  # (K * 2G, 2, 2G, 2): rows of quarters
    return quarters.reshape(-1, 4 * grid, 4 * grid)
