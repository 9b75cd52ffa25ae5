"""`sam-edge benchmark`: how fast are the bundles, here or on a device?"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.errors import UsageError

from .console import line, note, progress_bar, whole
from .options import numbers_of, seconds_of

if TYPE_CHECKING:
    from sam_edge_runtime.benchmark.rounds import Rounds

HOST, ANDROID, APPLE, SSH = "host", "android", "apple", "ssh"
DEVICES = (HOST, f"{ANDROID}[:SERIAL]", APPLE, f"{SSH}:[USER@]HOST[:PORT]")
EXAMPLES = (
    "Examples:  sam-edge benchmark bundle      sam-edge benchmark bundles/* --html out.html      "
    "sam-edge benchmark fp32 int8 --compare      sam-edge benchmark bundle --device ssh:pi@raspberrypi      "
    "sam-edge benchmark bundle --device android --benchmark-model benchmark_model"
)


def command(
    bundles: Annotated[
        list[Path], typer.Argument(metavar="BUNDLE...", help="Folder of a bundle, or several.", show_default=False)
    ],
    device: Annotated[str, typer.Option(help=f"Where: {', '.join(DEVICES)}. See docs/devices.md.")] = HOST,
    photo: Annotated[
        Path | None, typer.Option(help="Photo to click on. Default: a bundle's own picture, at 1500 x 2250.")
    ] = None,
    repetitions: Annotated[int, typer.Option("--repetitions", "-n", help="Rounds that count, at most.")] = 50,
    warm_up: Annotated[int, typer.Option(help="Rounds before, which do not count.")] = 2,
    budget: Annotated[str, typer.Option(help="Begin no further round after so long: 90s, 3m, 1h.")] = "3m",
    threads: Annotated[
        str | None,
        typer.Option(
            help="Threads of the engine; several, such as 1,2,4, are measured side by side. Default: one a core."
        ),
    ] = None,
    provider: Annotated[
        str | None, typer.Option(help="ONNX Runtime's execution provider, such as cuda. Default: the CPU.")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Print only how each bundle compares with the first.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--json", help="File for all figures and samples.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="File for a page with plots.")] = None,
    python: Annotated[
        str, typer.Option(help="ssh: Python of the host, with numpy, Pillow and the engine.")
    ] = "python3",
    identity: Annotated[
        Path | None, typer.Option(help="ssh: private key. Default: what ssh itself would take.")
    ] = None,
    host_folder: Annotated[
        str | None, typer.Option(help="ssh: where the host has room for the bundles. Default: its /tmp.")
    ] = None,
    benchmark_model: Annotated[
        Path | None, typer.Option(help="android: LiteRT's benchmark_model, for TFLite bundles.")
    ] = None,
    perf_test: Annotated[Path | None, typer.Option(help="android: onnxruntime_perf_test, for ONNX bundles.")] = None,
    library: Annotated[
        list[Path] | None,
        typer.Option(help="android: a shared library that the tool loads; several times for several."),
    ] = None,
    delegates: Annotated[
        str | None, typer.Option(help="android: what runs the graphs, such as cpu,gpu. Default: all that the tool has.")
    ] = None,
) -> None:
    """Measure latency and memory of bundles, here by turns, or on a device.

    Each has a fresh process: cold start, first inference, percentiles of every step, throughput, peak of memory.
    """
    from sam_edge.reporting.folders import is_verification  # noqa: PLC0415
    from sam_edge.reporting.names import short_names  # noqa: PLC0415
    from sam_edge_runtime.benchmark.rounds import Rounds  # noqa: PLC0415

    kind, _, where = device.partition(":")
    paths = [path for path in bundles if not is_verification(path)] if len(bundles) > 1 else bundles
    opened = {name: Bundle.open(path) for name, path in zip(short_names(paths), paths, strict=True)}
    counts = None if threads is None else numbers_of("--threads", threads)
    rounds = Rounds(repetitions, warm_up, seconds_of("--budget", budget))
    if kind in {ANDROID, APPLE}:
        if html is not None or compare or photo is not None:
            raise UsageError(f"--html, --compare and --photo are for {HOST} and {SSH}: leave them out for {kind}")
        names = tuple(delegates.split(",")) if delegates else ()
        tools = (benchmark_model, perf_test, tuple(library or ()))
        _on_device(kind, where, list(opened.values()), counts, rounds, names, tools, out)
        return
    if kind not in {HOST, SSH} or (kind == HOST and where) or (kind == SSH and not where):
        raise UsageError(f"--device {device!r} is none: choose from {', '.join(DEVICES)}")
    if html is not None:
        from sam_edge.benchmarking.page import check_page  # noqa: PLC0415

        check_page()
    if compare and len(opened) * len(counts or (None,)) < 2:
        raise UsageError("--compare needs two bundles or more: name the one to compare with first")
    with progress_bar("opening bundles") as show:
        if kind == SSH:
            from sam_edge.devices.ssh import SshOptions, benchmark_ssh  # noqa: PLC0415

            options = SshOptions(where, python, identity=identity, folder=host_folder)
            document = benchmark_ssh(opened, options, rounds, counts or (None,), provider, photo, show)
        else:
            document = _here(opened, counts, provider, photo, rounds, show)
    _show(document, compare=compare)
    _write(document, out, html)


def _here(
    bundles: Mapping[str, Bundle],
    threads: tuple[int, ...] | None,
    provider: str | None,
    photo: Path | None,
    rounds: Rounds,
    show: Callable[[str, int, int], None],
) -> dict[str, Any]:
    from sam_edge_runtime.benchmark.host import contestants, measure  # noqa: PLC0415
    from sam_edge_runtime.benchmark.photo import benchmark_photo  # noqa: PLC0415

    pixels = benchmark_photo(next(iter(bundles.values())), photo)
    return measure(contestants(bundles, threads or (None,), provider), pixels, rounds, show)


def _on_device(
    kind: str,
    serial: str,
    bundles: list[Bundle],
    threads: tuple[int, ...] | None,
    rounds: Rounds,
    delegates: tuple[str, ...],
    tools: tuple[Path | None, Path | None, tuple[Path, ...]],
    out: Path | None,
) -> None:
    """Both graphs of each bundle in the vendor's own tool; rows that could not be had carry their reason."""
    from sam_edge.devices.android import AndroidOptions, benchmark_android  # noqa: PLC0415
    from sam_edge.devices.apple import benchmark_apple  # noqa: PLC0415
    from sam_edge.devices.table import device_tables  # noqa: PLC0415
    from sam_edge.devices.timing import Failure  # noqa: PLC0415
    from sam_edge_runtime.system.files import write_file  # noqa: PLC0415

    with progress_bar("looking for the device") as show:
        if kind == APPLE:
            rows = benchmark_apple(bundles, rounds.repetitions, show=show)
        else:
            options = AndroidOptions(
                serial or None,
                *tools,
                delegates,
                threads or AndroidOptions.threads,
                repetitions=rounds.repetitions,
                warm_up=max(rounds.warm_up, 1),
            )
            rows = benchmark_android(bundles, options, show)
    for table in device_tables(rows):
        whole(table)
    if out is not None:
        write_file(out, (json.dumps([asdict(row) for row in rows], indent=1) + "\n").encode(), overwrite=True)
        line(str(out))
    if rows and all(isinstance(row, Failure) for row in rows):
        raise typer.Exit(1)


def _show(document: Mapping[str, Any], *, compare: bool) -> None:
    """Tables, and why a bundle is not in them."""
    from sam_edge.benchmarking.tables import latency_table, ratio_table, start_table  # noqa: PLC0415

    if not compare:
        whole(latency_table(document))
        whole(start_table(document))
    if len(document["bundles"]) > 1:
        whole(ratio_table(document))
    for name, reason in document["not_measured"].items():
        note(f"{name} was not measured: {reason}")


def _write(document: Mapping[str, Any], out: Path | None, html: Path | None) -> None:
    """The files that were asked for, with what they were made by."""
    import sam_edge  # noqa: PLC0415
    from sam_edge.reporting.versions import commit  # noqa: PLC0415
    from sam_edge_runtime.system.files import write_files  # noqa: PLC0415

    document = {**document, "sam_edge": sam_edge.__version__, "commit": commit()}
    contents = {}
    if out is not None:
        contents[out] = (json.dumps(document, indent=1) + "\n").encode()
    if html is not None:
        from sam_edge.benchmarking.page import page  # noqa: PLC0415

        contents[html] = page(document).encode()
    if contents:
        write_files(contents, overwrite=True)
    for path in contents:
        line(str(path))
