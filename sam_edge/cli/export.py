"""`sam-edge export`: weights in, a verified bundle out."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from sam_edge_runtime.errors import BoundError, UsageError

from .console import OUTPUT, line, note, stages
from .options import numbers_of, seconds_of

if TYPE_CHECKING:
    from sam_edge.export.job import ExportJob
    from sam_edge.export.pipeline import ExportResult
    from sam_edge.prediction.reference_cache import ReferenceCache

ALL = "all"  # targets

EXAMPLES = (
    "Examples:  sam-edge export --out nano      sam-edge export --target all --precision fp32,fp16 --out nano      "
    "sam-edge export --target coreml --precision mixed --picture-input --out Nano      "
    "sam-edge export --target all --precision auto --calibration photos/ --out nano8      "
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
    target: Annotated[
        str, typer.Option("--target", "-t", help="Artifact to make: onnx, coreml, tflite, several with commas, or all.")
    ] = "onnx",
    precision: Annotated[
        str,
        typer.Option(
            help="Numeric precision: fp32, fp16, mixed (coreml: fp16 but for operations measured unsafe in it); w8, w4 "
            "(weights in 8 or 4 bits), dynamic (activations in 8 bits, ranged in each call), w8a8, w8a16 (ranged by "
            "--calibration); auto (the fastest mixture of them within --bound, searched for); or several with commas."
        ),
    ] = "fp32",
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="Recipe file that says what each layer is kept in, instead of --precision.", show_default=False
        ),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            help="Photos for the ranges of activations: a folder, a tar as SA-1B's shards are, or a pattern such as "
            "'sa_{000000,000400}.tar'. Default: the sample photos, which are few."
        ),
    ] = None,
    photos: Annotated[int, typer.Option(help="How many of them, spread evenly.")] = 32,
    host: Annotated[
        str | None,
        typer.Option(help="Processor that the 8-bit operations are for: x86 or arm (onnx). Default: this machine's."),
    ] = None,
    bound: Annotated[
        float, typer.Option(help="auto: smallest mask mIoU with fp32 torch, on photos of --calibration.")
    ] = 0.98,
    budget: Annotated[str, typer.Option(help="auto: how long the search of a bundle may take: 90s, 10m, 1h.")] = "2m",
    keep: Annotated[
        bool, typer.Option("--keep", help="auto: keep the best bundle found even where it misses the bound.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder of the bundle, or of the targets' bundles. Default: MODEL-TARGET-PRECISION."
        ),
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
        str | None,
        typer.Option(
            help="Fix the number of prompts answered in one call. For tflite also several with commas, such as 1,8: "
            "the file has a signature for each. Default: any number; 1 for coreml and tflite."
        ),
    ] = None,
    flexible: Annotated[
        bool,
        typer.Option(
            "--flexible",
            help="coreml: any number of prompts and slots up to 64, instead of the fixed ones of the Neural Engine.",
        ),
    ] = False,
    picture_input: Annotated[
        bool,
        typer.Option("--picture-input", help="coreml: the photo is an image (CVPixelBuffer, CGImage), not a tensor."),
    ] = False,
    graph: Annotated[
        str,
        typer.Option(
            help="coreml: plain, or ane for a rewrite after Apple's rules for the Neural Engine; the same answers."
        ),
    ] = "plain",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle.")] = False,
) -> None:
    """Export image encoder and mask decoder as a bundle for each target, and verify it against fp32 torch.

    A bundle appears whole or not at all. Exit code 1 if one misses an accuracy bound.
    """
    try:
        from sam_edge.export.job import ExportJob  # noqa: PLC0415  # brings torch and the converters
    except ImportError as error:
        raise UsageError(f"export needs {error.name or error}: pip install 'sam-edge[export]'") from error
    from sam_edge.prediction.reference_cache import ReferenceCache  # noqa: PLC0415
    from sam_edge.reporting.tables import Row, overview_table  # noqa: PLC0415
    from sam_edge_runtime.bundle.targets import TARGETS, target_named  # noqa: PLC0415
    from sam_edge_runtime.system.memory import peak_bytes, reset_peak  # noqa: PLC0415

    targets = tuple(TARGETS) if target == ALL else tuple(dict.fromkeys(target.split(",")))
    for each in targets:  # before the first of several is made
        target_named(each, ALL)
    sizes = None if prompts is None else numbers_of("--prompts", prompts)
    precisions = tuple(dict.fromkeys(precision.split(",")))
    seconds = seconds_of("--budget", budget)

    def folder(target: str, precision: str) -> Path:
        if out is None:
            return Path(f"{model}-{target}-{precision}")
        names = [name for name, count in ((target, len(targets)), (precision, len(precisions))) if count > 1]
        return out / "-".join(names) if names else out

    jobs = [  # all of them before the first is made: a wrong one of several is found at once
        ExportJob(
            variant=model,
            out=folder(each_target, each_precision),
            checkpoint=checkpoint,
            target=each_target,
            precision=each_precision,
            input_side=input_size,
            prompts=sizes,
            points=points,
            overwrite=overwrite,
            graph=graph,
            picture_input=picture_input,
            flexible=flexible,
            recipe=recipe,
            calibration=calibration,
            photos=photos,
            host=host,
            bound=bound,
            budget=seconds,
            keep=keep,
        )
        for each_target in targets
        for each_precision in precisions
    ]
    rows, known = [], ReferenceCache()
    missed = False
    for job in jobs:
        begun = perf_counter()
        reset_peak()
        try:
            result = _export(job, known)
        except BoundError as error:  # of one target; the others may have better luck
            if len(jobs) == 1:
                raise
            note(f"bound missed: {error}", "red")
            missed = True
            continue
        rows.append(
            Row(result.bundle.manifest, result.agreement, bool(result.missed), perf_counter() - begun, peak_bytes())
        )
    if len(rows) > 1:
        OUTPUT.print(overview_table(rows))
    if missed or any(row.missed for row in rows):
        raise typer.Exit(1)


def _export(job: ExportJob, known: ReferenceCache) -> ExportResult:
    """One bundle, with what is to be said of it."""
    from sam_edge.export.pipeline import export_bundle  # noqa: PLC0415
    from sam_edge.reporting.tables import agreement_table  # noqa: PLC0415

    with stages() as announce:
        result = export_bundle(job, announce, known)
    manifest = result.bundle.manifest
    OUTPUT.print(agreement_table(manifest, "golden.npz, answered by fp32 torch", result.agreement, result.engine))
    line(f"{result.bundle.root}  {result.bundle.size / 1e6:.1f} MB")
    for missed in result.missed:
        note(f"bound missed: {missed}", "red")
    return result
