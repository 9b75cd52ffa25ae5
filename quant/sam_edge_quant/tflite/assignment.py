"""The scheme of each operation of a TFLite file, by a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sam_edge_quant.plan import Plan
from sam_edge_quant.recipe import CALIBRATED, FLOAT, NPU

from .graph import KEEP_RANGE, Graph, Operation, TfliteFile, npu_schemes, origin, pass_through_schemes

# Schemes that the quantizer lacks, or that LiteRT computes outside XNNPACK although a better one is inside: its kernel
# for depthwise convolutions with dynamic ranges is slow.
_INSTEAD = {
    ("DEPTHWISE_CONV_2D", "dynamic"): "w8",
    ("DEPTHWISE_CONV_2D", "w4"): "w8",
    ("TRANSPOSE_CONV", "w4"): "w8",
}


@dataclass(frozen=True)
class Assignment:
    """The schemes of one signature's operations, by their index in the graph.

    Attributes:
        graph: the operations.
        layers: names of the layers; None for operations with a weight that is no layer's.
        weighted: schemes of the operations with weights; those in float are left out.
        pass_through: schemes of the quantized operations without weights.
        for_npu: whether all operations are quantized that can be.
    """

    graph: Graph
    layers: Mapping[int, str | None]
    weighted: Mapping[int, str]
    pass_through: Mapping[int, str]
    for_npu: bool = False

    @property
    def static(self) -> list[tuple[Operation, str]]:
        """Operations with weights and calibrated activations, with their schemes."""
        return [
            (self.graph.operations[index], scheme) for index, scheme in self.weighted.items() if scheme in CALIBRATED
        ]

    def source(self, operation: Operation) -> str:
        """The tensor whose range the input of an operation with a weight has."""
        return origin(self.graph, self.pass_through, operation.inputs[0])

    @property
    def ranged(self) -> list[str]:
        """Names of the tensors that need a range."""
        made = [operation for operation, _ in self.static]
        made += [self.graph.operations[index] for index in self.pass_through]
        names = [self.source(operation) for operation, _ in self.static]
        names += [name for operation in made if operation.kind not in KEEP_RANGE for name in operation.outputs]
        for index in self.pass_through:
            names += [origin(self.graph, self.pass_through, name) for name in self.graph.operations[index].inputs]
        return list(dict.fromkeys(names))


def assign(file: TfliteFile, plan: Plan) -> list[Assignment]:
    """The assignment of each signature, in the file's order."""
    known: dict[int, str | None] = {}  # by buffer: signatures share weights, and fingerprints of large ones take time
    assignments = []
    for graph in file.graphs:
        layers: dict[int, str | None] = {}
        for index, operation in enumerate(graph.operations):
            if operation.weight is not None and operation.inputs:
                buffer = file.buffer(operation.weight)
                if buffer not in known:
                    known[buffer] = plan.layer(file.constant(operation.weight))
                layers[index] = known[buffer]
        schemes = {
            index: _INSTEAD.get((graph.operations[index].kind, scheme), scheme)
            for index, layer in layers.items()
            if layer is not None and (scheme := plan.recipe.scheme_of(layer)) != FLOAT
        }
        if NPU in schemes.values():
            schemes = {index: "w8a8" if scheme == NPU else scheme for index, scheme in schemes.items()}
            assignments.append(Assignment(graph, layers, schemes, npu_schemes(graph, schemes), for_npu=True))
            continue
        static = {index: scheme for index, scheme in schemes.items() if scheme in CALIBRATED}
        assignments.append(Assignment(graph, layers, schemes, pass_through_schemes(graph, static)))
    return assignments
