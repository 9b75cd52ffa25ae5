"""The two graphs that are exported and run: SAM under the tensor contract of `sam_edge_runtime.bundle.contract`.

Each graph holds only the weights that it uses, takes and returns tensors in the contract's order, and has no control
flow that depends on data. It also computes what the contract fixes: the encoder normalizes the image, and the decoder
adds the position embeddings of the image's cells.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from sam_edge_runtime.bundle.contract import PIXEL_MEAN, PIXEL_STD, FrameSize, Label, Layout

from .hq_mask_decoder import HQMaskDecoder
from .layers import is_label
from .prompt_encoder import SeparablePositions
from .sam import Sam
from .sam2_mask_decoder import SAM2MaskDecoder
from .text_token import NAME, text_token_of
from .words import expected_iou

# Parts of the model that the encoder's graph computes.
_ENCODER_PARTS = (
    "image_encoder",
    *(f"mask_decoder.{part}" for decoder in (HQMaskDecoder, SAM2MaskDecoder) for part in decoder.per_photo),
)


def in_encoder_graph(layer: str) -> bool:
    """Whether a layer or block of the model, such as `image_encoder.stem`, is computed in the encoder's graph."""
    return any(layer == part or layer.startswith(f"{part}.") for part in _ENCODER_PARTS)


PRESENT = 10.0  # object score of a prompt without text, where the model takes text


class EncoderGraph(nn.Module):
    """`image (1, 3, H, W)`, RGB in 0..255, to `image_embeddings (1, C, H/16, W/16)`; with NHWC, channels come last.

    Attributes:
        projection: makes the features of the model's conventions of the encoder's outputs; None where there are none.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, sam: Sam, layout: Layout = Layout.NCHW) -> None:
        super().__init__()
        self.layout = layout
        self.image_encoder = sam.image_encoder
        decoder: Any = sam.mask_decoder
        self.projection: nn.Module | None = decoder.projection() if sam.conventions.features else None
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(PIXEL_STD).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Normalize and encode. Subtracting the mean first keeps padding, which has the mean colour, exactly zero.

        Returns:
            The embedding; with features of the conventions, a tuple of the embedding and these.
        """
        if self.layout is Layout.NHWC:
            image = image.permute(0, 3, 1, 2)
        outputs = self.image_encoder((image - self.mean) / self.std)
        if self.projection is None:
            return self._in_layout(outputs)
        return tuple(self._in_layout(each) for each in self.projection(*outputs))

    def _in_layout(self, maps: Tensor) -> Tensor:
        return maps.permute(0, 2, 3, 1) if self.layout is Layout.NHWC else maps


class DecoderGraph(nn.Module):
    """An embedding and B prompts of N slots to `low_res_masks (B, 4, H/4, W/4)` and `iou_predictions (B, 4)`.

    Where the model has an object score, `object_score_logits (B, 1)` follow.

    Attributes:
        positions: `(1, C, H/16, W/16)` position embeddings of the image's cells.
        pads_boxes: whether the graph adds a padding point to prompts with a box.
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
        self.mask_decoder = _per_prompt(sam.mask_decoder)
        self.pads_boxes = bool(getattr(sam.mask_decoder, "pads_boxes", False))
        self.register_buffer("positions", sam.prompt_encoder.dense_positions(grid).detach(), persistent=False)
        self.tables: SeparablePositions | None = None

    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor | None = None,
        has_mask_input: Tensor | None = None,
        feature_0: Tensor | None = None,
        feature_1: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Decode every prompt.

        Args:
            image_embeddings: `(1, C, H/16, W/16)` from the encoder graph; with NHWC `(1, H/16, W/16, C)`.
            point_coords: `(B, N, 2)` x, y in pixels of the frame.
            point_labels: `(B, N)` values of `Label`.
            mask_input: `(B, 1, H/4, W/4)` logits; None where the model has no mask prompts, as the next.
            has_mask_input: `(B)` 1 where `mask_input` counts, else 0.
            feature_0: the first feature of the model's conventions, from the encoder graph; None where it has none.
            feature_1: the second, likewise.

        Returns:
            Mask logits `(B, 4, H/4, W/4)` and IoU predictions `(B, 4)`; output 0 is the single mask, 1..3 are whole,
            part and subpart. Then, where the model has them, object scores `(B, 1)`.
        """
        maps = self.nchw(image_embeddings, feature_0, feature_1)
        return self.decode(maps, point_coords, point_labels, mask_input, has_mask_input)

    def nchw(self, *maps: Tensor | None) -> tuple[Tensor, ...]:
        """The embedding and the features that there are, from the graph's axis order to NCHW."""
        given = tuple(each for each in maps if each is not None)
        return tuple(each.permute(0, 3, 1, 2) for each in given) if self.layout is Layout.NHWC else given

    def decode(
        self,
        maps: tuple[Tensor, ...],
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor | None,
        has_mask_input: Tensor | None,
        token: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, ...]:
        """As `forward`; `maps` are the embedding and the features, NCHW.

        Args:
            maps: as above.
            point_coords: as for `forward`.
            point_labels: as for `forward`.
            mask_input: as for `forward`.
            has_mask_input: as for `forward`.
            token: one more prompt token `(B, 1, C)`, and `(B, 1)` 1 where it is an empty slot; None: there is none.
        """
        if self.pads_boxes:
            point_coords, point_labels = with_padding_point(point_coords, point_labels)
        sparse, dense = self.prompt_encoder(point_coords, point_labels, mask_input, has_mask_input)
        empty = is_label(point_labels, float(Label.EMPTY))
        if token is not None:
            sparse, empty = torch.cat([sparse, token[0]], dim=1), torch.cat([empty, token[1]], dim=1)
        positions = self.positions if self.tables is None else self.tables()
        outputs: tuple[Tensor, ...] = self.mask_decoder(*maps, positions, sparse, dense, empty)
        return outputs


