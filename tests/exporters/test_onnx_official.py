"""Bundles with `--layout official`: tensors and numbers of segment_anything's own ONNX decoder, fed as others feed it.

The reference is `SamOnnxModel` in torch, with the same seeded weights at 256 pixels.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from sam_edge.cli.app import run as command
from sam_edge.devices.work import works_of
from sam_edge.export.job import ExportJob
from sam_edge.model import graphs_of
from sam_edge.model.image_encoder import ImageEncoderViT
from sam_edge.model.sam import Sam
from sam_edge_exporters import onnx as onnx_exporter
from sam_edge_exporters.onnx_official import rewrite
from sam_edge_runtime import Bundle, SamPredictor
from sam_edge_runtime.backends import load_backend
from sam_edge_runtime.bundle.bundle import record_files
from sam_edge_runtime.bundle.document import FILE_NAME
from sam_edge_runtime.bundle.manifest import Manifest
from sam_edge_runtime.bundle.official import OFFICIAL, OFFICIAL_SINGLE_MASK
from sam_edge_runtime.errors import BackendError, BundleError, UsageError
from tests.exporters.sessions import session
from tests.model.builders import NARROW, error, seed
from tests.reference import import_segment_anything
from tests.runtime.standin import manifest

SIDE, CHANNELS, CELLS = 256, 256, 64
BOUND = 1e-3  # of the tensor's scale
SIZES = [(480, 640), (301, 97), (97, 301), (256, 256), (90, 90)]  # (H, W)


@pytest.fixture(scope="module")
def sam() -> Sam:
    ours = Sam(ImageEncoderViT(NARROW)).eval()
    seed(ours)
    ours.set_input_side(SIDE)
    return ours


@pytest.fixture(scope="module")
def reference(sam):
    """segment_anything's Sam around the same encoder."""
    modeling = import_segment_anything().modeling
    encoder = sam.image_encoder
    encoder.img_size = SIDE  # what the reference reads of it
    theirs = modeling.Sam(
        encoder,
        modeling.PromptEncoder(CHANNELS, (SIDE // 16, SIDE // 16), (SIDE, SIDE), mask_in_chans=16),
        modeling.MaskDecoder(
            transformer_dim=CHANNELS,
            transformer=modeling.TwoWayTransformer(depth=2, embedding_dim=CHANNELS, mlp_dim=2048, num_heads=8),
        ),
        [123.675, 116.28, 103.53],
        [58.395, 57.12, 57.375],
    ).eval()
    theirs.prompt_encoder.load_state_dict(sam.prompt_encoder.state_dict(), strict=True)
    theirs.mask_decoder.load_state_dict(sam.mask_decoder.state_dict(), strict=True)
    return theirs


@pytest.fixture(scope="module")
def plain(sam, tmp_path_factory) -> tuple[Path, Manifest]:
    """Both graphs in sam-edge's own layout."""
    folder = tmp_path_factory.mktemp("plain")
    described = manifest(1, None, input_side=SIDE, embedding_channels=CHANNELS)
    graphs = graphs_of(sam, described)
    onnx_exporter.export(graphs.encoder, described.encoder_contract, folder / described.encoder)
    onnx_exporter.export(graphs.decoder, described.decoder_contract, folder / described.decoder)
    return folder, described


def official(plain: tuple[Path, Manifest], folder: Path, *, single_mask: bool) -> Bundle:
    source, described = plain
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    described = rewrite(folder, described, single_mask=single_mask)
    described = replace(described, files=record_files(folder))
    (folder / FILE_NAME).write_text(described.to_json(), encoding="utf-8")
    return Bundle.open(folder)


@pytest.fixture(scope="module")
def four_masks(plain, tmp_path_factory) -> Bundle:
    return official(plain, tmp_path_factory.mktemp("four"), single_mask=False)


@pytest.fixture(scope="module")
def one_mask(plain, tmp_path_factory) -> Bundle:
    return official(plain, tmp_path_factory.mktemp("one"), single_mask=True)


def photo(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(size[0]).integers(0, 256, (*size, 3), np.uint8)


def resized(pixels: np.ndarray) -> np.ndarray:
    """The photo as AnyLabeling and samexporter resize it for the encoder, (h, w, 3) float32."""
    height, width = import_segment_anything().utils.transforms.ResizeLongestSide.get_preprocess_shape(
        *pixels.shape[:2], SIDE
    )
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)).astype(np.float32)


def feed(points: int, size: tuple[int, int], *, mask: bool) -> dict[str, np.ndarray]:
    """The six inputs of the official decoder, by the official names."""
    rng = np.random.default_rng(points)
    labels = [[1.0], [1, -1], [2, 3], [0, 2, 3, -1], [1, 0, 1, 0, -1]][points - 1 if points < 5 else 4]
    return {
        "image_embeddings": rng.standard_normal((1, CHANNELS, SIDE // 16, SIDE // 16)).astype(np.float32),
        "point_coords": rng.uniform(0, SIDE, (1, len(labels), 2)).astype(np.float32),
        "point_labels": np.array([labels], np.float32),
        "mask_input": rng.normal(0, 4, (1, 1, CELLS, CELLS)).astype(np.float32),
        "has_mask_input": np.array([float(mask)], np.float32),
        "orig_im_size": np.array(size, np.float32),
    }


@pytest.mark.parametrize("size", SIZES)
def test_the_encoder_normalizes_and_pads_like_the_reference(four_masks, reference, size):
    image = resized(photo(size))
    (embedding,) = session(four_masks.encoder_path).run(None, {"input_image": image})
    with torch.no_grad():
        prepared = reference.preprocess(torch.from_numpy(image).permute(2, 0, 1)[None])
        expected = reference.image_encoder(prepared)
    assert error(embedding, expected.numpy()) < BOUND


@pytest.mark.parametrize("single_mask", [False, True])
def test_the_decoder_returns_the_outputs_of_the_official_onnx_model(request, reference, single_mask):
    bundle = request.getfixturevalue("one_mask" if single_mask else "four_masks")
    model = importlib.import_module("segment_anything.utils.onnx").SamOnnxModel(reference, single_mask)
    runner = session(bundle.decoder_path)
    assert [argument.name for argument in runner.get_outputs()] == ["masks", "iou_predictions", "low_res_masks"]
    for points, size in enumerate(SIZES, start=1):
        inputs = feed(points, size, mask=points % 2 == 0)
        expected = model(**{name: torch.from_numpy(array) for name, array in inputs.items()})
        actual = runner.run(None, inputs)
        assert actual[0].shape == (1, 1 if single_mask else 4, *size)
        for ours, theirs in zip(actual, expected, strict=True):
            assert ours.shape == theirs.shape
            assert error(ours, theirs.numpy()) < BOUND


def test_a_single_mask_is_the_first_output_only_from_three_points_on(four_masks, one_mask):
    for points in (1, 2, 4, 5):
        inputs = feed(points, (40, 40), mask=False)
        _, four_ious, four = session(four_masks.decoder_path).run(None, inputs)
        _, iou, low_res = session(one_mask.decoder_path).run(None, inputs)
        best = 0 if inputs["point_labels"].shape[1] > 2 else 1 + int(four_ious[0, 1:].argmax())
        np.testing.assert_allclose(low_res[0, 0], four[0, best], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(iou[0, 0], four_ious[0, best], rtol=1e-5)


@pytest.mark.parametrize("size", [(480, 640), (301, 97)])
def test_the_predictor_runs_an_official_bundle_as_the_plain_one(plain, four_masks, size):
    source, described = plain
    ours = SamPredictor(four_masks)
    expected = SamPredictor(Bundle(source, described))
    for each in (ours, expected):
        each.set_image(photo(size))
    boxes = [[10, 10, 60, 80], [5, 30, 90, 70]]
    for actual, wanted in zip(
        ours.predict_batch(boxes=boxes, return_logits=True),
        expected.predict_batch(boxes=boxes, return_logits=True),
        strict=True,
    ):
        assert error(actual, wanted) < 1e-5
    inputs = {
        **feed(2, size, mask=False),
        "image_embeddings": ours.get_image_embedding(),
        "point_coords": ours.transform.apply_coords([[[40, 50], [0, 0]]], size).astype(np.float32),
    }
    masks, _, _ = session(four_masks.decoder_path).run(None, inputs)
    logits, _, _ = ours.predict([[40, 50]], [1], return_logits=True)
    assert error(masks[0, 1:], logits) < BOUND


def test_the_manifest_names_the_layout_and_its_tensors(four_masks, one_mask):
    for bundle, interface, masks in ((four_masks, OFFICIAL, 4), (one_mask, OFFICIAL_SINGLE_MASK, 1)):
        read = Manifest.from_json((bundle.root / FILE_NAME).read_text(encoding="utf-8"))
        assert read.interface == interface
        assert read.decoder_file_contract.input_names[-1] == "orig_im_size"
        assert read.decoder_file_contract.outputs[0].shape == (1, masks, "H", "W")
        assert read.decoder_contract.input_names == manifest().decoder_contract.input_names


def test_an_unknown_layout_in_a_manifest_is_refused():
    text = manifest(interface=OFFICIAL).to_json().replace('"interface": "official"', '"interface": "martian"')
    with pytest.raises(BundleError, match="'martian' is unknown"):
        Manifest.from_json(text)


def test_one_mask_of_each_prompt_is_refused_by_the_predictor_in_one_line(one_mask):
    with pytest.raises(BackendError, match=r"only the best mask.*export again without") as refusal:
        load_backend(one_mask)
    assert "\n" not in str(refusal.value)


def test_what_feeds_the_files_by_itself_refuses_an_official_bundle(four_masks):
    with pytest.raises(
        UsageError, match=r"a measurement on a device needs .*export it again without --layout official"
    ):
        works_of("official", four_masks)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "martian"}, "no layout called 'martian': choose one of sam-edge, official"),
        ({"layout": "official", "target": "tflite"}, "--layout official is for ONNX Runtime only"),
        ({"layout": "official", "points": 4}, "omit --prompts and --points"),
        ({"layout": "official", "prompts": 2}, "omit --prompts and --points"),
        ({"return_single_mask": True}, "--return-single-mask is for --layout official only"),
    ],
)
def test_options_that_exclude_each_other_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        ExportJob("nano", Path("out"), **options)


