"""Files that the server gives out: listed once, so that no path in a request is ever joined to a folder.

A request names a file by its place in the list; any other name is unknown. Links that lead out of a folder are left out
of the list.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from sam_edge_runtime.system.files import sha256_of

# By the end of a file's name. The system's own table is not asked: on Windows programs change it.
MEDIA_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".json": "application/json",
    ".map": "application/json",
    ".webmanifest": "application/manifest+json",
    ".wasm": "application/wasm",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".jfif": "image/jpeg",
    ".jpe": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".bmp": "image/bmp",
    ".avif": "image/avif",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".txt": "text/plain",
}
OTHER = "application/octet-stream"
REVALIDATED, FOR_EVER = "private, no-cache", "private, max-age=31536000, immutable"


@dataclass(frozen=True)
class ServedFile:
    """A file of the list.

    Attributes:
        path: where it lies, without links.
        sha256: of its content, hexadecimal.
        cache: what browsers may do with it.
    """

    path: Path
    sha256: str
    cache: str = REVALIDATED

    @classmethod
    def of(cls, path: Path, cache: str = REVALIDATED) -> ServedFile:
        """A file as it is now."""
        return cls(path.resolve(), sha256_of(path), cache)

    def response(self, request: Request) -> Response:
        """The file, or a part of it, or the news that the browser has it already."""
        etag = f'"sha256-{self.sha256}"'
        headers = {"ETag": etag, "Cache-Control": self.cache}
        if etag in (each.strip() for each in request.headers.get("if-none-match", "").split(",")):
            return Response(status_code=304, headers=headers)
        return FileResponse(self.path, headers=headers, media_type=media_type_of(self.path.name))


def media_type_of(name: str) -> str:
    """The media type of a file, by its name."""
    return MEDIA_TYPES.get(PurePosixPath(name).suffix.lower(), OTHER)


def is_inside(folder: Path, path: Path) -> bool:
    """Whether a path stays in a folder when all links are followed."""
    try:
        return path.resolve(strict=True).is_relative_to(folder.resolve(strict=True))
    except (OSError, RuntimeError):  # it is gone, or a circle of links
        return False
