"""What a writer is, and what several share: categories, the loss of masks, and photos beside them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from sam_edge.annotation.pieces import packed
from sam_edge.data.skips import BrokenRecordError
from sam_edge.datasets.entries import Entry

RLE, UNCOMPRESSED, POLYGONS = "rle", "uncompressed", "polygons"
UNNAMED = "object"  # the category of masks without a name


@dataclass
class Loss:
    """What masks lose where a format cannot hold them exactly.

    Attributes:
        changed: masks that are not as they were.
        gone: those of them without a pixel left.
        lowest: lowest IoU of a mask and what was written of it.
        total: sum of IoUs over all masks.
        masks: how many were written.
    """

    changed: int = 0
    gone: int = 0
    lowest: float = 1.0
    total: float = 0.0
    masks: int = 0

    def add(self, iou: float) -> None:
        """Count a mask by the IoU with what was written of it."""
        self.masks += 1
        self.total += iou
        self.changed += iou < 1.0
        self.gone += iou == 0.0
        self.lowest = min(self.lowest, iou)

    def __str__(self) -> str:
        if not self.changed:
            return "all masks are exactly as they were"
        gone = f", {self.gone:,} of them are gone" if self.gone else ""
        return (
            f"{self.changed:,} of {self.masks:,} masks changed{gone}; IoU with the masks: mean "
            f"{self.total / self.masks:.4f}, lowest {self.lowest:.4f}"
        )


@dataclass
class Categories:
    """Numbers of categories, in the order in which they are met.

    Attributes:
        first: number of the first one.
        numbers: by name; those that are there at the beginning keep theirs.
    """

    first: int = 1
    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, name: str | None) -> int:
        """The number of a name; a new one gets the next."""
        return self.numbers.setdefault(name or UNNAMED, max([self.first - 1, *self.numbers.values()]) + 1)


class Writer(ABC):
    """Writes entries into a folder that is put in place when all are written.

    Attributes:
        masks: the forms of masks that can be chosen, the default first; none: there is no choice.
        photos: whether photos are always written.
        dots: whether names of files may have dots.
        loss: what masks have lost.
    """

    masks: ClassVar[tuple[str, ...]] = ()
    photos: ClassVar[bool] = False
    dots: ClassVar[bool] = True

    def __init__(self, folder: Path, form: str | None, *, with_photos: bool) -> None:
        self.folder, self.with_photos = folder, with_photos
        self.form = form or next(iter(self.masks), RLE)
        self.loss = Loss()

    @abstractmethod
    def add(self, entry: Entry) -> None:
        """Write an entry.

        Raises:
            BrokenRecordError: the format cannot hold it; nothing of it was written.
        """

    @abstractmethod
    def finish(self) -> None:
        """Write what is known at the end only."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file; `name` is relative to the folder, and its last part is made of an entry's `stem`."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def write_photo(self, entry: Entry, folder: str, ending: str = "") -> str:
        """Write an entry's photo if photos are written; its file's name.

        Args:
            entry: the photo.
            folder: where it is written, relative to the writer's; "" for the writer's own.
            ending: of the stem.

        Raises:
            BrokenRecordError: the photo is missing or damaged.
        """
        if not self.with_photos:
            return entry.photo_name
        kind, content = packed(photo_of(entry), entry.stem)
        name = f"{entry.stem}{ending}.{kind}"
        self.write(f"{folder}/{name}" if folder else name, content)
        return name


def photo_of(entry: Entry) -> bytes:
    """The content of an entry's photo.

    Raises:
        BrokenRecordError: it is missing.
    """
    if not entry.photo:
        raise BrokenRecordError("its photo is missing: name the folder of the photos with --photos")
    return entry.photo
