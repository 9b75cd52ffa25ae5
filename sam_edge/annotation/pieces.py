"""A source divided into output shards, and what of each is done already.

A piece is some records of one input shard, in order; it becomes one output shard. Until it is complete each finished
record lies in a file of its own, which appeared whole, so that a process that is killed loses the photo it was at and
nothing else. Then photos and records are packed into a tar, which appears whole as well, and the files go. What is
done is therefore known from the folder alone, whoever did it, and a piece has one owner at a time:

    OUT/annotation.json                      settings: another run's are refused
    OUT/sa_000000.tar                        a piece that is complete
    OUT/failures/sa_000000.json              its photos that could not be used, and why
    OUT/.work/sa_000001/00001007.json        a finished record of one that is not; .failed: why there is none
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sam_edge.data.skips import BrokenRecordError
from sam_edge.data.sources import Source
from sam_edge_runtime.errors import DataError
from sam_edge_runtime.system.files import output_error, write_file

WORK, FAILURES = ".work", "failures"
DONE, FAILED = ".json", ".failed"
_STARTS = ((b"\xff\xd8", "jpg"), (b"\x89PNG", "png"), (b"RIFF", "webp"), (b"BM", "bmp"), (b"II", "tif"), (b"MM", "tif"))


@dataclass(frozen=True)
class Piece:
    """One output shard.

    Attributes:
        name: such as `sa_000000`.
        numbers: its records' numbers in the source.
    """

    name: str
    numbers: range


def divide(source: Source, records: int) -> tuple[Piece, ...]:
    """The pieces of a source, of at most so many records each; no piece has records of two input shards."""
    pieces: list[Piece] = []
    start = 0
    for size in source.sizes:
        for first in range(start, start + size, records):
            numbers = range(first, min(first + records, start + size))
            pieces.append(Piece(f"sa_{len(pieces):06d}", numbers))
        start += size
    return tuple(pieces)


class PieceFolder:
    """What of a piece lies in the output folder."""

    def __init__(self, out: Path, piece: Piece) -> None:
        self.piece = piece
        self._tar, self._failures = out / f"{piece.name}.tar", out / FAILURES / f"{piece.name}.json"
        self._work = out / WORK / piece.name

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do; a piece without a usable photo has no tar."""
        return self._tar.exists() or len(self.failures()) == len(self.piece.numbers)

    def failures(self) -> dict[str, str]:
        """Why photos of a packed piece could not be used, by key.

        Raises:
            DataError: the file is damaged.
        """
        try:
            found: dict[str, str] = json.loads(self._failures.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise DataError(f"{self._failures} is damaged ({error}): remove it and run the command again") from error
        return found

    def open_numbers(self) -> list[int]:
        """Records that are neither finished nor failed yet."""
        if self.complete:
            return []
        there = {path.name for path in self._work.iterdir()} if self._work.is_dir() else set()
        return [n for n in self.piece.numbers if not {f"{n:08d}{DONE}", f"{n:08d}{FAILED}"} & there]

    def finish(self, number: int, record: bytes) -> None:
        """Keep a finished record."""
        write_file(self._work / f"{number:08d}{DONE}", record, overwrite=True)

    def fail(self, number: int, reason: str) -> None:
        """Keep why there is none."""
        write_file(self._work / f"{number:08d}{FAILED}", reason.encode(), overwrite=True)

    def pack(self, source: Source, keys: Mapping[int, str]) -> None:
        """Make the shard of a piece whose records are all finished or failed.

        Args:
            source: where the photos are.
            keys: what `keys_of` gave.

        Raises:
            BrokenRecordError: a photo that was annotated cannot be read any more.
            OutputError: there is no room for it.
        """
        from webdataset.writer import TarWriter  # type: ignore[import-untyped]  # noqa: PLC0415  # brings torch

        failures: dict[str, str] = {}
        partial = self._work.with_name(f"{self.piece.name}.{os.getpid()}.partial")
        try:
            with partial.open("wb") as file:
                writer = TarWriter(file, encoder=False, mtime=0)  # the same bytes from every run
                for number, key in keys.items():
                    failed = self._work / f"{number:08d}{FAILED}"
                    if failed.exists():
                        failures[key] = failed.read_text("utf-8")
                        continue
                    photo = source.read(number, photo_only=True).photo
                    if photo is None:
                        raise BrokenRecordError(f"the photo of {key} is gone from {source.name}: put it back")
                    record = (self._work / f"{number:08d}{DONE}").read_bytes()
                    writer.write({"__key__": key, ending_of(photo): photo, "json": record})
                writer.close()
            if failures:
                write_file(self._failures, json.dumps(failures, indent=1).encode(), overwrite=True)
            if len(failures) < len(self.piece.numbers):
                partial.replace(self._tar)
            else:
                partial.unlink()
        except OSError as error:
            raise output_error(self._tar, error) from error
        self.clear()

    def clear(self) -> None:
        """Remove what is left beside a complete piece."""
        shutil.rmtree(self._work, ignore_errors=True)
        for left in self._work.parent.glob(f"{self.piece.name}.*.partial"):
            left.unlink(missing_ok=True)


def ending_of(photo: bytes) -> str:
    """The usual ending of a picture's file, without a dot, by how it begins."""
    return next((ending for start, ending in _STARTS if photo.startswith(start)), "jpg")


def keys_of(source: Source, piece: Piece) -> dict[int, str]:
    """What each record is called in the shard, by number: its own name, without folders and dots.

    One whose name is taken in the piece gets a number behind it.
    """
    keys: dict[int, str] = {}
    taken: set[str] = set()
    for number in piece.numbers:
        plain = source.record_name(number)[1].replace("\\", "/").rsplit("/", 1)[-1].replace(".", "_")
        name = plain = plain or f"photo_{number:08d}"
        count = 1
        while name in taken:
            count += 1
            name = f"{plain}_{count}"
        taken.add(name)
        keys[number] = name
    return keys
