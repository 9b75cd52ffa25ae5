"""`sam-edge demo`: export, predict, segment and verify, on photos from an installed package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import line, note

DEMO_POINTS = 16  # along each side of the grid: a quarter of the default's 32 x 32 points
EXAMPLES = "Example:  sam-edge demo --out out/demo"


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
    from sam_edge.data.sample_photos import DEMO_PHOTOS, copy_samples  # noqa: PLC0415
    from sam_edge.weights.cache import cached  # noqa: PLC0415
    from sam_edge.weights.catalogue import SHIPPED, release_of  # noqa: PLC0415

    from . import export, predict, segment, verify  # noqa: PLC0415

    if checkpoint is None and model not in SHIPPED and cached(release_of(model)) is None:
        checkpoint = "random:0"
        note(
            f"No weights for {model} are downloaded, so this demo uses random ones: its masks outline nothing. It "
            "still shows that torch and the exported model give the same masks."
        )
    bundle, photos = out / "bundle", out / "photos"
    paths = copy_samples(photos)
    again = " --overwrite" if overwrite else ""
    weights = "" if checkpoint is None else f" --checkpoint {checkpoint}"
    _announce(f"export --model {model}{weights} --out {bundle}{again}")
    export.command(model=model, checkpoint=checkpoint, out=bundle, overwrite=overwrite)
    for photo, path in zip(DEMO_PHOTOS, paths, strict=True):
        point, box = ",".join(map(str, photo.point)), ",".join(map(str, photo.box))
        _announce(f"predict {bundle} {path} --point {point} --json --out {out / 'point'}{again}")
        predict.command(bundle, path, point=[point], out=out / "point", json_file=True, overwrite=overwrite)
        _announce(f"predict {bundle} {path} --box {box} --json --out {out / 'box'}{again}")
        predict.command(bundle, path, box=[box], out=out / "box", json_file=True, overwrite=overwrite)
    grid = f" --points-per-side {DEMO_POINTS}"
    _announce(f"segment {photos} --bundle {bundle}{grid} --out {out / 'everything'}{again}")
    segment.command(photos, bundle=bundle, points_per_side=DEMO_POINTS, out=out / "everything", overwrite=overwrite)
    _announce(f"verify {bundle} --images {photos}{weights} --out {out / 'report'}")
    verify.command([bundle], images=photos, checkpoint=checkpoint, out=out / "report")


def _announce(command: str) -> None:
    line(f"\n$ sam-edge {command}", "bold")
