"""The evaluator's operations equal coremltools' inference of constants, on random arrays."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # coremltools does not know this torch yet
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder, types

from sam_edge_runtime.mil.operations import OPERATIONS

DRAW = np.random.default_rng(5)
UINT1, UINT2, UINT3, INT4, UINT4 = (
    types.nptype_from_builtin(each) for each in (types.uint1, types.uint2, types.uint3, types.int4, types.uint4)
)


def numbers(*shape: int) -> np.ndarray:
    return DRAW.standard_normal(shape).astype(np.float32)


def integers(low: int, high: int, *shape: int, dtype: Any = np.int32) -> np.ndarray:
    return DRAW.integers(low, high, shape).astype(dtype)


def inferred(op_type: str, target: Any, inputs: dict[str, Any]) -> list[np.ndarray]:
    """What coremltools computes when it folds an operation on constants."""
    outputs: list[Any] = []

    def body(x):
        out = getattr(Builder, op_type)(**inputs)
        outputs.extend(out if isinstance(out, (tuple, list)) else [out])
        return Builder.identity(x=x)

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        Builder.program(input_specs=[Builder.TensorSpec(shape=(1,))], opset_version=target)(body)
        values = [each.val for each in outputs]
        if any(value is None for value in values):  # coremltools computes weights on demand only
            weights = outputs[0].op.materialized_val_inference()
            values = list(weights) if isinstance(weights, tuple) else [weights]
    return [np.asarray(value) for value in values]


def check(op_type: str, target: Any, inputs: dict[str, Any], exact: bool = True) -> None:
    ours = {
        name: np.asarray(value)
        if isinstance(value, (int, float, np.generic)) and not isinstance(value, bool)
        else value
        for name, value in inputs.items()
    }
    outputs = OPERATIONS[op_type](**ours)
    expected = inferred(op_type, target, inputs)
    outputs = list(outputs) if isinstance(outputs, tuple) else [outputs]
    for mine, theirs in zip(outputs, expected, strict=True):
        assert np.shape(mine) == theirs.shape
        if exact:
            np.testing.assert_array_equal(mine, theirs)
        else:
            np.testing.assert_allclose(mine, theirs, rtol=2e-6, atol=2e-6)


X, Y = numbers(2, 3, 4), numbers(2, 3, 4)
INTS = integers(-20, 20, 2, 3, 4)
DIVISORS = np.array([-3, 2, 5, 7], np.int32)
TRUE_X, TRUE_Y = X > 0, Y > 0


@pytest.mark.parametrize(
    ("op_type", "inputs"),
    [
        ("floor", {"x": X * 3}),
        ("ceil", {"x": X * 3}),
        ("round", {"x": np.array([0.5, 1.5, 2.5, -0.5, -1.5, 0.49, 7.0], np.float32)}),
        ("sign", {"x": np.array([-2.0, 0.0, 3.0], np.float32)}),
        ("log", {"x": np.abs(X) + 0.1}),
        ("exp2", {"x": X}),
        ("inverse", {"x": np.abs(X) + 0.1, "epsilon": np.float32(1e-3)}),
        ("floor_div", {"x": INTS, "y": DIVISORS}),
        ("floor_div", {"x": X * 9, "y": np.float32(-2)}),
        ("mod", {"x": INTS, "y": DIVISORS}),
        ("equal", {"x": INTS, "y": INTS[:1]}),
        ("not_equal", {"x": INTS, "y": INTS[:1]}),
        ("greater", {"x": X, "y": Y}),
        ("greater_equal", {"x": INTS, "y": INTS[:, :1]}),
        ("less", {"x": X, "y": Y}),
        ("less_equal", {"x": INTS, "y": INTS[:, :1]}),
        ("logical_and", {"x": TRUE_X, "y": TRUE_Y}),
        ("logical_or", {"x": TRUE_X, "y": TRUE_Y}),
        ("logical_xor", {"x": TRUE_X, "y": TRUE_Y}),
        ("logical_not", {"x": TRUE_X}),
        ("select", {"cond": TRUE_X, "a": X, "b": Y}),
        ("select", {"cond": TRUE_X, "a": INTS, "b": INTS * 2}),
        ("leaky_relu", {"x": X, "alpha": np.float32(0.1)}),
        ("elu", {"x": X * 3, "alpha": np.float32(0.7)}),
        ("softplus", {"x": X * 9}),
        ("prelu", {"x": numbers(2, 3, 4, 5), "alpha": numbers(3)}),
        ("reduce_l1_norm", {"x": X, "axes": [1], "keep_dims": False}),
        ("reduce_l2_norm", {"x": X, "axes": [1, 2], "keep_dims": True}),
        ("reduce_sum_square", {"x": X, "axes": [0], "keep_dims": False}),
        ("reduce_log_sum_exp", {"x": X * 30, "axes": [-1], "keep_dims": False}),
        ("reduce_prod", {"x": X, "axes": [2], "keep_dims": True}),
        ("reduce_argmax", {"x": X, "axis": 1, "keep_dims": True}),
        ("reduce_argmin", {"x": X, "axis": -1, "keep_dims": False}),
        ("l2_norm", {"x": numbers(2, 3, 4, 5), "epsilon": np.float32(1e-3)}),
        ("shape", {"x": X}),
        ("gather", {"x": X, "indices": integers(0, 3, 5), "axis": 1}),
        ("gather", {"x": X, "indices": integers(0, 2, 2, 3), "axis": 0}),
        ("gather", {"x": X, "indices": integers(0, 4, 2, 5), "axis": 2, "batch_dims": 1}),
        ("gather", {"x": X, "indices": np.int32(2), "axis": -1, "validate_indices": True}),
        ("gather_along_axis", {"x": X, "indices": integers(0, 3, 2, 6, 4), "axis": 1}),
        ("fill", {"shape": np.array([2, 3], np.int32), "value": np.float32(1.5)}),
        ("fill_like", {"ref_tensor": X, "value": np.int32(7)}),
        ("range_1d", {"end": np.int32(20), "start": np.int32(3), "step": np.int32(4)}),
        ("range_1d", {"end": np.float32(2), "start": np.float32(-1), "step": np.float32(0.25)}),
        ("slice_by_size", {"x": X, "begin": np.array([0, 1, 2], np.int32), "size": np.array([2, -1, 1], np.int32)}),
        ("reverse", {"x": X, "axes": np.array([1, -1], np.int32)}),
        ("einsum", {"values": [numbers(2, 3, 4, 5), numbers(1, 5, 1, 6)], "equation": "nchw,nwhu->nchu"}),
        ("einsum", {"values": [numbers(3, 1, 5), numbers(5, 4, 6)], "equation": "xyz,zyt->xyt"}),
        ("concat", {"values": [X], "axis": 1}),
        ("stack", {"values": [X], "axis": 1}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_an_operation_equals_coremltools(op_type, inputs):
    check(op_type, ct.target.iOS17, inputs, exact=False)


@pytest.mark.parametrize("mask", [None, "float", "bool"])
def test_attention_equals_coremltools(mask):
    inputs = {"query": numbers(2, 3, 5, 8), "key": numbers(2, 3, 7, 8), "value": numbers(2, 3, 7, 4)}
    if mask == "float":
        inputs["attn_mask"] = numbers(2, 1, 5, 7)
    if mask == "bool":
        inputs["attn_mask"] = numbers(5, 7) > -0.5
        inputs["attn_mask"][:, 0] = True
    check("scaled_dot_product_attention", ct.target.iOS18, inputs, exact=False)


SCALES = np.abs(numbers(3)) + 0.05
WIDE = np.concatenate([X * 40, np.array([[[0.5, 1.5, 2.5, -2.5], [1e9, -1e9, 0, 3.5], [4.5, 5.5, -0.5, -1.5]]])])


@pytest.mark.parametrize(
    "inputs",
    [
        {"scale": np.float32(1.0), "output_dtype": "int8"},
        {"scale": np.float32(0.3), "zero_point": np.int8(-7), "output_dtype": "int8"},
        {"scale": np.float32(1.0), "zero_point": np.uint8(128), "output_dtype": "uint8"},
        {"scale": SCALES, "zero_point": np.array([3, 100, 255], np.uint8), "axis": 1, "output_dtype": "uint8"},
        {"scale": SCALES, "axis": -2, "output_dtype": "int8"},
    ],
)
def test_quantized_activations_equal_coremltools(inputs):
    check("quantize", ct.target.iOS17, {"input": WIDE.astype(np.float32), **inputs})
    back = {name: value for name, value in inputs.items() if name != "output_dtype"}
    quantized = integers(-128, 128, 2, 3, 4, dtype=np.int8).view(inputs["output_dtype"])
    check("dequantize", ct.target.iOS17, {"input": quantized, **back})


@pytest.mark.parametrize(
    ("op_type", "inputs"),
    [
        ("constexpr_affine_dequantize", {"quantized_data": integers(-128, 128, 4, 6, dtype=np.int8), "axis": 0,
                                         "zero_point": np.int8(3), "scale": np.float32(0.1)}),
        ("constexpr_affine_dequantize", {"quantized_data": integers(0, 256, 4, 6, dtype=np.uint8), "axis": -1,
                                         "zero_point": integers(0, 256, 6, dtype=np.uint8), "scale": numbers(6)}),
        ("constexpr_lut_to_dense", {"indices": integers(0, 256, 27, dtype=np.uint8), "lut": numbers(64),
                                    "shape": np.array([4, 9], np.uint32)}),
        ("constexpr_lut_to_dense", {"indices": integers(0, 256, 2, dtype=np.uint8), "lut": numbers(4),
                                    "shape": np.array([1, 5], np.uint32)}),
        ("constexpr_sparse_to_dense", {"nonzero_data": numbers(5), "mask": np.array([0b10110001, 0b00000001], np.uint8),
                                       "shape": np.array([3, 3], np.uint32)}),
        ("constexpr_cast", {"source_val": numbers(3, 4).astype(np.float16), "output_dtype": "fp32"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_weights_of_ios16_equal_coremltools(op_type, inputs):
    check(op_type, ct.target.iOS16, inputs)


MASK = (integers(0, 2, 4, 6) * 1).astype(UINT1)
FILLED = int(np.count_nonzero(MASK))


@pytest.mark.parametrize(
    ("op_type", "inputs"),
    [
        ("constexpr_blockwise_shift_scale", {"data": integers(-8, 8, 4, 6, dtype=INT4), "scale": numbers(2, 3),
                                             "offset": integers(-8, 8, 2, 3, dtype=INT4)}),
        ("constexpr_blockwise_shift_scale", {"data": integers(0, 16, 4, 6, dtype=UINT4), "scale": numbers(4, 1),
                                             "offset": numbers(4, 1)}),
        ("constexpr_blockwise_shift_scale", {"data": integers(-128, 128, 4, 6, 2, dtype=np.int8),
                                             "scale": numbers(1, 2, 2)}),
        ("constexpr_lut_to_dense", {"indices": integers(0, 8, 4, 6, dtype=UINT3), "lut": numbers(2, 3, 8, 1)}),
        ("constexpr_lut_to_dense", {"indices": integers(0, 256, 4, 6, dtype=np.uint8), "lut": numbers(1, 1, 256, 1)}),
        ("constexpr_lut_to_dense", {"indices": integers(0, 4, 4, 6, dtype=UINT2), "lut": numbers(2, 1, 4, 3),
                                    "vector_axis": np.int32(0)}),
        ("constexpr_lut_to_dense", {"indices": integers(0, 4, 4, 6, dtype=UINT2), "lut": numbers(2, 3, 4, 2),
                                    "vector_axis": np.int32(-1)}),
        ("constexpr_sparse_to_dense", {"nonzero_data": numbers(FILLED), "mask": MASK}),
        ("constexpr_lut_to_sparse", {"indices_mask": MASK, "lut": numbers(2, 1, 4, 1),
                                     "indices_nonzero_data": integers(0, 4, FILLED, dtype=UINT2)}),
        ("constexpr_lut_to_sparse", {"indices_mask": MASK, "lut": numbers(1, 1, 4, 2), "vector_axis": np.int32(1),
                                     "indices_nonzero_data": integers(0, 4, FILLED, dtype=UINT2)}),
        ("constexpr_sparse_blockwise_shift_scale", {"data_mask": MASK, "scale": numbers(4, 1),
                                                    "nonzero_data": integers(-8, 8, FILLED, dtype=INT4),
                                                    "offset": integers(-8, 8, 4, 1, dtype=INT4)}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_weights_of_ios18_equal_coremltools(op_type, inputs):
    check(op_type, ct.target.iOS18, inputs, exact=False)
