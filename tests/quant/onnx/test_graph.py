"""The rule by which pass-through operations join INT8 layers."""

from __future__ import annotations

import numpy as np
import pytest

from sam_edge_quant.onnx.graph import int8_region, layers_of
from tests.quant.onnx.networks import Net

CHAIN = ("n", 8, 6, 6)


def region_of(net, *outputs, without=()):
    """The INT8 region where all layers but those named have the scheme `w8a8`."""
    graph = net.model(*outputs).graph
    return int8_region(graph, [layer for layer in layers_of(graph) if layer.output not in without])


def pass_through(net, *outputs, without=()):
    return [node.output[0] for node in region_of(net, *outputs, without=without).pass_through]


def test_a_sum_of_convolutions_is_int8_only_if_a_convolution_reads_it():
    net = Net(x=CHAIN)
    first, second = net.conv("x", "a"), net.conv("x", "b")
    net.conv(net.add("Add", first, second, to="sum"), "c")
    net.add("Add", "a", "c", to="y")
    assert pass_through(net, "y") == ["sum"]


def test_a_chain_of_pass_through_operations_ends_at_its_last_int8_reader():
    net = Net(x=CHAIN)
    net.conv("x", "a")
    net.add("MaxPool", "a", to="pooled", kernel_shape=[2, 2], strides=[2, 2])
    scales = net.constant(np.array([1, 1, 2, 2], np.float32))
    net.add("Resize", "pooled", "", scales, to="large", mode="nearest")
    net.add("Concat", "large", "a", to="both", axis=1)
    net.conv("both", "y", channels=(8, 16))
    net.add("Transpose", "both", to="turned", perm=[0, 2, 3, 1])
    assert pass_through(net, "y", "turned") == ["pooled", "large", "both"]
    assert pass_through(net, "y", "turned", without=("y",)) == []


def test_an_operation_with_one_float_input_stays_in_float():
    net = Net(x=CHAIN)
    net.conv(net.add("Add", net.conv("x", "a"), "x", to="sum"), "y")
    assert pass_through(net, "y") == []


def test_an_operation_without_an_int8_kernel_stays_in_float():
    net = Net(x=CHAIN)
    net.conv(net.add("Sigmoid", net.conv("x", "a"), to="s"), "y")
    assert pass_through(net, "y") == []
    assert region_of(net, "y").tensors == ["x", "a", "s", "y"]  # only the layers' inputs and outputs


def test_products_have_float_outputs_for_float_readers():
    net = Net(x=("n", 5, 8))
    net.linear(net.add("Erf", net.linear("x", "a"), to="e"), "y")
    assert region_of(net, "y").tensors == ["x", "e"]


def test_a_sum_of_products_stays_in_float_but_a_transposition_does_not():
    net = Net(x=("n", 5, 8))
    net.linear(net.add("Add", net.linear("x", "a"), net.linear("x", "b"), to="sum"), "y")
    net.linear(net.add("Transpose", "y", to="turned", perm=[0, 2, 1]), "z", wide=(5, 8))
    region = region_of(net, "z")
    assert [node.output[0] for node in region.pass_through] == ["turned"]
    assert region.tensors == ["x", "sum", "y", "turned"]


@pytest.mark.parametrize("kind", ["Relu", "Clip"])
def test_a_bound_right_after_a_convolution_disappears_whoever_reads_it(kind):
    net = Net(x=CHAIN)
    limits = () if kind == "Relu" else (net.constant(np.float32(0)), net.constant(np.float32(6)))
    net.add("Sigmoid", net.add(kind, net.conv("x", "a"), *limits, to="bounded"), to="y")
    region = region_of(net, "y")
    assert region.bounded == {"a": "bounded"}
    assert region.measured == ["x", "bounded"]


def test_a_bound_after_a_product_disappears_only_for_an_int8_reader():
    for last, taken in ((True, ["r"]), (False, [])):
        net = Net(x=("n", 5, 8))
        net.add("Relu", net.linear("x", "a"), to="r")
        net.linear("r", "y") if last else net.add("Sigmoid", "r", to="y")
        assert pass_through(net, "y") == taken


def test_a_bound_that_cannot_disappear_stays_in_float():
    net = Net(x=CHAIN)
    net.add("Relu", net.conv("x", "a"), to="r")
    net.conv("r", "y")
    net.add("Sigmoid", "a", to="z")  # a second reader of the bound's input
    assert pass_through(net, "y", "z") == []
    net = Net(x=CHAIN)
    net.add("Clip", net.conv("x", "a"), net.constant(np.float32(1)), to="r")  # zero is not within its limits
    net.conv("r", "y")
    assert pass_through(net, "y") == []


def test_a_layer_is_a_product_with_its_bias_and_its_channel_axis():
    net = Net(x=("n", 5, 8), t=CHAIN)
    net.linear("x", "a", wide=(8, 3))
    net.add("MatMul", "a", net.weight("w", 3, 3), to="p")
    net.add("Add", "p", net.weight("other", 5, 1), to="y")  # no bias: one number for each position
    net.add("ConvTranspose", "t", net.weight("up", 8, 2, 2, 2), to="u", group=2, strides=[2, 2])
    net.add("Conv", "t", net.weight("deep", 8, 1, 3, 3), to="d", group=8)
    layers = layers_of(net.model("y", "u", "d").graph)
    assert [layer.output for layer in layers] == ["a", "p", "u", "d"]
    assert [layer.bias for layer in layers] == ["a.bias", None, None, None]
    assert [layer.channel_axis for layer in layers] == [1, 1, 1, 0]
    assert [layer.is_depthwise for layer in layers] == [False, False, False, True]
