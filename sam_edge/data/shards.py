"""Shards of records: a tar in SA-1B's layout, or photos in folders with or without their JSON.

A shard gives a record by number, for training in random order, and all records in the order of the file, for one pass.

In order, a tar is read by webdataset: once, sequentially. Records by number come from an index of our own, because
webdataset has none that could serve (docs/decisions/0009-tar-index.md). Both give the same records. Those that
webdataset cannot put together (a photo and its JSON that do not lie side by side, the end of a truncated shard) are
read by number.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.errors import UsageError
from sam_edge_runtime.photo.formats import PHOTO_ENDINGS
from sam_edge_runtime.system.text import read_regular

from .instances import record_of
from .label_maps import label_record
from .pairs import RECORD_ENDING, split_name
from .skips import BrokenRecordError, Skip
from .tar_index import ABSENT, TarIndex, tar_index

Chosen = npt.NDArray[np.bool_] | npt.NDArray[np.int64]


@dataclass(frozen=True)
class RawRecord:
    """The files of a record, undecoded.

    Attributes:
        source: path of its shard or folder.
        key: its name there.
        photo: content of the photo's file; None where there is none, or records alone are read.
        record: content of the JSON file; None where there is none, or photos alone are read.
    """

    source: str
    key: str
    photo: bytes | None
    record: bytes | None


class Shard(Protocol):
    """Records, by number or in order."""

    @property
    def annotated(self) -> bool:
        """Whether any record has a JSON file; then one without is broken."""

    def __len__(self) -> int: ...

    def name(self, number: int) -> tuple[str, str]:
        """Source and key of a record."""

    def has_photo(self, number: int) -> bool:
        """Whether a record has a photo, as far as can be told without reading it."""

    def read(self, number: int, *, photo_only: bool = False, record_only: bool = False) -> RawRecord:
        """One record, without its JSON if `photo_only`, and without its photo if `record_only`.

        Raises:
            BrokenRecordError: its bytes cannot be read.
        """

    def stream(self, *, photo_only: bool = False) -> Iterator[RawRecord | Skip]:
        """All records in the order that is fastest to read; a `Skip` for one that cannot be read."""

    def select(self, chosen: Chosen) -> Shard:
        """A shard with some of the records."""


@dataclass(frozen=True, eq=False)
class TarShard:
    """A tar of `KEY.jpg` and `KEY.json`, or of photos without JSON."""

    path: Path
    index: TarIndex

    @classmethod
    def open(cls, path: Path) -> TarShard:
        """Index the tar at `path`.

        Raises:
            DataError: it is missing, not a tar, or damaged between two records.
            UsageError: webdataset is not installed.
        """
        _webdataset()  # refused now if it is not installed
        return cls(path, tar_index(path))

    def __len__(self) -> int:
        return len(self.index.keys)

    @property
    def annotated(self) -> bool:
        """Whether any record has a JSON file."""
        return bool((self.index.places[:, 2] != ABSENT).any())

    def name(self, number: int) -> tuple[str, str]:
        """Source and key of a record."""
        key: bytes = self.index.keys[number]
        return str(self.path), key.decode("utf-8", "surrogateescape")

    def has_photo(self, number: int) -> bool:
        """Whether a record has a photo."""
        return bool(self.index.places[number, 0] != ABSENT)

    def read(self, number: int, *, photo_only: bool = False, record_only: bool = False) -> RawRecord:
        """One record. The tar is opened for each, because processes cannot share an open file's position."""
        source, key = self.name(number)
        photo, photo_bytes, record, record_bytes = self.index.places[number].tolist()
        photo = ABSENT if record_only else photo
        try:
            with self.path.open("rb") as file:
                parts = []
                end = os.fstat(file.fileno()).st_size
                for offset, length in ((photo, photo_bytes), (ABSENT if photo_only else record, record_bytes)):
                    content = None
                    if offset != ABSENT:
                        if offset + length > end:  # reading what a damaged header claims could take all memory
                            raise BrokenRecordError(
                                f"the shard is cut off {offset + length - end} bytes before its end"
                            )
                        file.seek(offset)
                        content = file.read(length)
                    parts.append(content)
        except OSError as error:
            raise BrokenRecordError(f"cannot be read ({error.strerror})") from error
        return RawRecord(source, key, *parts)

    def stream(self, *, photo_only: bool = False) -> Iterator[RawRecord | Skip]:
        """All records: first those that webdataset puts together, then the others by number."""
        waiting = {self.name(number)[1]: number for number in range(len(self))}

        def wanted(name: str) -> bool:
            split = split_name(name)
            return split is not None and split[0] in waiting and not (photo_only and split[1] == RECORD_ENDING)

        group_by_keys, tar_file_expander = _webdataset()
        with suppress(OSError), self.path.open("rb") as file:  # if the file is gone, reading by number reports it
            shard = [{"url": str(self.path), "stream": file}]
            members = tar_file_expander(shard, handler=_stop, select_files=wanted)
            for group in group_by_keys(members, keys=_key_and_ending, handler=_stop):
                key = str(group["__key__"]).removeprefix("./")
                number = waiting.get(key)
                if number is None:
                    continue
                raw = _from_group(str(self.path), key, group)
                _, photo_bytes, _, record_bytes = self.index.places[number].tolist()
                # Equal lengths show that the pair is complete, and that it is the later of two files of one name.
                if _length(raw.photo) == photo_bytes and (photo_only or _length(raw.record) == record_bytes):
                    del waiting[key]
                    yield raw
        yield from _one_by_one(self, list(waiting.values()), photo_only=photo_only)

    def select(self, chosen: Chosen) -> TarShard:
        """The shard with some of its records."""
        return TarShard(self.path, self.index.select(chosen))


