"""What to serve; checked before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sam_edge_runtime.errors import UsageError

from .hosted_bundle import BROWSER

HOST, PORT = "127.0.0.1", 8000
HIGHEST_PORT = 65535


@dataclass(frozen=True)
class AnnotationJob:
    """A session of annotation.

    Attributes:
        photos: folder of the photos.
        out: folder for the records; a session there goes on.
        existing: folder of JSON files with masks that are there already, or None.
    """

    photos: Path
    out: Path
    existing: Path | None = None


@dataclass(frozen=True)
class ServeJob:
    """A server.

    Attributes:
        bundles: folders of the bundles, one or more.
        annotation: the session of annotation; None for the page that opens any photo.
        engine: where the page encodes at first, `browser` or `server`.
        host: address to listen on.
        port: to listen on; 0 for any free one; None for 8000, or a free one where that is taken.
        needs_token: whether every request must bring the token.
        threads: threads of each bundle's engine; None for its default.

    Raises:
        UsageError: a port out of range, or no host.
    """

    bundles: tuple[Path, ...]
    annotation: AnnotationJob | None = None
    engine: str = BROWSER
    host: str = HOST
    port: int | None = None
    needs_token: bool = True
    threads: int | None = None

    def __post_init__(self) -> None:
        if not self.host.strip():
            raise UsageError("--host is empty: use 127.0.0.1, or leave it out")
        if self.port is not None and not 0 <= self.port <= HIGHEST_PORT:
            raise UsageError(f"--port {self.port} is out of range: use 1 to {HIGHEST_PORT}, or 0 for any free one")


def annotation_job(photos: Path | None, out: Path | None, existing: Path | None) -> AnnotationJob | None:
    """The session that the options describe; None without `photos`.

    Raises:
        UsageError: an option is missing, or stands without the one that it belongs to.
    """
    if photos is None:
        for option, value in (("--out", out), ("--existing", existing)):
            if value is not None:
                raise UsageError(f"{option} {value} belongs to --annotate: add --annotate with a folder of photos")
        return None
    if out is None:
        raise UsageError(f"--annotate {photos} needs a folder for the masks: add --out")
    return AnnotationJob(photos, out, existing)
