"""Samples from sources: training examples by number, and one pass over all records.

`TrainingSet` maps the number of a draw to an augmented example. The example depends only on the files, the seed and
that number. So a run that resumes at step k, or that has other numbers of workers or ranks, sees what one uninterrupted
process would have seen. A record that cannot be used is replaced by another of the same source, chosen by the same
number, so that batches stay full.

`walk` gives each record once, without augmentation, in the order of the files: for evaluation, for statistics, and for
the outputs of a teacher. Tar shards are then read sequentially by webdataset.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset

from sam_edge_runtime.errors import DataError, PhotoError
from sam_edge_runtime.photo.read import decode_photo

from .augment import Augmentation, Crop, augment
from .copy_paste import paste
from .mixture import Mixture
from .order import WINDOW, Purpose, RecordOrder, SourceOrder, generator
from .orientation import decode_annotated
from .sa1b import MaskFilter, parse_record
from .sample import Sample
from .shards import RawRecord
from .skips import BrokenRecordError, Skip, SkipLog
from .sources import Source

ATTEMPTS = 64  # records tried for one draw
_KEEP_ALL = MaskFilter()


@dataclass(frozen=True, eq=False)
class Example:
    """The result of one draw.

    Attributes:
        number: the draw's number.
        crop: the augmented frame. It has at least one mask, except with `photos_only`.
        seen: number of records read for it, unusable ones included.
        skipped: the broken ones among them; `SkipLog.add(example.seen, example.skipped)` counts both.
    """

    number: int
    crop: Crop
    seen: int
    skipped: tuple[Skip, ...]


def read_sample(raw: RawRecord, *, annotated: bool, wanted: MaskFilter = _KEEP_ALL, photo_only: bool = False) -> Sample:
    """Decode and check one record.

    The photo is upright, as in the runtime. Masks that refer to the stored pixels are turned with it.

    Args:
        raw: the record's files.
        annotated: whether its source has JSON files; a record without one is then broken.
        wanted: filter for the masks.
        photo_only: do not read the annotations.

    Raises:
        BrokenRecordError: a file is missing, truncated or damaged, or photo and masks differ in size.
    """
    if raw.photo is None:
        raise BrokenRecordError("its photo is missing")
    record = None
    if annotated and not photo_only:
        if raw.record is None:
            raise BrokenRecordError("its JSON is missing")
        record = parse_record(raw.record, raw.photo)
    try:
        if record is None:
            return Sample(decode_photo(raw.photo, raw.key), (), raw.source, raw.key)
        photo, record = decode_annotated(raw.photo, raw.key, record)
    except PhotoError as error:
        raise BrokenRecordError(str(error)) from error
    height, width = record.size
    masks = tuple(a.rle for a in record.annotations if wanted.keeps(a, height * width))
    return Sample(photo, masks, raw.source, raw.key)


class TrainingSet(Dataset[Example]):
    """Augmented examples by the draw's number, without end: a map-style data set for torch's DataLoader.

    Give the DataLoader `Steps` as `batch_sampler`. It divides batches over ranks, so accelerate must not.
    """

    def __init__(
        self,
        mixture: Mixture,
        augmentation: Augmentation,
        seed: int,
        *,
        wanted: MaskFilter = _KEEP_ALL,
        photos_only: bool = False,
        window: int = WINDOW,
    ) -> None:
        """Prepare the orders. Nothing is read yet.

        Args:
            mixture: sources and weights.
            augmentation: options of the augmentation.
            seed: seed of order and augmentation, 0 or more.
            wanted: filter for the masks.
            photos_only: do not read masks, as for distilling an encoder; sources may then have none.
            window: see `RecordOrder`.

        Raises:
            DataError: a source has no annotations although masks are wanted, or its share is too small.
            UsageError: a bad seed or window.
        """
        for source in mixture.sources:
            if not photos_only and not source.annotated:
                raise DataError(f"{source.name} has photos without masks: leave it out, or use it to distil an encoder")
        self._mixture, self._augmentation, self._seed = mixture, augmentation, seed
        self._wanted, self._photos_only = wanted, photos_only
        self._sources = SourceOrder(mixture.shares, seed)
        self._records = [
            RecordOrder(source.sizes, seed, stream=stream, window=window)
            for stream, source in enumerate(mixture.sources)
        ]

    def __getitem__(self, number: int) -> Example:
        """The example of a draw; `number` counts from 0.

        Raises:
            DataError: none of `ATTEMPTS` records of the drawn source can be used.
        """
        which, place = self._sources.draw(number)
        source = self._mixture.sources[which]
        rng = generator(self._seed, Purpose.EXAMPLE, number)
        index = self._records[which].nth(place)
        skipped: list[Skip] = []
        for attempt in range(1, ATTEMPTS + 1):
            try:
                sample = self._read(source, index)
            except BrokenRecordError as error:
                skipped.append(Skip(*source.record_name(index), str(error)))
            else:
                if self._photos_only or sample.rles:
                    crop = augment(sample, self._augmentation, rng)
                    if self._augmentation.paste and rng.random() < self._augmentation.paste:
                        crop = self._pasted_onto(crop, rng)
                    if self._photos_only or len(crop.masks):
                        return Example(number, crop, attempt, tuple(skipped))
            index = int(rng.integers(len(source)))
        raise _nothing_usable(source, self._wanted, skipped)

    def _pasted_onto(self, crop: Crop, rng: np.random.Generator) -> Crop:
        """The crop with objects of another record, drawn by the sources' shares; itself if that one cannot be used."""
        source = self._mixture.sources[int(rng.choice(len(self._records), p=self._mixture.shares))]
        try:
            sample = self._read(source, int(rng.integers(len(source))))
        except BrokenRecordError:  # reported when it is drawn itself
            return crop
        return paste(crop, augment(sample, self._augmentation, rng), self._augmentation, rng)

    def probe(self) -> tuple[Skip, ...]:
        """Read one usable record of each source, so that a run without usable data fails before it starts.

        Errors of DataLoader's workers contain a traceback; those of this method are one line.

        Returns:
            The records that were skipped.

        Raises:
            DataError: a source has no usable record among `ATTEMPTS`.
        """
        skipped: list[Skip] = []
        for which in range(len(self._records)):
            number = 0
            while self._sources.draw(number)[0] != which:
                number += 1
            skipped += self[number].skipped
        return tuple(skipped)

    def _read(self, source: Source, index: int) -> Sample:
        raw = source.read(index, photo_only=self._photos_only)
        return read_sample(raw, annotated=source.annotated, wanted=self._wanted, photo_only=self._photos_only)


