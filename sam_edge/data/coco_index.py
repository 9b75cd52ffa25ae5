"""The index of a COCO or LVIS file: where each image and annotation lies in it.

LVIS has 1.3 million annotations in a file of a gigabyte, which takes many times that as Python objects. So the file is
parsed once, entry by entry, and only the places of the entries are kept, some 20 bytes each. Afterwards the record of
any photo is read by itself, as from a tar (`tar_index`).
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from sam_edge_runtime.system.documents import LARGEST_DOCUMENT, parse_json

from .foreign.coco import category_names, photo_name, with_name

_CHUNK = 1 << 22  # bytes that are read at once
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SPACES = " \t\r\n"
_BYTES = "latin-1"  # one character for each byte, so that places in the text are places in the file

Place = tuple[int, int]  # offset and length in bytes


class CocoIndex(Mapping[str, dict[str, Any]]):
    """The records of a file by the photos' file names, in its order: `{"image": ..., "annotations": [...]}`."""

    def __init__(self, path: Path) -> None:
        """Index the file at `path`.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not COCO's layout in UTF-8, or damaged.
        """
        self._path = path
        self._images: dict[str, tuple[int, int, int]] = {}  # number, offset and length, by file name
        self._categories: dict[str, str] = {}
        ids: dict[str, int] = {}
        owners, offsets, lengths = array("q"), array("q"), array("q")
        waiting: list[str] = []  # owners' ids, where annotations come before the images
        found = set()
        with path.open("rb") as file:
            for member, entry, (offset, length) in _entries(file):
                found.add(member)
                if member == "images" and isinstance(entry, dict):
                    name = photo_name(entry)
                    if name is not None:
                        number = len(ids)
                        ids[str(entry.get("id"))] = number
                        self._images[name] = number, offset, length
                elif member == "annotations" and isinstance(entry, dict):
                    waiting.append(str(entry.get("image_id")))
                    offsets.append(offset)
                    lengths.append(length)
                elif member == "categories":
                    self._categories = category_names(entry)
        if not {"images", "annotations"} <= found:
            raise ValueError("it has no lists of images and annotations")
        owners.extend(ids.get(owner, -1) for owner in waiting)
        order = np.argsort(np.array(owners, np.int64), kind="stable")
        self._owners = np.array(owners, np.int64)[order]
        self._places = np.stack([np.array(offsets, np.int64), np.array(lengths, np.int64)], axis=1)[order]

    def __iter__(self) -> Iterator[str]:
        return iter(self._images)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, name: str) -> dict[str, Any]:
        number, offset, length = self._images[name]
        first, behind = np.searchsorted(self._owners, [number, number + 1])
        with self._path.open("rb") as file:
            image = _read(file, offset, length)
            annotations = [_read(file, *place) for place in self._places[first:behind].tolist()]
        return {"image": image, "annotations": [with_name(each, self._categories) for each in annotations]}


def _read(file: IO[bytes], offset: int, length: int) -> dict[str, Any]:
    file.seek(offset)
    entry = parse_json(file.read(length))
    if not isinstance(entry, dict):
        raise ValueError("the file was changed")
    return entry


def _entries(file: IO[bytes]) -> Iterator[tuple[str, Any, Place]]:
    """Member, value and place of each entry of the lists `images` and `annotations`, and of each other member.

    A list without an entry is told once, with the value None.
    """
    scanner = _Scanner(file)
    scanner.take("{")
    while True:
        member, _ = scanner.value()
        scanner.take(":")
        if member in ("images", "annotations"):
            scanner.take("[")
            yield member, None, (0, 0)
            while not scanner.has("]"):
                yield member, *scanner.value(as_text=member == "images")
                if not scanner.has(","):
                    scanner.take("]")
                    break
        else:
            yield str(member), *scanner.value()
        if not scanner.has(","):
            scanner.take("}")
            return


class _Scanner:
    """Reads JSON value by value from a file of any size."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decode = json.JSONDecoder().raw_decode
        self._text, self._at, self._ended = "", 0, False
        self._start = len(_BYTE_ORDER_MARK) if file.read(len(_BYTE_ORDER_MARK)) == _BYTE_ORDER_MARK else 0
        file.seek(self._start)

    def has(self, sign: str) -> bool:
        """Pass over the sign if it is next."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACES:
                self._at += 1
            if self._at < len(self._text) or not self._more():
                break
        is_next = self._text[self._at : self._at + 1] == sign
        self._at += is_next
        return is_next

    def take(self, sign: str) -> None:
        """Pass over the sign.

        Raises:
            ValueError: something else is next.
        """
        if not self.has(sign):
            raise ValueError(f"{sign} is missing at byte {self._start + self._at}")

    def value(self, *, as_text: bool = True) -> tuple[Any, Place]:
        """The next value and its place; its texts are of use only if it is read `as_text`, in UTF-8.

        Raises:
            ValueError: there is none, or it is longer than `LARGEST_DOCUMENT`.
        """
        self.has("")  # spaces
        while True:
            try:
                value, end = self._decode(self._text, self._at)
                if end < len(self._text) or self._ended:  # a number could go on in the next chunk
                    place = self._start + self._at, end - self._at
                    if as_text:
                        value = parse_json(self._text[self._at : end].encode(_BYTES))
                    self._at = end
                    return value, place
            except RecursionError as error:
                raise ValueError("it is nested too deeply") from error
            except UnicodeError:
                raise
            except ValueError:
                if self._ended:
                    raise
            if len(self._text) - self._at > LARGEST_DOCUMENT:
                raise ValueError("an entry is too long")
            self._more()

    def _more(self) -> bool:
        """Read on, at least as much again as is left; False at the end of the file."""
        left = self._text[self._at :]
        chunk = self._file.read(max(_CHUNK, len(left))).decode(_BYTES)
        self._start, self._at, self._text = self._start + self._at, 0, left + chunk
        self._ended = not chunk
        return bool(chunk)
