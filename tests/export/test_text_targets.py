"""Words on every target and in INT8: the bundle's own test, and torch's masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sam_edge.cli.app import run
from sam_edge.data.mask_names import MaskNames
from sam_edge.data.sources import open_source
from sam_edge.data.stream import read_sample
from sam_edge.prediction.promptable import open_model
from sam_edge.training.words.encoded import regions_of
from sam_edge_runtime import SamPredictor, read_photo
from sam_edge_runtime.agreement.golden import Golden
from sam_edge_runtime.agreement.metrics import mask_iou
from tests.data.real import real_data

EXPORT = ("export", "--model", "nano", "--words", "shipped", "--points", "4")
WORD = "person"
# Maps of words that the golden pictures do not show keep about 0.9 of fp32's in w8a8, and the mean of all prompts
# misses the bound of 0.98, as w8a8 does without words. On photos that have the word, people's masks lose nothing
# (docs/text.md).
MISSED = pytest.mark.xfail(strict=True, raises=AssertionError, reason="w8a8 misses the bound of 0.98 of fp32's masks")
W8A8_MIOU = 0.95
CASES = [
    ("onnx", "w8", "square"),
    pytest.param("onnx", "w8a8", "square", marks=MISSED),
    ("onnx", "fp32", "square,4:3"),
    ("tflite", "fp32", "4:3"),
    ("tflite", "w8", "square"),
    pytest.param("tflite", "w8a8", "square", marks=MISSED),
    ("coreml", "fp32", "4:3"),
    ("coreml", "w8", "square"),
    pytest.param("coreml", "w8a8", "square", marks=MISSED),
]


@pytest.mark.slow
@pytest.mark.parametrize(("target", "precision", "frame"), CASES)
def test_words_work_on_each_target(target: str, precision: str, frame: str, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    options = ["--target", target, "--precision", precision, "--frame", frame, "--photos", "2", "--input-size", "256"]
    code = run([*EXPORT, *options, "--out", str(out)])
    predictor = SamPredictor(out)
    manifest = predictor.bundle.manifest
    report = predictor.bundle.report()
    assert code == (0 if report["passed"] else 1)
    assert report["passed"], report["missed"]
    golden = Golden.load(predictor.bundle.golden_path, manifest)
    assert any(case.prompts.text is not None for case in golden.cases)
    assert run(["verify", str(out)]) == 0
    predictor.set_image(read_photo(photo))
    assert predictor.frame.size in manifest.frames
    found = predictor.predict(text=WORD, multimask_output=False)
    torch_model = open_model("nano", None, 256, "shipped")
    reference = SamPredictor(predictor.bundle, backend=torch_model.backend)
    reference.set_image(read_photo(photo))
    vector = predictor.vocabulary.embed([WORD])[0]
    expected = reference.predict(text=vector, multimask_output=False)
    if precision == "fp32":
        np.testing.assert_allclose(found[2], expected[2], atol=5e-3)
        np.testing.assert_allclose(predictor.object_scores, reference.object_scores, atol=5e-3)
    else:
        signal = float(np.square(expected[2]).mean())
        assert float(np.square(found[2] - expected[2]).mean()) < 0.05 * signal


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "tflite", "coreml"])
def test_words_in_w8a8_miss_no_bound_but_that_of_masks(target: str, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    options = ["--target", target, "--precision", "w8a8", "--photos", "2", "--input-size", "256"]
    assert run([*EXPORT, *options, "--out", str(out)]) == 1
    predictor = SamPredictor(out)
    report = predictor.bundle.report()
    assert report["figures"]["mask_miou"] >= W8A8_MIOU
    assert all(line.startswith("mask mIoU") for line in report["missed"]), report["missed"]
    reference = SamPredictor(predictor.bundle, backend=open_model("nano", None, 256, "shipped").backend)
    vector = predictor.vocabulary.embed([WORD])[0]
    masks = []
    for each in (predictor, reference):
        each.set_image(read_photo(photo))
        masks.append(each.predict(text=vector, multimask_output=False)[2])
    assert float(np.square(masks[0] - masks[1]).mean()) < 0.05 * float(np.square(masks[1]).mean())


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "tflite"])
def test_words_in_w8a8_keep_the_masks_that_people_drew(target: str, tmp_path: Path) -> None:
    source = open_source(real_data("ccp/val.tar"))
    names = MaskNames([source])
    out = tmp_path / "bundle"
    calibration = str(real_data("coco/train.tar"))
    run([*EXPORT, "--target", target, "--precision", "w8a8", "--calibration", calibration, "--out", str(out)])
    quantized = SamPredictor(out)
    reference = SamPredictor(quantized.bundle, backend=open_model("nano", None, 512, "shipped").backend)
    ious = []
    for number in range(12):
        sample = read_sample(source.read(number), annotated=True)
        regions = regions_of(sample, names.of(sample))
        row = []
        for predictor in (reference, quantized):
            predictor.set_image(sample.photo)
            vectors = quantized.vocabulary.embed(list(regions))
            masks = [predictor.predict(text=vector, multimask_output=False)[0][0] for vector in vectors]
            row.append([mask_iou(mask, region) for mask, region in zip(masks, regions.values(), strict=True)])
        ious.append(np.array(row))
    fp32, int8 = np.concatenate(ious, axis=1)
    assert len(fp32) > 60
    assert fp32.mean() > 0.4
    assert int8.mean() > fp32.mean() - 0.005
