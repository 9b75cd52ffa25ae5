"""Both graphs as ONNX files: torch's outputs, free axes, and a fixed decoder that is equal to the variable one.

The graphs are those of a SAM with a TinyViT at a side of 256, which is as small as the models go.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor

from sam_edge.model import DecoderGraph, EncoderGraph, build_sam
from sam_edge_exporters import onnx as exporter
from sam_edge_runtime.bundle.contract import (
    FrameSize,
    GraphContract,
    Label,
    TensorSpec,
    decoder_contract,
    encoder_contract,
)
from tests.exporters.sessions import run, session
from tests.model.builders import BOUND, error, gap, seed, seeded_tensor

SIDE, GRID, CELLS = 256, 16, 64
SLOTS, PROMPTS = 6, 2  # of the fixed decoder


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
    exporter.export(EncoderGraph(sam).eval(), encoder_contract(FrameSize.square(SIDE), 256), path)
    return path


@pytest.fixture(scope="module")
def variable_path(decoder, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("variable") / "decoder.onnx"
    exporter.export(decoder, decoder_contract(FrameSize.square(SIDE), 256, None, None), path)
    return path


@pytest.fixture(scope="module")
def fixed_path(decoder, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("fixed") / "decoder.onnx"
    exporter.export(decoder, decoder_contract(FrameSize.square(SIDE), 256, PROMPTS, SLOTS), path)
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


# Outputs ------------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def test_the_encoder_computes_the_same_as_torch(sam, encoder_path):
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


def test_fixed_decoder_equals_the_variable_one_with_all_slots_empty(variable, fixed):
    inputs = list(feed(PROMPTS, 1))
    inputs[2] = torch.full((PROMPTS, 1), float(Label.EMPTY))
    low_res, iou = run(variable, *inputs)
    fixed_low_res, fixed_iou = run(fixed, *in_fixed_shape(tuple(inputs)))
    assert np.isfinite(low_res).all()
    assert gap(fixed_low_res, low_res) <= BOUND
    assert gap(fixed_iou, iou) <= BOUND


def test_padding_slots_instead_of_empty_ones_are_not_equal(variable, fixed):
    """The comparison above can fail: with label -1 in empty slots, the fixed decoder computes something else."""
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
    """Only opset 20, IR version 9, one file, no control flow, no double precision."""
    path = request.getfixturevalue(fixture)
    assert [child.name for child in path.parent.iterdir()] == [path.name]
    model = graph_of(path)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 20)]
    assert model.ir_version == 9  # what ONNX Runtime 1.17 reads
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


@pytest.mark.parametrize("fixture", ["encoder_path", "variable_path"])
def test_a_file_has_no_paths_of_the_exporting_machine(request, fixture):
    """torch notes every node's lines of source code, with full paths."""
    content = request.getfixturevalue(fixture).read_bytes()
    for trace in (b".py", b"stack_trace", str(Path(__file__).parents[2]).encode()):
        assert trace not in content


@pytest.mark.parametrize("fixture", ["encoder_path", "fixed_path"])
def test_fixed_graphs_have_only_known_shapes(request, fixture):
    model = graph_of(request.getfixturevalue(fixture))
    for value in [*model.graph.input, *model.graph.output]:
        assert all(axis.HasField("dim_value") for axis in value.type.tensor_type.shape.dim)


def test_normalization_and_positions_are_inside(encoder_path, variable_path):
    """An app passes a photo in 0..255 and an embedding, and nothing else."""
    names = [[value.name for value in onnx.load(path).graph.input] for path in (encoder_path, variable_path)]
    assert names == [["image"], list(decoder_contract(FrameSize.square(SIDE), 256, None, None).input_names)]


@pytest.mark.slow
@torch.inference_mode()
def test_a_decoder_with_external_weights_computes_the_same(decoder, variable, tmp_path, monkeypatch):
    monkeypatch.setattr(exporter, "EXTERNAL_DATA_ABOVE", 1 << 20)
    path = tmp_path / "decoder.onnx"
    exporter.export(decoder, decoder_contract(FrameSize.square(SIDE), 256, None, None), path)
    assert (tmp_path / "decoder.onnx.data").stat().st_size > 10 * path.stat().st_size
    inputs = feed(2, 3)
    for ours, theirs in zip(run(session(path), *inputs), run(variable, *inputs), strict=True):
        assert error(ours, theirs) <= BOUND


