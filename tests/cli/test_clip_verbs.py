"""The verbs that know text encoders: models, download, segment --rank, export-clip, train --stage text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_edge.cli.app import run
from sam_edge.weights.clip_catalogue import CLIP_RELEASES, TOKENIZERS, downloads_of
from sam_edge_runtime.errors import UsageError
from tests.clip_scenes import scene, write_tokenizer

pytest.importorskip("tokenizers", reason="the extra text: pip install 'sam-edge[text]'")
# fmt: off
DISTILL = ("distill", "--teacher", "nano", "--student", "nano", "--data", ".", "--out", "run", "--stages", "int8,text",
           "--recipe", "int8")
# fmt: on
SEEDED = ("--rank-checkpoint", "random:0")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM_EDGE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    return write_tokenizer(tmp_path / "tokenizer.json")


def test_segment_names_masks_and_puts_the_named_first(tmp_path, tokenizer, capsys):
    photo = tmp_path / "photo.png"
    Image.fromarray(scene(1).photo).save(photo)
    words = ("--text", "red square", "--text", "blue disc")
    grid = ("--points-per-side", "3")
    out = tmp_path / "out"
    arguments = ["segment", photo, *grid, "--rank", "tinyclip_vit_8m_16", *SEEDED, "--tokenizer", tokenizer, *words]
    assert run([*map(str, arguments), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    masks = json.loads((out / "photo.json").read_text())["annotations"]
    assert len(masks) >= 2
    assert all(set(mask["name_scores"]) == {"red square", "blue disc"} for mask in masks)
    named = [mask for mask in masks if "name" in mask]
    assert masks[: len(named)] == named
    for group in (named, masks[len(named) :]):
        best = [max(mask["name_scores"].values()) for mask in group]
        assert best == sorted(best, reverse=True)
    for mask in named:
        assert mask["name_scores"][mask["name"]] == mask["name_score"]
        assert f"{mask['name']} {mask['name_score']:.3f}  box " in printed
    assert len(list(out.glob("*.jpg"))) == 1
    plain = tmp_path / "plain"
    assert run(["segment", str(photo), *grid, "--out", str(plain)]) == 0
    assert len(json.loads((plain / "photo.json").read_text())["annotations"]) == len(masks)


def test_models_lists_the_text_encoders_and_what_is_known_of_their_hashes(capsys):
    assert run(["models"]) == 0
    printed = capsys.readouterr().out
    for variant, release in CLIP_RELEASES.items():
        assert f"{variant}: {release.note}" in printed
        assert (release.sha256 or "no public source states its sha256") in printed
    assert "mobileclip" not in printed


def test_a_text_encoder_is_downloaded_with_its_tokenizer():
    for variant, release in CLIP_RELEASES.items():
        weights, tokens = downloads_of(variant)
        assert weights is release
        assert tokens is next(each.release for each in TOKENIZERS if release.family in each.families)
        assert tokens.size
        assert release.licence in ("MIT", "Apache-2.0")
    assert [each.variant for each in downloads_of("vit_b")] == ["vit_b"]
    with pytest.raises(
        UsageError, match=r"'vit_x'; choose one of small, vit_b.*, or a text encoder: tinyclip_vit_8m_16"
    ):
        downloads_of("vit_x")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("segment", "p.png", "--text", "cup"), "belong to --rank: add --rank clip_vit_b_32"),
        (("segment", "p.png", "--rank", "clip_vit_b_32"), "has no words to rank masks by: add --text WORD"),
        (("segment", "p.png", "--rank", "mobileclip", *SEEDED, "--text", "cup"), "no text encoder called 'mobileclip'"),
        (("segment", "p.png", "--rank", "clip_vit_b_32", "--text", "cup"), "run `sam-edge download clip_vit_b_32`"),
        (("segment", "p.png", "--rank", "auto", "--text", "cup"), "name one of them, or its weights"),
        (
            ("segment", "p.png", "--rank", "tinyclip_vit_8m_16", *SEEDED, "--text", "cup"),
            "has no tokenizer yet: run `sam-edge download tinyclip_vit_8m_16`",
        ),
        (("segment", "p.png", "--rank", "clip_vit_b_32", "--text", "cup", "--crop-factor", "9"), "from 1 to 4"),
        (("export-clip", "--model", "clip_vit_b_16"), "no text encoder called 'clip_vit_b_16'"),
        (("export-clip", "--checkpoint", "random:0", "--precision", "w4"), "no precision 'w4'"),
        (("export-clip", "--checkpoint", "random:0", "--encoders", "words"), "no encoders words"),
        (("train", "nano", "--data", ".", "--out", "run", "--stage", "words"), "no stage called 'words'"),
        (("train", "nano", "--data", ".", "--out", "run", "--stage", "text"), "sam-edge download clip_vit_l_14_336"),
        (
            DISTILL,
            "stage text would undo the rounding of stage int8",
        ),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save("p.png")
    assert run(list(arguments)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert words in lines[0]
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "run").exists()
