"""What a path or a pattern means.

| what is given | what it is |
|---|---|
| `sa_000000.tar` | one shard |
| a folder with `*.tar` | its shards |
| a folder with photos and JSON files | pairs of one name; one without the other is a broken record |
| a folder with photos | photos without annotations; a JSON that belongs to none of them is passed over |
| a photo | that photo, with the JSON of its name if there is one |
| a `.txt` file | a list of photos without annotations, one path a line, relative to the list; `#` begins a comment |
| `train/sa_{000000..000019}.tar`, `data/*/train.tar` | all that the braces and stars stand for, as one source |

Folders are not searched for folders: a data set's `train` and `val` often lie under one roof and must not be mixed up.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.errors import DataError, UsageError
from sam_edge_runtime.photo.read import PHOTO_ENDINGS

from .shards import FileShard, LooseFiles, RawRecord, Shard, TarShard
from .tar_index import RECORD_ENDING

SHARD_ENDING = ".tar"
LIST_ENDING = ".txt"
_PATTERN_SIGNS = "*?[{"
_HASH_BYTES = 8


@dataclass(frozen=True, eq=False)
class Source:
    """Records under one name, numbered through all shards.

    Attributes:
        name: what was asked for.
        shards: in the order of their names, none of them empty.
        annotated: whether any record has a JSON file; if so, one without is broken.
    """

    name: str
    shards: tuple[Shard, ...]
    annotated: bool

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of records of each shard."""
        return tuple(len(shard) for shard in self.shards)

    def __len__(self) -> int:
        return sum(self.sizes)

    def record_name(self, number: int) -> tuple[str, str]:
        """Source and key of a record, as in `Sample`."""
        shard, place = self._find(number)
        return shard.name(place)

    def read(self, number: int, *, photo_only: bool = False) -> RawRecord:
        """A record by its number.

        Raises:
            BrokenRecordError: its bytes cannot be read.
        """
        shard, place = self._find(number)
        return shard.read(place, photo_only=photo_only)

    def select(self, chosen: npt.NDArray[np.bool_]) -> Source:
        """The source with the records (R) that are true; its name stays."""
        parts = [chosen[end - len(shard) : end] for end, shard in zip(self._ends, self.shards, strict=True)]
        shards = [shard.select(part) for shard, part in zip(self.shards, parts, strict=True) if part.any()]
        return Source(self.name, tuple(shards), self.annotated)

    def split(self, seed: int, validation: float) -> tuple[Source, Source]:
        """Training and validation part, decided for each record by a hash of its key and `seed` alone.

        So it stays where it is when shards are added or sorted otherwise, on every machine, and the same photo in two
        shards lands on the same side.

        Args:
            seed: another seed, another split.
            validation: expected share of the validation part, between 0 and 1.

        Raises:
            UsageError: the share is not between 0 and 1.
            DataError: one of the two parts is left with nothing.
        """
        if not 0 < validation < 1:
            raise UsageError(f"{validation} is no share for validation: use one between 0 and 1, such as 0.05")
        keys = (shard.name(number)[1] for shard in self.shards for number in range(len(shard)))
        held_out = np.array([_fraction(key, seed) < validation for key in keys], np.bool_)
        if held_out.all() or not held_out.any():
            raise DataError(
                f"{self.name} has {len(self)} records, too few to hold out {validation:.1%} of them: "
                "give validation a source of its own"
            )
        return self.select(~held_out), self.select(held_out)

    def part(self, number: int, parts: int) -> Source:
        """One of `parts` that share the records without overlap or loss: whole shards if there are enough of them.

        Raises:
            UsageError: there is no such part.
        """
        if not 0 <= number < parts:
            raise UsageError(f"there is no part {number} of {parts}: they are counted from 0")
        if len(self.shards) >= parts:
            return Source(self.name, self.shards[number::parts], self.annotated)
        return self.select(np.arange(len(self)) % parts == number)

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        """Where each shard's numbers end."""
        return np.cumsum(self.sizes, dtype=np.int64)

    def _find(self, number: int) -> tuple[Shard, int]:
        if not 0 <= number < len(self):
            raise UsageError(f"{self.name} has {len(self)} records, counted from 0: there is no record {number}")
        which = int(np.searchsorted(self._ends, number, side="right"))
        shard = self.shards[which]
        return shard, number - int(self._ends[which]) + len(shard)


