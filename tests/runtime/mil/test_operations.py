"""The evaluator's operations equal torch's on random arrays; unsupported parameters are errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sam_edge_runtime.errors import BackendError
from sam_edge_runtime.mil.operations import OPERATIONS
from sam_edge_runtime.mil.package import Operation, Package, Reference
from sam_edge_runtime.mil.program import Program, rounded

DRAW = np.random.default_rng(3)


def numbers(*shape: int) -> np.ndarray:
    return DRAW.standard_normal(shape).astype(np.float32)


X = numbers(2, 6, 9, 7)
Y = numbers(2, 6, 9, 7)
T, U = torch.from_numpy(X), torch.from_numpy(Y)
POSITIVE = np.abs(X) + 0.1
SQUARES = numbers(2, 12, 4, 6)
V = torch.from_numpy(SQUARES)


@pytest.mark.parametrize(
    ("op_type", "inputs", "expected"),
    [
        ("abs", {"x": X}, T.abs()),
        ("add", {"x": X, "y": Y}, T + U),
        ("clip", {"x": X, "alpha": -0.5, "beta": 0.3}, T.clamp(-0.5, 0.3)),
        ("cos", {"x": X}, T.cos()),
        ("erf", {"x": X * 3}, torch.erf(T * 3)),
        ("exp", {"x": X}, T.exp()),
        ("gelu", {"x": X * 3, "mode": "EXACT"}, F.gelu(T * 3)),
        ("gelu", {"x": X, "mode": "TANH_APPROXIMATION"}, F.gelu(T, approximate="tanh")),
        ("identity", {"x": X}, T),
        ("maximum", {"x": X, "y": Y}, torch.maximum(T, U)),
        ("minimum", {"x": X, "y": Y}, torch.minimum(T, U)),
        ("mul", {"x": X, "y": np.float32(1.5)}, T * 1.5),
        ("pow", {"x": POSITIVE, "y": np.float32(1.7)}, torch.from_numpy(POSITIVE) ** 1.7),
        ("real_div", {"x": X, "y": POSITIVE}, T / torch.from_numpy(POSITIVE)),
        ("reduce_max", {"x": X, "axes": np.array([1, -1]), "keep_dims": True}, T.amax((1, 3), keepdim=True)),
        ("reduce_mean", {"x": X, "axes": np.array([1]), "keep_dims": False}, T.mean(1)),
        ("reduce_min", {"x": X, "axes": np.array([2]), "keep_dims": False}, T.amin(2)),
        ("reduce_sum", {"x": X, "axes": np.array([0, 3]), "keep_dims": False}, T.sum((0, 3))),
        ("relu", {"x": X}, T.relu()),
        ("relu6", {"x": X * 6}, F.relu6(T * 6)),
        ("rsqrt", {"x": POSITIVE}, torch.from_numpy(POSITIVE).rsqrt()),
        ("sigmoid", {"x": X * 40}, (T * 40).sigmoid()),
        ("silu", {"x": X}, F.silu(T)),
        ("sin", {"x": X}, T.sin()),
        ("softmax", {"x": X * 50, "axis": 1}, (T * 50).softmax(1)),
        ("sqrt", {"x": POSITIVE}, torch.from_numpy(POSITIVE).sqrt()),
        ("square", {"x": X}, T.square()),
        ("sub", {"x": X, "y": Y}, T - U),
        ("tanh", {"x": X}, T.tanh()),
        ("reshape", {"x": X, "shape": np.array([0, -1, 7])}, T.reshape(2, -1, 7)),
        ("transpose", {"x": X, "perm": np.array([0, 2, 3, 1])}, T.permute(0, 2, 3, 1)),
        ("expand_dims", {"x": X, "axes": np.array([1, -1])}, T[:, None, ..., None]),
        ("squeeze", {"x": X[:1], "axes": np.array([0])}, T[0]),
        ("concat", {"values": [X, Y], "axis": 2}, torch.cat([T, U], 2)),
        ("concat", {"values": [np.int32(3), np.array([4, 5], np.int32)], "axis": 0}, torch.tensor([3, 4, 5])),
        ("stack", {"values": [X, Y], "axis": 1}, torch.stack([T, U], 1)),
        ("tile", {"x": X, "reps": np.array([1, 2, 1, 3])}, T.repeat(1, 2, 1, 3)),
        ("upsample_nearest_neighbor", {"x": X, "scale_factor_height": 2.0, "scale_factor_width": 3.0},
         T.repeat_interleave(2, 2).repeat_interleave(3, 3)),
        ("pad", {"x": X, "pad": np.array([1, 2, 0, 3])}, F.pad(T, (0, 3, 1, 2))),
        ("pad", {"x": X, "pad": np.array([0, 0, 0, 0, 1, 2, 2, 1]), "mode": "reflect"},
         F.pad(T, (2, 1, 1, 2), mode="reflect")),
        ("pad", {"x": X, "pad": np.array([1, 0]), "mode": "constant", "constant_val": 5.0},
         F.pad(T, (1, 0), value=5.0)),
        ("slice_by_index", {"x": X, "begin": np.array([1, 4, 0, -3]), "end": np.array([0, 0, 8, 0]),
                            "stride": np.array([1, 1, 2, 1]), "begin_mask": np.array([False, False, True, False]),
                            "end_mask": np.array([False, False, False, True]),
                            "squeeze_mask": np.array([True, True, False, False])}, T[1, 4, :8:2, -3:]),
        ("layer_norm", {"x": X, "axes": np.array([-1]), "gamma": Y[0, 0, 0], "beta": Y[0, 0, 1], "epsilon": 1e-6},
         F.layer_norm(T, (7,), U[0, 0, 0], U[0, 0, 1], 1e-6)),
        ("batch_norm", {"x": X, "mean": Y[0, :, 0, 0], "variance": POSITIVE[0, :, 0, 0], "gamma": Y[0, :, 1, 0],
                        "beta": Y[0, :, 2, 0], "epsilon": np.float32(1e-3)},
         F.batch_norm(T, U[0, :, 0, 0], torch.from_numpy(POSITIVE)[0, :, 0, 0], U[0, :, 1, 0], U[0, :, 2, 0],
                      eps=1e-3)),
        ("instance_norm", {"x": X, "gamma": Y[0, :, 1, 0], "beta": Y[0, :, 2, 0], "epsilon": np.float32(1e-3)},
         F.instance_norm(T, weight=U[0, :, 1, 0], bias=U[0, :, 2, 0], eps=1e-3)),
        ("layer_norm", {"x": X, "axes": np.array([1]), "gamma": Y[0, :, 0, 0], "beta": Y[0, :, 0, 1], "epsilon": 1e-6},
         F.layer_norm(T.movedim(1, -1), (6,), U[0, :, 0, 0], U[0, :, 0, 1], 1e-6).movedim(-1, 1)),
        ("layer_norm", {"x": X, "axes": np.array([2, -1]), "gamma": Y[0, 0], "epsilon": 1e-6},
         F.layer_norm(T, (9, 7), U[0, 0], eps=1e-6)),
        ("gather_nd", {"x": X, "indices": np.array([[1, 5], [0, 2]])}, T[[1, 0], [5, 2]]),
        ("pixel_shuffle", {"x": SQUARES, "upscale_factor": 2}, F.pixel_shuffle(V, 2)),
        ("pixel_unshuffle", {"x": SQUARES, "downscale_factor": 2}, F.pixel_unshuffle(V, 2)),
        ("depth_to_space", {"x": SQUARES, "block_size": 2},
         F.pixel_shuffle(V.reshape(2, 4, 3, 4, 6).transpose(1, 2).reshape(2, 12, 4, 6), 2)),
        ("space_to_depth", {"x": SQUARES, "block_size": 2},
         F.pixel_unshuffle(V, 2).reshape(2, 12, 4, 2, 3).transpose(1, 2).reshape(2, 48, 2, 3)),
        ("one_hot", {"indices": np.array([2, 0]), "one_hot_vector_size": 3, "on_value": np.float32(5)},
         torch.tensor([[0.0, 0, 5], [5, 0, 0]])),
        ("upsample_bilinear", {"x": X, "scale_factor_height": 2.0, "scale_factor_width": 3, "align_corners": False},
         F.interpolate(T, size=(18, 21), mode="bilinear")),
        ("upsample_bilinear", {"x": X, "scale_factor_height": 2, "scale_factor_width": 3},
         F.interpolate(T, size=(18, 21), mode="bilinear", align_corners=True)),
        ("resize_bilinear", {"x": X, "target_size_height": 5, "target_size_width": 11,
                             "sampling_mode": "UNALIGN_CORNERS"}, F.interpolate(T, size=(5, 11), mode="bilinear")),
        ("resize_bilinear", {"x": X, "target_size_height": 5, "target_size_width": 11,
                             "sampling_mode": "STRICT_ALIGN_CORNERS"},
         F.interpolate(T, size=(5, 11), mode="bilinear", align_corners=True)),
        ("resize", {"x": X, "shape": np.array([0, 12]), "resized_dims": 2, "sampling_mode": "UNALIGN_CORNERS"},
         F.interpolate(T, size=(9, 12), mode="bilinear")),
        ("linear", {"x": X, "weight": Y[0, 0, :5], "bias": Y[0, 0, 5, :5]}, F.linear(T, U[0, 0, :5], U[0, 0, 5, :5])),
        ("matmul", {"x": X, "y": Y, "transpose_x": False, "transpose_y": True}, T @ U.transpose(-1, -2)),
        ("matmul", {"x": X, "y": Y, "transpose_x": True, "transpose_y": False}, T.transpose(-1, -2) @ U),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_an_operation_equals_torch(op_type, inputs, expected):
    output = OPERATIONS[op_type](**inputs)
    assert output.shape == tuple(expected.shape)
    np.testing.assert_allclose(output, expected.numpy(), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 4)])
@pytest.mark.parametrize("unfolded", [True, False])
def test_convolutions_equal_torch(groups, stride, kernel, unfolded, monkeypatch):
    from sam_edge_runtime.mil import convolution

    monkeypatch.setattr(convolution, "_LARGEST_UNFOLDED", 1 << 25 if unfolded else 0)
    weight, bias = numbers(12 if groups < 6 else 6, 6 // groups, *kernel), numbers(12 if groups < 6 else 6)
    expected = F.conv2d(
        F.pad(T, (2, 0, 1, 1)), torch.from_numpy(weight), torch.from_numpy(bias), stride=stride, groups=groups
    )
    found = OPERATIONS["conv"](
        X, weight, bias, strides=np.array([stride] * 2), pad_type="custom", pad=np.array([1, 1, 2, 0]), groups=groups
    )
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-5)


def test_same_padding_puts_the_odd_row_where_mil_defines_it():
    weight = numbers(4, 6, 3, 3)
    x = X[:, :, :8, :6]  # even sides at stride 2: one row and one column more
    for pad_type, padding in (("same", (0, 1, 0, 1)), ("same_lower", (1, 0, 1, 0))):
        expected = F.conv2d(F.pad(torch.from_numpy(x), padding), torch.from_numpy(weight), stride=2)
        found = OPERATIONS["conv"](x, weight, strides=np.array([2, 2]), pad_type=pad_type)
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kernel", "stride", "pad"), [((2, 2), (2, 2), 0), ((3, 2), (1, 2), 1), ((3, 3), (2, 1), 0)])
def test_max_pooling_equals_torch(kernel, stride, pad):
    padding = {"pad_type": "custom", "pad": np.array([pad] * 4)} if pad else {}
    found = OPERATIONS["max_pool"](X, np.array(kernel), np.array(stride), **padding)
    np.testing.assert_array_equal(found, F.max_pool2d(T, kernel, stride, padding=pad).numpy())


@pytest.mark.parametrize(("kernel", "stride", "pad"), [(2, 2, 0), (4, 4, 0), (3, 2, 1), (3, 1, 0)])
def test_transposed_convolutions_equal_torch(kernel, stride, pad):
    weight, bias = numbers(6, 5, kernel, kernel), numbers(5)
    expected = F.conv_transpose2d(T, torch.from_numpy(weight), torch.from_numpy(bias), stride=stride, padding=pad)
    found = OPERATIONS["conv_transpose"](
        X, weight, bias, strides=np.array([stride] * 2), pad_type="custom", pad=np.array([pad] * 4)
    )
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-5)


def test_bilinear_sampling_modes_equal_their_definition():
    """The example of coremltools' resize_bilinear: two pixels, 0 and 1, resized to five and to six."""
    expected = {
        ("DEFAULT", 5): [0, 0.4, 0.8, 1, 1],
        ("OFFSET_CORNERS", 5): [0.1, 0.3, 0.5, 0.7, 0.9],
        ("UNALIGN_CORNERS", 6): [0, 0, 1 / 3, 2 / 3, 1, 1],
        ("ALIGN_CORNERS", 5): [0, 0.25, 0.5, 0.75, 1],
        ("ALIGN_CORNERS", 1): [0.5],
        ("STRICT_ALIGN_CORNERS", 1): [0],
    }
    for (mode, width), values in expected.items():
        found = OPERATIONS["resize_bilinear"](np.array([[0, 1]], np.float32), 1, width, mode)
        np.testing.assert_allclose(found, [values], atol=1e-6)


