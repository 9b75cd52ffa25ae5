"""Position embeddings of quantized Core ML packages are float16; the evaluator computes with them."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from sam_edge_exporters import Conversion
from sam_edge_exporters import coreml as exporter
from sam_edge_quant import Plan, fingerprint, recipe_named
from sam_edge_quant.coreml import quantizer as coreml
from sam_edge_runtime.agreement.metrics import snr_db
from sam_edge_runtime.bundle.contract import GraphContract, TensorSpec
from sam_edge_runtime.mil import Program, read_package
from tests.model.builders import seed

SIZE = 64  # of the table: 64 x 64 numbers
CONTRACT = GraphContract(
    (TensorSpec("x", (1, SIZE, SIZE), "input"),),
    (TensorSpec("y", (1, SIZE, SIZE), "output"),),
)


class Net(nn.Module):
    """A layer beside a large table of positions and a small one."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(SIZE, SIZE)
        self.table = nn.Parameter(torch.zeros(SIZE, SIZE))
        self.row = nn.Parameter(torch.zeros(SIZE))
        seed(self)
        with torch.no_grad():
            self.table.normal_(0, 1)
            self.row.normal_(0, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.layer(x) + self.table + self.row.sin(), dim=-1)


def outputs(path, x):
    return Program(read_package(path)).run({"x": x})["y"]


def size_of(path):
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def test_a_table_is_stored_in_half_and_layers_and_small_constants_are_not(tmp_path):
    net = Net().eval().requires_grad_(requires_grad=False)
    source, path = tmp_path / "net.mlpackage", tmp_path / "w8.mlpackage"
    exporter.export(net, CONTRACT, source, Conversion())
    plan = Plan(recipe_named("w8"), {fingerprint(net.layer.weight.numpy()): "layer"})
    report = coreml.quantize(source, path, plan, {})
    assert report["layers"] == {"layer": "w8"}
    assert report["operations"]["constexpr_cast"] == 1
    # Two bytes of each number of the table, and three of each weight, are saved.
    assert size_of(source) - size_of(path) > (2 + 3) * SIZE * SIZE - 6000

    x = np.random.default_rng(0).normal(size=(1, SIZE, SIZE)).astype(np.float32)
    want, have = outputs(source, x), outputs(path, x)
    assert snr_db(want, have) > 35
    casts = [each for each in read_package(path).operations if each.op_type == "constexpr_cast"]
    stored = casts[0].inputs["source_val"]
    np.testing.assert_array_equal(
        np.asarray(stored, np.float32), net.table.numpy().astype(np.float16).astype(np.float32)
    )


def test_a_package_without_quantized_layers_is_not_touched(tmp_path):
    net = Net().eval().requires_grad_(requires_grad=False)
    source, path = tmp_path / "net.mlpackage", tmp_path / "fp32.mlpackage"
    exporter.export(net, CONTRACT, source, Conversion())
    plan = Plan(recipe_named("fp32"), {fingerprint(net.layer.weight.numpy()): "layer"})
    assert "constexpr_cast" not in coreml.quantize(source, path, plan, {})["operations"]
