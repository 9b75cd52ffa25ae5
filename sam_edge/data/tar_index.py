"""The index of a tar shard: offset and length of each record.

A tar has no table of contents, so its headers are read once, which skips the files' content: a second or two for a
shard of SA-1B's ten gigabytes. Afterwards any record can be read by itself. So the order of a training run can be a
pure function of its seed, and a resumed run need not read again what it has seen. The index of a large shard is kept in
the cache folder, under a hash of the shard's path, size and time of change. Why this is not a library's:
docs/decisions/0009-tar-index.md.

The files of a record (see `pairs`) need not lie side by side.
"""

from __future__ import annotations

import hashlib
import io
import stat
import tarfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from sam_edge.weights.cache import cache_folder
from sam_edge_runtime.errors import DataError, OutputError, UsageError
from sam_edge_runtime.system.files import write_file

from .pairs import RECORD_ENDING, is_further_part, photo_key, split_name

ABSENT = -1
LONGEST_NAME = 4096  # bytes; Linux's PATH_MAX
WORTH_KEEPING = 256 * 2**20  # bytes of a shard; smaller ones are indexed in no time

_FORMAT = "2"  # of the files in the cache
_BLOCK = 512  # POSIX.1-2017, pax: a tar consists of blocks of this size and ends with zeros


@dataclass(frozen=True, eq=False)
class TarIndex:
    """The R records of a shard, in the order of the file.

    Attributes:
        keys: (R) UTF-8 names, without a leading "./".
        places: (R, 4) int64: offset and length in bytes of the photo, then of the JSON; `ABSENT` for a missing file.
    """

    keys: npt.NDArray[np.bytes_]
    places: npt.NDArray[np.int64]

    def select(self, keep: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> TarIndex:
        """The index of some of the records."""
        return TarIndex(self.keys[keep], self.places[keep])


def tar_index(path: Path) -> TarIndex:
    """The index of the shard at `path`, from the cache if it is there.

    Raises:
        DataError: the file is missing, not a tar, or damaged between two records.
        UsageError: webdataset is not installed.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"cannot read shard {path} ({error.strerror}): check the path") from error
    if not stat.S_ISREG(status.st_mode):  # a pipe could block for ever
        raise DataError(f"shard {path} is no regular file: name a tar, or a folder")
    if status.st_size < WORTH_KEEPING:
        return _read_index(path)
    name = f"{path.absolute()}|{status.st_size}|{status.st_mtime_ns}|{_FORMAT}"
    try:
        kept = cache_folder() / "tar-index" / f"{hashlib.sha256(name.encode()).hexdigest()}.npz"
    except UsageError:  # there is no cache folder
        return _read_index(path)
    index = _load(kept)
    if index is None:
        index = _read_index(path)
        with suppress(OutputError):  # without a cache the index is only read again
            _save(kept, index)
    return index


def _read_index(path: Path) -> TarIndex:
    places: dict[str, list[int]] = {}
    try:
        # "r:" refuses compressed tars, which have no offsets to seek to.
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as shard:
            _collect(shard, places)
            damaged_at = _end_is_missing(file, shard.offset)
    except OSError as error:
        raise DataError(f"cannot read shard {path} ({error.strerror}): check the path") from error
    except Exception as error:  # a file that is not a tar raises whatever its bytes lead to
        raise DataError(
            f"shard {path} is not a tar, or compressed ({_reason(error)}): fetch it again, or unpack .tar.gz to .tar"
        ) from error
    if damaged_at is not None:
        raise DataError(f"shard {path} is damaged at byte {damaged_at:,}, and the rest cannot be read: fetch it again")
    places = _paired(places)
    names = [key.encode("utf-8", "surrogateescape") for key in places]
    longest = max(map(len, names), default=0)
    if longest > LONGEST_NAME:  # the array takes as many bytes for every key as for the longest
        raise DataError(f"shard {path} holds a name of {longest:,} bytes, more than any file can have: make it anew")
    keys = np.array(names, np.bytes_)
    return TarIndex(keys, np.array(list(places.values()), np.int64).reshape(-1, 4))


def _collect(shard: tarfile.TarFile, places: dict[str, list[int]]) -> None:
    """Fill in offset and length of each photo and JSON. Of two files of one name the later counts, as for `tar`."""
    while True:
        try:
            member = shard.next()
        except tarfile.ReadError:  # cut off within a file: reading that record reports it
            return
        if member is None:
            return
        shard.members.clear()  # type: ignore[attr-defined]  # tarfile keeps them all
        name = split_name(member.name) if member.isreg() and not member.issparse() else None
        if name is None:
            continue
        key, ending = name
        half = slice(2, 4) if ending == RECORD_ENDING else slice(0, 2)
        places.setdefault(key, [ABSENT] * 4)[half] = member.offset_data, member.size


def _paired(places: dict[str, list[int]]) -> dict[str, list[int]]:
    """The records: JSON files of an annotation folder joined to their photos, further parts of records left out."""
    photos = {key for key, (photo, _, record, _) in places.items() if photo != ABSENT and record == ABSENT}
    for key in [key for key, (photo, *_) in places.items() if photo == ABSENT]:
        owner = photo_key(key, photos)
        if owner is not None:
            places[owner][2:] = places.pop(key)[2:]
            photos.discard(owner)
    complete = {key for key, place in places.items() if ABSENT not in place}
    return {key: place for key, place in places.items() if key not in photos or not is_further_part(key, complete)}


def _end_is_missing(file: IO[bytes], offset: int) -> int | None:
    """The offset of a damaged header, or None: tarfile takes it for the end of the tar without an error."""
    file.seek(offset)
    block = file.read(_BLOCK)
    return offset if len(block) == _BLOCK and any(block) else None


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _load(file: Path) -> TarIndex | None:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            index = TarIndex(arrays["keys"], arrays["places"])
    except Exception:  # noqa: BLE001 - missing or damaged: the index is read again
        return None
    return index if index.places.shape == (len(index.keys), 4) else None


def _save(file: Path, index: TarIndex) -> None:
    content = io.BytesIO()
    np.savez(content, keys=index.keys, places=index.places)
    write_file(file, content.getvalue(), overwrite=True)
