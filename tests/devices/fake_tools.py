"""Stand-ins for the programs on the fake device, with known figures."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import texts  # beside this file

HOME = Path(os.environ["FAKE_DEVICE"])
STATE = json.loads((HOME / "state.json").read_text())


def misbehave(delegate: str) -> None:
    """What the test sets for this delegate: to be killed, to crash, or to take a minute."""
    wanted = STATE.get("tool", {}).get(delegate)
    if wanted == "sleep":
        (HOME / "running").write_text(str(os.getpid()))
        time.sleep(60)
    if wanted == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if wanted == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)


def benchmark_model(arguments: list[str]) -> int:
    flags = dict(argument.removeprefix("--").partition("=")[::2] for argument in arguments)
    if "help" in flags:
        sys.stderr.write(texts.COMPILED_USAGE if STATE.get("compiled") else texts.INTERPRETER_USAGE)
        return 1
    if not Path(flags["graph"]).is_file():
        sys.stderr.write(f"ERROR: Failed to load model {flags['graph']}\nERROR: Benchmarking failed.\n")
        return 1
    signatures = STATE.get("signatures", {}).get(Path(flags["graph"]).name, [])
    if signatures and flags.get("signature_to_run_for") not in signatures:
        sys.stderr.write("ERROR: Signature not specified or incorrect. Pass one of the following to the flag\n")
        return 1
    profiled = "enable_op_profiling" in flags or "use_profiler" in flags
    delegate = "gpu" if flags.get("use_gpu") == "true" else "nnapi" if flags.get("use_nnapi") == "true" else "cpu"
    misbehave(f"{delegate} profiled" if profiled else delegate)
    if delegate == "nnapi":
        sys.stderr.write(texts.LITERT_REFUSED)
        return 0
    if STATE.get("compiled"):
        sys.stderr.write(texts.COMPILED_GPU if delegate == "gpu" else texts.COMPILED_CPU)
    else:
        sys.stderr.write(texts.LITERT_2025_GPU if delegate == "gpu" else texts.LITERT_2025_CPU)
    if profiled:
        sys.stderr.write(texts.LITERT_PEAK + texts.LITERT_PROFILE)
    return 0


def onnxruntime_perf_test(arguments: list[str]) -> int:
    *options, graph, result = arguments
    if not Path(graph).is_file():
        sys.stderr.write(f"Load model from {graph} failed: File doesn't exist\n")
        return 255
    axes = {options[at + 1] for at, option in enumerate(options) if option == "-f"}
    if axes != ({"B:1", "N:2"} if Path(graph).name.startswith("decoder") else set()):
        sys.stderr.write(f"Got invalid dimensions for input, -f was {axes}\n")
        return 255
    provider = options[options.index("-e") + 1]
    misbehave(provider)
    if provider == "nnapi":
        sys.stderr.write("NNAPI is not supported in this build\n\n")
        return 255
    Path(result).write_text(texts.ORT_SAMPLES)
    sys.stdout.write(texts.ORT_NEWEST)
    if "-p" in options:
        profile = Path(options[options.index("-p") + 1] + "_2026-11-27_01-02-03.json")
        profile.write_text(texts.ORT_PROFILE_XNNPACK if provider == "xnnpack" else texts.ORT_PROFILE)
    return 0


if __name__ == "__main__":
    sys.exit(globals()[sys.argv[1]](sys.argv[2:]))
