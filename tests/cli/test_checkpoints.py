"""Checkpoints on the command line: `--model auto`, `info` and `convert`, and one line for what fits nothing."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from sam_edge.cli.app import run
from sam_edge.cli.options import model_of
from sam_edge.export.context import check_job, load_context
from sam_edge.export.job import ExportJob
from sam_edge.model import build_sam
from sam_edge.prediction.reference_cache import ReferenceCache
from sam_edge.weights.seeded import seed_module


@pytest.fixture
def training_run(tmp_path):
    """nano as a training script leaves it: nested, with a prefix, beside its optimizer."""
    sam = build_sam("nano")
    seed_module(sam, 4)
    path = tmp_path / "run.pth"
    state = {f"module.{name}": tensor for name, tensor in sam.state_dict().items()}
    torch.save({"model": state, "optimizer": {"lr": 0.1}, "epoch": 3}, path)
    return path


FOUND = "run.pth: nano, nano; official names, float32; found under model.module; left out optimizer, epoch"


def test_export_takes_the_model_that_the_checkpoint_holds(training_run, tmp_path, capsys):
    variant = model_of("auto", str(training_run))
    assert FOUND in capsys.readouterr().err
    job = ExportJob(variant, tmp_path / "bundle", str(training_run), input_side=256)
    manifest = load_context(check_job(job), ReferenceCache(), lambda stage: None).manifest
    assert manifest.variant == "nano"
    assert manifest.licence == "NOASSERTION"
    assert manifest.checkpoint.sha256 == hashlib.sha256(training_run.read_bytes()).hexdigest()


def test_without_a_file_the_model_is_nano(capsys):
    assert model_of("auto", None) == "nano"
    assert model_of("auto", "random:0") == "nano"
    assert model_of("vit_b", None) == "vit_b"
    assert capsys.readouterr().err == ""


def test_info_says_what_a_checkpoint_holds(training_run, capsys):
    assert run(["info", str(training_run), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["model"] == "nano"
    assert facts["found under"] == "model.module"
    assert facts["left out"] == ["optimizer", "epoch"]
    assert facts["tensors"] == 254
    assert facts["whose"] == "not the official file"
    assert facts["sha256"] == hashlib.sha256(training_run.read_bytes()).hexdigest()
    assert run(["info", str(training_run)]) == 0
    text = capsys.readouterr().out
    assert "optimizer, epoch" in text
    assert "run.pth" in text


def test_convert_writes_the_model_alone(training_run, tmp_path, capsys):
    out = tmp_path / "nano.safetensors"
    assert run(["convert", str(training_run), str(out)]) == 0
    captured = capsys.readouterr()
    assert FOUND in captured.err
    assert "254 tensors" in captured.out
    state = torch.load(training_run, weights_only=True)["model"]
    written = load_file(out)
    assert {f"module.{name}" for name in written} == set(state)
    for name, tensor in written.items():
        torch.testing.assert_close(tensor, state[f"module.{name}"], rtol=0, atol=0)
    assert run(["convert", str(training_run), str(out)]) == 2
    assert run(["convert", str(training_run), str(out), "--overwrite"]) == 0


def lora(folder):
    save_file({"w_a_000": torch.ones(4, 8)}, folder / "lora.safetensors")
    return folder / "lora.safetensors"


def memory(folder):
    torch.save({"model": {"memory_encoder.out_proj.weight": torch.ones(2)}}, folder / "video.pt")
    return folder / "video.pt"


def outside(folder):
    index = {"weight_map": {"image_encoder.pos_embed": "../other.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder / "model.safetensors.index.json"


def header(folder):
    (folder / "a.safetensors").write_bytes((1 << 60).to_bytes(8, "little") + b'{"a": 1}')
    return folder / "a.safetensors"


def repository(folder):
    return "hf:owner"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lora, "LoRA without its base model"),
        (memory, "only the memory parts of a SAM 2 video model"),
        (outside, "names a shard outside its folder"),
        (header, "truncated, corrupt or no file of weights"),
        (repository, "write hf:OWNER/NAME"),
    ],
)
@pytest.mark.parametrize("verb", ["export", "info", "convert"])
def test_bad_checkpoints_end_in_one_line_and_write_nothing(tmp_path, monkeypatch, capsys, verb, make, words):
    folder = tmp_path / "in"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    given = str(make(folder))
    arguments = {"export": ["--checkpoint", given], "info": [given], "convert": [given, "out.safetensors"]}[verb]
    assert run([verb, *arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert words in lines[0]
    assert [each.name for each in tmp_path.iterdir()] == ["in"]
