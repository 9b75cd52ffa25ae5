"""Masks that are there before people begin: the semi-automatic stage of SAM's data engine.

Source: arXiv 2304.02643, section 4. There a detector found the confident masks, and people added the rest.

They come from JSON files as `sam-edge segment` writes them, or of any layout that the data readers take, in a folder of
their own. A file has the name of its photo.
"""

from __future__ import annotations

from pathlib import Path

from sam_edge.data.orientation import decode_annotated
from sam_edge.data.pairs import RECORD_ENDING, RECORD_FOLDERS
from sam_edge.data.sa1b import STORED, Annotation, parse_record
from sam_edge.data.skips import BrokenRecordError
from sam_edge_runtime.errors import DataError, PhotoError, UsageError
from sam_edge_runtime.system.text import read_regular

from .bodies import LARGEST_PICTURE
from .files import is_inside
from .photo_queue import PhotoQueue, QueuedPhoto


class ExistingMasks:
    """The JSON files of a folder, or of one of its folders such as `annotations`.

    Args:
        folder: that holds them.
        queue: the photos that they belong to.

    Raises:
        UsageError: there is no such folder.
        DataError: no file in it has the name of a photo.
    """

    def __init__(self, folder: Path, queue: PhotoQueue) -> None:
        if not folder.is_dir():
            raise UsageError(f"--existing {folder} is no folder: name one with JSON files as `sam-edge segment` writes")
        folders = [folder, *(path for path in sorted(folder.iterdir()) if path.name.lower() in RECORD_FOLDERS)]
        files = {
            path.name: path
            for each in reversed(folders)
            if each.is_dir()
            for path in each.iterdir()
            if path.suffix.lower() == RECORD_ENDING and is_inside(folder, path)
        }
        self._files = {
            photo.key: files[name]
            for photo in queue.photos.values()
            for name in (f"{photo.path.stem}{RECORD_ENDING}", f"{photo.path.name}{RECORD_ENDING}")
            if name in files
        }
        if not self._files:
            raise DataError(f"--existing {folder} holds no JSON file with the name of a photo in {queue.folder}")

    def of(self, photo: QueuedPhoto, size: tuple[int, int], content: bytes) -> tuple[Annotation, ...]:
        """The masks of a photo in its upright frame; none where it has no file.

        Args:
            photo: of the queue.
            size: (H, W) of the upright photo in pixels.
            content: the photo's file.

        Raises:
            DataError: the JSON file cannot be used.
        """
        path = self._files.get(photo.key)
        if path is None:
            return ()
        try:
            record = parse_record(read_regular(path, LARGEST_PICTURE), content)
            if record.size != size or record.orientation == STORED:
                _, record = decode_annotated(content, photo.key, record)
        except (OSError, ValueError, BrokenRecordError, PhotoError) as error:
            raise DataError(f"the masks in {path.name} cannot be used: {error}") from error
        return tuple(each for each in record.annotations if each.area)
