"""Where a wrong conversion starts: an artifact's tensors, one by one, against those of fp32 torch.

Converters fuse, fold and rename, so tensors are recognized by what is in them: a tensor is right if fp32 torch makes
one of the same size, mean, power and extremes on its way, whatever the order of its axes. Where torch has one of the
same name and shape as well, the numbers are compared in their places. Many tensors have no counterpart and are right
all the same; but a wrong tensor leads to no right ones. So the fault starts at the first tensor that is not right and
from which nothing right follows. What the graph gives out is compared with torch's output of that name, in its places.
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
from sam_edge.prediction.calls import RecordedCall, artifact_sample, golden_calls
from sam_edge_exporters.tracing import traced
from sam_edge_runtime.agreement import golden
from sam_edge_runtime.agreement.metrics import snr_db
from sam_edge_runtime.arrays import Array
from sam_edge_runtime.backends import Backend
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.contract import GraphContract
from sam_edge_runtime.errors import BundleError

from .intermediates import Intermediate, walk

_PLACES = 1 << 14  # numbers that are kept of a tensor to compare in their places
_FEWEST = 16  # a smaller tensor is too easily like another
_SUFFIX = "_cast_fp16"  # coremltools' addition to the names of what it casts


@dataclass(frozen=True)
class Tolerance:
    """What is rounding and no fault.

    Attributes:
        relative: difference of mean or root mean square to the latter, or of an extreme to the largest number.
        places_db: signal-to-noise ratio of numbers in their places.
    """

    relative: float
    places_db: float


FINE, ROUGH = Tolerance(1e-3, 50.0), Tolerance(1e-2, 25.0)  # fp32, and every other precision


@dataclass(frozen=True)
class Traced:
    """What came of tracing one graph.

    Attributes:
        graph: `image encoder` or `mask decoder`.
        tensors: how many it makes.
        first_wrong: name of the tensor where the fault starts; None where there is no fault.
        operation: what made it.
        inputs: what it was made from, which is right.
        wrong: how many tensors are wrong, the first included.
    """

    graph: str
    tensors: int
    first_wrong: str | None = None
    operation: str = ""
    inputs: tuple[str, ...] = ()
    wrong: int = 0

    @property
    def sentence(self) -> str:
        """The finding in a line."""
        if self.first_wrong is None:
            return f"{self.graph}: its {self.tensors} tensors agree with fp32 torch"
        sources = f", made from {', '.join(self.inputs)}" if self.inputs else ""
        return (
            f"{self.graph}: the fault starts at tensor {self.first_wrong} ({self.operation}{sources}); {self.wrong} of "
            f"{self.tensors} tensors are wrong"
        )

    def to_json(self) -> dict[str, Any]:
        """As it stands in `report.json`."""
        return asdict(self)


@dataclass(frozen=True)
class _Print:
    """What a tensor is recognized by: size, mean, root mean square, least and largest number, and some numbers."""

    size: int
    shape: tuple[int, ...]
    figures: tuple[float, float, float, float]
    places: Array

    @classmethod
    def of(cls, value: Array) -> _Print:
        flat = value.reshape(-1)
        with np.errstate(all="ignore"):
            mean, power = float(flat.mean(dtype=np.float64)), float(np.square(flat, dtype=np.float64).mean())
        figures = (mean, power**0.5, float(flat.min()), float(flat.max()))
        return cls(flat.size, tuple(value.shape), figures, flat[:: max(1, flat.size // _PLACES)].copy())

    @property
    def tells(self) -> bool:
        """Whether it can be told from others; a constant cannot."""
        return self.size >= _FEWEST and self.figures[2] != self.figures[3]

    def resembles(self, other: _Print, tolerance: Tolerance) -> bool:
        _, power, least, largest = self.figures
        scales = (power, power, max(abs(least), abs(largest)), max(abs(least), abs(largest)))
        return all(
            abs(a - b) <= tolerance.relative * scale
            for a, b, scale in zip(self.figures, other.figures, scales, strict=True)
        )


class _Reference(fx.Interpreter):
    """fp32 torch, node by node, with a print of every tensor."""

    def __init__(self, graph: nn.Module, contract: GraphContract) -> None:
        super().__init__(traced(graph, contract).module())
        self.by_size: dict[int, list[_Print]] = defaultdict(list)
        self.by_name: dict[str, _Print] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel():
                known = _Print.of(value.detach().numpy())
                self.by_size[known.size].append(known)
                self.by_name.setdefault(n.name, known)
        return result

    def has(self, name: str, found: _Print, tolerance: Tolerance) -> bool:
        """Whether a tensor of the artifact is one of these."""
        named = self.by_name.get(name.removesuffix(_SUFFIX))
        if named is not None and named.shape == found.shape and named.resembles(found, tolerance):
            return _in_places(named, found, tolerance)
        return any(known.resembles(found, tolerance) for known in self.by_size[found.size])


def _in_places(known: _Print, found: _Print, tolerance: Tolerance) -> bool:
    return known.shape == found.shape and snr_db(known.places, found.places) >= tolerance.places_db


@dataclass
class _Step:
    name: str
    operation: str
    inputs: tuple[str, ...]
    right: bool
    tells: bool


Walk = Callable[[dict[str, Array], Callable[[Intermediate], None]], None]


def trace_graph(
    name: str, graph: nn.Module, contract: GraphContract, inputs: dict[str, Array], precision: str, walk: Walk
) -> Traced:
    """Find the first wrong tensor of an artifact.

    Args:
        name: of the graph, for people.
        graph: the torch module that was converted, in fp32.
        contract: its tensors.
        inputs: one call, by name, in the artifact's layout.
        precision: of the artifact.
        walk: tells the artifact's tensors for a call (`intermediates.walk`).
    """
    reference = _Reference(graph, contract)
    with torch.inference_mode():
        answers = reference.run(*(torch.from_numpy(inputs[each]) for each in contract.input_names))
    answers = answers if isinstance(answers, tuple | list) else (answers,)
    outputs = {each: _Print.of(answer.numpy()) for each, answer in zip(contract.output_names, answers, strict=True)}
    tolerance = FINE if precision == "fp32" else ROUGH
    steps: list[_Step] = []

    def judge(found: Intermediate) -> None:
        value = np.asarray(found.value)
        if value.dtype.kind != "f" or not value.size:
            steps.append(_Step(found.name, found.operation, found.inputs, right=True, tells=False))
            return
        seen = _Print.of(value.astype(np.float32, copy=False))
        if found.output:
            right = _in_places(outputs[found.output], seen, tolerance)
        else:
            right = bool(np.isfinite(seen.figures).all()) and reference.has(found.name, seen, tolerance)
        steps.append(_Step(found.name, found.operation, found.inputs, right, right and seen.tells))

    walk(inputs, judge)
    return _judged(name, steps)


def _judged(name: str, steps: list[_Step]) -> Traced:
    """The first step that is not right and leads to nothing right; no fault where all that comes out is right."""
    leads: set[str] = set()  # tensors from which something right follows
    wrong = []
    for step in reversed(steps):
        if step.tells or step.name in leads:
            leads.update(step.inputs)
        if not step.right and step.name not in leads:
            wrong.append(step)
    used = {source for step in steps for source in step.inputs}
    if all(step.name in used for step in wrong):  # outputs are what nothing else is made from
        return Traced(name, len(steps))
    first = wrong[-1]
    return Traced(name, len(steps), first.name, first.operation, first.inputs, len(wrong))


def trace_bundle(bundle: Bundle, backend: Backend, sam: Sam, progress: Callable[[str], None]) -> tuple[Traced, ...]:
    """Trace both graphs of a bundle on those calls of its golden test that its engine answers worst.

    Args:
        bundle: with its golden.npz.
        backend: the bundle's engine.
        sam: the weights it was made from.
        progress: told what is being traced.

    Raises:
        BundleError: it has no golden answers.
        BackendError: the engine failed.
    """
    if bundle.golden_path is None:
        raise BundleError(f"{bundle.root} has no golden.npz, whose calls are traced: export the bundle again")
    manifest = bundle.manifest.each_capacity()[0]
    answers = golden.Golden.load(bundle.golden_path, bundle.manifest)
    calls = golden_calls(answers, TorchBackend(sam), manifest)
    encoder, decoder = graphs_of(sam, manifest)
    parts = (
        ("image encoder", encoder, manifest.encoder_contract, bundle.encoder_path, calls.encoder, backend.encode),
        ("mask decoder", decoder, manifest.decoder_contract, bundle.decoder_path, calls.decoder, backend.decode),
    )
    found = []
    for name, graph, contract, path, asked, engine in parts:
        progress(f"tracing the {name}")
        worst = min(asked, key=partial(_worst_snr, engine))
        inputs = artifact_sample(worst.inputs, manifest)
        walk_it = partial(walk, manifest.target, path)
        found.append(trace_graph(name, graph, contract, inputs, manifest.precision, walk_it))
    return tuple(found)


def _worst_snr(engine: Callable[..., Any], call: RecordedCall) -> float:
    """Of an engine's outputs for a call, in dB."""
    answer = engine(**call.inputs)
    return min(
        snr_db(*pair) for pair in zip(call.outputs, answer if isinstance(answer, tuple) else (answer,), strict=True)
    )
