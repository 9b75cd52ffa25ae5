"""Rank masks by words: how similar a mask's crop and a text are to CLIP.

Any masks will do: automatic ones, boxes, or those of a prompt. Their crops are embedded in batches and compared with
the embedded words. A softmax over the words and "nothing" turns the cosines into scores, by the factor that the encoder
was trained with; so a mask that shows none of the words has low scores for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Float32, Photo
from sam_edge_runtime.errors import UsageError

from .crops import DEFAULT_CROPS, Crops, CropSettings, crop_masks

Masks = npt.NDArray[np.bool_]
NOTHING = "nothing"
TEMPLATE = "a photo of a {}"  # of OpenAI's prompts for ImageNet, the plainest
BATCH = 32  # crops that are embedded at once


class ClipEncoder(Protocol):
    """What embeds crops and texts.

    Attributes:
        side: of the crops, in pixels.
        mean: RGB in 0..255 of what is no part of the photo.
        scale: factor from cosines to logits.
        notes: what the user should be told of the texts so far, such as one that was cut.
    """

    side: int
    mean: tuple[float, float, float]
    scale: float
    notes: tuple[str, ...]

    def encode_texts(self, texts: Sequence[str]) -> Float32:
        """Unit vectors `(W, D)` of texts."""
        ...

    def encode_crops(self, crops: Crops) -> Float32:
        """Unit vectors `(M, D)` of crops."""
        ...


@dataclass(frozen=True, eq=False)
class Ranking:
    """Masks and words compared.

    Attributes:
        words: in the caller's order.
        cosines: `(M, W)` float32 between the crops' embeddings and the words'.
        scores: `(M, W)` float32, shares of each mask's softmax over the words and "nothing".
    """

    words: tuple[str, ...]
    cosines: Float32
    scores: Float32

    def order(self, word: int = 0) -> list[int]:
        """Indices of the masks, the best for a word first."""
        return [int(index) for index in np.argsort(-self.scores[:, word], kind="stable")]

    def best_words(self) -> list[tuple[str, float]]:
        """Each mask's best word and its score; "nothing" where that has more."""
        best = []
        for row in self.scores:
            left = 1.0 - float(row.sum())
            word = int(row.argmax())
            best.append((NOTHING, left) if left > row[word] else (self.words[word], float(row[word])))
        return best


class MaskRanker:
    """Compares masks of any number of photos with the same words, which are embedded once."""

    def __init__(
        self,
        words: Sequence[str],
        encoder: ClipEncoder,
        settings: CropSettings = DEFAULT_CROPS,
        template: str = TEMPLATE,
    ) -> None:
        """Embed the words.

        Args:
            words: one or more, all different, such as `red cup`.
            encoder: embeds texts and crops.
            settings: of the crops.
            template: the text around a word, with `{}` in its place.

        Raises:
            UsageError: there is no word, one is empty or given twice, or the template has no `{}`.
        """
        if "{}" not in template:
            raise UsageError(f"the template {template!r:.60} has no {{}} for the word: write such as {TEMPLATE!r}")
        plain = [" ".join(word.split()) for word in words]
        if not plain or not all(plain):
            raise UsageError("there is no word, or an empty one: give words such as 'red cup'")
        twice = next((word for index, word in enumerate(plain) if word in plain[:index]), None)
        if twice is not None:
            raise UsageError(f"the word {twice!r:.60} is given twice: leave one out")
        self.words, self._encoder, self._settings = tuple(plain), encoder, settings
        self._texts = encoder.encode_texts([*(template.replace("{}", word) for word in plain), f"a photo of {NOTHING}"])

    def rank(self, photo: Photo, masks: Masks | Iterable[npt.NDArray[np.bool_]]) -> Ranking:
        """Compare the masks of one photo with the words.

        Args:
            photo: `(H, W, 3)` uint8 RGB.
            masks: `(M, H, W)` bool, or one `(H, W)` after the other, of which `BATCH` are in memory at once.

        Raises:
            UsageError: a mask is empty or has another size than the photo.
        """
        settings, encoder = self._settings, self._encoder
        vectors = [
            encoder.encode_crops(
                crop_masks(photo, batch, encoder.side, encoder.mean, settings.enlarge, settings.zero_background)
            )
            for batch in _batches(masks)
        ]
        crops = np.concatenate(vectors) if vectors else np.zeros((0, self._texts.shape[1]), np.float32)
        cosines = crops @ self._texts.T  # (M, W + 1)
        logits = (encoder.scale * (cosines - cosines.max(axis=1, keepdims=True, initial=-1.0))).astype(np.float64)
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        return Ranking(self.words, cosines[:, :-1], shares[:, :-1].astype(np.float32))


def rank_masks(
    photo: Photo,
    masks: Masks | Iterable[npt.NDArray[np.bool_]],
    words: Sequence[str],
    encoder: ClipEncoder,
    settings: CropSettings = DEFAULT_CROPS,
) -> Ranking:
    """Compare masks of one photo with words; see `MaskRanker` for arguments and errors."""
    return MaskRanker(words, encoder, settings).rank(photo, masks)


def box_masks(boxes: npt.ArrayLike, size: tuple[int, int]) -> Masks:
    """Boxes as masks `(M, H, W)`, so that proposals of boxes can be ranked, too.

    Args:
        boxes: `(M, 4)` x0, y0, x1, y1 in pixels of the photo.
        size: (H, W) of the photo.

    Raises:
        UsageError: a box holds no pixel of the photo.
    """
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)
    x, y = np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5
    columns = (x >= corners[:, :1]) & (x < corners[:, 2:3])
    rows = (y >= corners[:, 1:2]) & (y < corners[:, 3:])
    empty = ~(columns.any(axis=1) & rows.any(axis=1))
    if empty.any():
        box = corners[int(empty.argmax())].tolist()
        raise UsageError(f"the box {box} holds no pixel of a photo of {size[1]} x {size[0]}: give x0, y0, x1, y1")
    return rows[:, :, None] & columns[:, None, :]


def _batches(masks: Masks | Iterable[npt.NDArray[np.bool_]]) -> Iterator[Masks]:
    batch: list[npt.NDArray[np.bool_]] = []
    for mask in masks:
        batch.append(mask)
        if len(batch) == BATCH:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)
