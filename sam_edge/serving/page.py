"""The built page: what Vite made of its sources, in `static/` beside this file.

The files are no part of the repository. `make web` builds them; wheels hold them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sam_edge_runtime.errors import UsageError

from .files import FOR_EVER, REVALIDATED, ServedFile, is_inside

STATIC = Path(__file__).parent / "static"
INDEX = "index.html"
HASHED = "assets/"  # Vite's folder of files whose names change with their content


@dataclass(frozen=True)
class Page:
    """The files of the page, by POSIX path."""

    files: dict[str, ServedFile]

    @classmethod
    def open(cls, folder: Path | None = None) -> Page:
        """The page in a folder; None: in `STATIC`.

        Raises:
            UsageError: it is not built.
        """
        folder = STATIC if folder is None else folder
        if not (folder / INDEX).is_file():
            raise UsageError(
                "the page is not built in this checkout: run `make web` there (it needs Node.js), or install the wheel"
            )
        found: dict[str, ServedFile] = {}
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and is_inside(folder, path):
                found[name] = ServedFile.of(path, FOR_EVER if name.startswith(HASHED) else REVALIDATED)
        return cls(found)