def test_erf_and_gelu_equal_torch_to_the_last_digits():
    x = np.concatenate([np.linspace(-7, 7, 300_001), [0.0, -0.0, 1e-30, np.inf, -np.inf, np.nan]]).astype(np.float32)
    exact = torch.from_numpy(x).double()
    np.testing.assert_allclose(OPERATIONS["erf"](x=x), torch.erf(exact).numpy(), rtol=0, atol=2e-7)
    finite = np.isfinite(x)
    found = OPERATIONS["gelu"](x[finite])
    np.testing.assert_allclose(found, F.gelu(exact).numpy()[finite], rtol=2e-7, atol=2e-7)


def test_split_is_even_or_by_sizes():
    for found, expected in zip(OPERATIONS["split"](X, axis=1, num_splits=3), T.chunk(3, 1), strict=True):
        np.testing.assert_array_equal(found, expected.numpy())
    sizes = np.array([1, 5, 3])
    for found, expected in zip(OPERATIONS["split"](X, axis=2, split_sizes=sizes), T.split([1, 5, 3], 2), strict=True):
        np.testing.assert_array_equal(found, expected.numpy())


@pytest.mark.parametrize(
    ("op_type", "inputs", "message"),
    [
        ("gelu", {"x": X, "mode": "QUICK"}, "mode QUICK"),
        ("concat", {"values": [X, Y], "axis": 1, "interleave": True}, "interleaved"),
        ("conv", {"x": X, "weight": numbers(6, 6, 3, 3), "dilations": np.array([2, 2])}, "dilations of conv"),
        ("max_pool", {"x": X, "kernel_sizes": np.array([2, 2]), "ceil_mode": True}, "max_pool with ceil_mode"),
        ("max_pool", {"x": X[0], "kernel_sizes": np.array([2])}, "max_pool with ceil_mode, or other than two"),
        ("conv", {"x": X[0], "weight": numbers(6, 6, 3)}, "conv with 1 spatial axes"),
        ("conv", {"x": X, "weight": numbers(6, 6, 3, 3), "pad_type": "odd"}, "pad_type odd"),
        ("upsample_nearest_neighbor", {"x": X, "scale_factor_height": 1.5}, "1.5"),
        ("resize_bilinear", {"x": X, "sampling_mode": "ODD"}, "sampling_mode ODD"),
        ("resize", {"x": X, "shape": np.array([2]), "resized_dims": 1, "interpolation_mode": "NEAREST_NEIGHBOR"},
         "interpolation_mode NEAREST"),
        ("einsum", {"values": [X, Y], "equation": "abcd,abcd->abc"}, "equation abcd"),
        ("gather_nd", {"x": X, "indices": np.zeros((2, 1), np.int32), "batch_dims": 1}, "batch_dims"),
    ],
)  # fmt: skip
def test_an_unsupported_parameter_is_an_error(op_type, inputs, message):
    with pytest.raises(ValueError, match=message):
        OPERATIONS[op_type](**inputs)


