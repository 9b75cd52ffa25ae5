"""Which photos a quantizer sees.

The choice is the same on every machine. Each shard gives the same number of photos, as far as it has them, and they
lie evenly spaced in it; where there are more shards than photos wanted, so do the shards. A photo that cannot be read
is named and gives way to one that has not been chosen. Photos are looked at once, to know that they can be read and to
hash them, and after that read again whenever they are asked for: what is kept of each is a name and a hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_edge.data.sample import Sample as AnnotatedPhoto
from sam_edge.data.sample_photos import sample_paths
from sam_edge.data.shards import FileShard, LooseFiles
from sam_edge.data.skips import BrokenRecordError, Skip
from sam_edge.data.sources import SHARD_ENDING, Source, open_source
from sam_edge.data.stream import read_sample
from sam_edge_runtime.errors import UsageError

COUNT = 32
SAMPLES, SHARDS, PHOTOS = "sample photos", "shards", "photos"

Places = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CalibrationPhoto:
    """A photo that was chosen.

    Attributes:
        shard: name of its tar or folder, without the path.
        key: its own name there, without the ending.
        sha256: of its file.
        source: where it is read from, under `number`.
    """

    shard: str
    key: str
    sha256: str
    source: Source
    number: int

    @property
    def seed(self) -> int:
        """A number that is the same wherever this photo is found."""
        return int(self.sha256[:8], 16)

    def read(self) -> AnnotatedPhoto:
        """The photo, with its masks where it has any.

        Raises:
            DataError: it was there before and cannot be read any more.
        """
        return _read(self.source, self.number)[1]


@dataclass(frozen=True, eq=False)
class CalibrationSet:
    """The photos of a calibration, in the order of the choice.

    Attributes:
        kind: `sample photos`, `shards` or `photos`.
        asked: how many were wanted; there may be fewer.
        photos: the chosen ones.
        skipped: those that could not be read, and why.
    """

    kind: str
    asked: int
    photos: tuple[CalibrationPhoto, ...]
    skipped: tuple[Skip, ...]

    def __len__(self) -> int:
        return len(self.photos)

    def to_json(self) -> dict[str, Any]:
        """What a manifest says of it: names and hashes, and no paths."""
        return {
            "source": self.kind,
            "asked": self.asked,
            "used": len(self.photos),
            "photos": [{"shard": each.shard, "key": each.key, "sha256": each.sha256} for each in self.photos],
            "skipped": [
                {"shard": Path(each.source).name, "key": each.key, "reason": each.reason} for each in self.skipped
            ],
        }


def calibration_photos(source: Path | str | None, count: int = COUNT) -> CalibrationSet:
    """Choose photos.

    Args:
        source: a folder of photos, with or without their JSON; a tar as SA-1B's shards are, a folder of them, or a
            pattern for several such as `sa_{000000,000400}.tar` (see `sam_edge.data.sources`); None for the sample
            photos that come with scikit-image, which are few and small.
        count: how many; fewer where there are not so many.

    Raises:
        UsageError: fewer than one is wanted, none can be read, or there is no scikit-image to give sample photos.
        DataError: the source is missing, empty or no such thing.
    """
    if count < 1:
        raise UsageError(f"{count} photos to calibrate with are too few: at least 1, {COUNT} are usual")
    found = _samples() if source is None else _open(source, count)
    photos: list[CalibrationPhoto] = []
    skipped: list[Skip] = []
    starts = np.cumsum([0, *found.sizes[:-1]])
    untried = [start + np.arange(size) for start, size in zip(starts, found.sizes, strict=True)]
    while len(photos) < count and any(len(numbers) for numbers in untried):
        shares = _shares([len(numbers) for numbers in untried], count - len(photos))
        for shard, share in enumerate(shares):
            places = _evenly(len(untried[shard]), share)
            for number in untried[shard][places].tolist():
                try:
                    photos.append(_photo(found, number))
                except BrokenRecordError as error:
                    skipped.append(Skip(*found.record_name(number), str(error)))
            untried[shard] = np.delete(untried[shard], places)
    if not photos:
        raise UsageError(
            f"none of the {len(skipped)} photos in {found.name} can be read to calibrate with; the first: {skipped[0]}"
        )
    return CalibrationSet(_kind(source, found), count, tuple(photos), tuple(skipped))


def _samples() -> Source:
    files = tuple(LooseFiles(path, None) for path in sample_paths())
    return Source("scikit-image", (FileShard(files),), annotated=False)


def _open(what: Path | str, count: int) -> Source:
    """The source; of a folder with more shards than are needed only some are opened: each takes a second or two."""
    folder = Path(what)
    if folder.is_dir():
        tars = sorted(path for path in folder.iterdir() if path.suffix.lower() == SHARD_ENDING)
        if len(tars) > count:
            opened = [open_source(tars[place]) for place in _evenly(len(tars), count)]
            shards = tuple(shard for each in opened for shard in each.shards)
            return Source(str(what), shards, any(each.annotated for each in opened))
    return open_source(what)


def _kind(source: Path | str | None, found: Source) -> str:
    if source is None:
        return SAMPLES
    return PHOTOS if all(isinstance(shard, FileShard) for shard in found.shards) else SHARDS


def _photo(source: Source, number: int) -> CalibrationPhoto:
    digest, photo = _read(source, number)
    return CalibrationPhoto(Path(photo.source).name, photo.key, digest, source, number)


def _read(source: Source, number: int) -> tuple[str, AnnotatedPhoto]:
    """A photo's hash and the photo. One without JSON is taken without masks, even where others have some."""
    raw = source.read(number)
    photo = read_sample(raw, annotated=raw.record is not None)
    return hashlib.sha256(raw.photo or b"").hexdigest(), photo


def _shares(sizes: Sequence[int], count: int) -> list[int]:
    """How many of `count` each shard gives: the same, as far as it has them; some give one more, evenly spaced."""
    room = np.array(sizes, np.int64)
    shares = np.zeros_like(room)
    left = min(count, int(room.sum()))
    while left:
        giving = np.flatnonzero(shares < room)
        if left < len(giving):
            giving = giving[_evenly(len(giving), left)]
        given = np.minimum(room[giving] - shares[giving], left // len(giving))
        shares[giving] += given
        left -= int(given.sum())
    return [int(share) for share in shares]


def _evenly(size: int, count: int) -> Places:
    """`count` different places out of `size`, each in the middle of its part."""
    return np.asarray((2 * np.arange(count, dtype=np.int64) + 1) * size // max(2 * count, 1), np.int64)
