"""Mask decoders whose upscaling consists of matrix products over cells, with one rearrangement at the end.

A transposed convolution whose stride equals its kernel turns each cell into 2 x 2 cells, from its own channels alone.
In SAM's decoder the normalization, the GELU and the product with a mask's filter use no neighbouring cell either. So
the cells need not form a map while they are computed. They stay in the transformer's order, channels last, where every
operation is a matrix product or works along the last axis. Only the four finished masks are arranged as maps: an eighth
of the features' size. nano's decoder has 3 x 3 convolutions at stride 4, so its features are arranged before those.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sam_edge.model.layers import LayerNorm2d
from sam_edge.model.mask_decoder import MaskDecoder
from sam_edge.model.nano_decoder import FINE, NanoMaskDecoder
from sam_edge.model.sam2_mask_decoder import SAM2MaskDecoder


class CellwiseMaskDecoder(MaskDecoder):
    """`MaskDecoder` that upscales by cells; it shares the plain one's submodules."""

    def __init__(self, plain: MaskDecoder) -> None:
        nn.Module.__init__(self)
        share_children(self, plain)
        first, _, _, second, _ = plain.output_upscaling
        self.first, self.second = CellUpscaling(first), CellUpscaling(second)

    def apply_filters(self, image: Tensor, filters: Tensor, grid: tuple[int, int]) -> Tensor:
        """See `MaskDecoder.apply_filters`."""
        b, (h, w) = image.shape[0], grid
        _, norm, first_gelu, _, second_gelu = self.output_upscaling
        x = self.first(image.flatten(0, 1))  # (B * HW * 2 * 2, C/4)
        x = first_gelu(normalized_cells(x, norm))
        x = second_gelu(self.second(x)).reshape(b, h * w * 16, -1)  # (B, hw * 2 * 2 * 2 * 2, C/8)
        masks = filters @ x.transpose(1, 2)
        return cells_to_maps(masks, grid, 1).reshape(b, -1, 4 * h, 4 * w)


