"""Any text as a prompt: a model with a text token and a text encoder, from export to masks."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sam_edge.cli.app import run
from sam_edge.export.clip import ClipExportJob, export_clip
from sam_edge.model import build_sam
from sam_edge.model.clip import Clip
from sam_edge.model.text_token import add_text_token
from sam_edge.model.torch_backend import TorchBackend
from sam_edge.weights.checkpoint import CheckpointRecord
from sam_edge.weights.clip_checkpoint import LoadedClip
from sam_edge.weights.load import load_sam
from sam_edge.weights.seeded import seed_module
from sam_edge.weights.source import parse_source
from sam_edge_runtime import SamPredictor, read_photo
from sam_edge_runtime.bundle.tokenizer import TextTokenizer
from sam_edge_runtime.errors import PromptError
from tests.cli.errors import error_of
from tests.clip_scenes import CONTEXT, config, write_tokenizer

pytest.importorskip("tokenizers", reason="the extra text: pip install 'sam-edge[text]'")
SIZE = ("--input-size", "256", "--points", "4")
TEXTS = ("red square", "Blue Disc")


@pytest.fixture(scope="module")
def clip() -> Clip:
    made = Clip(config()).eval()
    seed_module(made, 5)
    return made.requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> TextTokenizer:
    return TextTokenizer(write_tokenizer(tmp_path_factory.mktemp("tokens") / "tokenizer.json"), config())


@pytest.fixture(scope="module")
def towers(clip, tokenizer, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("towers") / "onnx"
    loaded = LoadedClip("tiny", clip, CheckpointRecord("random:5", None, is_random=True), "MIT")
    export_clip(ClipExportJob(out, parts=("text",)), loaded, tokenizer)
    return out


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """nano with a text token for embeddings of 32 numbers, as stage `text` saves it."""
    sam = build_sam("nano")
    add_text_token(sam, config().dim)
    seed_module(sam, 2)
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(sam.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def bundle(towers, weights, tmp_path_factory) -> Path:
    """Read only."""
    out = tmp_path_factory.mktemp("tower") / "bundle"
    exported = ["export", "--model", "nano", "--checkpoint", str(weights), *SIZE, "--text-encoder", str(towers)]
    assert run([*exported, "--out", str(out)]) == 0
    return out


def test_a_bundle_answers_any_text_as_torch_does(bundle, weights, clip, tokenizer, photo):
    predictor = SamPredictor(bundle)
    predictor.set_image(read_photo(photo))
    manifest = predictor.bundle.manifest
    assert manifest.text is not None
    assert (manifest.text.kind, manifest.conventions.text_channels) == ("tower", 32)
    assert {"text.onnx", "tokenizer.json"} <= set(manifest.files)
    assert predictor.bundle.report()["passed"]
    reference = SamPredictor(predictor.bundle, backend=TorchBackend(load_sam("nano", parse_source(weights), 256).sam))
    reference.set_image(read_photo(photo))
    vectors = clip.encode_text(torch.from_numpy(tokenizer(TEXTS).ids)).numpy()
    _, scores, low_res = predictor.predict_batch(texts=list(TEXTS))
    _, wanted_scores, wanted = reference.predict_batch(texts=vectors)
    np.testing.assert_allclose(low_res, wanted, atol=1e-3)
    np.testing.assert_allclose(scores, wanted_scores, atol=1e-4)
    assert np.abs(low_res[0] - low_res[1]).max() > 1e-3
    click = predictor.predict([[60, 40]], [1])[2]
    np.testing.assert_allclose(click, reference.predict([[60, 40]], [1])[2], atol=1e-3)
    both = predictor.predict([[60, 40]], [1], text="red square")[2]
    np.testing.assert_allclose(both, reference.predict([[60, 40]], [1], text=vectors[0])[2], atol=1e-3)
    assert np.abs(both - click).max() > 1e-3


def test_predict_and_verify_take_such_a_bundle(bundle, weights, photo, tmp_path, capsys):
    out = tmp_path / "out"
    long = " ".join(["red"] * (CONTEXT - 2) + ["square"])
    arguments = ["predict", str(bundle), str(photo), "--text", long, "--text", " red disc ", "--json"]
    assert run([*arguments, "--out", str(out)]) == 0
    written = capsys.readouterr()
    assert f"has {CONTEXT + 1} tokens, and the encoder takes {CONTEXT}: cut after 'red'" in written.err
    assert "red disc, predicted IoU" in written.out
    masks = json.loads((out / "photo.json").read_text())["masks"]
    assert [mask["text"] for mask in masks] == [long, "red disc"]
    assert all("presence" not in mask for mask in masks)
    assert run(["verify", str(bundle), "--checkpoint", str(weights)]) == 0
    assert run(["info", str(bundle)]) == 0
    assert "a tower of 32 numbers" in capsys.readouterr().out


def test_a_bundle_without_a_text_encoder_takes_embeddings(weights, photo, tmp_path, capsys):
    out = tmp_path / "bundle"
    assert run(["export", "--model", "nano", "--checkpoint", str(weights), *SIZE, "--out", str(out)]) == 0
    predictor = SamPredictor(out)
    predictor.set_image(read_photo(photo))
    assert predictor.bundle.manifest.text is None
    vector = np.full(32, 32**-0.5, np.float32)
    assert np.isfinite(predictor.predict(text=vector)[2]).all()
    with pytest.raises(PromptError, match="not finite"):
        predictor.predict(text=vector * np.nan)
    capsys.readouterr()
    assert "has no text" in error_of(capsys, "predict", out, photo, "--text", "red disc", "--out", tmp_path / "out")


def test_texts_and_files_that_cannot_be_used_get_one_line(bundle, towers, photo, tmp_path, capsys):
    predict = ("predict", bundle, photo, "--out", tmp_path / "out", "--text")
    assert "the text is empty" in error_of(capsys, *predict, " ")
    changed = Path(shutil.copytree(bundle, tmp_path / "changed"))
    tokens = (changed / "tokenizer.json").read_text()
    (changed / "tokenizer.json").write_text(tokens.replace("square", "sqware"))
    assert "tokenizer.json has SHA-256" in error_of(capsys, "predict", changed, photo, "--text", "red disc")
    (changed / "tokenizer.json").unlink()
    assert "tokenizer.json is missing" in error_of(capsys, "predict", changed, photo, "--text", "red disc")
    edited = Path(shutil.copytree(towers, tmp_path / "towers"))
    (edited / "tokenizer.json").write_text("{}")
    export = ("export", "--model", "nano", "--checkpoint", "random:0", *SIZE, "--out", tmp_path / "b", "--text-encoder")
    assert "tokenizer.json is missing or was changed" in error_of(capsys, *export, edited)
    assert "holds no text encoder" in error_of(capsys, *export, tmp_path)
    assert "is for target onnx" in error_of(capsys, *export, towers, "--target", "tflite")
    assert "exclude each other" in error_of(capsys, *export, towers, "--words", "random:0")
    official = (*export[:5], "--input-size", "256", *export[-3:], towers)
    assert "has no text" in error_of(capsys, *official, "--layout", "official")
    plain = ("export", "--model", "nano", *SIZE, "--out", tmp_path / "b", "--text-encoder")
    assert "train --stage text" in error_of(capsys, *plain, towers)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "b").exists()


def test_texts_without_the_tokenizers_library_get_one_line(bundle, photo, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)  # as where it is not installed
    refused = ("predict", bundle, photo, "--text", "red disc", "--out", tmp_path / "out")
    assert "pip install 'sam-edge[text]'" in error_of(capsys, *refused)
    assert run(["predict", str(bundle), str(photo), "--point", "60,40", "--out", str(tmp_path / "out")]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("target", ["tflite", "coreml"])
def test_other_targets_answer_texts_too(target, clip, tokenizer, photo, tmp_path):
    loaded = LoadedClip("tiny", clip, CheckpointRecord("random:5", None, is_random=True), "MIT")
    export_clip(ClipExportJob(tmp_path / "towers", target, parts=("text",)), loaded, tokenizer)
    export = ["export", "--model", "nano", "--checkpoint", "random:0", *SIZE, "--target", target]
    assert run([*export, "--text-encoder", str(tmp_path / "towers"), "--out", str(tmp_path / "bundle")]) == 0
    predictor = SamPredictor(tmp_path / "bundle")
    assert predictor.bundle.report()["passed"]
    found = predictor.text_reader.embed(TEXTS)
    np.testing.assert_allclose(found, clip.encode_text(torch.from_numpy(tokenizer(TEXTS).ids)).numpy(), atol=1e-4)
    predictor.set_image(read_photo(photo))
    assert predictor.predict(text="red square")[0].shape == (3, 80, 120)
