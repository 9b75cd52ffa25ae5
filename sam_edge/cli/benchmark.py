"""`sam-edge benchmark`: how fast are the bundles, here or on a device?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sam_edge_runtime.bundle import Bundle
from sam_edge_runtime.errors import UsageError

from .console import line, note, progress_bar, whole
from .options import numbers_of, seconds_of

HOST = "host"
EXAMPLES = (
    "Examples:  sam-edge benchmark bundle      sam-edge benchmark bundles/* --html out.html      "
    "sam-edge benchmark fp32 int8 --compare --threads 1,2"
)


def command(
    bundles: Annotated[
        list[Path], typer.Argument(metavar="BUNDLE...", help="Folder of a bundle, or several.", show_default=False)
    ],
    photo: Annotated[
        Path | None, typer.Option(help="Photo to click on. Default: a bundle's own picture, at 1500 x 2250.")
    ] = None,
    repetitions: Annotated[int, typer.Option("--repetitions", "-n", help="Rounds that count, at most.")] = 50,
    warm_up: Annotated[int, typer.Option(help="Rounds before, which do not count.")] = 2,
    budget: Annotated[str, typer.Option(help="Begin no further round after so long: 90s, 3m, 1h.")] = "3m",
    threads: Annotated[
        str | None, typer.Option(help="Threads of the engine; several, such as 1,2,4, are measured side by side.")
    ] = None,
    provider: Annotated[str | None, typer.Option(help="Execution provider, such as cuda. Default: the CPU.")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Print only how each bundle compares with the first.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--json", help="File for all figures and samples.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="File for a page with plots.")] = None,
) -> None:
    """Measure latency and memory of bundles, by turns.

    Each has a fresh process: cold start, first inference, percentiles of every step, throughput, peak of memory.
    """
    from sam_edge.benchmarking.names import short_names  # noqa: PLC0415
    from sam_edge.verification.verify import is_report  # noqa: PLC0415
    from sam_edge_runtime.benchmark.host import Rounds, contestants, measure  # noqa: PLC0415
    from sam_edge_runtime.benchmark.photo import benchmark_photo  # noqa: PLC0415

    if html is not None:
        from sam_edge.benchmarking.page import check_page  # noqa: PLC0415

        check_page()
    if compare and len(bundles) < 2:
        raise UsageError("--compare needs two bundles or more: name the one to compare with first")
    paths = [path for path in bundles if not is_report(path)] if len(bundles) > 1 else bundles
    opened = {name: Bundle.open(path) for name, path in zip(short_names(paths), paths, strict=True)}
    counts = (None,) if threads is None else numbers_of("--threads", threads)
    entries = contestants(opened, counts, provider)
    rounds = Rounds(repetitions, warm_up, seconds_of("--budget", budget))
    with progress_bar("opening bundles") as show:
        document = measure(entries, benchmark_photo(next(iter(opened.values())), photo), rounds, show)
    _show(document, compare=compare)
    _write(document, out, html)


def _show(document: dict[str, Any], *, compare: bool) -> None:
    """Tables, and why a bundle is not in them."""
    from sam_edge.benchmarking.tables import latency_table, ratio_table, start_table  # noqa: PLC0415

    if not compare:
        whole(latency_table(document))
        whole(start_table(document))
    if len(document["bundles"]) > 1:
        whole(ratio_table(document))
    for name, reason in document["not_measured"].items():
        note(f"{name} was not measured: {reason}")


def _write(document: dict[str, Any], out: Path | None, html: Path | None) -> None:
    """The files that were asked for, with what they were made by."""
    import sam_edge  # noqa: PLC0415
    from sam_edge.benchmarking.page import page  # noqa: PLC0415
    from sam_edge.versions import commit  # noqa: PLC0415
    from sam_edge_runtime.files import write_files  # noqa: PLC0415

    document = {**document, "sam_edge": sam_edge.__version__, "commit": commit()}
    contents = {}
    if out is not None:
        contents[out] = (json.dumps(document, indent=1) + "\n").encode()
    if html is not None:
        contents[html] = page(document).encode()
    if contents:
        write_files(contents, overwrite=True)
    for path in contents:
        line(str(path))
