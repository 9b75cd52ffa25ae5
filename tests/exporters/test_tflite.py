"""TFLite files: torch's outputs, the contract's tensors, and the operations that delegates lack."""

from __future__ import annotations

import copy
import json
from collections import Counter
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ai_edge_litert.interpreter import Interpreter
from torch import nn

from sam_edge.cli.app import run
from sam_edge.export.context import FIXED_POINTS
from sam_edge.export.job import ExportJob
from sam_edge.export.pipeline import ExportResult, export_bundle
from sam_edge.model import EncoderGraph, Sam, image_encoder
from sam_edge.model.image_encoder import ImageEncoderViT
from sam_edge.verification.compare import compare_photo
from sam_edge_exporters import Conversion, exporter_for, tflite
from sam_edge_exporters.delegates import DELEGATES, missing_from, notes
from sam_edge_exporters.tflite_fp16 import halve_weights
from sam_edge_runtime import SamPredictor
from sam_edge_runtime.agreement import golden
from sam_edge_runtime.agreement.agreement import bounds_for
from sam_edge_runtime.agreement.metrics import snr_db
from sam_edge_runtime.arrays import Decoded
from sam_edge_runtime.backends import Backend, BackendOptions, load_backend
from sam_edge_runtime.backends import tflite as backend
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.contract import FrameSize, GraphContract, Label, Layout, TensorSpec, encoder_contract
from sam_edge_runtime.bundle.document import digest_of
from sam_edge_runtime.bundle.manifest import Manifest
from sam_edge_runtime.bundle.targets import Engine
from sam_edge_runtime.decoding import decode_prompts
from sam_edge_runtime.errors import BackendError, BundleError, ExportError, UsageError
from sam_edge_runtime.prompts import Prompts
from tests.exporters.layers import Crashing, OneLayer
from tests.model.builders import BOUND, NARROW, error, seed, seeded_tensor

ENCODER_ALONE = {tflite.ONLY: encoder_contract(FrameSize.square(256), 256, Layout.NHWC)}
SIDE, GRID, CELLS = 256, 16, 64
DECODER_BYTES = 3_109_136  # of nano's weights and constants at this side, in fp32
CONTRACT = GraphContract((TensorSpec("x", (2, 64), ""),), (TensorSpec("y", (2, 32), ""),))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> ExportResult:
    """nano as a TFLite bundle whose decoder takes one prompt or eight, with the default number of slots."""
    out = tmp_path_factory.mktemp("tflite") / "nano"
    return export_bundle(ExportJob("nano", out, target="tflite", input_side=SIDE, prompts=(8, 1)))


@pytest.fixture(scope="module")
def bundle(made) -> Bundle:
    return Bundle.open(made.bundle.root)


# The bundle -----------------------------------------------------------------------------------------------------------


def test_the_bundle_keeps_the_bounds_of_fp32(made):
    assert made.missed == ()
    assert made.agreement.embedding_snr_db > 100
    assert len(made.agreement.prompts) > 10


def test_shapes_are_fixed_and_channels_last(bundle):
    manifest = bundle.manifest
    assert (manifest.prompts, manifest.points, manifest.batches) == (8, FIXED_POINTS, (1, 8))
    assert manifest.layout is Layout.NHWC
    assert [spec.shape for spec in manifest.encoder_contract.inputs] == [(1, SIDE, SIDE, 3)]
    assert manifest.decoder_contract.inputs[0].shape == (1, GRID, GRID, 256)
    assert manifest.decoder_contract.outputs[0].shape == (8, 4, CELLS, CELLS)


def test_the_encoder_computes_the_same_as_torch(bundle, torch_nano):
    image = (seeded_tensor("image", 1, 3, SIDE, SIDE) * 60 + 120).clamp(0, 255).numpy()
    assert error(*load_backend(bundle).encode(image), *torch_nano.encode(image)) <= BOUND


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
@pytest.mark.parametrize("size", [1, 8])
def test_a_decoder_with_empty_slots_equals_torchs_variable_one(bundle, torch_nano, labels, has_mask, size):
    used = len(labels)
    features, coords, slots, masks, has = _decoder_inputs(size)
    slots[:, :used] = labels
    slots[:, used:] = float(Label.EMPTY)
    has[:] = has_mask
    found = load_backend(bundle).decode(features, coords, slots, masks, has)
    expected = torch_nano.decode(features, coords[:, :used], slots[:, :used], masks, has)
    for ours, theirs in zip(found[:2], expected[:2], strict=True):
        assert error(ours, theirs) <= BOUND


