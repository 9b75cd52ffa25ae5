"""The table of targets: it is complete, and agrees with the registries of functions and files that cannot read it."""

from __future__ import annotations

import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from sam_edge.devices.ssh_requirements import ENGINES
from sam_edge.export.job import ExportJob, precisions_of
from sam_edge.model.lean import PARTS
from sam_edge.verification.intermediates import INTERMEDIATES
from sam_edge_exporters import EXPORTERS, exporter_for
from sam_edge_quant import FLOAT, RECIPES, quantizer_for
from sam_edge_runtime.agreement.agreement import BOUNDS, bounds_for
from sam_edge_runtime.backends import BACKENDS, load_backend
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.targets import TARGETS, target_named
from sam_edge_runtime.errors import UsageError
from tests.runtime.standin import manifest


def test_every_target_has_an_exporter_a_backend_a_reader_of_intermediates_and_bounds():
    assert set(TARGETS) == set(EXPORTERS) == set(BACKENDS) == set(INTERMEDIATES)
    for target in TARGETS.values():
        for precision in (*target.precisions, *target.schemes, "auto", "custom"):
            assert (target.name, precision) in BOUNDS


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_precisions_schemes_and_lean_parts_of_the_table_exist(target):
    assert set(target.precisions) | set(target.schemes) <= set(RECIPES)
    assert FLOAT in target.precisions
    assert FLOAT in target.schemes
    assert set(target.lean) <= set(PARTS)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_a_remote_host_must_have_an_engine_of_the_table(target):
    """`ssh_requirements` runs on the host before the runtime is copied there, so it has a list of its own."""
    assert ENGINES[target.name] == {target.engines[0].distribution: tuple(each.module for each in target.engines)}


def test_core_ml_runs_on_macs_only(monkeypatch):
    for platform, running in (("darwin", {"onnx", "coreml", "tflite"}), ("linux", {"onnx", "tflite"})):
        monkeypatch.setattr(sys, "platform", platform)
        assert {name for name, target in TARGETS.items() if target.runs_here} == running


def test_an_unknown_target_is_refused_with_the_choices():
    with pytest.raises(UsageError, match=r"^no target called 'onix': choose one of onnx, coreml, tflite$"):
        target_named("onix")
    with pytest.raises(UsageError, match=r"^no target called 'onix': choose one of onnx, coreml, tflite, or all$"):
        target_named("onix", "all")


@pytest.mark.parametrize(
    "use",
    [
        exporter_for,
        quantizer_for,
        precisions_of,
        lambda target: ExportJob("nano", Path("out"), target=target),
        lambda target: bounds_for(target, "fp32"),
        lambda target: load_backend(Bundle(Path("nowhere"), manifest(target=target))),
    ],
    ids=["exporter_for", "quantizer_for", "precisions_of", "ExportJob", "bounds_for", "load_backend"],
)
def test_an_unknown_target_has_one_message_everywhere(use):
    with pytest.raises(UsageError, match=r"^no target called 'onix': choose one of onnx, coreml, tflite$"):
        use("onix")


def test_a_target_is_found_by_its_name_and_cannot_be_changed():
    assert target_named("coreml") is TARGETS["coreml"]
    assert target_named("coreml").install == 'pip install "sam-edge[coreml]"'
    with pytest.raises(FrozenInstanceError):
        TARGETS["onnx"].suffix = ".ort"
    assert replace(TARGETS["onnx"], suffix=".ort").name == "onnx"
