"""Automatic masks with names: each ranked by words, the ones that show a word first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam_edge.prediction.crops import DEFAULT_CROPS, CropSettings
from sam_edge.prediction.naming import NAME, SCORE
from sam_edge.prediction.ranking import NOTHING, MaskRanker
from sam_edge_runtime.arrays import Mask, Photo
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.errors import UsageError

SCORES = "name_scores"  # key of a mask's record


@dataclass(frozen=True)
class RankJob:
    """What masks are ranked by.

    Attributes:
        words: one or more.
        encoder: variant of the text encoder, or `auto` for the one that `checkpoint` holds.
        checkpoint: its weights; None for the downloaded ones.
        tokenizer: its `tokenizer.json`; None for the one beside the weights, or the downloaded one.
        crops: settings of the crops.

    Raises:
        UsageError: there is no word.
    """

    words: tuple[str, ...]
    encoder: str = "clip_vit_b_32"
    checkpoint: str | None = None
    tokenizer: Path | None = None
    crops: CropSettings = DEFAULT_CROPS

    def __post_init__(self) -> None:
        if not self.words:
            raise UsageError("--rank has no words to rank masks by: add --text WORD, once or several times")


class ClipNamer:
    """Names the masks of photo after photo.

    Attributes:
        notes: what the user should be told of the words, such as one that was cut.
    """

    def __init__(self, job: RankJob) -> None:
        """Load the encoder and embed the words.

        Raises:
            UsageError: a word or the encoder's name cannot be used, or torch or `tokenizers` is missing.
            CheckpointError, BundleError: the weights or the tokenizer cannot be used.
        """
        from sam_edge.prediction.clip_encoder import open_clip_encoder  # noqa: PLC0415  # brings torch

        encoder = open_clip_encoder(job.encoder, job.checkpoint, job.tokenizer)
        self._ranker = MaskRanker(job.words, encoder, job.crops)
        self.notes = encoder.notes

    def named(self, photo: Photo, masks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The masks with their best word under `name`, unless that is "nothing", and the scores of all words.

        Args:
            photo: `(H, W, 3)` uint8 RGB.
            masks: as `AutomaticMaskGenerator` gives them with `output_mode="coco_rle"`; none is empty.

        Returns:
            The named masks first, each group by the best word's score.
        """
        ranking = self._ranker.rank(photo, _decoded(masks))
        result = []
        for mask, row, (word, score) in zip(masks, ranking.scores, ranking.best_words(), strict=True):
            scores = {name: round(float(value), 5) for name, value in zip(ranking.words, row, strict=True)}
            name = {} if word == NOTHING else {NAME: word, SCORE: round(score, 5)}
            result.append({**mask, **name, SCORES: scores})
        return sorted(result, key=lambda mask: (NAME not in mask, -max(mask[SCORES].values())))


def _decoded(masks: Sequence[dict[str, Any]]) -> Iterator[Mask]:
    return (rle.decode(mask["segmentation"]) for mask in masks)
