"""Names for masks: which word of a vocabulary says best what a mask shows.

Each word has a map of the photo and a score for being there at all. A word fits a mask where its map is high in the
mask, and where little of the map lies elsewhere: so a mask of hair is called hair, and not the person around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sam_edge_runtime.arrays import Float32, Mask, Photo
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.bundle.contract import SINGLE_OUTPUT
from sam_edge_runtime.bundle.vocabulary import Vocabulary
from sam_edge_runtime.decoding import decode_prompts
from sam_edge_runtime.errors import PromptError, UsageError
from sam_edge_runtime.photo.frame import Frame, fitting_frame
from sam_edge_runtime.prompts import build_prompts
from sam_edge_runtime.system.text import read_text

from .promptable import Promptable

NAME, SCORE = "name", "name_score"  # keys of a mask's record
LEAST_SCORE = 0.25  # of a name that is given
ELSEWHERE = 0.5  # share of the score that a map loses which lies wholly outside of the mask


class Name(NamedTuple):
    """A name, and how well it fits, 0..1."""

    name: str
    score: float


@dataclass(frozen=True, eq=False)
class NamedPhoto:
    """The words' maps of one photo.

    Attributes:
        names: W names.
        presence: `(W)` probability that each is in the photo.
        maps: `(W, H/4, W/4)` probabilities in the frame.
        frame: how the photo lies in it.
    """

    names: tuple[str, ...]
    presence: Float32
    maps: Float32
    frame: Frame

    def name(self, mask: Mask) -> Name | None:
        """The best name of a mask `(H, W)`; None where none fits."""
        inside = self._low_resolution(mask)
        area = inside.sum()
        if area <= 0:
            return None
        within = (self.maps * inside).sum(axis=(1, 2))
        share = within / np.maximum(self.maps.sum(axis=(1, 2)), 1e-6)
        scores = self.presence * (within / area) * (1.0 - ELSEWHERE + ELSEWHERE * share)
        best = int(scores.argmax())
        return Name(self.names[best], float(scores[best])) if scores[best] >= LEAST_SCORE else None

    def _low_resolution(self, mask: Mask) -> Float32:
        """A mask of the photo, sampled at the centres of the maps' pixels; 0 in the frame's padding."""
        rows, columns = self.maps.shape[1:]
        h, w = self.frame.resized_size
        height, width = mask.shape
        y = ((np.arange(rows) + 0.5) * self.frame.size.height / rows * height / h).astype(np.int64)
        x = ((np.arange(columns) + 0.5) * self.frame.size.width / columns * width / w).astype(np.int64)
        nearest = np.minimum(y, height - 1)[:, None], np.minimum(x, width - 1)[None, :]
        sampled: Float32 = mask[nearest].astype(np.float32)
        sampled[y >= height] = 0.0
        sampled[:, x >= width] = 0.0
        return sampled


class Namer:
    """Finds names for the masks of photos.

    Attributes:
        words: the names that it gives.
    """

    def __init__(self, subject: Promptable, words: Sequence[str] = ()) -> None:
        """Prepare.

        Args:
            subject: a bundle or model that takes text.
            words: names to choose from, each known to the vocabulary; none: all of the vocabulary.

        Raises:
            PromptError: it knows no words, or not one of these.
        """
        if subject.vocabulary is None:
            raise PromptError(
                f"{subject.name} knows no words: name a bundle that was exported with --words, or leave out --bundle"
            )
        vocabulary: Vocabulary = subject.vocabulary
        self.words = tuple(dict.fromkeys(vocabulary.names[vocabulary.row(word)] for word in words)) or vocabulary.names
        self._subject, self._vectors = subject, vocabulary.embed(self.words)

    def look(self, photo: Photo) -> NamedPhoto:
        """The words' maps of a photo.

        Raises:
            PhotoError, BackendError: it cannot be encoded or decoded.
        """
        subject = self._subject
        frame = fitting_frame(subject.capacity, photo.shape[:2])
        features = subject.backend.encode(frame.image(photo))
        prompts = build_prompts(frame, None, None, None, None, text=self._vectors)
        decoded = decode_prompts(subject.backend, subject.capacity, features, prompts)
        scores = np.zeros((len(self.words), 1), np.float32) if decoded.object_scores is None else decoded.object_scores
        maps = _probability(decoded.low_res_masks[:, SINGLE_OUTPUT])
        return NamedPhoto(self.words, _probability(scores)[:, 0], maps, frame)

    def named(self, photo: Photo, masks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The masks in their order, with their best word under `name`, and its score, where one fits.

        Args:
            photo: `(H, W, 3)` uint8 RGB.
            masks: as `AutomaticMaskGenerator` gives them with `output_mode="coco_rle"`.
        """
        seen = self.look(photo)
        found = [seen.name(rle.decode(mask["segmentation"])) for mask in masks]
        return [
            mask if name is None else {**mask, NAME: name.name, SCORE: round(name.score, 4)}
            for mask, name in zip(masks, found, strict=True)
        ]


def _probability(logits: Float32) -> Float32:
    probability: Float32 = (1.0 / (1.0 + np.exp(-logits.clip(-60, 60)))).astype(np.float32)
    return probability


def read_words(path: Path) -> tuple[str, ...]:
    """Words of a text file, one a line; `#` begins a comment.

    Raises:
        UsageError: the file cannot be read, or names nothing.
    """
    try:
        lines = [line.partition("#")[0].strip() for line in read_text(path).splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the words in {path} ({error}): write one a line") from error
    words = tuple(line for line in lines if line)
    if not words:
        raise UsageError(f"{path} names no words: write one a line")
    return words
