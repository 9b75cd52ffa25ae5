"""Models of other families than SAM 1's in every target: their further features, scores and choices of masks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sam_edge.export.job import ExportJob
from sam_edge.export.pipeline import export_bundle
from sam_edge.model import build_sam
from sam_edge.model.feature_pyramid import PyramidImageEncoder
from sam_edge.model.forms import graphs_of
from sam_edge.model.graphs import in_encoder_graph
from sam_edge.model.hiera import Hiera, HieraConfig
from sam_edge.model.sam import Sam
from sam_edge.model.sam2_mask_decoder import SAM2MaskDecoder
from sam_edge.model.torch_backend import TorchBackend
from sam_edge.prediction.calls import decoder_call
from sam_edge.quantization.equalization.observe import observe_layers, sam_runs
from sam_edge.weights.families import build_empty
from sam_edge_exporters import Conversion, exporter_for
from sam_edge_runtime import SamPredictor
from sam_edge_runtime.agreement.agreement import bounds_of
from sam_edge_runtime.backends import load_backend
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.contract import FrameSize, Label
from sam_edge_runtime.bundle.conventions import SAM_2
from sam_edge_runtime.bundle.targets import target_named
from sam_edge_runtime.errors import UsageError
from tests.model.builders import BOUND, error, seed, seeded_tensor
from tests.runtime.standin import manifest

SIDE = 256
NARROW = HieraConfig(8, 1, (1, 1, 2, 1), (8, 4, 14, 7), (3,))
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def sam() -> Sam:
    sam = Sam(PyramidImageEncoder(Hiera(NARROW)), mask_decoder=SAM2MaskDecoder(), conventions=SAM_2).eval()
    seed(sam)
    sam.set_input_side(SIDE)
    return sam


def written(sam: Sam, folder: Path, target: str) -> Bundle:
    """The two graphs of a model, for two prompts of four slots."""
    facts = target_named(target)
    about = manifest(
        2,
        4,
        target=target,
        layout=facts.layout,
        embedding_channels=256,
        conventions=sam.conventions,
        encoder=f"encoder{facts.suffix}",
        decoder=f"decoder{facts.suffix}",
    )
    graphs, exporter = graphs_of(sam, about), exporter_for(target)
    exporter.export(graphs.encoder, about.encoder_contract, folder / about.encoder, Conversion())
    exporter.export(graphs.decoder, about.decoder_contract, folder / about.decoder, Conversion())
    return Bundle(folder, about)


@pytest.mark.parametrize("target", ["onnx", pytest.param("coreml", marks=slow), pytest.param("tflite", marks=slow)])
def test_features_masks_and_object_scores_are_torch_s(sam, tmp_path, target):
    ours, theirs = load_backend(written(sam, tmp_path, target)), TorchBackend(sam)
    image = (seeded_tensor("image", 1, 3, SIDE, SIDE) * 60 + 120).clamp(0, 255).numpy()
    features = theirs.encode(image)
    assert [each.shape for each in features] == [(1, 256, 16, 16), (1, 32, 64, 64), (1, 64, 32, 32)]
    for found, wanted in zip(ours.encode(image), features, strict=True):
        assert error(found, wanted) <= BOUND
    coords = seeded_tensor("coords", 2, 4, 2).mul(60).add(128).clamp(0, SIDE).numpy()
    empty = float(Label.EMPTY)
    labels = np.array([[1, 0, -1, empty], [2, 3, empty, empty]], np.float32)
    prompts = (coords, labels, seeded_tensor("mask", 2, 1, 64, 64).mul(4).numpy(), np.array([0, 1], np.float32))
    found, wanted = ours.decode(features, *prompts), theirs.decode(features, *prompts)
    assert found.object_scores.shape == (2, 1)
    for one, other in zip(found, wanted, strict=True):
        assert error(one, other) <= BOUND


@torch.inference_mode()
def test_a_box_ends_with_a_padding_point_inside_the_graph(sam):
    """Whether the caller adds it, as SAM 2's predictor does, or not."""
    backend = TorchBackend(sam)
    features = backend.encode(np.full((1, 3, SIDE, SIDE), 100, np.float32))
    rest = (np.zeros((1, 1, 64, 64), np.float32), np.zeros(1, np.float32))
    corners = [[30.0, 40.0], [200.0, 180.0]]
    given = backend.decode(features, np.array([corners], np.float32), np.array([[2, 3]], np.float32), *rest)
    padded = SAM2MaskDecoder.pads_boxes
    try:
        SAM2MaskDecoder.pads_boxes = False
        plain = TorchBackend(sam)
        coords, labels = np.array([[*corners, [0, 0]]], np.float32), np.array([[2, 3, -1]], np.float32)
        expected = plain.decode(features, coords, labels, *rest)
        without = plain.decode(features, coords[:, :2], labels[:, :2], *rest)
    finally:
        SAM2MaskDecoder.pads_boxes = padded
    for found, wanted in zip(given, expected, strict=True):
        assert error(found, wanted) <= BOUND
    assert error(given.low_res_masks, without.low_res_masks) > 10 * BOUND


