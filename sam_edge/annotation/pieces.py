"""A source divided into output shards, and the progress of each.

A piece is a range of records of one input shard; it becomes one output shard. Each finished record is written to a file
of its own, atomically, so a process that is killed loses only the photo it was working on. When all records are
finished, photos and records are packed into a tar, which is written atomically too, and the files are removed. So the
folder alone shows what is done. Only one process works on a piece at a time.

    OUT/annotation.json                      settings of the run; other settings are refused
    OUT/sa_000000.tar                        a complete piece
    OUT/failures/sa_000000.json              its photos that could not be used, with reasons
    OUT/.work/sa_000001/00001007.json        a finished record of an incomplete piece; .failed holds a reason instead
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sam_edge.data.skips import BrokenRecordError
from sam_edge.data.sources import Source
from sam_edge_runtime.errors import DataError
from sam_edge_runtime.photo.read import decode_photo, read_orientation
from sam_edge_runtime.photo.write import png_bytes
from sam_edge_runtime.system.documents import read_json
from sam_edge_runtime.system.files import output_error, staging_name, write_file

from .record import distinct_names

WORK, FAILURES = ".work", "failures"
DONE, FAILED = ".json", ".failed"
_JPEG = "jpg"
_STARTS = ((b"\xff\xd8", _JPEG), (b"\x89PNG", "png"), (b"BM", "bmp"), (b"II*\0", "tif"), (b"MM\0*", "tif"))


@dataclass(frozen=True)
class Piece:
    """One output shard.

    Attributes:
        name: name of the shard without its ending, such as `sa_000000`.
        numbers: numbers of its records in the source.
    """

    name: str
    numbers: range


def divide(source: Source, records: int) -> tuple[Piece, ...]:
    """The pieces of a source, with at most `records` records each; no piece spans two input shards."""
    pieces: list[Piece] = []
    start = 0
    for size in source.sizes:
        for first in range(start, start + size, records):
            numbers = range(first, min(first + records, start + size))
            pieces.append(Piece(f"sa_{len(pieces):06d}", numbers))
        start += size
    return tuple(pieces)


class PieceFolder:
    """The files of a piece in the output folder."""

    def __init__(self, out: Path, piece: Piece) -> None:
        self.piece = piece
        self._tar, self._failures = out / f"{piece.name}.tar", out / FAILURES / f"{piece.name}.json"
        self._work = out / WORK / piece.name

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do. A piece without a usable photo has no tar."""
        return self._tar.exists() or len(self.failures()) == len(self.piece.numbers)

    def failures(self) -> dict[str, str]:
        """Why photos of a packed piece could not be used, by key.

        Raises:
            DataError: the file of failures is damaged.
        """
        try:
            reasons = read_json(self._failures)
            if not isinstance(reasons, dict):
                raise ValueError("it holds no object")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise DataError(f"{self._failures} is damaged ({error}): remove it and run the command again") from error
        return {str(key): str(reason) for key, reason in reasons.items()}

    def open_numbers(self) -> list[int]:
        """Numbers of the records that are neither finished nor failed."""
        if self.complete:
            return []
        try:
            there = {path.name for path in self._work.iterdir()}
        except FileNotFoundError:  # not begun, or removed by a process that outlived its killed parent
            there = set()
        return [n for n in self.piece.numbers if not {f"{n:08d}{DONE}", f"{n:08d}{FAILED}"} & there]

    def finish(self, number: int, record: bytes) -> None:
        """Write a finished record."""
        write_file(self._work / f"{number:08d}{DONE}", record, overwrite=True)

    def fail(self, number: int, reason: str) -> None:
        """Write the reason why a record failed."""
        write_file(self._work / f"{number:08d}{FAILED}", reason.encode(), overwrite=True)

    def pack(self, source: Source, keys: Mapping[int, str]) -> None:
        """Write the shard of a piece whose records are all finished or failed.

        Args:
            source: the photos.
            keys: names of the records, from `keys_of`.

        Raises:
            BrokenRecordError: an annotated photo can no longer be read.
            OutputError: the shard cannot be written.
        """
        from webdataset.writer import TarWriter  # type: ignore[import-untyped]  # noqa: PLC0415  # brings torch

        failures: dict[str, str] = {}
        partial = self._work.with_name(staging_name(f"{self.piece.name}."))
        try:
            # Every run writes the same bytes, because `mtime` is.
            with partial.open("wb") as file, TarWriter(file, encoder=False, mtime=0) as writer:
                for number, key in keys.items():
                    failed = self._work / f"{number:08d}{FAILED}"
                    if failed.exists():
                        failures[key] = failed.read_text("utf-8")
                        continue
                    photo = source.read(number, photo_only=True).photo
                    if photo is None:
                        raise BrokenRecordError(f"the photo of {key} is gone from {source.name}: put it back")
                    record = (self._work / f"{number:08d}{DONE}").read_bytes()
                    ending, content = packed(photo, key)
                    writer.write({"__key__": key, ending: content, "json": record})
            if failures:
                write_file(self._failures, json.dumps(failures, indent=1).encode(), overwrite=True)
            if len(failures) < len(self.piece.numbers):
                partial.replace(self._tar)
        except FileNotFoundError as error:
            if not self.complete:
                raise output_error(self._tar, error) from error
            # A process that outlived its killed parent has packed the same piece.
        except OSError as error:
            raise output_error(self._tar, error) from error
        finally:
            with suppress(OSError):  # it was renamed, or removed by the other process
                partial.unlink()
        self.clear()

    def clear(self) -> None:
        """Remove the working files of a complete piece."""
        shutil.rmtree(self._work, ignore_errors=True)
        for left in self._work.parent.glob(f"*{self.piece.name}.*.partial"):
            left.unlink(missing_ok=True)


def packed_ending(photo: bytes) -> str:
    """The ending, without a dot, of a photo's file in a shard (see `packed`), from the content of its own file."""
    return _kept_ending(photo) or "png"


def packed(photo: bytes, key: str) -> tuple[str, bytes]:
    """The ending and the content of a photo's file in a shard.

    A JPEG stays as it is, because readers such as `cv2.imread` apply its EXIF orientation. So do PNG, WebP, BMP and
    TIFF without an orientation. Everything else becomes an upright PNG, which every reader shows alike.

    Raises:
        PhotoError: a photo that has to be rewritten can no longer be read.
    """
    kept = _kept_ending(photo)
    return (kept, photo) if kept is not None else ("png", png_bytes(decode_photo(photo, key)))


def _kept_ending(photo: bytes) -> str | None:
    """The ending of a photo that is packed as it is; None for one that is rewritten."""
    webp = photo[:4] == b"RIFF" and photo[8:12] == b"WEBP"
    ending = "webp" if webp else next((ending for start, ending in _STARTS if photo.startswith(start)), None)
    return ending if ending == _JPEG or read_orientation(photo) == 1 else None


def keys_of(source: Source, piece: Piece) -> dict[int, str]:
    """Names of the records in the shard, by number: their keys without folders and dots.

    A name that is already used in the piece gets a number appended.
    """
    names = (source.record_name(number)[1].replace("\\", "/").rsplit("/", 1)[-1] for number in piece.numbers)
    plain = (name.replace(".", "_") or f"photo_{number:08d}" for number, name in zip(piece.numbers, names, strict=True))
    return dict(zip(piece.numbers, distinct_names(plain), strict=True))
