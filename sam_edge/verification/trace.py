"""Finds where a conversion goes wrong: each tensor of an artifact is compared with those of fp32 torch.

Converters fuse, fold and rename operations, so a tensor is recognized by its values: it is right if fp32 torch computes
one of the same size, mean, power and extremes, in any order of axes. If torch has a tensor of the same name and shape,
values are compared element by element. Many right tensors have no counterpart in torch, but no right tensor follows
from a wrong one. So the fault starts at the first tensor that is not right and that leads to no right one. Outputs of
the graph are compared element by element with torch's output of the same name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from sam_edge.model import Sam, graphs_of
from sam_edge.model.torch_backend import TorchBackend
from sam_edge.prediction.calls import RecordedCall, artifact_sample, decode_call, golden_calls
from sam_edge_exporters.tracing import traced
from sam_edge_runtime.agreement import golden
from sam_edge_runtime.agreement.metrics import snr_db
from sam_edge_runtime.arrays import Array, Call, Float32
from sam_edge_runtime.backends import Backend
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.contract import GraphContract
from sam_edge_runtime.errors import BundleError

from .intermediates import Intermediate, walk

_PLACES = 1 << 14  # values that are kept of a tensor, for comparison element by element
_FEWEST = 16  # values; smaller tensors resemble others by chance
_SUFFIX = "_cast_fp16"  # coremltools' addition to the names of what it casts


@dataclass(frozen=True)
class Tolerance:
    """The differences that count as rounding.

    Attributes:
        relative: largest difference of mean or root mean square, relative to the latter, and of an extreme, relative to
            the largest absolute value.
        places_db: lowest signal-to-noise ratio of values compared element by element, in dB.
    """

    relative: float
    places_db: float


FINE, ROUGH = Tolerance(1e-3, 50.0), Tolerance(1e-2, 25.0)  # fp32, and every other precision


@dataclass(frozen=True)
class Traced:
    """The result of tracing one graph.

    Attributes:
        graph: `image encoder` or `mask decoder`.
        tensors: number of its tensors.
        first_wrong: name of the tensor where the fault starts; None if there is no fault.
        operation: kind of the operation that computes it.
        inputs: names of the operation's inputs, which are right.
        wrong: number of wrong tensors, including the first.
    """

    graph: str
    tensors: int
    first_wrong: str | None = None
    operation: str = ""
    inputs: tuple[str, ...] = ()
    wrong: int = 0

    @property
    def sentence(self) -> str:
        """The result in one line."""
        if self.first_wrong is None:
            return f"{self.graph}: its {self.tensors} tensors agree with fp32 torch"
        sources = f", computed from {', '.join(self.inputs)}" if self.inputs else ""
        return (
            f"{self.graph}: the fault starts at tensor {self.first_wrong} ({self.operation}{sources}); {self.wrong} of "
            f"{self.tensors} tensors are wrong"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `report.json`."""
        return asdict(self)


