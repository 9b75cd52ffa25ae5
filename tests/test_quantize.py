"""Quantized bundles: layers by name, what is refused beforehand, and whole exports of small networks."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sam_edge.cli.app import run
from sam_edge.export import ExportJob, precisions_of
from sam_edge.model import build_sam
from sam_edge.quantize import layer_names
from sam_edge.samples import sample_paths
from sam_edge_quant import WAYS, recipe_named, write_recipe
from sam_edge_runtime.bundle import Bundle
from sam_edge_runtime.errors import UsageError


def test_every_layer_of_a_model_has_a_name_of_its_own():
    names = layer_names(build_sam("nano"))
    assert len(set(names.values())) == len(names)
    assert {"image_encoder.stem", "image_encoder.blocks.3.depthwise"} <= set(names.values())


@pytest.mark.parametrize("target", WAYS)
def test_what_a_target_has_is_taken_and_the_rest_refused(target, tmp_path):
    for precision in WAYS[target]:
        ExportJob("nano", tmp_path / "out", target=target, precision=precision)
    for precision in {"w8a16", "dynamic"} - set(precisions_of(target)):
        with pytest.raises(UsageError, match=f"{precision} is not possible for target {target}: choose one of fp32"):
            ExportJob("nano", tmp_path / "out", target=target, precision=precision)


@pytest.fixture
def photos(tmp_path) -> Path:
    """Two real photos and a broken one: ranges of noise are not those of photos, and cost trained weights 11 dB."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, path in enumerate(path for path in sample_paths() if path.stem in {"astronaut", "camera"}):
        shutil.copy(path, folder / f"{index}{path.suffix}")
    (folder / "broken.png").write_bytes(b"no photo")
    return folder


def test_no_photo_and_a_wrong_recipe_are_one_line(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    out = ["--out", str(tmp_path / "out")]
    assert run(["export", "--precision", "w8a8", "--calibration", str(tmp_path / "empty"), *out]) == 2
    (tmp_path / "recipe.json").write_text("{}")
    assert run(["export", "--recipe", str(tmp_path / "recipe.json"), *out]) == 2
    (tmp_path / "recipe.json").write_text(write_recipe(recipe_named("w8a16")))
    assert run(["export", "--recipe", str(tmp_path / "recipe.json"), *out]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 3
    assert "w8a16, which is not possible for target onnx" in said[2]
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("target", WAYS)
def test_a_recipe_file_makes_a_smaller_bundle_that_says_what_it_is(target, photos, tmp_path):
    recipe = replace(recipe_named("w8a8"), layers={"mask_decoder": "w8", "image_encoder.stem": "fp32"})
    (tmp_path / "recipe.json").write_text(write_recipe(recipe))
    arguments = ["--input-size", "256", "--target", target, "--calibration", str(photos)]
    assert run(["export", *arguments, "--out", str(tmp_path / "fp32")]) == 0
    quantized = ["--recipe", str(tmp_path / "recipe.json"), "--out", str(tmp_path / "out")]
    assert run(["export", *arguments, *quantized]) in {0, 1}  # masks of noise may miss the bound
    bundle, whole = Bundle.open(tmp_path / "out"), Bundle.open(tmp_path / "fp32")
    assert bundle.size < 0.6 * whole.size
    assert bundle.manifest.precision == "custom"
    assert [photo["key"] for photo in bundle.manifest.calibration["photos"]] == ["0", "1"]
    assert len(bundle.manifest.calibration["skipped"]) == 1
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    layers = report["quantization"]["graphs"][bundle.manifest.encoder]["layers"]
    assert layers["image_encoder.stem"] == "fp32"
    assert layers["image_encoder.blocks.3.project"] == "w8a8"
    assert report["figures"]["embedding_snr_db"] > 15