def _nothing_usable(source: Source, wanted: MaskFilter, skipped: list[Skip]) -> DataError:
    if len(skipped) == ATTEMPTS:
        return DataError(
            f"{ATTEMPTS} records of {source.name} in a row could not be used: {skipped[0]}; repair or remove them"
        )
    broken = f" ({len(skipped)} of them are broken: {skipped[0]})" if skipped else ""
    return DataError(
        f"none of {ATTEMPTS} records drawn from {source.name} has a mask that {wanted}{broken}: "
        "lower the filter, or leave the source out"
    )


def walk(
    source: Source,
    log: SkipLog,
    *,
    wanted: MaskFilter = _KEEP_ALL,
    photos_only: bool = False,
    part: int = 0,
    parts: int = 1,
) -> Iterator[Sample]:
    """Every usable record of a source, or of one part of it, once.

    Args:
        source: the records.
        log: counts them, and raises when too many are broken.
        wanted: filter for the masks; a sample that is left with none is still given.
        photos_only: do not read annotations.
        part: number of the part to read, from 0.
        parts: number of parts that the records are divided into, over ranks for instance.

    Raises:
        DataError: too many records are broken, or no mask passes the filter.
        UsageError: there is no such part.
    """
    samples = masks = 0
    for shard in source.part(part, parts).shards:
        for raw in shard.stream(photo_only=photos_only):
            try:
                if isinstance(raw, Skip):
                    log.add(1, [raw])
                    continue
                sample = read_sample(raw, annotated=source.annotated, wanted=wanted, photo_only=photos_only)
            except BrokenRecordError as error:
                log.add(1, [Skip(raw.source, raw.key, str(error))])
                continue
            log.add(1)
            samples, masks = samples + 1, masks + len(sample.rles)
            yield sample
    log.check()
    if source.annotated and not photos_only and samples and not masks:
        if wanted == _KEEP_ALL:
            raise DataError(f"the records of {source.name} have no masks: name other data")
        raise DataError(f"none of the {samples} records of {source.name} has a mask that {wanted}: lower the filter")
