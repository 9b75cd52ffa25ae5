"""The encoders of CLIP's kin on every target, in fp32 and quantized, against fp32 torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sam_edge.export.clip import BOUNDS, FILE, IMAGE, TEXT, ClipExportJob, contract_of, export_clip
from sam_edge.model.clip import Clip, ClipImageGraph, ClipTextGraph
from sam_edge.weights.checkpoint import CheckpointRecord
from sam_edge.weights.clip_checkpoint import LoadedClip
from sam_edge.weights.seeded import seed_module
from sam_edge_runtime.backends.artifact import open_artifact
from sam_edge_runtime.errors import OutputError, UsageError
from tests.model.clip_models import small_config

PRECISIONS = ("fp32", "w8", "w8a8")


def loaded(title: str) -> LoadedClip:
    """A seeded model with a vocabulary that is most of its text encoder, as in the real ones."""
    config = small_config(title)
    clip = Clip(type(config)(**{**vars(config), "vocabulary": 2000, "end": 1 if config.pooled else 1999})).eval()
    seed_module(clip, 3)
    clip.requires_grad_(requires_grad=False)
    return LoadedClip("small", clip, CheckpointRecord("random:3", None, is_random=True), "MIT")


def calls(clip: Clip) -> dict[str, np.ndarray]:
    """A text and a crop that no calibration has."""
    draw = np.random.default_rng(8)
    tokens = draw.integers(2, clip.config.vocabulary - 1, (1, clip.config.context))
    tokens[0, 6] = clip.config.end
    image = draw.uniform(0, 255, (1, 3, clip.config.side, clip.config.side))
    return {TEXT: tokens.astype(np.float32), IMAGE: image.astype(np.float32)}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("target", ["onnx", "tflite", "coreml"])
@pytest.mark.parametrize("title", ["CLIP", pytest.param("SigLIP 2", marks=pytest.mark.slow)])
def test_each_artifact_keeps_its_bound(tmp_path: Path, title: str, target: str, precision: str) -> None:
    model = loaded(title)
    before = {name: tensor.clone() for name, tensor in model.clip.state_dict().items()}
    out = tmp_path / "towers"
    made = export_clip(ClipExportJob(out, target, precision, photos=2), model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.clip.state_dict().items())
    document = json.loads((out / FILE).read_text())
    given = calls(model.clip)
    for part, graph in ((TEXT, ClipTextGraph(model.clip)), (IMAGE, ClipImageGraph(model.clip))):
        assert not made[part].missed, (part, made[part].cosine)
        assert document["encoders"][part]["cosine"] == pytest.approx(made[part].cosine, abs=1e-6)
        contract = contract_of(part, model.clip, target)
        name, wanted = contract.input_names[0], graph(torch.from_numpy(given[part])).numpy()[0]
        value = given[part].transpose(0, 2, 3, 1).copy() if part == IMAGE and target == "tflite" else given[part]
        (found,) = open_artifact(out / made[part].file, target)({name: value})[contract.output_names[0]]
        assert found @ wanted > BOUNDS[precision]
        assert np.linalg.norm(found) == pytest.approx(1.0, abs=1e-3)
        if precision == "fp32":
            assert np.abs(found - wanted).max() < 1e-4
        else:
            schemes = set(document["encoders"][part]["quantization"]["layers"].values())
            assert precision in schemes
            assert document["encoders"][part]["quantization"]["unknown"] == [] or part == TEXT
    if precision != "fp32":  # the table of tokens has one byte a number; two in Core ML
        weights = sum(tensor.numel() for tensor in model.clip.text.state_dict().values())
        assert made[TEXT].bytes < (2.6 if target == "coreml" else 2.2) * weights + 120_000


def test_onnx_takes_any_number_of_texts_and_crops(tmp_path: Path) -> None:
    model = loaded("CLIP")
    made = export_clip(ClipExportJob(tmp_path / "towers"), model)
    given = calls(model.clip)
    for part, graph in ((TEXT, ClipTextGraph(model.clip)), (IMAGE, ClipImageGraph(model.clip))):
        artifact = open_artifact(tmp_path / "towers" / made[part].file, "onnx")
        name = contract_of(part, model.clip, "onnx").input_names[0]
        for count in (1, 5):
            value = np.concatenate([np.roll(given[part], shift, axis=-1) for shift in range(count)])
            value = given[part].repeat(count, axis=0) if part == TEXT else value
            (found,) = artifact({name: value}).values()
            assert np.abs(found - graph(torch.from_numpy(value)).numpy()).max() < 1e-4


def test_bad_jobs_are_refused(tmp_path: Path) -> None:
    for arguments, words in (
        ({"precision": "w4"}, r"no precision 'w4' for target onnx: choose one of fp32, fp16, w8, dynamic, w8a8"),
        ({"target": "coreml", "precision": "dynamic"}, "choose one of fp32, fp16, mixed, w8, w8a8"),
        ({"target": "tensorrt"}, "no target called 'tensorrt'"),
        ({"precision": "fp16"}, "float16, which holds tokens to 2,048 only: choose w8"),
        ({"parts": ("audio",)}, "no encoders audio: choose text, image or both"),
    ):
        with pytest.raises(UsageError, match=words):
            ClipExportJob(tmp_path, **arguments)
    model = loaded("CLIP")
    trained = LoadedClip(model.variant, model.clip, CheckpointRecord("w.pt", "0" * 64, is_random=False), "MIT")
    with pytest.raises(UsageError, match=r"to calibrate the text encoder of small name its tokenizer.json"):
        export_clip(ClipExportJob(tmp_path / "towers", precision="w8"), trained)
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="was not made by sam-edge"):
        export_clip(ClipExportJob(tmp_path, overwrite=True), model)
    assert (tmp_path / "mine.txt").read_text() == "keep"
