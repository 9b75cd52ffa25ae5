"""Contestants of `peers.py`. Each is two functions: one encodes the photo, one returns a click's mask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sam_edge_runtime import Bundle, SamPredictor
from sam_edge_runtime.arrays import Float32, Photo
from sam_edge_runtime.benchmark.steps import click_tensors
from sam_edge_runtime.bundle.contract import FrameSize
from sam_edge_runtime.photo.frame import Frame
from sam_edge_runtime.photo.masks import upscale

Engine = tuple[Callable[[], Float32], Callable[[], Any]]


def engine(kind: str, variant: str, folder: Path, photo: Photo) -> Engine:
    """Load a contestant of `peers.KINDS` from the folder of its files."""
    if kind.startswith("sam-edge"):
        return _ours(folder, photo)
    if kind == "torch":
        return _torch(variant, photo)
    if kind == "plain tflite":
        return _tflite(folder, photo)
    return _onnx(folder, photo)


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
        frame = Frame(FrameSize.square(1024), (photo.shape[0], photo.shape[1]))
        image = torch.from_numpy(frame.image(photo))
        predictor.set_image(photo)

        def encode() -> Float32:
            with torch.inference_mode():
                return np.asarray(sam.image_encoder((image - sam.pixel_mean) / sam.pixel_std))

        return encode, lambda: predictor.predict(point, label, multimask_output=False)
    from peer_modules import DecoderToPhoto  # noqa: PLC0415

    from sam_edge.model import DecoderGraph, EncoderGraph  # noqa: PLC0415

    model = ours(variant)
    frame = Frame(FrameSize.square(model.side), (photo.shape[0], photo.shape[1]))
    image = torch.from_numpy(frame.image(photo))
    encoder, decoder = EncoderGraph(model).eval(), DecoderToPhoto(DecoderGraph(model), model.side).eval()
    prompt = [torch.from_numpy(array) for array in click_tensors(frame, slots=2)]
    with torch.inference_mode():
        embeddings = encoder(image)

    def encode_ours() -> Float32:
        with torch.inference_mode():
            return np.asarray(encoder(image))

    def click() -> Any:
        with torch.inference_mode():
            return (decoder(embeddings, *prompt)[0] > 0).numpy()

    return encode_ours, click


def _onnx(folder: Path, photo: Photo) -> Engine:
    import onnxruntime as ort  # noqa: PLC0415

    encoder, decoder = (ort.InferenceSession(str(folder / f"{name}.onnx")) for name in ("encoder", "decoder"))
    (first,) = encoder.get_inputs()
    size = (photo.shape[0], photo.shape[1])
    image = Frame(FrameSize.square(first.shape[-1]), size).image(photo)
    (embeddings,) = encoder.run(None, {first.name: image})
    values = [
        embeddings,
        *click_tensors(Frame(FrameSize.square(first.shape[-1]), size), slots=2),
        np.array(size, np.float32),
    ]
    # A traced graph may have lost inputs that it does not use.
    feed = dict(zip((each.name for each in decoder.get_inputs()), values, strict=False))
    return lambda: encoder.run(None, {first.name: image})[0], lambda: decoder.run(None, feed)[0] > 0


def _tflite(folder: Path, photo: Photo) -> Engine:
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

    graphs = []
    for name in ("encoder", "decoder"):
        interpreter = Interpreter(model_path=str(folder / f"{name}.tflite"))
        interpreter.allocate_tensors()
        graphs.append((interpreter, interpreter.get_signature_runner()))
    (_, encoder), (_, decoder) = graphs
    (name,) = encoder.get_input_details()
    side = int(encoder.get_input_details()[name]["shape"][-1])
    size = (photo.shape[0], photo.shape[1])
    frame = Frame(FrameSize.square(side), size)
    image = frame.image(photo)

    def encode(_keep: object = graphs) -> Float32:
        (embeddings,) = encoder(**{name: image}).values()
        return np.asarray(embeddings, np.float32)

    embeddings = encode()
    feed = dict(
        zip(sorted(decoder.get_input_details()), (embeddings, *click_tensors(frame, slots=2)), strict=True)
    )  # args_0 ..

    def click() -> Any:
        outputs = decoder(**feed)
        masks = next(value for value in outputs.values() if value.ndim == 4)
        return upscale(np.ascontiguousarray(masks[0, :1]), frame) > 0

    return encode, click
