"""Contestants of `int8_peers.py`: other quantizers as they come, on the same fp32 graphs.

Each function takes the folder of an fp32 bundle and rewrites the copy of its graphs in another folder. Options are the
quantizers' own defaults, save where a line says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sam_edge.model import EncoderGraph
from sam_edge.model.torch_backend import TorchBackend
from sam_edge.prediction.calls import artifact_sample
from sam_edge.quantization.calibration.calls import calibration_calls
from sam_edge.quantization.calibration.photos import calibration_photos
from sam_edge.weights.load import find_source, load_sam
from sam_edge_runtime.arrays import Call, Float32
from sam_edge_runtime.bundle.bundle import Bundle

DECODER_CALLS = 16  # of the calibration; a photo gives several


@dataclass(frozen=True)
class Task:
    """What a contestant gets.

    Attributes:
        bundle: in fp32.
        folder: a copy of it, whose graphs are to be rewritten.
        checkpoint: of the weights.
        calibration: photos, as `sam-edge export --calibration` takes them.
        photos: how many of them.
    """

    bundle: Bundle
    folder: Path
    checkpoint: str | None
    calibration: str | None
    photos: int

    def graphs(self) -> Iterator[tuple[Path, Path]]:
        """Each fp32 graph, and the file that replaces its copy."""
        for name in (self.bundle.manifest.encoder, self.bundle.manifest.decoder):
            yield self.bundle.root / name, self.folder / name

    def samples(self) -> tuple[list[Call], list[Call]]:
        """Calls of the encoder and of the decoder, in the form that the files take."""
        manifest = self.bundle.manifest
        sam = load_sam(manifest.variant, find_source(manifest.variant, self.checkpoint), manifest.input_side).sam
        photos = calibration_photos(self.calibration, self.photos)
        with calibration_calls(photos, TorchBackend(sam), manifest) as calls:
            encoder = [artifact_sample(call, manifest) for call in calls.encoder()]
            decoder = [
                artifact_sample(call, manifest)
                for call, _ in zip(calls.decoder(manifest), range(DECODER_CALLS), strict=False)
            ]
        return encoder, decoder


class _Reader:
    """Samples in the form that ONNX Runtime's calibration reads."""

    def __init__(self, samples: list[Call]) -> None:
        self._rest = iter(samples)

    def get_next(self) -> Call | None:
        """The next sample; None after the last."""
        return next(self._rest, None)


def onnx_dynamic(task: Task) -> None:
    """ONNX Runtime's `quantize_dynamic` as samexporter calls it: QUInt8 weights, one scale a tensor."""
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415

    for source, path in task.graphs():
        quantize_dynamic(source, path, per_channel=False, reduce_range=False, weight_type=QuantType.QUInt8)


def onnx_static(task: Task) -> None:
    """ONNX Runtime's `quantize_static` with its defaults: QDQ, every operation, INT8, smallest and largest values."""
    from onnxruntime.quantization import quantize_static  # noqa: PLC0415

    for (source, path), samples in zip(task.graphs(), task.samples(), strict=True):
        quantize_static(source, path, _Reader(samples))


def neural_compressor(task: Task) -> None:
    """neural-compressor's PT2E path for the encoder, through ONNX; the decoder stays in fp32."""
    from neural_compressor_pt2e import write_pt2e  # noqa: PLC0415

    manifest = task.bundle.manifest
    encoder, _ = task.samples()
    sam = load_sam(manifest.variant, find_source(manifest.variant, task.checkpoint), manifest.input_side).sam
    graph = EncoderGraph(sam.eval().requires_grad_(requires_grad=False)).eval()
    (name,) = manifest.encoder_contract.input_names
    samples: list[Float32] = [np.asarray(call[name], np.float32) for call in encoder]
    write_pt2e(graph, samples, task.folder / manifest.encoder)


def _tflite(task: Task, recipe: Any, samples: tuple[list[Call], list[Call]] | None) -> None:
    from ai_edge_quantizer import quantizer  # noqa: PLC0415
    from ai_edge_quantizer.utils import tfl_interpreter_utils  # noqa: PLC0415

    for index, (source, path) in enumerate(task.graphs()):
        path.unlink()  # the quantizer refuses to replace a file
        work = quantizer.Quantizer(str(source), recipe)
        found = None
        if samples is not None:
            key = tfl_interpreter_utils.DEFAULT_SIGNATURE_KEY
            found = work.calibrate({key: samples[index]})
        work.quantize(found, serialize_to_path=str(path))


def tflite_dynamic(task: Task) -> None:
    """AI Edge Quantizer's `dynamic_wi8_afp32`."""
    from ai_edge_quantizer import recipe  # noqa: PLC0415

    _tflite(task, recipe.dynamic_wi8_afp32(), None)


def tflite_static(task: Task) -> None:
    """AI Edge Quantizer's `static_wi8_ai8`, every operation; inputs and outputs stay float, as in every bundle."""
    from ai_edge_quantizer import recipe  # noqa: PLC0415

    keep: list[dict[str, Any]] = [
        {"regex": ".*", "operation": name, "algorithm_key": "no_quantize", "op_config": {}}
        for name in ("INPUT", "OUTPUT")
    ]
    _tflite(task, [*recipe.static_wi8_ai8(), *keep], task.samples())


def _coreml(task: Task, change: Callable[[Any], Any]) -> None:
    import shutil  # noqa: PLC0415

    import coremltools as ct  # noqa: PLC0415

    for source, path in task.graphs():
        shutil.rmtree(path)
        change(ct.models.MLModel(str(source), skip_model_load=True)).save(str(path))


def coreml_linear(task: Task) -> None:
    """The function `linear_quantize_weights` of coremltools with its defaults: INT8, symmetric, one scale a channel."""
    from coremltools.optimize import coreml as optimize  # noqa: PLC0415

    config = optimize.OptimizationConfig(optimize.OpLinearQuantizerConfig())
    _coreml(task, lambda model: optimize.linear_quantize_weights(model, config))


def coreml_palette(task: Task) -> None:
    """The function `palettize_weights` of coremltools with 16 values a tensor, found by k-means."""
    from coremltools.optimize import coreml as optimize  # noqa: PLC0415

    config = optimize.OptimizationConfig(optimize.OpPalettizerConfig(mode="kmeans", nbits=4))
    _coreml(task, lambda model: optimize.palettize_weights(model, config))


# Target and function of each, by its name in the table.
QUANTIZERS: dict[str, tuple[str, Callable[[Task], None]]] = {
    "ONNX Runtime quantize_dynamic": ("onnx", onnx_dynamic),
    "ONNX Runtime quantize_static": ("onnx", onnx_static),
    "neural-compressor PT2E": ("onnx", neural_compressor),
    "AI Edge Quantizer dynamic_wi8_afp32": ("tflite", tflite_dynamic),
    "AI Edge Quantizer static_wi8_ai8": ("tflite", tflite_static),
    "coremltools linear_quantize_weights": ("coreml", coreml_linear),
    "coremltools palettize_weights": ("coreml", coreml_palette),
}
