"""ONNX export of a single layer: where the weights go, and which graphs are refused."""

from __future__ import annotations

import onnx
import pytest
import torch
from torch import Tensor

from sam_edge_exporters import Conversion, exporter_for
from sam_edge_exporters import onnx as exporter
from sam_edge_runtime.bundle.contract import GraphContract, TensorSpec
from sam_edge_runtime.errors import ExportError, UsageError
from tests.exporters.layers import Crashing, OneLayer
from tests.exporters.sessions import run, session
from tests.model.builders import BOUND, error, seeded_tensor

CONTRACT = GraphContract(
    inputs=(TensorSpec("x", ("B", 64), "anything"),), outputs=(TensorSpec("y", ("B", 32), "anything"),)
)
BYTES = 4 * (64 * 32 + 32)


@torch.inference_mode()
@pytest.mark.parametrize("space", [BYTES, BYTES - 1])
def test_weights_are_external_only_above_the_limit(tmp_path, monkeypatch, space):
    monkeypatch.setattr(exporter, "EXTERNAL_DATA_ABOVE", exporter._SPACE_FOR_GRAPH + space)
    layer, path, data = OneLayer().eval(), tmp_path / "decoder.onnx", tmp_path / "decoder.onnx.data"
    exporter.export(layer, CONTRACT, path)
    if space == BYTES:
        assert not data.exists()
    else:
        assert data.stat().st_size >= 4 * 64 * 32
        assert path.stat().st_size < 4 * 64 * 32
    x = seeded_tensor("x", 5, 64)
    assert error(run(session(path), x)[0], layer(x)) <= BOUND
    assert {child.name for child in tmp_path.iterdir()} <= {path.name, data.name}


def test_the_exporter_is_found_by_its_target():
    assert exporter_for("onnx").export is exporter.export
    with pytest.raises(UsageError, match="no target called 'onx': choose one of onnx"):
        exporter_for("onx")


# Errors -------------------------------------------------------------------------------------------------------------


def test_an_output_of_another_shape_is_refused(tmp_path):
    with pytest.raises(ExportError, match=r"graph.onnx has \[\('y', \('B', 31\)\)\], the contract has") as caught:
        exporter.export(OneLayer(31).eval(), CONTRACT, tmp_path / "graph.onnx")
    assert "\n" not in str(caught.value)


def test_an_output_of_another_name_is_refused(tmp_path):
    path = tmp_path / "graph.onnx"
    exporter.export(OneLayer().eval(), CONTRACT, path)
    renamed = GraphContract(CONTRACT.inputs, (TensorSpec("z", ("B", 32), "anything"),))
    with pytest.raises(ExportError, match=r"graph.onnx has \[\('y', .*the contract has \[\('z', "):
        exporter.check(path, renamed)


def test_a_size_that_should_be_free_and_is_not_is_refused(tmp_path):
    path = tmp_path / "graph.onnx"
    two = GraphContract((TensorSpec("x", (2, 64), ""),), (TensorSpec("y", (2, 32), ""),))
    exporter.export(OneLayer().eval(), two, path)
    with pytest.raises(ExportError, match="the contract has"):
        exporter.check(path, CONTRACT)


class Deciding(OneLayer):
    """Branches on its input's values."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.sum() > 0 else -self.layer(x)


@pytest.mark.parametrize("graph", [Deciding, Crashing])
def test_a_graph_that_cannot_be_traced_is_refused_in_one_line(tmp_path, graph):
    with pytest.raises(ExportError, match=r"torch\.onnx\.export failed on graph: ") as caught:
        exporter.export(graph().eval(), CONTRACT, tmp_path / "graph.onnx")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("graph", "cause"), [(Deciding, "data-dependent"), (Crashing, "the cause")])
def test_the_line_names_the_cause(tmp_path, graph, cause):
    with pytest.raises(ExportError) as caught:
        exporter.export(graph().eval(), CONTRACT, tmp_path / "graph.onnx")
    assert cause in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a graph at all"])
def test_a_file_that_is_no_graph_is_refused(tmp_path, content):
    path = tmp_path / "graph.onnx"
    path.write_bytes(content)
    with pytest.raises(ExportError, match=r"graph.onnx") as caught:
        exporter.check(path, CONTRACT)
    assert "\n" not in str(caught.value)


@torch.inference_mode()
def test_half_precision_is_inside_and_inputs_stay_float32(tmp_path):
    layer, x = OneLayer().eval(), seeded_tensor("x", 5, 64)
    expected = layer(x)
    exporter.export(layer, CONTRACT, tmp_path / "graph.onnx", Conversion("fp16"))
    model = onnx.load(tmp_path / "graph.onnx")
    assert {tensor.data_type for tensor in model.graph.initializer} == {onnx.TensorProto.FLOAT16}
    assert {each.type.tensor_type.elem_type for each in (*model.graph.input, *model.graph.output)} == {
        onnx.TensorProto.FLOAT
    }
    gap = error(run(session(tmp_path / "graph.onnx"), x)[0], expected)
    assert 1e-6 < gap < 1e-3
