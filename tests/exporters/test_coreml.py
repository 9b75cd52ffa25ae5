"""Core ML packages, computed by the MIL evaluator where there is no Mac: torch's outputs, and damaged packages."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import coremltools as ct
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sam_edge.export.job import ExportJob
from sam_edge.export.pipeline import ExportResult, export_bundle
from sam_edge_exporters import Conversion, coreml, exporter_for
from sam_edge_runtime import SamPredictor
from sam_edge_runtime.agreement.metrics import snr_db
from sam_edge_runtime.backends import BackendOptions, load_backend
from sam_edge_runtime.backends.coreml import APPLE, EVALUATOR
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.contract import GraphContract, Label, TensorSpec
from sam_edge_runtime.errors import BackendError, BundleError, ExportError
from sam_edge_runtime.mil import Program, read_package
from tests.exporters.layers import Crashing, OneLayer
from tests.model.builders import BOUND, error, seeded_tensor

SIDE, GRID, CELLS, SLOTS = 256, 16, 64, 6
CONTRACT = GraphContract((TensorSpec("x", (2, 64), "anything"),), (TensorSpec("y", (2, 32), "something"),))
ON_A_MAC = sys.platform == "darwin"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> ExportResult:
    out = tmp_path_factory.mktemp("coreml") / "nano"
    return export_bundle(ExportJob("nano", out, target="coreml", input_side=SIDE, points=SLOTS, prompts=2))


@pytest.fixture(scope="module")
def bundle(made) -> Bundle:
    return Bundle.open(made.bundle.root)


def test_the_bundle_keeps_the_bounds_of_fp32(made):
    assert made.missed == ()
    assert made.agreement.embedding_snr_db > 90
    assert len(made.agreement.prompts) > 10


def test_reports_name_the_engine(made):
    report = json.loads((made.bundle.root / "report.json").read_text())
    assert report["engine"] == load_backend(made.bundle).engine == (APPLE if ON_A_MAC else EVALUATOR)


def test_encoder_and_decoder_compute_the_same_as_torch(bundle, torch_nano):
    backend = load_backend(bundle)
    image = (seeded_tensor("image", 1, 3, SIDE, SIDE) * 60 + 120).clamp(0, 255).numpy()
    features = torch_nano.encode(image)
    assert error(*backend.encode(image), *features) <= BOUND
    coords = seeded_tensor("coords", 2, SLOTS, 2).mul(60).add(128).clamp(0, SIDE).numpy()
    labels = np.full((2, SLOTS), float(Label.EMPTY), np.float32)
    labels[0, :2], labels[1, :2] = [Label.FOREGROUND, Label.PADDING], [Label.BOX_TOP_LEFT, Label.BOX_BOTTOM_RIGHT]
    masks = seeded_tensor("mask", 2, 1, CELLS, CELLS).mul(4).numpy()
    has = np.array([0, 1], np.float32)
    found = backend.decode(features, coords, labels, masks, has)
    expected = torch_nano.decode(features, coords[:, :2], labels[:, :2], masks, has)  # without the empty slots
    for ours, theirs in zip(found[:2], expected[:2], strict=True):
        assert error(ours, theirs) <= BOUND


def test_a_slice_of_a_whole_tensor_is_no_operation(tmp_path):
    """Windows that fill a map and queries that fit one block are sliced like others; torch.export makes it an alias."""

    class Whole(OneLayer):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x[:2, :64])

    torch.manual_seed(0)
    net = Whole().eval().requires_grad_(requires_grad=False)
    coreml.export(net, CONTRACT, tmp_path / "whole.mlpackage")
    x = seeded_tensor("x", 2, 64)
    found = Program(read_package(tmp_path / "whole.mlpackage")).run({"x": x.numpy()})
    assert error(torch.from_numpy(found["y"]), net(x)) <= BOUND


@pytest.mark.parametrize("form", ["none", "tanh"])
def test_both_forms_of_gelu_are_kept(tmp_path, form):
    """coremltools 9.0 drops the keyword that torch.export writes, and would compute the exact form without an error."""

    class Activated(OneLayer):
        def forward(self, x: Tensor) -> Tensor:
            return torch.nn.functional.gelu(super().forward(x), approximate=form)

    net = Activated().eval().requires_grad_(requires_grad=False)
    coreml.export(net, CONTRACT, tmp_path / "gelu.mlpackage")
    x = seeded_tensor("x", 2, 64) * 2
    package = read_package(tmp_path / "gelu.mlpackage")
    found = Program(package).run({"x": x.numpy()})
    assert error(torch.from_numpy(found["y"]), net(x)) <= 1e-6


def test_the_package_describes_its_tensors(bundle):
    spec = ct.utils.load_spec(str(bundle.decoder_path))
    assert spec.specificationVersion == 8  # iOS 17
    assert [each.name for each in spec.description.input] == list(bundle.manifest.decoder_contract.input_names)
    assert all(each.shortDescription for each in [*spec.description.input, *spec.description.output])
    assert spec.description.metadata.author == coreml.AUTHOR
    assert {path.name for path in bundle.decoder_path.iterdir()} == {"Manifest.json", "Data"}


# Errors ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path) -> Path:
    exporter_for("coreml").export(OneLayer().eval(), CONTRACT, tmp_path / "graph.mlpackage", Conversion())
    return tmp_path / "graph.mlpackage"


def test_the_converter_prints_nothing(tmp_path, capfd):
    exporter_for("coreml").export(OneLayer().eval(), CONTRACT, tmp_path / "graph.mlpackage", Conversion())
    assert capfd.readouterr() == ("", "")


def test_a_converter_that_fails_leaves_one_line_and_no_file(tmp_path):
    with pytest.raises(ExportError, match="coremltools failed on graph: the cause") as caught:
        coreml.export(Crashing().eval(), CONTRACT, tmp_path / "graph.mlpackage", Conversion())
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_another_contract_is_refused(package):
    renamed = GraphContract(CONTRACT.inputs, (TensorSpec("z", (2, 32), ""),))
    with pytest.raises(ExportError, match=r"graph.mlpackage has .*'y'.*, the contract has .*'z'"):
        coreml.check(package, renamed)


def model_file(package: Path) -> Path:
    return package / "Data" / "com.apple.CoreML" / "model.mlmodel"


def weights_file(package: Path) -> Path:
    return package / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda package: weights_file(package).unlink(), r"weight\.bin' is missing"),
        (lambda package: cut(weights_file(package)), r"weight\.bin' is damaged or cut short"),
        (lambda package: model_file(package).unlink(), r"has no model\.mlmodel"),
        (lambda package: cut(model_file(package)), r"model\.mlmodel' is damaged"),
        (lambda package: (package / "Manifest.json").unlink(), "is no Core ML package"),
        (lambda package: (package / "Manifest.json").write_text("{}"), "is no Core ML package"),
        (shutil.rmtree, "is no Core ML package"),
    ],
)
def test_a_damaged_package_is_one_clear_line(package, damage, message):
    damage(package)
    with pytest.raises(BundleError, match=message) as caught:
        read_package(package)
    assert "\n" not in str(caught.value)
    assert "export it again" in str(caught.value)


@pytest.mark.parametrize("where", ["@model_path/../../../../outside.bin", "/etc/hostname"])
def test_weights_outside_the_package_are_not_read(package, where):
    file = model_file(package)
    spec = ct.proto.Model_pb2.Model()
    spec.ParseFromString(file.read_bytes())
    (block,) = spec.mlProgram.functions["main"].block_specializations.values()
    for operation in block.operations:
        value = operation.attributes["val"]
        if operation.type == "const" and value.WhichOneof("value") == "blobFileValue":
            value.blobFileValue.fileName = where
    file.write_bytes(spec.SerializeToString())
    with pytest.raises(BundleError, match="lies outside the package"):
        read_package(package)


def test_a_model_outside_the_package_is_not_read(package):
    manifest = json.loads((package / "Manifest.json").read_text())
    manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = "../../model.mlmodel"
    (package / "Manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="names a model outside itself"):
        read_package(package)


def test_a_small_package_computes_its_linear_layer(package):
    x = seeded_tensor("x", 2, 64).numpy()
    read = read_package(package)
    weight, bias = (read.operations[-1].inputs[name] for name in ("weight", "bias"))
    np.testing.assert_allclose(Program(read).run({"x": x})["y"], x @ weight.T + bias, rtol=1e-5, atol=1e-5)


def test_a_bundle_of_another_contract_is_refused(bundle):
    wider = replace(bundle.manifest, points=12)
    with pytest.raises(BundleError, match=r"'point_coords': \(2, 6, 2\).*where the contract has"):
        load_backend(Bundle(bundle.root, wider)).decode(
            (np.zeros(0, np.float32),), *(np.zeros(0, np.float32) for _ in range(4))
        )


@pytest.mark.skipif(ON_A_MAC, reason="a Mac has compute units")
def test_compute_units_need_a_mac(bundle):
    with pytest.raises(BackendError, match="provider 'ane' needs a Mac"):
        load_backend(bundle, BackendOptions(provider="ane"))


def test_unknown_compute_units_are_refused(bundle):
    with pytest.raises(BackendError, match="'tpu' is no compute unit of Core ML: choose one of all, cpu, gpu, ane"):
        load_backend(bundle, BackendOptions(provider="tpu"))


# Precision ------------------------------------------------------------------------------------------------------------


class Overflowing(nn.Module):
    """A hidden layer beyond float16's range, a normalization that restores it, and a harmless last layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.wide, self.norm, self.last = nn.Linear(64, 64), nn.LayerNorm(64), nn.Linear(64, 32)
        with torch.no_grad():
            self.wide.weight *= 1e5

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.wide(x)))


