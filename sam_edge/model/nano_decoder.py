"""nano's prompt encoder and mask decoder: SAM's, at half the width, with prompts also rasterized to maps.

A small model trained on little data learns slowly from sparse tokens alone. So each prompt is also given as dense maps,
which interactive segmentation does too (RITM, https://arxiv.org/abs/2102.06583). Here a click is two Gaussians, a box
is a soft rectangle and an ellipse in it, and a mask prompt is a map of probabilities. The graph computes the maps from
the coordinates (exp, sigmoid, max over the slots), so the contract is SAM's and shapes stay static. An empty slot
leaves no trace. The maps enter twice: at stride 16 before the transformer, and at stride 4 before the masks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_edge_runtime.bundle.contract import MASK_OUTPUTS, MASK_STRIDE, Label

from .layers import first_of_axis, is_label
from .mask_decoder import MLP
from .prompt_encoder import PromptEncoder
from .transformer import EMPTY_SLOT_BIAS, TwoWayTransformer

# In pixels, not in shares of the frame: a crop of 256 pixels then looks like a part of a frame of 512.
CLICK_WIDTHS = (5.0, 25.0)  # standard deviations of a click's two Gaussians
BOX_SOFTNESS = 2.0  # scale of the sigmoid at a box's edge
SMALLEST_BOX = 2.0  # a shorter side of a box counts as this
ELLIPSE_STEEPNESS = 4.0
MAPS = 2 * len(CLICK_WIDTHS) + 4
FINE = 32  # channels at stride 4


class NanoPromptEncoder(PromptEncoder):
    """Prompts to sparse tokens `(B, N, C)` and eight maps `(B, 8, H/4, W/4)`."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__(channels)
        del self.mask_downscaling, self.no_mask_embed  # two of the maps are the mask prompt
        self.set_input_side(side)

    def forward(
        self, coords: Tensor, labels: Tensor, mask_input: Tensor, has_mask_input: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Tokens and maps: `embed_points` and `rasterize`."""
        return self.embed_points(coords, labels), self.rasterize(coords, labels, mask_input, has_mask_input)

    def rasterize(self, coords: Tensor, labels: Tensor, mask_input: Tensor, has_mask_input: Tensor) -> Tensor:
        """Turn prompts into dense maps.

        Args:
            coords: `(B, N, 2)` x, y in pixels of the frame; pixel centres lie at +0.5, which is added here.
            labels: `(B, N)` values of `Label`.
            mask_input: `(B, 1, H/4, W/4)` logits.
            has_mask_input: `(B)` 1 where `mask_input` counts, else 0.

        Returns:
            `(B, 8, H/4, W/4)` in 0..1: foreground clicks (narrow, wide), background clicks (narrow, wide), box,
            ellipse in the box, mask probability, and 1 everywhere if there is a mask.
        """
        places = coords + 0.5
        rows, columns = mask_input.shape[2:]
        low_res = max(rows, columns)
        centres = (torch.arange(low_res, device=coords.device, dtype=coords.dtype) + 0.5) * MASK_STRIDE
        points = []
        for label in (Label.FOREGROUND, Label.BACKGROUND):
            counts = is_label(labels, float(label))
            points += [self._clicks(places, counts, centres, width, (rows, columns)) for width in CLICK_WIDTHS]
        has = has_mask_input.reshape(-1, 1, 1, 1)
        probability = mask_input.sigmoid()
        # Phones' delegates have no broadcast of a scalar to a map (so: an addition) and refuse a concatenation of eight
        # tensors (so: three). The ReLUs change nothing in 0..1; they keep converters from merging the three into one.
        masks = [probability * has, 0.0 * probability + has]
        others = [*self._box(places, labels, centres, (rows, columns)), *masks]
        return torch.cat([torch.cat(points, dim=1).relu(), torch.cat(others, dim=1).relu()], dim=1)

    @staticmethod
    def _clicks(places: Tensor, counts: Tensor, centres: Tensor, width: float, size: tuple[int, int]) -> Tensor:
        """The maximum over the slots of a Gaussian at each place, `(B, 1, H/4, W/4)`.

        Args:
            places: `(B, N, 2)` x, y in pixels.
            counts: `(B, N)` 1 where the slot is drawn, else 0.
            centres: `(S/4)` centres of the low-resolution pixels along the longer side.
            width: standard deviation in pixels.
            size: (H/4, W/4) of the map.
        """
        distance = (places.unsqueeze(-1) - centres) / width  # (B, N, 2, S/4)
        gaussians = torch.exp(-0.5 * distance * distance)
        columns = first_of_axis(gaussians[:, :, 0], 2, size[1]) * counts.unsqueeze(-1)  # (B, N, W/4)
        rows = first_of_axis(gaussians[:, :, 1], 2, size[0])  # (B, N, H/4)
        return (rows.unsqueeze(-1) * columns.unsqueeze(-2)).amax(dim=1, keepdim=True)

    @staticmethod
    def _box(places: Tensor, labels: Tensor, centres: Tensor, size: tuple[int, int]) -> list[Tensor]:
        """The box and the ellipse in it, `(B, 1, H/4, W/4)` each, in 0..1; zero without a box. See `_clicks`."""
        first = is_label(labels, float(Label.BOX_TOP_LEFT))
        second = is_label(labels, float(Label.BOX_BOTTOM_RIGHT))
        low = (places * first.unsqueeze(-1)).sum(dim=1).unsqueeze(-1)  # (B, 2, 1)
        high = (places * second.unsqueeze(-1)).sum(dim=1).unsqueeze(-1)
        has_box = first.amax(dim=1).reshape(-1, 1, 1, 1)
        inside = ((centres - low) / BOX_SOFTNESS).sigmoid() * ((high - centres) / BOX_SOFTNESS).sigmoid()
        inside_x, inside_y = _by_axis(inside, size)  # (B, W/4), (B, H/4)
        half = (0.5 * (high - low)).clamp(min=0.5 * SMALLEST_BOX)
        # At 4 half-axes the sigmoid is zero already; the bound keeps squares finite in half precision.
        squares = ((centres - 0.5 * (low + high)) / half).clamp(-4.0, 4.0).square()
        squares_x, squares_y = _by_axis(squares, size)
        radius = squares_y.unsqueeze(-1) + squares_x.unsqueeze(-2)  # (B, H/4, W/4)
        box = (inside_y.unsqueeze(-1) * inside_x.unsqueeze(-2)).unsqueeze(1) * has_box
        ellipse = (ELLIPSE_STEEPNESS * (1.0 - radius)).sigmoid().unsqueeze(1) * has_box
        return [box, ellipse]


def _by_axis(profiles: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Profiles along x and y `(B, 2, S/4)` as `(B, W/4)` and `(B, H/4)`; `size` is (H/4, W/4)."""
    return first_of_axis(profiles[:, 0], 1, size[1]), first_of_axis(profiles[:, 1], 1, size[0])


class Refine(nn.Module):
    """A residual depthwise 3 x 3 and pointwise convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.pointwise = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        out: Tensor = x + F.relu(self.pointwise(F.relu(self.depthwise(x))))
        return out


class NanoMaskDecoder(nn.Module):
    """Image embedding, tokens and maps to mask logits and IoU predictions.

    The transformer sees the embedding's first `semantic` channels. The other `detail` channels go straight to stride 4.
    """

    def __init__(self, semantic: int, detail: int) -> None:
        super().__init__()
        self.semantic = semantic
        self.maps_to_8 = nn.Conv2d(MAPS, 32, 2, stride=2)
        self.maps_to_16 = nn.Conv2d(32, semantic, 2, stride=2)
        self.transformer = TwoWayTransformer(semantic, heads=4, hidden=256, depth=2, downsample=2)
        self.iou_token = nn.Embedding(1, semantic)
        self.mask_tokens = nn.Embedding(MASK_OUTPUTS, semantic)
        self.up_8 = nn.ConvTranspose2d(semantic, 64, kernel_size=2, stride=2)
        self.up_4 = nn.ConvTranspose2d(64, FINE, kernel_size=2, stride=2)
        self.unpack = nn.ConvTranspose2d(detail, FINE, kernel_size=4, stride=4)
        self.maps_to_4 = nn.Conv2d(MAPS, FINE, 3, padding=1)
        self.refine = nn.Sequential(Refine(FINE), Refine(FINE))
        self.output_hypernetworks_mlps = nn.ModuleList(MLP(semantic, semantic, FINE) for _ in range(MASK_OUTPUTS))
        self.iou_prediction_head = MLP(semantic, semantic, MASK_OUTPUTS)

    def forward(
        self, embeddings: Tensor, positions: Tensor, sparse: Tensor, dense: Tensor, empty: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decode B prompts on one photo, or on B photos; the embedding has h x w cells, H/16 x W/16.

        Args:
            embeddings: `(1 or B, 256, h, w)` from the image encoder.
            positions: `(1, C, h, w)` from `PromptEncoder.dense_positions`.
            sparse: `(B, N, C)` prompt tokens.
            dense: `(B, 8, 4h, 4w)` maps from `NanoPromptEncoder.rasterize`.
            empty: `(B, N)` 1 where a slot is empty, else 0.

        Returns:
            Mask logits `(B, 4, 4h, 4w)` and IoU predictions `(B, 4)`.
        """
        return self.decode(
            embeddings[:, : self.semantic], embeddings[:, self.semantic :], positions, sparse, dense, empty
        )

    def decode(
        self, semantic: Tensor, detail: Tensor, positions: Tensor, sparse: Tensor, dense: Tensor, empty: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `forward`, with the embedding in two parts: `semantic (1 or B, C, h, w)`, and what `to_stride_4` takes."""
        b, (h, w) = sparse.shape[0], semantic.shape[2:]
        outputs = torch.cat([self.iou_token.weight, self.mask_tokens.weight])  # (5, C)
        tokens = torch.cat([outputs.unsqueeze(0).expand(b, -1, -1), sparse], dim=1)
        # A slot's bias, with zeros in front for the output tokens: (B, 1, 1, 5 + N).
        key_bias = F.pad(empty * EMPTY_SLOT_BIAS, (len(outputs), 0))[:, None, None, :]
        maps = self.maps_to_16(F.relu(self.maps_to_8(dense)))  # (B, C, h, w)
        image = (semantic + maps).flatten(2).transpose(1, 2)  # (B, HW, C)
        tokens, image = self.transformer(image, positions.flatten(2).transpose(1, 2), tokens, key_bias)
        fine = self.to_stride_4(image, detail)
        features = self.refine(F.relu(fine + self.maps_to_4(dense)))
        filters = torch.stack(
            [mlp(tokens[:, 1 + index]) for index, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )  # (B, 4, 32)
        masks = (filters @ features.flatten(2)).reshape(b, MASK_OUTPUTS, 4 * h, 4 * w)
        return masks, self.iou_prediction_head(tokens[:, 0])

    def to_stride_4(self, image: Tensor, detail: Tensor) -> Tensor:
        """Upscale the image's cells and unpack the detail: features `(B, 32, 4h, 4w)`.

        Args:
            image: `(B, h * w, C)` cells, row by row.
            detail: `(1 or B, D, h, w)` detail channels of the embedding.
        """
        unpacked: Tensor = self.upscaled(image, (detail.shape[2], detail.shape[3])) + self.unpack(detail)
        return unpacked

    def upscaled(self, image: Tensor, grid: tuple[int, int]) -> Tensor:
        """The image's cells `(B, h * w, C)` of a grid (h, w) at stride 4: `(B, 32, 4h, 4w)`."""
        cells = image.transpose(1, 2).reshape(image.shape[0], self.semantic, *grid)
        out: Tensor = self.up_4(F.relu(self.up_8(cells)))
        return out
