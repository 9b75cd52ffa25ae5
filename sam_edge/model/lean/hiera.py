"""Hiera whose first stages compute a part of the map at a time, in windows that are cut once.

The plain blocks cut the map into windows and join them again, each for itself. But all windows of the first two stages
lie within those of the first block: its 8 x 8 cells become 4 x 4 by pooling, which are the second stage's windows, and
then 2 x 2. No cell sees one outside. So the map is cut once, and a part of the windows passes all these blocks before
the next part does, and no tensor has the whole map at the finest resolution but the patches. Queries, keys and values
of the smallest model's second block take 38 MB for a part, and 151 MB for the map.

MLPs and their normalizations run on so few cells at a time that the hidden channels, 6 MB, stay in the processor's
cache between the two products.

The pyramid's convolutions at strides 4 and 8 also run part by part, on cells as matrix products. `pyramid` makes them
narrow beforehand. Pooling takes the maximum of two rows, then of two columns, in the cells' own order.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_edge.model.feature_pyramid import FeaturePyramid, Lateral, PyramidImageEncoder
from sam_edge.model.graphs import EncoderGraph
from sam_edge.model.hiera import POOL, Hiera, HieraBlock, MaxPool, Mlp
from sam_edge.model.layers import join_windows, split_windows
from sam_edge.model.replacement import replace_any, replace_modules

PART = 16384  # cells of the finest map that pass the first stages together
HIDDEN = 6 << 20  # bytes of an MLP's hidden channels at a time, a fraction of a processor's last cache
LEAST_GAIN = 4  # bytes of hidden channels for each of the weights; ONNX Runtime packs a copy of these for each product


def with_parts(graph: EncoderGraph) -> EncoderGraph:
    """A copy of an encoder graph whose Hiera, if it has one, computes its first stages in parts; parameters are shared.

    Its outputs are equal up to rounding.
    """
    return replace_modules(graph, {PyramidImageEncoder: _encoder})


def _encoder(plain: PyramidImageEncoder) -> PyramidImageEncoder:
    return PartwiseHieraEncoder(plain) if isinstance(plain.trunk, Hiera) else plain


class PartwiseHieraEncoder(PyramidImageEncoder):
    """`PyramidImageEncoder` with a Hiera.

    Attributes:
        side: of the windows that the map is cut into, in cells of the finest map.
        within: the number of blocks whose cells see none outside these windows.
    """

    def __init__(self, plain: PyramidImageEncoder) -> None:
        nn.Module.__init__(self)
        hiera = cast("Hiera", replace_any(cast("Hiera", plain.trunk), {MaxPool: lambda pool: PairwiseMaxPool()}))
        self.trunk = hiera
        self.neck = cast("FeaturePyramid", replace_any(plain.neck, {Lateral: CellLateral}))
        blocks = [cast("HieraBlock", block) for block in hiera.blocks]
        self.side = side = blocks[0].window
        self.within = 0
        while self.within < len(blocks) and 1 < side == blocks[self.within].window:
            block = blocks[self.within]
            block.window = 0  # the part's windows are a batch of maps
            side = side if block.pool is None else side // POOL
            self.within += 1
        for block in blocks:
            block.norm2, block.mlp = nn.Identity(), cast("Mlp", PartwiseMlp(block))

    @property
    def hiera(self) -> Hiera:
        """The trunk."""
        return cast("Hiera", self.trunk)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `PyramidImageEncoder.forward`."""
        x = self.hiera.patch_embed(x)
        x = x + self.hiera.positions(x.shape[1], x.shape[2])
        rows = max(1, PART // (x.shape[2] * self.side)) * self.side
        parts = [self._within_windows(x[:, first : first + rows]) for first in range(0, x.shape[1], rows)]
        *levels, x = (torch.cat(maps, dim=1) for maps in zip(*parts, strict=True))
        for index in range(self.within, len(self.hiera.blocks)):
            x = self.hiera.blocks[index](x)
            if index in self.hiera.ends:
                levels.append(self._lateral(len(levels), x))
        at_4, at_8, at_16, at_32 = (level.permute(0, 3, 1, 2) for level in levels)
        return at_16 + F.interpolate(at_32, scale_factor=2.0, mode="nearest"), at_4, at_8

    def _within_windows(self, x: Tensor) -> list[Tensor]:
        """The blocks that see one window, on rows of windows `(B, h, w, C)`.

        Returns:
            The pyramid's maps of the stages that end here, and the last block's output.
        """
        windows, (h, w) = split_windows(x, self.side)
        side = self.side
        levels: list[Tensor] = []
        for index in range(self.within):
            windows = self.hiera.blocks[index](windows)
            h, w, side = h * windows.shape[1] // side, w * windows.shape[1] // side, windows.shape[1]
            if index in self.hiera.ends:
                levels.append(join_windows(self._lateral(len(levels), windows), side, (h, w), (h, w)))
        return [*levels, join_windows(windows, side, (h, w), (h, w))]

    def _lateral(self, level: int, x: Tensor) -> Tensor:
        """The pyramid's convolution of a level, the finest being 0, on cells."""
        lateral = cast("CellLateral", self.neck.convs[len(self.hiera.ends) - 1 - level])
        out: Tensor = lateral(x)
        return out


class CellLateral(nn.Module):
    """`Lateral` on cells, as a linear layer with its weight."""

    def __init__(self, plain: Lateral) -> None:
        super().__init__()
        self.conv = nn.Linear(plain.conv.in_channels, plain.conv.out_channels, device="meta")
        self.conv.weight = nn.Parameter(plain.conv.weight.detach().flatten(1), requires_grad=False)
        self.conv.bias = cast("nn.Parameter", plain.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., C)` to `(..., C')`."""
        out: Tensor = self.conv(x)
        return out


class PartwiseMlp(nn.Module):
    """The second normalization of a `HieraBlock` and its MLP, on some cells at a time."""

    def __init__(self, plain: HieraBlock) -> None:
        super().__init__()
        self.norm, self.layers = plain.norm2, plain.mlp.layers
        first = cast("nn.Linear", self.layers[0])
        self.of_cell = 4 * first.out_features  # bytes of the hidden channels
        self.of_weights = 2 * 4 * first.weight.numel()

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., C)` to the same shape."""
        cells = x.flatten(0, -2)
        some = max(1, HIDDEN // self.of_cell)
        firsts = range(0, len(cells), some)
        if len(firsts) * self.of_weights * LEAST_GAIN > len(cells) * self.of_cell:
            return self._mlp(cells).reshape(x.shape)
        return torch.cat([self._mlp(cells[first : first + some]) for first in firsts]).reshape(x.shape)

    def _mlp(self, cells: Tensor) -> Tensor:
        out: Tensor = self.layers[1](F.gelu(self.layers[0](self.norm(cells))))
        return out


class PairwiseMaxPool(nn.Module):
    """`MaxPool` without transpositions."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, H, W, C)` to `(B, H/2, W/2, C)`."""
        b, h, w, c = x.shape
        rows = x.reshape(b * h // POOL, POOL, w * c).amax(dim=1)
        return rows.reshape(-1, POOL, c).amax(dim=1).reshape(b, h // POOL, w // POOL, c)
