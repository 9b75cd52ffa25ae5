"""`sam-edge info`: print what a bundle or a checkpoint contains."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from sam_edge.reporting.search import COLUMNS, goal_sentence, search_of, tried_rows
from sam_edge.weights.source import names_weights, parse_source
from sam_edge_runtime.backends.requirements import oldest_engines
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.contract import GraphContract
from sam_edge_runtime.bundle.manifest import Manifest
from sam_edge_runtime.bundle.text import VOCABULARY
from sam_edge_runtime.errors import UsageError, missing_package

from .console import OUTPUT

EXAMPLES = (
    "Examples:  sam-edge info bundle      sam-edge info bundle --json      sam-edge info sam_vit_b.pth      "
    "sam-edge info hf:facebook/sam-vit-base"
)
NPU = "npu"
NPU_NOTE = "Qualcomm's NPU (HTP); verified on this machine's CPU only, not on a device"


def command(
    bundle: Annotated[
        str,
        typer.Argument(help="Folder of a bundle; or weights: a file, a folder or hf:OWNER/NAME.", show_default=False),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the bundle's manifest.json and report.json as one JSON object.")
    ] = False,
) -> None:
    """Check a bundle's files and print its model, precision, capacity, tensors, files and tools.

    Of weights, print which model they are for, whose they are, and what stands beside them.
    """
    if names_weights(bundle):
        _print_weights(bundle, as_json=as_json)
        return
    opened = Bundle.open(Path(bundle))
    manifest = opened.manifest
    if as_json:
        typer.echo(json.dumps({"manifest": json.loads(manifest.to_json()), "report": opened.report()}, indent=1))
        return
    facts = Table(show_header=False, box=None, pad_edge=False)
    checkpoint = manifest.checkpoint
    weights = checkpoint.described if checkpoint.random else f"{checkpoint.source}, sha256 {checkpoint.sha256}"
    for name, value in (
        ("model", f"{manifest.variant}, {manifest.parameters / 1e6:.1f} M parameters, licence {manifest.licence}"),
        ("weights", weights),
        ("target", f"{manifest.target} {manifest.precision}"),
        ("frames" if len(manifest.frames) > 1 else "frame", ", ".join(frame.name for frame in manifest.frames)),
        *((("unlike SAM 1", "; ".join(unlike)),) if (unlike := manifest.conventions.described) else ()),
        ("prompts a call", _prompts_a_call(manifest)),
        *((("words", _words(opened)),) if manifest.text is not None else ()),
        ("slots a prompt", "any number" if manifest.points is None else str(manifest.points)),
        ("verified when made", _verdict(opened)),
        *((("made for", NPU_NOTE),) if manifest.precision == NPU else ()),
        ("runs on", "; ".join(oldest_engines(opened)) or "unknown"),
        ("files", ", ".join(f"{name} {record.bytes / 1e6:.1f} MB" for name, record in manifest.files.items())),
        ("made with", ", ".join(f"{name} {version}" for name, version in manifest.tools.items())),
    ):
        facts.add_row(Text(name, style="bold"), Text(value))
    OUTPUT.print(facts)
    search = search_of(opened.report())
    if search is not None:
        OUTPUT.print(_tried(search))
    for title, contract in (
        ("encoder", manifest.encoder_file_contract),
        ("decoder", manifest.decoder_file_contract),
    ):
        OUTPUT.print(_tensors(title, contract))


def _tried(search: Mapping[str, Any]) -> Table:
    """The configurations that a search tried."""
    table = Table(
        title="search: times and mIoU of all configurations that were tried",
        title_justify="left",
        caption=Text(goal_sentence(search)),
        caption_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
    )
    rows = tried_rows(search)
    shown = [place for place in range(len(COLUMNS)) if any(row.cells[place] for row in rows)]
    for place in shown:
        table.add_column(COLUMNS[place], justify="right" if place else "left", no_wrap=place > 0)
    for row in rows:
        table.add_row(*(Text(row.cells[place]) for place in shown), style="green" if row.chosen else None)
    return table


def _print_weights(text: str, *, as_json: bool) -> None:
    """Print what a checkpoint holds; it must fit a model."""
    try:
        from sam_edge.weights.clip_layouts import HoldsClipError  # noqa: PLC0415  # brings torch
    except ImportError as error:
        raise UsageError(f"weights need {missing_package(error)}: pip install 'sam-edge[export]'") from error
    try:
        facts = _facts_of_sam(text)
    except HoldsClipError:
        facts = _facts_of_clip(text)
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    facts["files"] = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in facts["files"].items())
    facts["left out"] = ", ".join(facts["left out"])
    for name, value in facts.items():
        if value:
            table.add_row(Text(name, style="bold"), Text(str(value)))
    OUTPUT.print(table)


def _facts_of_clip(text: str) -> dict[str, Any]:
    """What a checkpoint of CLIP's kin holds; it must fit a variant."""
    from sam_edge.weights.clip_checkpoint import official_release, recognize_clip  # noqa: PLC0415  # brings torch

    found = recognize_clip(parse_source(text))
    release = official_release(found)
    return {
        "model": found.variant,
        "family": found.config.title,
        "layout": found.layout.title,
        "activation": found.config.activation,
        "tensors": len(found.state),
        "left out": [],
        "whose": "the official weights" if release else "not the official file, or one whose hash no source states",
        "licence": release.licence if release else found.contents.licence or "not stated",
        "files": {path.name: path.stat().st_size for path in found.contents.files},
        "sha256": found.contents.sha256,
    }


