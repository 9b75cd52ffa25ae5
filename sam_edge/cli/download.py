"""`sam-edge download`: official weights into the cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from sam_edge.weights.clip_catalogue import downloads_of
from sam_edge_runtime.errors import UsageError, missing_package

from .console import line
from .options import AcceptLicence, accept_licence

EXAMPLES = (
    "Examples:  sam-edge download vit_b      sam-edge download vit_b --from https://mirror.example.org/vit_b.pth      "
    "sam-edge download small --from weights/small.safetensors"
)


def command(
    variant: Annotated[str, typer.Argument(help="Variant, see `sam-edge models`.", show_default=False)],
    origin: Annotated[
        str | None,
        typer.Option("--from", help="Another http or https address of the same file, or a file on this machine."),
    ] = None,
    accepted: AcceptLicence = False,
) -> None:
    """Download a variant's official weights into the cache and check their SHA-256.

    With a text encoder comes its tokenizer. An interrupted download is resumed.
    """
    accept_licence(accepted=accepted)
    releases = downloads_of(variant)
    if origin is not None and len(releases) > 1:
        files = " and ".join(release.file for release in releases)
        raise UsageError(f"{variant} has the files {files}, and --from names one: leave out --from")
    try:
        from sam_edge.weights.download import download, take  # noqa: PLC0415  # imports pooch and requests
    except ImportError as error:
        raise UsageError(f"downloads need {missing_package(error)}: pip install 'sam-edge[download]'") from error
    for release in releases:
        if origin is None:
            path = download(release)
        elif "://" in origin:
            path = download(replace(release, url=origin))
        else:
            path = take(release, Path(origin).expanduser())
        line(str(path))
