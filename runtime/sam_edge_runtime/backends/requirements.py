"""The oldest engines that run a bundle, read from its files.

What stands here was measured with nano in every precision (tests/engines).
"""

from __future__ import annotations

from pathlib import Path

from sam_edge_runtime.bundle.bundle import Bundle

from .tflite_file import INT4, INT16, tensor_types

# ONNX Runtime's first version that reads files of an IR version, for opset 20
# (https://onnxruntime.ai/docs/reference/compatibility.html).
_ONNX_RUNTIME = {8: "1.17", 9: "1.17", 10: "1.18"}
_IR_VERSION_TAG = 0x08  # field 1 of ModelProto, an integer; protobuf writes fields in order


def oldest_engines(bundle: Bundle) -> tuple[str, ...]:
    """The engines that run a bundle, each with its oldest version; empty where nothing is known of the files."""
    return _READERS[bundle.manifest.target](bundle)


def ir_version(path: Path) -> int | None:
    """The IR version of an ONNX file; None where it does not start with one."""
    with path.open("rb") as stream:
        start = stream.read(2)
    return start[1] if len(start) == 2 and start[0] == _IR_VERSION_TAG else None


def needs_litert(path: Path) -> str | None:
    """Why tflite-runtime 2.14 must not run the TFLite file `path`; None where it may.

    Measured: its DEQUANTIZE takes no INT4, and w8a16 loads and is wrong without an error (nano's mask mIoU 0.60, where
    LiteRT 2.1 has 0.99).
    """
    types = tensor_types(path)
    if INT4 in types:
        return "tflite-runtime 2.14 cannot read INT4 tensors"
    return "tflite-runtime 2.14 computes INT16 activations wrongly" if INT16 in types else None


def _onnx(bundle: Bundle) -> tuple[str, ...]:
    versions = [ir_version(path) for path in (bundle.encoder_path, bundle.decoder_path)]
    newest = max((version for version in versions if version is not None), default=0)
    return (f"ONNX Runtime {_ONNX_RUNTIME[newest]} or later",) if newest in _ONNX_RUNTIME else ()


def _tflite(bundle: Bundle) -> tuple[str, ...]:
    litert = "LiteRT 2.1 or later"
    # tflite-runtime 2.14 refuses a TRANSPOSE_CONV of INT8 weights and float activations when it loads the file.
    recipe = str(bundle.manifest.recipe)  # whole, or of one of its layers
    if "'npu'" in recipe:  # LiteRT 2.1 has no QUANTIZE from INT8 to INT16; 2.3 runs these files
        return ("LiteRT 2.3 or later",)
    dynamic = "'dynamic': True" in recipe or ": 'dynamic'" in recipe
    if dynamic or needs_litert(bundle.encoder_path) or needs_litert(bundle.decoder_path):
        return (litert,)
    return litert, "tflite-runtime 2.14 with numpy 1"


def _coreml(bundle: Bundle) -> tuple[str, ...]:
    if len(bundle.manifest.frames) > 1:  # a function for each
        return ("Core ML from iOS 18 or macOS 15 on",)
    return ("Core ML from iOS 17 or macOS 14 on",)


_READERS = {"onnx": _onnx, "tflite": _tflite, "coreml": _coreml}
