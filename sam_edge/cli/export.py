"""`sam-edge export`: weights in, a verified bundle out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam_edge_runtime.errors import UsageError

from .console import OUTPUT, line, note, stages

EXAMPLES = (
    "Examples:  sam-edge export --out nano      sam-edge export --target coreml --out phone      "
    "sam-edge export --model tiny_vit --checkpoint random:0 --points 8 --prompts 1 --out phone"
)


def command(
    model: Annotated[str, typer.Option("--model", "-m", help="Variant; see `sam-edge models`.")] = "nano",
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="File of weights (.pth, .pt, .safetensors), or random:SEED. Default: nano's own, the downloaded ones."
        ),
    ] = None,
    target: Annotated[str, typer.Option("--target", "-t", help="Artifact to make: onnx, coreml or tflite.")] = "onnx",
    precision: Annotated[str, typer.Option(help="Numeric precision: fp32.")] = "fp32",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the bundle. Default: MODEL-TARGET-PRECISION.")
    ] = None,
    input_size: Annotated[
        int | None,
        typer.Option(
            help="Side of the frame in pixels: a multiple of 64, 256 to 1024. Default: what it was trained for."
        ),
    ] = None,
    points: Annotated[
        int | None,
        typer.Option(
            help="Fix the number of prompt slots: a click takes one, a box two, clicks without a box one more. "
            "Default: any number; 10 for coreml and tflite, whose shapes are fixed."
        ),
    ] = None,
    prompts: Annotated[
        int | None,
        typer.Option(
            help="Fix the number of prompts answered in one call. Default: any number; 1 for coreml and tflite."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle.")] = False,
) -> None:
    """Export image encoder and mask decoder as a bundle, and verify it against fp32 torch.

    The bundle appears whole or not at all. Exit code 1 if it misses an accuracy bound.
    """
    try:
        from sam_edge.export import ExportJob, export_bundle  # noqa: PLC0415  # brings torch and the converters
    except ImportError as error:
        raise UsageError(f"export needs {error.name or error}: pip install 'sam-edge[export]'") from error
    from .tables import agreement_table  # noqa: PLC0415

    job = ExportJob(
        variant=model,
        out=out if out is not None else Path(f"{model}-{target}-{precision}"),
        checkpoint=checkpoint,
        target=target,
        precision=precision,
        input_side=input_size,
        prompts=prompts,
        points=points,
        overwrite=overwrite,
    )
    with stages() as announce:
        result = export_bundle(job, announce)
    manifest = result.bundle.manifest
    OUTPUT.print(agreement_table(manifest, "golden.npz, answered by fp32 torch", result.agreement))
    line(f"{result.bundle.root}  {result.bundle.size / 1e6:.1f} MB")
    if result.missed:
        for missed in result.missed:
            note(f"bound missed: {missed}", "red")
        raise typer.Exit(1)
