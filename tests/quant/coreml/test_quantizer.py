"""Quantized Core ML packages: the numbers that each scheme stores, and the outputs that the evaluator computes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sam_edge.quantization.weight_grids import round_layers
from sam_edge_exporters import Conversion, Metadata
from sam_edge_exporters import coreml as exporter
from sam_edge_quant import Plan, Range, Recipe, fingerprint, recipe_named
from sam_edge_quant.coreml import graph, passes
from sam_edge_quant.coreml import quantizer as coreml
from sam_edge_quant.coreml.palette import palettize
from sam_edge_runtime.agreement.metrics import snr_db
from sam_edge_runtime.bundle.contract import GraphContract, TensorSpec
from sam_edge_runtime.errors import ExportError
from sam_edge_runtime.mil import Program, read_package
from sam_edge_runtime.mil.package import Operation
from tests.model.builders import photo, seed

SIDE = 16
METADATA = Metadata("a small net", "Apache-2.0", "9.9", (("sam-edge.graph", "net"),))
NAMES = ("stem", "side", "body", "tail", "head", "up", "point")


class Net(nn.Module):
    """Every kind of layer, with pass-through operations between them and some that are none."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.side = nn.Conv2d(16, 16, 1)
        self.body = nn.Conv2d(16, 16, 3, padding=1)
        self.tail = nn.Conv2d(32, 16, 1)
        self.head = nn.Linear(16, 12)
        self.up = nn.ConvTranspose2d(16, 4, 2, 2)
        self.point = nn.Conv2d(4, 2, 1)
        seed(self)
        with torch.no_grad():
            self.side.weight[3] = 0  # a dead channel, as training leaves some

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        begun = self.stem(image / 64 - 2).relu()
        beside = self.side(begun)
        added = beside + self.body(beside)
        joined = F.gelu(self.tail(torch.cat([added, begun], 1)))
        return self.head(joined.permute(0, 2, 3, 1)), self.point(self.up(joined))


