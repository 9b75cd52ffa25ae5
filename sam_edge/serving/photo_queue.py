"""The photos to annotate: those of one folder, in the order of their names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sam_edge.annotation.record import result_names
from sam_edge.data.photo_files import photo_files
from sam_edge_runtime.errors import PhotoError, UsageError, printable
from sam_edge_runtime.photo.read import largest_photo, read_size
from sam_edge_runtime.system.text import read_regular

from .bodies import LARGEST_PICTURE
from .files import is_inside


@dataclass(frozen=True)
class QueuedPhoto:
    """A photo of the queue.

    Attributes:
        key: its name in addresses, and of its record: no other photo has it.
        path: its file.
        number: its place in the queue, from 0.
    """

    key: str
    path: Path
    number: int

    @property
    def file_name(self) -> str:
        """The file's name, for people."""
        return _valid(self.path.name)

    @property
    def own_file_name(self) -> str:
        """The name of its copy beside the record."""
        return f"{self.key}{self.path.suffix}"


class PhotoQueue:
    """The photos of a folder.

    Args:
        folder: of photos. Subfolders, hidden files, and links that lead out of it are left out.

    Attributes:
        photos: by key, in order.
        left_out: links that lead out of the folder.
        broken: why photos cannot be used, by key, of those that were tried.

    Raises:
        UsageError: there is no such folder, or it holds no photo.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UsageError(f"--annotate {folder} is no folder: name a folder of photos")
        self.folder = folder
        found = [path for path in photo_files(folder) if not path.name.startswith(".")]
        inside = [path for path in found if is_inside(folder, path)]
        if not inside:
            raise UsageError(f"folder {folder} holds no photos of its own: name another")
        self.left_out = tuple(path for path in found if path not in set(inside))
        names = result_names(inside)
        keys = {path: _valid(names[path]) for path in inside}
        self.photos = {keys[path]: QueuedPhoto(keys[path], path, number) for number, path in enumerate(inside)}
        self.broken: dict[str, str] = {}
        self._sizes: dict[str, tuple[int, int]] = {}

    def content(self, key: str) -> bytes:
        """A photo's file.

        Raises:
            PhotoError: it is gone, became a link that leads out of the folder, or is too large.
        """
        path = self.photos[key].path
        if not is_inside(self.folder, path):
            raise PhotoError(f"photo '{key}' is not in its folder any more")
        try:
            return read_regular(path.resolve(), LARGEST_PICTURE)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise PhotoError(f"photo '{key}' cannot be read ({reason})") from error

    def size(self, key: str) -> tuple[int, int]:
        """(H, W) of the upright photo in pixels, by its header.

        Raises:
            PhotoError: it cannot be read, or has too many pixels; `broken` has the reason from then on.
        """
        if key not in self._sizes:
            try:
                size = read_size(self.content(key))
                if size is None:
                    raise PhotoError(f"photo '{key}' is no picture in a supported format, or its header is damaged")
                if size[0] * size[1] > largest_photo():
                    raise PhotoError(
                        f"photo '{key}' has more than {largest_photo():,} pixels: allow it by --max-pixels"
                    )
            except PhotoError as error:
                self.broken[key] = str(error)
                raise
            self._sizes[key] = size
            self.broken.pop(key, None)
        return self._sizes[key]


def _valid(name: str) -> str:
    """A file's name as text that can be sent: what is no Unicode, or cannot be printed, becomes an escape."""
    return printable(name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
