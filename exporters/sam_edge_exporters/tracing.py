"""Tracing of a graph by torch.export, for all converters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sam_edge_runtime.bundle.contract import GraphContract, TensorSpec
from sam_edge_runtime.system.quiet import quiet

# torch 2.13 warns on every export of its own use of an old class test.
EXPECTED_OF_TORCH = ((r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning),)
EXAMPLE_SIZES = {"B": 2, "N": 3}  # sizes of free axes in tracing; torch.export takes 0 and 1 for constants


def example(spec: TensorSpec) -> Tensor:
    """Zeros in the shape of a contract's tensor."""
    return torch.zeros([EXAMPLE_SIZES[size] if isinstance(size, str) else size for size in spec.shape])


def free_axes(contract: GraphContract) -> list[str]:
    """Letters of the inputs' free axes, in alphabetical order; none if all shapes are fixed."""
    return sorted({size for spec in contract.inputs for size in spec.shape if isinstance(size, str)})


def weight_bytes(graph: nn.Module) -> int:
    """Bytes of a graph's weights and constants."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*graph.parameters(), *graph.buffers()))


def traced(graph: nn.Module, contract: GraphContract, most: int | None = None) -> torch.export.ExportedProgram:
    """The graph traced by torch.export, in core ATen operations; free axes go from 1 to `most`."""
    shapes = dynamic_shapes(contract, most)
    with quiet(("torch",), EXPECTED_OF_TORCH):
        program = torch.export.export(graph, tuple(map(example, contract.inputs)), dynamic_shapes=shapes)
        decomposed: torch.export.ExportedProgram = program.run_decompositions({})
    _remove_aliases(decomposed.graph_module)
    return decomposed


def _remove_aliases(module: torch.fx.GraphModule) -> None:
    """Replace aliases by their tensors; slices of whole tensors become aliases, which coremltools does not convert."""
    for node in module.graph.find_nodes(op="call_function", target=torch.ops.aten.alias.default):
        if all(user.op != "output" for user in node.users):  # outputs' names are recorded elsewhere in the program
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
    module.recompile()


def dynamic_shapes(contract: GraphContract, most: int | None = None) -> tuple[dict[int, Any], ...] | None:
    """For each input, its free axes in torch.export's form, from 1 to `most`; None if all shapes are fixed.

    The same letter is the same size everywhere.
    """
    letters = free_axes(contract)
    if not letters:
        return None
    dims = {letter: torch.export.Dim(letter, min=1, max=most) for letter in letters}
    return tuple(
        {axis: dims[size] for axis, size in enumerate(spec.shape) if isinstance(size, str)} for spec in contract.inputs
    )
