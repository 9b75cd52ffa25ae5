"""What every converter asks of a graph before it traces it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sam_edge_runtime.contract import GraphContract, TensorSpec

_EXAMPLE_SIZES = {"B": 2, "N": 3}  # sizes to trace free axes with; 0 and 1 would be taken for constants


def example(spec: TensorSpec) -> Tensor:
    """Zeros in the shape of a tensor of the contract."""
    return torch.zeros([_EXAMPLE_SIZES[size] if isinstance(size, str) else size for size in spec.shape])


def free_axes(contract: GraphContract) -> list[str]:
    """Letters of the inputs' free axes, in alphabetical order; none where all shapes are fixed."""
    return sorted({size for spec in contract.inputs for size in spec.shape if isinstance(size, str)})


def weight_bytes(graph: nn.Module) -> int:
    """Bytes of a graph's weights and constants."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*graph.parameters(), *graph.buffers()))
