"""The two graphs that are exported and run: SAM under the tensor contract of `sam_edge_runtime.bundle.contract`.

Each graph holds only the weights that it uses, takes and returns tensors in the contract's order, and has no control
flow that depends on data. It also computes what the contract fixes: the encoder normalizes the image, and the decoder
adds the position embeddings of the image's cells.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sam_edge_runtime.bundle.contract import PIXEL_MEAN, PIXEL_STD, FrameSize, Label, Layout
from sam_edge_runtime.errors import UsageError

from .layers import is_label
from .prompt_encoder import SeparablePositions
from .sam import Sam


class EncoderGraph(nn.Module):
    """`image (1, 3, H, W)`, RGB in 0..255, to `image_embeddings (1, C, H/16, W/16)`; with NHWC, channels come last."""

    mean: Tensor
    std: Tensor

    def __init__(self, sam: Sam, layout: Layout = Layout.NCHW) -> None:
        super().__init__()
        if sam.further_outputs:  # SAM-HQ
            names = ", ".join(each.name for each in sam.further_outputs)
            raise UsageError(
                f"the image encoder of this model also has the output {names}, which no bundle can hold yet: choose a "
                "model without it, such as vit_b or tiny_vit"
            )
        self.layout = layout
        self.image_encoder = sam.image_encoder
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(PIXEL_STD).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Normalize and encode. Subtracting the mean first keeps padding, which has the mean colour, exactly zero."""
        if self.layout is Layout.NHWC:
            image = image.permute(0, 3, 1, 2)
        out: Tensor = self.image_encoder((image - self.mean) / self.std)
        return out.permute(0, 2, 3, 1) if self.layout is Layout.NHWC else out


class DecoderGraph(nn.Module):
    """An embedding and B prompts of N slots to `low_res_masks (B, 4, H/4, W/4)` and `iou_predictions (B, 4)`.

    Attributes:
        positions: `(1, C, H/16, W/16)` position embeddings of the image's cells.
        tables: computes the same positions from small lookup tables; None to store `positions` in the graph.
    """

    positions: Tensor

    def __init__(self, sam: Sam, layout: Layout = Layout.NCHW, frame: FrameSize | None = None) -> None:
        """The decoder for one frame.

        Args:
            sam: the model.
            layout: axis order of the embedding.
            frame: size of the frame in pixels; None: the square of the model's side.
        """
        super().__init__()
        self.layout = layout
        grid = (frame or FrameSize.square(sam.side)).grid
        self.prompt_encoder = sam.prompt_encoder
        self.mask_decoder = sam.mask_decoder
        self.register_buffer("positions", sam.prompt_encoder.dense_positions(grid).detach(), persistent=False)
        self.tables: SeparablePositions | None = None

    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Decode every prompt.

        Args:
            image_embeddings: `(1, C, H/16, W/16)` from the encoder graph; with NHWC `(1, H/16, W/16, C)`.
            point_coords: `(B, N, 2)` x, y in pixels of the frame.
            point_labels: `(B, N)` values of `Label`.
            mask_input: `(B, 1, H/4, W/4)` logits.
            has_mask_input: `(B)` 1 where `mask_input` counts, else 0.

        Returns:
            Mask logits `(B, 4, H/4, W/4)` and IoU predictions `(B, 4)`; output 0 is the single mask, 1..3 are whole,
            part and subpart.
        """
        if self.layout is Layout.NHWC:
            image_embeddings = image_embeddings.permute(0, 3, 1, 2)
        sparse, dense = self.prompt_encoder(point_coords, point_labels, mask_input, has_mask_input)
        empty = is_label(point_labels, float(Label.EMPTY))
        positions = self.positions if self.tables is None else self.tables()
        masks, iou = self.mask_decoder(image_embeddings, positions, sparse, dense, empty)
        return masks, iou