def _webdataset() -> tuple[Any, Any]:
    """Webdataset's `group_by_keys` and `tar_file_expander`; imported late because they bring torch."""
    try:
        from webdataset.tariterators import (  # type: ignore[import-untyped]  # noqa: PLC0415
            group_by_keys,
            tar_file_expander,
        )
    except ImportError as error:
        raise UsageError("webdataset, which reads tar shards, is missing: pip install 'sam-edge[train]'") from error
    return group_by_keys, tar_file_expander


def _key_and_ending(name: str) -> tuple[str, str] | tuple[None, None]:
    """A member's key and its ending without a dot, for webdataset."""
    split = split_name(name)
    return (split[0], split[1][1:]) if split is not None else (None, None)


def _length(content: bytes | None) -> int:
    return ABSENT if content is None else len(content)


def _from_group(source: str, key: str, group: dict[str, Any]) -> RawRecord:
    """A record from webdataset's group, whose keys are endings without a dot."""
    photo = next((group[ending[1:]] for ending in PHOTO_ENDINGS if ending[1:] in group), None)
    return RawRecord(source, key, photo, group.get(RECORD_ENDING[1:]))


def _stop(_: Exception) -> bool:
    """Handler for webdataset: stop at a file that cannot be read, without an error."""
    return False


def _one_by_one(shard: Shard, numbers: list[int], *, photo_only: bool) -> Iterator[RawRecord | Skip]:
    for number in numbers:
        try:
            yield shard.read(number, photo_only=photo_only)
        except BrokenRecordError as error:
            yield Skip(*shard.name(number), str(error))


@dataclass(frozen=True)
class LooseFiles:
    """The files of one record: a photo, its JSON, or both.

    Attributes:
        photo: the photo's file.
        record: the JSON file, or a label picture (`label_maps`).
        whole_name: whether the key is the file's whole name, because another photo has the same stem.
        of_all: whether the JSON file describes all photos of the folder.
        key: the record's key, where it is not a file's name.
    """

    photo: Path | None
    record: Path | None
    whole_name: bool = False
    of_all: bool = False
    key: str | None = None

    @property
    def name(self) -> tuple[str, str]:
        """The folder, and the record's key: the file's name without its ending unless `whole_name`."""
        path = self.photo or self.record
        if path is None:
            return "", ""
        return str(path.parent), self.key or (path.name if self.whole_name else path.stem)


def _record_content(files: LooseFiles) -> bytes | None:
    if files.record is None:
        return None
    if files.record.suffix.lower() != RECORD_ENDING:
        return label_record(files.record)
    return record_of(files.record, files.photo.name) if files.of_all and files.photo else read_regular(files.record)


@dataclass(frozen=True, eq=False)
class FileShard:
    """Photos in folders, with or without their JSON, or a list of photos."""

    files: tuple[LooseFiles, ...]

    def __len__(self) -> int:
        return len(self.files)

    @property
    def annotated(self) -> bool:
        """Whether any record has a JSON file."""
        return any(files.record is not None for files in self.files)

    def name(self, number: int) -> tuple[str, str]:
        """Source and key of a record."""
        return self.files[number].name

    def has_photo(self, number: int) -> bool:
        """Whether a record has a photo, which may have gone."""
        return self.files[number].photo is not None

    def read(self, number: int, *, photo_only: bool = False, record_only: bool = False) -> RawRecord:
        """One record."""
        files = self.files[number]
        try:
            photo = read_regular(files.photo) if files.photo and not record_only else None
            record = None if photo_only else _record_content(files)
        except (OSError, ValueError) as error:  # ValueError: no possible name, such as one with a null byte
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise BrokenRecordError(f"cannot be read ({reason})") from error
        return RawRecord(*files.name, photo, record)

    def stream(self, *, photo_only: bool = False) -> Iterator[RawRecord | Skip]:
        """All records, in order."""
        return _one_by_one(self, list(range(len(self))), photo_only=photo_only)

    def select(self, chosen: Chosen) -> FileShard:
        """The shard with some of its records."""
        numbers = np.arange(len(self))[chosen].tolist()
        return FileShard(tuple(self.files[number] for number in numbers))
