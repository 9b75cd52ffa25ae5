"""Memory of an export: the estimate is near what was measured, is told, and refuses what cannot fit."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from sam_edge.export import memory
from sam_edge.export.context import check_job, load_context
from sam_edge.export.job import ExportJob
from sam_edge.export.memory import check_memory, export_bytes
from sam_edge.model import Sam, build_sam
from sam_edge.prediction.reference_cache import ReferenceCache
from sam_edge.weights.families import build_empty
from sam_edge.weights.source import parse_source
from sam_edge_runtime.bundle.targets import TARGETS
from sam_edge_runtime.errors import CheckpointError, ExportError

GIGABYTES = 1e9
# Peaks of processes that exported fp32 bundles, in GB (docs/accuracy.md).
MEASURED = {
    ("nano", "onnx"): 0.67,
    ("nano", "coreml"): 0.58,
    ("nano", "tflite"): 0.89,
    ("tiny_vit", "onnx"): 1.40,
    ("tiny_vit", "coreml"): 1.00,
    ("tiny_vit", "tflite"): 1.35,
    ("vit_b", "onnx"): 4.87,
    ("vit_h", "onnx"): 10.7,
    ("vit_b", "coreml"): 3.14,
    ("vit_b", "tflite"): 5.45,
    ("vit_l", "tflite"): 11.75,
}


def empty(variant: str) -> Sam:
    """The model without numbers."""
    return build_empty(partial(build_sam, variant))


@pytest.mark.parametrize(("variant", "target"), MEASURED)
def test_the_estimate_is_near_what_was_measured(variant, target):
    sam = empty(variant)
    assert 0.95 < export_bytes(sam, sam.native_side, target) / GIGABYTES / MEASURED[variant, target] < 1.3


@pytest.mark.parametrize("variant", ["sam2.1_hiera_large", "sam_hq_vit_h"])
def test_the_largest_models_fit_into_24_gigabytes_or_are_refused(monkeypatch, variant):
    monkeypatch.setattr(memory, "memory_limit", lambda: 24 << 30)
    sam = empty(variant)
    for target in TARGETS:
        assert check_memory(variant, sam, 1024, target) < 24 << 30
    monkeypatch.setattr(memory, "memory_limit", lambda: 2 << 30)
    for target in TARGETS:
        with pytest.raises(ExportError, match=r"about \d+ GB of memory, and this machine has 2 GB: use a larger one"):
            check_memory(variant, sam, 1024, target)


def test_too_little_memory_is_refused_before_weights_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "memory_limit", lambda: 10 << 30)
    missing = str(tmp_path / "missing.pth")
    with pytest.raises(ExportError, match=r"sam_hq_vit_l to tflite takes about 1\d GB .* --target onnx \(\d GB\)"):
        check_job(ExportJob("sam_hq_vit_l", tmp_path / "out", missing, target="tflite"))


def test_the_estimate_is_told_with_the_first_stage(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "memory_limit", lambda: None)  # of systems that make swap space as they need it
    checked = check_job(ExportJob("vit_h", tmp_path / "out", "random:0"))
    assert checked.memory == export_bytes(empty("vit_h"), 1024, "onnx")
    stages: list[str] = []
    with pytest.raises(CheckpointError):
        load_context(replace(checked, source=parse_source(tmp_path / "missing.pth")), ReferenceCache(), stages.append)
    assert stages == ["loading vit_h, missing.pth; the export takes up to 11 GB of memory"]
