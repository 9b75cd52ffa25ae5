"""What every converter asks of a graph before it traces it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sam_edge_runtime.bundle.contract import GraphContract, TensorSpec
from sam_edge_runtime.system.quiet import quiet

# What torch 2.13 says on every export: its own use of an old class test.
EXPECTED_OF_TORCH = ((r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning),)
EXAMPLE_SIZES = {"B": 2, "N": 3}  # sizes to trace free axes with; 0 and 1 would be taken for constants


def example(spec: TensorSpec) -> Tensor:
    """Zeros in the shape of a tensor of the contract."""
    return torch.zeros([EXAMPLE_SIZES[size] if isinstance(size, str) else size for size in spec.shape])


def free_axes(contract: GraphContract) -> list[str]:
    """Letters of the inputs' free axes, in alphabetical order; none where all shapes are fixed."""
    return sorted({size for spec in contract.inputs for size in spec.shape if isinstance(size, str)})


def weight_bytes(graph: nn.Module) -> int:
    """Bytes of a graph's weights and constants."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*graph.parameters(), *graph.buffers()))


def traced(graph: nn.Module, contract: GraphContract, most: int | None = None) -> torch.export.ExportedProgram:
    """The graph as torch.export sees it, in core ATen operations; free axes go from 1 to `most`."""
    shapes = dynamic_shapes(contract, most)
    with quiet(("torch",), EXPECTED_OF_TORCH):
        program = torch.export.export(graph, tuple(map(example, contract.inputs)), dynamic_shapes=shapes)
        decomposed: torch.export.ExportedProgram = program.run_decompositions({})
    _take_out_aliases(decomposed.graph_module)
    return decomposed


def _take_out_aliases(module: torch.fx.GraphModule) -> None:
    """Have readers of an alias read the tensor itself; a slice of all there is becomes one, which coremltools lacks."""
    for node in module.graph.find_nodes(op="call_function", target=torch.ops.aten.alias.default):
        if all(user.op != "output" for user in node.users):  # whose names the program has written down elsewhere
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
    module.recompile()


def dynamic_shapes(contract: GraphContract, most: int | None = None) -> tuple[dict[int, Any], ...] | None:
    """For each input, its free axes as torch.export wants them, from 1 to `most`; None where all shapes are fixed.

    The same letter is the same size everywhere.
    """
    letters = free_axes(contract)
    if not letters:
        return None
    dims = {letter: torch.export.Dim(letter, min=1, max=most) for letter in letters}
    return tuple(
        {axis: dims[size] for axis, size in enumerate(spec.shape) if isinstance(size, str)} for spec in contract.inputs
    )