@pytest.mark.slow  # the whole bundle answers for docs/embedding.md as well
def test_nanos_graphs_keep_their_free_axes_and_compute_the_same_as_torch(tmp_path):
    """nano's decoder draws prompts inside the graph, from free axes."""
    nano = build_sam("nano")
    seed(nano)
    nano.requires_grad_(requires_grad=False)
    nano.set_input_side(SIDE)
    encoder, decoder = EncoderGraph(nano).eval(), DecoderGraph(nano).eval()
    exporter.export(encoder, encoder_contract(FrameSize.square(SIDE), nano.channels), tmp_path / "encoder.onnx")
    exporter.export(
        decoder, decoder_contract(FrameSize.square(SIDE), nano.channels, None, None), tmp_path / "decoder.onnx"
    )
    image = seeded_tensor("image", 1, 3, SIDE, SIDE).mul(60).add(120)
    embeddings = encoder(image)
    assert error(run(session(tmp_path / "encoder.onnx"), image)[0], embeddings) <= BOUND
    opened = session(tmp_path / "decoder.onnx")
    for prompts, slots in ((1, 1), (3, 4)):
        coords = seeded_tensor("coords", prompts, slots, 2).mul(40).add(128)
        labels = torch.tensor([[1.0, 0.0, -2.0, -1.0], [2.0, 3.0, 1.0, -2.0], [1.0, 1.0, 0.0, 0.0]])[:prompts, :slots]
        logits = seeded_tensor("mask", prompts, 1, CELLS, CELLS)
        inputs = (embeddings, coords, labels, logits, torch.arange(float(prompts)) % 2)
        for ours, theirs in zip(run(opened, *inputs), decoder(*inputs), strict=True):
            assert error(ours, theirs) <= BOUND


def test_large_constants_are_not_folded_and_equal_indices_are_stored_once(tmp_path):
    """ONNX Runtime folds constants when it loads a file."""
    index = torch.arange(64).reshape(64, 1) + torch.arange(64)

    class Biased(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = (torch.nn.Parameter(torch.randn(3, 127)) for _ in range(2))
            self.one, self.other = index, index.clone()

        def forward(self, x):
            return (x + self.first[:, self.one]) @ (x * self.second[:, self.other])

    module = Biased().eval().requires_grad_(requires_grad=False)
    contract = GraphContract((TensorSpec("x", (64, 64), ""),), (TensorSpec("y", (3, 64, 64), ""),))
    exporter.export(module, contract, tmp_path / "biased.onnx")
    stored = onnx.load(tmp_path / "biased.onnx").graph.initializer
    assert sum(each.data_type == onnx.TensorProto.INT64 and math.prod(each.dims) == 64 * 64 for each in stored) == 1
    assert all(math.prod(each.dims) <= 3 * 127 for each in stored if each.data_type == onnx.TensorProto.FLOAT)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    engine = ort.InferenceSession(tmp_path / "biased.onnx", options, providers=["CPUExecutionProvider"])
    assert "Gather" not in {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    x = seeded_tensor("x", 64, 64)
    assert error(torch.from_numpy(engine.run(None, {"x": x.numpy()})[0]), module(x)) <= 1e-6


def test_onnx_runtime_runs_gelu_as_one_exact_operation(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU()).eval().requires_grad_(False)
    contract = GraphContract((TensorSpec("x", (2, 8), ""),), (TensorSpec("y", (2, 8), ""),))
    exporter.export(module, contract, tmp_path / "gelu.onnx")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    engine = ort.InferenceSession(tmp_path / "gelu.onnx", options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx", load_external_data=False).graph.node]
    assert "Erf" not in kinds
    assert any("Gelu" in kind for kind in kinds)
    x = seeded_tensor("x", 2, 8) * 3
    assert error(torch.from_numpy(engine.run(None, {"x": x.numpy()})[0]), module(x)) <= 1e-6
