"""The folder of an annotation session: marked as sam-edge's, and written by one server at a time."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sam_edge_runtime.errors import OutputError
from sam_edge_runtime.system.documents import json_text, read_json
from sam_edge_runtime.system.files import is_staging, output_error, write_file
from sam_edge_runtime.system.folders import is_litter

if sys.platform != "win32":
    import fcntl

MARKER = ".sam-edge-session"  # readers of data pass over hidden files
FORMAT = "sam-edge-annotation-session"


class SessionFolder:
    """A folder for records, locked until it is closed.

    Args:
        path: made if it is missing. An earlier session's goes on.

    Raises:
        OutputError: the folder holds something else, another server writes to it, or it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            marker = path / MARKER
            if not marker.exists():
                others = sorted(
                    each.name for each in path.iterdir() if not is_litter(each.name) and not is_staging(each)
                )
                if others:
                    raise OutputError(
                        f"--out {path} holds {others[0]!r:.80}, which no such session wrote: choose another folder"
                    )
                write_file(marker, json_text({"format": FORMAT, "version": 1}).encode(), overwrite=False)
            elif not _is_marker(marker):
                raise OutputError(f"{marker} is not sam-edge's: choose another --out")
            self._handle = self._locked(marker)
            for left in path.iterdir():
                if is_staging(left) and left.is_file():  # of a killed server: nobody else writes here
                    left.unlink()
        except OSError as error:
            raise output_error(path, error) from error

    def close(self) -> None:
        """Let another server write here."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _locked(self, marker: Path) -> int | None:
        if sys.platform == "win32":
            return None
        handle = os.open(marker, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            raise OutputError(
                f"another `sam-edge serve` writes to {self.path}: use its address, or choose another --out"
            ) from error
        return handle


def _is_marker(path: Path) -> bool:
    try:
        document = read_json(path)
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and document.get("format") == FORMAT
