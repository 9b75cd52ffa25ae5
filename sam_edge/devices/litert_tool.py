"""LiteRT's `benchmark_model`: its command lines and its output.

Two programs have this name. The **interpreter**'s is TensorFlow Lite's, now in LiteRT's repository; flags and output:
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/lite/tools/benchmark/README.md and `benchmark_model.cc`,
`benchmark_tflite_model.cc` beside it. The **compiled** model's is LiteRT's newer one, without NNAPI:
https://developers.google.com/edge/litert/next/benchmark and `litert/tools/benchmark_litert_model.h` in
https://github.com/google-ai-edge/LiteRT. `--help` shows which of the two it is.

Both only warn of an unknown flag and then measure something else: the CPU instead of the GPU. So the row of a delegate
needs the tool's message that the delegate was applied, and an unknown flag that matters is a failure. Operators and
peak memory come from a second run, because by the tool's documentation both slow it down.

These forms of output are read: `Average inference timings in us: Warmup: .., Init: .., Inference: ..` (the oldest),
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
DELEGATE, KERNELS = "delegate", "CPU kernels"  # units of operators
_EXPLAINED = 0.5  # share of a delegate's time that the list of its operations has to cover to replace it
MEBIBYTE = 1 << 20  # both programs print kilobytes / 1024 as MB

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
    """The two programs of this name."""

    INTERPRETER = "interpreter"
    COMPILED = "compiled model"


@dataclass(frozen=True)
class Call:
    """One run of the program.

    Attributes:
        graph: path of the file on the device.
        delegate: one of `DELEGATES`.
        threads: threads of the CPU.
        repetitions, warm_up: measured calls, and calls before them, at least.
        signature: the signature to run; empty if the file has only one.
    """

    graph: str
    delegate: str
    threads: int
    repetitions: int
    warm_up: int
    signature: str = ""

    def arguments(self, dialect: Dialect, *, profile: bool) -> list[str]:
        """The command line without the program; with `profile` it measures operators and peak memory."""
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
    """The program that prints `usage` for `--help`.

    Raises:
        BackendError: it is neither, or does not start on the device.
    """
    if "--use_profiler" in usage:
        return Dialect.COMPILED
    if "--enable_op_profiling" in usage or "--graph" in usage:
        return Dialect.INTERPRETER
    said = next((line.strip() for line in usage.splitlines() if line.strip()), "nothing")
    raise BackendError(
        f"the file given as {NAME} prints '{said[:120]}' for --help: it is another program, or does not run on this "
        "device; docs/devices.md says where to get it"
    )


def check_delegate(delegate: str, dialect: Dialect) -> None:
    """Refuse a delegate that this program does not have.

    Raises:
        BackendError: NNAPI with the compiled model's program.
    """
    if delegate == NNAPI and dialect is Dialect.COMPILED:
        raise BackendError(f"this {NAME} is the compiled model's, which has no NNAPI: give the interpreter's")


def parse(text: str, delegate: str, dialect: Dialect) -> Figures:
    """The figures in the output of a run without profiling.

    Raises:
        BackendError: the run failed, did not run on `delegate`, or printed an unknown form.
    """
    unknown = _UNKNOWN_FLAGS.search(text)
    if unknown and re.search(r"--(use_|signature_to_run_for|graph)", unknown[1]):
        raise BackendError(f"this {NAME} does not know{unknown[1].rstrip()}: get a newer one, or one built for Android")
    counts = [_counted(int(count), pairs) for count, pairs in _COUNT.findall(text) if count != "0"]
    delegated = _delegated(text, delegate, dialect)
    if compiled := _COMPILED["mean"].search(text):
        ms = {key: float(found[1]) for key, pattern in _COMPILED.items() if (found := pattern.search(text))}
        runs = int(compiled[2])
        last = counts[-1] if counts and counts[-1].count == runs else None  # this line has more digits, and percentiles
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
    """The peak memory in the output of a run with profiling, in bytes; None if it is not printed."""
    peak = _PEAK.search(text)
    return _bytes(peak[1]) if peak else None


def parse_operators(text: str) -> tuple[Operator, ...]:
    """Operators by kind in the output of a run with profiling; empty if it has no table of them.

    The operations inside a delegate have a table of their own. It replaces the delegate's row if there is only one
    delegate and the table covers most of its time.
    """
    _, mark, runs = text.rpartition(_RUNS)
    outside, _, within = (runs if mark else text).partition(_INSIDE)
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
    """Why a run failed, in one line, from the lines that report an error."""
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
    """The figures of a line such as `count=50 first=.. curr=.. min=.. max=.. avg=.. std=..`, in microseconds."""
    us = {key: float(value) / 1e3 for key, value in _PAIR.findall(pairs)}
    if "avg" not in us:  # one run, or all equal
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
    """How much of the graph the delegate runs, from the tool's messages.

    Raises:
        BackendError: it runs nothing, so the times would be those of the CPU kernels.
    """
    name = _APPLIED_NAMES[delegate]
    # XNNPACK runs what the GPU does not, and has its own line.
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
    refusal = re.search(rf"{name} acceleration is unsupported[^\n]*|Failed to apply {name}[^\n]*", text)
    why = refusal[0].strip() if refusal else reason(text)
    raise BackendError(
        f"{NAME} did not report that the {name} delegate was applied ({why}): the time would be the CPU's"
    )


def _rows(text: str) -> dict[str, tuple[int, float]]:
    """Count and milliseconds by kind in the tables of `text`, summed over graphs."""
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
    """Where a kind runs: kernels of the runtime have names in capitals, and names of delegates contain the word."""
    if "delegate" in kind.lower():
        return DELEGATE
    return KERNELS if re.fullmatch(r"[A-Z0-9_]+", kind) else ""


def _bytes(mebibytes: str) -> int:
    return round(float(mebibytes) * MEBIBYTE)
