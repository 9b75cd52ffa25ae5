"""The calls that two graphs get while they answer prompts: what converters measure and calibrate with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sam_edge_runtime.agreement import golden
from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.backends import Backend
from sam_edge_runtime.bundle.manifest import Manifest

# Inputs of one call by name; NCHW.
Call = dict[str, Float32]


def artifact_sample(call: Call, manifest: Manifest) -> Call:
    """A call as the artifact itself wants it: in its layout, and in whole numbers where it takes pictures."""
    inputs = dict(call)
    for name in ("image", "image_embeddings"):
        if name in inputs:
            inputs[name] = manifest.layout.from_nchw(inputs[name])
    if "image" in inputs and manifest.picture_input:
        inputs["image"] = np.rint(inputs["image"])
    return inputs


@dataclass(frozen=True)
class RecordedCall:
    """A call, and the outputs that the backend gave for it."""

    inputs: Call
    outputs: tuple[Float32, ...]


class CallRecorder:
    """A backend that passes everything on and keeps what went in and came out.

    Attributes:
        encoder: calls of the image encoder.
        decoder: calls of the mask decoder.
    """

    def __init__(self, backend: Backend, manifest: Manifest) -> None:
        self._backend, self._manifest = backend, manifest
        self.engine = backend.engine
        self.encoder: list[RecordedCall] = []
        self.decoder: list[RecordedCall] = []

    def encode(self, image: Float32) -> Float32:
        """See `Backend.encode`."""
        embeddings = self._backend.encode(image)
        names = self._manifest.encoder_contract.input_names
        self.encoder.append(RecordedCall(dict(zip(names, (image,), strict=True)), (embeddings,)))
        return embeddings

    def decode(
        self,
        image_embeddings: Float32,
        point_coords: Float32,
        point_labels: Float32,
        mask_input: Float32,
        has_mask_input: Float32,
    ) -> tuple[Float32, Float32]:
        """See `Backend.decode`."""
        inputs = (image_embeddings, point_coords, point_labels, mask_input, has_mask_input)
        answer = self._backend.decode(*inputs)
        names = self._manifest.decoder_contract.input_names
        self.decoder.append(RecordedCall(dict(zip(names, inputs, strict=True)), answer))
        return answer


def golden_calls(answers: golden.Golden, backend: Backend, manifest: Manifest) -> CallRecorder:
    """The calls of a bundle's own acceptance test, in the decoder's capacity."""
    recorder = CallRecorder(backend, manifest)
    golden.check(answers, recorder, manifest)
    return recorder