@torch.inference_mode()
def test_calibration_reads_the_layers_of_both_graphs(sam):
    """Those of the decoder that depend on the photo alone are called once a photo."""
    layers = {"mask_decoder.conv_s0": [], "mask_decoder.pred_obj_score_head.layers.0": []}
    inputs = {sam.get_submodule(name): calls.append for name, calls in layers.items()}
    features = TorchBackend(sam).encode(np.full((1, 3, SIDE, SIDE), 100, np.float32))
    prompts = (
        np.full((2, 1, 2), 90, np.float32),
        np.ones((2, 1), np.float32),
        np.zeros((2, 1, 64, 64), np.float32),
        np.zeros(2, np.float32),
    )
    about = manifest(embedding_channels=256, conventions=SAM_2)
    photo = {"image": np.full((1, 3, SIDE, SIDE), 100, np.float32)}
    observe_layers(sam, sam_runs(sam, [photo], [decoder_call(features, prompts, about)]), inputs)
    assert {name: [tuple(each.shape) for each in calls] for name, calls in layers.items()} == {
        "mask_decoder.conv_s0": [(1, 256, 64, 64)],
        "mask_decoder.pred_obj_score_head.layers.0": [(2, 256)],
    }
    assert [in_encoder_graph(name) for name in layers] == [True, False]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"frames": ("4:3",)}, "--frame 4:3: edgetam stretches every photo to a square"),
        ({"layout": "official"}, "--layout official takes models whose image encoder returns the embedding alone"),
        ({"hq_token_only": True}, "--hq-token-only is for SAM-HQ's models"),
        ({"variant": "sam2.1_hiera_tiny", "target": "coreml", "graph": "ane"}, "--graph ane has no form of the"),
        ({"variant": "efficient_sam_vitt", "frames": ("4:3",)}, "efficient_sam_vitt stretches every photo"),
        ({"variant": "efficient_sam_vitt", "points": 4}, "--points 4: each prompt of efficient_sam_vitt has 6 slots"),
        ({"variant": "efficient_sam_vitt", "layout": "official"}, "--layout official takes models with mask prompts"),
        (
            {"variant": "efficientvit_sam_l0", "frames": ("7:5",)},
            "--frame 1024x736: .* multiples of 64 .*: use 1024x768",
        ),
        ({"variant": "efficientvit_sam_l0", "layout": "official"}, "whose image has the frame's size"),
    ],
)
def test_what_a_family_cannot_have_is_refused_before_weights_are_read(tmp_path, changes, reason):
    with pytest.raises(UsageError, match=reason):
        export_bundle(ExportJob(**{"variant": "edgetam", "out": tmp_path / "out", "checkpoint": "random:0", **changes}))
    assert not list(tmp_path.iterdir())


@slow
@pytest.mark.parametrize("target", ["onnx", "coreml", "tflite"])
@pytest.mark.parametrize(
    "variant", ["sam2.1_hiera_tiny", "edgetam", "light_hq", "efficient_sam_vitt", "repvit_sam", "efficientvit_sam_l0"]
)
def test_bundles_keep_their_bounds_and_open_again(tmp_path, variant, target):
    result = export_bundle(ExportJob(variant, tmp_path / "out", "random:0", target=target, input_side=SIDE))
    assert result.missed == ()
    bundle = Bundle.open(tmp_path / "out")
    assert bundle.manifest.conventions == build_empty(lambda: build_sam(variant)).conventions
    predictor = SamPredictor(bundle)
    predictor.set_image(np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8))
    masks, scores, low_res = predictor.predict([[80, 60]], [1])
    count = 1 if variant == "light_hq" else 3
    assert (masks.shape, scores.shape, low_res.shape) == ((count, 120, 160), (count,), (count, 64, 64))
    assert (predictor.object_scores is None) == (variant not in {"sam2.1_hiera_tiny", "edgetam"})


@slow
@pytest.mark.parametrize("precision", ["fp16", "w8", "w8a8"])
@pytest.mark.parametrize("target", ["onnx", "coreml", "tflite"])
@pytest.mark.parametrize("variant", ["edgetam", "efficient_sam_vitt"])
def test_every_precision_keeps_the_features(tmp_path, variant, target, precision):
    """Random weights show faults of structure; how many masks INT8 keeps, only trained ones can."""
    result = export_bundle(
        ExportJob(variant, tmp_path / "out", "random:0", target=target, precision=precision, input_side=SIDE, photos=4)
    )
    bounds = bounds_of(result.bundle.manifest)
    assert result.agreement.embedding_snr_db >= bounds.embedding_snr_db
    assert result.agreement.iou_prediction_error <= bounds.iou_prediction_error


@slow
def test_the_hq_mask_alone_is_verified_against_the_hq_mask_alone(tmp_path):
    job = ExportJob("light_hq", tmp_path / "both", "random:0", input_side=SIDE)
    both = export_bundle(job)
    alone = export_bundle(replace(job, out=tmp_path / "alone", hq_token_only=True, frames=("square", "4:3")))
    assert both.missed == alone.missed == ()
    assert alone.bundle.manifest.conventions.hq_token_only
    backend = load_backend(alone.bundle)
    features = backend.encode(np.full((1, 3, *FrameSize(192, 256)), 90, np.float32))
    prompt = (np.full((1, 1, 2), 90, np.float32), np.ones((1, 1), np.float32))
    masks = backend.decode(
        features, *prompt, np.zeros((1, 1, 48, 64), np.float32), np.zeros(1, np.float32)
    ).low_res_masks
    np.testing.assert_array_equal(masks[:, 1:], masks[:, :1].repeat(3, axis=1))