CONTRACT = GraphContract(
    (TensorSpec("image", (1, 3, SIDE, SIDE), "a photo"),),
    (
        TensorSpec("scores", (1, SIDE // 2, SIDE // 2, 12), "twelve for each position"),
        TensorSpec("masks", (1, 2, SIDE, SIDE), "two for each pixel"),
    ),
)
IMAGE = photo(SIDE).numpy()


@pytest.fixture(scope="module")
def net() -> Net:
    return Net().eval()


@pytest.fixture(scope="module")
def source(net, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("coreml") / "net.mlpackage"
    exporter.export(net, CONTRACT, path, Conversion(metadata=METADATA))
    return path


def names_of(net: nn.Module, kind: Any = np.float32) -> dict[str, str]:
    return {
        fingerprint(weight.detach().numpy().astype(kind)): name.removesuffix(".weight")
        for name, weight in net.named_parameters()
        if name.endswith(".weight")
    }


def plan_of(net: nn.Module, scheme: str, **layers: str) -> Plan:
    recipe: Recipe = recipe_named(scheme)
    return Plan(replace(recipe, layers=layers), names_of(net))


def measured(path: Path, plan: Plan, image: np.ndarray = IMAGE) -> dict[str, Range]:
    ranges: dict[str, Range] = {}

    def receive(name: str, value: np.ndarray) -> None:
        ranges[name] = Range(float(value.min()), float(value.max()))

    coreml.observer(path, coreml.tensors(path, plan))({"image": image}, receive)
    return ranges


def outputs_of(path: Path, image: np.ndarray = IMAGE) -> dict[str, np.ndarray]:
    return Program(read_package(path)).run({"image": image})


def maker(path: Path, output: str) -> Operation:
    return next(each for each in read_package(path).operations if output in each.outputs)


class Patches(nn.Module):
    """The start of a ViT: transposed patches, and position embeddings added to them."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, 16, 4, 4)
        self.positions = nn.Parameter(torch.zeros(1, 4, 4, 16))
        self.head = nn.Linear(16, 12)
        seed(self)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.proj(image / 64 - 2).permute(0, 2, 3, 1) + self.positions)


@pytest.mark.parametrize("scheme", ["w8", "w8a8", "w4"])
def test_position_embeddings_may_be_added_to_transposed_patches(tmp_path, scheme):
    patches = Patches().eval()
    contract = GraphContract(CONTRACT.inputs, (TensorSpec("scores", (1, 4, 4, 12), "twelve for each position"),))
    source, path = tmp_path / "net.mlpackage", tmp_path / "small.mlpackage"
    exporter.export(patches, contract, source, Conversion(metadata=METADATA))
    plan = plan_of(patches, scheme)
    report = coreml.quantize(source, path, plan, measured(source, plan))
    assert report["layers"] == {"proj": scheme, "head": scheme}
    assert snr_db(outputs_of(source)["scores"], outputs_of(path)["scores"]) > (10 if scheme == "w4" else 30)


def layer_outputs(path: Path, net: nn.Module) -> dict[str, str]:
    """The name of each layer's output in an fp32 package."""
    plan = plan_of(net, "fp32")
    return {layer.name: layer.output for layer in graph.layers_of(read_package(path), plan) if layer.name}


def weights_after(path: Path, outputs: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The weight that each layer computes with."""
    found: dict[str, np.ndarray] = {}
    by_output = {name: layer for layer, name in outputs.items()}

    def watch(operation: Operation, given: dict[str, Any], _: Any) -> None:
        if operation.outputs[0] in by_output:
            found[by_output[operation.outputs[0]]] = np.asarray(given["weight"])

    Program(read_package(path)).run({"image": IMAGE}, watch)
    return found


@pytest.fixture(scope="module")
def w8a8(net, source, tmp_path_factory) -> tuple[Path, dict[str, Any], dict[str, Range]]:
    path = tmp_path_factory.mktemp("coreml") / "w8a8.mlpackage"
    plan = plan_of(net, "w8a8")
    ranges = measured(source, plan)
    return path, coreml.quantize(source, path, plan, ranges), ranges


# Weights --------------------------------------------------------------------------------------------------------------


def test_w8_keeps_each_weight_within_half_its_channels_scale(net, source, tmp_path, capfd):
    path = tmp_path / "w8.mlpackage"
    report = coreml.quantize(source, path, plan_of(net, "w8"), {})
    assert capfd.readouterr() == ("", "")
    assert report["layers"] == {**dict.fromkeys(NAMES, "w8"), "point": "fp32"}  # eight elements
    assert report["unknown"] == report["not_int8_on_neural_engine"] == []
    assert report["operations"]["constexpr_affine_dequantize"] == len(NAMES) - 1
    found = weights_after(path, layer_outputs(source, net))
    for name in NAMES:
        weight = getattr(net, name).weight.detach().numpy()
        channels = np.moveaxis(weight, 1 if name == "up" else 0, 0).reshape(weight.shape[name == "up"], -1)
        ours = np.moveaxis(found[name], 1 if name == "up" else 0, 0).reshape(channels.shape)
        scale = np.abs(channels).max(1, keepdims=True) / 127
        assert np.all(np.abs(ours - channels) <= (0 if name == "point" else 0.501) * scale)
        assert name == "point" or np.abs(ours - channels).max() > 0
    for ours, theirs in zip(outputs_of(path).values(), outputs_of(source).values(), strict=True):
        assert snr_db(theirs, ours) > 35


def test_a_weight_with_qat_scales_is_not_rounded_again(tmp_path):
    net = Net().eval()
    round_layers(net)
    source, path = tmp_path / "net.mlpackage", tmp_path / "w8.mlpackage"
    exporter.export(net, CONTRACT, source, Conversion(metadata=METADATA))
    coreml.quantize(source, path, plan_of(net, "w8"), {})
    outputs = layer_outputs(source, net)
    for name, weight in weights_after(path, outputs).items():
        before = weights_after(source, outputs)[name]
        np.testing.assert_allclose(weight, before, atol=2e-7, err_msg=name)


def test_the_palette_of_w4_is_near_the_best_one(net, source, tmp_path):
    from coremltools._deps import _kmeans1d

    path = tmp_path / "w4.mlpackage"
    report = coreml.quantize(source, path, plan_of(net, "w4", head="w8"), {})
    assert report["layers"] == {**dict.fromkeys(NAMES, "w4"), "point": "fp32", "head": "w8"}
    found = weights_after(path, layer_outputs(source, net))
    for name in ("stem", "side", "body", "tail", "up"):
        weight = getattr(net, name).weight.detach().numpy()
        assert len(np.unique(found[name])) <= 16
        best = _kmeans1d.cluster(weight.reshape(-1), 16)
        least = np.square(np.array(best.centroids)[best.clusters] - weight.reshape(-1)).sum()
        assert np.square(found[name] - weight).sum() < 1.02 * least


def test_a_palette_holds_a_weight_of_few_values_exactly():
    weight = np.array([[3.0, -1.0, 3.0, 0.5]] * 5, np.float32)
    palette, indices = palettize(weight)
    np.testing.assert_array_equal(palette[indices].reshape(weight.shape), weight)
    assert palette.shape == (16,)


def test_a_weight_that_is_no_layers_stays_in_float_and_is_named(net, source, tmp_path):
    plan = plan_of(net, "w8")
    plan = replace(plan, names={key: name for key, name in plan.names.items() if name != "side"})
    report = coreml.quantize(source, tmp_path / "w8.mlpackage", plan, {})
    output = layer_outputs(source, net)["side"]
    assert report["unknown"] == [f"conv '{output}'"]
    assert isinstance(maker(tmp_path / "w8.mlpackage", output).inputs["weight"], np.ndarray)


def test_a_plan_of_fp32_copies_the_package(net, source, tmp_path):
    path = tmp_path / "fp32.mlpackage"
    report = coreml.quantize(source, path, plan_of(net, "fp32"), {})
    assert set(report["layers"].values()) == {"fp32"}
    for name, value in outputs_of(source).items():
        np.testing.assert_array_equal(outputs_of(path)[name], value)


# Activations ----------------------------------------------------------------------------------------------------------


def test_ranges_are_needed_where_int8_begins_and_ends(net, source):
    outputs = layer_outputs(source, net)
    names = coreml.tensors(source, plan_of(net, "fp32", side="w8a8"))
    operation = maker(source, outputs["side"])
    assert set(names) == {operation.inputs["x"].name, outputs["side"]}
    assert coreml.tensors(source, plan_of(net, "w8")) == []


def test_the_observer_passes_on_the_programs_values(net, source):
    values: dict[str, np.ndarray] = {}
    output = layer_outputs(source, net)["stem"]
    coreml.observer(source, ["image", output])({"image": IMAGE}, values.__setitem__)
    assert values.keys() == {"image", output}
    np.testing.assert_array_equal(values["image"], IMAGE)
    expected = net.stem(torch.from_numpy(IMAGE) / 64 - 2).detach().numpy()
    np.testing.assert_allclose(values[output], expected, atol=1e-4)


def rounded(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Quantized to INT8 and dequantized, by a range that holds zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / 255)
    zero = np.round(-128 - low / scale)
    return ((np.clip(np.rint(values / scale) + zero, -128, 127) - zero) * scale).astype(np.float32)


def test_w8a8_computes_the_same_as_integers(net, source, tmp_path):
    plan = plan_of(net, "fp32", head="w8a8")
    ranges = measured(source, plan)
    path = tmp_path / "w8a8.mlpackage"
    report = coreml.quantize(source, path, plan, ranges)
    assert report["layers"] == {**dict.fromkeys(NAMES, "fp32"), "head": "w8a8"}
    weight = weights_after(path, layer_outputs(source, net))["head"]
    fed = maker(source, layer_outputs(source, net)["head"]).inputs["x"].name
    values: dict[str, np.ndarray] = {}
    coreml.observer(source, [fed])({"image": IMAGE}, values.__setitem__)
    expected = rounded(values[fed], ranges[fed].low, ranges[fed].high) @ weight.T + net.head.bias.detach().numpy()
    np.testing.assert_allclose(outputs_of(path)["scores"], expected, atol=1e-5)
    assert np.abs(outputs_of(source)["scores"] - expected).max() > 1e-3  # so the test can fail


def test_pass_through_operations_are_int8_only_between_int8_layers(net, source, w8a8):
    path, report, _ = w8a8
    kinds = {name: maker(path, name).op_type for name in read_package(path).outputs}
    assert kinds == {"scores": "linear", "masks": "conv"}
    package = read_package(path)
    makers = {output: each for each in package.operations for output in each.outputs}

    def fed_by(operation: Operation) -> set[str]:
        return {makers[name].op_type for name in graph.references(operation) if name in makers}

    by_kind: dict[str, list[Operation]] = {}
    for operation in package.operations:
        by_kind.setdefault(operation.op_type, []).append(operation)
    assert [fed_by(each) for each in by_kind["add"]] == [{"dequantize"}]
    assert [fed_by(each) for each in by_kind["concat"]] == [{"dequantize"}]
    assert [fed_by(each) for each in by_kind["conv_transpose"]] == [{"constexpr_affine_dequantize", "gelu"}]
    assert report["layers"] == {**dict.fromkeys(NAMES, "w8a8"), "up": "w8", "point": "fp32"}
    said = report["not_int8_on_neural_engine"]
    assert [each.partition(" ")[0] for each in said] == ["conv_transpose", "conv", "gelu"]
    for name, value in outputs_of(source).items():
        assert snr_db(value, outputs_of(path)[name]) > 25


def test_pass_through_operations_between_float_stay_in_float(net, source):
    plan = plan_of(net, "w8a8", tail="fp32")  # no INT8 operation reads the sum
    package = read_package(source)
    kinds = [each.op_type for each in graph.int8_operations(package, graph.layers_of(package, plan))]
    assert kinds == ["conv", "conv", "conv", "linear"]
    plan = plan_of(net, "w8a8", side="fp32")  # one of the addition's inputs is float
    kinds = [each.op_type for each in graph.int8_operations(package, graph.layers_of(package, plan))]
    assert "add" not in kinds


def test_each_layer_may_have_its_own_scheme(net, source, tmp_path):
    path = tmp_path / "mixed.mlpackage"
    plan = plan_of(net, "w8a8", body="w8", tail="w4", head="fp32")
    report = coreml.quantize(source, path, plan, measured(source, plan))
    schemes = {"stem": "w8a8", "side": "w8a8", "body": "w8", "tail": "w4", "head": "fp32", "up": "w8", "point": "fp32"}
    assert report["layers"] == schemes
    assert report["operations"]["constexpr_lut_to_dense"] == 1
    for name, value in outputs_of(source).items():
        assert snr_db(value, outputs_of(path)[name]) > 15


def test_tensors_before_and_after_a_concatenation_share_one_range(source, w8a8):
    path, _, ranges = w8a8
    package = read_package(path)
    makers = {output: each for each in package.operations for output in each.outputs}
    (joined,) = [each for each in package.operations if each.op_type == "concat"]
    before = [makers[each.name] for each in joined.inputs["values"]]
    (after,) = [each for each in package.operations if joined.outputs[0] in graph.references(each)]
    assert after.op_type == "quantize"
    (joined,) = [each for each in read_package(source).operations if each.op_type == "concat"]
    together = [ranges[name] for name in (*graph.references(joined), joined.outputs[0])]
    assert len({each.high for each in together}) > 1  # they differ before they are shared
    width = max(each.high for each in together) - min(each.low for each in together)
    for each in (*before, after):
        assert float(each.inputs["scale"]) * 255 == pytest.approx(width, rel=1e-6)


def test_ranges_beyond_float16_and_of_width_zero_are_taken(net, source, tmp_path):
    plan = plan_of(net, "fp32", side="w8a8")
    fed, made = coreml.tensors(source, plan)
    for low, high in ((-1e6, 2e6), (0.0, 0.0)):
        path = tmp_path / f"{high}.mlpackage"
        coreml.quantize(source, path, plan, {fed: Range(low, high), made: Range(-2.0, 2.0)})
        before = maker(path, maker(path, made).inputs["x"].name)
        width = float(before.inputs["scale"]) * 255
        assert width == pytest.approx(max(high - low, 255 * 2.0**-20), rel=1e-3)
        assert np.isfinite(outputs_of(path)["scores"]).all()


def test_a_missing_or_impossible_range_is_named(net, source, tmp_path):
    plan = plan_of(net, "fp32", side="w8a8")
    fed, made = coreml.tensors(source, plan)
    path = tmp_path / "w8a8.mlpackage"
    for wrong, said in (
        ({fed: Range(0, 1)}, made),
        ({made: Range(0, 1), fed: Range(0, float("nan"))}, "nan"),
        ({made: Range(0, 1), fed: Range(2, 1)}, fed),
    ):
        with pytest.raises(ExportError, match=said) as caught:
            coreml.quantize(source, path, plan, wrong)
        assert "\n" not in str(caught.value)
    assert not path.exists()


# Unchanged ------------------------------------------------------------------------------------------------------------


def described(path: Path) -> Any:
    from coremltools.models.utils import load_spec

    description = load_spec(str(path)).description
    for key in [key for key in description.metadata.userDefined if key.startswith("com.github.apple.coremltools")]:
        del description.metadata.userDefined[key]
    return description


def test_descriptions_survive(source, w8a8):
    assert described(w8a8[0]) == described(source)
    metadata = described(w8a8[0]).metadata
    assert (metadata.shortDescription, metadata.license) == (METADATA.title, METADATA.licence)
    assert metadata.userDefined["sam-edge.graph"] == "net"
    assert {each.name for each in w8a8[0].iterdir()} == {"Manifest.json", "Data"}
    assert read_package(w8a8[0]).inputs == read_package(source).inputs


def zero_points(path: Path) -> set[int]:
    return {int(each.inputs["zero_point"]) for each in read_package(path).operations if each.op_type == "quantize"}


def test_fp16_with_pictures_is_taken_too(net, tmp_path):
    path, smaller = tmp_path / "fp16.mlpackage", tmp_path / "w8a8.mlpackage"
    exporter.export(net, CONTRACT, path, Conversion("fp16", metadata=METADATA, picture_input=True))
    plan = Plan(recipe_named("w8a8"), names_of(net, np.float16))
    report = coreml.quantize(path, smaller, plan, measured(path, plan))
    assert report["layers"] == {**dict.fromkeys(NAMES, "w8a8"), "up": "w8", "point": "fp32"}
    assert described(smaller).input[0].type.WhichOneof("Type") == "imageType"
    assert described(smaller) == described(path)
    wide = {name: Range(-600, 900) for name in coreml.tensors(path, plan)}  # coremltools alone makes NaN of them
    coreml.quantize(path, tmp_path / "wide.mlpackage", plan, wide)
    assert zero_points(tmp_path / "wide.mlpackage") == {-26}
    floats = {dtype for each in read_package(smaller).operations for dtype in each.dtypes if dtype.startswith("float")}
    assert floats == {dtype for each in read_package(path).operations for dtype in each.dtypes}
    for name, value in outputs_of(path).items():
        assert snr_db(value, outputs_of(smaller)[name]) > 25


class Prompts(nn.Module):
    """Any number of prompts."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 24), nn.Linear(24, 8)
        seed(self)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(image).relu())


def test_flexible_shapes_survive(tmp_path):
    net, path, smaller = Prompts().eval(), tmp_path / "free.mlpackage", tmp_path / "w8a8.mlpackage"
    contract = GraphContract((TensorSpec("image", ("B", "N", 2), "x"),), (TensorSpec("y", ("B", "N", 8), "y"),))
    exporter.export(net, contract, path)
    draw = np.random.default_rng(0)
    image = draw.uniform(-1, 1, (3, 7, 2)).astype(np.float32)
    plan = plan_of(net, "w8a8")
    coreml.quantize(path, smaller, plan, measured(path, plan, image))
    assert described(smaller) == described(path)
    for shape in ((3, 7, 2), (1, 1, 2)):
        given = image[: shape[0], : shape[1]]
        assert snr_db(outputs_of(path, given)["y"], outputs_of(smaller, given)["y"]) > 25


# Errors ---------------------------------------------------------------------------------------------------------------


def test_a_compressed_package_is_refused(net, source, tmp_path):
    coreml.quantize(source, tmp_path / "w8.mlpackage", plan_of(net, "w8"), {})
    with pytest.raises(ExportError, match="compressed already"):
        coreml.quantize(tmp_path / "w8.mlpackage", tmp_path / "again.mlpackage", plan_of(net, "w8"), {})


def test_a_scheme_that_core_ml_lacks_is_refused(net, source, tmp_path):
    with pytest.raises(ExportError, match="no scheme 'dynamic' for layer side: choose one of fp32, w8, w8a8, w4"):
        coreml.quantize(source, tmp_path / "dynamic.mlpackage", plan_of(net, "w8", side="dynamic"), {})


def test_a_failure_of_coremltools_is_one_line(net, source, tmp_path, monkeypatch):
    def crash(*_: Any) -> None:
        raise ValueError("a long story\n  and its end\n")

    monkeypatch.setattr(passes.optimize, "linear_quantize_weights", crash)
    with pytest.raises(ExportError) as caught:
        coreml.quantize(source, tmp_path / "w8.mlpackage", plan_of(net, "w8"), {})
    assert str(caught.value) == "coremltools failed on net.mlpackage: and its end"


def test_a_layer_that_coremltools_skips_is_an_error(net, source, tmp_path, monkeypatch):
    monkeypatch.setattr(passes.optimize, "linear_quantize_weights", lambda model, _: model)
    with pytest.raises(ExportError, match=r"did not give conv '\w+' of w8.mlpackage the scheme w8"):
        coreml.quantize(source, tmp_path / "w8.mlpackage", plan_of(net, "w8"), {})


def test_coremltools_has_the_private_functions_that_passes_replaces():
    """`quantize_activations` relies on private parts of coremltools 9.0: if this fails, revise it and `graph`."""
    before = passes.PASS_REGISTRY["compression::insert_prefix_quantize_dequantize_pair"]
    after = passes.PASS_REGISTRY["compression::insert_suffix_quantize_dequantize_pair"]
    assert set(before.SUPPORTED_OP_TYPES) == graph.CORES | graph.PASS_THROUGH
    assert after._allowed_activations == graph.ACTIVATIONS
    for name, parameters, users in (
        ("get_min_and_max_values", ["activation_stats", "var_name"], (type(before), type(after))),
        (
            "quantize_weight_by_dtype",
            ["weight", "axes", "dtype", "quantization_mode"],
            (type(before), passes.optimize_utils.quantize_weight),
        ),
    ):
        assert list(inspect.signature(getattr(passes.optimize_utils, name)).parameters) == parameters
        assert all(f"{name}(" in inspect.getsource(user) for user in users)
    assert "optimize_utils.quantize_weight(" in inspect.getsource(type(after))
    for name in ("spec_version", "skip_model_load"):
        assert name in inspect.signature(passes._apply_graph_pass).parameters
