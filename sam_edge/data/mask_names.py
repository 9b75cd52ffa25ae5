"""What each mask of a data set shows: a JSON file beside the shard or folder.

`train.names.json` beside `train.tar`: `{KEY: [name or null, ...]}`, for each record in the order of its annotations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from sam_edge_runtime.errors import DataError
from sam_edge_runtime.system.documents import read_json

from .sample import Sample
from .sources import Source

ENDING = ".names.json"
Names = tuple[str | None, ...]


class MaskNames:
    """The names of the masks of several sources; a file is read once.

    Attributes:
        counts: how many masks have each name.
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        """Read the files of all shards that the sources have records of.

        Raises:
            DataError: a file is missing or malformed.
        """
        self.counts: Counter[str] = Counter()
        self._files: dict[str, dict[str, Names]] = {}
        for source in sources:
            for number in range(len(source)):
                name, key = source.record_name(number)
                if name not in self._files:
                    self._files[name] = _read(Path(name))
                self.counts.update(each for each in self._files[name].get(key, ()) if each)

    def of(self, sample: Sample) -> Names:
        """The names of a record's masks, in their order.

        Raises:
            DataError: the file does not have the record, or another number of names.
        """
        return self.of_record(sample.source, sample.key, len(sample.rles))

    def of_record(self, source: str, key: str, masks: int) -> Names:
        """The names of a record's masks; `source` and `key` are those of a `Sample`.

        Raises:
            DataError: the file does not have the record, or another number of names than `masks`.
        """
        names = self._files.get(source, {}).get(key)
        if names is None or len(names) != masks:
            found = "no names" if names is None else f"{len(names)} names"
            raise DataError(f"{key} of {source} has {masks} masks and {found}: correct {ENDING}")
        return names


def names_file(shard: Path) -> Path:
    """Where the names of a shard's or folder's masks lie."""
    return shard.with_name(shard.stem + ENDING if shard.suffix == ".tar" else shard.name + ENDING)


def _read(shard: Path) -> dict[str, Names]:
    path = names_file(shard)
    try:
        document = read_json(path)
        return {
            str(key): tuple(None if each is None else str(each) for each in names) for key, names in document.items()
        }
    except FileNotFoundError as error:
        raise DataError(
            f"{shard} has no names of its masks: write {path.name} beside it, {{KEY: [name or null, ...]}}"
        ) from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no file of names ({error!r:.80}): write {{KEY: [name or null, ...]}}") from error