def _decoder_inputs(size: int) -> tuple[Any, ...]:
    """The decoder's inputs, features first, for `size` different prompts of one click each."""
    slots = np.full((size, FIXED_POINTS), float(Label.EMPTY), np.float32)
    slots[:, :2] = [Label.FOREGROUND, Label.PADDING]
    return (
        (seeded_tensor("embeddings", 1, 256, GRID, GRID).numpy(),),
        seeded_tensor("coords", size, FIXED_POINTS, 2).mul(60).add(128).clamp(0, SIDE).numpy(),
        slots,
        seeded_tensor("mask", size, 1, CELLS, CELLS).mul(4).numpy(),
        np.arange(size, dtype=np.float32) % 2,
    )


def test_both_capacities_share_the_weights(bundle):
    """A second copy would add 3.1 MB."""
    assert bundle.decoder_path.stat().st_size < 1.25 * DECODER_BYTES


def test_the_golden_test_covers_both_capacities(made, bundle):
    """It runs each with all rows in use: a fault in any row of the larger one is found."""
    calls = Counter(prompt.prompt.rpartition(", ")[2] for _, prompt in made.agreement.prompts)
    assert calls == {"in calls of 1": 2 * 7, "in calls of 8": 2 * 16}
    expected = golden.Golden.load(bundle.golden_path, bundle.manifest)
    for size, row in ((1, 0), (8, 0), (8, 7)):
        agreement = golden.check(expected, _Faulty(load_backend(bundle), size, row), bundle.manifest)
        assert agreement.missed(bounds_for("tflite", "fp32"))
        assert f"in calls of {size}" in agreement.worst[1].prompt


