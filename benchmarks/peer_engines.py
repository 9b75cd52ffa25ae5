"""Contestants of `peers.py`. Each is two functions: one encodes the photo, one returns a click's mask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from peer_inputs import frame_of

from sam_edge_runtime import Bundle, SamPredictor
from sam_edge_runtime.arrays import Float32, Photo
from sam_edge_runtime.benchmark.steps import click_tensors
from sam_edge_runtime.photo.masks import upscale

Engine = tuple[Callable[[], Float32], Callable[[], Any]]


def engine(kind: str, variant: str, folder: Path, photo: Photo) -> Engine:
    """Load a contestant of `peers.KINDS` from the folder of its files."""
    if kind.startswith("sam-edge"):
        return _ours(folder, photo)
    if kind == "torch":
        return _torch(variant, photo)
    if kind == "plain tflite":
        return _tflite(variant, folder, photo)
    return _onnx(variant, folder, photo)


def _ours(folder: Path, photo: Photo) -> Engine:
    predictor = SamPredictor(Bundle.open(folder))
    predictor.set_image(photo)
    image = predictor.frame.image(photo)
    point, label = np.array([[photo.shape[1] / 2, photo.shape[0] / 2]]), np.array([1])
    return (
        lambda: predictor.backend.encode(image)[0],
        lambda: predictor.predict(point, label, multimask_output=False),
    )


def _torch(variant: str, photo: Photo) -> Engine:
    import torch  # noqa: PLC0415
    from peer_modules import ours, reference  # noqa: PLC0415

    from tests.reference import import_segment_anything  # noqa: PLC0415  # peer_modules puts it on the path

    package = import_segment_anything()
    if variant.startswith("vit"):
        sam = reference(variant)
        predictor = package.SamPredictor(sam)
        point, label = np.array([[photo.shape[1] / 2, photo.shape[0] / 2]]), np.array([1])
        frame = frame_of(variant, 1024, (photo.shape[0], photo.shape[1]))
        image = torch.from_numpy(frame.image(photo))
        predictor.set_image(photo)

        def encode() -> Float32:
            with torch.inference_mode():
                return np.asarray(sam.image_encoder((image - sam.pixel_mean) / sam.pixel_std))

        return encode, lambda: predictor.predict(point, label, multimask_output=False)
    from peer_modules import DecoderToPhoto  # noqa: PLC0415

    from sam_edge.model import EncoderGraph  # noqa: PLC0415

    model = ours(variant)
    frame = frame_of(variant, model.side, (photo.shape[0], photo.shape[1]))
    image = torch.from_numpy(frame.image(photo))
    encoder, decoder = EncoderGraph(model).eval(), DecoderToPhoto(model).eval()
    prompt = [torch.from_numpy(array) for array in click_tensors(frame, slots=2)]

    def features() -> tuple[Any, ...]:
        with torch.inference_mode():
            outputs = encoder(image)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    embedding, *further = features()

    def encode_ours() -> Float32:
        return np.asarray(features()[0])

    def click() -> Any:
        with torch.inference_mode():
            return (decoder(embedding, *prompt, *further)[0] > 0).numpy()

    return encode_ours, click


def _onnx(variant: str, folder: Path, photo: Photo) -> Engine:
    import onnxruntime as ort  # noqa: PLC0415

    encoder, decoder = (ort.InferenceSession(str(folder / f"{name}.onnx")) for name in ("encoder", "decoder"))
    (first,) = encoder.get_inputs()
    size = (photo.shape[0], photo.shape[1])
    frame = frame_of(variant, first.shape[-1], size)
    image = frame.image(photo)
    embedding, *further = encoder.run(None, {first.name: image})
    values = [embedding, *click_tensors(frame, slots=2), *(further or [np.array(size, np.float32)])]
    # A traced graph may have lost inputs that it does not use.
    feed = dict(zip((each.name for each in decoder.get_inputs()), values, strict=False))
    return lambda: encoder.run(None, {first.name: image})[0], lambda: decoder.run(None, feed)[0] > 0


def _tflite(variant: str, folder: Path, photo: Photo) -> Engine:
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

    graphs = []
    for name in ("encoder", "decoder"):
        interpreter = Interpreter(model_path=str(folder / f"{name}.tflite"))
        interpreter.allocate_tensors()
        graphs.append((interpreter, interpreter.get_signature_runner()))
    (_, encoder), (_, decoder) = graphs
    (name,) = encoder.get_input_details()
    side = int(encoder.get_input_details()[name]["shape"][-1])
    frame = frame_of(variant, side, (photo.shape[0], photo.shape[1]))
    image = frame.image(photo)

    def features(_keep: object = graphs) -> list[Float32]:
        outputs = encoder(**{name: image})
        return [np.asarray(outputs[each], np.float32) for each in sorted(outputs)]  # output_0 ..

    def encode() -> Float32:
        return features()[0]

    embedding, *further = features()
    feed = dict(
        zip(sorted(decoder.get_input_details()), (embedding, *click_tensors(frame, slots=2), *further), strict=True)
    )  # args_0 ..

    def click() -> Any:
        outputs = decoder(**feed)
        masks = next(value for value in outputs.values() if value.ndim == 4)
        return upscale(np.ascontiguousarray(masks[0, :1]), frame) > 0

    return encode, click
