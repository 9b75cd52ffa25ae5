"""The teacher's embeddings on disk: computed once, read in every epoch.

A big encoder costs seconds a photo and a student sees each photo many times, so MobileSAM (arXiv 2306.14289, section
3.2) stores the embeddings. The price is disk, which is told beforehand, and that photos are shown whole, without
augmentation. One fp16 file a photo, named by a hash of folder, shard and key; each appears whole or not at all, so a
pass that was cut off goes on where it stopped, without opening the photos that are done. `teacher.json` says whose they
are; another teacher's are never mixed in. A photo that is replaced by another under its name keeps its old embedding.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sam_edge.data.augment import letterbox
from sam_edge.data.skips import SkipLog
from sam_edge.data.sources import Source
from sam_edge.data.stream import walk
from sam_edge_runtime.bundle.contract import EMBEDDING_STRIDE
from sam_edge_runtime.errors import DataError, UsageError
from sam_edge_runtime.system.files import require_space, write_file

IDENTITY = "teacher.json"
_BYTES = 2
_HEADER = 128  # of a .npy file
Float16 = npt.NDArray[np.float16]


class Encoder(Protocol):
    """The half of a backend that is needed here."""

    def encode(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Embeddings `(1, C, S/16, S/16)` of an image `(1, 3, S, S)`."""
        ...


class EmbeddingCache:
    """Embeddings `(C, S/16, S/16)` of one teacher for frames of side S."""

    def __init__(self, folder: Path, teacher: str, side: int, channels: int) -> None:
        """Open the folder, or begin one.

        Args:
            folder: where the files are.
            teacher: what the embeddings depend on: variant and weights.
            side: the teacher's frame side in pixels.
            channels: of its embedding.

        Raises:
            UsageError: the folder holds another teacher's embeddings.
            OutputError: it cannot be written.
        """
        self.folder, self.side = folder, side
        self.shape = (channels, side // EMBEDDING_STRIDE, side // EMBEDDING_STRIDE)
        wanted = {"teacher": teacher, "side": side, "channels": channels}
        path = folder / IDENTITY
        if not path.exists():
            # Several processes may come here at once, all with the same words.
            write_file(path, (json.dumps(wanted) + "\n").encode(), overwrite=True)
        try:
            found = json.loads(path.read_text("utf-8"))
        except ValueError:
            found = None
        if found != wanted:
            raise UsageError(f"{folder} holds the embeddings of {found}, not of {wanted}: choose another folder")

    def bytes_needed(self, photos: int) -> int:
        """What so many photos take on disk."""
        return photos * (int(np.prod(self.shape)) * _BYTES + _HEADER)

    def path(self, source: str, key: str) -> Path:
        """The file of a record, named as in `Sample`.

        Of its shard's path the last folder counts, because `coco/train.tar` and `ccp/train.tar` may both have a photo
        `0001`; those above do not, so the data may be moved as a whole.
        """
        shard = "/".join(Path(source).absolute().parts[-2:])
        name = hashlib.sha256(f"{shard}/{key}".encode("utf-8", "surrogateescape")).hexdigest()[:24]
        return self.folder / name[:2] / f"{name}.npy"

    def read(self, source: str, key: str) -> Float16:
        """The embedding of a record.

        Raises:
            DataError: it was never computed, or its file is damaged.
        """
        path = self.path(source, key)
        try:
            embedding: Float16 = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"no embedding of {key} in {self.folder} ({error}): run the stage again") from error
        if embedding.shape != self.shape or embedding.dtype != np.float16:
            raise DataError(f"{path} holds {embedding.dtype} {embedding.shape}, not {self.shape}: remove it")
        return embedding

    def fill(
        self,
        sources: Sequence[Source],
        encoder: Encoder,
        progress: Callable[[int, int], None] = lambda done, total: None,
        part: int = 0,
        parts: int = 1,
    ) -> SkipLog:
        """Compute what is missing.

        Args:
            sources: photos; their masks are not looked at.
            encoder: the teacher.
            progress: told how many photos are done, of how many.
            part: this process's part of the records.
            parts: into how many they are divided.

        Returns:
            The records that could not be used.

        Raises:
            OutputError: too little room on the disk, said before anything is computed.
            DataError: too many records are broken, or an embedding does not fit half precision.
        """
        own = [source.part(part, parts) for source in sources]
        missing = [source.select(self._absent(source)) for source in own]
        total, left = (sum(len(source) for source in each) for each in (own, missing))
        require_space(self.folder, self.bytes_needed(left * parts))
        log = SkipLog()
        done = total - left
        log.add(done)  # of the whole data, not of what an earlier pass left, broken records are a small share
        progress(done, total)
        for source in filter(len, missing):
            for sample in walk(source, log, photos_only=True):
                embedding = encoder.encode(letterbox(sample, self.side).image[None])[0]
                write_file(self.path(sample.source, sample.key), _stored(embedding, str(sample.key)), overwrite=True)
                done += 1
                progress(done, total)
        return log

    def _absent(self, source: Source) -> npt.NDArray[np.bool_]:
        """Which of a source's records have no file yet."""
        names = (source.record_name(number) for number in range(len(source)))
        return np.array([not self.path(*name).exists() for name in names], np.bool_)


def _stored(embedding: npt.NDArray[np.float32], key: str) -> bytes:
    """The file of an embedding."""
    with np.errstate(over="ignore"):
        half = embedding.astype(np.float16)
    if not np.isfinite(half).all():
        raise DataError(
            f"the teacher's embedding of {key} reaches {np.abs(embedding).max():.3g}, which is no number in half "
            "precision: are these its weights?"
        )
    content = io.BytesIO()
    np.save(content, half)
    return content.getvalue()
