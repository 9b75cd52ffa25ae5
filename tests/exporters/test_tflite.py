"""TFLite files: the numbers of torch, the contract's face, and what accelerators will make of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from sam_edge.export import FIXED_POINTS, FIXED_PROMPTS, ExportJob, ExportResult, export_bundle
from sam_edge_exporters import exporter_for, tflite
from sam_edge_exporters.delegates import DELEGATES, missing_from
from sam_edge_runtime import SamPredictor
from sam_edge_runtime.backends import BackendOptions, load_backend
from sam_edge_runtime.backends import tflite as backend
from sam_edge_runtime.bundle import Bundle
from sam_edge_runtime.contract import GraphContract, Label, Layout, TensorSpec
from sam_edge_runtime.errors import BackendError, BundleError, ExportError
from sam_edge_runtime.manifest import Manifest
from tests.exporters.layers import Crashing, OneLayer
from tests.model.builders import BOUND, error, seeded_tensor

SIDE, GRID, CELLS = 256, 16, 64
CONTRACT = GraphContract((TensorSpec("x", (2, 64), ""),), (TensorSpec("y", (2, 32), ""),))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> ExportResult:
    """nano as a TFLite bundle, with the capacity that nobody chose."""
    out = tmp_path_factory.mktemp("tflite") / "nano"
    return export_bundle(ExportJob("nano", out, target="tflite", input_side=SIDE))


@pytest.fixture(scope="module")
def bundle(made) -> Bundle:
    return Bundle.open(made.bundle.root)


# The bundle -----------------------------------------------------------------------------------------------------------


def test_it_keeps_the_bounds_of_fp32(made):
    assert made.missed == ()
    assert made.agreement.embedding_snr_db > 100
    assert len(made.agreement.prompts) > 10


def test_shapes_are_fixed_and_channels_last(bundle):
    manifest = bundle.manifest
    assert (manifest.prompts, manifest.points) == (FIXED_PROMPTS, FIXED_POINTS)
    assert manifest.layout is Layout.NHWC
    assert [spec.shape for spec in manifest.encoder_contract.inputs] == [(1, SIDE, SIDE, 3)]
    assert manifest.decoder_contract.inputs[0].shape == (1, GRID, GRID, 256)
    assert manifest.decoder_contract.outputs[0].shape == (1, 4, CELLS, CELLS)


def test_the_encoder_is_that_of_torch(bundle, torch_nano):
    image = (seeded_tensor("image", 1, 3, SIDE, SIDE) * 60 + 120).clamp(0, 255).numpy()
    assert error(load_backend(bundle).encode(image), torch_nano.encode(image)) <= BOUND


@pytest.mark.parametrize(
    "labels",
    [
        [Label.FOREGROUND, Label.PADDING],
        [Label.BOX_TOP_LEFT, Label.BOX_BOTTOM_RIGHT],
        [Label.FOREGROUND, Label.BACKGROUND, Label.BOX_TOP_LEFT, Label.BOX_BOTTOM_RIGHT],
        [Label.FOREGROUND, Label.BACKGROUND] * 4 + [Label.FOREGROUND, Label.PADDING],
    ],
    ids=["click", "box", "both", "full"],
)
@pytest.mark.parametrize("has_mask", [0.0, 1.0])
def test_a_decoder_with_empty_slots_is_the_variable_one_of_torch(bundle, torch_nano, labels, has_mask):
    used = len(labels)
    embeddings = seeded_tensor("embeddings", 1, 256, GRID, GRID).numpy()
    coords = seeded_tensor("coords", 1, FIXED_POINTS, 2).mul(60).add(128).clamp(0, SIDE).numpy()
    slots = np.full((1, FIXED_POINTS), float(Label.EMPTY), np.float32)
    slots[0, :used] = labels
    masks = seeded_tensor("mask", 1, 1, CELLS, CELLS).mul(4).numpy()
    has = np.array([has_mask], np.float32)
    found = load_backend(bundle).decode(embeddings, coords, slots, masks, has)
    expected = torch_nano.decode(embeddings, coords[:, :used], slots[:, :used], masks, has)
    for ours, theirs in zip(found, expected, strict=True):
        assert error(ours, theirs) <= BOUND


def test_a_predictor_answers_more_prompts_than_a_call_takes(bundle, torch_nano):
    photo = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    boxes = np.array([[10, 10, 60, 50], [40, 20, 150, 110], [0, 0, 159, 119]], np.float64)
    predictor = SamPredictor(bundle)
    unlimited = Bundle(bundle.root, bundle.manifest.of_any_capacity())
    reference = SamPredictor(unlimited, backend=torch_nano)
    answers = []
    for each in (predictor, reference):
        each.set_image(photo)
        answers.append(each.predict_batch(boxes=boxes, return_logits=True))
    for ours, theirs in zip(*answers, strict=True):
        assert len(ours) == 3
        assert error(ours, theirs) <= BOUND


def test_accelerators_have_its_operations(bundle):
    encoder, decoder = tflite.inspect(bundle.encoder_path), tflite.inspect(bundle.decoder_path)
    assert encoder["highest_rank"] <= 4
    assert decoder["highest_rank"] <= 4
    assert encoder["operations"]["DEPTHWISE_CONV_2D"] == 17  # MobileNetV2's blocks
    # XNNPACK has no nearest-neighbour enlargement; it copies 32 x 32 cells.
    assert encoder["not_in_xnnpack"] == {"RESIZE_NEAREST_NEIGHBOR": 1}
    assert decoder["not_in_xnnpack"] == {}
    assert encoder["not_in_gpu"] == decoder["not_in_gpu"] == encoder["not_in_nnapi"] == []
    assert decoder["not_in_nnapi"] == ["COS", "SQUARED_DIFFERENCE"]


def test_the_tables_say_what_is_missing():
    assert missing_from("gpu", ["ADD", "FILL", "BROADCAST_TO", "FILL"]) == ["BROADCAST_TO", "FILL"]
    assert missing_from("nnapi", ["ADD", "COS"]) == ["COS"]
    assert all("CONV_2D" in names for names in DELEGATES.values())


# What goes wrong ------------------------------------------------------------------------------------------------------


def test_a_free_axis_is_refused(tmp_path):
    free = GraphContract((TensorSpec("x", ("B", 64), ""),), (TensorSpec("y", ("B", 32), ""),))
    with pytest.raises(ExportError, match="no free axes, and graph has B: fix --points and --prompts"):
        tflite.export(OneLayer(), free, tmp_path / "graph.tflite")


def test_more_than_two_gigabytes_are_refused_beforehand(tmp_path):
    with torch.device("meta"):
        graph = nn.Linear(30_000, 20_000)
    with pytest.raises(ExportError, match=r"end at 2 GB and encoder has 2\.4 GB of weights: choose a smaller variant"):
        tflite.export(graph, CONTRACT, tmp_path / "encoder.tflite")


def test_a_converter_that_fails_leaves_one_line_and_no_file(tmp_path):
    with pytest.raises(ExportError, match="litert-torch failed on graph: the cause") as caught:
        tflite.export(Crashing().eval(), CONTRACT, tmp_path / "graph.tflite")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_output_of_another_shape_is_refused(tmp_path):
    with pytest.raises(ExportError, match=r"has \{'y': \(2, 31\)\}, the contract says \{'y': \(2, 32\)\}"):
        tflite.export(OneLayer(31).eval(), CONTRACT, tmp_path / "graph.tflite")


def test_the_converter_says_nothing(tmp_path, capfd):
    exporter_for("tflite").export(OneLayer().eval(), CONTRACT, tmp_path / "graph.tflite")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\x1c\0\0\0TFL3" + bytes(64)])
def test_a_file_that_is_no_model_is_refused(bundle, tmp_path, content):
    path = tmp_path / "encoder.tflite"
    path.write_bytes(content)
    with pytest.raises(ExportError, match=r"LiteRT rejects encoder\.tflite"):
        tflite.check(path, {tflite.ONLY: bundle.manifest.encoder_contract})
    damaged = Bundle(tmp_path, bundle.manifest)
    with pytest.raises((BundleError, BackendError), match=r"encoder\.tflite.*export it again"):
        load_backend(damaged).encode(np.zeros((1, 3, SIDE, SIDE), np.float32))


def test_a_file_of_another_contract_is_refused(bundle):
    wider = replace(bundle.manifest, points=12)
    with pytest.raises(
        BundleError, match=r"input 'point_coords' of .* is float32 \(1, 10, 2\), where the contract has"
    ):
        load_backend(Bundle(bundle.root, wider)).decode(*(np.zeros(0, np.float32) for _ in range(5)))


def test_arrays_of_another_shape_are_refused(bundle):
    with pytest.raises(BackendError, match=r"takes image of shape \(1, 256, 256, 3\), not \(1, 512, 512, 3\)"):
        load_backend(bundle).encode(np.zeros((1, 3, 512, 512), np.float32))


def test_an_accelerator_that_python_does_not_reach_is_refused(bundle):
    with pytest.raises(BackendError, match="provider 'gpu' is not in LiteRT's Python package"):
        load_backend(bundle, BackendOptions(provider="gpu"))
    load_backend(bundle, BackendOptions(threads=1, provider="XNNPACK"))


def test_without_an_engine_the_extra_is_named(bundle, monkeypatch):
    monkeypatch.setattr(backend, "ENGINES", ("no_such_engine", "nor_this_one"))
    with pytest.raises(BackendError, match=r"no_such_engine.*pip install \"sam-edge\[tflite\]\""):
        load_backend(bundle)


def test_a_manifest_without_a_layout_is_nchw(bundle):
    old = replace(bundle.manifest, layout=Layout.NCHW)
    body = old._body()
    del body["layout"]
    from sam_edge_runtime import manifest as module

    text = module.json.dumps({"digest": module._digest(body), **body})
    assert Manifest.from_json(text) == old
