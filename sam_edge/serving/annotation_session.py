"""A session of annotation: the photos, the records, and who has which photo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from anyio import to_thread
from starlette.requests import Request

from .annotation_files import AnnotationFiles, check_apart
from .api_error import unknown
from .existing_masks import ExistingMasks
from .job import AnnotationJob
from .leases import HEARTBEAT_SECONDS, Leases
from .photo_queue import PhotoQueue
from .session_folder import SessionFolder
from .statistics import names_in_use

MASK_SECONDS = 30  # after which SAM's annotators were to go on to the next photo (arXiv 2304.02643, section 4)
LONGEST_ID, LONGEST_ANNOTATOR, LONGEST_NAME = 64, 60, 200  # characters


@dataclass(frozen=True)
class AnnotationSession:
    """An open session.

    Attributes:
        queue: the photos.
        folder: with the records; locked until it is closed.
        files: the records.
        leases: who has which photo.
        has_existing: whether there are masks before people begin.
    """

    queue: PhotoQueue
    folder: SessionFolder
    files: AnnotationFiles
    leases: Leases
    has_existing: bool

    @classmethod
    def open(cls, job: AnnotationJob, leases: Leases | None = None) -> AnnotationSession:
        """Open the photos and the folder of records.

        Raises:
            UsageError, DataError, OutputError: a folder is missing or holds something else.
        """
        queue = PhotoQueue(job.photos)
        check_apart(job.photos, job.out)
        existing = None if job.existing is None else ExistingMasks(job.existing, queue)
        folder = SessionFolder(job.out)
        try:
            files = AnnotationFiles(folder, queue, existing)
        except BaseException:
            folder.close()
            raise
        return cls(queue, folder, files, Leases() if leases is None else leases, existing is not None)

    def described(self) -> dict[str, Any]:
        """What the page is told of it."""
        return {
            "lease_seconds": self.leases.seconds,
            "heartbeat_seconds": HEARTBEAT_SECONDS,
            "mask_seconds": MASK_SECONDS,
            "photos": len(self.queue.photos),
            "existing": self.has_existing,
            "names": [name for name, _ in names_in_use(list(self.files.figures.values()))],
        }

    async def content(self, key: str) -> bytes:
        """The file of a photo.

        Raises:
            ApiError: there is no such photo.
            PhotoError: it cannot be read.
        """
        return await to_thread.run_sync(self.queue.content, self.known(key))

    def known(self, key: str) -> str:
        """The key of a photo.

        Raises:
            ApiError: there is no such photo.
        """
        if key not in self.queue.photos:
            raise unknown(f"the queue has no photo {key!r:.80}")
        return key

    def key_of(self, request: Request) -> str:
        """The key in a request's address.

        Raises:
            ApiError: there is no such photo.
        """
        return self.known(request.path_params["key"])

    def is_done(self, key: str) -> bool:
        """Whether a photo is finished."""
        figures = self.files.figures.get(key)
        return figures is not None and figures.done

    def left(self) -> int:
        """The number of photos that are neither finished nor known to be unreadable."""
        return sum(not self.is_done(key) and key not in self.queue.broken for key in self.queue.photos)
