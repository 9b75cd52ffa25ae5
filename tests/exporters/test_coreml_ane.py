"""Graphs rewritten for the Neural Engine as Core ML packages: what is in them, and torch's numbers out of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import coremltools as ct
import pytest
import torch
from torch import Tensor

from sam_edge.model import DecoderGraph, EncoderGraph, Sam, build_sam
from sam_edge.model.ane import ane_rewrite
from sam_edge.model.image_encoder import ImageEncoderViT
from sam_edge_exporters import coreml
from sam_edge_runtime.contract import GraphContract, decoder_contract, encoder_contract
from sam_edge_runtime.mil import Program, read_package
from sam_edge_runtime.mil.operations import OPERATIONS
from tests.model.builders import BOUND, NARROW, error, seed
from tests.model.test_ane import SIDE, SLOTS, photo, prompts

needs_einsum = pytest.mark.skipif("einsum" not in OPERATIONS, reason="the evaluator does not know einsum")


def written(
    graph: EncoderGraph | DecoderGraph, contract: GraphContract, folder: Path
) -> tuple[Path, Counter[str], Counter[str]]:
    """The rewritten graph's package, and the operations of the plain one and of it."""
    coreml.export(graph, contract, folder / "plain.mlpackage")
    coreml.export(ane_rewrite(graph).eval(), contract, folder / "ane.mlpackage")
    plain, ours = (
        Counter(each.kind for each in read_package(folder / f"{name}.mlpackage").operations)
        for name in ("plain", "ane")
    )
    return folder / "ane.mlpackage", plain, ours


def ranks(package: Path) -> set[int]:
    function = ct.utils.load_spec(str(package)).mlProgram.functions["main"]
    (block,) = function.block_specializations.values()
    made = (output for operation in block.operations if operation.type != "const" for output in operation.outputs)
    return {len(output.type.tensorType.dimensions) for output in made}


def assert_norms_are_over_channels(package: Path) -> None:
    norms = [each for each in read_package(package).operations if each.kind == "layer_norm"]
    assert norms
    for each in norms:
        assert each.inputs["axes"].tolist() == [1]
        assert each.inputs["gamma"].shape == each.inputs["beta"].shape == (each.inputs["gamma"].size,)


def assert_numbers(package: Path, graph: torch.nn.Module, contract: GraphContract, inputs: tuple[Tensor, ...]) -> None:
    with torch.inference_mode():
        expected = graph(*inputs)
    given = {name: each.numpy() for name, each in zip(contract.input_names, inputs, strict=True)}
    found = Program(read_package(package)).run(given)
    for name, theirs in zip(
        contract.output_names, expected if isinstance(expected, tuple) else (expected,), strict=True
    ):
        assert error(found[name], theirs) <= BOUND


def small_vit() -> Sam:
    sam = Sam(ImageEncoderViT(NARROW)).eval()
    seed(sam)
    sam.set_input_side(SIDE)
    return sam


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    graph, contract = EncoderGraph(small_vit()).eval(), encoder_contract(SIDE, 256)
    return graph, contract, *written(graph, contract, tmp_path_factory.mktemp("vit"))


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    sam = build_sam("nano")
    seed(sam)
    sam.set_input_side(SIDE)
    graph, contract = DecoderGraph(sam).eval(), decoder_contract(SIDE, sam.channels, 2, SLOTS)
    return sam, graph, contract, *written(graph, contract, tmp_path_factory.mktemp("decoder"))


def test_a_vit_is_convolutions_norms_and_einsums(vit):
    *_, package, plain, ours = vit
    assert ours["linear"] == ours["matmul"] == 0
    assert ours["conv"] == plain["conv"] + plain["linear"]
    assert ours["layer_norm"] == plain["layer_norm"]
    assert ours["einsum"] == NARROW.depth * (2 * NARROW.heads + 2)  # and two for the relative positions
    assert ours["reduce_mean"] == ours["rsqrt"] == 0
    assert ours["transpose"] < plain["transpose"]
    assert max(ranks(package)) == 4
    assert_norms_are_over_channels(package)


def test_a_decoder_moves_its_keys_and_little_else(decoder):
    *_, package, plain, ours = decoder
    attentions = plain["softmax"]
    assert ours["transpose"] <= attentions + 2  # and the tokens, in and out
    assert ours["layer_norm"] == plain["layer_norm"]
    assert ours["linear"] == 2  # the prompt encoder's: a coordinate by its frequencies, a label by its vectors
    assert ours["matmul"] == 1  # masks: filters by features, both computed
    assert max(ranks(package)) == 4
    assert_norms_are_over_channels(package)


@needs_einsum
def test_a_vit_computes_what_torch_does(vit):
    graph, contract, package, _, _ = vit
    assert_numbers(package, graph, contract, (photo(SIDE),))


@needs_einsum
def test_a_decoder_computes_what_torch_does(decoder):
    sam, graph, contract, package, _, _ = decoder
    assert_numbers(package, graph, contract, prompts(sam))


@pytest.mark.slow
@needs_einsum
@pytest.mark.parametrize("which", ["encoder", "decoder"])
def test_tiny_vit_computes_what_torch_does(which, tmp_path):
    sam = build_sam("tiny_vit")
    seed(sam)
    sam.set_input_side(SIDE)
    graph: EncoderGraph | DecoderGraph
    if which == "encoder":
        graph, contract, inputs = EncoderGraph(sam).eval(), encoder_contract(SIDE, sam.channels), (photo(SIDE),)
    else:
        graph, contract = DecoderGraph(sam).eval(), decoder_contract(SIDE, sam.channels, 2, SLOTS)
        inputs = prompts(sam)
    coreml.export(ane_rewrite(graph), contract, tmp_path / "ane.mlpackage")
    assert_norms_are_over_channels(tmp_path / "ane.mlpackage")
    assert_numbers(tmp_path / "ane.mlpackage", graph, contract, inputs)
