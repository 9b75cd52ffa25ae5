"""SAM: an image encoder, a prompt encoder and a mask decoder ("Segment Anything", https://arxiv.org/abs/2304.02643)."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from torch import Tensor, nn

from sam_edge_runtime.bundle.contract import LARGEST_SIDE, SIDE_STEP, SMALLEST_SIDE, side_is_supported
from sam_edge_runtime.bundle.conventions import SAM, Conventions, FeatureMap
from sam_edge_runtime.errors import UsageError

from .hq_mask_decoder import HQMaskDecoder
from .image_encoder import NATIVE_SIDE
from .mask_decoder import MaskDecoder
from .prompt_encoder import PromptEncoder
from .words import WordMaps


class ImageEncoder(Protocol):
    """An image encoder that SAM can use: its embedding has stride 16, and its frame side can be changed.

    Attributes:
        any_side: whether nothing in it depends on the frame's side; if not, the side can change only once.
        further_outputs: the maps that it returns beside the embedding, in order. The mask decoder's `projection` makes
            the features of the conventions of them.
    """

    any_side: bool
    further_outputs: tuple[FeatureMap, ...]

    def __call__(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Normalized photo `(B, 3, H, W)` to embedding `(B, C, H/16, W/16)`.

        With `further_outputs`, a tuple of the embedding and of these.
        """
        ...

    def set_input_side(self, side: int) -> None:
        """Prepare for frames of `side` pixels."""
        ...


class Sam(nn.Module):
    """The three parts under the official names. It holds the weights; `EncoderGraph` and `DecoderGraph` are run.

    Attributes:
        channels: C, channels of the image embedding.
        native_side: frame side in pixels that the weights are trained for.
        side: frame side S in pixels that the parts are set to.
        conventions: how the family takes photos and returns masks.
        words: makes text a prompt; None where the model takes none. `give_words` sets it.
    """

    words: WordMaps | None

    def __init__(
        self,
        image_encoder: nn.Module,
        channels: int = 256,
        *,
        native_side: int = NATIVE_SIDE,
        prompt_encoder: PromptEncoder | None = None,
        mask_decoder: nn.Module | None = None,
        conventions: Conventions = SAM,
    ) -> None:
        super().__init__()
        self.conventions = conventions
        self.channels = channels
        self.native_side = native_side
        self.side = native_side
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder if prompt_encoder is not None else PromptEncoder(channels)
        self.mask_decoder = mask_decoder if mask_decoder is not None else MaskDecoder(channels)
        self.words = None

    def give_words(self, words: WordMaps) -> None:
        """Let the model take text, and say whether a word is in the photo; all else stays as it is.

        Raises:
            UsageError: `words` are made for another embedding, or the model's decoder has no room for them.
        """
        own = self.conventions
        if words.channels != self.channels or own.features or own.object_score or not own.mask_prompts:
            raise UsageError("these words are for nano's embedding: use them with --model nano, or leave them out")
        if own.text_channels is not None:
            raise UsageError("this model takes the embeddings of a text encoder: leave out --words")
        self.words = words
        self.conventions = replace(own, text_channels=words.vector, object_score=True)

    def set_input_side(self, side: int) -> None:
        """Switch to frames of `side` pixels. Load the weights first; a ViT can be switched only once.

        Raises:
            UsageError: `side` is not a multiple of 64 from 256 to 1024, or a ViT's side was changed before.
        """
        check_side(side)
        if side == self.side:
            return
        encoder: ImageEncoder = self.image_encoder  # type: ignore[assignment]  # nn.Module hides its own methods
        if self.side != self.native_side and not encoder.any_side:
            raise UsageError(f"the input size was already changed to {self.side}: build the model again to change it")
        encoder.set_input_side(side)
        self.prompt_encoder.set_input_side(side)
        self.side = side


def use_hq_token_only(sam: Sam) -> None:
    """Make SAM-HQ's decoder return the HQ mask alone.

    Raises:
        UsageError: the model is no SAM-HQ.
    """
    if not isinstance(sam.mask_decoder, HQMaskDecoder):
        raise UsageError("--hq-token-only is for SAM-HQ's models (sam_hq_vit_b, _l, _h, light_hq): omit it")
    sam.mask_decoder.hq_token_only = True
    sam.conventions = replace(sam.conventions, hq_token_only=True)


def require_one_feature(sam: Sam, user: str) -> None:
    """Refuse a model with other tensors than SAM 1's: further features, no mask prompts, or an image of half the frame.

    Args:
        sam: the model.
        user: command or option that handles the embedding alone, for the message.

    Raises:
        UsageError: it has such tensors.
    """
    if sam.conventions.image_stride > 1:
        raise UsageError(
            f"{user} takes models whose image has the frame's size, and this one's has half of it: choose another of "
            "SAM 1's family, such as vit_b, tiny_vit or nano"
        )
    if not sam.conventions.mask_prompts:
        raise UsageError(
            f"{user} takes models with mask prompts, and this one has none: choose one of SAM 1's family, such as "
            "vit_b, tiny_vit or nano"
        )
    if sam.conventions.features:
        names = ", ".join(each.name for each in sam.conventions.features)
        raise UsageError(
            f"{user} takes models whose image encoder returns the embedding alone, and this one also returns {names}: "
            "choose one of SAM 1's family, such as vit_b, tiny_vit or nano"
        )


def check_side(side: int) -> None:
    """Refuse a frame side that no model takes.

    Raises:
        UsageError: it is not a multiple of 64 from 256 to 1024.
    """
    if not side_is_supported(side):
        raise UsageError(
            f"input size {side} is not possible: choose a multiple of {SIDE_STEP} "
            f"from {SMALLEST_SIDE} to {LARGEST_SIDE}"
        )