class CellwiseSAM2MaskDecoder(SAM2MaskDecoder):
    """`SAM2MaskDecoder` that upscales by cells; it shares the plain one's submodules."""

    def __init__(self, plain: SAM2MaskDecoder) -> None:
        nn.Module.__init__(self)
        share_children(self, plain)
        first, _, _, second, _ = plain.output_upscaling
        self.first, self.second = CellUpscaling(first), CellUpscaling(second)

    def apply_filters_onto(self, image: Tensor, filters: Tensor, high_res_0: Tensor, high_res_1: Tensor) -> Tensor:
        """See `SAM2MaskDecoder.apply_filters_onto`."""
        b, (h, w) = image.shape[0], (high_res_1.shape[2] // 2, high_res_1.shape[3] // 2)
        _, norm, first_gelu, _, second_gelu = self.output_upscaling
        # Halves as a map, so that the features at stride 8 need no rearrangement beyond channels last.
        half = halves_to_map(self.first(image.flatten(0, 1)), (h, w))  # (B, 2h * 2w, C/4)
        half = first_gelu(normalized_cells(half + high_res_1.flatten(2).transpose(1, 2), norm))
        quarter = self.second(half.flatten(0, 1)).reshape(b, h * w * 16, -1)  # (B, 2h * 2w * 2 * 2, C/8)
        masks = filters @ second_gelu(quarter + map_to_halves(high_res_0)).transpose(1, 2)
        return halves_to_map(masks.reshape(-1, 1), (2 * h, 2 * w)).reshape(b, -1, 4 * h, 4 * w)


class CellwiseNanoMaskDecoder(NanoMaskDecoder):
    """`NanoMaskDecoder` that upscales by cells; it shares the plain one's submodules."""

    def __init__(self, plain: NanoMaskDecoder) -> None:
        nn.Module.__init__(self)
        share_children(self, plain)
        self.semantic = plain.semantic
        self.first, self.second, self.all = (CellUpscaling(each) for each in (plain.up_8, plain.up_4, plain.unpack))

    def to_stride_4(self, image: Tensor, detail: Tensor) -> Tensor:
        """See `NanoMaskDecoder.to_stride_4`."""
        b, (h, w) = image.shape[0], detail.shape[2:]
        coarse = self.second(F.relu(self.first(image.flatten(0, 1)))).reshape(b, h * w * 16, -1)
        unpacked = self.all(detail.flatten(2).transpose(1, 2).flatten(0, 1)).reshape(-1, h * w * 16, FINE)
        return cells_to_maps(coarse + unpacked, (h, w), FINE).permute(0, 3, 1, 2)


class CellUpscaling(nn.Module):
    """A transposed convolution whose stride equals its kernel, 2 or 4, as a linear layer on cells.

    Raises:
        TypeError: `plain` is another module, or has no bias.
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
            raise TypeError(
                f"{plain} must be a ConvTranspose2d with a bias, whose kernel and stride are both 2 or both 4"
            )
        weight = plain.weight.detach()  # (C, C', K, K)
        if plain.stride == (4, 4):  # the order of `cells_to_maps`: rows and columns of halves, then of quarters
            weight = weight.reshape(*weight.shape[:2], 2, 2, 2, 2).permute(2, 4, 3, 5, 1, 0)
        else:
            weight = weight.permute(2, 3, 1, 0)
        self.channels = plain.out_channels
        self.register_buffer("weight", weight.reshape(-1, plain.in_channels).contiguous(), persistent=False)
        self.register_buffer("bias", plain.bias.detach().repeat(plain.stride[0] ** 2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Replace each of the cells `(L, C)` by K * K cells: `(L * K * K, C')`."""
        return F.linear(x, self.weight, self.bias).reshape(-1, self.channels)


def normalized_cells(cells: Tensor, norm: nn.Module) -> Tensor:
    """`norm` of a map, on its cells `(..., C)`.

    Raises:
        TypeError: it is no `LayerNorm2d`.
    """
    if not isinstance(norm, LayerNorm2d):
        raise TypeError(f"the upscaling's second module must be a LayerNorm2d, not a {type(norm).__name__}")
    return F.layer_norm(cells, norm.weight.shape, norm.weight, norm.bias, norm.eps)


def cells_to_maps(cells: Tensor, grid: tuple[int, int], channels: int) -> Tensor:
    """Arrange cells as maps: `(K, h * w * 2 * 2 * 2 * 2, C)` to `(K, 4h, 4w, C)`.

    Cells are ordered by the h x w grid, then by their 2 x 2 halves, then by the 2 x 2 quarters of these, each row by
    row. No tensor has more than four axes, the most that phones' delegates take.
    """
    h, w = grid
    halves = cells.reshape(-1, w, 2, 8 * channels).transpose(1, 2)  # (K * h, 2, w, ..): rows of halves
    quarters = halves.reshape(-1, 2 * w, 2, 2 * channels).transpose(1, 2)  # (K * 2h, 2, 2w, ..): rows of quarters
    return quarters.reshape(-1, 4 * h, 4 * w, channels)


def halves_to_map(cells: Tensor, grid: tuple[int, int]) -> Tensor:
    """Arrange 2 x 2 halves of cells as maps: `(K * h * w * 2 * 2, C)` to `(K, 2h * 2w, C)`, both row by row."""
    (h, w), channels = grid, cells.shape[-1]
    rows = cells.reshape(-1, w, 2, 2 * channels).transpose(1, 2)  # (K * h, 2, w, 2C)
    return rows.reshape(-1, 4 * h * w, channels)


def map_to_halves(maps: Tensor) -> Tensor:
    """Undo `halves_to_map` for a map `(1, C, 2h, 2w)`: `(1, h * w * 2 * 2, C)`."""
    _, channels, rows, columns = maps.shape
    pairs = maps.permute(0, 2, 3, 1).reshape(rows // 2, 2, columns // 2, 2 * channels).transpose(1, 2)
    return pairs.reshape(1, rows * columns, channels)


def share_children(module: nn.Module, plain: nn.Module) -> None:
    """Give `module` the submodules of `plain`, under their names."""
    for name, child in plain.named_children():
        setattr(module, name, child)
