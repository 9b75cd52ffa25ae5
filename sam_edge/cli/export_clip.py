"""`sam-edge export-clip`: a text and an image encoder, each as a verified artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam_edge_runtime.errors import BoundError, UsageError, missing_package

from .console import line, stages
from .options import AcceptLicence, accept_licence

EXAMPLES = (
    "Examples:  sam-edge export-clip --model tinyclip_vit_8m_16 --out words      "
    "sam-edge export-clip --model siglip2_base_16_224 --target tflite --precision w8 --out words      "
    "sam-edge export-clip --model clip_vit_b_32 --checkpoint random:0 --encoders text --out words"
)


def command(
    model: Annotated[str, typer.Option("--model", "-m", help="Text encoder, see `sam-edge models`.")] = "clip_vit_b_32",
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Weights: a file or folder, hf:OWNER/NAME, or random:SEED. Default: the downloaded ones."),
    ] = None,
    target: Annotated[str, typer.Option("--target", "-t", help="Target: onnx, coreml or tflite.")] = "onnx",
    precision: Annotated[
        str, typer.Option(help="Numeric precision: fp32, fp16, mixed (coreml), w8, dynamic, w8a8.")
    ] = "fp32",
    encoders: Annotated[str, typer.Option(help="Which encoders: text, image, or both separated by a comma.")] = (
        "text,image"
    ),
    tokenizer: Annotated[
        Path | None, typer.Option(help="tokenizer.json of the encoder. Default: beside its weights, or downloaded.")
    ] = None,
    calibration: Annotated[
        str | None, typer.Option(help="Photos to measure ranges of activations on. Default: the sample photos.")
    ] = None,
    photos: Annotated[int, typer.Option(help="How many calibration photos to use, evenly spaced.")] = 32,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the artifacts.")] = Path("words"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
    accepted: AcceptLicence = False,
) -> None:
    """Export the encoders that rank masks by words: tokens to embeddings, crops to embeddings.

    Each artifact is compared with fp32 torch. Exit code 1 if an embedding's cosine misses the precision's bound.
    """
    accept_licence(accepted=accepted)
    try:
        from sam_edge.export.clip import BOUNDS, ClipExportJob, export_clip  # noqa: PLC0415  # brings torch
        from sam_edge.prediction.clip_encoder import find_tokenizer  # noqa: PLC0415
        from sam_edge.weights.clip_checkpoint import find_clip_source, load_clip  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(f"exports need {missing_package(error)}: pip install 'sam-edge[export]'") from error
    parts = tuple(part.strip() for part in encoders.split(","))
    job = ClipExportJob(out, target, precision, parts, calibration, photos, overwrite)
    loaded = load_clip(model, find_clip_source(model, checkpoint))
    reader = None
    if tokenizer is not None or not loaded.checkpoint.is_random:
        reader = find_tokenizer(loaded, tokenizer)
    with stages() as show:
        made = export_clip(job, loaded, reader, show)
    for each in made.values():
        line(f"{out / each.file}  {each.bytes / 1e6:.1f} MB  smallest cosine with fp32 torch {each.cosine:.5f}")
    missed = [f"{each.file} {each.cosine:.5f}" for each in made.values() if each.missed]
    if missed:
        raise BoundError(f"cosine with fp32 torch is below {BOUNDS[precision]}: {', '.join(missed)}")
