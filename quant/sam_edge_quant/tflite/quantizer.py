"""TFLite files, quantized through AI Edge Quantizer: integers for chosen operations, float for the rest.

An operation with a weight gets the scheme of its layer, identified by the weight. Pass-through operations between
statically quantized ones are quantized too (`graph.pass_through_schemes`). Inputs and outputs stay float32. Scales are
those of LiteRT's kernels (https://ai.google.dev/edge/litert/models/quantization_spec): symmetric for weights, one for
each output channel; asymmetric for 8-bit activations and symmetric for 16-bit ones, one for a tensor. Large constants
that are no layer's weight become float16 (`lookup_tables`).

Ranges of activations come from outside. The quantizer's own calibration, and a check of its result in
`Quantizer.quantize`, keep every tensor of the file in memory, which for a ViT-B at 1024 is more than there is. So the
two steps behind it, parameters and rewriting, are called directly.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ai_edge_quantizer import model_modifier, params_generator, qtyping, recipe_manager
from ai_edge_quantizer.utils import tfl_flatbuffer_utils as flatbuffer

from sam_edge_quant.plan import Plan
from sam_edge_quant.ranges.ranges import Ranges
from sam_edge_quant.recipe import CALIBRATED, FLOAT, NPU
from sam_edge_runtime.errors import ExportError, first_line
from sam_edge_runtime.system.quiet import no_logging

from .assignment import Assignment, assign
from .compact import compact_files
from .graph import TfliteFile
from .lookup_tables import halve_tables
from .observer import TfliteObserver
from .statistics import ACTIVATION_BITS, statistics_of

observer = TfliteObserver

_WEIGHT_BITS = {"w8": 8, "w4": 4}


def tensors(path: Path, plan: Plan) -> Sequence[str]:
    """Names of the activations whose ranges a plan needs, of all signatures.

    Raises:
        ExportError: the file cannot be read.
    """
    return [name for each in assign(TfliteFile(path), plan) for name in each.ranged]


def quantize(source: Path, path: Path, plan: Plan, ranges: Ranges) -> dict[str, Any]:
    """Write the fp32 file `source` to `path`, quantized.

    Args:
        source: as the exporter wrote it.
        path: the file to write.
        plan: the scheme of each layer.
        ranges: of the tensors that `tensors` names.

    Returns:
        `layers`, the scheme of each layer by name; `unknown`, the outputs of operations with a weight that is no
        layer's; `operations`, the number of quantized operations of each kind.

    Raises:
        ExportError: a range is missing or not finite, an output of the file is also read by a quantized operation, or
            the quantizer fails.
    """
    file = TfliteFile(source)
    assignments = assign(file, plan)
    _check_results(assignments)
    statistics = statistics_of(file, assignments, ranges)
    manager = recipe_manager.RecipeManager()
    for (kind, scheme), scopes in _scopes(assignments).items():
        _add(manager, kind, scheme, scopes)
    if not any(each.for_npu for each in assignments):  # there tables are INT16
        halve_tables(file)
    with no_logging():  # the quantizer logs what it does with each shared weight
        try:
            generator = params_generator.ParamsGenerator(file.model)
            parameters = generator.generate_quantization_parameters(manager, statistics, enable_progress_bar=False)
            modifier = model_modifier.ModelModifier(file.model)
            with compact_files():
                modifier.modify_model(parameters, serialize_to_path=str(path), enable_progress_bar=False)
        except Exception as error:  # the quantizer's own errors have no common class
            raise ExportError(f"ai-edge-quantizer failed on {source.name}: {first_line(error)}") from error
    return _report(assignments)


def _report(assignments: Sequence[Assignment]) -> dict[str, Any]:
    operations: Counter[str] = Counter()
    layers: dict[str, str] = {}
    unknown: list[str] = []
    for each in assignments:
        kinds = {index: each.graph.operations[index].kind for index in (*each.weighted, *each.pass_through)}
        operations.update(kinds.values())
        for index, layer in each.layers.items():
            if layer is None:
                unknown.append(each.graph.operations[index].outputs[0])
            else:
                scheme = each.weighted.get(index, FLOAT)
                layers[layer] = NPU if each.for_npu and scheme == "w8a8" else scheme
    return {"layers": layers, "unknown": unknown, "operations": dict(sorted(operations.items()))}


def _scopes(assignments: Sequence[Assignment]) -> dict[tuple[str, str], list[str]]:
    """The names by which the quantizer selects operations, for each kind and scheme."""
    scopes: dict[tuple[str, str], list[str]] = {}
    for each in assignments:
        for index, scheme in (*each.weighted.items(), *each.pass_through.items()):
            operation = each.graph.operations[index]
            scopes.setdefault((operation.kind, scheme), []).append(operation.scope)
    return scopes


def _add(manager: Any, kind: str, scheme: str, scopes: Sequence[str]) -> None:
    """Add operations of one kind and scheme to the quantizer's recipe."""
    pattern = f"^(?:{'|'.join(map(re.escape, scopes))})$"
    name = flatbuffer.TFL_OP_CODE_TO_NAME[getattr(qtyping.BuiltinOperator, kind)]
    channels = qtyping.QuantGranularity.CHANNELWISE
    if scheme in CALIBRATED:
        # LiteRT's integer BATCH_MATMUL ignores all scales of a weight but one, and computes zeros.
        granularity = qtyping.QuantGranularity.TENSORWISE if kind == "BATCH_MATMUL" else channels
        manager.add_static_config(pattern, name, ACTIVATION_BITS[scheme], _WEIGHT_BITS["w8"], granularity)
    elif scheme == "dynamic":
        manager.add_dynamic_config(pattern, name, _WEIGHT_BITS["w8"], channels)
    else:
        manager.add_weight_only_config(pattern, name, _WEIGHT_BITS[scheme], channels)


def _check_results(assignments: Sequence[Assignment]) -> None:
    """Check that the quantizer can leave a file's outputs in float.

    Where an operation reads an output of its signature, and either is quantized, the quantizer writes a broken file: it
    leaves out the dequantization of the output, or puts it before the operation's quantized input as well.

    Raises:
        ExportError: there is such an output.
    """
    for each in assignments:
        graph = each.graph
        quantized = {index for index, scheme in each.weighted.items() if scheme in CALIBRATED} | set(each.pass_through)
        for name in sorted(graph.results):
            readers = graph.readers.get(name, [])
            if readers and not quantized.isdisjoint({*readers, graph.makers.get(name, -1)}):
                raise ExportError(
                    f"AI Edge Quantizer breaks a file in which an operation reads an output, here {name!r}: "
                    "keep the layers that make and read it in fp32"
                )
