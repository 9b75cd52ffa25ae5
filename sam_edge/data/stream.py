"""Samples out of sources: training examples by number, and one pass over everything.

`TrainingSet` is a map from the number of a draw to an augmented example. What it gives depends on the files, the seed
and that number, and on nothing that was drawn before; therefore resuming at step k, other numbers of workers, and two
ranks with half a batch each all give what one uninterrupted process would have seen. A record that cannot be used
gives way to another of the same source, chosen by the same number, so that batches stay full and ranks stay in step.

`walk` gives each record once, without augmentation, in the order of the files: for evaluation, statistics, and
whatever a teacher writes down for later. Tar shards are then read through by webdataset.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch.utils.data import Dataset

from sam_edge_runtime.errors import DataError, PhotoError
from sam_edge_runtime.photo.read import decode_photo

from .augment import Augmentation, Crop, augment
from .mixture import Mixture
from .order import WINDOW, Purpose, RecordOrder, SourceOrder, generator
from .sa1b import MaskFilter, parse_record
from .sample import Sample
from .shards import RawRecord
from .skips import BrokenRecordError, Skip, SkipLog
from .sources import Source

ATTEMPTS = 64  # records tried for one draw
_KEEP_ALL = MaskFilter()


@dataclass(frozen=True, eq=False)
class Example:
    """What one draw gave.

    Attributes:
        number: of the draw.
        crop: the augmented frame; it has at least one mask, unless photos alone were asked for.
        seen: records read for it, those included that could not be used.
        skipped: the broken ones among them; `SkipLog.add(example.seen, example.skipped)` counts both.
    """

    number: int
    crop: Crop
    seen: int
    skipped: tuple[Skip, ...]


def read_sample(raw: RawRecord, *, annotated: bool, wanted: MaskFilter = _KEEP_ALL, photo_only: bool = False) -> Sample:
    """Decode and check one record.

    A photo of an annotated source is taken as its pixels are stored, because masks are drawn on them; others are
    turned upright, as the runtime does.

    Args:
        raw: the record's files.
        annotated: whether its source has JSON files; a record without one is then broken.
        wanted: which masks to keep.
        photo_only: leave the annotations alone, whether there are any or not.

    Raises:
        BrokenRecordError: a file is missing, truncated or damaged, or photo and masks differ in size.
    """
    if raw.photo is None:
        raise BrokenRecordError("its photo is missing")
    record = None
    if annotated and not photo_only:
        if raw.record is None:
            raise BrokenRecordError("its JSON is missing")
        record = parse_record(raw.record)
    try:
        photo = decode_photo(raw.photo, raw.key, upright=not annotated)
    except PhotoError as error:
        raise BrokenRecordError(str(error)) from error
    if record is None:
        return Sample(photo, (), raw.source, raw.key)
    height, width = photo.shape[:2]
    if record.size != (height, width):
        raise BrokenRecordError(f"its photo has the size {[height, width]} where its JSON says {list(record.size)}")
    masks = tuple(a.rle for a in record.annotations if wanted.keeps(a, height * width))
    return Sample(photo, masks, raw.source, raw.key)


class TrainingSet(Dataset[Example]):
    """Augmented examples by number of the draw, without end; a map-style data set for torch's DataLoader.

    Give the DataLoader a `batch_sampler` of `Steps`, and do not have accelerate divide it once more.
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
        """Prepare the orders; nothing is read yet.

        Args:
            mixture: where examples come from.
            augmentation: how they are varied.
            seed: another seed, another order and other variations.
            wanted: which masks count.
            photos_only: leave the masks alone, as distillation of an encoder does; sources may then have none.
            window: see `RecordOrder`.

        Raises:
            DataError: a source has no annotations and masks are wanted, or its share is too small to be drawn.
            UsageError: a bad seed or window.
        """
        for source in mixture.sources:
            if not photos_only and not source.annotated:
                raise DataError(f"{source.name} has photos without masks: leave it out, or use it for an encoder alone")
        self._mixture, self._augmentation, self._seed = mixture, augmentation, seed
        self._wanted, self._photos_only = wanted, photos_only
        self._sources = SourceOrder(mixture.shares, seed)
        self._records = [
            RecordOrder(source.sizes, seed, stream=stream, window=window)
            for stream, source in enumerate(mixture.sources)
        ]

    def __getitem__(self, number: int) -> Example:
        """The example of a draw, from 0.

        Raises:
            DataError: none of `ATTEMPTS` records of its source could be used.
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
                    if self._photos_only or len(crop.masks):
                        return Example(number, crop, attempt, tuple(skipped))
            index = int(rng.integers(len(source)))
        raise _nothing_usable(source, self._wanted, skipped)

    def probe(self) -> tuple[Skip, ...]:
        """Find one usable record in each source, so that a run which cannot work ends before it starts.

        Errors of DataLoader's workers arrive with a traceback in their text; those of this method are one line.

        Returns:
            What had to be skipped on the way.

        Raises:
            DataError: as above.
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
        return DataError(f"{ATTEMPTS} records of {source.name} in a row could not be used: {skipped[0]}; mend them")
    broken = f" ({len(skipped)} of them are broken: {skipped[0]})" if skipped else ""
    return DataError(
        f"among {ATTEMPTS} records drawn from {source.name} none has a mask that {wanted}{broken}: "
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
        source: where the records are.
        log: counts what was met, and judges it during and at the end of the pass.
        wanted: which masks the samples carry; one that is left with none still comes.
        photos_only: read no annotations.
        part: which part, from 0.
        parts: into how many the records are divided, over ranks for instance.

    Raises:
        DataError: too many records are broken, or of all masks not one is wanted.
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
    log.judge()
    if source.annotated and not photos_only and samples and not masks:
        raise DataError(f"of the {samples} records of {source.name} none has a mask that {wanted}: lower the filter")
