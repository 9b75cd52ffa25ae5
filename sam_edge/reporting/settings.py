"""The settings of a run that several processes and hosts share, in a file of its output folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sam_edge_runtime.errors import OutputError
from sam_edge_runtime.system.documents import read_json
from sam_edge_runtime.system.files import is_staging, write_file


def written_settings(path: Path, wanted: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Write the settings, unless they are there, and read those that are there.

    Args:
        path: the file, in a folder that does not exist yet or is the run's.
        wanted: the settings, which JSON can hold.
        what: what such a folder holds, for the error.

    Returns:
        The settings in the file; empty if it holds no JSON object.

    Raises:
        OutputError: the folder holds something else, or the file cannot be written or read.
    """
    out = path.parent
    if not path.exists():
        if out.exists() and (not out.is_dir() or not all(map(is_staging, out.iterdir()))):
            raise OutputError(f"{out} exists and holds no {what}: choose another folder")
        try:
            write_file(path, (json.dumps(wanted, indent=1) + "\n").encode(), overwrite=False)
        except OutputError:
            if not path.exists():  # else another process was first, and its file is read
                raise
    try:
        written = read_json(path)
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} cannot be read ({error}): choose another folder") from error
    return written if isinstance(written, dict) else {}
