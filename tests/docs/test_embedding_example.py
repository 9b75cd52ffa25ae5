"""docs/embedding.md: its numbers are those of fp32 torch and of an ONNX bundle, its words those of the contract."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import typer.main

from sam_edge.cli.app import app, run
from sam_edge_runtime import Bundle
from sam_edge_runtime.backends import load_backend
from sam_edge_runtime.bundle.contract import (
    PIXEL_MEAN,
    FrameSize,
    Label,
    Layout,
    decoder_contract,
    decoder_signature,
    encoder_contract,
)

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT = (DOCS / "embedding.md").read_text(encoding="utf-8")
CODE = ("Segmenter.kt", "Segmenter.swift")
CHANNELS = 256


def load_example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("embedding_example", DOCS / "embedding_example.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


EXAMPLE = load_example()


@cache
def rows(heading: str) -> list[list[str]]:
    """The cells of the table whose first line is `heading`, without backticks."""
    lines = DOCUMENT.partition(f"\n{heading}\n")[2].splitlines()[1:]
    table = lines[: next(index for index, line in enumerate(lines) if not line.startswith("|"))]
    assert table, f"no table {heading}"
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in table]


def printed() -> dict[str, float]:
    return {name: float(value) for name, _, value in rows("| value | channels last | expected |")}


def tolerances(precision: str) -> dict[str, float]:
    heading = next(line for line in DOCUMENT.splitlines() if line.startswith("| at most |"))
    kinds = [cell.strip().strip("`") for cell in heading.strip("|").split("|")][1:]
    return next(dict(zip(kinds, map(float, row[1:]), strict=True)) for row in rows(heading) if row[0] == precision)


@pytest.fixture(scope="module")
def torch_nano():
    return EXAMPLE.reference()


@pytest.fixture(scope="module")
def expected(torch_nano) -> dict[str, float]:
    return EXAMPLE.measure(torch_nano)


def test_the_numbers_are_those_of_fp32_torch(expected):
    assert rows("| value | channels last | expected |") == [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in EXAMPLE.table(printed_as_measured(expected)).splitlines()[2:]
    ]


def printed_as_measured(expected: dict[str, float]) -> dict[str, float]:
    """The printed numbers, after each was found to be the measured one up to the last digit that is printed."""
    numbers = printed()
    assert numbers.keys() == expected.keys()
    for name, value in expected.items():
        assert numbers[name] == pytest.approx(
            value, abs=2e-4 if "[" in name and "image[" not in name else 6e-3, rel=1e-4
        )
    return {name: type(expected[name])(value) for name, value in numbers.items()}


@pytest.mark.slow
def test_an_onnx_bundle_gives_the_numbers_within_the_tolerance_of_fp32(tmp_path):
    assert run(["export", "--out", str(tmp_path / "nano")]) == 0
    bundle = Bundle.open(tmp_path / "nano")
    allowed = tolerances("fp32")
    for capacity in (bundle.manifest, EXAMPLE.Phone()):  # as many slots as a prompt fills, and a phone's
        errors = EXAMPLE.largest_differences(EXAMPLE.measure(load_backend(bundle), capacity), printed())
        assert errors.keys() == allowed.keys()
        assert {kind: error for kind, error in errors.items() if error > allowed[kind]} == {}


class Mistaken:
    """An app that exchanges red and blue, or labels empty slots -1."""

    engine = "mistaken"

    def __init__(self, backend, *, bgr: bool) -> None:
        self.backend, self.bgr = backend, bgr

    def encode(self, image):
        return self.backend.encode(image[:, ::-1].copy() if self.bgr else image)

    def decode(self, features, coords, labels, mask, has_mask):
        labels = labels if self.bgr else labels.clip(min=labels.dtype.type(Label.PADDING))
        return self.backend.decode(features, coords, labels, mask, has_mask)


@pytest.mark.parametrize("bgr", [True, False])
def test_the_numbers_show_mistakes_even_at_the_loosest_tolerance(torch_nano, expected, bgr):
    errors = EXAMPLE.largest_differences(EXAMPLE.measure(Mistaken(torch_nano, bgr=bgr)), expected)
    loosest = tolerances("Core ML fp16 and mixed; a GPU in fp16")
    assert errors["low_res_masks"] > 4 * loosest["low_res_masks"]
    assert (errors["image_embeddings"] > 4 * loosest["image_embeddings"]) == bgr


@pytest.mark.parametrize(("column", "layout"), [(1, Layout.NCHW), (2, Layout.NHWC)])
def test_shapes_are_the_contract_s(column, layout):
    encoder = encoder_contract(FrameSize.square(EXAMPLE.SIDE), CHANNELS, layout)
    decoder = decoder_contract(FrameSize.square(EXAMPLE.SIDE), CHANNELS, 1, EXAMPLE.SLOTS, layout)
    specs = (*encoder.inputs, *encoder.outputs, *decoder.inputs[1:], *decoder.outputs)
    table = rows("| tensor | ONNX, Core ML | TFLite |")
    printed_shapes = {row[0]: ast.literal_eval(row[column].replace(")", ",)")) for row in table}
    assert printed_shapes == {spec.name: spec.shape for spec in specs}


def test_labels_are_the_contract_s():
    assert [int(row[0]) for row in rows("| label | the slot holds |")] == sorted(Label)


def test_sizes_of_embeddings_follow_from_the_contract():
    for megabytes, side, shape in ((1.0, 512, "256 x 32 x 32"), (4.2, 1024, "256 x 64 x 64")):
        _, channels, height, width = encoder_contract(FrameSize.square(side), CHANNELS).outputs[0].shape
        assert shape == f"{channels} x {height} x {width}"
        assert shape in DOCUMENT
        assert f"{megabytes} MB for" in DOCUMENT
        assert 4 * channels * height * width / 1e6 == pytest.approx(megabytes, abs=0.05)


def test_options_and_signatures_exist():
    export = typer.main.get_command(app).commands["export"]  # type: ignore[attr-defined]
    known = {option for parameter in export.params for option in parameter.opts}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", DOCUMENT)) <= known
    assert set(re.findall(r"prompts_\d+", DOCUMENT)) == {decoder_signature(1), decoder_signature(8)}


@pytest.mark.parametrize("name", CODE)
def test_code_for_apps_has_the_contract_s_constants(name):
    code = (DOCS / "embedding" / name).read_text(encoding="utf-8")
    assert [float(number) for number in re.findall(r"\b1\d\d\.\d+", code)] == list(PIXEL_MEAN)
    assert re.search(rf"\bside = {EXAMPLE.SIDE}\b", code, re.IGNORECASE)
    encoder, decoder = (
        encoder_contract(FrameSize.square(512), CHANNELS),
        decoder_contract(FrameSize.square(512), CHANNELS, None, None),
    )
    for tensor in (*encoder.input_names, *encoder.output_names, *decoder.input_names, *decoder.output_names):
        assert re.search(rf"\b{tensor}\b", code)
