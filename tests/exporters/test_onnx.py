"""Graphs to ONNX files: the same numbers as torch, free axes that are free, and what is refused.

The graphs are those of a SAM with a TinyViT at a side of 256, which is as small as the models go. What concerns only
the writing of files is shown on a graph of one layer.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from sam_edge.model import DecoderGraph, EncoderGraph, build_sam
from sam_edge_exporters import exporter_for
from sam_edge_exporters import onnx as exporter
from sam_edge_runtime.contract import GraphContract, Label, TensorSpec, decoder_contract, encoder_contract
from sam_edge_runtime.errors import ExportError, UsageError
from tests.model.builders import BOUND, error, gap, seed, seeded_tensor

SIDE, GRID, CELLS = 256, 16, 64
SLOTS, PROMPTS = 6, 2  # of the fixed decoder


def session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(runner: ort.InferenceSession, *inputs: Tensor) -> list[np.ndarray]:
    names = [argument.name for argument in runner.get_inputs()]
    return runner.run(None, {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)})


@pytest.fixture(scope="module")
def sam():
    made = build_sam("tiny_vit")
    seed(made)
    made.requires_grad_(requires_grad=False)
    made.set_input_side(SIDE)
    return made


@pytest.fixture(scope="module")
def decoder(sam) -> DecoderGraph:
    return DecoderGraph(sam).eval()


@pytest.fixture(scope="module")
def encoder_path(sam, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("encoder") / "encoder.onnx"
    exporter.export(EncoderGraph(sam).eval(), encoder_contract(SIDE, 256), path)
    return path


@pytest.fixture(scope="module")
def variable_path(decoder, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("variable") / "decoder.onnx"
    exporter.export(decoder, decoder_contract(SIDE, 256, None, None), path)
    return path


@pytest.fixture(scope="module")
def fixed_path(decoder, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("fixed") / "decoder.onnx"
    exporter.export(decoder, decoder_contract(SIDE, 256, PROMPTS, SLOTS), path)
    return path


@pytest.fixture(scope="module")
def variable(variable_path) -> ort.InferenceSession:
    return session(variable_path)


@pytest.fixture(scope="module")
def fixed(fixed_path) -> ort.InferenceSession:
    return session(fixed_path)


def feed(prompts: int, slots: int, masks: bool = True) -> tuple[Tensor, ...]:
    """The decoder's five inputs: every label that fills a slot, and a mask for every other prompt."""
    coords = seeded_tensor(f"coords {slots}", prompts, slots, 2).mul(60).add(128).clamp(0, SIDE)
    labels = torch.tensor([1.0, 0.0, 2.0, 3.0, -1.0, 1.0]).repeat(2)[:slots].repeat(prompts, 1)
    mask_input = seeded_tensor("mask", prompts, 1, CELLS, CELLS).mul(4)
    has_mask = torch.tensor([1.0, 0.0]).repeat(prompts)[:prompts] if masks else torch.zeros(prompts)
    return seeded_tensor("embeddings", 1, 256, GRID, GRID), coords, labels, mask_input, has_mask