class WordDecoderGraph(DecoderGraph):
    """The decoder of a model that takes text: `DecoderGraph` with two more inputs.

    Attributes:
        words: makes a map of a word's vector.
    """

    def __init__(self, sam: Sam, layout: Layout = Layout.NCHW, frame: FrameSize | None = None) -> None:
        """As `DecoderGraph`.

        Raises:
            TypeError: the model takes no text.
        """
        super().__init__(sam, layout, frame)
        if sam.words is None:
            raise TypeError("the model takes no text")
        self.words = sam.words

    def forward(  # type: ignore[override]  # text stands where other families have features
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        text_embeddings: Tensor,
        has_text: Tensor,
    ) -> tuple[Tensor, ...]:
        """Decode every prompt.

        Args:
            image_embeddings: as in `DecoderGraph`, like the next four.
            point_coords: `(B, N, 2)`.
            point_labels: `(B, N)`.
            mask_input: `(B, 1, H/4, W/4)`; it counts instead of the word's map.
            has_mask_input: `(B)`.
            text_embeddings: `(B, D)` vectors of words.
            has_text: `(B)` 1 where `text_embeddings` counts, else 0.

        Returns:
            Mask logits `(B, 4, H/4, W/4)` and IoU predictions `(B, 4)`. Of text alone, all four are the word's map, and
            their IoU prediction is the expected IoU times the probability that the word is in the photo: what the
            decoder makes of a mask prompt without clicks is worse, and rounding changes it most. Then logits of
            that probability, `(B, 1)`; `PRESENT` without text.
        """
        maps = self.nchw(image_embeddings)
        drawn, presence = self.words(*maps, text_embeddings)
        text = has_text.unsqueeze(-1)  # (B, 1)
        from_text = (text * (1.0 - has_mask_input.unsqueeze(-1))).unsqueeze(-1).unsqueeze(-1)  # (B, 1, 1, 1)
        points = (1.0 - (-point_labels).clamp(0.0, 1.0)).amax(dim=1, keepdim=True)  # 1 with a click or a box
        masks, iou = self.decode(
            maps,
            point_coords,
            point_labels,
            has_mask_input.reshape(-1, 1, 1, 1) * mask_input + from_text * drawn,
            has_mask_input + from_text.flatten(0),
        )
        alone = from_text * (1.0 - points).unsqueeze(-1).unsqueeze(-1)
        flat = alone.flatten(1)  # (B, 1)
        # Times one and plus zero: without text, outputs are the plain decoder's, bit for bit.
        masks = masks * (1.0 - alone) + alone * drawn
        expected = expected_iou(drawn) * presence.sigmoid()
        scores = iou * (1.0 - flat) + flat * expected
        present = text * presence + (1.0 - text) * PRESENT
        return masks, scores, present


class TextDecoderGraph(DecoderGraph):
    """The decoder's graph of a model with a text token. `text_embeddings` and `has_text` follow the mask prompt.

    Raises:
        UsageError: the model has no text token.
    """

    def __init__(self, sam: Sam, layout: Layout = Layout.NCHW, frame: FrameSize | None = None) -> None:
        super().__init__(sam, layout, frame)
        self.text_token = text_token_of(sam)

    def forward(  # type: ignore[override]  # two inputs more
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        text_embeddings: Tensor,
        has_text: Tensor,
        feature_0: Tensor | None = None,
        feature_1: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Decode every prompt; see `DecoderGraph` for the other arguments and the outputs.

        Args:
            image_embeddings: as there.
            point_coords: as there.
            point_labels: as there.
            mask_input: as there.
            has_mask_input: as there.
            text_embeddings: `(B, D)` unit vectors.
            has_text: `(B)` 1 where `text_embeddings` counts, else 0.
            feature_0: as there.
            feature_1: as there.
        """
        maps = self.nchw(image_embeddings, feature_0, feature_1)
        token = self.text_token(text_embeddings, has_text)
        return self.decode(maps, point_coords, point_labels, mask_input, has_mask_input, token)


def decoder_graph(sam: Sam, layout: Layout = Layout.NCHW, frame: FrameSize | None = None) -> DecoderGraph:
    """The decoder graph of a model: plain, with words, or with a text token."""
    if sam.words is not None:
        return WordDecoderGraph(sam, layout, frame)
    return (TextDecoderGraph if hasattr(sam, NAME) else DecoderGraph)(sam, layout, frame)


def with_padding_point(coords: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Append a slot `(B, N + 1, 2)`, `(B, N + 1)`: a padding point where the prompt has a box, else an empty slot."""
    has_box = is_label(labels, float(Label.BOX_BOTTOM_RIGHT)).sum(dim=1, keepdim=True)
    label = has_box * float(Label.PADDING - Label.EMPTY) + float(Label.EMPTY)
    return torch.cat([coords, coords[:, :1] * 0.0], dim=1), torch.cat([labels, label], dim=1)


def _per_prompt(decoder: nn.Module) -> nn.Module:
    """A mask decoder without the submodules that are computed once a photo; it shares the parameters."""
    per_photo = getattr(decoder, "per_photo", ())
    if not per_photo:
        return decoder
    copied = copy.copy(decoder)
    copied._modules = {name: child for name, child in decoder._modules.items() if name not in per_photo}
    return copied