# Of segment_anything's scripts/export_onnx_model.py, and of samexporter's encoder.
OFFICIAL_NAMES = {
    "encoder.onnx": (["input_image"], ["image_embeddings"]),
    "decoder.onnx": (
        ["image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input", "orig_im_size"],
        ["masks", "iou_predictions", "low_res_masks"],
    ),
}


def integer_weights(path: Path) -> int:
    """Bytes of a file's weights in INT8."""
    kinds = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    return sum(len(each.raw_data) for each in onnx.load(path).graph.initializer if each.data_type in kinds)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "w8", "w8a8"])
def test_nano_exported_by_the_command_answers_its_golden_test_and_both_feeds(tmp_path, capsys, precision):
    out = tmp_path / "nano"
    options = ["--layout", "official", "--precision", precision, "--input-size", str(SIDE), "--photos", "4"]
    assert command(["export", *options, "--out", str(out)]) == 0
    assert command(["info", str(out)]) == 0
    assert "orig_im_size" in capsys.readouterr().out
    assert Bundle.open(out).report()["passed"]
    for name, (inputs, outputs) in OFFICIAL_NAMES.items():
        runner = session(out / name)
        assert [each.name for each in runner.get_inputs()] == inputs
        assert [each.name for each in runner.get_outputs()] == outputs
        assert all(each.type == "tensor(float)" for each in (*runner.get_inputs(), *runner.get_outputs()))
    assert (integer_weights(out / "encoder.onnx") > 1_000_000) == (precision != "fp32")
    pixels = photo((48, 64))
    predictor = SamPredictor(out)
    assert predictor.bundle.manifest.interface == OFFICIAL
    predictor.set_image(pixels)
    (embedding,) = session(out / "encoder.onnx").run(None, {"input_image": resized(pixels)})
    assert error(embedding, predictor.get_image_embedding()) < 1e-5
    inputs = {
        **feed(2, (48, 64), mask=False),
        "image_embeddings": embedding,
        "point_coords": predictor.transform.apply_coords([[[30, 20], [0, 0]]], (48, 64)).astype(np.float32),
    }
    masks, scores, low_res = session(out / "decoder.onnx").run(None, inputs)
    expected = predictor.predict([[30, 20]], [1], return_logits=True)
    # The predictor's session has other optimizers, whose INT8 kernels round activations elsewhere.
    bound = 0.05 if precision == "w8a8" else BOUND
    for actual, wanted in zip((masks, scores, low_res), expected, strict=True):
        assert error(actual[0, 1:], wanted) < bound
