"""Sources of records: what a path or a pattern stands for.

| path or pattern | records |
|---|---|
| `sa_000000.tar` | one shard |
| a folder with `*.tar` | its shards |
| a folder with photos and JSON files | pairs of the same name; one without the other is a broken record |
| a folder with two folders such as `images` and `annotations` | the pairs of both |
| a folder with photos and a JSON file of another name | the photos that it describes: COCO, Label Studio, VIA |
| a folder with photos | photos without annotations; a JSON file that belongs to none of them is ignored |
| a JSON file that describes photos: COCO, LVIS, Label Studio, VIA | these photos, beside it or in a folder beside it |
| a folder of BSDS500, Pascal VOC or Cityscapes (`label_layouts`) | photos with the regions of their label pictures |
| a photo | that photo, with the JSON file of the same name if there is one |
| a `.txt` file | a list of photos without annotations, one path a line, relative to the list; `#` begins a comment |
| `train/sa_{000000..000019}.tar`, `data/*/train.tar` | everything that the braces and stars match, as one source |

Subfolders are not searched: `train` and `val` of a data set often lie in one folder and must not be mixed.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.errors import DataError, UsageError
from sam_edge_runtime.photo.formats import PHOTO_ENDINGS
from sam_edge_runtime.system.text import read_text

from .instances import described_photos
from .label_layouts import label_pairs
from .pairs import PHOTO_FOLDERS, RECORD_ENDING, folder_pair, is_drawn, is_further_part
from .shards import FileShard, LooseFiles, RawRecord, Shard, TarShard

SHARD_ENDING = ".tar"
LIST_ENDING = ".txt"
_PATTERN_SIGNS = "*?[{"
_HASH_BYTES = 8
_MOST_DATASETS = 16  # JSON files of a folder that are tried as descriptions of all photos


@dataclass(frozen=True, eq=False)
class Source:
    """The records of one path or pattern, numbered through all shards from 0.

    Attributes:
        name: the path or pattern.
        shards: sorted by name; none is empty.
        annotated: whether any record has a JSON file; then one without is broken.
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

    def read(self, number: int, *, photo_only: bool = False, record_only: bool = False) -> RawRecord:
        """A record by its number, without its JSON if `photo_only`, and without its photo if `record_only`.

        Raises:
            BrokenRecordError: its bytes cannot be read.
        """
        shard, place = self._find(number)
        return shard.read(place, photo_only=photo_only, record_only=record_only)

    def select(self, chosen: npt.NDArray[np.bool_]) -> Source:
        """A source of the same name with the records for which `chosen` (R) is true."""
        parts = [chosen[end - len(shard) : end] for end, shard in zip(self._ends, self.shards, strict=True)]
        shards = [shard.select(part) for shard, part in zip(self.shards, parts, strict=True) if part.any()]
        return Source(self.name, tuple(shards), self.annotated)

    def split(self, seed: int, validation: float) -> tuple[Source, Source]:
        """Training and validation part, chosen for each record by a hash of its key and `seed`.

        So a record stays in its part when shards are added or reordered, on every machine, and a photo that occurs in
        two shards is in one part.

        Args:
            seed: seed of the split.
            validation: expected share of the validation part, between 0 and 1.

        Raises:
            UsageError: the share is not between 0 and 1.
            DataError: one of the two parts would be empty.
        """
        if not 0 < validation < 1:
            raise UsageError(
                f"a validation share of {validation} is out of range: use one between 0 and 1, such as 0.05"
            )
        keys = (shard.name(number)[1] for shard in self.shards for number in range(len(shard)))
        held_out = np.array([_fraction(key, seed) < validation for key in keys], np.bool_)
        if held_out.all() or not held_out.any():
            raise DataError(
                f"{self.name} has {len(self)} records, too few to hold out {validation:.1%} of them: "
                "give validation a source of its own"
            )
        return self.select(~held_out), self.select(held_out)

    def part(self, number: int, parts: int) -> Source:
        """One of `parts` disjoint parts that together are all records: whole shards if there are enough of them.

        Raises:
            UsageError: there is no such part.
        """
        if not 0 <= number < parts:
            raise UsageError(f"there is no part {number} of {parts}: parts count from 0")
        if len(self.shards) >= parts:
            return Source(self.name, self.shards[number::parts], self.annotated)
        return self.select(np.arange(len(self)) % parts == number)

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        """The number behind each shard's last record."""
        return np.cumsum(self.sizes, dtype=np.int64)

    def _find(self, number: int) -> tuple[Shard, int]:
        if not 0 <= number < len(self):
            raise UsageError(f"{self.name} has {len(self)} records, which count from 0: there is no record {number}")
        which = int(np.searchsorted(self._ends, number, side="right"))
        shard = self.shards[which]
        return shard, number - int(self._ends[which]) + len(shard)