def converted(folder: Path, graph: nn.Module, precision: str) -> Path:
    path = folder / f"{precision}.mlpackage"
    samples = ({"x": seeded_tensor("sample", 2, 64).numpy()},)
    exporter_for("coreml").export(graph.eval(), CONTRACT, path, Conversion(precision, samples))
    return path


@pytest.mark.parametrize(("precision", "least"), [("fp32", 100.0), ("fp16", 50.0), ("mixed", 50.0)])
def test_a_healthy_graph_loses_only_rounding_errors_in_fp16(tmp_path, precision, least):
    graph, x = OneLayer().eval(), seeded_tensor("x", 2, 64)
    path = converted(tmp_path, graph, precision)
    found = Program(read_package(path)).run({"x": x.numpy()})["y"]
    assert snr_db(graph(x).detach().numpy(), found) > least
    assert coreml.inspect(path)["kept_in_float32"] == {}


def test_mixed_precision_keeps_only_overflowing_operations_in_float32(tmp_path):
    graph, x = Overflowing().eval(), seeded_tensor("x", 2, 64)
    expected = graph(x).detach().numpy()
    outputs = {
        precision: Program(read_package(converted(tmp_path, graph, precision))).run({"x": x.numpy()})["y"]
        for precision in ("fp16", "mixed")
    }
    assert not snr_db(expected, outputs["fp16"]) > 10
    assert snr_db(expected, outputs["mixed"]) > 55
    report = coreml.inspect(tmp_path / "mixed.mlpackage")
    kept = report["kept_in_float32"]
    assert {reason.split(":")[0] for reason in kept.values()} == {"linear", "layer_norm"}
    assert len(kept) == 2
    assert report["float16"] > 0


