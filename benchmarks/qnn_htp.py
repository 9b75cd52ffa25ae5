"""A bundle on Qualcomm's HTP without a phone: compiled by QNN's own compiler, and computed in its simulator.

    pip install "sam-edge[qnn]"                                       # Linux x86-64
    python benchmarks/qnn_htp.py build/npu                            # the operations that the compiler leaves out
    python benchmarks/qnn_htp.py build/npu --simulate                 # and the golden test with that encoder

The package onnxruntime-qnn has the HTP backend for Linux x86-64, which compiles a graph for Hexagon NPUs (`--arch`, V73
is Snapdragon 8 Gen 2) and computes the result bit by bit on the CPU. That shows which operations the compiler takes,
and what masks its integers and its float16 give. It says nothing of time, and a device may still differ. The decoder
stays on the CPU in float32 unless `--decoder` is given; its shapes have to be fixed for that.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import onnxruntime as ort

from sam_edge.reporting.versions import commit, tool_versions
from sam_edge_runtime.agreement import golden
from sam_edge_runtime.backends import BackendOptions
from sam_edge_runtime.backends.onnx import OnnxBackend
from sam_edge_runtime.bundle.bundle import GOLDEN_FILE, Bundle

RESULTS = Path(__file__).parent / "results" / "qnn_htp.json"
NAME = "QNNExecutionProvider"
SOC = {68: 30, 69: 36, 73: 43, 75: 57}  # a chip of each architecture: SM8350, SM8450, SM8550, SM8650
_ERRORS = 3  # of ONNX Runtime's severities


def options(arch: int, **more: str) -> ort.SessionOptions:
    """Options of a session on the HTP of one architecture."""
    import onnxruntime_qnn  # noqa: PLC0415  # an extra

    if not any(device.ep_name == NAME for device in ort.get_ep_devices()):
        ort.register_execution_provider_library(NAME, onnxruntime_qnn.get_library_path())
    chosen = ort.SessionOptions()
    chosen.log_severity_level = _ERRORS
    provider = {
        "backend_path": onnxruntime_qnn.get_qnn_htp_path(),
        "htp_arch": str(arch),
        "soc_model": str(SOC[arch]),
        "offload_graph_io_quantization": "0",
        **more,
    }
    chosen.add_provider_for_devices([device for device in ort.get_ep_devices() if device.ep_name == NAME], provider)
    return chosen


def compiled(path: Path, arch: int) -> dict[str, Any]:
    """Compile one ONNX file.

    Returns:
        `seconds`; `operations`, the number of QNN's own operations of each kind; `left_out`, the operations that stay
        on the CPU, with the compiler's reason.
    """
    with tempfile.TemporaryDirectory() as folder:
        chosen = options(
            arch, enable_htp_prepare_only="1", enable_framework_op_trace="1", framework_op_trace_dir=folder
        )
        chosen.add_session_config_entry("ep.context_enable", "1")
        chosen.add_session_config_entry("ep.context_file_path", str(Path(folder, "context.onnx")))
        begun = time.perf_counter()
        ort.InferenceSession(str(path), chosen)
        seconds = time.perf_counter() - begun
        found = Path(folder, "qnn_op_trace.json")
        if not found.is_file():
            return {"seconds": seconds, "operations": {}, "left_out": ["everything"]}
        trace = json.loads(found.read_text("utf-8"))
    kinds = [made["dst_qnn_op_type"] for graph in trace["subgraph_traces"] for made in graph["op_mappings"]]
    return {
        "seconds": seconds,
        "operations": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "left_out": [f"{each['op_type']}: {each['reason']}" for each in trace["unsupported_nodes"]],
    }


class Simulated(OnnxBackend):
    """A bundle's backend with one or both graphs in the HTP's simulator."""

    def __init__(self, bundle: Bundle, arch: int, *, decoder: bool) -> None:
        super().__init__(bundle, BackendOptions())
        self.engine = f"QNN HTP V{arch}, simulated"
        self._arch = arch
        self._simulated = (bundle.encoder_path, *((bundle.decoder_path,) if decoder else ()))

    def _open(self, path: Path) -> Any:
        return ort.InferenceSession(str(path), options(self._arch)) if path in self._simulated else super()._open(path)


def main() -> None:
    """Compile a bundle's graphs, simulate them if wanted, and print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--arch", type=int, default=73, choices=SOC, help="architecture of the Hexagon NPU")
    parser.add_argument("--decoder", action="store_true", help="the decoder, too, in float16; its shapes must be fixed")
    parser.add_argument("--simulate", action="store_true", help="run the golden test; seconds to minutes a picture")
    parser.add_argument("--record", action="store_true", help=f"add the figures to results/{RESULTS.name}")
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    manifest = bundle.manifest
    if manifest.target != "onnx":
        sys.exit(f"{arguments.bundle} is for {manifest.target}: QNN's provider takes ONNX bundles")
    document: dict[str, Any] = {"arch": arguments.arch, "variant": manifest.variant, "precision": manifest.precision}
    document["input_side"] = manifest.input_side
    for name in (manifest.encoder, *((manifest.decoder,) if arguments.decoder else ())):
        document[name] = compiled(bundle.root / name, arguments.arch)
    if arguments.simulate:
        test = golden.Golden.load(bundle.root / GOLDEN_FILE, manifest)
        found = golden.check(test, Simulated(bundle, arguments.arch, decoder=arguments.decoder), manifest)
        document["simulated"] = found.summary()
    document["report"] = bundle.report()["figures"]
    print(json.dumps(document, indent=1))
    if arguments.record:
        _record(document)


def _record(document: dict[str, Any]) -> None:
    """Add the figures of a bundle to the results, in the place of older ones of the same kind."""
    rows = json.loads(RESULTS.read_text("utf-8"))["bundles"] if RESULTS.is_file() else []
    kind = ("variant", "precision", "input_side", "arch")
    kept = [row for row in rows if any(row[key] != document[key] for key in kind)]
    kept.append({**document, "versions": tool_versions(("onnxruntime", "onnxruntime-qnn")), "commit": commit()})
    text = json.dumps({"bundles": kept}, indent=1)
    RESULTS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