def open_source(what: str | Path, *, photos_needed: bool = True) -> Source:
    """Open the records of a path or pattern, and index its shards.

    Args:
        what: see the table of this module.
        photos_needed: without, JSON files and folders of them are opened even where their photos are elsewhere.

    Raises:
        DataError: it is missing, empty, matches nothing, holds both shards and photos, or a shard is not a tar.
        UsageError: webdataset is not installed.
    """
    name = str(what)
    shards: list[Shard] = []
    loose: list[Path] = []  # photos named one by one
    for path in _expanded(name):
        if path.is_dir():
            shards += _folder(path, photos_needed=photos_needed)
        elif path.suffix.lower() == LIST_ENDING:
            shards.append(_listed(path))
        elif path.suffix.lower() in PHOTO_ENDINGS:
            loose.append(path)
        elif path.suffix.lower() == RECORD_ENDING:
            shards.append(_document(path, photos_needed=photos_needed))
        else:
            shards.append(_tar(path))
    shards += [
        _pairs(photos, [record for photo in photos for record in _beside(photo)]) for photos in _by_folder(loose)
    ]
    return Source(name, tuple(shards), any(shard.annotated for shard in shards))


def _document(path: Path, *, photos_needed: bool) -> Shard:
    """The photos that a JSON file describes."""
    names = described_photos(path)
    if not names:
        raise DataError(
            f"{path} describes no photos by their names: name one in the format of COCO, LVIS, Label Studio or VIA, or "
            "a folder with photos"
        )
    folder = next((each for each in _photo_folders(path) if any(os.path.isfile(each / name) for name in names)), None)  # noqa: PTH113
    if folder is None and photos_needed:
        raise DataError(f"the photos that {path} describes are not beside it: lay them in a folder with it")
    folder = folder or path.parent
    return FileShard(tuple(LooseFiles(folder / name, path, of_all=True) for name in names))


def _photo_folders(path: Path) -> list[Path]:
    """Where the photos of a JSON file may lie: `val2017` beside `annotations/instances_val2017.json`, for instance."""
    beside = [path.parent, path.parent.parent]
    split = path.stem.rpartition("_")[2]
    folders = [*beside, *(folder / split for folder in beside)]
    for folder in beside:
        with suppress(OSError):
            folders += sorted(each for each in folder.iterdir() if each.name.lower() in PHOTO_FOLDERS and each.is_dir())
    return folders


def _beside(photo: Path) -> list[Path]:
    """The JSON files of a photo named alone: `a.json` or `a.jpg.json`."""
    names = (photo.with_suffix(RECORD_ENDING), photo.with_name(photo.name + RECORD_ENDING))
    return [path for path in names if os.path.isfile(path)]  # noqa: PTH113 - pathlib's raises for a name too long


def _by_folder(photos: Iterable[Path]) -> list[list[Path]]:
    """Photos named one by one, those of each folder together."""
    folders: dict[Path, list[Path]] = {}
    for photo in photos:
        folders.setdefault(photo.parent, []).append(photo)
    return list(folders.values())


def _fraction(key: str, seed: int) -> float:
    """A pseudo-random number from 0 to 1, always the same for a key and a seed."""
    digest = hashlib.blake2b(f"{seed}:{key}".encode("utf-8", "surrogateescape"), digest_size=_HASH_BYTES).digest()
    return int.from_bytes(digest, "big") / float(1 << 8 * _HASH_BYTES)


def _expanded(name: str) -> list[Path]:
    """The paths of a path or pattern: the alternatives of braces in their order, the matches of each sorted."""
    path = Path(name).expanduser()
    try:
        if path.exists():
            return [path]
        if (slashed := _with_slashes(Path(), str(path))).exists():
            return [slashed]
    except (OSError, ValueError) as error:  # ValueError: a null byte; OSError: a name that is too long
        raise DataError(f"no data at {name!r}: it is not a path ({error})") from error
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
    """The pattern's braces expanded, by the package that webdataset uses."""
    try:
        from braceexpand import braceexpand  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            "braceexpand, which comes with webdataset, is missing: pip install 'sam-edge[train]'"
        ) from error
    try:
        return list(braceexpand(pattern))
    except ValueError as error:
        raise DataError(f"no data at {pattern}: its braces are not balanced ({error})") from error


