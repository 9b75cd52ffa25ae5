"""`sam-edge predict`: answer prompts on a photo with masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import line, note
from .options import MaxPixels, allow_pixels

EXAMPLES = (
    "Examples:  sam-edge predict bundle cat.jpg --point 320,240      "
    "sam-edge predict bundle cat.jpg --box 40,30,400,380 --point 200,60,0 --json      "
    "sam-edge predict bundle cat.jpg --text cat"
)


def command(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.", show_default=False)],
    photo: Annotated[
        Path, typer.Argument(help="Photo: JPEG, PNG, WebP, TIFF, BMP, HEIC, AVIF or another.", show_default=False)
    ],
    point: Annotated[
        list[str] | None,
        typer.Option(
            "--point", "-p", metavar="X,Y[,LABEL]", help="Click, in pixels. LABEL: 1 inside (default), 0 outside."
        ),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option("--box", "-b", metavar="X0,Y0,X1,Y1", help="Box, in pixels. Several boxes get a mask each."),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            "--text",
            metavar="WORD",
            help="Word that the bundle knows (--words of export), or any text (--text-encoder of export). Alone: all "
            "that it names; with a click or box: the one there. Several get a mask each.",
        ),
    ] = None,
    mask_input: Annotated[
        Path | None,
        typer.Option(help="Mask prompt: low-resolution logits of an earlier run (.npy, see --save-logits)."),
    ] = None,
    multimask: Annotated[
        bool,
        typer.Option("--multimask", help="Write three masks for each prompt (whole, part, subpart) instead of one."),
    ] = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("out"),
    json_file: Annotated[bool, typer.Option("--json", help="Also write scores, boxes and COCO RLEs as JSON.")] = False,
    save_logits: Annotated[
        bool, typer.Option("--save-logits", help="Also write the low-resolution logits (.npy), for --mask-input.")
    ] = False,
    threads: Annotated[int | None, typer.Option(help="Threads of the engine. Default: one for each core.")] = None,
    provider: Annotated[
        str | None, typer.Option(help="ONNX Runtime's execution provider, such as cuda. Default: the CPU.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results of an earlier run.")] = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Answer points, boxes, words and a mask prompt on a photo. Write each mask as PNG, and an overlay picture.

    In the JSON of --json, bbox is x, y, width, height as in SAM's own JSON: width is last column minus first column.
    """
    allow_pixels(max_pixels)
    from sam_edge.prediction.predict import PredictJob, predict  # noqa: PLC0415  # brings the engine
    from sam_edge.prompting.parsing import parse_box, parse_point  # noqa: PLC0415

    job = PredictJob(
        bundle=bundle,
        photo=photo,
        points=tuple(parse_point(text) for text in point or ()),
        boxes=tuple(parse_box(text) for text in box or ()),
        mask_input=mask_input,
        multimask=multimask,
        out=out,
        json_file=json_file,
        save_logits=save_logits,
        threads=threads,
        provider=provider,
        overwrite=overwrite,
        texts=tuple(text or ()),
    )
    result = predict(job)
    for mask in result.masks:
        present = "" if mask.presence is None else f"present {mask.presence:.2f}, "
        word = "" if mask.text is None else f"{mask.text}, {present}"
        line(f"{mask.file}  {word}predicted IoU {mask.score:.3f}, {mask.area} pixels")
    for path in result.others:
        line(str(path))
    for each in result.notes:
        note(each)
