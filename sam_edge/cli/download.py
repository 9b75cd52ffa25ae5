"""`sam-edge download`: official weights into the cache."""

from __future__ import annotations

from typing import Annotated

import typer

from sam_edge.weights.clip_catalogue import downloads_of
from sam_edge_runtime.errors import UsageError, missing_package

from .console import line
from .options import AcceptLicence, accept_licence

EXAMPLES = "Example:  sam-edge download vit_b"


def command(
    variant: Annotated[str, typer.Argument(help="Variant, see `sam-edge models`.", show_default=False)],
    accepted: AcceptLicence = False,
) -> None:
    """Download a variant's official weights into the cache and check their SHA-256.

    With a text encoder comes its tokenizer. An interrupted download is resumed.
    """
    accept_licence(accepted=accepted)
    releases = downloads_of(variant)
    try:
        from sam_edge.weights.download import download  # noqa: PLC0415  # imports pooch and requests
    except ImportError as error:
        raise UsageError(f"downloads need {missing_package(error)}: pip install 'sam-edge[download]'") from error
    for release in releases:
        line(str(download(release)))
