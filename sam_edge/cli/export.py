"""`sam-edge export`: weights in, a verified bundle out."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from sam_edge_runtime.errors import BoundError, UsageError, missing_package

from .console import OUTPUT, line, note, stages
from .options import (
    AUTO,
    MODEL_HELP,
    AcceptLicence,
    MaxPixels,
    accept_licence,
    allow_pixels,
    model_of,
    numbers_of,
    seconds_of,
)

if TYPE_CHECKING:
    from sam_edge.export.job import ExportJob, LossGoal
    from sam_edge.export.pipeline import ExportResult
    from sam_edge.prediction.reference_cache import ReferenceCache

ALL = "all"  # targets

EXAMPLES = (
    "Examples:  sam-edge export --out nano      sam-edge export --target all --precision fp32,fp16 --out nano      "
    "sam-edge export --target coreml --precision mixed --picture-input --out Nano      "
    "sam-edge export --target all --precision auto --calibration photos/ --out nano8      "
    "sam-edge export --precision auto --labelled val.tar --loss 0.005 --calibration photos/ --out nano8      "
    "sam-edge export --precision auto --tuner neural-compressor --calibration photos/ --out nano8      "
    "sam-edge export --target tflite --frame 4:3,3:4,16:9 --out camera      "
    "sam-edge export --words shipped --out nano      "
    "sam-edge export --checkpoint medsam_vit_b.pth --out medsam      "
    "sam-edge export --checkpoint hf:facebook/sam-vit-base --out sam-b      "
    "sam-edge export --model tiny_vit --checkpoint random:0 --points 8 --prompts 1 --out phone"
)


def command(
    model: Annotated[str, typer.Option("--model", "-m", help=f"Variant, see `sam-edge models`; {MODEL_HELP}")] = AUTO,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="Weights: a file (.pth, .pt, .safetensors) or folder, hf:OWNER/NAME on the Hugging Face Hub, or "
            "random:SEED. Default: shipped (nano), or downloaded."
        ),
    ] = None,
    target: Annotated[
        str, typer.Option("--target", "-t", help="Target: onnx, coreml, tflite, several separated by commas, or all.")
    ] = "onnx",
    precision: Annotated[
        str,
        typer.Option(
            help="Numeric precision: fp32, fp16, mixed (coreml: fp16, but fp32 for operations measured unsafe in it); "
            "w8, w4 (weights in INT8 or INT4); dynamic (activations in INT8, ranges measured in each call); w8a8, "
            "w8a16 (ranges measured on --calibration); npu (onnx, tflite: w8a8 layers among 16-bit operations for "
            "Qualcomm's NPU, decoder in fp32); auto (search for the fastest mixed-precision configuration "
            "within --bound or --loss); or several separated by commas."
        ),
    ] = "fp32",
    recipe: Annotated[
        Path | None,
        typer.Option(help="Recipe file with a scheme for each layer, instead of --precision.", show_default=False),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            help="Photos to measure ranges of activations on: a folder, a tar like SA-1B's shards, or a pattern such "
            "as 'sa_{000000,000400}.tar'. Default: the sample photos, which are few."
        ),
    ] = None,
    photos: Annotated[int, typer.Option(help="How many calibration photos to use, evenly spaced.")] = 32,
    host: Annotated[
        str | None,
        typer.Option(help="onnx: processor that INT8 operations are made for: x86 or arm. Default: this machine's."),
    ] = None,
    bound: Annotated[
        float, typer.Option(help="auto: smallest mask mIoU with fp32 torch, on golden pictures and calibration photos.")
    ] = 0.98,
    budget: Annotated[str, typer.Option(help="auto: time limit of the search for each bundle: 90s, 10m, 1h.")] = "2m",
    keep: Annotated[
        bool, typer.Option("--keep", help="auto: export the best configuration even if it misses --bound or --loss.")
    ] = False,
    labelled: Annotated[
        str | None,
        typer.Option(
            help="auto: photos with masks that people drew, such as a tar like SA-1B's shards. The search then keeps "
            "--loss on them instead of --bound. Calibration photos among them are left out.",
            show_default=False,
        ),
    ] = None,
    loss: Annotated[
        float | None,
        typer.Option(
            help="auto: largest loss of mIoU with the masks of --labelled, against fp32 torch on the same boxes and "
            "clicks, such as 0.005.",
            show_default=False,
        ),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            help="auto: the loss must be within --loss with this confidence (0.5 to 1), which needs more photos. "
            "Default: the measured loss must be, and its interval at 0.95 is reported.",
            show_default=False,
        ),
    ] = None,
    labelled_photos: Annotated[int, typer.Option(help="auto: how many photos of --labelled to use.")] = 40,
    tuner: Annotated[
        str, typer.Option(help="auto: what proposes configurations: sam-edge, or neural-compressor (an extra).")
    ] = "sam-edge",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder of the bundle, or of several bundles. Default: MODEL-TARGET-PRECISION."
        ),
    ] = None,
    input_size: Annotated[
        int | None,
        typer.Option(help="Side of the frame in pixels: a multiple of 64, 256 to 1024. Default: that of training."),
    ] = None,
    frame: Annotated[
        str,
        typer.Option(
            help="Shape of the frame, width:height such as 4:3 or 16:9, or its size such as 1024x576: a photo of that "
            "shape has no padding to compute. Several separated by commas share the weights. square: as the reference."
        ),
    ] = "square",
    points: Annotated[
        int | None,
        typer.Option(
            help="Fix the number of slots per prompt: a click takes one, a box two, clicks without a box one more. "
            "Default: any number; 10 for coreml and tflite, whose shapes are fixed."
        ),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            help="Fix the number of prompts per call. For tflite also several separated by commas, such as 1,8: the "
            "file has a signature for each. Default: any number; 1 for coreml and tflite."
        ),
    ] = None,
    flexible: Annotated[
        bool,
        typer.Option(
            "--flexible",
            help="coreml: any number of prompts and slots up to 64; the Neural Engine needs fixed numbers.",
        ),
    ] = False,
    picture_input: Annotated[
        bool,
        typer.Option("--picture-input", help="coreml: the encoder takes an image (CVPixelBuffer, CGImage), no tensor."),
    ] = False,
    graph: Annotated[
        str,
        typer.Option(
            help="coreml: plain, or ane, rewritten by Apple's rules for the Neural Engine; the masks are the same."
        ),
    ] = "plain",
    layout: Annotated[
        str,
        typer.Option(
            help="onnx: sam-edge, or official for the tensors of the official SAM ONNX decoder, as "
            "AnyLabeling and segment_anything's demo feed them."
        ),
    ] = "sam-edge",
    return_single_mask: Annotated[
        bool,
        typer.Option("--return-single-mask", help="--layout official: return the best mask of a prompt, not all four."),
    ] = False,
    hq_token_only: Annotated[
        bool, typer.Option("--hq-token-only", help="SAM-HQ: the HQ mask alone, not its sum with SAM's own mask.")
    ] = False,
    words: Annotated[
        str | None,
        typer.Option(
            help="nano: let the bundle take text: `shipped` for the words that come with sam-edge, or a file that "
            "`sam-edge train words` wrote.",
            show_default=False,
        ),
    ] = None,
    text_encoder: Annotated[
        Path | None,
        typer.Option(
            help="Folder of `sam-edge export-clip`: its text encoder comes into the bundle, for weights of `train "
            "--stage text`.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle.")] = False,
    accepted: AcceptLicence = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Export image encoder and mask decoder as a bundle for each target, and verify it against fp32 torch.

    A bundle is written completely or not at all. Exit code 1 if one misses an accuracy bound.
    """
    accept_licence(accepted=accepted)
    allow_pixels(max_pixels)
    try:
        from sam_edge.export.job import ExportJob  # noqa: PLC0415  # brings torch and the converters
    except ImportError as error:
        raise UsageError(f"export needs {missing_package(error)}: pip install 'sam-edge[export]'") from error
    from sam_edge.prediction.reference_cache import ReferenceCache  # noqa: PLC0415
    from sam_edge.reporting.tables import Row, overview_table  # noqa: PLC0415
    from sam_edge_runtime.bundle.targets import TARGETS, target_named  # noqa: PLC0415
    from sam_edge_runtime.system.memory import peak_bytes, reset_peak  # noqa: PLC0415

    targets = tuple(TARGETS) if target == ALL else tuple(dict.fromkeys(target.split(",")))
    for each in targets:  # before the first export
        target_named(each, ALL)
    sizes = None if prompts is None else numbers_of("--prompts", prompts)
    precisions = tuple(dict.fromkeys(precision.split(",")))
    seconds = seconds_of("--budget", budget)

    model = model_of(model, checkpoint)

    def folder(target: str, precision: str) -> Path:
        if out is None:
            return Path(f"{model}-{target}-{precision}")
        names = [name for name, count in ((target, len(targets)), (precision, len(precisions))) if count > 1]
        return out / "-".join(names) if names else out

    goal = _loss_goal(labelled, loss, confidence, labelled_photos)

    def is_for_search(precision: str) -> bool:
        """Whether a search's options are for this export; where none is searched for, each refuses them."""
        return precision == "auto" or "auto" not in precisions

    jobs = [  # all of them before the first export: each one is checked when it is made
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
            layout=layout,
            return_single_mask=return_single_mask,
            loss=goal if is_for_search(each_precision) else None,
            tuner=tuner if is_for_search(each_precision) else "sam-edge",
            frames=tuple(dict.fromkeys(frame.split(","))),
            hq_token_only=hq_token_only,
            words=words,
            text_encoder=text_encoder,
        )
        for each_target in targets
        for each_precision in precisions
    ]
    rows, cache = [], ReferenceCache()
    missed = False
    for job in jobs:
        started = perf_counter()
        reset_peak()
        try:
            result = _export(job, cache)
        except BoundError as error:  # the other exports go on
            if len(jobs) == 1:
                raise
            note(f"bound missed: {error}", "red")
            missed = True
            continue
        rows.append(
            Row(result.bundle.manifest, result.agreement, bool(result.missed), perf_counter() - started, peak_bytes())
        )
    if len(rows) > 1:
        OUTPUT.print(overview_table(rows))
    if missed or any(row.missed for row in rows):
        raise typer.Exit(1)


