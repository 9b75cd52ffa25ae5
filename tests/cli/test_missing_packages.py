"""Imports that fail: a package of an extra is named with its remedy; a fault of our own is shown as it is."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest

from sam_edge.cli.app import run
from sam_edge.prediction.promptable import opened
from sam_edge_exporters import exporter_for
from sam_edge_quant import quantizer_for
from sam_edge_runtime.errors import missing_package

VERBS = {
    "annotate": ("sam_edge.annotation.annotate", ["annotate", "photos", "--out", "out"]),
    "data compare": ("sam_edge.datasets.compare", ["data", "compare", "a", "b"]),
    "data convert": ("sam_edge.datasets.convert", ["data", "convert", "a", "b", "--to", "coco"]),
    "data describe": ("sam_edge.datasets.describe", ["data", "describe", "a"]),
    "distill": (
        "sam_edge.distillation.distill",
        ["distill", "--teacher", "vit_b", "--student", "nano", "--data", "photos", "--out", "out"],
    ),
    "download": ("sam_edge.weights.download", ["download", "tiny_vit"]),
    "evaluate": ("sam_edge.evaluation.evaluate", ["evaluate", "--data", "photos", "--out", "out"]),
    "export": ("sam_edge.export.job", ["export", "--out", "out"]),
    "train": ("sam_edge.training.train", ["train", "recipe.toml", "--data", "photos", "--out", "out"]),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_whose_own_module_is_broken_does_not_blame_the_installation(verb, monkeypatch):
    module, arguments = VERBS[verb]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=module):
        run(arguments)


def test_exporters_quantizers_and_models_do_not_either(monkeypatch):
    for module, broken in (
        ("sam_edge_exporters.onnx", lambda: exporter_for("onnx")),
        ("sam_edge_quant.onnx.quantizer", lambda: quantizer_for("onnx")),
        ("sam_edge.model.torch_backend", lambda: opened(None, "nano", None)),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        package, _, name = module.rpartition(".")
        monkeypatch.delattr(import_module(package), name, raising=False)  # of an earlier test's import
        with pytest.raises(ModuleNotFoundError, match=module):
            broken()


def test_a_package_that_is_missing_is_named_with_the_extra_that_brings_it(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "sam_edge.weights.download", raising=False)
    monkeypatch.setitem(sys.modules, "pooch", None)
    assert run(["download", "tiny_vit"]) == 2
    assert "downloads need pooch: pip install 'sam-edge[download]'" in capsys.readouterr().err


def test_a_library_that_cannot_be_loaded_is_named_by_its_own_message():
    assert missing_package(ImportError("libcublas.so.12: cannot open\nmore")) == "libcublas.so.12: cannot open"
    assert missing_package(ModuleNotFoundError("No module named 'x'", name="x.y")) == "x.y"
    with pytest.raises(ImportError, match="no attribute"):
        missing_package(ImportError("no attribute", name="sam_edge.data"))
