"""Bundles on an Android device: push a benchmark tool and a graph, run it, read its output, remove everything.

TFLite graphs run in LiteRT's `benchmark_model`, ONNX graphs in `onnxruntime_perf_test`. Both are given by path and
checked before the device is used. All files lie in a new folder below `/data/local/tmp`, the only place where Android
lets `adb` start programs. The folder is removed at the end, also after an error, Ctrl-C or SIGTERM. Graphs are pushed,
measured in all variants and removed one after another, so the largest one decides how much space is needed.

Times of a row come from a run without profiling. Operators and peak memory, which slow a run down, come from a second
one. The inputs are the tools' random numbers: the time of no kernel here depends on its values, and masks are not
checked.

A variant that fails is a row with the reason. If the device is lost, the remaining rows give that reason, and earlier
rows are kept. No phone was available when this was written: it was tested with a stand-in for `adb` that prints the
messages of the real one, and with the real one without a device.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sam_edge.reporting.names import short_names
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.errors import BackendError, UsageError

from . import litert_tool, ort_tool
from .adb import Adb, Connection
from .bench import Bench, Runs, Show, stop_programs
from .elf import AndroidBinary
from .interruption import interruptible, undisturbed
from .phone import describe, free_bytes
from .timing import Failure, GraphTiming
from .work import works_of

FOLDER = "/data/local/tmp/sam-edge-"
MARGIN = 32 << 20  # bytes besides the files: samples, profiles, compiled kernels
CLEANING = 20.0  # seconds for cleaning up, during which Ctrl-C has no effect
REMEDY = "docs/devices.md says where to get it"
DEFAULTS = {"tflite": litert_tool.DELEGATES, "onnx": (ort_tool.CPU, "xnnpack", "nnapi")}
_KNOWN = tuple(dict.fromkeys((*litert_tool.DELEGATES, *ort_tool.PROVIDERS)))


@dataclass(frozen=True)
class AndroidOptions:
    """Options of measuring on an Android device.

    Attributes:
        serial: the device's serial number; None for the only device.
        litert_tool: LiteRT's `benchmark_model` for Android, for TFLite bundles.
        ort_tool: `onnxruntime_perf_test` for Android, for ONNX bundles.
        libraries: shared libraries that the tool loads, such as `libonnxruntime.so`.
        delegates: delegates or providers, a row each; empty for the target's `DEFAULTS`.
        threads: numbers of CPU threads, a row each; other delegates run with the first.
        repetitions, warm_up: measured calls, and calls before them.
        profile: whether a second run measures operators and peak memory.
        timeout: seconds that a run may take.
        adb: the program, by path or by name on PATH.

    Raises:
        UsageError: a number out of range, or a delegate that no tool has.
    """

    serial: str | None = None
    litert_tool: Path | None = None
    ort_tool: Path | None = None
    libraries: tuple[Path, ...] = ()
    delegates: tuple[str, ...] = ()
    threads: tuple[int, ...] = (4,)
    repetitions: int = 50
    warm_up: int = 2
    profile: bool = True
    timeout: float = 900.0
    adb: str = "adb"

    def __post_init__(self) -> None:
        for delegate in self.delegates:
            if delegate not in _KNOWN:
                raise UsageError(f"delegate '{delegate}' is unknown: choose from {', '.join(_KNOWN)}")
        if not self.threads or min(self.threads) < 1:
            raise UsageError(f"threads {self.threads} are not possible: give 1 or more, such as 1,4")
        for name, least in (("repetitions", 1), ("warm_up", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} {getattr(self, name)} is too few: give {least} or more")
        if not self.timeout > 0:
            raise UsageError(f"a timeout of {self.timeout:g} seconds is not possible: give more than 0, such as 900")

    def tool_for(self, target: str) -> Path:
        """The tool that measures bundles of `target`.

        Raises:
            UsageError: no tool runs that target on Android, or its path is not given.
        """
        tools = {"tflite": (self.litert_tool, litert_tool.NAME), "onnx": (self.ort_tool, ort_tool.NAME)}
        if target not in tools:
            raise UsageError(f"a bundle for {target} does not run on Android: choose from {', '.join(tools)}")
        path, name = tools[target]
        if path is None:
            raise UsageError(f"bundles for {target} need {name} for Android, and no path of it was given: {REMEDY}")
        return path

    def variants(self, target: str) -> list[tuple[str, int]]:
        """Delegate and number of threads of each row."""
        delegates = self.delegates or DEFAULTS[target]
        return [
            (delegate, threads)
            for delegate in dict.fromkeys(delegates)
            for threads in (self.threads if delegate in (litert_tool.CPU, "xnnpack") else self.threads[:1])
        ]


def benchmark_android(
    bundles: Sequence[Bundle], options: AndroidOptions, show: Show = lambda *_: None
) -> list[GraphTiming | Failure]:
    """Measure every graph of every bundle in every variant; `show` is called with what runs, rows done, and all rows.

    Raises:
        UsageError: a bundle that does not run on Android, a tool that is missing or not for this device, no device, or
            several devices.
        BackendError: the device takes no commands or has too little space.
    """
    works = [work for name, bundle in zip(_names(bundles), bundles, strict=True) for work in works_of(name, bundle)]
    binaries = {
        target: AndroidBinary.read(options.tool_for(target), REMEDY)
        for target in dict.fromkeys(work.subject.target for work in works)
    }
    libraries = [AndroidBinary.read(path, REMEDY) for path in options.libraries]
    with interruptible():
        connection = Adb(options.adb).connect(options.serial)
        phone = describe(connection)
        for binary in (*binaries.values(), *libraries):
            binary.check_runs_on(phone.abis, REMEDY)
        files = [*binaries.values(), *libraries]
        _check_space(connection, sum(each.bytes for each in files), max((w.subject.bytes for w in works), default=0))
        with _workplace(connection, show) as folder:
            for number, file in enumerate(files):
                connection.push(file.path, f"{folder}/{_remote_name(number, file, binaries)}", options.timeout)
            connection.shell(f"chmod 755 {folder}/*")
            tools = {target: binary.path for target, binary in binaries.items()}
            runs = Runs(options.repetitions, options.warm_up, options.timeout, profile=options.profile)
            plans = [(work, options.variants(work.subject.target)) for work in works]
            return Bench(connection, folder, phone.device, tools, runs).measure(plans, show)


def _names(bundles: Sequence[Bundle]) -> list[str]:
    if not bundles:
        raise UsageError("there is no bundle to measure: name one or more")
    return short_names([bundle.root for bundle in bundles])


def _remote_name(number: int, file: AndroidBinary, binaries: dict[str, AndroidBinary]) -> str:
    """A file's name on the device: tools get their usual name, libraries keep theirs."""
    names = [{"tflite": litert_tool.NAME, "onnx": ort_tool.NAME}[target] for target in binaries]
    return names[number] if number < len(names) else file.path.name


