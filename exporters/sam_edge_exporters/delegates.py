"""Which TFLite operations Android's accelerators have: a table for each delegate, with its source.

Whether a delegate takes a node also depends on shapes, types and versions, so a name in a table is necessary, not
sufficient; a name that is missing is certain. Names are those of TFLite's schema.
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
DELEGATES: dict[str, frozenset[str]] = {
    name: frozenset(operations.split()) for name, operations in (("gpu", _GPU), ("nnapi", _NNAPI))
}
# What is worth knowing of an operation where it is left out (or, of GELU on a GPU, taken), in words for the report.
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
# Whereas CPUs compute x * (1 + erf(x / sqrt(2))) / 2; tensorflow/lite/delegates/gpu/gl/kernels/elementwise.cc.
_OTHERWISE_ON_GPU = {
    "BROADCAST_TO": "has no such operation",
    "GELU": "computes the tanh form, up to 5e-4 away from the exact one; older versions have none",
}


def notes(names: Iterable[str], left_by_xnnpack: Iterable[str]) -> list[str]:
    """What is known of a graph's operations that a delegate lacks or computes otherwise, a line each.

    Args:
        names: the graph's operations.
        left_by_xnnpack: those of them that XNNPACK did not take.
    """
    present, left = set(names), set(left_by_xnnpack)
    known = (
        (_CPU, left, _LEFT_BY_XNNPACK),
        (_ON_GPU, present, _OTHERWISE_ON_GPU),
        (_ON_NNAPI, present, _LACKED_BY_NNAPI),
    )
    return [
        f"{name}: {delegate} {reasons[name]}"
        for delegate, found, reasons in known
        for name in sorted(found & {*reasons})
    ]


def missing_from(delegate: str, operations: Iterable[str]) -> list[str]:
    """Those of `operations` that a delegate does not have, in alphabetical order."""
    return sorted(set(operations) - DELEGATES[delegate])
