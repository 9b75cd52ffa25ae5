"""The calls that a bundle's two graphs get while prompts are answered: samples for converters and for calibration."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sam_edge_runtime.agreement import golden
from sam_edge_runtime.arrays import Call, Decoded, Features, Float32, TextInputs
from sam_edge_runtime.backends import Backend
from sam_edge_runtime.bundle.contract import in_contract_order
from sam_edge_runtime.bundle.manifest import Manifest


def artifact_sample(call: Call, manifest: Manifest) -> Call:
    """A call in the form that the artifact takes: in its layout, and rounded to integers if it takes an 8-bit picture.

    Args:
        call: inputs by name, NCHW.
        manifest: of the artifact's bundle.
    """
    inputs = dict(call)
    for name in ("image", *manifest.encoder_contract.output_names):
        if name in inputs:
            inputs[name] = manifest.layout.from_nchw(inputs[name])
    if "image" in inputs and manifest.picture_input:
        inputs["image"] = np.rint(inputs["image"])
    return inputs


def decoder_call(features: Features, prompts: tuple[Float32, ...], manifest: Manifest) -> Call:
    """A call of the mask decoder by the contract's names.

    Args:
        features: of the photo.
        prompts: the four arrays of the prompts, and the two of their text if there is any.
        manifest: of the bundle.
    """
    inputs = in_contract_order(manifest.conventions, features, *prompts)
    return dict(zip(manifest.decoder_contract.input_names, inputs, strict=True))


def decode_call(backend: Backend, call: Call, manifest: Manifest) -> tuple[Float32, ...]:
    """The mask decoder's outputs for a call that `decoder_call` made.

    Raises:
        BackendError: the engine failed.
    """
    of_photo = manifest.encoder_contract.output_names
    given = [call[name] for name in manifest.decoder_contract.input_names if name not in of_photo]
    features = tuple(call[name] for name in of_photo)
    text = None
    if manifest.conventions.text_channels is not None:
        *given, embeddings, has_text = given
        text = TextInputs(embeddings, has_text)
    if not manifest.conventions.mask_prompts:
        count = len(given[0])
        given += [np.zeros((count, 1, *manifest.frame.cells), np.float32), np.zeros(count, np.float32)]
    coords, labels, mask, has_mask = given
    return backend.decode(features, coords, labels, mask, has_mask, *text_argument(text)).tensors


def text_argument(text: TextInputs | None) -> tuple[TextInputs, ...]:
    """The argument of text where there is any: a backend of somebody's own may not know of text."""
    return () if text is None else (text,)


@dataclass(frozen=True)
class RecordedCall:
    """A call, and the backend's outputs for it."""

    inputs: Call
    outputs: tuple[Float32, ...]


@dataclass(frozen=True)
class RecordedCalls:
    """Calls of both graphs, in the order in which they were made.

    Attributes:
        encoder: calls of the image encoder.
        decoder: calls of the mask decoder.
    """

    encoder: list[RecordedCall] = field(default_factory=list)
    decoder: list[RecordedCall] = field(default_factory=list)


class CallRecorder:
    """A backend that delegates to another one and records inputs and outputs.

    Attributes:
        calls: what was recorded so far.
    """

    def __init__(self, backend: Backend, manifest: Manifest) -> None:
        self._backend, self._manifest = backend, manifest
        self.engine = backend.engine
        self.calls = RecordedCalls()

    def encode(self, image: Float32) -> Features:
        """See `Backend.encode`."""
        features = self._backend.encode(image)
        names = self._manifest.encoder_contract.input_names
        self.calls.encoder.append(RecordedCall(dict(zip(names, (image,), strict=True)), features))
        return features

    def decode(
        self,
        features: Features,
        point_coords: Float32,
        point_labels: Float32,
        mask_input: Float32,
        has_mask_input: Float32,
        text: TextInputs | None = None,
    ) -> Decoded:
        """See `Backend.decode`."""
        prompts = (point_coords, point_labels, mask_input, has_mask_input)
        decoded = self._backend.decode(features, *prompts, *text_argument(text))
        call = decoder_call(features, (*prompts, *(text or ())), self._manifest)
        self.calls.decoder.append(RecordedCall(call, decoded.tensors))
        return decoded


def golden_calls(golden_test: golden.Golden, backend: Backend, manifest: Manifest) -> RecordedCalls:
    """The calls of a bundle's golden test, in the decoder's capacity.

    Args:
        golden_test: of the bundle.
        backend: computes the outputs.
        manifest: of the bundle.
    """
    recorder = CallRecorder(backend, manifest)
    golden.check(golden_test, recorder, manifest)
    return recorder.calls