def _folder(folder: Path, *, photos_needed: bool) -> list[Shard]:
    """The shards of a folder, or its photos as one shard."""
    labelled = label_pairs(folder)
    if labelled:
        return [FileShard(tuple(LooseFiles(photo, labels, key=key) for key, photo, labels in labelled))]
    entries = _entries(folder)
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
    both = folder_pair(path for path in entries if path.is_dir())
    if both is not None:
        photos = [path for path in _entries(both[0]) if path.suffix.lower() in PHOTO_ENDINGS]
        records = [path for path in _entries(both[1]) if path.suffix.lower() == RECORD_ENDING]
        if photos:
            return [_pairs(photos, records)]
    documents = [record for record in records[:_MOST_DATASETS] if described_photos(record)]
    if len(documents) == 1:
        return [_document(documents[0], photos_needed=photos_needed)]
    if records and not photos_needed:
        return [FileShard(tuple(LooseFiles(None, record) for record in records))]
    folders = [path.name for path in entries if path.is_dir()]
    remedy = f"name one of its folders, such as {folder / folders[0]}" if folders else "name another"
    raise DataError(f"folder {folder} holds neither shards (.tar) nor photos ({', '.join(PHOTO_ENDINGS)}): {remedy}")


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot read folder {folder} ({error.strerror}): check its permissions") from error


def _tar(path: Path) -> Shard:
    shard = TarShard.open(path)
    if not len(shard) or (shard.index.places[:, 0] < 0).all():
        raise DataError(f"shard {path} holds no photos ({', '.join(PHOTO_ENDINGS)}): name another")
    return shard


def _pairs(photos: Sequence[Path], records: Iterable[Path]) -> Shard:
    """Photos and JSON files of the same name as records. If no photo has one, other JSON files may describe them all.

    Of several photos that share a name and a JSON file, such as `a.jpg` and `a.png`, the first by `PHOTO_ENDINGS` is
    taken: they show the same. Without a JSON file each is a record of its own.
    """
    by_stem: dict[str, Path] = {path.stem: path for path in records}
    photos = [photo for photo in photos if not is_drawn(photo, by_stem)]
    owners = {photo.name: photo for photo in photos if photo.name in by_stem}  # a.jpg.json
    for photo in sorted(photos, key=lambda path: PHOTO_ENDINGS.index(path.suffix.lower())):
        if photo.stem in by_stem and photo.name not in owners:
            owners.setdefault(photo.stem, photo)
    others = [
        photo
        for photo in photos
        if photo.name not in owners and photo.stem not in owners and not is_further_part(photo.stem, owners)
    ]
    taken = {*owners.values(), *others}
    files = _loose([photo for photo in photos if photo in taken], by_stem)
    if not owners and 0 < len(by_stem) <= _MOST_DATASETS:
        files = _described(files, list(by_stem.values()))
    if owners:
        files += [LooseFiles(None, record) for stem, record in by_stem.items() if stem not in owners]
    return FileShard(tuple(files))


def _described(files: list[LooseFiles], records: list[Path]) -> list[LooseFiles]:
    """The files with the JSON file that describes them all, if there is one among `records`."""
    for record in records:
        photos = described_photos(record)
        if any(each.photo is not None and each.photo.name in photos for each in files):
            return [
                replace(each, record=record, of_all=True) if each.photo and each.photo.name in photos else each
                for each in files
            ]
    return files


def _loose(photos: Sequence[Path], records: Mapping[str, Path]) -> list[LooseFiles]:
    """The files of each photo; keys that would be equal are whole names."""
    alike = Counter(path.with_suffix("") for path in set(photos))
    return [
        LooseFiles(path, records.get(path.name, records.get(path.stem)), alike[path.with_suffix("")] > 1)
        for path in photos
    ]


def _listed(path: Path) -> Shard:
    """The photos of a list. Missing ones are broken records, found when they are read."""
    try:
        lines = [line.strip() for line in read_text(path).splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(
            f"cannot read the photo list {path} (it is not UTF-8 or UTF-16 text): write one path a line"
        ) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"cannot read the photo list {path} ({reason}): write one path a line") from error
    photos = [_with_slashes(path.parent, line) for line in lines if line and not line.startswith("#")]
    if not photos:
        raise DataError(f"the photo list {path} names no photo: write one path a line")
    return FileShard(tuple(_loose(photos, {})))


def _with_slashes(folder: Path, name: str) -> Path:
    """A path below `folder`; on other systems than Windows also one written there, with backslashes."""
    path = folder / name
    return folder / name.replace("\\", "/") if "\\" in name and not os.path.lexists(path) else path
