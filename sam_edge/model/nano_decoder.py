"""nano's prompt encoder and mask decoder: SAM's, at half the width, with prompts also drawn as maps.

A small model taught with little data reads sparse tokens badly for long. So each prompt is drawn as well, as
interactive segmentation does (RITM, arXiv 2102.06583): clicks as Gaussians, the box as a soft rectangle with an ellipse
in it, the mask prompt as probabilities. The maps are computed from the coordinates inside the graph (exp, sigmoid, max
over the slots), so the contract is SAM's and shapes stay static; an empty slot draws nothing. They enter twice, at
stride 16 before attention and at stride 4 before the masks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_edge_runtime.bundle.contract import MASK_OUTPUTS, MASK_STRIDE, Label

from .layers import is_label
from .mask_decoder import MLP
from .prompt_encoder import PromptEncoder
from .transformer import EMPTY_SLOT_BIAS, TwoWayTransformer

# In pixels, not in frame sides: a crop of 256 pixels then looks like a part of a frame of 512.
CLICK_WIDTHS = (5.0, 25.0)  # standard deviations of the two Gaussians of a click
BOX_SOFTNESS = 2.0  # width of the soft edge of a box
SMALLEST_BOX = 2.0  # sides of a box below this count as this
ELLIPSE_STEEPNESS = 4.0
MAPS = 2 * len(CLICK_WIDTHS) + 4
FINE = 32  # channels at stride 4


class NanoPromptEncoder(PromptEncoder):
    """Prompts to sparse tokens `(B, N, C)` and eight maps `(B, 8, S/4, S/4)`."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__(channels)
        del self.mask_downscaling, self.no_mask_embed  # the mask prompt is one of the maps
        self.set_input_side(side)

    def forward(
        self, coords: Tensor, labels: Tensor, mask_input: Tensor, has_mask_input: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Tokens and maps; the maps lie in 0..1."""
        return self.embed_points(coords, labels), self.draw(coords, labels, mask_input, has_mask_input)

    def draw(self, coords: Tensor, labels: Tensor, mask_input: Tensor, has_mask_input: Tensor) -> Tensor:
        """Prompts as maps.

        Args:
            coords: `(B, N, 2)` x, y in pixels of the frame; pixel centres lie at +0.5, which is added here.
            labels: `(B, N)` values of `Label`.
            mask_input: `(B, 1, S/4, S/4)` logits.
            has_mask_input: `(B)` 1 where it counts.

        Returns:
            `(B, 8, S/4, S/4)` in 0..1: foreground clicks narrow and wide, background clicks narrow and wide, box,
            ellipse in the box, mask probability, and 1 where there is a mask.
        """
        places = coords + 0.5
        low_res = mask_input.shape[-1]
        centres = (torch.arange(low_res, device=coords.device, dtype=coords.dtype) + 0.5) * MASK_STRIDE
        points = []
        for label in (Label.FOREGROUND, Label.BACKGROUND):
            counts = is_label(labels, float(label))
            points += [self._clicks(places, counts, centres, width) for width in CLICK_WIDTHS]
        has = has_mask_input.reshape(-1, 1, 1, 1)
        probability = mask_input.sigmoid()
        # Phones' delegates add where they do not broadcast, and join four tensors where they refuse eight. The ReLU
        # changes nothing in 0..1, and keeps converters from making one join of the three.
        masks = [probability * has, 0.0 * probability + has]
        others = [*self._box(places, labels, centres), *masks]
        return torch.cat([torch.cat(points, dim=1).relu(), torch.cat(others, dim=1).relu()], dim=1)

    @staticmethod
    def _clicks(places: Tensor, counts: Tensor, centres: Tensor, width: float) -> Tensor:
        """The largest of the slots' Gaussians, `(B, 1, h, w)`."""
        away = (places.unsqueeze(-1) - centres) / width  # (B, N, 2, w)
        bells = torch.exp(-0.5 * away * away)
        columns, rows = bells[:, :, 0] * counts.unsqueeze(-1), bells[:, :, 1]  # (B, N, w), (B, N, h)
        return (rows.unsqueeze(-1) * columns.unsqueeze(-2)).amax(dim=1, keepdim=True)

    @staticmethod
    def _box(places: Tensor, labels: Tensor, centres: Tensor) -> list[Tensor]:
        """The box and the ellipse in it, `(B, 1, h, w)` each; zero without a box."""
        first = is_label(labels, float(Label.BOX_TOP_LEFT))
        second = is_label(labels, float(Label.BOX_BOTTOM_RIGHT))
        low = (places * first.unsqueeze(-1)).sum(dim=1).unsqueeze(-1)  # (B, 2, 1)
        high = (places * second.unsqueeze(-1)).sum(dim=1).unsqueeze(-1)
        has_box = first.amax(dim=1).reshape(-1, 1, 1, 1)
        inside = ((centres - low) / BOX_SOFTNESS).sigmoid() * ((high - centres) / BOX_SOFTNESS).sigmoid()  # (B, 2, w)
        half = (0.5 * (high - low)).clamp(min=0.5 * SMALLEST_BOX)
        # A point far outside is as much outside as one nearby; the bound keeps squares finite in half precision.
        away = ((centres - 0.5 * (low + high)) / half).clamp(-4.0, 4.0).square()
        radius = away[:, 1].unsqueeze(-1) + away[:, 0].unsqueeze(-2)  # (B, h, w)
        box = (inside[:, 1].unsqueeze(-1) * inside[:, 0].unsqueeze(-2)).unsqueeze(1) * has_box
        ellipse = (ELLIPSE_STEEPNESS * (1.0 - radius)).sigmoid().unsqueeze(1) * has_box
        return [box, ellipse]


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
    """Image embedding, tokens and maps to mask logits and IoU predictions."""

    def __init__(self, meaning: int, detail: int) -> None:
        super().__init__()
        self.meaning = meaning
        self.maps_to_8 = nn.Conv2d(MAPS, 32, 2, stride=2)
        self.maps_to_16 = nn.Conv2d(32, meaning, 2, stride=2)
        self.transformer = TwoWayTransformer(meaning, heads=4, hidden=256, depth=2, downsample=2)
        self.iou_token = nn.Embedding(1, meaning)
        self.mask_tokens = nn.Embedding(MASK_OUTPUTS, meaning)
        self.up_8 = nn.ConvTranspose2d(meaning, 64, kernel_size=2, stride=2)
        self.up_4 = nn.ConvTranspose2d(64, FINE, kernel_size=2, stride=2)
        self.unpack = nn.ConvTranspose2d(detail, FINE, kernel_size=4, stride=4)
        self.maps_to_4 = nn.Conv2d(MAPS, FINE, 3, padding=1)
        self.refine = nn.Sequential(Refine(FINE), Refine(FINE))
        self.output_hypernetworks_mlps = nn.ModuleList(MLP(meaning, meaning, FINE) for _ in range(MASK_OUTPUTS))
        self.iou_prediction_head = MLP(meaning, meaning, MASK_OUTPUTS)

    def forward(
        self, embeddings: Tensor, positions: Tensor, sparse: Tensor, dense: Tensor, empty: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decode B prompts on one photo, or each on its own where `embeddings` has a row a prompt.

        Args:
            embeddings: `(1 or B, 256, G, G)` from the image encoder.
            positions: `(1, C, G, G)` from `PromptEncoder.dense_positions`.
            sparse: `(B, N, C)` prompt tokens.
            dense: `(B, 8, 4G, 4G)` maps from `NanoPromptEncoder.draw`.
            empty: `(B, N)` 1 where a slot is empty, else 0.

        Returns:
            Mask logits `(B, 4, 4G, 4G)` and IoU predictions `(B, 4)`.
        """
        b, grid = sparse.shape[0], embeddings.shape[-1]
        outputs = torch.cat([self.iou_token.weight, self.mask_tokens.weight])  # (5, C)
        tokens = torch.cat([outputs.unsqueeze(0).expand(b, -1, -1), sparse], dim=1)
        # A slot's bias, with zeros in front for the output tokens: (B, 1, 1, 5 + N).
        key_bias = F.pad(empty * EMPTY_SLOT_BIAS, (len(outputs), 0))[:, None, None, :]
        drawn = self.maps_to_16(F.relu(self.maps_to_8(dense)))  # (B, C, G, G)
        image = (embeddings[:, : self.meaning] + drawn).flatten(2).transpose(1, 2)  # (B, HW, C)
        tokens, image = self.transformer(image, positions.flatten(2).transpose(1, 2), tokens, key_bias)
        fine = self.to_stride_4(image, embeddings[:, self.meaning :])
        features = self.refine(F.relu(fine + self.maps_to_4(dense)))
        filters = torch.stack(
            [mlp(tokens[:, 1 + index]) for index, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )  # (B, 4, 32)
        masks = (filters @ features.flatten(2)).reshape(b, MASK_OUTPUTS, 4 * grid, 4 * grid)
        return masks, self.iou_prediction_head(tokens[:, 0])

    def to_stride_4(self, image: Tensor, detail: Tensor) -> Tensor:
        """Cells `(B, G * G, C)` and packed detail `(1 or B, D, G, G)` as features `(B, 32, 4G, 4G)`."""
        b, grid = image.shape[0], detail.shape[-1]
        coarse = self.up_4(F.relu(self.up_8(image.transpose(1, 2).reshape(b, self.meaning, grid, grid))))
        unpacked: Tensor = coarse + self.unpack(detail)
        return unpacked
