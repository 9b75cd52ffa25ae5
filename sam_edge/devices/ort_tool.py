"""ONNX Runtime's `onnxruntime_perf_test`: its command lines and its output.

Options: https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/test/perftest/README.md and
`command_args_parser.cc` beside it; output: `performance_runner.cc`; the profile:
https://onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html. With `-I` the tool makes the inputs. It
takes free axes as 1, so the axes of a variable decoder are given by name with `-f`.

With a result file the seconds of each run are written as `model,seconds,peak,cpu,run`. Mean, standard deviation and
extremes are computed from them; percentiles are those that the tool prints. The tool prints its first call in whole
milliseconds, and no other warm-up. Operators come from a second run, because profiling takes time.

These forms of output are read: `Total time cost:.. Average time cost:.. ms` with `P50 Latency is ..sec` (the oldest,
still in the tool's README), `Session creation time cost:.. s`, then `First inference time cost: .. ms` with `P50
Latency: .. s`, and the newest with `Average inference time cost total: .. ms`.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from sam_edge_runtime.errors import BackendError
from sam_edge_runtime.system.documents import parse_json

from .timing import Figures, Operator, Spread

NAME = "onnxruntime_perf_test"
CPU = "cpu"
# delegate -> (name in a profile, options of the provider)
PROVIDERS = {
    CPU: ("CPUExecutionProvider", ""),
    "xnnpack": ("XnnpackExecutionProvider", ""),
    "nnapi": ("NnapiExecutionProvider", ""),
    "qnn": ("QNNExecutionProvider", "backend_type|htp"),
}
_NUMBER = r"([-+\d.eE]+)"
_CREATION = re.compile(rf"Session creation time cost:\s*{_NUMBER}")
_FIRST = re.compile(rf"First inference time cost:\s*{_NUMBER}\s*ms")
_MEAN = re.compile(rf"Average (?:inference )?time cost(?: total)?:\s*{_NUMBER}\s*ms")
_RUNS = re.compile(r"Total (?:inference requests|iterations):\s*(\d+)")
_PEAK = re.compile(r"Peak working set size:\s*(\d+)")
_LATENCY = re.compile(rf"^(Min|Max|P50|P90|P95|P99) Latency(?: is|:) {_NUMBER}\s*s", re.MULTILINE)
_SAMPLE = re.compile(rf"^[^,\n]*,{_NUMBER},\d+,-?\d+,\d+\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Call:
    """One run of the program.

    Attributes:
        graph: path of the file on the device.
        delegate: one of `PROVIDERS`.
        threads: threads within an operation.
        repetitions: measured runs.
        axes: sizes of free axes by name.
    """

    graph: str
    delegate: str
    threads: int
    repetitions: int
    axes: dict[str, int] = field(default_factory=dict)

    def arguments(self, result: str, profile: str = "") -> list[str]:
        """The command line without the program; `result` and `profile` are paths for the samples and the profile."""
        options = ["-I", "-e", self.delegate, "-m", "times", "-r", str(self.repetitions), "-x", str(self.threads), "-s"]
        for axis, size in self.axes.items():
            options += ["-f", f"{axis}:{size}"]
        if provider := PROVIDERS[self.delegate][1]:
            options += ["-i", provider]
        if profile:
            options += ["-p", profile]
        return [*options, self.graph, result]


def parse(text: str, samples: str = "") -> Figures:
    """The figures in the output, and in the content of the result file.

    Raises:
        BackendError: the run failed, or printed an unknown form.
    """
    mean, runs = _MEAN.search(text), _RUNS.search(text)
    if not mean or not runs:
        raise BackendError(f"{NAME} printed no timings: {reason(text)}")
    creation, first, peak = _CREATION.search(text), _FIRST.search(text), _PEAK.search(text)
    latency = {key: float(value) * 1e3 for key, value in _LATENCY.findall(text)}
    each = [float(seconds) * 1e3 for seconds in _SAMPLE.findall(samples)]
    measured = (
        Spread(len(each), statistics.fmean(each), statistics.pstdev(each), min(each), max(each))
        if each
        else Spread(int(runs[1]), float(mean[1]), None, latency.get("Min"), latency.get("Max"))
    )
    return Figures(
        init_ms=float(creation[1]) * 1e3 if creation else None,
        first_ms=float(first[1]) if first else None,
        warm_up_ms=None,
        steady=Spread(
            measured.count,
            measured.mean,
            measured.std,
            measured.least,
            measured.most,
            latency.get("P50"),
            latency.get("P90"),
            latency.get("P95"),
            latency.get("P99"),
        ),
        memory_peak_bytes=int(peak[1]) if peak else None,
    )


def parse_operators(profile: str) -> tuple[Operator, ...]:
    """Operators of a run, by kind and provider, from the JSON of a profile; empty if it has none.

    Raises:
        BackendError: not JSON, or not a list of events.
    """
    try:
        events: Any = parse_json(profile)
    except ValueError as error:
        raise BackendError(f"{NAME}'s profile is not JSON ({error}): it was cut off; profile fewer runs") from error
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        raise BackendError(f"{NAME}'s profile is not a list of events: its format has changed; report it")
    counts: Counter[tuple[str, str]] = Counter()
    time: Counter[tuple[str, str]] = Counter()
    for event in events:
        arguments = event.get("args") or {}
        if event.get("cat") == "Node" and str(event.get("name", "")).endswith("_kernel_time"):
            key = str(arguments.get("op_name", "?")), str(arguments.get("provider", ""))
            counts[key] += 1
            time[key] += int(event.get("dur", 0))
    runs = sum(event.get("cat") == "Session" and event.get("name") == "model_run" for event in events) or 1
    total = sum(time.values())
    operators = (
        Operator(kind, round(counts[kind, unit] / runs), us / runs / 1e3, us / total if total else 0.0, unit)
        for (kind, unit), us in time.items()
    )
    return tuple(sorted(operators, key=lambda each: -each.share))


def delegated(operators: tuple[Operator, ...], delegate: str) -> str:
    """The share of time of the provider of `delegate`, in words; empty without operators.

    Raises:
        BackendError: it ran nothing, so the times are those of the CPU provider.
    """
    provider = PROVIDERS[delegate][0]
    if not operators:
        return ""
    # A fused part of the graph is named after its provider; some versions record no provider for it.
    own = [each for each in operators if each.unit == provider or each.kind.lower().startswith(provider.lower())]
    if not own:
        raise BackendError(f"{provider} took no operation of the graph: the time would be the CPU's")
    return f"{sum(each.share for each in own):.0%} of the time" if delegate != CPU else ""


def reason(text: str) -> str:
    """Why a run failed, in one line, from the lines that report an error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [
        line
        for line in lines
        if re.search(r"error|fail|exception|not supported|cannot|killed|fault|not found|denied", line, re.IGNORECASE)
    ]
    return (telling or lines or ["it printed nothing"])[0][:200]