def _loss_goal(labelled: str | None, loss: float | None, confidence: float | None, photos: int) -> LossGoal | None:
    """The goal that --labelled and its companions state; None where they are absent.

    Raises:
        UsageError: one of them is missing, or out of range.
    """
    from sam_edge.export.job import LossGoal  # noqa: PLC0415

    if labelled is None:
        for option, value in (("--loss", loss), ("--confidence", confidence)):
            if value is not None:
                raise UsageError(
                    f"{option} {value} needs masks that people drew to measure a loss on: name some with --labelled"
                )
        return None
    if loss is None:
        raise UsageError("--labelled needs the loss of mIoU that is allowed: add --loss, such as --loss 0.005")
    return LossGoal(labelled, loss, confidence, photos)


def _export(job: ExportJob, cache: ReferenceCache) -> ExportResult:
    """Export one bundle and print its figures."""
    from sam_edge.export.pipeline import export_bundle  # noqa: PLC0415
    from sam_edge.reporting.tables import agreement_table  # noqa: PLC0415

    with stages() as announce:
        result = export_bundle(job, announce, cache)
    manifest = result.bundle.manifest
    OUTPUT.print(agreement_table(manifest, "golden.npz, computed by fp32 torch", result.agreement, result.engine))
    line(f"{result.bundle.root}  {result.bundle.size / 1e6:.1f} MB")
    for missed in result.missed:
        note(f"bound missed: {missed}", "red")
    return result
