"""The targets: what a bundle can be made for, and every fact that depends on it, in one table.

Exporters, quantizers, backends, bounds and the command line read `TARGETS`. What they do for a target is a function of
theirs; what a target is stands here.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from sam_edge_runtime.errors import UsageError

from .contract import Layout


@dataclass(frozen=True)
class Engine:
    """A Python package that runs a target's graphs.

    Attributes:
        name: as reports show it.
        module: what is imported.
        distribution: what pip installs.
    """

    name: str
    module: str
    distribution: str


@dataclass(frozen=True)
class Target:
    """A kind of artifact and the engine that runs it.

    Attributes:
        name: in options, manifests and recipes; also the pip extra that brings the engine.
        title: for people.
        suffix: of the artifact's file or folder.
        layout: axis order of photos and embeddings that the engine is fastest with.
        engines: packages that run it here; the first that is installed is used.
        tools: distributions that make the artifact; the manifest records their versions.
        precisions: what the exporter writes.
        schemes: what the quantizer can give a layer; `fp32` leaves it as it is.
        cpu: what computes when no provider is chosen, as reports show it.
        fixed_shapes: whether a graph has one number of prompts and slots unless a flexible one is wanted.
        flexible: whether a graph can take any number of prompts and slots.
        file_per_frame: whether each frame's graph is a file of its own, beside weights that all share; else a file
            holds a signature or function for each frame.
        several_signatures: whether a file can hold a signature for each of several numbers of prompts.
        picture_input: whether the encoder can take a picture of 8-bit RGB instead of a tensor.
        official_layout: whether graphs can have the tensors of the official SAM ONNX model (`official.py`).
        neural_engine: whether graphs can be rewritten for Apple's Neural Engine.
        lean: parts of the decoder whose lean form the engine computes faster (`sam_edge.model.lean`).
        in_parts: whether the engine computes Hiera's first stages and its MLPs faster a part of the map at a time
            (`sam_edge.model.lean.hiera`).
        scale_first: whether normalizations scale before they divide by the deviation, so that the converter leaves
            weights as they are (`sam_edge.model.norms`).
        separable_positions: whether the decoder computes position embeddings from lookup tables of rows and columns.
        saturates: whether the engine may add two products of 8-bit integers in 16 bits, which overflows with weights
            of full range (`sam_edge_quant.methods.weight_scales`).
        platforms: values of `sys.platform` that the engine exists for; empty: any.
        int4_block: inputs of an INT4 weight that share a scale and a zero point; None: each output has a scale.
        int4_palette: whether INT4 weights are indices into a palette instead.
    """

    name: str
    title: str
    suffix: str
    layout: Layout
    engines: tuple[Engine, ...]
    tools: tuple[str, ...]
    precisions: tuple[str, ...]
    schemes: tuple[str, ...]
    cpu: str = "CPU"
    fixed_shapes: bool = False
    flexible: bool = True
    file_per_frame: bool = False
    several_signatures: bool = False
    picture_input: bool = False
    official_layout: bool = False
    neural_engine: bool = False
    lean: tuple[str, ...] = ()
    in_parts: bool = False
    scale_first: bool = False
    separable_positions: bool = False
    saturates: bool = False
    platforms: tuple[str, ...] = ()
    int4_block: int | None = None
    int4_palette: bool = False

    @property
    def runs_here(self) -> bool:
        """Whether the engine exists for this machine's system."""
        return not self.platforms or sys.platform in self.platforms

    @property
    def install(self) -> str:
        """The command that installs the engine."""
        return f'pip install "sam-edge[{self.name}]"'


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(
            name="onnx",
            title="ONNX Runtime",
            suffix=".onnx",
            layout=Layout.NCHW,
            engines=(Engine("ONNX Runtime", "onnxruntime", "onnxruntime"),),
            tools=("torch", "onnx", "onnxscript", "onnxruntime"),
            precisions=("fp32", "fp16"),
            schemes=("fp32", "w8", "dynamic", "w8a8", "w8a16", "w4", "npu"),
            official_layout=True,
            file_per_frame=True,
            lean=("attention", "masks", "features"),
            in_parts=True,
            separable_positions=True,
            saturates=True,
            int4_block=32,
        ),
        Target(
            name="coreml",
            title="Core ML",
            suffix=".mlpackage",
            layout=Layout.NCHW,
            engines=(Engine("Core ML", "coremltools", "coremltools"),),
            tools=("torch", "coremltools"),
            precisions=("fp32", "fp16", "mixed"),
            schemes=("fp32", "w8", "w8a8", "w4"),
            cpu="chosen by Core ML",
            fixed_shapes=True,
            picture_input=True,
            neural_engine=True,
            platforms=("darwin",),
            int4_palette=True,
        ),
        Target(
            name="tflite",
            title="TFLite",
            suffix=".tflite",
            layout=Layout.NHWC,
            engines=(
                Engine("LiteRT", "ai_edge_litert.interpreter", "ai-edge-litert"),
                Engine("tflite-runtime", "tflite_runtime.interpreter", "tflite-runtime"),
            ),
            tools=("torch", "litert-torch", "ai-edge-litert", "ai-edge-quantizer"),
            precisions=("fp32", "fp16"),
            schemes=("fp32", "w8", "dynamic", "w8a8", "w8a16", "w4", "npu"),
            cpu="CPU (XNNPACK)",
            fixed_shapes=True,
            flexible=False,
            several_signatures=True,
            lean=("masks",),
            scale_first=True,
        ),
    )
}


def target_named(name: str, *others: str) -> Target:
    """The target called `name`.

    Args:
        name: a key of `TARGETS`.
        others: further choices that the caller has, for the message.

    Raises:
        UsageError: there is none.
    """
    if name not in TARGETS:
        raise UsageError(f"no target called {name!r:.60}: choose one of {', or '.join((', '.join(TARGETS), *others))}")
    return TARGETS[name]
