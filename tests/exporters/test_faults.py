"""Faults planted in every kind of artifact are caught, and traced to their first wrong tensor.

A fault is planted by converting a module that computes something else than the model, as a converter's silent mistake
would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sam_edge.export import context, pipeline
from sam_edge.export.job import ExportJob
from sam_edge.export.pipeline import ExportResult, export_bundle
from sam_edge.model import DecoderGraph, EncoderGraph, Graphs, Sam, graphs_of
from sam_edge.verification.trace import Traced, trace_bundle
from sam_edge.weights.load import find_source, load_sam
from sam_edge_runtime.backends import load_backend
from sam_edge_runtime.bundle.manifest import Manifest
from sam_edge_runtime.bundle.targets import TARGETS
from tests.conftest import SMALL_SIDE

pytestmark = pytest.mark.slow  # whole bundles; small graphs are in tests/verification

SOURCE = find_source("nano", None)


class SwappedAxes(nn.Module):
    """An encoder whose output has rows and columns exchanged; all shapes still fit."""

    def __init__(self, graph: EncoderGraph) -> None:
        super().__init__()
        self.inner = graph

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.inner(image)
        rows, columns = (1, 2) if out.shape[-1] == 256 else (2, 3)
        return out.transpose(rows, columns)


class DroppedMask(nn.Module):
    """A decoder that ignores the mask prompt."""

    def __init__(self, graph: DecoderGraph) -> None:
        super().__init__()
        self.inner = graph

    def forward(self, embeddings: Tensor, coords: Tensor, labels: Tensor, mask: Tensor, has: Tensor) -> Tensor:
        out: Tensor = self.inner(embeddings, coords, labels, 0.0 * mask, 0.0 * has)
        return out


@dataclass(frozen=True)
class Fault:
    """A change of either graph, and the graph in which tracing has to find it."""

    encoder: Callable[[EncoderGraph], nn.Module]
    decoder: Callable[[DecoderGraph], nn.Module]
    where: str


FAULTS = {
    "swapped axes": Fault(SwappedAxes, lambda graph: graph, "image encoder"),
    "dropped mask": Fault(lambda graph: graph, DroppedMask, "mask decoder"),
}


def plant(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    def faulty(sam: Sam, manifest: Manifest) -> Graphs:
        encoder, decoder = graphs_of(sam, manifest)
        return Graphs(fault.encoder(encoder).eval(), fault.decoder(decoder).eval())

    monkeypatch.setattr(pipeline, "graphs_of", faulty)


def traced(result: ExportResult, sam: Sam) -> dict[str, Traced]:
    found = trace_bundle(result.bundle, load_backend(result.bundle), sam, lambda what: None)
    return {each.graph: each for each in found}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught_and_traced(tmp_path, monkeypatch, target, name):
    fault = FAULTS[name]
    plant(monkeypatch, fault)
    result = export_bundle(ExportJob("nano", tmp_path / "nano", target=target, input_side=SMALL_SIDE))
    assert any("mask mIoU" in line or "SNR" in line for line in result.missed)
    graphs = traced(result, load_sam("nano", SOURCE, SMALL_SIDE).sam)
    found = graphs.pop(fault.where)
    (healthy,) = graphs.values()
    assert healthy.first_wrong is None
    assert found.first_wrong is not None
    assert found.first_wrong in found.sentence
    assert 0 < found.wrong < found.tensors
    if name == "swapped axes":  # all tensors before it are right
        assert found.wrong <= 2


def scaled(sam: Sam, factor: float = 1e6) -> Sam:
    """The same outputs from values beyond float16's range: one hidden layer enlarged, the next one reduced."""
    with torch.no_grad():
        for mlp in sam.mask_decoder.output_hypernetworks_mlps:
            first, second = mlp.layers[0], mlp.layers[1]
            first.weight *= factor
            first.bias *= factor
            second.weight /= factor
    return sam


@pytest.fixture
def overflowing(monkeypatch) -> Sam:
    """nano with a hidden layer beyond float16's range; the pipeline loads these weights."""

    def load(*arguments):
        loaded = load_sam(*arguments)
        scaled(loaded.sam)
        return loaded

    monkeypatch.setattr(context, "load_sam", load)
    return scaled(load_sam("nano", SOURCE, SMALL_SIDE).sam)


@pytest.mark.parametrize("target", TARGETS)
def test_an_overflow_in_fp16_is_caught_and_traced(tmp_path, overflowing, target):
    job = ExportJob("nano", tmp_path / "nano", target=target, precision="fp16", input_side=SMALL_SIDE)
    result = export_bundle(job)
    assert result.missed
    graphs = traced(result, overflowing)
    assert graphs["image encoder"].first_wrong is None
    assert graphs["mask decoder"].first_wrong is not None
    assert graphs["mask decoder"].wrong < 80  # the four small networks and their outputs


def test_mixed_precision_keeps_overflowing_operations_in_float32(tmp_path, overflowing):
    job = ExportJob("nano", tmp_path / "nano", target="coreml", precision="mixed", input_side=SMALL_SIDE)
    result = export_bundle(job)
    assert result.missed == ()
    graphs = exported(result.bundle.root)
    kept = graphs["decoder.mlpackage"]["kept_in_float32"]
    assert any("its output reaches" in reason for reason in kept.values())
    assert graphs["encoder.mlpackage"]["kept_in_float32"] == {}
    assert graphs["decoder.mlpackage"]["float16"] > 5 * graphs["decoder.mlpackage"]["float32"]


def exported(root: Path) -> dict[str, dict[str, object]]:
    import json

    graphs: dict[str, dict[str, object]] = json.loads((root / "report.json").read_text())["graphs"]
    return graphs


def test_fp32_holds_the_overflowing_values(tmp_path, overflowing):
    result = export_bundle(ExportJob("nano", tmp_path / "nano", target="coreml", input_side=SMALL_SIDE))
    assert result.missed == ()
    assert np.isfinite(result.agreement.logit_snr_db)