# Programs -------------------------------------------------------------------------------------------------------------


def program(*operations: Operation, dtype: str = "float32", outputs: tuple[str, ...] = ("out",)) -> Program:
    return Program(Package({"x": ((3,), dtype)}, outputs, operations))


def operation(op_type: str, dtype: str = "float32", out: str = "out", **inputs) -> Operation:
    return Operation(op_type, inputs, (out,), (dtype,))


def test_tensors_are_freed_after_their_last_use():
    x = Reference("x")
    operations = [
        operation("add", out="a", x=x, y=x),
        operation("mul", out="b", x=Reference("a"), y=x),
        operation("abs", x=Reference("b")),
    ]
    small = program(*operations)
    assert [set(names) for names in small._freed] == [set(), {"a", "x"}, {"b"}]
    np.testing.assert_array_equal(small.run({"x": np.array([1, -2, 3], np.float32)})["out"], [2, 8, 18])


def test_a_watcher_gets_inputs_and_outputs_of_each_operation():
    x = Reference("x")
    calls = []
    operations = [
        operation("add", out="a", x=x, y=np.float16(1)),
        operation("concat", values=[Reference("a"), x], axis=np.int32(0)),
    ]
    program(*operations).run({"x": np.array([1, -2, 3], np.float32)}, lambda *call: calls.append(call))
    assert [each for each, _, _ in calls] == operations
    (_, added, (total,)), (_, joined, (both,)) = calls
    assert added["x"].tolist() == [1, -2, 3]
    assert added["y"] == 1
    assert [each.tolist() for each in joined["values"]] == [[2, -1, 4], [1, -2, 3]]
    assert total.tolist() == [2, -1, 4]
    assert both.tolist() == [2, -1, 4, 1, -2, 3]


