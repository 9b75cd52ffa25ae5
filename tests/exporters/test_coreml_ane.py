"""Core ML packages of graphs rewritten for the Neural Engine: their operations, and torch's outputs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import coremltools as ct
import pytest
import torch
from torch import Tensor, nn

from sam_edge.model import DecoderGraph, EncoderGraph, Sam, build_sam
from sam_edge.model.ane import ane_rewrite
from sam_edge.model.image_encoder import ImageEncoderViT
from sam_edge.model.layers import LayerNorm2d
from sam_edge.model.transformer import Attention
from sam_edge_exporters import coreml
from sam_edge_runtime.bundle.contract import FrameSize, GraphContract, decoder_contract, encoder_contract
from sam_edge_runtime.mil import Program, read_package
from sam_edge_runtime.mil.operations import OPERATIONS
from tests.model.builders import BOUND, NARROW, error, every_prompt, photo, seed

SIDE, SLOTS = 256, 6

needs_einsum = pytest.mark.skipif("einsum" not in OPERATIONS, reason="the evaluator does not know einsum")


def written(graph: EncoderGraph | DecoderGraph, contract: GraphContract, folder: Path) -> Path:
    """The rewritten graph's package."""
    coreml.export(ane_rewrite(graph), contract, folder / "ane.mlpackage")
    return folder / "ane.mlpackage"


def operations(package: Path) -> Counter[str]:
    return Counter(each.op_type for each in read_package(package).operations)


def modules(graph: nn.Module, *kinds: type[nn.Module]) -> int:
    return sum(isinstance(module, kinds) for module in graph.modules())


def ranks(package: Path) -> set[int]:
    function = ct.utils.load_spec(str(package)).mlProgram.functions["main"]
    (block,) = function.block_specializations.values()
    made = (output for operation in block.operations if operation.type != "const" for output in operation.outputs)
    return {len(output.type.tensorType.dimensions) for output in made}


def assert_norms_are_over_channels(package: Path, graph: nn.Module) -> None:
    norms = [each for each in read_package(package).operations if each.op_type == "layer_norm"]
    assert len(norms) == modules(graph, nn.LayerNorm, LayerNorm2d)
    for each in norms:
        assert each.inputs["axes"].tolist() == [1]
        assert each.inputs["gamma"].shape == each.inputs["beta"].shape == (each.inputs["gamma"].size,)


def assert_outputs(package: Path, graph: nn.Module, contract: GraphContract, inputs: tuple[Tensor, ...]) -> None:
    with torch.inference_mode():
        expected = graph(*inputs)
    given = {name: each.numpy() for name, each in zip(contract.input_names, inputs, strict=True)}
    found = Program(read_package(package)).run(given)
    for name, theirs in zip(
        contract.output_names, expected if isinstance(expected, tuple) else (expected,), strict=True
    ):
        assert error(found[name], theirs) <= BOUND


def small_vit(side: int) -> Sam:
    sam = Sam(ImageEncoderViT(NARROW)).eval()
    seed(sam)
    sam.set_input_side(side)
    return sam


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    graph, contract = EncoderGraph(small_vit(SIDE)).eval(), encoder_contract(FrameSize.square(SIDE), 256)
    return graph, contract, written(graph, contract, tmp_path_factory.mktemp("vit"))


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    sam = build_sam("nano")
    seed(sam)
    sam.set_input_side(SIDE)
    graph, contract = DecoderGraph(sam).eval(), decoder_contract(FrameSize.square(SIDE), sam.channels, 2, SLOTS)
    return sam, graph, contract, written(graph, contract, tmp_path_factory.mktemp("decoder"))


def test_a_vit_is_convolutions_norms_and_einsums(vit):
    graph, _, package = vit
    found = operations(package)
    assert found["linear"] == found["matmul"] == found["reduce_mean"] == 0
    assert found["conv"] == modules(graph, nn.Linear, nn.Conv2d)
    assert found["einsum"] == NARROW.depth * (2 * NARROW.heads + 2)  # scores, weighted sums, and relative positions
    # A block transposes its keys, and its queries for relative positions and back; one with windows these too.
    assert found["transpose"] == NARROW.depth * (1 + 4) + 4
    assert max(ranks(package)) == 4
    assert_norms_are_over_channels(package, graph)


def test_a_decoder_transposes_its_keys_and_little_else(decoder):
    _, graph, _, package = decoder
    found = operations(package)
    assert found["transpose"] == modules(graph, Attention) + 2  # and the tokens, in and out
    assert found["linear"] == 2  # the prompt encoder's: coordinates by frequencies, labels by vectors
    assert found["matmul"] == 1  # masks: filters by features, both computed
    assert max(ranks(package)) == 4
    assert_norms_are_over_channels(package, graph)


@needs_einsum
def test_a_vit_computes_the_same_as_torch(vit):
    graph, contract, package = vit
    assert_outputs(package, graph, contract, (photo(SIDE),))


@needs_einsum
def test_a_decoder_computes_the_same_as_torch(decoder):
    sam, graph, contract, package = decoder
    assert_outputs(package, graph, contract, every_prompt(sam))


@pytest.mark.slow
@needs_einsum
@pytest.mark.parametrize("which", ["encoder", "decoder"])
def test_tiny_vit_computes_the_same_as_torch(which, tmp_path):
    sam = build_sam("tiny_vit")
    seed(sam)
    sam.set_input_side(SIDE)
    graph: EncoderGraph | DecoderGraph
    if which == "encoder":
        graph, contract, inputs = (
            EncoderGraph(sam).eval(),
            encoder_contract(FrameSize.square(SIDE), sam.channels),
            (photo(SIDE),),
        )
    else:
        graph, contract = DecoderGraph(sam).eval(), decoder_contract(FrameSize.square(SIDE), sam.channels, 2, SLOTS)
        inputs = every_prompt(sam)
    assert_outputs(written(graph, contract, tmp_path), graph, contract, inputs)


@pytest.mark.slow
@needs_einsum
def test_queries_in_blocks_compute_the_same_as_torch(tmp_path):
    graph, contract = EncoderGraph(small_vit(1024)).eval(), encoder_contract(FrameSize.square(1024), 256)
    package = written(graph, contract, tmp_path)
    assert operations(package)["softmax"] == NARROW.heads * (1 + 8)
    assert_outputs(package, graph, contract, (photo(1024),))
