"""The rule by which operations without weights go along with layers in eight bits."""

from __future__ import annotations

import numpy as np
import pytest

from sam_edge_quant.onnx.graph import eight_bits, layers_of
from tests.quant.onnx.networks import Net

CHAIN = ("n", 8, 6, 6)


def found(net, *outputs, without=()):
    """What the rule finds where all layers of a net but those named are to be in eight bits."""
    graph = net.model(*outputs).graph
    return eight_bits(graph, [layer for layer in layers_of(graph) if layer.answer not in without])


def glue(net, *outputs, without=()):
    return [node.output[0] for node in found(net, *outputs, without=without).glue]


def test_a_sum_of_convolutions_that_a_convolution_reads_is_in_eight_bits_and_one_that_nobody_reads_is_not():
    net = Net(x=CHAIN)
    first, second = net.conv("x", "a"), net.conv("x", "b")
    net.conv(net.add("Add", first, second, to="sum"), "c")
    net.add("Add", "a", "c", to="y")
    assert glue(net, "y") == ["sum"]


def test_a_chain_of_glue_is_kept_as_far_as_a_layer_in_eight_bits_reads_it():
    net = Net(x=CHAIN)
    net.conv("x", "a")
    net.add("MaxPool", "a", to="pooled", kernel_shape=[2, 2], strides=[2, 2])
    scales = net.constant(np.array([1, 1, 2, 2], np.float32))
    net.add("Resize", "pooled", "", scales, to="large", mode="nearest")
    net.add("Concat", "large", "a", to="both", axis=1)
    net.conv("both", "y", channels=(8, 16))
    net.add("Transpose", "both", to="turned", perm=[0, 2, 3, 1])
    assert glue(net, "y", "turned") == ["pooled", "large", "both"]
    assert glue(net, "y", "turned", without=("y",)) == []


def test_what_reads_one_number_in_float_stays_in_float():
    net = Net(x=CHAIN)
    net.conv(net.add("Add", net.conv("x", "a"), "x", to="sum"), "y")
    assert glue(net, "y") == []


def test_what_is_not_known_to_be_computed_on_whole_numbers_stays_in_float():
    net = Net(x=CHAIN)
    net.conv(net.add("Sigmoid", net.conv("x", "a"), to="s"), "y")
    assert glue(net, "y") == []
    assert found(net, "y").tensors == ["x", "a", "s", "y"]  # but what layers read and answer


def test_products_answer_in_float_where_floats_are_read():
    net = Net(x=("n", 5, 8))
    net.linear(net.add("Erf", net.linear("x", "a"), to="e"), "y")
    assert found(net, "y").tensors == ["x", "e"]


def test_the_sum_of_products_is_left_in_float_but_what_only_moves_one_is_not():
    net = Net(x=("n", 5, 8))
    net.linear(net.add("Add", net.linear("x", "a"), net.linear("x", "b"), to="sum"), "y")
    net.linear(net.add("Transpose", "y", to="turned", perm=[0, 2, 1]), "z", wide=(5, 8))
    region = found(net, "z")
    assert [node.output[0] for node in region.glue] == ["turned"]
    assert region.tensors == ["x", "sum", "y", "turned"]


@pytest.mark.parametrize("kind", ["Relu", "Clip"])
def test_a_bound_right_after_a_convolution_vanishes_whoever_reads_it(kind):
    net = Net(x=CHAIN)
    limits = () if kind == "Relu" else (net.constant(np.float32(0)), net.constant(np.float32(6)))
    net.add("Sigmoid", net.add(kind, net.conv("x", "a"), *limits, to="bounded"), to="y")
    region = found(net, "y")
    assert region.bounded == {"a": "bounded"}
    assert region.measured == ["x", "bounded"]


def test_a_bound_after_a_product_vanishes_only_where_eight_bits_are_read():
    for last, taken in ((True, ["r"]), (False, [])):
        net = Net(x=("n", 5, 8))
        net.add("Relu", net.linear("x", "a"), to="r")
        net.linear("r", "y") if last else net.add("Sigmoid", "r", to="y")
        assert glue(net, "y") == taken


def test_a_bound_that_cannot_vanish_stays_in_float():
    net = Net(x=CHAIN)
    net.add("Relu", net.conv("x", "a"), to="r")
    net.conv("r", "y")
    net.add("Sigmoid", "a", to="z")  # also reads what is before the bound
    assert glue(net, "y", "z") == []
    net = Net(x=CHAIN)
    net.add("Clip", net.conv("x", "a"), net.constant(np.float32(1)), to="r")  # zero is not among its answers
    net.conv("r", "y")
    assert glue(net, "y") == []


def test_a_layer_is_a_product_with_its_bias_and_knows_its_channels():
    net = Net(x=("n", 5, 8), t=CHAIN)
    net.linear("x", "a", wide=(8, 3))
    net.add("MatMul", "a", net.weight("w", 3, 3), to="p")
    net.add("Add", "p", net.weight("other", 5, 1), to="y")  # no bias: one number for each place
    net.add("ConvTranspose", "t", net.weight("up", 8, 2, 2, 2), to="u", group=2, strides=[2, 2])
    net.add("Conv", "t", net.weight("deep", 8, 1, 3, 3), to="d", group=8)
    layers = layers_of(net.model("y", "u", "d").graph)
    assert [layer.answer for layer in layers] == ["a", "p", "u", "d"]
    assert [layer.bias for layer in layers] == ["a.bias", None, None, None]
    assert [layer.channel_axis for layer in layers] == [1, 1, 1, 0]
    assert [layer.is_depthwise for layer in layers] == [False, False, False, True]
