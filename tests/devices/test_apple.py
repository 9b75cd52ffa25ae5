"""Core ML's results turned into figures. The framework exists only on Macs, so objects of its shape stand in."""

from __future__ import annotations

import inspect
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from sam_edge.devices.apple import NAME, UNITS, benchmark_apple, count_operations, figures_from, graph_inputs
from sam_edge.devices.timing import unit_shares
from sam_edge.devices.work import works_of
from sam_edge_runtime.backends import coreml
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.contract import Layout
from sam_edge_runtime.errors import BackendError, UsageError


class MLCPUComputeDevice:
    """Named as in coremltools, because units are recognized by the class name."""


class MLNeuralEngineComputeDevice:
    """Likewise."""


CPU, ANE = MLCPUComputeDevice(), MLNeuralEngineComputeDevice()


def operation(name, unit=None, weight=None, *blocks):
    return SimpleNamespace(operator_name=name, unit=unit, weight=weight, blocks=[block(*each) for each in blocks])


def block(*operations):
    return SimpleNamespace(operations=list(operations))


class Plan:
    """As `coremltools.models.compute_plan.MLComputePlan` answers."""

    def __init__(self, *operations, program=True):
        functions = {"main": SimpleNamespace(block=block(*operations))}
        self.model_structure = SimpleNamespace(program=SimpleNamespace(functions=functions) if program else None)

    def get_compute_device_usage_for_mlprogram_operation(self, operation):
        return None if operation.unit is None else SimpleNamespace(preferred_compute_device=operation.unit)

    def get_estimated_cost_for_mlprogram_operation(self, operation):
        return None if operation.weight is None else SimpleNamespace(weight=operation.weight)


@pytest.fixture
def bundle(tflite_bundle) -> Bundle:
    changed = replace(tflite_bundle.manifest, target="coreml", batches=(), layout=Layout.NCHW)
    return Bundle(tflite_bundle.root, changed)


def test_operations_are_counted_by_kind_and_unit_with_their_cost():
    inner = [operation("ios17.mul", CPU, 0.05)]
    plan = Plan(
        operation("const"),
        operation("ios17.conv", ANE, 0.5),
        operation("ios17.conv", ANE, 0.25),
        operation("ios17.conv", CPU, 0.1),
        operation("cond", CPU, None, inner, inner),
        operation("ios16.softmax", ANE, 0.1),
    )
    operators = count_operations(plan)
    assert [(each.kind, each.count, each.unit, each.ms) for each in operators[:2]] == [
        ("conv", 2, "Neural Engine", None),
        ("mul", 2, "CPU", None),
    ]
    assert {(each.kind, each.unit): (each.count, round(each.share, 9)) for each in operators} == {
        ("conv", "Neural Engine"): (2, 0.714285714),
        ("conv", "CPU"): (1, 0.095238095),
        ("softmax", "Neural Engine"): (1, 0.095238095),
        ("mul", "CPU"): (2, 0.095238095),
        ("cond", "CPU"): (1, 0.0),
    }
    ane, cpu = unit_shares(operators)
    assert (ane.unit, ane.operations, ane.of_operations) == ("Neural Engine", 3, pytest.approx(3 / 7))
    assert ane.of_time == pytest.approx(0.85 / 1.05)
    assert (cpu.unit, cpu.operations, cpu.of_time) == ("CPU", 4, pytest.approx(0.2 / 1.05))


def test_another_kind_of_model_is_refused():
    with pytest.raises(BackendError, match="not an ML Program"):
        count_operations(Plan(program=False))


def test_the_first_call_is_reported_separately():
    rest = np.linspace(10, 20, 101)
    figures = figures_from(250.0, [99.0, *rest])
    assert (figures.init_ms, figures.first_ms, figures.warm_up_ms) == (250.0, 99.0, None)
    steady = figures.steady
    assert (steady.count, steady.least, steady.most) == (101, 10.0, 20.0)
    assert (steady.median, steady.p90, steady.p95, steady.p99) == pytest.approx((15.0, 19.0, 19.5, 19.9))
    assert steady.std == pytest.approx(rest.std())
    with pytest.raises(BackendError, match="1 durations"):
        figures_from(1.0, [2.0])


def test_inputs_fit_the_contract(bundle):
    encoder, decoder = works_of("b", bundle)
    (image,) = graph_inputs(bundle, encoder).values()
    assert (image.shape, image.dtype) == ((1, 3, 256, 256), np.float32)
    inputs = graph_inputs(bundle, decoder)
    contract = bundle.manifest.decoder_contract
    assert {name: array.shape for name, array in inputs.items()} == {s.name: s.shape for s in contract.inputs}
    assert set(np.unique(inputs["point_labels"])) <= {-2.0, -1.0, 0.0, 1.0, 2.0, 3.0}
    picture = Bundle(bundle.root, replace(bundle.manifest, picture_input=True))
    assert graph_inputs(picture, encoder)["image"].size == (256, 256)
    free = Bundle(bundle.root, replace(bundle.manifest, prompts=None, points=None))
    assert graph_inputs(free, works_of("b", free)[1])["point_coords"].shape == (1, 2, 2)


def test_bad_input_is_refused(bundle, onnx_bundle, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for arguments, words in (
        (([],), "there is no bundle"),
        (([bundle], 0), "0 repetitions"),
        (([bundle], 5, ("tpu",)), "'tpu' is unknown: choose from all, cpu, ane, gpu"),
        (([onnx_bundle],), "takes bundles for coreml only"),
        (([bundle],), "is measured on a Mac"),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            benchmark_apple(*arguments)
        assert "\n" not in str(caught.value)


def test_the_used_names_exist_in_coremltools():
    """Code that cannot run here at least uses existing names and arguments."""
    perf_utils = pytest.importorskip("coremltools.models.ml_program.experimental.perf_utils")
    import coremltools
    from coremltools.models import compute_plan

    benchmarker = getattr(perf_utils, NAME)
    assert {"iterations"} <= set(inspect.signature(benchmarker.benchmark_load).parameters)
    assert {"inputs", "iterations", "warmup"} <= set(inspect.signature(benchmarker.benchmark_predict).parameters)
    assert {"path", "compute_units"} <= set(inspect.signature(compute_plan.MLComputePlan.load_from_path).parameters)
    for method in ("get_compute_device_usage_for_mlprogram_operation", "get_estimated_cost_for_mlprogram_operation"):
        assert hasattr(compute_plan.MLComputePlan, method)
    assert {"compute_units", "skip_model_load"} <= set(inspect.signature(coremltools.models.MLModel).parameters)
    assert all(hasattr(coremltools.ComputeUnit, unit) for unit in UNITS.values())
    assert coreml.UNITS == UNITS
    from coremltools.models import compute_device

    assert compute_device.MLCPUComputeDevice.__name__ == MLCPUComputeDevice.__name__
    assert compute_device.MLNeuralEngineComputeDevice.__name__ == MLNeuralEngineComputeDevice.__name__
