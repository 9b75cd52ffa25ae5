"""The photos of a folder."""

from __future__ import annotations

from pathlib import Path

from sam_edge_runtime.errors import UsageError
from sam_edge_runtime.photo.formats import PHOTO_ENDINGS

from .pairs import RECORD_ENDING, is_drawn


def photo_files(path: Path) -> list[Path]:
    """The photos in a folder, sorted by name, or the one file that `path` names.

    Subfolders are not searched. Pictures of masks that `sam-edge segment` has written are left out.

    Raises:
        UsageError: nothing is at `path`, or the folder holds no photo.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist: name a photo, or a folder of photos")
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.is_file())
    records = {file.stem for file in files if file.suffix.lower() == RECORD_ENDING}
    photos = [file for file in files if file.suffix.lower() in PHOTO_ENDINGS and not is_drawn(file, records)]
    if not photos:
        raise UsageError(f"folder {path} holds no photos ({', '.join(PHOTO_ENDINGS)}): name another")
    return photos
