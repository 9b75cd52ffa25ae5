"""Pass-through operations between quantized operations are quantized, and no others."""

from __future__ import annotations

import numpy as np
import pytest

from sam_edge_quant.tflite.graph import Graph, Operation, TfliteFile, npu_schemes, origin, pass_through_schemes
from sam_edge_runtime.errors import ExportError
from tests.quant.tflite.network import Net

CONV, DENSE = "CONV_2D", "FULLY_CONNECTED"


def graph(*lines, results=()):
    """Operations, each written `output = KIND input input`."""
    operations = []
    for line in lines:
        made, _, rest = line.partition(" = ")
        kind, *taken = rest.split()
        operations.append(Operation(kind, tuple(taken), (made,)))
    return Graph(tuple(operations), frozenset(results))


def quantized(net, scheme="w8a8", **schemes):
    """Outputs of the quantized pass-through operations, where all operations with weights are quantized."""
    static = {
        index: schemes.get(operation.outputs[0], scheme)
        for index, operation in enumerate(net.operations)
        if operation.kind in {CONV, DENSE}
    }
    passing = pass_through_schemes(net, static)
    assert not passing.keys() & static.keys()
    return {net.operations[index].outputs[0] for index in passing}


@pytest.mark.parametrize("kind", ["RESHAPE", "TRANSPOSE", "PAD", "SLICE", "RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR"])
def test_operations_that_move_values_between_convolutions_are_quantized(kind):
    net = graph("a = CONV_2D x", f"b = {kind} a", "c = RESHAPE b", "d = CONV_2D c")
    assert quantized(net) == {"b", "c"}
    assert quantized(net, scheme="w8a16") == {"b", "c"}


@pytest.mark.parametrize("kind", ["GELU", "SOFTMAX", "MUL", "MEAN", "RSQRT", "LOGISTIC", "BATCH_MATMUL"])
def test_other_operations_stay_in_float_and_so_do_moves_of_their_values(kind):
    assert not quantized(graph("a = CONV_2D x", f"b = {kind} a", "c = RESHAPE b", "d = CONV_2D c"))
    assert not quantized(graph("a = CONV_2D x", "b = RESHAPE a", f"c = {kind} b", "d = CONV_2D c"))


def test_for_an_npu_all_operations_are_quantized_that_can_be():
    net = graph("a = RESHAPE x", "b = CONV_2D a", "c = GELU b", "d = TRANSPOSE b", "e = CONV_2D c", "f = COS e")
    schemes = npu_schemes(net, {1: "w8a8", 4: "w8a8"})
    assert {net.operations[index].outputs[0]: scheme for index, scheme in schemes.items()} == {
        "a": "w8a16",  # it reads the graph's input
        "c": "w8a16",
        "d": "w8a8",  # moves the convolution's integers
    }


def test_pass_through_operations_at_the_ends_of_a_graph_stay_in_float():
    net = graph("a = PAD x", "b = CONV_2D a", "c = RESHAPE b", results=["c"])
    assert not quantized(net)


def test_one_quantized_reader_is_enough_for_a_move():
    net = graph("a = CONV_2D x", "b = RESHAPE a", "c = CONV_2D b", "d = SOFTMAX b", results=["b"])
    assert quantized(net) == {"b"}


def test_the_additions_of_residual_blocks_of_convolutions_are_quantized():
    net = graph(
        "a = CONV_2D x",
        "b = CONV_2D a",
        "first = ADD a b",
        "c = CONV_2D first",
        "second = ADD first c",
        "d = CONV_2D second",
    )
    assert quantized(net) == {"first", "second"}


def test_the_residual_stream_of_a_transformer_stays_in_float():
    net = graph(
        "patches = CONV_2D x",
        "tokens = RESHAPE patches",
        "placed = ADD tokens",  # with a constant
        "mean = MEAN placed",
        "centred = SUB placed mean",
        "a = FULLY_CONNECTED centred",
        "heads = RESHAPE a",
        "weighted = BATCH_MATMUL heads heads",
        "b = FULLY_CONNECTED weighted",
        "first = ADD placed b",
        "other = MEAN first",
        "shifted = SUB first other",
        "c = FULLY_CONNECTED shifted",
        "wide = GELU c",
        "d = FULLY_CONNECTED wide",
        "second = ADD first d",
        "e = CONV_2D second",
    )
    assert not quantized(net)


