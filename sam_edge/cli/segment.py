"""`sam-edge segment`: find all masks of a photo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sam_edge_runtime.errors import UsageError

from .console import line, note, progress_bar
from .options import (
    AUTO,
    Bundle,
    Checkpoint,
    Crops,
    Iou,
    MaxPixels,
    Model,
    Nms,
    Offset,
    Points,
    Smallest,
    Stability,
    allow_pixels,
    chosen,
    model_of,
)

if TYPE_CHECKING:
    from sam_edge.annotation.named import RankJob
    from sam_edge.prediction.crops import CropSettings

EXAMPLES = (
    "Examples:  sam-edge segment photo.jpg --out out      "
    "sam-edge segment photos/ --bundle phone --points-per-side 16 --out out      "
    "sam-edge segment photo.jpg --rank clip_vit_b_32 --text 'red cup' --text table --out out"
)


def command(
    source: Annotated[Path, typer.Argument(help="Photo, or folder of photos.", show_default=False)],
    bundle: Bundle = None,
    model: Model = AUTO,
    checkpoint: Checkpoint = None,
    points_per_side: Points = None,
    pred_iou_thresh: Iou = None,
    stability_score_thresh: Stability = None,
    stability_score_offset: Offset = None,
    box_nms_thresh: Nms = None,
    crop_n_layers: Crops = None,
    min_mask_region_area: Smallest = None,
    picture: Annotated[
        bool, typer.Option("--picture/--no-picture", help="Also write a picture of the masks on the photo.")
    ] = True,
    names: Annotated[
        bool,
        typer.Option("--names", help="Also name the masks: nano, or a bundle that was exported with --words."),
    ] = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("out"),
    threads: Annotated[
        int | None, typer.Option(help="Threads of the bundle's engine. Default: the engine's choice.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option(help="ONNX Runtime's execution provider, such as cuda. Default: the CPU.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results of an earlier run.")] = False,
    max_pixels: MaxPixels = None,
    rank: Annotated[
        str | None,
        typer.Option(
            help="Rank the masks by the words of --text with this text encoder, see `sam-edge models`; auto takes the "
            "one that --rank-checkpoint holds.",
            show_default=False,
        ),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="A word to rank by, such as 'red cup'; repeatable.", show_default=False)
    ] = None,
    rank_checkpoint: Annotated[
        str | None,
        typer.Option(help="Weights of the text encoder: a file, a folder, hf:OWNER/NAME or random:SEED."),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="tokenizer.json of the text encoder. Default: beside its weights, or downloaded."),
    ] = None,
    crop_factor: Annotated[
        float, typer.Option(help="--rank: side of a mask's crop in sides of its box, 1 to 4.")
    ] = 1.5,
    background: Annotated[
        bool, typer.Option("--background", help="--rank: leave what surrounds a mask in its crop.")
    ] = False,
) -> None:
    """Find all masks of a photo. Write them in SA-1B's JSON format, and a picture of them.

    Default thresholds suit the model: SAM's own, and lower ones for nano. In the JSON, bbox is x, y, width, height as
    SAM counts them: width is last column minus first column.

    With --rank, masks that show a word of --text come first and have its name and score; the picture shows them alone.
    """
    allow_pixels(max_pixels)
    from sam_edge.annotation.segment import SegmentJob, segment  # noqa: PLC0415  # brings the engine
    from sam_edge.prediction.crops import CropSettings  # noqa: PLC0415

    settings = chosen(
        points_per_side=points_per_side,
        pred_iou_thresh=pred_iou_thresh,
        stability_score_thresh=stability_score_thresh,
        stability_score_offset=stability_score_offset,
        box_nms_thresh=box_nms_thresh,
        crop_n_layers=crop_n_layers,
        min_mask_region_area=min_mask_region_area,
    )
    if bundle is None:
        model = model_of(model, checkpoint)
    ranked = _rank_job(rank, tuple(text or ()), rank_checkpoint, tokenizer, CropSettings(crop_factor, not background))
    if ranked is not None and names:
        raise UsageError("--names and --rank both name the masks: leave one out")
    job = SegmentJob(
        source, bundle, model, checkpoint, settings, out, picture, threads, provider, overwrite, ranked, names
    )
    warnings: list[str] = []
    with progress_bar() as show:
        for result in segment(job, show):
            warnings += [result.warning] if result.warning is not None else []
            if result.failure is not None:
                note(f"left out: {result.failure}")
            else:
                line(f"{', '.join(map(str, result.files))}  {result.masks} masks")
                for name, score, box in result.named:
                    line(f"  {name} {score:.3f}  box {', '.join(f'{value:.0f}' for value in box)}")
    if warnings:
        note(warnings[0] if len(warnings) == 1 else f"{warnings[0]}; {len(warnings) - 1} more photos are like it")


def _rank_job(
    encoder: str | None, words: tuple[str, ...], checkpoint: str | None, tokenizer: Path | None, crops: CropSettings
) -> RankJob | None:
    """What masks are ranked by; None without --rank."""
    from sam_edge.annotation.named import RankJob  # noqa: PLC0415

    if encoder is None:
        if words or checkpoint or tokenizer:
            raise UsageError("--text, --rank-checkpoint and --tokenizer belong to --rank: add --rank clip_vit_b_32")
        return None
    return RankJob(words, encoder, checkpoint, tokenizer, crops)
