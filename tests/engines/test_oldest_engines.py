"""Bundles of every precision on the oldest engines that the documentation names.

Each engine has an environment of its own. A bundle has to keep there what its own report says, or to be refused in one
line where `oldest_engines` leaves the engine out.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sam_edge.export.job import ExportJob
from sam_edge.export.pipeline import export_bundle
from sam_edge_runtime.backends.requirements import oldest_engines
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.targets import TARGETS
from tests.engines.environments import environment, golden_figures

pytestmark = pytest.mark.slow

NUMPY_1 = ("numpy<2", "Pillow>=10.1")
# What an environment gets, by its name; the packages' versions are those that requirements.py names as the oldest.
ENGINES = {
    "onnx": {
        "onnxruntime-1.17": ("onnxruntime==1.17.0", *NUMPY_1),
        "onnxruntime-1.19": ("onnxruntime==1.19.0", *NUMPY_1),
    },
    "tflite": {
        "litert-2.1": ("ai-edge-litert==2.1.0", "numpy<3", "Pillow>=10.1"),
        "tflite-runtime": ("tflite-runtime==2.14.0", *NUMPY_1, "typer>=0.15,<1", "rich>=13.7"),
    },
}
NAMES = {"litert-2.1": "LiteRT 2.1", "tflite-runtime": "tflite-runtime"}
SAME = 0.01  # mask mIoU; engines round INT8 differently
PRECISIONS = {name: tuple(dict.fromkeys((*TARGETS[name].precisions, *TARGETS[name].schemes))) for name in ENGINES}


@pytest.fixture(
    scope="module",
    params=[(target, precision) for target, every in PRECISIONS.items() for precision in every],
    ids="-".join,
)
def bundle(request, tmp_path_factory) -> Bundle:
    target, precision = request.param
    out = tmp_path_factory.mktemp("engines") / f"{target}-{precision}"
    job = ExportJob("nano", out, target=target, precision=precision, input_side=256, photos=2)
    return export_bundle(job).bundle


def test_every_precision_runs_on_the_oldest_engines_or_names_what_it_needs(bundle):
    measured_here = bundle.report()["figures"]["mask_miou"]
    named = " or ".join(oldest_engines(bundle))
    for name, packages in ENGINES[bundle.manifest.target].items():
        figures = golden_figures(environment(name, *packages), bundle.root)
        print(bundle.manifest.target, bundle.manifest.precision, name, figures)
        if NAMES.get(name, "ONNX Runtime") in named:
            assert figures["mask_miou"] >= measured_here - SAME
        else:
            assert "needs LiteRT" in figures["error"] or "cannot load" in figures["error"]


def test_the_official_layout_runs_on_the_oldest_onnxruntime(tmp_path):
    job = ExportJob("nano", tmp_path / "official", input_side=256, layout="official")
    root: Path = export_bundle(job).bundle.root
    python = environment("onnxruntime-1.17", *ENGINES["onnx"]["onnxruntime-1.17"])
    assert golden_figures(python, root)["mask_miou"] > 0.999
