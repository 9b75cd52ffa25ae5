"""TFLite's "float16 quantization": weights stored in float16, through AI Edge Quantizer.

The weights of matrix products and convolutions become float16 constants, each behind a DEQUANTIZE. A CPU delegate
unpacks them once and computes in fp32; a GPU delegate takes them as they are and computes in fp16. All other constants,
such as biases and position embeddings, stay in fp32: they are small. The quantizer writes the weights after the
flatbuffer, aligned, where LiteRT and tflite-runtime 2.14 both read them. The converter does the same with an fp32 file
of more than 2 GB, which the quantizer reads.
"""

from __future__ import annotations

from pathlib import Path

from ai_edge_quantizer import qtyping, quantizer
from ai_edge_quantizer.algorithm_manager import AlgorithmName

from sam_edge_runtime.errors import ExportError
from sam_edge_runtime.system.quiet import captured_stderr, no_progress_bars, quiet, root_cause

_HALF = qtyping.OpQuantizationConfig(
    weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT),
    compute_precision=qtyping.ComputePrecision.FLOAT,
)
# A weight beyond float16's range becomes infinite; the bundle's verification shows the effect.
_EXPECTED_WARNINGS: tuple[tuple[str, type[Warning]], ...] = ((r"overflow encountered in cast", RuntimeWarning),)


def halve_weights(source: Path, path: Path) -> None:
    """Write the fp32 file `source` with weights in float16 to `path`.

    Raises:
        ExportError: the quantizer fails.
    """
    with captured_stderr(), no_progress_bars(), quiet(("absl",), _EXPECTED_WARNINGS):
        try:
            work = quantizer.Quantizer(str(source))
            work.update_quantization_recipe(
                regex=".*",
                operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
                op_config=_HALF,
                algorithm_key=AlgorithmName.FLOAT_CASTING,
            )
            work.quantize(serialize_to_path=str(path), enable_progress_report=False)
        except Exception as error:  # the quantizer's own errors have no common class
            raise ExportError(f"ai-edge-quantizer failed on {path.stem}: {root_cause(error)}") from error
