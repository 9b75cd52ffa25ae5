"""Runs the benchmark tools on a device: a row for each variant of each graph, with figures or a reason.

A failed run costs only its own row. When the device is gone nothing more is tried, and the remaining rows give the
reason.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath

from sam_edge_runtime.errors import BackendError
from sam_edge_runtime.system.files import sha256_of

from . import litert_tool, ort_tool
from .adb import KILLED, Connection, DeviceGoneError, SlowCallError
from .timing import Device, Failure, Figures, GraphTiming, Operator, Tool
from .work import Work

TOOLS = {"tflite": litert_tool.NAME, "onnx": ort_tool.NAME}
_PROFILED_RUNS = 5
Show = Callable[[str, int, int], None]
Variants = Sequence[tuple[str, int]]
_Measured = tuple[Figures, tuple[Operator, ...], str]  # the last is a remark


@dataclass(frozen=True)
class Runs:
    """Measured calls, warm-up calls, timeout of a run in seconds, and whether a second run measures operators."""

    repetitions: int
    warm_up: int
    timeout: float
    profile: bool


@dataclass
class Bench:
    """A device whose folder holds the tools.

    Attributes:
        connection: connection to the device.
        folder: its folder for all files.
        device: description of the device.
        tools: file of each target's tool on this machine.
        runs: number and duration of the runs.
        gone: why nothing more can be run; empty while the device is connected.
        dialects: which `benchmark_model` it is, once that is known.
    """

    connection: Connection
    folder: str
    device: Device
    tools: dict[str, Path]
    runs: Runs
    gone: str = ""
    dialects: list[litert_tool.Dialect] = field(default_factory=list)

    def measure(self, plans: Sequence[tuple[Work, Variants]], show: Show) -> list[GraphTiming | Failure]:
        """A row for each variant of each graph; `show` is called with the variant, rows done, and all rows."""
        total, rows = sum(len(variants) for _, variants in plans), list[GraphTiming | Failure]()
        for work, variants in plans:
            unable = self.gone or self._push(work)
            for delegate, threads in variants:
                show(f"{work.subject.bundle} {work.subject.described}, {delegate}", len(rows), total)
                rows.append(self._row(work, delegate, threads, unable or self.gone))
            if not self.gone:
                self._try(partial(self.connection.remove, f"{self.folder}/graph"))
        show("done", total, total)
        return rows

    def _push(self, work: Work) -> str:
        """Push the graph. Returns why that failed, or an empty text."""
        steps: list[Callable[[], object]] = [partial(self.connection.shell, f"mkdir -p {self.folder}/graph")]
        for file in work.files:
            steps.append(partial(self.connection.push, file, f"{self.folder}/graph/{file.name}", self.runs.timeout))
        return next(filter(None, map(self._try, steps)), "")

    def _try(self, act: Callable[[], object]) -> str:
        """Call `act`. Returns why that failed, or an empty text; remembers that the device is gone."""
        try:
            act()
        except DeviceGoneError as error:
            self.gone = f"{error}; its folder {self.folder} may be left"
            return self.gone
        except BackendError as error:
            return str(error)
        return ""

    def _row(self, work: Work, delegate: str, threads: int, unable: str) -> GraphTiming | Failure:
        target = work.subject.target
        tool = Tool(TOOLS[target], None, sha256_of(self.tools[target]))
        measured: list[_Measured] = []
        run = self._litert if target == "tflite" else self._ort
        reason = unable or self._try(lambda: measured.append(run(work, delegate, threads)))
        if reason:
            return Failure(work.subject, self.device, tool, delegate, threads, reason)
        figures, operators, remark = measured[0]
        return GraphTiming(work.subject, self.device, tool, delegate, threads, figures, operators, remark)

    def _litert(self, work: Work, delegate: str, threads: int) -> _Measured:
        if delegate not in litert_tool.DELEGATES:
            raise BackendError(
                f"{litert_tool.NAME} has no delegate '{delegate}': choose from {', '.join(litert_tool.DELEGATES)}"
            )
        if not self.dialects:
            self.dialects.append(litert_tool.dialect_of(self._run(litert_tool.NAME, ["--help"], may_fail=True)))
        (dialect,) = self.dialects
        litert_tool.check_delegate(delegate, dialect)
        call = litert_tool.Call(
            f"{self.folder}/graph/{work.files[0].name}",
            delegate,
            threads,
            self.runs.repetitions,
            self.runs.warm_up,
            work.signature,
        )
        figures = litert_tool.parse(
            self._run(litert_tool.NAME, call.arguments(dialect, profile=False)), delegate, dialect
        )
        if not self.runs.profile:
            return figures, (), ""
        arguments = replace(call, repetitions=_PROFILED_RUNS, warm_up=1).arguments(dialect, profile=True)
        texts: list[str] = []
        unable = self._try(lambda: texts.append(self._run(litert_tool.NAME, arguments)))
        if unable:  # the times are valid without operators
            return figures, (), f"no operators: {unable}"
        peak = litert_tool.parse_peak(texts[0]) or figures.memory_peak_bytes
        return replace(figures, memory_peak_bytes=peak), litert_tool.parse_operators(texts[0]), ""

    def _ort(self, work: Work, delegate: str, threads: int) -> _Measured:
        if delegate not in ort_tool.PROVIDERS:
            raise BackendError(
                f"{ort_tool.NAME} has no provider '{delegate}' for Android: choose from {', '.join(ort_tool.PROVIDERS)}"
            )
        graph, result = f"{self.folder}/graph/{work.files[0].name}", f"{self.folder}/graph/samples.csv"
        call = ort_tool.Call(graph, delegate, threads, self.runs.repetitions, work.axes)
        self.connection.shell(f"rm -f {result}")
        text = self._run(ort_tool.NAME, call.arguments(result))
        figures = ort_tool.parse(text, self.connection.shell(f"cat {result}").text)
        unproven = f"nothing shows how much {delegate} ran"
        if not self.runs.profile:
            return figures, (), "" if delegate == ort_tool.CPU else unproven
        found: list[tuple[Operator, ...]] = []
        if unable := self._try(lambda: found.append(self._ort_operators(call, f"{self.folder}/graph/profile"))):
            return figures, (), f"no operators: {unable}" + ("" if delegate == ort_tool.CPU else f"; {unproven}")
        return replace(figures, delegated=ort_tool.delegated(found[0], delegate)), found[0], ""

    def _ort_operators(self, call: ort_tool.Call, profile: str) -> tuple[Operator, ...]:
        self.connection.shell(f"rm -f {profile}*")
        arguments = replace(call, repetitions=_PROFILED_RUNS).arguments(f"{self.folder}/graph/samples2.csv", profile)
        self._run(ort_tool.NAME, arguments)
        output = self.connection.shell(f"cat {profile}*", self.runs.timeout)
        if output.code:
            raise BackendError(f"{ort_tool.NAME} wrote no profile ({output.text.strip()[:120]}): try without profiling")
        return ort_tool.parse_operators(output.text)

    def _run(self, name: str, arguments: list[str], *, may_fail: bool = False) -> str:
        """Run a tool and return its output; with `may_fail` any exit code is accepted.

        Raises:
            BackendError: the tool failed, was killed, or took too long.
        """
        command = f"cd {self.folder} && LD_LIBRARY_PATH={self.folder} ./{name} {shlex.join(arguments)}"
        try:
            output = self.connection.shell(command, self.runs.timeout)
        except SlowCallError as error:
            stop_programs(self.connection, self.folder)
            raise BackendError(
                f"{name} took longer than {self.runs.timeout:g} seconds: allow more time, or fewer repetitions"
            ) from error
        if output.code == KILLED:
            raise BackendError(
                f"{name} was killed on the device, as happens when memory runs out: close apps, or use a smaller model"
            )
        if output.code and not may_fail:
            why = litert_tool.reason if name == litert_tool.NAME else ort_tool.reason
            raise BackendError(f"{name} failed with exit code {output.code}: {why(output.text)}")
        return output.text


def stop_programs(connection: Connection, folder: str, timeout: float | None = None) -> None:
    """Kill programs that run in the folder; the brackets keep the pattern from matching its own shell."""
    name = PurePosixPath(folder).name
    connection.shell(f"pkill -9 -f '[{name[0]}]{name[1:]}/'", timeout)