def test_float16_rounds_after_each_operation_and_overflows():
    x = np.array([1.0, 300.0, 1e-8], np.float32)
    square = program(operation("mul", "float16", x=Reference("x"), y=Reference("x")), dtype="float16")
    np.testing.assert_array_equal(square.run({"x": x})["out"], [1.0, np.inf, 0.0])
    add = program(operation("add", "float16", x=Reference("x"), y=np.float16(2048.0)), dtype="float16")
    assert add.run({"x": x})["out"].tolist() == [2048.0, 2348.0, 2048.0]  # 2049 does not exist in float16
    assert rounded(np.array([2049.0]), "float32").tolist() == [2049.0]


def test_rounding_an_output_leaves_the_input_unrounded():
    x = np.array([1.0001, 2.0, 3.0], np.float32)
    cast = Operation("cast", {"x": Reference("kept"), "dtype": "fp16"}, ("out",), ("float16",))
    difference = operation("sub", out="difference", x=Reference("kept"), y=Reference("out"))
    operations = [operation("identity", out="kept", x=Reference("x")), cast, difference]
    outputs = program(*operations, outputs=("kept", "out", "difference")).run({"x": x})
    np.testing.assert_array_equal(outputs["kept"], x)
    np.testing.assert_array_equal(outputs["difference"], [x[0] - 1, 0, 0])
    assert x[0] == np.float32(1.0001)


