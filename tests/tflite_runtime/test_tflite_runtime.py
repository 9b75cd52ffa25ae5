"""Bundles on tflite-runtime 2.14, LiteRT's predecessor, which apps and boards still use.

It requires numpy 1 and Python 3.11 or older, so it has an environment of its own, `.venv-tflite-runtime`. Torch is not
installed there, so this also tests the runtime as on a small machine.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sam_edge.export.job import ExportJob
from sam_edge.export.pipeline import export_bundle
from sam_edge_exporters.tflite_fp16 import halve_weights
from sam_edge_runtime.agreement.agreement import bounds_for
from sam_edge_runtime.bundle.bundle import Bundle, record_files
from sam_edge_runtime.bundle.document import FILE_NAME
from tests.engines.environments import environment, golden_figures, run

pytestmark = pytest.mark.slow

PACKAGES = ("tflite-runtime==2.14.0", "numpy<2", "Pillow>=10.1", "typer>=0.15,<1", "rich>=13.7")


@pytest.fixture(scope="module")
def old_python() -> Path:
    """The interpreter of an environment with tflite-runtime."""
    return environment("tflite-runtime", *PACKAGES)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    """nano for calls of one or eight prompts."""
    out = tmp_path_factory.mktemp("old") / "nano"
    return export_bundle(ExportJob("nano", out, target="tflite", input_side=256, prompts=(1, 8))).bundle


def changed(bundle: Bundle, root: Path) -> Bundle:
    """The bundle in `root` with a manifest that fits its changed files."""
    manifest = replace(bundle.manifest, files=record_files(root))
    (root / FILE_NAME).write_text(manifest.to_json())
    return Bundle(root, manifest)


def test_both_signatures_reach_the_bounds(old_python, bundle):
    found, bounds = golden_figures(old_python, bundle.root), bounds_for("tflite", "fp32")
    assert found["engine"] == "tflite-runtime 2.14.0"
    assert found["prompts"] == 2 * (7 + 16)
    assert found["mask_miou"] >= bounds.mask_miou
    assert found["iou_prediction_error"] <= bounds.iou_prediction_error
    assert found["embedding_snr_db"] >= bounds.embedding_snr_db
    assert found["logit_snr_db"] >= bounds.logit_snr_db


def test_weights_in_float16_are_read(old_python, bundle, tmp_path):
    root = Path(shutil.copytree(bundle.root, tmp_path / "halved"))
    for name in (bundle.encoder_path.name, bundle.decoder_path.name):
        (root / name).unlink()
        halve_weights(bundle.root / name, root / name)
    found = golden_figures(old_python, changed(bundle, root).root)
    assert found["mask_miou"] > 0.99
    assert found["embedding_snr_db"] > 50
    assert found["logit_snr_db"] > 45


@pytest.mark.parametrize("lost", [64, 100_000])
def test_a_truncated_file_is_refused_in_one_line(old_python, bundle, tmp_path, lost):
    root = Path(shutil.copytree(bundle.root, tmp_path / "cut"))
    (root / "decoder.tflite").write_bytes(bundle.decoder_path.read_bytes()[:-lost])
    found = golden_figures(old_python, changed(bundle, root).root)
    assert "decoder.tflite' is truncated" in found["error"]


def test_the_command_line_verifies_a_bundle(old_python, bundle, tmp_path):
    root = Path(shutil.copytree(bundle.root, tmp_path / "nano"))
    done = run(old_python, "-m", "sam_edge", "verify", str(root), "--out", str(tmp_path / "report"))
    assert done.returncode == 0, done.stderr
    assert "tflite-runtime 2.14.0" in " ".join(done.stdout.split())
