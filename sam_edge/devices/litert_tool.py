"""LiteRT's `benchmark_model`: its command lines, and what it prints.

Two programs have this name. The **interpreter**'s is TensorFlow Lite's, now in LiteRT's repository; flags and output:
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/lite/tools/benchmark/README.md and `benchmark_model.cc`,
`benchmark_tflite_model.cc` beside it. The **compiled** model's is LiteRT's newer one, without NNAPI:
https://developers.google.com/edge/litert/next/benchmark and `litert/tools/benchmark_litert_model.h` in
https://github.com/google-ai-edge/LiteRT. `--help` tells which of the two it is.

Both warn of a flag that they do not know and then measure something else: the CPU where the GPU was asked for. So a
delegate's row needs the tool's own word that the delegate was applied, and any unknown flag that matters is a failure.
Operators and the peak of memory come from a second run, because the tool says of both that they slow it down.

Forms of output that are read: `Average inference timings in us: Warmup: .., Init: .., Inference: ..` (the oldest),
`Inference timings in us: Init: .., First inference: ..` with `count=.. min=..`, the same with `p5= median= p95=`, the
compiled model's `Model initialization: .. ms`, and tables `Summary by node type` with tabs or spaces.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from sam_edge_runtime.errors import BackendError

from .timing import Figures, Operator, Spread

NAME = "benchmark_model"
CPU, GPU, NNAPI = "cpu", "gpu", "nnapi"
DELEGATES = (CPU, GPU, NNAPI)
_APPLIED_NAMES = {CPU: "XNNPACK", GPU: "GPU", NNAPI: "NNAPI"}
DELEGATE, KERNELS = "delegate", "CPU kernels"  # places of operators
_EXPLAINED = 0.5  # of a delegate's time, for a list of its operations to stand for it
MEBIBYTE = 1 << 20  # what both programs print as MB: kilobytes / 1024

_NUMBER = r"([-+\d.eE]+)"
_OLD = re.compile(
    rf"Average inference timings in us: Warmup: {_NUMBER}, Init: {_NUMBER}, (?:no stats|Inference): {_NUMBER}"
)
_NEW = re.compile(
    rf"Inference timings in us: Init: {_NUMBER}, First inference: {_NUMBER}, Warmup \(avg\): {_NUMBER}, "
    rf"Inference \(avg\): {_NUMBER}"
)
_COUNT = re.compile(r"^(?:\w+: )?count=(\d+)([^\n]*)$", re.MULTILINE)
_PAIR = re.compile(rf"(\w+)={_NUMBER}")
_COMPILED = {
    "init": re.compile(rf"Model initialization:\s+{_NUMBER} ms"),
    "first": re.compile(rf"Warmup \(first\):\s+{_NUMBER} ms"),
    "warm_up": re.compile(rf"Warmup \(avg\):\s+{_NUMBER} ms"),
    "mean": re.compile(rf"Inference \(avg\):\s+{_NUMBER} ms \((\d+) runs\)"),
    "least": re.compile(rf"Inference \(min\):\s+{_NUMBER} ms"),
    "most": re.compile(rf"Inference \(max\):\s+{_NUMBER} ms"),
    "std": re.compile(rf"Inference \(std\):\s+{_NUMBER}"),
}
_OVERALL = re.compile(rf"(?:\(MB\): init={_NUMBER} overall=|Overall footprint:\s+){_NUMBER}")
_PEAK = re.compile(
    rf"(?:Overall peak memory footprint \(MB\) via periodic monitoring:|Peak memory:)\s+{_NUMBER}(?: MB)?\s*$",
    re.MULTILINE,
)
_REPLACED = re.compile(r"Replacing (\d+) out of (\d+) node\(s\) with delegate \(([^)]*)\)")
_UNKNOWN_FLAGS = re.compile(r"Unconsumed cmdline flags:([^\n]*)")
_TABLE = re.compile(r"=+ Summary by node type =+\n([^\n]*)\n((?:[^\n=]*\S[^\n]*\n)*)")
_ROW = re.compile(r"^\s*(\S.*?)\s+(\d+)\s+([\d.]+)\s+(-?nan|[\d.]+)%\s+(?:-?nan|[\d.]+)%\s+[\d.]+\s+\d+\s*$")
_COLUMNS = ("[Node type]", "[count]", "[avg ms]", "[avg %]", "[cdf %]", "[mem KB]", "[times called]")
_RUNS, _INSIDE = "Operator-wise Profiling Info for Regular Benchmark Runs:", "Delegate internal:"


class Dialect(Enum):
    """Which of the two programs it is."""

    INTERPRETER = "interpreter"
    COMPILED = "compiled model"


@dataclass(frozen=True)
class Call:
    """One run of the program.

    Attributes:
        graph: path of the file on the device.
        delegate: one of `DELEGATES`.
        threads: of the CPU.
        repetitions, warm_up: calls that count, and calls before, at least.
        signature: which to run; empty where the file has only one.
    """

    graph: str
    delegate: str
    threads: int
    repetitions: int
    warm_up: int
    signature: str = ""

    def arguments(self, dialect: Dialect, *, profile: bool) -> list[str]:
        """The command line without the program; `profile` asks for operators and the peak of memory."""
        flags: dict[str, str | int] = {
            "graph": self.graph,
            "num_threads": self.threads,
            "num_runs": self.repetitions,
            "warmup_runs": self.warm_up,
            "min_secs": 0,
            "warmup_min_secs": 0,
            "max_secs": 600,
        }
        if self.signature:
            flags["signature_to_run_for"] = self.signature
        if dialect is Dialect.INTERPRETER:
            flags[{CPU: "use_xnnpack", GPU: "use_gpu", NNAPI: "use_nnapi"}[self.delegate]] = "true"
        elif self.delegate == GPU:
            flags["use_gpu"] = "true"
        if profile:
            flags["enable_op_profiling" if dialect is Dialect.INTERPRETER else "use_profiler"] = "true"
            flags["report_peak_memory_footprint"] = "true"
        return [f"--{name}={value}" for name, value in flags.items()]


def dialect_of(usage: str) -> Dialect:
    """Which program prints this for `--help`.

    Raises:
        BackendError: neither; it cannot be this tool, or does not start on the device.
    """
    if "--use_profiler" in usage:
        return Dialect.COMPILED
    if "--enable_op_profiling" in usage or "--graph" in usage:
        return Dialect.INTERPRETER
    said = next((line.strip() for line in usage.splitlines() if line.strip()), "nothing")
    raise BackendError(
        f"what was given as {NAME} said '{said[:120]}' to --help: it is another program, or does not run on this "
        "device; docs/devices.md says where to get it"
    )


def check_delegate(delegate: str, dialect: Dialect) -> None:
    """Refuse what this program cannot do.

    Raises:
        BackendError: NNAPI of the compiled model's program.
    """
    if delegate == NNAPI and dialect is Dialect.COMPILED:
        raise BackendError(f"this {NAME} is the compiled model's, which has no NNAPI: give the interpreter's")


def parse(text: str, delegate: str, dialect: Dialect) -> Figures:
    """The figures in the output of a run without profiling.

    Raises:
        BackendError: the run failed, ran elsewhere than on `delegate`, or prints in an unknown form.
    """
    unknown = _UNKNOWN_FLAGS.search(text)
    if unknown and re.search(r"--(use_|signature_to_run_for|graph)", unknown[1]):
        raise BackendError(f"this {NAME} does not know{unknown[1].rstrip()}: get a newer one, or one built for Android")
    counts = [_counted(int(count), pairs) for count, pairs in _COUNT.findall(text) if count != "0"]
    delegated = _delegated(text, delegate, dialect)
    if compiled := _COMPILED["mean"].search(text):
        ms = {key: float(found[1]) for key, pattern in _COMPILED.items() if (found := pattern.search(text))}
        runs = int(compiled[2])
        last = counts[-1] if counts and counts[-1].count == runs else None  # has more digits, and percentiles
        steady = last or Spread(runs, ms["mean"], ms.get("std"), ms.get("least"), ms.get("most"))
        init, first, warm_up = ms.get("init"), ms.get("first"), ms.get("warm_up")
    elif new := _NEW.search(text):
        init, first, warm_up, mean = (float(value) / 1e3 for value in new.groups())
        steady = counts[-1] if counts else Spread(1, mean, None, None, None)
    elif old := _OLD.search(text):
        warm_up, init, mean = (float(value) / 1e3 for value in old.groups())
        first, steady = None, counts[-1] if counts else Spread(1, mean, None, None, None)
    else:
        raise BackendError(f"{NAME} printed no timings: {reason(text)}")
    overall, peak = _OVERALL.search(text), _PEAK.search(text)
    return Figures(
        init_ms=init,
        first_ms=first,
        warm_up_ms=warm_up,
        steady=steady,
        memory_overall_bytes=_bytes(overall[2]) if overall else None,
        memory_peak_bytes=_bytes(peak[1]) if peak else None,
        delegated=delegated,
    )


def parse_peak(text: str) -> int | None:
    """The peak of memory in the output of a run with profiling, in bytes."""
    peak = _PEAK.search(text)
    return _bytes(peak[1]) if peak else None


def parse_operators(text: str) -> tuple[Operator, ...]:
    """Operators by kind in the output of a run with profiling; empty where it has no table of them.

    What a delegate says of its inside stands in a table of its own, and takes the place of the delegate's row where
    there is only one delegate and the table explains most of its time.
    """
    _, told, runs = text.rpartition(_RUNS)
    outside, _, within = (runs if told else text).partition(_INSIDE)
    plain, inside = _rows(outside), _rows(within)
    delegates = [kind for kind in plain if _place(kind) == DELEGATE]
    listed = [(kind, *row, _place(kind)) for kind, row in plain.items()]
    explained = sum(ms for _, ms in inside.values())
    if len(delegates) == 1 and explained >= _EXPLAINED * plain[delegates[0]][1] and inside:
        listed = [row for row in listed if row[0] != delegates[0]]
        listed += [(kind, *row, DELEGATE) for kind, row in inside.items()]
    total = sum(ms for _, _, ms, _ in listed)
    operators = (Operator(kind, count, ms, ms / total if total else 0.0, unit) for kind, count, ms, unit in listed)
    return tuple(sorted(operators, key=lambda each: -each.share))


def reason(text: str) -> str:
    """Why a run failed, in one line, from the lines in which it says so."""
    lines = [re.sub(r"^(ERROR|INFO|WARN\w*|VERBOSE): ", "", line).strip() for line in text.splitlines()]
    telling = [
        line
        for line in lines
        if re.search(r"error|fail|cannot|unsupported|not supported|killed|fault|abort|incorrect|denied", line, re.I)
        and "Benchmarking failed" not in line
    ]
    chosen = telling or [line for line in lines if line]
    return "; ".join(dict.fromkeys(line[:160] for line in chosen[-2:])) or "it printed nothing"


def _counted(count: int, pairs: str) -> Spread:
    """A line such as `count=50 first=.. curr=.. min=.. max=.. avg=.. std=..` of microseconds."""
    us = {key: float(value) / 1e3 for key, value in _PAIR.findall(pairs)}
    if "avg" not in us:  # one run, or all alike
        return Spread(count, us["curr"], 0.0, us["curr"], us["curr"])
    return Spread(
        count,
        us["avg"],
        us.get("std"),
        us.get("min"),
        us.get("max"),
        median=us.get("median"),
        p95=us.get("p95"),
    )


def _delegated(text: str, delegate: str, dialect: Dialect) -> str:
    """How much the delegate took, in the tool's words.

    Raises:
        BackendError: it took nothing, so that the times are those of the plain CPU kernels.
    """
    name = _APPLIED_NAMES[delegate]
    # What the GPU left is XNNPACK's, and has a line of its own.
    replaced = [found for found in _REPLACED.findall(text) if ("xnnpack" in found[2].lower()) == (delegate == CPU)]
    taken, of = (sum(int(found[column]) for found in replaced) for column in (0, 1))
    nodes = f" ({taken} of {of} operations)" if replaced else ""
    if dialect is Dialect.COMPILED:
        return nodes.strip(" ()")
    if re.search(rf"Though {name} delegate is explicitly applied, the model graph will not be", text):
        raise BackendError(f"the {name} delegate took no operation of the graph: the time would be the CPU's")
    applied = re.search(rf"[Aa]pplied {name} delegate(?:, and the model graph will be (completely|partially))?", text)
    if applied:
        return ({"completely": "whole", "partially": "in part"}.get(applied[1], "") + nodes).strip()
    if delegate == CPU:
        return ""
    told = re.search(rf"{name} acceleration is unsupported[^\n]*|Failed to apply {name}[^\n]*", text)
    why = told[0].strip() if told else reason(text)
    raise BackendError(f"{NAME} never said that the {name} delegate was applied ({why}): the time would be the CPU's")


def _rows(text: str) -> dict[str, tuple[int, float]]:
    """Number and milliseconds by kind in the tables of `text`, those of several graphs added up."""
    rows: dict[str, tuple[int, float]] = {}
    for header, body in _TABLE.findall(text):
        if [column for column in _COLUMNS if column not in header]:
            raise BackendError(f"{NAME}'s table of operators has other columns ({header.strip()[:120]}): report it")
        for line in body.splitlines():
            if found := _ROW.match(line):
                count, ms = rows.get(found[1], (0, 0.0))
                rows[found[1]] = count + int(found[2]), ms + float(found[3])
    return rows


def _place(kind: str) -> str:
    """Where a kind runs: the runtime's own kernels have names in capitals, and delegates say that they are some."""
    if "delegate" in kind.lower():
        return DELEGATE
    return KERNELS if re.fullmatch(r"[A-Z0-9_]+", kind) else ""


def _bytes(mebibytes: str) -> int:
    return round(float(mebibytes) * MEBIBYTE)
