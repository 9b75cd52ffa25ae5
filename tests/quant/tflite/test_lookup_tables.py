"""Lookup tables of quantized TFLite files are float16, and no other constants are."""

from __future__ import annotations

import numpy as np
import pytest

from sam_edge_quant import Plan, quantizer_for, recipe_named
from sam_edge_quant.tflite.graph import TfliteFile
from sam_edge_quant.tflite.lookup_tables import LEAST_SIZE, halve_tables
from sam_edge_runtime.agreement.metrics import snr_db
from tests.quant.tflite.network import Net, kinds, run

RNG = np.random.default_rng(0)
SHAPE = (1, 64, 64)  # 4,096 elements
X, WEIGHT, TABLE = (RNG.normal(size=shape).astype(np.float32) for shape in (SHAPE, (64, 64), SHAPE))
SMALL = TABLE[:, :1]


def net(table, signatures=("serving_default",)):
    """`y = x @ weight + table` in each signature; a table is added to `x` as well."""
    net = Net()
    for key in signatures:
        x, t, d, s, y = (f"{name}@{key}" for name in "xtdsy")
        net.start(**{x: SHAPE}).constant(table, t)
        net.sum(s, SHAPE, x, t).dense(d, SHAPE, s, WEIGHT).sum(y, SHAPE, d, t)
        net.finish(y, key=key)
    return net


def quantized(source, scheme="w8"):
    path = source.with_name("small.tflite")
    quantizer_for("tflite").quantize(source, path, Plan(recipe_named(scheme), {}), {})
    return path


def test_a_table_takes_half_the_bytes_and_is_unpacked_once(tmp_path):
    source = net(TABLE).write(tmp_path / "net.tflite")
    path = quantized(source)
    assert source.stat().st_size - path.stat().st_size > 1.9 * TABLE.size - 1000
    assert kinds(path) == ["DEQUANTIZE", "ADD", "FULLY_CONNECTED", "ADD"]
    halved = TABLE.astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(run(path, {"x": X})["y"], (X + halved) @ WEIGHT.T + halved, rtol=1e-4, atol=1e-4)
    assert snr_db(run(source, {"x": X})["y"], run(path, {"x": X})["y"]) > 65


def test_signatures_share_a_table(tmp_path):
    keys = ("one", "other")
    source = net(TABLE, keys).write(tmp_path / "net.tflite")
    file = TfliteFile(source)
    assert halve_tables(file) == 1
    path = quantized(source)
    outputs = [run(path, {"x": X}, key)["y"] for key in keys]
    np.testing.assert_array_equal(*outputs)
    assert path.stat().st_size < 4 * WEIGHT.size + 3 * TABLE.size


@pytest.mark.parametrize("table", [SMALL, TABLE * 1e5], ids=["small", "beyond float16"])
def test_other_constants_stay_as_they_are(tmp_path, table):
    source = net(table).write(tmp_path / "net.tflite")
    path = quantized(source)
    assert kinds(path) == ["ADD", "FULLY_CONNECTED", "ADD"]
    np.testing.assert_array_equal(run(path, {"x": X})["y"], run(source, {"x": X})["y"])


def test_weights_are_no_tables(tmp_path):
    assert WEIGHT.size >= LEAST_SIZE
    file = TfliteFile(Net().start(x=SHAPE).dense("y", SHAPE, "x", WEIGHT).finish("y").write(tmp_path / "net.tflite"))
    assert halve_tables(file) == 0