def _check_space(connection: Connection, tools: int, largest: int) -> None:
    needed, free = tools + largest + MARGIN, free_bytes(connection, str(PurePosixPath(FOLDER).parent))
    if free is not None and free < needed:
        raise BackendError(
            f"device '{connection.serial}' has {free / 1e6:.0f} MB free and {needed / 1e6:.0f} MB are needed: free "
            "some in its storage settings, or measure a smaller bundle"
        )


@contextmanager
def _workplace(connection: Connection, show: Show) -> Iterator[str]:
    """A folder on the device. It is removed at the end, and what runs in it is stopped."""
    folder = f"{FOLDER}{secrets.token_hex(4)}"
    try:
        made = connection.shell(f"mkdir {folder}")
        if made.code:
            raise BackendError(
                f"{folder} cannot be made on device '{connection.serial}' ({made.text.strip()[:120]}): check whether "
                "its storage is full"
            )
        yield folder
    finally:
        with undisturbed():
            _clean(connection, folder, show)


def _clean(connection: Connection, folder: str, show: Show) -> None:
    """Stop what runs in the folder and remove it. A failure is only shown, so that the rows are kept."""
    try:
        stop_programs(connection, folder, CLEANING)
        connection.remove(folder, CLEANING)
    except BackendError as error:
        show(f"{folder} may be left on the device: {error}", 0, 0)
