"""A photo's masks and how they were made: SA-1B's record, with members of our own that other readers pass over.

    {"image": {.., "sam_edge": {"done", "seconds", "next_mask", "requests"}},
     "annotations": [{.., "sam_edge": {"mask", "source", "name", "annotator", "seconds", "made", "request"}}, ..]}

| member | what |
|---|---|
| `done` | whether somebody has called the photo finished |
| `seconds` | of the image: spent on the photo; of a mask: spent on the mask |
| `mask` | the mask's number in the photo, never given twice; `id` is computed from it |
| `next_mask` | the number that the next mask gets |
| `source` | `person`, or `existing` for masks that were there before people began |
| `name` | what people call the object |
| `made` | when the mask was saved, UTC |
| `request`, `requests` | ids of the requests that were carried out, so that one that comes again is known |
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from sam_edge.annotation.record import IDS_A_PHOTO, kept_mask, sa1b_record
from sam_edge.data.sa1b import STORED, Annotation, parse_record
from sam_edge.data.skips import BrokenRecordError
from sam_edge_runtime.system.documents import parse_json

from .api_error import ApiError, unknown

OWN = "sam_edge"
PERSON, EXISTING = SOURCES = ("person", "existing")
_REQUESTS = 16  # that a record remembers


@dataclass(frozen=True)
class DrawnMask:
    """One mask of a photo.

    Attributes:
        number: in the photo.
        annotation: the mask as SA-1B has it.
        source: of `SOURCES`.
        name: of the object, or None.
        annotator: who made it, or None.
        seconds: spent on it, or None where they are unknown.
        made: when it was saved: ISO 8601, UTC; or None.
        request: id of the request that saved it, or None.
    """

    number: int
    annotation: Annotation
    source: str = PERSON
    name: str | None = None
    annotator: str | None = None
    seconds: float | None = None
    made: str | None = None
    request: str | None = None

    def described(self) -> dict[str, Any]:
        """What the page is told of it."""
        kept = kept_mask(self.annotation)
        kept.pop("crop_box")
        return {
            "mask": self.number,
            **kept,
            "name": self.name,
            "source": self.source,
            "annotator": self.annotator,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class PhotoRecord:
    """The content of a photo's JSON file.

    Attributes:
        size: (H, W) of the upright photo in pixels.
        masks: in the order of their numbers.
        done: whether the photo is finished.
        seconds: spent on it.
        next_number: that the next mask gets.
        requests: ids of the last requests that were carried out.
    """

    size: tuple[int, int]
    masks: tuple[DrawnMask, ...] = ()
    done: bool = False
    seconds: float = 0.0
    next_number: int = 0
    requests: tuple[str, ...] = ()

    @classmethod
    def begun(cls, size: tuple[int, int], existing: Iterable[Annotation]) -> PhotoRecord:
        """The record of a photo that nobody has worked on, with the masks that are there already."""
        masks = tuple(DrawnMask(number, each, EXISTING) for number, each in enumerate(existing))
        return cls(size, masks, next_number=len(masks))

    @classmethod
    def parse(cls, content: bytes) -> PhotoRecord:
        """Read a JSON file. Masks that others added to it count as existing ones.

        Raises:
            BrokenRecordError: it is no record, or a mask is damaged.
        """
        record = parse_record(content)
        if record.orientation == STORED:
            raise BrokenRecordError("its masks refer to the stored photo, not to the upright one")
        document = parse_json(content)
        image, entries = _own(document.get("image")), document.get("annotations")
        masks: list[DrawnMask] = []
        if isinstance(entries, list):
            masks = [_mask(_own(entry), each) for entry, each in zip(entries, record.annotations, strict=True)]
        free = max([_integer(image.get("next_mask"), 0), *(mask.number + 1 for mask in masks)])
        numbered: list[DrawnMask] = []
        taken: set[int] = set()
        for mask in masks:
            if mask.number < 0 or mask.number in taken:
                mask, free = replace(mask, number=free), free + 1  # noqa: PLW2901
            taken.add(mask.number)
            numbered.append(mask)
        requests = image.get("requests")
        return cls(
            record.size,
            tuple(sorted(numbered, key=lambda mask: mask.number)),
            image.get("done") is True,
            _seconds(image.get("seconds")) or 0.0,
            free,
            tuple(each for each in requests if isinstance(each, str)) if isinstance(requests, list) else (),
        )

    def document(self, key: str, file_name: str, number: int) -> dict[str, Any]:
        """The record as it is written; see `sa1b_record`."""
        record = sa1b_record(key, file_name, self.size, [kept_mask(mask.annotation) for mask in self.masks], number)
        image: dict[str, Any] = record["image"]
        image[OWN] = {
            "done": self.done,
            "seconds": round(self.seconds, 3),
            "next_mask": self.next_number,
            "requests": list(self.requests),
        }
        for entry, mask in zip(record["annotations"], self.masks, strict=True):
            entry["id"] = image["image_id"] * IDS_A_PHOTO + mask.number
            entry[OWN] = {
                "mask": mask.number,
                "source": mask.source,
                "name": mask.name,
                "annotator": mask.annotator,
                "seconds": mask.seconds,
                "made": mask.made,
                "request": mask.request,
            }
        return record

    def mask(self, number: int) -> DrawnMask:
        """A mask by its number.

        Raises:
            ApiError: there is none.
        """
        found = next((mask for mask in self.masks if mask.number == number), None)
        if found is None:
            raise unknown(f"this photo has no mask {number}")
        return found

    def added(self, mask: DrawnMask) -> PhotoRecord:
        """With one more mask, which gets the next number.

        Raises:
            ApiError: the photo has as many as there are ids.
        """
        if self.next_number >= IDS_A_PHOTO:
            raise ApiError(409, "full", f"this photo has had {IDS_A_PHOTO} masks: no more are possible")
        numbered = replace(mask, number=self.next_number)
        return replace(self, masks=(*self.masks, numbered), next_number=self.next_number + 1)

    def replaced(self, mask: DrawnMask) -> PhotoRecord:
        """With another mask in place of the one of its number."""
        return replace(self, masks=tuple(mask if each.number == mask.number else each for each in self.masks))

    def removed(self, number: int) -> PhotoRecord:
        """Without a mask."""
        return replace(self, masks=tuple(mask for mask in self.masks if mask.number != number))

    def last_drawn(self) -> DrawnMask | None:
        """The mask that a person added last; None where people added none."""
        return next((mask for mask in reversed(self.masks) if mask.source == PERSON), None)

    def carried_out(self, request: str | None) -> PhotoRecord:
        """With the id of a request that was carried out."""
        return self if request is None else replace(self, requests=(*self.requests, request)[-_REQUESTS:])


def _own(holder: object) -> dict[str, Any]:
    own = holder.get(OWN) if isinstance(holder, dict) else None
    return own if isinstance(own, dict) else {}


def _mask(own: dict[str, Any], annotation: Annotation) -> DrawnMask:
    source = own.get("source")
    return DrawnMask(
        _integer(own.get("mask"), -1),
        annotation,
        source if source in SOURCES else EXISTING,
        _text(own.get("name")),
        _text(own.get("annotator")),
        _seconds(own.get("seconds")),
        _text(own.get("made")),
        _text(own.get("request")),
    )


def _integer(value: object, default: int) -> int:
    return value if type(value) is int and 0 <= value < IDS_A_PHOTO else default


def _seconds(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < float("inf") else None  # type: ignore[operator, arg-type]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
