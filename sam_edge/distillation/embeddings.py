"""The teacher's embeddings on disk: computed once, read in every epoch.

A large encoder takes seconds for a photo, and a student sees each photo many times. So the embeddings are stored, as in
MobileSAM (https://arxiv.org/abs/2306.14289, section 3.2). The cost: disk space, which is reported beforehand, and
photos without augmentation.

Each photo has one fp16 file, named by a hash of folder, shard and key and written atomically. So an interrupted pass
resumes without opening the photos that are done. `teacher.json` identifies the teacher; embeddings of different
teachers are never mixed. If a photo is replaced by another of the same name, its old embedding stays.
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
from sam_edge.data.skips import ALLOWED_BROKEN, SkipLog
from sam_edge.data.sources import Source
from sam_edge.data.stream import walk
from sam_edge_runtime.arrays import Features
from sam_edge_runtime.bundle.contract import EMBEDDING_STRIDE
from sam_edge_runtime.errors import DataError, UsageError
from sam_edge_runtime.system.documents import read_json
from sam_edge_runtime.system.files import require_space, write_file

IDENTITY = "teacher.json"
_BYTES = 2
_HEADER = 128  # of a .npy file
Float16 = npt.NDArray[np.float16]


class Encoder(Protocol):
    """The teacher: a backend, of which only `encode` is needed."""

    def encode(self, image: npt.NDArray[np.float32]) -> Features:
        """Features of an image `(1, 3, S, S)`; the first is the embedding `(1, C, S/16, S/16)`."""
        ...


class EmbeddingCache:
    """Embeddings `(C, S/16, S/16)` of one teacher for frames of side S."""

    def __init__(self, folder: Path, teacher: str, side: int, channels: int) -> None:
        """Open the folder, or create it.

        Args:
            folder: folder of the files.
            teacher: identifies the teacher: variant and weights.
            side: the teacher's frame side S in pixels.
            channels: channels C of its embedding.

        Raises:
            UsageError: the folder holds another teacher's embeddings.
            OutputError: it cannot be written.
        """
        self.folder, self.side = folder, side
        self.shape = (channels, side // EMBEDDING_STRIDE, side // EMBEDDING_STRIDE)
        wanted = {"teacher": teacher, "side": side, "channels": channels}
        path = folder / IDENTITY
        if not path.exists():
            # Several processes may write this file at once, all with the same content.
            write_file(path, (json.dumps(wanted) + "\n").encode(), overwrite=True)
        try:
            found = read_json(path)
        except ValueError:
            found = None
        if found != wanted:
            raise UsageError(f"{folder} holds the embeddings of {found}, not of {wanted}: choose another folder")

    def bytes_needed(self, photos: int) -> int:
        """Bytes that so many photos take on disk."""
        return photos * (int(np.prod(self.shape)) * _BYTES + _HEADER)

    def path(self, source: str, key: str) -> Path:
        """The file of a record, named as in `Sample`.

        The name depends on the shard's file and its folder, because `coco/train.tar` and `ccp/train.tar` may both have
        a photo `0001`. It does not depend on the folders above, so the data can be moved as a whole.
        """
        shard = "/".join(Path(source).absolute().parts[-2:])
        name = hashlib.sha256(f"{shard}/{key}".encode("utf-8", "surrogateescape")).hexdigest()[:24]
        return self.folder / name[:2] / f"{name}.npy"

    def read(self, source: str, key: str) -> Float16:
        """The embedding of a record.

        Raises:
            DataError: it was not computed, or its file is damaged.
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
        allow_broken: float = ALLOWED_BROKEN,
    ) -> SkipLog:
        """Compute and store the missing embeddings.

        Args:
            sources: photos; their masks are not read.
            encoder: the teacher.
            progress: called with the number of photos that are done, and of all.
            part: number of this process's part of the records, from 0.
            parts: number of parts that the records are divided into.
            allow_broken: largest accepted share of broken records, 0..1.

        Returns:
            The records that could not be used.

        Raises:
            OutputError: the disk is too full; raised before anything is computed.
            DataError: too many records are broken, or an embedding is too large for half precision.
        """
        own = [source.part(part, parts) for source in sources]
        missing = [source.select(self._absent(source)) for source in own]
        total, left = (sum(len(source) for source in each) for each in (own, missing))
        require_space(self.folder, self.bytes_needed(left * parts))
        log = SkipLog(allow_broken)
        done = total - left
        log.add(done)  # the share of broken records is that of the whole data, not of the photos that are left
        progress(done, total)
        for source in filter(len, missing):
            for sample in walk(source, log, photos_only=True):
                embedding = encoder.encode(letterbox(sample, self.side).image[None])[0][0]
                write_file(self.path(sample.source, sample.key), _stored(embedding, str(sample.key)), overwrite=True)
                done += 1
                progress(done, total)
        return log

    def _absent(self, source: Source) -> npt.NDArray[np.bool_]:
        """Which of a source's records have no file yet."""
        names = (source.record_name(number) for number in range(len(source)))
        return np.array([not self.path(*name).exists() for name in names], np.bool_)


def _stored(embedding: npt.NDArray[np.float32], key: str) -> bytes:
    """The content of an embedding's file."""
    with np.errstate(over="ignore"):
        half = embedding.astype(np.float16)
    if not np.isfinite(half).all():
        raise DataError(
            f"the teacher's embedding of {key} reaches {np.abs(embedding).max():.3g}, which half precision cannot "
            "represent: check the teacher's weights"
        )
    content = io.BytesIO()
    np.save(content, half)
    return content.getvalue()
