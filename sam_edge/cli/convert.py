"""`sam-edge convert`: a checkpoint of any make as one safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam_edge_runtime.errors import UsageError, missing_package

from .console import line, note
from .options import AcceptLicence, accept_licence

EXAMPLES = (
    "Examples:  sam-edge convert medsam_run.pth medsam.safetensors --layout hf      "
    "sam-edge convert hf:facebook/sam-vit-base sam_vit_b.safetensors      "
    "sam-edge convert adapter/ merged.safetensors"
)


def command(
    weights: Annotated[
        str, typer.Argument(metavar="FILE", help="File or folder of weights, or hf:OWNER/NAME.", show_default=False)
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.safetensors", help="File to write.", show_default=False)],
    layout: Annotated[
        str, typer.Option(help="Names of the tensors: official (the model's own project's), or hf (transformers').")
    ] = "official",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    accepted: AcceptLicence = False,
) -> None:
    """Write a checkpoint's model as one safetensors file, without what stands beside it.

    Adapters are merged. The file is read without running code from it, and keeps its precision.
    """
    try:
        from sam_edge.weights.conversion import convert  # noqa: PLC0415  # brings torch
        from sam_edge.weights.source import parse_source  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(f"conversion needs {missing_package(error)}: pip install 'sam-edge[export]'") from error
    accept_licence(accepted=accepted)
    found = convert(parse_source(weights), out, layout, overwrite=overwrite)
    note(found.described, "")
    line(f"{out}  {out.stat().st_size / 1e6:.1f} MB, {len(found.checkpoint.state)} tensors")