def test_verification_covers_both_capacities(bundle, torch_nano):
    photo = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    sound = load_backend(bundle)
    for engine, faulty in ((sound, set()), (_Faulty(sound, 1, 0), {"1"}), (_Faulty(sound, 8, 3), {"8"})):
        agreement = compare_photo("noise", photo, torch_nano, engine, bundle.manifest).agreement
        names = [prompt.prompt.rpartition(", in calls of ") for prompt in agreement.prompts]
        assert Counter(size for *_, size in names) == {"1": len(names) // 2, "8": len(names) // 2}
        low = {prompt.prompt[-1] for prompt in agreement.prompts if min(prompt.mask_iou) < 0.9}
        assert low == faulty


def test_info_names_the_signatures(bundle, capsys):
    assert run(["info", str(bundle.root)]) == 0
    assert "1 or 8 (signatures prompts_1, prompts_8)" in capsys.readouterr().out


class _Faulty:
    """Inverts the masks in one row of calls of one size."""

    engine = "faulty"

    def __init__(self, backend: Backend, size: int, row: int) -> None:
        self.encode, self._backend, self._fault = backend.encode, backend, (size, row)

    def decode(self, features, point_coords, *others):
        masks, scores, _ = self._backend.decode(features, point_coords, *others)
        size, row = self._fault
        if len(point_coords) == size:
            masks[row] *= -1
        return Decoded(masks, scores)


@pytest.mark.parametrize(("count", "calls"), [(1, [1]), (3, [1, 1, 1]), (4, [8]), (11, [8, 1, 1, 1]), (20, [8, 8, 8])])
def test_calls_have_the_capacities_that_suit_the_prompts(bundle, torch_nano, count, calls):
    features, coords, slots, masks, _ = _decoder_inputs(count)
    prompts = Prompts(coords, slots, masks, FrameSize.square(SIDE))
    backend = _Counting(load_backend(bundle))
    found = decode_prompts(backend, bundle.manifest, features, prompts)
    assert backend.calls == calls
    expected = decode_prompts(torch_nano, bundle.manifest.of_any_capacity(), features, prompts)
    for ours, theirs in zip(found[:2], expected[:2], strict=True):
        assert error(ours, theirs) <= BOUND


class _Counting:
    """Records the number of prompts of each call."""

    def __init__(self, backend: Backend) -> None:
        self.engine, self.encode, self._backend = backend.engine, backend.encode, backend
        self.calls: list[int] = []

    def decode(self, features, point_coords, *others):
        self.calls.append(len(point_coords))
        return self._backend.decode(features, point_coords, *others)


def test_a_predictor_takes_more_prompts_than_a_call_does(bundle, torch_nano):
    photo = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    boxes = np.array([[10, 10, 60, 50], [40, 20, 150, 110], [0, 0, 159, 119]], np.float64)
    predictor = SamPredictor(bundle)
    unlimited = Bundle(bundle.root, bundle.manifest.of_any_capacity())
    reference = SamPredictor(unlimited, backend=torch_nano)
    outputs = []
    for each in (predictor, reference):
        each.set_image(photo)
        outputs.append(each.predict_batch(boxes=boxes, return_logits=True))
    for ours, theirs in zip(*outputs, strict=True):
        assert len(ours) == 3
        assert error(ours, theirs) <= BOUND


# Weights in float16 ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def halved(bundle, tmp_path_factory) -> Bundle:
    """The same bundle with its weights in float16."""
    folder = tmp_path_factory.mktemp("halved")
    for path in (bundle.encoder_path, bundle.decoder_path):
        halve_weights(path, folder / path.name)
    return Bundle(folder, bundle.manifest)


def test_the_quantizer_prints_nothing(bundle, tmp_path, capfd):
    halve_weights(bundle.decoder_path, tmp_path / "decoder.tflite")
    assert capfd.readouterr() == ("", "")


def test_weights_in_float16_take_half_the_bytes(bundle, halved):
    assert halved.encoder_path.stat().st_size < 0.56 * bundle.encoder_path.stat().st_size
    # Each capacity has its own operations, which stay as they are.
    saved = bundle.decoder_path.stat().st_size - halved.decoder_path.stat().st_size
    assert saved > 0.4 * DECODER_BYTES
    for path in (halved.encoder_path, halved.decoder_path):
        tflite.check(path, halved.manifest.decoder_signatures if path == halved.decoder_path else ENCODER_ALONE)
        found = tflite.inspect(path)
        assert found["operations"]["DEQUANTIZE"] > 40
        assert "DEQUANTIZE" not in found["not_in_xnnpack"]
        assert found["not_in_gpu"] == []


def test_weights_in_float16_compute_nearly_the_same_as_torch(bundle, halved, torch_nano):
    expected = golden.Golden.load(bundle.golden_path, bundle.manifest)
    agreement = golden.check(expected, load_backend(halved), halved.manifest)
    assert agreement.mask_miou > 0.99
    assert agreement.embedding_snr_db > 50
    assert agreement.logit_snr_db > 45
    assert agreement.iou_prediction_error < 5e-3
    image = (seeded_tensor("image", 1, 3, SIDE, SIDE) * 60 + 120).clamp(0, 255).numpy()
    assert snr_db(*torch_nano.encode(image), *load_backend(halved).encode(image)) > 50


def test_a_graph_is_exported_with_weights_in_float16(tmp_path, capfd):
    graph, path = OneLayer().eval(), tmp_path / "graph.tflite"
    exporter_for("tflite").export(graph, CONTRACT, path, Conversion("fp16"))
    assert capfd.readouterr() == ("", "")
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    x = seeded_tensor("x", 2, 64)
    found = Interpreter(str(path)).get_signature_runner()(x=x.numpy())["y"]
    rounded = copy.deepcopy(graph)
    graph.requires_grad_(requires_grad=False)
    rounded.requires_grad_(requires_grad=False)
    rounded.layer.weight.data = graph.layer.weight.half().float()
    assert error(found, rounded(x)) <= 1e-6
    assert 1e-5 < error(found, graph(x)) < 1e-3


def test_an_unknown_precision_is_refused(tmp_path):
    with pytest.raises(ExportError, match="no precision 'bf16': choose one of fp32, fp16"):
        tflite.export(OneLayer(), CONTRACT, tmp_path / "graph.tflite", "bf16")


# Delegates ------------------------------------------------------------------------------------------------------------


def test_delegates_have_the_bundles_operations(bundle):
    encoder, decoder = tflite.inspect(bundle.encoder_path), tflite.inspect(bundle.decoder_path)
    assert encoder["highest_rank"] <= 4
    assert decoder["highest_rank"] <= 4
    assert encoder["operations"]["DEPTHWISE_CONV_2D"] == 17  # MobileNetV2's blocks
    # XNNPACK has no nearest-neighbour enlargement; it copies 32 x 32 cells.
    assert encoder["not_in_xnnpack"] == {"RESIZE_NEAREST_NEIGHBOR": 1}
    assert decoder["not_in_xnnpack"] == {}
    assert encoder["not_in_gpu"] == decoder["not_in_gpu"] == encoder["not_in_nnapi"] == []
    assert decoder["not_in_nnapi"] == ["COS"]
    assert [line.partition(" has ")[0] for line in encoder["notes"]] == ["RESIZE_NEAREST_NEIGHBOR: XNNPACK"]
    assert [line.partition(" has ")[0] for line in decoder["notes"]] == ["COS: NNAPI"]


@pytest.mark.slow
def test_a_vit_computes_the_same_as_torch(tmp_path, monkeypatch):
    """Two blocks, one with windows and one global, with queries in blocks: TFLite has all operations."""
    monkeypatch.setattr(image_encoder, "QUERY_BLOCK", 60)
    sam = Sam(ImageEncoderViT(NARROW)).eval()
    seed(sam)
    sam.set_input_side(SIDE)
    graph, path = EncoderGraph(sam.requires_grad_(requires_grad=False), Layout.NHWC).eval(), tmp_path / "vit.tflite"
    tflite.export(graph, encoder_contract(FrameSize.square(SIDE), 256, Layout.NHWC), path)
    image = (seeded_tensor("image", 1, SIDE, SIDE, 3) * 60 + 120).clamp(0, 255)
    runner = Interpreter(str(path)).get_signature_runner()
    assert error(runner(image=image.numpy())["image_embeddings"], graph(image)) <= BOUND
    found = tflite.inspect(path)
    assert found["highest_rank"] <= 4
    assert found["not_in_xnnpack"] == {}
    assert found["not_in_gpu"] == []
    # Two for the biases and two for each block of queries, 196 in a window and 256 globally: litert-torch would
    # otherwise join the blocks into one product.
    assert found["operations"]["BATCH_MATMUL"] == (2 + 2 * 4) + (2 + 2 * 5)


def test_the_gpu_delegate_computes_gelu_differently():
    """As the note says, the tanh form is up to 5e-4 away from the exact one."""
    x = torch.linspace(-6, 6, 100_001, dtype=torch.float64)
    difference = (F.gelu(x, approximate="tanh") - F.gelu(x)).abs().max()
    assert 4e-4 < float(difference) < 5e-4
    assert any("GELU: the GPU delegate computes the tanh form, up to 5e-4" in line for line in notes(["GELU"], []))


def test_missing_operations_are_read_off_the_tables():
    assert missing_from("gpu", ["ADD", "FILL", "BROADCAST_TO", "FILL"]) == ["BROADCAST_TO", "FILL"]
    assert missing_from("nnapi", ["ADD", "COS"]) == ["COS"]
    assert all("CONV_2D" in names for names in DELEGATES.values())


# Errors ---------------------------------------------------------------------------------------------------------------


def test_a_free_axis_is_refused(tmp_path):
    free = GraphContract((TensorSpec("x", ("B", 64), ""),), (TensorSpec("y", ("B", 32), ""),))
    with pytest.raises(ExportError, match="no free axes, and graph has B: fix --points and --prompts"):
        tflite.export(OneLayer(), free, tmp_path / "graph.tflite")


def test_more_than_two_gigabytes_are_refused_before_conversion(tmp_path):
    with torch.device("meta"):
        graph, twice = nn.Linear(30_000, 20_000), nn.Linear(60_000, 20_000)
    with pytest.raises(ExportError, match=r"2\.4 GB of weights in fp32: choose --precision fp16 \(1\.2 GB\), a"):
        tflite.export(graph, CONTRACT, tmp_path / "encoder.tflite")
    with pytest.raises(ExportError, match=r"has 2\.4 GB of weights in fp16: choose a smaller variant or --target"):
        tflite.export(twice, CONTRACT, tmp_path / "encoder.tflite", "fp16")
    assert tflite.refusal(graph, "encoder", "fp16") is None


def test_a_model_that_is_too_large_is_refused_before_its_weights_are_read(tmp_path):
    (tmp_path / "never_read.pth").write_bytes(b"no weights at all")
    job = ExportJob("vit_h", tmp_path / "out", str(tmp_path / "never_read.pth"), target="tflite")
    with pytest.raises(ExportError, match=r"encoder has 2\.5 GB of weights in fp32: choose --precision"):
        export_bundle(job)
    assert not (tmp_path / "out").exists()


def test_the_engine_is_named_with_its_version(made, bundle):
    assert made.engine == load_backend(bundle).engine == f"LiteRT {version('ai-edge-litert')}"


@pytest.mark.parametrize("target", ["onnx", "coreml"])
def test_several_capacities_are_for_tflite(tmp_path, target):
    with pytest.raises(UsageError, match=f"--prompts 1,8 needs a signature.*use one number for --target {target}"):
        ExportJob("nano", tmp_path, target=target, prompts=(1, 8))


def test_a_decoder_that_lacks_a_capacity_is_refused(bundle):
    other = replace(bundle.manifest, batches=(1, 4, 8))
    with pytest.raises((BundleError, BackendError), match=r"decoder\.tflite.*prompts_4.*export it again"):
        load_backend(Bundle(bundle.root, other)).decode(*_decoder_inputs(1))


def test_a_number_of_prompts_without_a_signature_is_refused(bundle):
    with pytest.raises(BackendError, match=r"point_coords of shape \(1, 10, 2\) or \(8, 10, 2\), not \(3, 10, 2\)"):
        load_backend(bundle).decode(*_decoder_inputs(3))
    one, eight = _decoder_inputs(1), _decoder_inputs(8)
    with pytest.raises(BackendError, match="no signature for inputs of shapes"):
        load_backend(bundle).decode(*one[:3], *eight[3:])


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("kept", [0.0001, 0.001, 0.03, 0.5, 0.99, -1000, -64, -1])
def test_a_file_that_lost_its_end_is_refused(bundle, halved, tmp_path, precision, kept):
    """Before an engine sees it: tflite-runtime would crash."""
    whole = (bundle if precision == "fp32" else halved).encoder_path.read_bytes()
    (tmp_path / "encoder.tflite").write_bytes(whole[: int(kept * len(whole)) if kept > 0 else kept])
    with pytest.raises(BundleError, match=r"encoder\.tflite' is truncated.*export it again"):
        load_backend(Bundle(tmp_path, bundle.manifest)).encode(np.zeros((1, 3, SIDE, SIDE), np.float32))


def test_a_converter_that_fails_leaves_one_line_and_no_file(tmp_path):
    with pytest.raises(ExportError, match="litert-torch failed on graph: the cause") as caught:
        tflite.export(Crashing().eval(), CONTRACT, tmp_path / "graph.tflite")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_output_of_another_shape_is_refused(tmp_path):
    with pytest.raises(ExportError, match=r"has \{'y': \(2, 31\)\}, the contract has \{'y': \(2, 32\)\}"):
        tflite.export(OneLayer(31).eval(), CONTRACT, tmp_path / "graph.tflite")


def test_the_converter_prints_nothing(tmp_path, capfd):
    exporter_for("tflite").export(OneLayer().eval(), CONTRACT, tmp_path / "graph.tflite", Conversion())
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
        load_backend(Bundle(bundle.root, wider)).decode(
            (np.zeros((1, 1, 1, 1), np.float32),), *(np.zeros(0, np.float32) for _ in range(4))
        )


def test_arrays_of_another_shape_are_refused(bundle):
    with pytest.raises(BackendError, match=r"takes image of shape \(1, 256, 256, 3\), not \(1, 512, 512, 3\)"):
        load_backend(bundle).encode(np.zeros((1, 3, 512, 512), np.float32))


def test_an_accelerator_that_python_does_not_reach_is_refused(bundle):
    with pytest.raises(BackendError, match="provider 'gpu' is not in LiteRT's Python package"):
        load_backend(bundle, BackendOptions(provider="gpu"))
    load_backend(bundle, BackendOptions(threads=1, provider="XNNPACK"))


def test_without_an_engine_the_extra_is_named(bundle, monkeypatch):
    absent = (Engine("A", "no_such_engine", "a"), Engine("B", "nor_this_one", "b"))
    monkeypatch.setattr(backend, "TARGET", replace(backend.TARGET, engines=absent))
    with pytest.raises(BackendError, match=r"no_such_engine.*pip install \"sam-edge\[tflite\]\""):
        load_backend(bundle)


@pytest.mark.skipif(np.__version__.startswith("1."), reason="numpy 1 is what tflite-runtime needs")
def test_tflite_runtime_beside_numpy_2_is_refused(bundle, monkeypatch):
    monkeypatch.setattr(backend, "PREDECESSOR", "ai-edge-litert")
    with pytest.raises(BackendError, match=r"works with numpy 1 only, and this is numpy 2.*pip install 'numpy<2', or"):
        load_backend(bundle)


def test_a_manifest_without_a_layout_is_nchw(bundle):
    old = replace(bundle.manifest, layout=Layout.NCHW)
    body = old._body()
    del body["layout"]
    text = json.dumps({"digest": digest_of(body), **body})
    assert Manifest.from_json(text) == old
