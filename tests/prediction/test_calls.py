"""Calls in the artifact's form, recorded calls of both graphs, and the cache of the reference's outputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sam_edge.prediction.calls import CallRecorder, artifact_sample, decode_call, decoder_call
from sam_edge.prediction.reference_cache import ReferenceCache
from sam_edge_runtime.arrays import Decoded, Features, Float32
from sam_edge_runtime.bundle.contract import Layout
from sam_edge_runtime.bundle.conventions import SAM_2
from sam_edge_runtime.bundle.manifest import Checkpoint, Manifest


class CountingBackend:
    """A backend that returns sums of its inputs and counts its calls."""

    engine = "counting"

    def __init__(self) -> None:
        self.count = 0

    def encode(self, image: Float32) -> Features:
        self.count += 1
        return (image.sum(keepdims=True),)

    def decode(self, features: Features, *prompts: Float32) -> Decoded:
        self.count += 1
        return Decoded(prompts[0].sum(keepdims=True), prompts[1].sum(keepdims=True))


def manifest(weights: str) -> Manifest:
    return Manifest(
        variant="nano",
        parameters=1,
        licence="Apache-2.0",
        checkpoint=Checkpoint(weights, None, random=True),
        target="onnx",
        precision="fp32",
        recipe={},
        input_side=256,
        embedding_channels=8,
        prompts=None,
        points=None,
        encoder="encoder.onnx",
        decoder="decoder.onnx",
        files={},
        tools={},
    )


def test_the_same_input_is_computed_once() -> None:
    cache, backend = ReferenceCache(), CountingBackend()
    image = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
    first = cache.wrap(backend, manifest("random:0")).encode(image)
    again = cache.wrap(backend, manifest("random:0")).encode(image.copy())
    assert backend.count == 1
    np.testing.assert_array_equal(first, again)


def test_writing_to_an_output_does_not_change_the_stored_one() -> None:
    cache, backend = ReferenceCache(), CountingBackend()
    image = np.ones((1, 3, 2, 2), np.float32)
    caching = cache.wrap(backend, manifest("random:0"))
    for _ in range(3):
        (output,) = caching.encode(image)
        assert output.item() == 12
        output[:] = 0


@pytest.mark.parametrize("changed", range(5))
def test_a_change_of_any_input_is_computed_anew(changed: int) -> None:
    cache, backend = ReferenceCache(), CountingBackend()
    inputs = [np.full((1, 2), index, np.float32) for index in range(5)]
    caching = cache.wrap(backend, manifest("random:0"))
    caching.decode((inputs[0],), *inputs[1:])
    inputs[changed] = inputs[changed] + 1
    caching.decode((inputs[0],), *inputs[1:])
    assert backend.count == 2


def test_the_same_numbers_in_another_shape_are_computed_anew() -> None:
    cache, backend = ReferenceCache(), CountingBackend()
    image = np.zeros((1, 3, 2, 8), np.float32)
    caching = cache.wrap(backend, manifest("random:0"))
    caching.encode(image)
    caching.encode(image.reshape(1, 3, 4, 4))
    assert backend.count == 2


def test_other_weights_are_computed_anew() -> None:
    cache, backend = ReferenceCache(), CountingBackend()
    image = np.zeros((1, 3, 2, 2), np.float32)
    cache.wrap(backend, manifest("random:0")).encode(image)
    cache.wrap(backend, manifest("random:1")).encode(image)
    assert backend.count == 2


def test_outputs_beyond_the_capacity_are_returned_and_not_stored() -> None:
    cache, backend = ReferenceCache(capacity=4), CountingBackend()
    caching = cache.wrap(backend, manifest("random:0"))
    for value, count in ((0.0, 1), (1.0, 2), (1.0, 3), (0.0, 3)):
        (output,) = caching.encode(np.full((1, 3, 2, 2), value, np.float32))
        assert output.item() == 12 * value
        assert backend.count == count


def test_recorded_calls_belong_to_the_graph_that_was_called() -> None:
    recorder = CallRecorder(CountingBackend(), manifest("random:0"))
    inputs = [np.full((1, 2), index, np.float32) for index in range(5)]
    features = recorder.encode(np.ones((1, 3, 2, 2), np.float32))
    outputs = recorder.decode((inputs[0],), *inputs[1:])
    (encoder_call,), (decoder_call,) = recorder.calls.encoder, recorder.calls.decoder
    assert tuple(encoder_call.inputs) == manifest("random:0").encoder_contract.input_names
    assert tuple(decoder_call.inputs) == manifest("random:0").decoder_contract.input_names
    assert encoder_call.outputs == features
    assert decoder_call.outputs == outputs[:2]


def test_photos_and_embeddings_are_in_the_artifact_s_layout_and_other_inputs_unchanged() -> None:
    rng = np.random.default_rng(0)
    call = {
        "image_embeddings": rng.normal(size=(1, 8, 4, 5)).astype(np.float32),
        "mask_input": rng.normal(size=(2, 1, 6, 6)).astype(np.float32),
    }
    sample = artifact_sample(call, replace(manifest("random:0"), layout=Layout.NHWC))
    np.testing.assert_array_equal(sample["image_embeddings"], np.moveaxis(call["image_embeddings"], 1, -1))
    assert sample["image_embeddings"].flags.c_contiguous
    assert sample["mask_input"] is call["mask_input"]
    np.testing.assert_array_equal(Layout.NHWC.to_nchw(sample["image_embeddings"]), call["image_embeddings"])
    assert artifact_sample(call, manifest("random:0")) == call


def test_an_encoder_that_takes_a_picture_gets_integers() -> None:
    call = {"image": np.array([[[[0.4, 123.675]]]], np.float32)}
    sample = artifact_sample(call, replace(manifest("random:0"), picture_input=True))
    np.testing.assert_array_equal(sample["image"], [[[[0.0, 124.0]]]])


def test_a_call_with_features_is_decoded_as_it_was_made() -> None:
    """In the contract's order, whatever the order of the call's names."""

    class Order(CountingBackend):
        def decode(self, features: Features, *prompts: Float32) -> Decoded:
            numbers = np.array([each.item() for each in (*features, *prompts)], np.float32)
            return Decoded(numbers, numbers[:1], numbers[1:2])

    about = replace(manifest("random:0"), conventions=SAM_2)
    numbers = [np.full(1, index, np.float32) for index in range(7)]
    call = decoder_call(tuple(numbers[:3]), tuple(numbers[3:]), about)
    assert tuple(call) == about.decoder_contract.input_names
    masks, *scores = decode_call(Order(), dict(reversed(call.items())), about)
    assert masks.tolist() == list(range(7))
    assert len(scores) == 2
    plain = manifest("random:0")
    call = dict(zip(plain.decoder_contract.input_names, numbers[:5], strict=True))
    assert len(decode_call(CountingBackend(), call, plain)) == 2
