"""`sam-edge benchmark`: measure latency and memory of bundles, on this machine or on a device."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.errors import UsageError

from .console import line, note, progress_bar, whole
from .options import MaxPixels, allow_pixels, numbers_of, seconds_of

if TYPE_CHECKING:
    from sam_edge.devices.timing import Failure, GraphTiming
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
        list[Path], typer.Argument(metavar="BUNDLE...", help="Folders of one or more bundles.", show_default=False)
    ],
    device: Annotated[str, typer.Option(help=f"Where to measure: {', '.join(DEVICES)}. See docs/devices.md.")] = HOST,
    photo: Annotated[
        Path | None,
        typer.Option(help="Photo to click on. Default: a picture of the first bundle, scaled to 1500 x 2250 pixels."),
    ] = None,
    repetitions: Annotated[int, typer.Option("--repetitions", "-n", help="Largest number of measured rounds.")] = 50,
    warm_up: Annotated[int, typer.Option(help="Rounds before measuring starts.")] = 2,
    budget: Annotated[str, typer.Option(help="Start no further round after this time, such as 90s, 3m or 1h.")] = "3m",
    threads: Annotated[
        str | None,
        typer.Option(
            help="Threads of the engine. Several numbers, such as 1,2,4, are interleaved. Default: one per core."
        ),
    ] = None,
    provider: Annotated[
        str | None, typer.Option(help="ONNX Runtime's execution provider, such as cuda. Default: the CPU.")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Print only the ratios of each bundle to the first.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--json", help="JSON file to write with all figures and samples.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="HTML file to write with tables and plots.")] = None,
    python: Annotated[
        str, typer.Option(help="ssh: Python interpreter on the host, with numpy, Pillow and the engine.")
    ] = "python3",
    identity: Annotated[
        Path | None, typer.Option(help="ssh: file of the private key. Default: the keys that ssh knows.")
    ] = None,
    host_folder: Annotated[
        str | None, typer.Option(help="ssh: folder on the host with space for the bundles. Default: its /tmp.")
    ] = None,
    benchmark_model: Annotated[
        Path | None, typer.Option(help="android: path of LiteRT's benchmark_model, for TFLite bundles.")
    ] = None,
    perf_test: Annotated[
        Path | None, typer.Option(help="android: path of onnxruntime_perf_test, for ONNX bundles.")
    ] = None,
    library: Annotated[
        list[Path] | None,
        typer.Option(help="android: shared library that the tool loads. Repeatable."),
    ] = None,
    delegates: Annotated[
        str | None, typer.Option(help="android: delegates to measure, such as cpu,gpu. Default: all that the tool has.")
    ] = None,
    max_pixels: MaxPixels = None,
) -> None:
    """Measure latency and memory of bundles on this machine or on a device. Rounds of several bundles are interleaved.

    Each bundle runs in a fresh process. Measured are cold start, first inference, percentiles of each step, throughput
    and peak memory.
    """
    allow_pixels(max_pixels)
    from sam_edge.reporting.folders import check_benchmark_file, is_verification  # noqa: PLC0415
    from sam_edge.reporting.names import short_names  # noqa: PLC0415
    from sam_edge_runtime.benchmark.rounds import Rounds  # noqa: PLC0415

    for file in (out, html):
        if file is not None:
            check_benchmark_file(file)
    kind, _, where = device.partition(":")
    paths = [path for path in bundles if not is_verification(path)] if len(bundles) > 1 else bundles
    opened = {name: Bundle.open(path) for name, path in zip(short_names(paths), paths, strict=True)}
    counts = None if threads is None else numbers_of("--threads", threads)
    rounds = Rounds(repetitions, warm_up, seconds_of("--budget", budget))
    if kind in {ANDROID, APPLE}:
        if html is not None or compare or photo is not None:
            raise UsageError(f"--html, --compare and --photo are for {HOST} and {SSH}: leave them out for {kind}")
        from sam_edge.devices.android import AndroidOptions, benchmark_android  # noqa: PLC0415
        from sam_edge.devices.apple import benchmark_apple  # noqa: PLC0415

        if kind == APPLE:
            _on_device(partial(benchmark_apple, list(opened.values()), rounds.repetitions), out)
            return
        options = AndroidOptions(
            where or None,
            benchmark_model,
            perf_test,
            tuple(library or ()),
            tuple(delegates.split(",")) if delegates else (),
            counts or AndroidOptions.threads,
            repetitions=rounds.repetitions,
            warm_up=max(rounds.warm_up, 1),
        )
        _on_device(partial(benchmark_android, list(opened.values()), options), out)
        return
    if kind not in {HOST, SSH} or (kind == HOST and where) or (kind == SSH and not where):
        raise UsageError(f"--device {device!r} is unknown: choose from {', '.join(DEVICES)}")
    if html is not None:
        from sam_edge.benchmarking.page import check_page  # noqa: PLC0415

        check_page()
    if compare and len(opened) * len(counts or (None,)) < 2:
        raise UsageError("--compare needs two or more bundles: name the one to compare with first")
    with progress_bar("opening bundles") as show:
        if kind == SSH:
            from sam_edge.devices.ssh import SshOptions, benchmark_ssh  # noqa: PLC0415

            host = SshOptions(where, python, identity=identity, folder=host_folder)
            document = benchmark_ssh(opened, host, rounds, counts or (None,), provider, photo, show)
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


def _on_device(measure: Callable[..., list[GraphTiming | Failure]], out: Path | None) -> None:
    """Print and write what `measure(show=..)` gives; a row that was not measured carries its reason."""
    from sam_edge.devices.table import device_tables  # noqa: PLC0415
    from sam_edge.devices.timing import Failure  # noqa: PLC0415
    from sam_edge_runtime.system.files import write_file  # noqa: PLC0415

    with progress_bar("looking for the device") as show:
        rows = measure(show=show)
    for table in device_tables(rows):
        whole(table)
    if out is not None:
        write_file(out, (json.dumps([asdict(row) for row in rows], indent=1) + "\n").encode(), overwrite=True)
        line(str(out))
    if rows and all(isinstance(row, Failure) for row in rows):
        raise typer.Exit(1)


def _show(document: Mapping[str, Any], *, compare: bool) -> None:
    """Print the tables, and why a bundle is missing in them."""
    from sam_edge.benchmarking.tables import latency_table, ratio_table, start_table  # noqa: PLC0415

    if not compare:
        whole(latency_table(document))
        whole(start_table(document))
    if len(document["bundles"]) > 1:
        whole(ratio_table(document))
    for name, reason in document["not_measured"].items():
        note(f"{name} was not measured: {reason}")


def _write(document: Mapping[str, Any], out: Path | None, html: Path | None) -> None:
    """Write the wanted files, with the versions that made them."""
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
