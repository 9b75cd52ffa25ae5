"""`sam-edge demo`: the whole path once, on photos that came with an installed package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import OUTPUT

EXAMPLES = "Example:  sam-edge demo --out out/demo"


def command(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the bundle, the pictures and the report.")
    ] = Path("out/demo"),
    model: Annotated[str, typer.Option("--model", "-m", help="Variant to export.")] = "tiny_vit",
    checkpoint: Annotated[
        str | None, typer.Option(help="Weights. Default: the downloaded official ones, else random:0.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier demo left.")] = False,
) -> None:
    """Export a model, answer prompts on photos, verify the bundle, and leave pictures to look at."""
    from sam_edge.samples import SAMPLES, copy_samples  # noqa: PLC0415
    from sam_edge.weights.cache import cached  # noqa: PLC0415
    from sam_edge.weights.catalogue import release_of  # noqa: PLC0415

    from . import export, predict, verify  # noqa: PLC0415

    if checkpoint is None and cached(release_of(model)) is None:
        checkpoint = "random:0"
        OUTPUT.print(
            f"No weights for {model} are downloaded, so this demo runs on random ones: its masks outline nothing. "
            "What it shows is that torch and the exported model give the same masks.",
            style="yellow",
        )
    bundle, photos = out / "bundle", out / "photos"
    _announce("export", f"--model {model} --checkpoint {checkpoint} --out {bundle}")
    export.command(model=model, checkpoint=checkpoint, out=bundle, overwrite=overwrite)
    for sample, path in zip(SAMPLES, copy_samples(photos), strict=True):
        point, box = ",".join(map(str, sample.point)), ",".join(map(str, sample.box))
        _announce("predict", f"{bundle} {path} --point {point} --json --out {out / 'point'}")
        predict.command(bundle, path, point=[point], out=out / "point", json_file=True, overwrite=overwrite)
        _announce("predict", f"{bundle} {path} --box {box} --json --out {out / 'box'}")
        predict.command(bundle, path, box=[box], out=out / "box", json_file=True, overwrite=overwrite)
    _announce("verify", f"{bundle} --images {photos} --out {out / 'report'}")
    verify.command(bundle, images=photos, checkpoint=checkpoint, out=out / "report")


def _announce(verb: str, arguments: str) -> None:
    OUTPUT.print(f"\n[bold]$ sam-edge {verb}[/bold] {arguments}", soft_wrap=True, highlight=False)
