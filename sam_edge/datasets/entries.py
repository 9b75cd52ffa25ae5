"""The records of a source as the writers of other formats take them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from sam_edge.annotation.record import distinct_names
from sam_edge.data.mask_names import MaskNames, names_file
from sam_edge.data.orientation import decode_annotated
from sam_edge.data.sa1b import STORED, Annotation, parse_record
from sam_edge.data.shards import FileShard, RawRecord
from sam_edge.data.skips import BrokenRecordError, Skip
from sam_edge.data.sources import Source
from sam_edge_runtime.errors import PhotoError
from sam_edge_runtime.photo.read import read_size

_LONGEST_STEM = 150  # characters of a file's name without its ending
_UNFIT = re.compile(r'[\x00-\x1f\x7f<>:"|?*]')  # no system takes all of them in names of files


@dataclass(frozen=True, eq=False)
class Entry:
    """A photo and its masks.

    Attributes:
        number: of the entry, from 0.
        stem: a name for its files: without folders, and no other entry has it.
        photo_name: the photo's file name, as the source has it.
        size: (H, W) of the photo in pixels.
        masks: its masks, without empty ones; named where the source names them.
        photo: content of the photo's file; None where photos are not read.
    """

    number: int
    stem: str
    photo_name: str
    size: tuple[int, int]
    masks: tuple[Annotation, ...]
    photo: bytes | None


def entries(
    source: Source,
    skipped: Callable[[Skip], None],
    *,
    with_photos: bool = False,
    photo_folder: Path | None = None,
    dots: bool = True,
) -> Iterator[Entry]:
    """The usable records of a source, in its order.

    Args:
        source: the records.
        skipped: called with each record that cannot be used.
        with_photos: read the photos too; then a record without one is broken, and masks refer to the upright photo.
        photo_folder: where photos lie that are not beside their records.
        dots: whether stems may have dots.

    Raises:
        DataError: a file of names does not fit its records.
    """
    plain = (_stem(source.record_name(number)[1], number) for number in range(len(source)))
    stems = distinct_names(stem if dots else stem.replace(".", "_") for stem in plain)
    names = _names_of(source)
    number = 0
    for shard in source.shards:
        for place in range(len(shard)):
            raw = RawRecord(*shard.name(place), None, None)
            try:
                name = _photo_name(shard, place, raw.key)
                raw = shard.read(place, record_only=not with_photos or photo_folder is not None)
                if with_photos and photo_folder is not None:
                    raw = replace(raw, photo=_content(photo_folder / name))
                entry = _entry(raw, name, lambda s=shard, p=place: s.read(p, photo_only=True).photo or b"")  # type: ignore[misc]
                masks = entry.masks
                if names is not None:
                    told = names.of_record(raw.source, raw.key, len(masks))
                    masks = tuple(replace(each, name=each.name or one) for each, one in zip(masks, told, strict=True))
                yield replace(
                    entry, number=number, stem=stems[number], masks=tuple(each for each in masks if each.area)
                )
            except (BrokenRecordError, PhotoError) as error:
                skipped(Skip(raw.source, raw.key, str(error)))
            number += 1


def _entry(raw: RawRecord, name: str, photo: Callable[[], bytes]) -> Entry:
    if raw.record is None:
        raise BrokenRecordError("its JSON is missing")
    if raw.photo is None:
        record = parse_record(raw.record, photo)
    else:
        record = parse_record(raw.record, raw.photo)
        if record.orientation == STORED or read_size(raw.photo) != record.size:
            _, record = decode_annotated(raw.photo, raw.key, record)  # refuses another size
    return Entry(0, "", name, record.size, record.annotations, raw.photo)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BrokenRecordError(f"its photo {path.name} cannot be read ({error.strerror})") from error


def _photo_name(shard: object, place: int, key: str) -> str:
    """The photo's file name without folders."""
    photo = shard.files[place].photo if isinstance(shard, FileShard) else None
    name = photo.name if photo is not None else f"{PurePosixPath(key).name}.jpg"
    return name if name not in ("", ".", "..") else "photo.jpg"


def _stem(key: str, number: int) -> str:
    """A name for files: no folders, no ending of a photo, no leading dots, and no character that a system refuses."""
    last = key.replace("\\", "/").rpartition("/")[2]
    plain = _UNFIT.sub("_", last.encode("utf-8", "replace").decode()).strip(". ")[:_LONGEST_STEM]
    return plain or f"photo_{number:08d}"


def _names_of(source: Source) -> MaskNames | None:
    """The names of the masks, if all shards have them beside them."""
    shards = {Path(shard.name(0)[0]) for shard in source.shards}
    return MaskNames([source]) if all(names_file(shard).is_file() for shard in shards) else None