def test_mixed_precision_needs_samples(tmp_path):
    with pytest.raises(ExportError, match="mixed precision of graph is measured on samples: pass some"):
        coreml.export(OneLayer().eval(), CONTRACT, tmp_path / "graph.mlpackage", Conversion("mixed"))


def test_the_operations_behind_a_loss_are_kept_in_float32(tmp_path):
    """A difference of large numbers, which must not be rounded before the subtraction."""

    class Cancelling(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return ((x * 0.5 + 3000.0) - 3000.25)[:, :32]

    graph, x = Cancelling().eval(), seeded_tensor("x", 2, 64)
    path = converted(tmp_path, graph, "mixed")
    assert snr_db(graph(x).numpy(), Program(read_package(path)).run({"x": x.numpy()})["y"]) > 50
    reasons = list(coreml.inspect(path)["kept_in_float32"].values())
    assert any("float16 leaves" in reason for reason in reasons)
    assert any("needs it in full precision" in reason for reason in reasons)


class Unequal(nn.Module):
    """An einsum that coremltools does not convert."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("ab,cd,ae->e", x, x, x)[:32]


def test_a_crash_of_the_converter_names_the_operation(tmp_path, capfd):
    with pytest.raises(ExportError, match=r"coremltools failed on graph: .*; it logged: converting '\w+' op") as caught:
        coreml.export(Unequal().eval(), CONTRACT, tmp_path / "graph.mlpackage")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


# Options --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_options(tmp_path_factory) -> ExportResult:
    """Several at once: fp16, picture input, flexible shapes."""
    out = tmp_path_factory.mktemp("coreml") / "nano"
    return export_bundle(
        ExportJob(
            "nano",
            out,
            target="coreml",
            precision="fp16",
            input_side=SIDE,
            flexible=True,
            picture_input=True,
        )
    )


@pytest.mark.slow
def test_the_bundle_keeps_the_bounds_of_fp16(with_options):
    assert with_options.missed == ()
    assert with_options.agreement.mask_miou > 0.99
    manifest = Bundle.open(with_options.bundle.root).manifest
    assert (manifest.prompts, manifest.points, manifest.graph, manifest.picture_input) == (None, None, "plain", True)


@pytest.mark.slow
def test_the_photo_is_a_picture_and_shapes_have_ranges(with_options):
    encoder, decoder = (
        ct.utils.load_spec(str(path)).description
        for path in (with_options.bundle.encoder_path, with_options.bundle.decoder_path)
    )
    picture = encoder.input[0].type.imageType
    assert (picture.width, picture.height) == (SIDE, SIDE)
    assert picture.colorSpace == ct.proto.FeatureTypes_pb2.ImageFeatureType.ColorSpace.RGB
    ranges = {each.name: each.type.multiArrayType.shapeRange.sizeRanges for each in decoder.input}
    assert [(size.lowerBound, size.upperBound) for size in ranges["point_labels"]] == [(1, 64), (1, 64)]


@pytest.mark.slow
def test_the_decoder_takes_any_number_of_prompts(with_options, torch_nano):
    photo = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    boxes = np.array([[10, 10, 60, 50], [40, 20, 150, 110], [0, 0, 159, 119]], np.float64)
    outputs = []
    for predictor in (SamPredictor(with_options.bundle), SamPredictor(with_options.bundle, backend=torch_nano)):
        predictor.set_image(photo)
        outputs.append(predictor.predict_batch(boxes=boxes, return_logits=True))
    for ours, theirs in zip(*outputs, strict=True):
        assert len(ours) == 3
        assert snr_db(theirs, ours) > 35


@pytest.mark.slow
def test_metadata_name_the_licence_and_the_version(with_options):
    metadata = ct.utils.load_spec(str(with_options.bundle.encoder_path)).description.metadata
    assert metadata.license == with_options.bundle.manifest.licence
    assert metadata.versionString == with_options.bundle.manifest.tools["sam-edge"]
    assert "nano: the image encoder in fp16" in metadata.shortDescription
    assert metadata.userDefined["sam-edge.variant"] == "nano"