def test_flexible_axes_take_any_size():
    flexible = Program(Package({"x": ((2, None), "float32")}, ("out",), (operation("abs", x=Reference("x")),)))
    for width in (1, 5):
        assert flexible.run({"x": np.zeros((2, width), np.float32)})["out"].shape == (2, width)
    with pytest.raises(BackendError, match=r"takes x of shape \(2, \?\), not \(3, 5\)"):
        flexible.run({"x": np.zeros((3, 5), np.float32)})


def test_weights_are_decompressed_once_and_only_needed_ones_are_kept():
    mask = np.array([1, 0, 1], np.uint8)
    sparse = Operation("constexpr_sparse_blockwise_shift_scale", {"data_mask": mask, "scale": np.float16([0.5]),
                       "nonzero_data": np.int8([4, 8])}, ("m", "n"), ("uint8", "float16"))  # fmt: skip
    dense = Operation("constexpr_sparse_to_dense", {"mask": Reference("m"), "nonzero_data": Reference("n")}, ("w",),
                      ("float16",))  # fmt: skip
    small = program(sparse, dense, operation("mul", "float16", x=Reference("x"), y=Reference("w")), dtype="float16")
    x = np.array([1, 2, 3], np.float32)
    weights = []
    for _ in range(2):
        outputs = small.run({"x": x}, lambda each, inputs, _: weights.append((each.op_type, inputs["y"])))
        assert outputs["out"].tolist() == [2, 0, 12]
    assert list(small._weights) == ["w"]
    assert [op_type for op_type, _ in weights] == ["mul", "mul"]
    assert weights[0][1] is weights[1][1]


def test_unsupported_operations_are_named():
    with pytest.raises(BackendError, match="does not support: lstm, nothing"):
        program(operation("nothing", x=Reference("x")), operation("lstm", x=Reference("x")))


def test_inputs_of_another_shape_and_failures_are_named():
    adds = program(operation("add", x=Reference("x"), y=np.zeros(2, np.float32)))
    with pytest.raises(BackendError, match=r"takes x of shape \(3,\), not \(4,\)"):
        adds.run({"x": np.zeros(4, np.float32)})
    with pytest.raises(BackendError, match=r"takes x of shape \(3,\), not nothing"):
        adds.run({})
    with pytest.raises(BackendError, match="failed in add 'out'"):
        adds.run({"x": np.zeros(3, np.float32)})