@pytest.mark.parametrize("kind", ["ADD", "CONCATENATION", "RESIZE_BILINEAR"])
def test_operations_that_compute_are_quantized_only_if_every_reader_is(kind):
    lines = ["a = CONV_2D x", "b = CONV_2D x", f"c = {kind} a b", "d = CONV_2D c"]
    assert quantized(graph(*lines)) == {"c"}
    assert not quantized(graph(*lines, "e = SOFTMAX c"))
    assert not quantized(graph(*lines, results=["c"]))


def test_moves_after_an_operation_in_float_stay_in_float():
    net = graph("a = CONV_2D x", "b = ADD a", "c = RESHAPE b", "d = CONV_2D c", "e = MEAN b")
    assert not quantized(net)


def test_pass_through_operations_between_two_schemes_stay_in_float():
    net = graph("a = CONV_2D x", "b = RESHAPE a", "c = CONV_2D b")
    assert quantized(net, a="w8a16", c="w8a16") == {"b"}
    assert not quantized(net, a="w8a16", c="w8a8")
    assert not quantized(graph("a = CONV_2D x", "b = CONV_2D x", "c = ADD a b", "d = CONV_2D c"), a="w8a16")


def test_a_tensor_has_the_range_of_its_origin():
    net = graph("a = CONV_2D x", "b = RESHAPE a", "c = ADD b", "d = PAD c", "e = CONV_2D d", "f = RESHAPE e")
    passing = dict.fromkeys((1, 2, 3), "w8a8")
    assert [origin(net, passing, name) for name in "xabcdef"] == list("xaaccef")


def test_a_file_is_read_with_its_weights_and_without_its_indices(tmp_path):
    weight, bias = np.ones((4, 3), np.float32), np.arange(4, dtype=np.float32)
    net = Net().start(x=(2, 3)).dense("y", (2, 4), "x", weight, bias).reshape("z", (8,), "y").finish("z")
    file = TfliteFile(net.write(tmp_path / "net.tflite"))
    dense, reshape = file.graphs[0].operations
    assert (dense.kind, dense.inputs, dense.outputs) == (DENSE, ("x",), ("y",))
    assert (reshape.kind, reshape.inputs, reshape.weight) == ("RESHAPE", ("y",), None)
    assert np.array_equal(file.constant(dense.weight), weight)
    assert np.array_equal(file.constant(dense.bias), bias)
    assert file.graphs[0].results == {"z"}
    assert (file.inputs(0), file.outputs(0)) == ({"x": "x"}, {"z": "z"})


def test_tensors_with_the_same_name_get_unique_names(tmp_path):
    net = Net()
    for key in ("one", "two"):
        net.start(x=(2, 3)).dense("y", (2, 4), "x", np.ones((4, 3), np.float32)).finish("y", key=key)
    file = TfliteFile(net.write(tmp_path / "net.tflite"))
    names = [name for each in file.graphs for operation in each.operations for name in operation.outputs]
    assert len(set(names)) == 2
    assert [*file.outputs(0).values(), *file.outputs(1).values()] == names


def test_a_file_that_is_no_tflite_file_is_refused(tmp_path):
    path = tmp_path / "net.tflite"
    path.write_bytes(b"TFL3 or not")
    with pytest.raises(ExportError, match=r"net\.tflite cannot be read as a TFLite file") as caught:
        TfliteFile(path)
    assert "\n" not in str(caught.value)
    net = Net().start(x=(2, 3)).reshape("y", (6,), "x").finish("y")
    net.model.signatureDefs = []
    with pytest.raises(ExportError, match="no signature"):
        TfliteFile(net.write(path))
