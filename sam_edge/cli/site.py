"""`sam-edge site`: the page and bundles as a static site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam_edge_runtime.errors import UsageError, missing_package

from .console import line

EXAMPLES = (
    "Examples:  sam-edge site bundle --out public      sam-edge site nano-fp32 nano-w8a8 --out public --overwrite"
)


def command(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="Folders of ONNX bundles.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the site.")] = Path("site"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier site.")] = False,
) -> None:
    """Write the page of `sam-edge serve` and bundles as a folder for any web server. Photos stay in the browser."""
    try:
        from sam_edge.serving.site import write_site  # noqa: PLC0415  # brings starlette
    except ImportError as error:
        raise UsageError(f"the site needs {missing_package(error)}: pip install 'sam-edge[serve]'") from error
    result = write_site(bundles, out, overwrite=overwrite)
    line(f"{result.folder}  {result.files} files, {result.size / 1e6:.1f} MB")