@dataclass(frozen=True)
class _Fingerprint:
    """A tensor's size, shape, mean, root mean square and extremes, and a sample of its values."""

    size: int
    shape: tuple[int, ...]
    figures: tuple[float, float, float, float]
    places: Array

    @classmethod
    def of(cls, value: Array) -> _Fingerprint:
        flat = value.reshape(-1)
        with np.errstate(all="ignore"):
            mean, power = float(flat.mean(dtype=np.float64)), float(np.square(flat, dtype=np.float64).mean())
        figures = (mean, power**0.5, float(flat.min()), float(flat.max()))
        return cls(flat.size, tuple(value.shape), figures, flat[:: max(1, flat.size // _PLACES)].copy())

    @property
    def distinctive(self) -> bool:
        """Whether it can be recognized; a constant or a small tensor cannot."""
        return self.size >= _FEWEST and self.figures[2] != self.figures[3]

    def resembles(self, other: _Fingerprint, tolerance: Tolerance) -> bool:
        _, power, least, largest = self.figures
        scales = (power, power, max(abs(least), abs(largest)), max(abs(least), abs(largest)))
        return all(
            abs(a - b) <= tolerance.relative * scale
            for a, b, scale in zip(self.figures, other.figures, scales, strict=True)
        )


class _Reference(fx.Interpreter):
    """Runs fp32 torch node by node and keeps a fingerprint of every tensor."""

    def __init__(self, graph: nn.Module, contract: GraphContract) -> None:
        super().__init__(traced(graph, contract).module())
        self.by_size: dict[int, list[_Fingerprint]] = defaultdict(list)
        self.by_name: dict[str, _Fingerprint] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel():
                known = _Fingerprint.of(value.detach().numpy())
                self.by_size[known.size].append(known)
                self.by_name.setdefault(n.name, known)
        return result

    def has(self, name: str, found: _Fingerprint, tolerance: Tolerance) -> bool:
        """Whether a tensor of the artifact equals one of torch's."""
        named = self.by_name.get(name.removesuffix(_SUFFIX))
        if named is not None and named.shape == found.shape and named.resembles(found, tolerance):
            return _in_places(named, found, tolerance)
        return any(known.resembles(found, tolerance) for known in self.by_size[found.size])


def _in_places(known: _Fingerprint, found: _Fingerprint, tolerance: Tolerance) -> bool:
    return known.shape == found.shape and snr_db(known.places, found.places) >= tolerance.places_db


@dataclass
class _Step:
    name: str
    operation: str
    inputs: tuple[str, ...]
    right: bool
    distinctive: bool


Walk = Callable[[dict[str, Array], Callable[[Intermediate], None]], None]


def trace_graph(
    name: str, graph: nn.Module, contract: GraphContract, inputs: dict[str, Array], precision: str, walk: Walk
) -> Traced:
    """Find the first wrong tensor of an artifact.

    Args:
        name: name of the graph in the result.
        graph: the converted torch module, in fp32.
        contract: its inputs and outputs.
        inputs: one call, by name, in the artifact's layout.
        precision: precision of the artifact.
        walk: reports the artifact's tensors for a call (`intermediates.walk`).
    """
    reference = _Reference(graph, contract)
    with torch.inference_mode():
        found = reference.run(*(torch.from_numpy(inputs[each]) for each in contract.input_names))
    expected = found if isinstance(found, tuple | list) else (found,)
    outputs = {
        each: _Fingerprint.of(value.numpy()) for each, value in zip(contract.output_names, expected, strict=True)
    }
    tolerance = FINE if precision == "fp32" else ROUGH
    steps: list[_Step] = []

    def check(found: Intermediate) -> None:
        value = np.asarray(found.value)
        if value.dtype.kind != "f" or not value.size:
            steps.append(_Step(found.name, found.operation, found.inputs, right=True, distinctive=False))
            return
        seen = _Fingerprint.of(value.astype(np.float32, copy=False))
        if found.output:
            right = _in_places(outputs[found.output], seen, tolerance)
        else:
            right = bool(np.isfinite(seen.figures).all()) and reference.has(found.name, seen, tolerance)
        steps.append(_Step(found.name, found.operation, found.inputs, right, right and seen.distinctive))

    walk(inputs, check)
    return _located(name, steps)


def _located(name: str, steps: list[_Step]) -> Traced:
    """The first tensor that is not right and leads to no right one; no fault if all outputs are right."""
    leads: set[str] = set()  # tensors that lead to a right one
    wrong = []
    for step in reversed(steps):
        if step.distinctive or step.name in leads:
            leads.update(step.inputs)
        if not step.right and step.name not in leads:
            wrong.append(step)
    used = {source for step in steps for source in step.inputs}
    if all(step.name in used for step in wrong):  # a graph's outputs are inputs of no operation
        return Traced(name, len(steps))
    first = wrong[-1]
    return Traced(name, len(steps), first.name, first.operation, first.inputs, len(wrong))


def trace_bundle(bundle: Bundle, backend: Backend, sam: Sam, progress: Callable[[str], None]) -> tuple[Traced, ...]:
    """Trace both graphs of a bundle, each on the call of its golden test with the lowest SNR.

    Args:
        bundle: a bundle with golden.npz.
        backend: the bundle's engine.
        sam: the model that it was made from.
        progress: called with a text for each graph.

    Raises:
        BundleError: it has no golden.npz.
        BackendError: the engine failed.
    """
    if bundle.golden_path is None:
        raise BundleError(f"{bundle.root} has no golden.npz, whose calls are traced: export the bundle again")
    manifest = bundle.manifest.each_frame()[0].each_capacity()[0]
    test = golden.Golden.load(bundle.golden_path, bundle.manifest).of_frame(manifest.frame)
    calls = golden_calls(test, TorchBackend(sam), manifest)
    encoder, decoder = graphs_of(sam, manifest)

    def encode(call: Call) -> tuple[Float32, ...]:
        return backend.encode(call["image"])

    def decode(call: Call) -> tuple[Float32, ...]:
        return decode_call(backend, call, manifest)

    parts = (
        ("image encoder", encoder, manifest.encoder_contract, bundle.encoder_path, calls.encoder, encode),
        ("mask decoder", decoder, manifest.decoder_contract, bundle.decoder_path, calls.decoder, decode),
    )
    found = []
    for name, graph, contract, path, recorded, engine in parts:
        progress(f"tracing the {name}")
        worst = min(recorded, key=partial(_lowest_snr, engine))
        inputs = artifact_sample(worst.inputs, manifest)
        walk_it = partial(walk, manifest.target, path)
        found.append(trace_graph(name, graph, contract, inputs, manifest.precision, walk_it))
    return tuple(found)


def _lowest_snr(engine: Callable[[Call], tuple[Float32, ...]], call: RecordedCall) -> float:
    """The lowest SNR of an engine's outputs for a call, in dB."""
    return min(snr_db(*pair) for pair in zip(call.outputs, engine(call.inputs), strict=True))
