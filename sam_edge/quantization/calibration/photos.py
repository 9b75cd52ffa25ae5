"""The photos of a calibration.

The choice is the same on every machine. Each shard contributes the same number of photos, or all that it has, evenly
spaced; of more shards than photos, evenly spaced ones are used. A photo that cannot be read is recorded and replaced by
another one. Each photo is read once to check and hash it, and again whenever its pixels are needed: only its name and
hash are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sam_edge.data.sample import Sample as AnnotatedPhoto
from sam_edge.data.sample_photos import sample_paths
from sam_edge.data.shards import FileShard, LooseFiles
from sam_edge.data.skips import BrokenRecordError, Skip
from sam_edge.data.sources import SHARD_ENDING, Source, open_source
from sam_edge.data.stream import read_sample
from sam_edge_runtime.arrays import Int64
from sam_edge_runtime.errors import UsageError

COUNT = 32
SAMPLES, SHARDS, PHOTOS = "sample photos", "shards", "photos"


@dataclass(frozen=True, eq=False)
class CalibrationPhoto:
    """A chosen photo.

    Attributes:
        shard: name of its tar or folder, without the path.
        key: its own name there, without the ending.
        sha256: of its file.
        source: that it is read from, under `number`.
    """

    shard: str
    key: str
    sha256: str
    source: Source
    number: int

    @property
    def seed(self) -> int:
        """A number that depends only on the photo's file."""
        return int(self.sha256[:8], 16)

    def read(self) -> AnnotatedPhoto:
        """The photo, with its masks if it has any.

        Raises:
            DataError: it can no longer be read.
        """
        return _read(self.source, self.number)[1]


@dataclass(frozen=True, eq=False)
class CalibrationSet:
    """The photos of a calibration, in the order in which they were chosen.

    Attributes:
        kind: `sample photos`, `shards` or `photos`.
        requested: how many were requested; there may be fewer.
        photos: the chosen ones.
        skipped: those that could not be read, and why.
    """

    kind: str
    requested: int
    photos: tuple[CalibrationPhoto, ...]
    skipped: tuple[Skip, ...]

    def __len__(self) -> int:
        return len(self.photos)

    def to_json(self) -> dict[str, Any]:
        """The manifest's record: names and hashes, no paths."""
        return {
            "source": self.kind,
            "requested": self.requested,
            "used": len(self.photos),
            "photos": [{"shard": each.shard, "key": each.key, "sha256": each.sha256} for each in self.photos],
            "skipped": [
                {"shard": Path(each.source).name, "key": each.key, "reason": each.reason} for each in self.skipped
            ],
        }


def calibration_photos(source: Path | str | None, count: int = COUNT) -> CalibrationSet:
    """Choose photos.

    Args:
        source: a folder of photos, with or without JSON files of masks; a tar like SA-1B's shards, a folder of them, or
            a pattern for several such as `sa_{000000,000400}.tar` (see `sam_edge.data.sources`); None for the sample
            photos of scikit-image, which are few and small.
        count: how many; the result has fewer if the source does.

    Raises:
        UsageError: `count` is below 1, no photo can be read, or scikit-image is not installed.
        DataError: the source is missing, empty or of another kind.
    """
    if count < 1:
        raise UsageError(f"{count} calibration photos are too few: use 1 or more; {COUNT} is usual")
    opened = _samples() if source is None else open_photos(source, count)
    photos, skipped = choose_photos(opened, count, lambda photo, annotated: True)
    if not photos:
        raise UsageError(
            f"none of the {len(skipped)} photos in {opened.name} can be read for calibration; the first: {skipped[0]}"
        )
    return CalibrationSet(_kind(source, opened), count, tuple(photos), tuple(skipped))


def choose_photos(
    opened: Source, count: int, wanted: Callable[[CalibrationPhoto, AnnotatedPhoto], bool]
) -> tuple[list[CalibrationPhoto], list[Skip]]:
    """Choose photos evenly, the same ones on every machine.

    Args:
        opened: what to choose from.
        count: how many; the result has fewer if the source does.
        wanted: whether a photo may be chosen; if not, another one is tried in its place.

    Returns:
        The photos, and the ones that could not be read.
    """
    photos: list[CalibrationPhoto] = []
    skipped: list[Skip] = []
    starts = np.cumsum([0, *opened.sizes[:-1]])
    untried = [start + np.arange(size) for start, size in zip(starts, opened.sizes, strict=True)]
    while len(photos) < count and any(len(numbers) for numbers in untried):
        shares = _shares([len(numbers) for numbers in untried], count - len(photos))
        for shard, share in enumerate(shares):
            places = evenly(len(untried[shard]), share)
            for number in untried[shard][places].tolist():
                try:
                    digest, annotated = _read(opened, number)
                except BrokenRecordError as error:
                    skipped.append(Skip(*opened.record_name(number), str(error)))
                    continue
                photo = CalibrationPhoto(Path(annotated.source).name, annotated.key, digest, opened, number)
                if wanted(photo, annotated):
                    photos.append(photo)
            untried[shard] = np.delete(untried[shard], places)
    return photos, skipped


def _samples() -> Source:
    files = tuple(LooseFiles(path, None) for path in sample_paths())
    return Source("scikit-image", (FileShard(files),), annotated=False)


def open_photos(location: Path | str, count: int) -> Source:
    """The source; of a folder with more shards than photos only `count` are opened: each takes a second or two."""
    folder = Path(location)
    if folder.is_dir():
        tars = sorted(path for path in folder.iterdir() if path.suffix.lower() == SHARD_ENDING)
        if len(tars) > count:
            opened = [open_source(tars[place]) for place in evenly(len(tars), count)]
            shards = tuple(shard for each in opened for shard in each.shards)
            return Source(str(location), shards, any(each.annotated for each in opened))
    return open_source(location)


def _kind(source: Path | str | None, opened: Source) -> str:
    if source is None:
        return SAMPLES
    return PHOTOS if all(isinstance(shard, FileShard) for shard in opened.shards) else SHARDS


def _read(source: Source, number: int) -> tuple[str, AnnotatedPhoto]:
    """A photo's hash, and the photo. One without JSON has no masks, even if others of the source have some."""
    raw = source.read(number)
    photo = read_sample(raw, annotated=raw.record is not None)
    return hashlib.sha256(raw.photo or b"").hexdigest(), photo


def _shares(sizes: Sequence[int], count: int) -> list[int]:
    """How many of `count` photos each shard contributes: as equal as `sizes` allow, a rest from evenly spaced ones."""
    available = np.array(sizes, np.int64)
    shares = np.zeros_like(available)
    left = min(count, int(available.sum()))
    while left:
        giving = np.flatnonzero(shares < available)
        if left < len(giving):
            giving = giving[evenly(len(giving), left)]
        given = np.minimum(available[giving] - shares[giving], left // len(giving))
        shares[giving] += given
        left -= int(given.sum())
    return [int(share) for share in shares]


def evenly(size: int, count: int) -> Int64:
    """`count` different places out of `size`, each in the middle of its part."""
    return np.asarray((2 * np.arange(count, dtype=np.int64) + 1) * size // max(2 * count, 1), np.int64)
