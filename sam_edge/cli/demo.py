"""`sam-edge demo`: export, predict, segment and verify, on photos from an installed package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import line, note

DEMO_POINTS = 16  # along each side of the grid: a quarter of the default's 32 x 32 points
COMPARED = "tiny_vit"  # MobileSAM, the smallest official model
EXAMPLES = f"Examples:  sam-edge demo --out out/demo      sam-edge demo --model {COMPARED} --out out/demo-{COMPARED}"


def command(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the bundle, the pictures and the report.")
    ] = Path("out/demo"),
    model: Annotated[str, typer.Option("--model", "-m", help="Variant to export.")] = "nano",
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Weights: a file or random:SEED. Default: nano's own, the downloaded ones, or random:0."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the results of an earlier demo.")] = False,
) -> None:
    """Export a model, answer prompts on three photos, find all their masks, and verify the bundle."""
    from sam_edge.data.sample_photos import DEMO_PROMPTS, copy_samples  # noqa: PLC0415
    from sam_edge.weights.cache import cache_folder, cached  # noqa: PLC0415
    from sam_edge.weights.catalogue import SHIPPED, release_of  # noqa: PLC0415

    from . import export, predict, segment, verify  # noqa: PLC0415

    if checkpoint is None and model not in SHIPPED and cached(release := release_of(model)) is None:
        checkpoint = "random:0"
        note(
            f"No weights for {model} are downloaded, so this demo uses random ones: its masks outline nothing. It "
            "still shows that torch and the exported model give the same masks. For official weights run "
            f"`sam-edge download {model}`; without a network here, save {release.origin} as "
            f"{cache_folder() / release.file}"
        )
    bundle, photos = out / "bundle", out / "photos"
    copy_samples(photos)
    again = " --overwrite" if overwrite else ""
    weights = "" if checkpoint is None else f" --checkpoint {checkpoint}"
    _announce(f"export --model {model}{weights} --out {bundle}{again}")
    export.command(model=model, checkpoint=checkpoint, out=bundle, overwrite=overwrite)
    for prompt in DEMO_PROMPTS:
        path, folder = photos / prompt.photo, out / prompt.name
        points = [",".join(map(str, point)) for point in prompt.points]
        boxes = [] if prompt.box is None else [",".join(map(str, prompt.box))]
        given = "".join([*(f" --box {box}" for box in boxes), *(f" --point {point}" for point in points)])
        wrong = f". What nano does not do well: {prompt.shortcoming}" if model == "nano" and prompt.shortcoming else ""
        line(f"\n# {prompt.photo}: {prompt.says}{wrong}")
        _announce(f"predict {bundle} {path}{given} --json --out {folder}{again}", before="")
        predict.command(bundle, path, point=points, box=boxes, out=folder, json_file=True, overwrite=overwrite)
    grid = f" --points-per-side {DEMO_POINTS}"
    _announce(f"segment {photos} --bundle {bundle}{grid} --out {out / 'everything'}{again}")
    segment.command(photos, bundle=bundle, points_per_side=DEMO_POINTS, out=out / "everything", overwrite=overwrite)
    _announce(f"verify {bundle} --images {photos}{weights} --out {out / 'report'}")
    verify.command([bundle], images=photos, checkpoint=checkpoint, out=out / "report")
    if model == "nano":
        megabytes = release_of(COMPARED).about_bytes / 1e6
        note(
            "nano is small and was trained for a short time. For the same pictures by MobileSAM, whose official "
            f"weights are {megabytes:.0f} MB, run `sam-edge download {COMPARED}`, then `sam-edge demo --model "
            f"{COMPARED} --out {out}-{COMPARED}`"
        )


def _announce(command: str, before: str = "\n") -> None:
    line(f"{before}$ sam-edge {command}", "bold")
