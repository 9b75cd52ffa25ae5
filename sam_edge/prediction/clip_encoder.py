"""CLIP's kin as an encoder of crops and texts: the torch model, or its exported artifacts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from sam_edge.model.clip import Clip
from sam_edge.weights.cache import cached
from sam_edge.weights.clip_catalogue import tokenizer_of
from sam_edge.weights.clip_checkpoint import LoadedClip, find_clip_source, load_clip
from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.bundle.tokenizer import TextTokenizer
from sam_edge_runtime.errors import UsageError

from .crops import Crops


class TorchClipEncoder:
    """The torch model in fp32. See `sam_edge.prediction.ranking.ClipEncoder` for the attributes.

    Attributes:
        clip: the model.
        masked: whether the last attention sees the mask's patches alone, as "Segment Anything" trains with
            (https://arxiv.org/abs/2304.02643, appendix D.5).
    """

    def __init__(self, clip: Clip, tokenizer: TextTokenizer | None, *, masked: bool = False) -> None:
        """The model as an encoder.

        Args:
            clip: in evaluation mode.
            tokenizer: None where only crops are embedded.
            masked: see the class.
        """
        config = clip.config
        self.clip, self.masked, self._tokenizer = clip, masked, tokenizer
        self.side, self.scale = config.side, math.exp(float(clip.logit_scale.detach()))
        red, green, blue = (255.0 * value for value in config.mean)
        self.mean = (red, green, blue)
        self.notes: tuple[str, ...] = ()

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Float32:
        """Unit vectors `(W, D)` of texts.

        Raises:
            UsageError: a text is empty, or there is no tokenizer.
        """
        if self._tokenizer is None:
            raise UsageError("this encoder has no tokenizer: name its tokenizer.json")
        tokens = self._tokenizer(texts)
        self.notes += tokens.notes
        found: Float32 = self.clip.encode_text(torch.from_numpy(tokens.ids)).numpy()
        return found

    @torch.inference_mode()
    def encode_crops(self, crops: Crops) -> Float32:
        """Unit vectors `(M, D)` of crops."""
        config = self.clip.config
        mean, std = (torch.tensor(each).reshape(1, 3, 1, 1) for each in (config.mean, config.std))
        image = (torch.from_numpy(crops.pixels) / 255.0 - mean) / std
        inside = torch.from_numpy(crops.patches(config.patch)) if self.masked else None
        found: Float32 = self.clip.encode_image(image, inside).numpy()
        return found


def open_clip_encoder(variant: str, checkpoint: str | None = None, tokenizer: Path | None = None) -> TorchClipEncoder:
    """The encoder that `--rank`, `--rank-checkpoint` and `--tokenizer` name.

    Args:
        variant: name of a text encoder, such as `clip_vit_b_32`; or `auto` for the one that `checkpoint` holds.
        checkpoint: its weights; None for the downloaded ones.
        tokenizer: its `tokenizer.json`; None for the one beside the weights, or the downloaded one.

    Raises:
        UsageError: no such variant, or no `tokenizers` library.
        CheckpointError: the weights cannot be used, or are not there.
        BundleError: there is no tokenizer, or it is another model's.
    """
    loaded = load_clip(variant, find_clip_source(variant, checkpoint))
    return TorchClipEncoder(loaded.clip, find_tokenizer(loaded, tokenizer))


def find_tokenizer(loaded: LoadedClip, path: Path | None) -> TextTokenizer:
    """The tokenizer of a loaded model: the named one, the one beside the weights, or the downloaded one.

    Raises:
        UsageError: there is none, or no `tokenizers` library.
        BundleError: it cannot be read, or is another model's.
    """
    config = loaded.clip.config
    found = path or loaded.tokenizer or cached(tokenizer_of(config.title))
    if found is None:
        raise UsageError(
            f"{loaded.variant} has no tokenizer yet: run `sam-edge download {loaded.variant}`, or name its "
            "tokenizer.json with --tokenizer"
        )
    return TextTokenizer(found, config)
