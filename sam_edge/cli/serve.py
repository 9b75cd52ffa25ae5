"""`sam-edge serve`: a page to segment photos and to annotate them, from this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sam_edge_runtime.errors import UsageError, missing_package

from .console import line, note, progress_bar
from .options import MaxPixels, allow_pixels

if TYPE_CHECKING:
    from sam_edge.serving.server import Served

EXAMPLES = (
    "Examples:  sam-edge serve      sam-edge serve nano-fp32 nano-w8a8      sam-edge serve bundle --engine server      "
    "sam-edge serve --annotate photos/ --out masks/"
)


def command(
    bundles: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[BUNDLE]...",
            help="Folders of bundles; the second is compared with the first. Default: nano, exported once.",
            show_default=False,
        ),
    ] = None,
    annotate: Annotated[
        Path | None, typer.Option("--annotate", metavar="PHOTOS", help="Annotate the photos of this folder.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="With --annotate: folder for the masks. A session there goes on.")
    ] = None,
    existing: Annotated[
        Path | None,
        typer.Option(
            "--existing", help="With --annotate: folder of JSON files with masks to begin with, as segment writes them."
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option("--engine", help="Where photos are encoded: browser, or server for the Python runtime.")
    ] = "browser",
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option("--port", help="Port; 0: any free one. Default: 8000, or the next that is free."),
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    token: Annotated[
        bool, typer.Option("--token/--no-token", help="Whether the address has a token that every request needs.")
    ] = True,
    threads: Annotated[int | None, typer.Option(help="Threads of the server's engines. Default: one a core.")] = None,
    max_pixels: MaxPixels = None,
) -> None:
    """Open a page that segments photos by clicks and boxes, or annotates a folder of them. Ctrl-C ends it.

    Photos and masks stay on this machine: nothing is loaded from or sent to another one.
    """
    allow_pixels(max_pixels)
    try:
        from sam_edge.serving.job import ServeJob, annotation_job  # noqa: PLC0415
        from sam_edge.serving.page import Page  # noqa: PLC0415
        from sam_edge.serving.server import serve  # noqa: PLC0415  # brings starlette and uvicorn
    except ImportError as error:
        raise UsageError(f"the server needs {missing_package(error)}: pip install 'sam-edge[serve]'") from error
    annotation = annotation_job(annotate, out, existing)
    page = Page.open()  # refused before a bundle is made
    job = ServeJob(tuple(bundles) if bundles else (_default_bundle(),), annotation, engine, host, port, token, threads)
    serve(job, page, _announce, browser=browser)


def _default_bundle() -> Path:
    from sam_edge.serving.default_bundle import default_bundle  # noqa: PLC0415

    with progress_bar("looking for nano's bundle") as show:
        return default_bundle(show)


def _announce(served: Served) -> None:
    for text in served.notes:
        note(text)
    line(served.address)
    note(f"serving {', '.join(served.bundles)}; Ctrl-C ends it", "")