def in_fixed_shape(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The same prompts in `PROMPTS` rows of `SLOTS` slots, the unused ones empty."""
    embeddings, coords, labels, masks, has_mask = inputs
    rows, columns = labels.shape
    all_coords, all_labels = torch.zeros(PROMPTS, SLOTS, 2), torch.full((PROMPTS, SLOTS), float(Label.EMPTY))
    all_coords[:rows, :columns], all_labels[:rows, :columns] = coords, labels
    all_masks, all_has_mask = torch.zeros(PROMPTS, 1, CELLS, CELLS), torch.zeros(PROMPTS)
    all_masks[:rows], all_has_mask[:rows] = masks, has_mask
    return embeddings, all_coords, all_labels, all_masks, all_has_mask


# Numbers ------------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def test_encoder_answers_as_torch_does(sam, encoder_path):
    image = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (1, 3, SIDE, SIDE)).astype(np.float32))
    (embeddings,) = run(session(encoder_path), image)
    assert error(embeddings, EncoderGraph(sam).eval()(image)) <= BOUND


@torch.inference_mode()
@pytest.mark.parametrize("prompts", [1, 2, 5])
@pytest.mark.parametrize("slots", [1, 2, 5])
def test_variable_decoder_takes_any_number_of_prompts_and_slots(decoder, variable, prompts, slots):
    inputs = feed(prompts, slots)
    masks, iou = run(variable, *inputs)
    their_masks, their_iou = decoder(*inputs)
    assert masks.shape == (prompts, 4, CELLS, CELLS)
    assert error(masks, their_masks) <= BOUND
    assert error(iou, their_iou) <= BOUND


@pytest.mark.parametrize("masks", [True, False], ids=["mask prompt", "no mask prompt"])
@pytest.mark.parametrize("slots", range(1, SLOTS + 1))
def test_fixed_decoder_equals_the_variable_one(variable, fixed, slots, masks):
    for prompts in range(1, PROMPTS + 1):
        inputs = feed(prompts, slots, masks)
        low_res, iou = run(variable, *inputs)
        fixed_low_res, fixed_iou = run(fixed, *in_fixed_shape(inputs))
        assert gap(fixed_low_res[:prompts], low_res) <= BOUND
        assert gap(fixed_iou[:prompts], iou) <= BOUND


def test_fixed_decoder_equals_the_variable_one_without_any_slot_in_use(variable, fixed):
    inputs = list(feed(PROMPTS, 1))
    inputs[2] = torch.full((PROMPTS, 1), float(Label.EMPTY))
    low_res, iou = run(variable, *inputs)
    fixed_low_res, fixed_iou = run(fixed, *in_fixed_shape(tuple(inputs)))
    assert np.isfinite(low_res).all()
    assert gap(fixed_low_res, low_res) <= BOUND
    assert gap(fixed_iou, iou) <= BOUND


def test_padding_with_not_a_point_would_not_be_equal(variable, fixed):
    """The comparison above can fail: filled with -1 instead, the fixed decoder answers something else."""
    inputs = feed(PROMPTS, 2)
    filled = list(in_fixed_shape(inputs))
    filled[2] = torch.where(filled[2] == Label.EMPTY, float(Label.PADDING), filled[2])
    assert error(run(fixed, *filled)[0], run(variable, *inputs)[0]) > 100 * BOUND


# The files ----------------------------------------------------------------------------------------------------------


def graph_of(path: Path) -> onnx.ModelProto:
    model = onnx.load(path)
    assert not model.functions
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


@pytest.mark.parametrize("fixture", ["encoder_path", "variable_path", "fixed_path"])
def test_graphs_are_plain(request, fixture):
    """Opset 18 and nothing else, one file, no control flow, no double precision anywhere."""
    path = request.getfixturevalue(fixture)
    assert [child.name for child in path.parent.iterdir()] == [path.name]
    model = graph_of(path)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    operators = {node.op_type for node in model.graph.node}
    assert not operators & {"If", "Loop", "Scan", "NonZero", "SequenceAt"}
    values = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    types = {value.type.tensor_type.elem_type for value in values}
    types |= {tensor.data_type for tensor in model.graph.initializer}
    types |= {
        a.t.data_type for node in model.graph.node for a in node.attribute if a.type == onnx.AttributeProto.TENSOR
    }
    types |= {a.i for node in model.graph.node if node.op_type == "Cast" for a in node.attribute if a.name == "to"}
    assert onnx.TensorProto.FLOAT in types
    assert onnx.TensorProto.DOUBLE not in types


@pytest.mark.parametrize("fixture", ["encoder_path", "fixed_path"])
def test_fixed_graphs_have_only_known_shapes(request, fixture):
    model = graph_of(request.getfixturevalue(fixture))
    for value in [*model.graph.input, *model.graph.output]:
        assert all(axis.HasField("dim_value") for axis in value.type.tensor_type.shape.dim)


def test_normalization_and_positions_are_inside(encoder_path, variable_path):
    """An app gives a photo in 0..255 and an embedding, and nothing else."""
    names = [[value.name for value in onnx.load(path).graph.input] for path in (encoder_path, variable_path)]
    assert names == [["image"], list(decoder_contract(SIDE, 256, None, None).input_names)]


# Writing ------------------------------------------------------------------------------------------------------------


CONTRACT = GraphContract(
    inputs=(TensorSpec("x", ("B", 64), "anything"),), outputs=(TensorSpec("y", ("B", 32), "anything"),)
)
BYTES = 4 * (64 * 32 + 32)


class OneLayer(nn.Module):
    """What `CONTRACT` says."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.layer = nn.Linear(64, width)
        seed(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


@torch.inference_mode()
@pytest.mark.parametrize("room", [BYTES, BYTES - 1])
def test_weights_go_beside_the_graph_only_where_they_must(tmp_path, monkeypatch, room):
    monkeypatch.setattr(exporter, "EXTERNAL_DATA_ABOVE", exporter._ROOM_FOR_GRAPH + room)
    layer, path, data = OneLayer().eval(), tmp_path / "decoder.onnx", tmp_path / "decoder.onnx.data"
    exporter.export(layer, CONTRACT, path)
    if room == BYTES:
        assert not data.exists()
    else:
        assert data.stat().st_size >= 4 * 64 * 32
        assert path.stat().st_size < 4 * 64 * 32
    x = seeded_tensor("x", 5, 64)
    assert error(run(session(path), x)[0], layer(x)) <= BOUND
    assert {child.name for child in tmp_path.iterdir()} <= {path.name, data.name}


@pytest.mark.slow
@torch.inference_mode()
def test_a_decoder_with_its_weights_beside_it_answers_the_same(decoder, variable, tmp_path, monkeypatch):
    monkeypatch.setattr(exporter, "EXTERNAL_DATA_ABOVE", 1 << 20)
    path = tmp_path / "decoder.onnx"
    exporter.export(decoder, decoder_contract(SIDE, 256, None, None), path)
    assert (tmp_path / "decoder.onnx.data").stat().st_size > 10 * path.stat().st_size
    inputs = feed(2, 3)
    for ours, theirs in zip(run(session(path), *inputs), run(variable, *inputs), strict=True):
        assert error(ours, theirs) <= BOUND


def test_the_exporter_is_found_by_its_target():
    found = exporter_for("onnx")
    assert (found.suffix, found.export) == (".onnx", exporter.export)
    with pytest.raises(UsageError, match="no target called 'onx': choose one of onnx"):
        exporter_for("onx")


# What is refused ----------------------------------------------------------------------------------------------------


def test_an_output_of_another_shape_is_refused(tmp_path):
    with pytest.raises(ExportError, match=r"graph.onnx has \[\('y', \('B', 31\)\)\], the contract says") as caught:
        exporter.export(OneLayer(31).eval(), CONTRACT, tmp_path / "graph.onnx")
    assert "\n" not in str(caught.value)


def test_an_output_of_another_name_is_refused(tmp_path):
    path = tmp_path / "graph.onnx"
    exporter.export(OneLayer().eval(), CONTRACT, path)
    renamed = GraphContract(CONTRACT.inputs, (TensorSpec("z", ("B", 32), "anything"),))
    with pytest.raises(ExportError, match=r"graph.onnx has \[\('y', .*the contract says \[\('z', "):
        exporter.check(path, renamed)


def test_a_size_that_should_be_free_and_is_not_is_refused(tmp_path):
    path = tmp_path / "graph.onnx"
    two = GraphContract((TensorSpec("x", (2, 64), ""),), (TensorSpec("y", (2, 32), ""),))
    exporter.export(OneLayer().eval(), two, path)
    with pytest.raises(ExportError, match="the contract says"):
        exporter.check(path, CONTRACT)


class Deciding(OneLayer):
    """Looks at its numbers to choose a way."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.sum() > 0 else -self.layer(x)


class Crashing(OneLayer):
    """Fails in more than one line."""

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("the cause\nand more of it")


@pytest.mark.parametrize("graph", [Deciding, Crashing])
def test_a_graph_that_cannot_be_traced_is_refused_in_one_line(tmp_path, graph):
    with pytest.raises(ExportError, match=r"torch\.onnx\.export failed on graph: ") as caught:
        exporter.export(graph().eval(), CONTRACT, tmp_path / "graph.onnx")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.xfail(strict=True, reason="the line is torch's 'Refer to the full stack trace above', not the cause")
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
