"""Words on every target and in INT8: the bundle's own test, and torch's masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sam_edge.cli.app import run
from sam_edge.prediction.promptable import open_model
from sam_edge_runtime import SamPredictor, read_photo
from sam_edge_runtime.agreement.golden import Golden

EXPORT = ("export", "--model", "nano", "--words", "shipped", "--points", "4")
WORD = "person"
CASES = [
    ("onnx", "w8", "square"),
    ("onnx", "w8a8", "square"),
    ("onnx", "fp32", "square,4:3"),
    ("tflite", "fp32", "4:3"),
    ("tflite", "w8", "square"),
    ("tflite", "w8a8", "square"),
    ("coreml", "fp32", "4:3"),
    ("coreml", "w8", "square"),
    ("coreml", "w8a8", "square"),
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