def open_source(what: str | Path) -> Source:
    """Find the records behind a path or pattern, and index the shards among them.

    Args:
        what: see the table above.

    Raises:
        DataError: it is missing, empty, matches nothing, holds both shards and photos, or is a shard that is no tar.
        UsageError: webdataset is not installed.
    """
    name = str(what)
    shards: list[Shard] = []
    loose: list[Path] = []  # photos named one by one
    for path in _expanded(name):
        if path.is_dir():
            shards += _folder(path)
        elif path.suffix.lower() == LIST_ENDING:
            shards.append(_listed(path))
        elif path.suffix.lower() in PHOTO_ENDINGS:
            loose.append(path)
        else:
            shards.append(_tar(path))
    if loose:
        shards.append(_pairs(loose, [record for photo in loose if (record := photo.with_suffix(".json")).is_file()]))
    return Source(name, tuple(shards), any(shard.annotated for shard in shards))


def _fraction(key: str, seed: int) -> float:
    """A number from 0 to 1 that looks random and is always the same."""
    digest = hashlib.blake2b(f"{seed}:{key}".encode("utf-8", "surrogateescape"), digest_size=_HASH_BYTES).digest()
    return int.from_bytes(digest, "big") / float(1 << 8 * _HASH_BYTES)


def _expanded(name: str) -> list[Path]:
    """The paths behind a path or pattern: one alternative of the braces after another, the stars of each sorted."""
    path = Path(name).expanduser()
    try:
        if path.exists():
            return [path]
    except (OSError, ValueError) as error:  # ValueError: a null byte; OSError: a name beyond the system's length
        raise DataError(f"no data at {name!r}: it is no path ({error})") from error
    if not any(sign in name for sign in _PATTERN_SIGNS):
        raise DataError(f"no data at {name}: check the path")
    found: list[Path] = []
    for alternative in _braces(str(path)):
        matches = sorted(glob.glob(alternative, recursive=True)) if glob.has_magic(alternative) else [alternative]  # noqa: PTH207
        if not matches:
            raise DataError(f"no data at {name}: nothing matches {alternative}")
        found += [Path(match) for match in matches]
    missing = [str(path) for path in found if not path.exists()]
    if missing:
        raise DataError(f"no data at {missing[0]}, one of {len(missing)} missing paths of {name}: check the braces")
    return found


def _braces(pattern: str) -> list[str]:
    """Braces expanded as webdataset does, by the same package."""
    try:
        from braceexpand import braceexpand  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            "braceexpand, which comes with webdataset, is missing: pip install 'sam-edge[train]'"
        ) from error
    try:
        return list(braceexpand(pattern))
    except ValueError as error:
        raise DataError(f"no data at {pattern}: its braces do not pair ({error})") from error


def _folder(folder: Path) -> list[Shard]:
    """The shards of a folder, or the photos in it as one."""
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot read folder {folder} ({error.strerror}): check its permissions") from error
    tars = [path for path in entries if path.suffix.lower() == SHARD_ENDING]
    photos = [path for path in entries if path.suffix.lower() in PHOTO_ENDINGS]
    records = [path for path in entries if path.suffix.lower() == RECORD_ENDING]
    if tars and photos:
        raise DataError(
            f"folder {folder} holds {len(tars)} shards and {len(photos)} photos: name one kind, such as {folder}/*.tar"
        )
    if tars:
        return [_tar(path) for path in tars]
    if photos:
        return [_pairs(photos, records)]
    if not entries:
        raise DataError(f"folder {folder} is empty: name one with shards (.tar) or photos")
    folders = [path.name for path in entries if path.is_dir()]
    remedy = f"name one of its folders, such as {folder / folders[0]}" if folders else "name another"
    raise DataError(f"folder {folder} holds neither shards (.tar) nor photos ({', '.join(PHOTO_ENDINGS)}): {remedy}")


def _tar(path: Path) -> Shard:
    shard = TarShard.open(path)
    if not len(shard) or (shard.index.places[:, 0] < 0).all():
        raise DataError(f"shard {path} holds no photos ({', '.join(PHOTO_ENDINGS)}): name another")
    return shard


def _pairs(photos: Iterable[Path], records: Iterable[Path]) -> Shard:
    """Photos and JSON files of one name put together. Where no photo has a JSON, stray JSON files are no records."""
    by_stem: dict[Path, Path] = {path.with_suffix(""): path for path in records}
    files = [LooseFiles(photo, by_stem.pop(photo.with_suffix(""), None)) for photo in photos]
    if any(pair.record for pair in files):
        files += [LooseFiles(None, record) for record in by_stem.values()]
    return FileShard(tuple(files))


def _listed(path: Path) -> Shard:
    """The photos of a list. Those that are missing are broken records, met when they are read."""
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise DataError(f"cannot read the photo list {path} ({reason}): write one path a line") from error
    photos = [path.parent / line for line in lines if line and not line.startswith("#")]
    if not photos:
        raise DataError(f"the photo list {path} names no photo: write one path a line")
    return FileShard(tuple(LooseFiles(photo, None) for photo in photos))
