"""`npu`: a whole ONNX graph in integers, in the QDQ form that ONNX Runtime's QNN provider compiles for Hexagon NPUs.

Convolutions and linear layers take and give 8 bits. All other operations that compute, such as attention's products,
softmax, GELU, normalizations and additions, take and give 16 bits. Between the two stand pairs of DequantizeLinear and
QuantizeLinear, which QNN fuses into one conversion. Operations that move values keep width, scale and zero point of
their input. A layer with the scheme `w8a16` takes and gives 16 bits, one with `fp32` float.

The form is the one that QNN's provider documents
(https://onnxruntime.ai/docs/execution-providers/QNN-ExecutionProvider.html): unsigned asymmetric activations, one scale
for a tensor; signed symmetric weights, one scale for each output channel; biases in int32. 16-bit types came to ONNX'
QuantizeLinear with opset 21. The bundles have opset 20, so all pairs are ONNX Runtime's own operations of the domain
`com.microsoft`, which take 16 bits since 1.16. ONNX Runtime's QNN configuration does the same below opset 21
(`UseQDQContribOps`).

Four rewrites suit the compiler. None changes a value:

- A product with a constant matrix, and the addition of its bias, become one `Gemm` with reshapes around it.
- A nearest-neighbour `Resize` by two becomes four copies and a DepthToSpace.
- A GatherND of rows becomes a Gather, which QNN computes in integers.
- The picture becomes uint8 with a scale of 1 and zero point of 0, so the NPU takes bytes. Pixels are integers and lose
  nothing; padding has the mean colour, which is rounded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, prod
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, numpy_helper

from sam_edge_quant.methods.squant import round_preserving_sums
from sam_edge_quant.ranges.ranges import Range, Ranges
from sam_edge_runtime.arrays import Array, Float32
from sam_edge_runtime.errors import ExportError

from .graph import BOUNDS, OnnxLayer, attribute, limits_of
from .npu_layout import FIXED_RANGES, MOVES, PICTURE, WIDE, Layout, float_tensors
from .weights import MICROSOFT, scales_of

_NARROWEST = 1e-4  # width of a range; `MinimumRealRange` of ONNX Runtime's QNN configuration
_LARGEST_BIAS = 1 << 30  # of the 2^31 of 32 bits; the rest is for the sum of products
_LEVELS = {8: 255, 16: 65535}
_DTYPES: dict[int, Any] = {8: np.uint8, 16: np.uint16}


@dataclass(frozen=True)
class Grid:
    """The integers of an activation: `real = scale * (integer - zero_point)`, with `bits` unsigned bits."""

    bits: int
    scale: np.float32
    zero_point: int

    @classmethod
    def of(cls, found: Range, bits: int) -> Grid:
        """The grid that covers a range, in which zero is exact."""
        low, high = min(found.low, 0.0), max(found.high, 0.0)
        scale = np.float32(max(high - low, _NARROWEST) / _LEVELS[bits])
        return cls(bits, scale, int(np.clip(np.rint(-low / scale), 0, _LEVELS[bits])))


class NpuWriter:
    """Writes a graph in the NPU's form.

    Args:
        graph: in fp32; changed in place by `write`.
        layout: from `layout_of`.
        ranges: of the tensors that `measured` names.
    """

    def __init__(self, graph: GraphProto, layout: Layout, ranges: Ranges) -> None:
        self._graph, self._layout, self._ranges = graph, layout, ranges
        self._constants = {each.name: each for each in graph.initializer}
        self._floats = float_tensors(graph)
        self._shapes = {
            each.name: tuple(size.dim_value for size in each.type.tensor_type.shape.dim)
            for each in (*graph.value_info, *graph.input, *graph.output)
        }
        self._unsqueezed = {  # constants behind an Unsqueeze of a last axis
            node.output[0]: node.input[0]
            for node in graph.node
            if node.op_type == "Unsqueeze" and node.input[0] in self._constants and self._is_last(node)
        }
        self._grids: dict[str, Grid] = {}  # of quantized activations
        self._names: dict[str, str] = {}  # where an activation is not read under its own name
        self._nodes: list[NodeProto] = []
        self._made: set[str] = set()
        self.activations: dict[str, Counter[str]] = {"uint8": Counter(), "uint16": Counter(), "float": Counter()}

    def write(self) -> None:
        """Replace the graph's operations.

        Raises:
            ExportError: a range is missing or not finite, or a shape is not fixed.
        """
        for each in self._graph.input:
            grid = Grid(8, np.float32(1), 0) if each.name == PICTURE else self._measured(each.name, WIDE)
            self._names[each.name] = self._pair(each.name, grid, f"{each.name}_quantized")
            self._grids[each.name] = grid
        for node in self._graph.node:
            if node.name not in self._layout.widths:
                continue  # another operation absorbs it
            width = self._layout.widths[node.name]
            if node.output[0] in self._floats:
                self.activations["float" if width is None else f"uint{width}"][node.op_type] += 1
            if width is None:
                self._float(node)
            elif node.name in self._layout.layers:
                self._layer(node, self._layout.layers[node.name][0], width)
            elif node.op_type == "Resize":
                self._doubled(node)
            elif node.op_type in MOVES:
                self._moved(node)
            else:
                self._computed(node, width)
        needed = {each.name for each in self._graph.output}
        kept = []
        for node in reversed(self._nodes):  # rewrites leave some without a reader
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(node.input)
        del self._graph.node[:]
        self._graph.node.extend(reversed(kept))

    def _is_last(self, node: NodeProto) -> bool:
        axes = self._constants.get(node.input[1])
        rank = len(self._constants[node.input[0]].dims)
        return axes is not None and numpy_helper.to_array(axes).tolist() in ([-1], [rank])

    def _float(self, node: NodeProto) -> None:
        node.input[:] = [self._names.get(name, name) for name in node.input]
        self._nodes.append(node)

    def _moved(self, node: NodeProto) -> None:
        source = node.input[0]
        grid = self._grid(source) if source in self._grids else self._grid(source, WIDE)
        node.input[0] = self._read(source, grid.bits)
        if node.op_type == "GatherND" and (rows := self._rows(node)) is not None:
            node = onnx.helper.make_node("Gather", [node.input[0], rows], node.output, node.name, axis=0)
        self._finish(node, [grid] * len(node.output))

    def _rows(self, node: NodeProto) -> str | None:
        """The indices of a GatherND that picks rows, without their last axis; None if it picks anything else.

        ONNX Runtime takes no GatherND between pairs as one operation: QNN would compute it in float.
        """
        stored = self._constants.get(node.input[1])
        if stored is None or stored.dims[-1] != 1 or attribute(node, "batch_dims", 0):
            return self._unsqueezed.get(node.input[1]) if not attribute(node, "batch_dims", 0) else None
        self._store(f"{node.input[1]}_rows", numpy_helper.to_array(stored)[..., 0])
        return f"{node.input[1]}_rows"

    def _computed(self, node: NodeProto, width: int) -> None:
        count = 1 if node.op_type in BOUNDS else len(node.input)
        if node.op_type == "LayerNormalization":
            self._normalization(node)
        else:
            node.input[:count] = [self._read(name, width) for name in node.input[:count]]
        outputs = self._layout.output(node)
        fixed = FIXED_RANGES.get(node.op_type)
        self._finish(node, [Grid.of(fixed, width) if fixed else self._bounded(node, name, width) for name in outputs])

    def _normalization(self, node: NodeProto) -> None:
        """The scale in 8 bits: V68 and V69 take no other beside 16-bit activations. The shift is a bias."""
        source = self._read(node.input[0], WIDE)
        scale = numpy_helper.to_array(self._constants[node.input[1]])
        grid = Grid.of(Range(float(scale.min()), float(scale.max())), 8)
        inputs = [source, self._constant(node.input[1], grid)]
        if len(node.input) > 2:
            product = np.full(scale.shape, self._grid(node.input[0], WIDE).scale * grid.scale, np.float32)
            inputs.append(self._bias(node.input[2], product, shared=True))
        node.input[:] = inputs

    def _layer(self, node: NodeProto, layer: OnnxLayer, width: int) -> None:
        """A convolution or a product with a constant matrix."""
        source = node.input[0]
        read, output = self._read(source, width), self._layout.output(node)
        grid = self._bounded(node, output[0], width)
        bias = layer.bias or (node.input[2] if len(node.input) > 2 else None)
        values = None if bias is None else numpy_helper.to_array(self._constants[bias])
        scales = _scales(layer, values, self._grid(source, width).scale)
        integers = round_preserving_sums(layer.weight, scales, layer.channel_axis)
        inputs = [read, self._weight(node.input[1], integers, scales, layer.channel_axis)]
        if bias is not None:
            inputs.append(self._bias(bias, self._grid(source, width).scale * scales))
        if layer.kind in ("Conv", "ConvTranspose"):
            node.input[:] = inputs
            self._finish(node, [grid])
            return
        self._product(node, layer, inputs, grid)

    def _product(self, node: NodeProto, layer: OnnxLayer, inputs: list[str], grid: Grid) -> None:
        """A product as Gemm, which is of matrices: reshapes before and after it where there are more axes."""
        source, (output,) = node.input[0], self._layout.output(node)
        shape = self._fixed_shape(source)
        gemm = onnx.helper.make_node("Gemm", inputs, [output], node.name or output, transB=int(layer.is_transposed))
        if len(shape) == 2:
            self._finish(gemm, [grid], [output])
            return
        channels = layer.weight.shape[layer.channel_axis]
        before = self._integers(f"{output}_rows", (-1, shape[-1]))
        after = self._integers(f"{output}_shape", (*shape[:-1], channels))
        rows = onnx.helper.make_node("Reshape", [inputs[0], before], [f"{output}_in_rows"], f"{output}_before")
        self._finish(rows, [self._grid(source, grid.bits)])
        gemm.input[0] = f"{output}_in_rows"
        self._finish(gemm, [grid], [f"{output}_product"])
        back = onnx.helper.make_node("Reshape", [f"{output}_product", after], [output], f"{output}_after")
        self._finish(back, [grid])

    def _doubled(self, node: NodeProto) -> None:
        """Four copies of all channels, then DepthToSpace, which lays them out as squares of two by two."""
        source, output = node.input[0], node.output[0]
        grid = self._grid(source)
        copies = onnx.helper.make_node("Concat", [self._own(source)] * 4, [f"{output}_copies"], f"{node.name}_copies")
        copies.attribute.append(onnx.helper.make_attribute("axis", 1))
        self._finish(copies, [grid])
        laid = onnx.helper.make_node("DepthToSpace", [f"{output}_copies"], [output], node.name, blocksize=2, mode="DCR")
        self._finish(laid, [grid])

    def _finish(self, node: NodeProto, grids: Sequence[Grid], outputs: Sequence[str] | None = None) -> None:
        """Append an operation, and quantize what it makes; readers find the dequantized values under the old name."""
        names = list(outputs or (self._layout.output(node) if node.name in self._layout.widths else node.output))
        node.output[:] = [f"{name}_exact" for name in names]
        self._nodes.append(node)
        for name, grid in zip(names, grids, strict=True):
            self._pair(f"{name}_exact", grid, name)
            self._grids[name] = grid

    def _pair(self, source: str, grid: Grid, output: str) -> str:
        """Append QuantizeLinear and DequantizeLinear; returns `output`."""
        parameters = self._parameters(output, grid)
        whole = f"{output}_u{grid.bits}"
        self._append("QuantizeLinear", [source, *parameters], whole)
        return self._append("DequantizeLinear", [whole, *parameters], output)

    def _read(self, name: str, bits: int) -> str:
        """The name under which an operation reads an activation or a constant in a width."""
        if name in self._constants:
            values = numpy_helper.to_array(self._constants[name])
            return self._constant(name, Grid.of(Range(float(values.min()), float(values.max())), bits))
        if name not in self._grids:  # made in float
            self._names[name] = self._pair(name, self._measured(name, WIDE), f"{name}_quantized")
            self._grids[name] = self._measured(name, WIDE)
        if self._grids[name].bits == bits:
            return self._own(name)
        output = f"{name}_as_{bits}_bits"
        return output if output in self._made else self._pair(self._own(name), self._grid(name, bits), output)

    def _own(self, name: str) -> str:
        return self._names.get(name, name)

    def _grid(self, name: str, bits: int | None = None) -> Grid:
        """The grid of an activation or constant in a width; None: the width that the activation has."""
        if name in self._constants:
            values = numpy_helper.to_array(self._constants[name])
            return Grid.of(Range(float(values.min()), float(values.max())), bits or WIDE)
        if name not in self._grids:  # made in float
            self._read(name, WIDE)
        own = self._grids[name]
        if bits is None or own.bits == bits:
            return own
        low = -float(own.scale) * own.zero_point
        return Grid.of(Range(low, low + float(own.scale) * _LEVELS[own.bits]), bits)

    def _bounded(self, node: NodeProto, name: str, bits: int) -> Grid:
        """The grid of an operation's output, cut to the limits of a bound that it absorbs."""
        found = self._range(name)
        bound = self._layout.bounds.get(node.name)
        limits = limits_of(bound, self._constants) if bound is not None else None
        low, high = limits or (found.low, found.high)
        return Grid.of(Range(max(found.low, low), min(found.high, high)), bits)

    def _measured(self, name: str, bits: int) -> Grid:
        return Grid.of(self._range(name), bits)

    def _range(self, name: str) -> Range:
        if name not in self._ranges:
            raise ExportError(f"no range for the activation {name!r}: calibrate with samples of this file")
        found = self._ranges[name]
        if not (isfinite(found.low) and isfinite(found.high) and found.low <= found.high):
            raise ExportError(f"the range of {name!r} is {found.low} to {found.high}: keep its layer in fp32")
        return found

    def _fixed_shape(self, name: str) -> tuple[int, ...]:
        shape = self._shapes.get(name, ())
        if not shape or not prod(shape):
            raise ExportError(f"the shape of {name!r} is not fixed, as an NPU needs: export with a fixed capacity")
        return shape

    def _constant(self, name: str, grid: Grid) -> str:
        """A float constant in integers of a grid; returns the name of its dequantized values."""
        values = numpy_helper.to_array(self._constants[name])
        integers = np.clip(np.rint(values / grid.scale) + grid.zero_point, 0, _LEVELS[grid.bits])
        stored = f"{name}_u{grid.bits}"
        self._store(stored, integers.astype(_DTYPES[grid.bits]))
        return self._append("DequantizeLinear", [stored, *self._parameters(stored, grid)], f"{stored}_float")

    def _weight(self, name: str, integers: Array, scales: Float32, axis: int) -> str:
        stored = f"{name}_i8_by_axis_{axis}"
        if f"{stored}_float" in self._made:  # layers may share a weight, and have biases that need other scales
            stored = f"{stored}_{len(self._nodes)}"
        self._store(stored, integers)
        self._store(f"{stored}_scale", scales)
        self._store(f"{stored}_zero", np.zeros(scales.shape, np.int8))
        inputs = [stored, f"{stored}_scale", f"{stored}_zero"]
        return self._append("DequantizeLinear", inputs, f"{stored}_float", axis=axis)

    def _bias(self, name: str, scales: Float32, shared: bool = False) -> str:
        """A bias in int32 with the product of its operation's scales, one for each channel or one for all."""
        values = numpy_helper.to_array(self._constants[name])
        stored = f"{name}_i32_{len(self._nodes)}"
        limit = np.iinfo(np.int32)
        self._store(stored, np.clip(np.rint(values / scales.astype(np.float64)), limit.min, limit.max).astype(np.int32))
        self._store(f"{stored}_scale", np.float32(scales[0]) if shared else scales.astype(np.float32))
        self._store(f"{stored}_zero", np.zeros(() if shared else scales.shape, np.int32))
        inputs = [stored, f"{stored}_scale", f"{stored}_zero"]
        return self._append("DequantizeLinear", inputs, f"{stored}_float", **({} if shared else {"axis": 0}))

    def _parameters(self, name: str, grid: Grid) -> list[str]:
        self._store(f"{name}_scale", np.asarray(grid.scale, np.float32))
        self._store(f"{name}_zero", np.asarray(grid.zero_point, _DTYPES[grid.bits]))
        return [f"{name}_scale", f"{name}_zero"]

    def _integers(self, name: str, values: Sequence[int]) -> str:
        self._store(name, np.asarray(values, np.int64))
        return name

    def _store(self, name: str, values: Array | np.float32) -> None:
        if name not in self._constants:
            stored = numpy_helper.from_array(np.asarray(values), name)
            self._graph.initializer.append(stored)
            self._constants[name] = stored

    def _append(self, kind: str, inputs: Sequence[str], output: str, **attributes: int) -> str:
        """Append one of a pair, unless it is there; returns its output."""
        if output not in self._made:
            node = onnx.helper.make_node(kind, inputs, [output], f"{output}_{kind}", domain=MICROSOFT)
            node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in attributes.items())
            self._nodes.append(node)
            self._made.add(output)
        return output


def _scales(layer: OnnxLayer, bias: Array | None, activation: np.float32) -> Float32:
    """The scale of each channel of a layer's weight, enlarged where the bias would overflow its 32 bits."""
    scales = scales_of(layer, avoid_saturation=True)
    if bias is not None:
        scales = np.maximum(scales, np.abs(bias) / (float(activation) * _LARGEST_BIAS)).astype(np.float32)
    return scales
