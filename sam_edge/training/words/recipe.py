"""The recipe of a words stage."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from sam_edge.training.optimization import Cosine
from sam_edge.training.ranges import MOST, check_integer, check_positive, check_share
from sam_edge_runtime.errors import UsageError

MODEL = "nano"
MOST_VIEWS = 32


@dataclass(frozen=True)
class WordsRecipe:
    """What is learned, from which photos, and how.

    Attributes:
        data: sources with names of their masks, relative to the data folder.
        steps: optimizer steps.
        photos: photos of a step.
        words: the most words of a photo whose maps count in a step; presence is learned of all.
        fine_every: every so many steps, maps have their part of stride 4; the other steps train the cells alone, at a
            fraction of the time.
        views: how often each photo is encoded: as it is, mirrored, then random crops. One number for all sources, or
            one for each.
        limits: the first so many records of each source are used, 0 for all. One number for all sources, or one for
            each.
        least_squares: whether weights start as ridge regressions; else at random, which takes more steps.
        held_out: every so many records of a source are not learned from: they set the words' thresholds, which maps of
            learned photos would set too high. 0: all photos do both.
        seed: of the initial weights, the crops and the order of photos.
        learning_rate: highest rate of AdamW.
        weight_decay: of all matrices, vectors of words included.
        warm_up: steps in which the rate rises; it then falls as a cosine.
        final_rate: share of the highest rate that is left at the end.
        clip: largest norm of the gradient.
        ema: decay of the running average of the weights, which is what is saved.
        drop: share of the embedding's channels that are dropped in a step.
        noise: standard deviation of noise on the embedding, as a share of each channel's: an encoder in INT8 errs by
            about 0.1.
        focal_weight: factor of the focal loss of maps; dice has 1.
        presence_weight: factor of the loss of presence.
        notes: free text.

    Raises:
        UsageError: a value out of range.
    """

    data: tuple[str, ...]
    steps: int
    photos: int = 16
    words: int = 4
    fine_every: int = 1
    views: tuple[int, ...] = (2,)
    limits: tuple[int, ...] = (0,)
    least_squares: bool = True
    held_out: int = 0
    seed: int = 0
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    warm_up: int = 50
    final_rate: float = 0.02
    clip: float = 1.0
    ema: float = 0.99
    drop: float = 0.1
    noise: float = 0.0
    focal_weight: float = 1.0
    presence_weight: float = 1.0
    notes: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.data:
            raise UsageError("the recipe names no data: write, for example, data = ['train.tar']")
        smallest = {"steps": 1, "photos": 1, "words": 1, "fine_every": 1, "held_out": 0, "seed": 0, "warm_up": 0}
        for name, number in smallest.items():
            check_integer(name, getattr(self, name), number)
        for name, least, most in (("views", 1, MOST_VIEWS + 1), ("limits", 0, MOST)):
            values: tuple[int, ...] = getattr(self, name)
            if len(values) not in (1, len(self.data)):
                raise UsageError(f"{name} {list(values)}: write a number for each of the sources, or one for all")
            for each in values:
                check_integer(name, each, least, most)
        for name in ("learning_rate", "clip"):
            check_positive(name, getattr(self, name))
        for name in ("weight_decay", "final_rate", "ema", "drop", "noise"):
            check_share(name, getattr(self, name))
        if self.drop == 1:
            raise UsageError("drop 1 leaves no channel: write a number below 1")
        for name in ("focal_weight", "presence_weight"):
            if not 0 <= getattr(self, name) < math.inf:  # False for NaN too
                raise UsageError(f"{name} {getattr(self, name)} is out of range: write a finite number from 0")

    @property
    def pretrained_rate(self) -> float:
        """Factor of the rate of pretrained weights, of which there are none."""
        return 1.0

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return Cosine(self.learning_rate, self.steps, self.warm_up, self.final_rate).at(step)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for comparison and for a checkpoint."""
        return asdict(self)
