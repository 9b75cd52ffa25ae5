"""segment_anything's automatic mask generator around this project's nano: the same network on both sides.

The reference's `Sam` takes any three parts that are called as its own are. nano's prompt encoder wants SAM's padding
slot beside the click and a mask prompt in any case, and its decoder which slots are empty; the adapters give them that.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sam_edge.model import Sam
from sam_edge_runtime.bundle.contract import MASK_STRIDE, PIXEL_MEAN, PIXEL_STD, Label
from tests.reference import import_segment_anything


class _PromptEncoder(nn.Module):
    """nano's prompt encoder, called as the reference's: points `(B, N, 2)` and labels `(B, N)`, nothing else."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.own = sam.prompt_encoder
        self.cells = sam.side // MASK_STRIDE
        self.input_image_size = (sam.side, sam.side)

    def forward(self, points: tuple[Tensor, Tensor], boxes: None, masks: None) -> tuple[Tensor, Tensor]:
        assert boxes is None
        assert masks is None
        coords, labels = points
        b = len(coords)
        coords = torch.cat([coords.float(), torch.zeros(b, 1, 2)], dim=1)
        labels = torch.cat([labels.float(), torch.full((b, 1), float(Label.PADDING))], dim=1)
        none = torch.zeros(b, 1, self.cells, self.cells)
        sparse, dense = self.own(coords, labels, none, torch.zeros(b))
        return sparse, dense

    def get_dense_pe(self) -> Tensor:
        return self.own.dense_positions()


class _MaskDecoder(nn.Module):
    """nano's mask decoder, called as the reference's, for three masks."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.own = sam.mask_decoder

    def forward(self, image_embeddings, image_pe, sparse_prompt_embeddings, dense_prompt_embeddings, multimask_output):
        assert multimask_output
        empty = torch.zeros(sparse_prompt_embeddings.shape[:2])
        masks, iou = self.own(image_embeddings, image_pe, sparse_prompt_embeddings, dense_prompt_embeddings, empty)
        return masks[:, 1:], iou[:, 1:]


def reference_generator(sam: Sam, **keywords):
    """`SamAutomaticMaskGenerator` of the reference package, on nano."""
    reference = import_segment_anything()
    sam.image_encoder.img_size = sam.side
    theirs = reference.modeling.Sam(
        sam.image_encoder, _PromptEncoder(sam), _MaskDecoder(sam), list(PIXEL_MEAN), list(PIXEL_STD)
    ).eval()
    return reference.SamAutomaticMaskGenerator(theirs, **keywords)
