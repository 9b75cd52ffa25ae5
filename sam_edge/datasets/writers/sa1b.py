"""SA-1B's layout: tar shards of photos and JSON records; the names of masks lie beside each shard."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from sam_edge.annotation.pieces import packed
from sam_edge.annotation.record import kept_mask, record_bytes, sa1b_record
from sam_edge.data.mask_names import names_file
from sam_edge.datasets.entries import Entry

from .format import Writer, photo_of

RECORDS = 1000  # of a shard


class Sa1bWriter(Writer):
    """Writes `sa_000000.tar`, ... of `RECORDS` photos each."""

    photos = True
    dots = False  # webdataset's keys end at the first one

    def __init__(self, folder: Path, form: str | None, *, with_photos: bool) -> None:
        super().__init__(folder, form, with_photos=with_photos)
        self._shard = ExitStack()
        self._tar: Any = None
        self._path = folder
        self._count = 0
        self._names: dict[str, list[str | None]] = {}

    def add(self, entry: Entry) -> None:
        """Write an entry."""
        key = entry.stem
        ending, content = packed(photo_of(entry), key)
        if self._count % RECORDS == 0:
            self._next_shard()
        masks = [_mask(each) for each in entry.masks]
        record = sa1b_record(key, f"{key}.{ending}", entry.size, masks, entry.number)
        self._tar.write({"__key__": key, ending: content, "json": record_bytes(record)})
        self._names[key] = [each.name for each in entry.masks]
        self._count += 1
        for _ in entry.masks:
            self.loss.add(1.0)

    def finish(self) -> None:
        """Close the last shard."""
        self._shard.close()
        if any(name for names in self._names.values() for name in names):
            names_file(self._path).write_text(json.dumps(self._names, ensure_ascii=False), encoding="utf-8")
        self._names = {}

    def _next_shard(self) -> None:
        from webdataset.writer import TarWriter  # type: ignore[import-untyped]  # noqa: PLC0415  # brings torch

        if self._count:
            self.finish()
        self._path = self.folder / f"sa_{self._count // RECORDS:06d}.tar"
        file = self._shard.enter_context(self._path.open("wb"))
        # Every run writes the same bytes, because `mtime` is.
        self._tar = self._shard.enter_context(TarWriter(file, encoder=False, mtime=0))


def _mask(annotation: Any) -> dict[str, Any]:
    """A mask of the record; its box is counted as SA-1B's are."""
    mask = kept_mask(replace(annotation, bbox=None))
    if annotation.name is not None:
        mask["name"] = annotation.name
    return {**mask, "iscrowd": 1} if annotation.crowd else mask