def _facts_of_sam(text: str) -> dict[str, Any]:
    """What a checkpoint of SAM's kin holds; it must fit a model."""
    from sam_edge.weights.recognition import read_checkpoint, recognize  # noqa: PLC0415  # brings torch

    found = recognize(read_checkpoint(parse_source(text)))
    read = found.checkpoint
    return {
        "model": found.variant,
        "family": found.family.title,
        "layout": read.layout.title,
        "found under": read.prefix.removesuffix("."),
        "numbers": read.precision,
        "tensors": len(read.state),
        "merged": read.adapters,
        "left out": list(read.left_out),
        "whose": found.origin or "not the official file",
        "licence": found.release.licence if found.release else read.contents.licence or "not stated",
        "files": {path.name: path.stat().st_size for path in read.contents.files},
        "sha256": read.contents.sha256,
    }


def _prompts_a_call(manifest: Manifest) -> str:
    sizes = " or ".join(str(size) for size in manifest.call_sizes) or "any number"
    names = ", ".join(manifest.decoder_signatures)
    return f"{sizes} (signatures {names})" if names else sizes


def _words(bundle: Bundle) -> str:
    """What the bundle knows of text."""
    part = bundle.manifest.text
    if part is None or part.kind != VOCABULARY:
        return "" if part is None else f"a {part.kind} of {part.channels} numbers, from {part.source}"
    names = bundle.vocabulary().names
    return f"{len(names)}, from {part.source}: {', '.join(names)}"


def _verdict(bundle: Bundle) -> str:
    """The verdict of the bundle's own report."""
    report = bundle.report()
    try:
        verdict = "all bounds held" if report["passed"] else f"missed: {'; '.join(report['missed'])}"
        return f"{verdict} (mask mIoU {report['figures']['mask_miou']:.6f})"
    except (ValueError, KeyError, TypeError):
        return "no report"


def _tensors(title: str, contract: GraphContract) -> Table:
    table = Table(title=title, title_justify="left")
    for column in ("", "tensor", "shape", "meaning"):
        table.add_column(column)
    for role, specs in (("in", contract.inputs), ("out", contract.outputs)):
        for spec in specs:
            shape = " x ".join(str(size) for size in spec.shape)
            table.add_row(role, Text(spec.name), shape, Text(spec.meaning))
    return table
