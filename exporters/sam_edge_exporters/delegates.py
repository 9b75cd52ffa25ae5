"""The TFLite operations of phones' accelerators: a table for each delegate, with its source.

A delegate may still reject an operation of its table for its shapes, types or version. An operation that is missing
from the table is never delegated. Names are those of TFLite's schema.
"""

from __future__ import annotations

from collections.abc import Iterable

# NewOperationParser in tensorflow/lite/delegates/gpu/common/model_builder.cc and, for GELU,
# tensorflow/lite/tools/versioning/gpu_compatibility.cc of TensorFlow 2.x; floats only, rank <= 4.
_GPU = (
    "ABS ADD AVERAGE_POOL_2D BATCH_MATMUL CONCATENATION CONV_2D COS DEPTHWISE_CONV_2D DEQUANTIZE DIV ELU EXP "
    "FULLY_CONNECTED GELU HARD_SWISH LEAKY_RELU LOG LOGISTIC LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG "
    "PACK PAD POW PRELU QUANTIZE REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU RELU6 RESHAPE RESIZE_BILINEAR "
    "RESIZE_NEAREST_NEIGHBOR RSQRT SIN SLICE SOFTMAX SPACE_TO_DEPTH SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE "
    "STRIDED_SLICE SUB SUM TANH TRANSPOSE TRANSPOSE_CONV"
)
# NNAPIDelegateKernel::Validate in tensorflow/lite/delegates/nnapi/nnapi_delegate.cc of TensorFlow 2.x, for Android 11
# and later; Google has deprecated NNAPI since Android 15.
_NNAPI = (
    "ABS ADD AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND CAST CONCATENATION CONV_2D DEPTHWISE_CONV_2D "
    "DEPTH_TO_SPACE DEQUANTIZE DIV ELU EQUAL EXP EXPAND_DIMS FILL FLOOR FULLY_CONNECTED GATHER GREATER GREATER_EQUAL "
    "HARD_SWISH L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOCAL_RESPONSE_NORMALIZATION LOG LOGICAL_AND "
    "LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL "
    "PACK PAD PADV2 POW PRELU QUANTIZE REDUCE_ANY REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU RELU6 RELU_N1_TO_1 RESHAPE "
    "RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SELECT SIN SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT "
    "SPLIT_V SQRT SQUEEZE STRIDED_SLICE SUB SUM TANH TILE TOPK_V2 TRANSPOSE TRANSPOSE_CONV"
)
# LiteRT's compiler for Qualcomm's HTP, "Supported Operations" of litert/vendors/qualcomm/compiler/
# Qualcomm_QNN_Compiler.md in github.com/google-ai-edge/LiteRT; in float, INT8 and INT16. `qnn.py` has ONNX' operations.
_QNN_HTP = (
    "ABS ADD ARG_MAX ARG_MIN AVERAGE_POOL_2D BATCH_MATMUL BROADCAST_TO CAST CEIL CONCATENATION CONV_2D CONV_3D COS "
    "CUMSUM DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP FLOOR "
    "FLOOR_DIV FULLY_CONNECTED GATHER GATHER_ND GELU GREATER GREATER_EQUAL HARD_SWISH L2_NORMALIZATION L2_POOL_2D "
    "LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM "
    "MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD PADV2 POW PRELU QUANTIZE REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN RELU "
    "RELU6 RELU_0_TO_1 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 ROUND RSQRT SELECT "
    "SELECT_V2 SIGN SIN SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQRT SQUARE SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH "
    "TILE TOPK_V2 TRANSPOSE TRANSPOSE_CONV UNPACK"
)
DELEGATES: dict[str, frozenset[str]] = {
    name: frozenset(operations.split())
    for name, operations in (("gpu", _GPU), ("nnapi", _NNAPI), ("qnn_htp", _QNN_HTP))
}
# Notes for the report: on operations that a delegate lacks, and on GELU, which the GPU delegate computes differently.
_CPU, _ON_GPU, _ON_NNAPI = "XNNPACK", "the GPU delegate", "NNAPI"
_LEFT_BY_XNNPACK = {
    "BROADCAST_TO": "has no such operation; the built-in kernel makes the copies",
    "RESIZE_NEAREST_NEIGHBOR": "has no nearest-neighbour enlargement; the built-in kernel copies cells",
}
_LACKED_BY_NNAPI = {
    "COS": "has SIN only",
    "GELU": "has no GELU; the driver hands these nodes back to the CPU",
    "SQUARED_DIFFERENCE": "has no such operation, which LayerNorm's variance is made of",
}
# CPUs compute x * (1 + erf(x / sqrt(2))) / 2; source: tensorflow/lite/delegates/gpu/gl/kernels/elementwise.cc.
_DIFFERENT_ON_GPU = {
    "BROADCAST_TO": "has no such operation",
    "GELU": "computes the tanh form, up to 5e-4 away from the exact one; older versions have none",
}


def notes(names: Iterable[str], left_by_xnnpack: Iterable[str]) -> list[str]:
    """A line on each operation of a graph that a delegate lacks or computes differently, where more is known.

    Args:
        names: the graph's operations.
        left_by_xnnpack: those of them that XNNPACK did not take.
    """
    present, left = set(names), set(left_by_xnnpack)
    known = (
        (_CPU, left, _LEFT_BY_XNNPACK),
        (_ON_GPU, present, _DIFFERENT_ON_GPU),
        (_ON_NNAPI, present, _LACKED_BY_NNAPI),
    )
    return [
        f"{name}: {delegate} {reasons[name]}"
        for delegate, found, reasons in known
        for name in sorted(found & {*reasons})
    ]


def missing_from(delegate: str, operations: Iterable[str]) -> list[str]:
    """The operations that a delegate lacks, in alphabetical order."""
    return sorted(set(operations) - DELEGATES[delegate])
