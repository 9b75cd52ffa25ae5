"""Figures of a round's masks: seconds a mask, masks a photo, masks a minute.

Seconds are people's, or the simulated annotator's; in the automatic stage they are the machine's. A mask that was found
before people began costs none of their time: as in the paper (arXiv 2304.02643, section 4), it counts in masks a photo
and masks a minute, and not in seconds a mask.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sam_edge.annotation.duplicates import repeated_masks
from sam_edge.data.sa1b import parse_record
from sam_edge.data.skips import BrokenRecordError
from sam_edge.data.sources import open_source
from sam_edge.serving.annotation_files import PhotoFigures
from sam_edge.serving.annotation_record import EXISTING, PERSON


@dataclass(frozen=True)
class Work:
    """The figures of a round.

    Attributes:
        photos: with a record.
        drawn: masks that people, or the simulated annotator, made.
        found: masks that the model found alone.
        seconds: of the work: people's, in the automatic stage the machine's.
        machine_seconds: of the automatic masks alone; 0 in the manual stage.
        repeated: masks that repeat another one of their photo (`annotation.duplicates`).
    """

    photos: int
    drawn: int
    found: int
    seconds: float
    machine_seconds: float = 0.0
    repeated: int = 0

    @property
    def seconds_a_mask(self) -> float | None:
        """Seconds for each drawn mask; in the automatic stage for each found one. None where there are none."""
        masks = self.drawn or self.found
        return self.seconds / masks if masks else None

    @property
    def masks_a_photo(self) -> float:
        """All masks of a photo."""
        return (self.drawn + self.found) / max(1, self.photos)

    @property
    def masks_a_minute(self) -> float | None:
        """All masks for each minute of work; None where no time was measured."""
        return 60 * (self.drawn + self.found) / self.seconds if self.seconds else None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **asdict(self),
            "seconds_a_mask": self.seconds_a_mask,
            "masks_a_photo": self.masks_a_photo,
            "masks_a_minute": self.masks_a_minute,
        }


def work_of_people(figures: Collection[PhotoFigures], masks: Path, machine_seconds: float) -> Work:
    """The figures of a session of annotation, whose records are in `masks`."""
    sources = [mask.source for photo in figures for mask in photo.masks]
    return Work(
        len(figures),
        sources.count(PERSON),
        sources.count(EXISTING),
        round(sum(photo.seconds for photo in figures), 3),
        round(machine_seconds, 3),
        _counted(masks)[2],
    )


def work_of_machine(shards: Path, seconds: float) -> Work:
    """The figures of automatic masks in SA-1B's shards."""
    photos, found, repeated = _counted(shards)
    return Work(photos, 0, found, round(seconds, 3), round(seconds, 3), repeated)


def _counted(masks: Path) -> tuple[int, int, int]:
    """Photos, masks and repeated masks of a data set."""
    photos = found = repeated = 0
    source = open_source(masks)
    for number in range(len(source)):
        try:
            raw = source.read(number)
            record = parse_record(raw.record or b"", raw.photo or b"")
        except BrokenRecordError:  # training counts and reports those
            continue
        rles = [each.rle for each in record.annotations if each.area]
        photos, found, repeated = photos + 1, found + len(rles), repeated + repeated_masks(rles)
    return photos, found, repeated
