"""The ONNX Runtime backend, with small graphs of known outputs."""

from __future__ import annotations

import dataclasses
import re
import sys

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from sam_edge_runtime.backends import BackendOptions, load_backend
from sam_edge_runtime.backends import onnx as onnx_backend
from sam_edge_runtime.backends.onnx import PROVIDERS, OnnxBackend
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.contract import FrameSize, GraphContract, decoder_contract, encoder_contract
from sam_edge_runtime.bundle.targets import TARGETS
from sam_edge_runtime.errors import BackendError, BundleError, UsageError
from sam_edge_runtime.predictor import SamPredictor
from tests.runtime.standin import (
    CELLS,
    CHANNELS,
    SIDE,
    NumpyBackend,
    decode,
    decoder_model,
    encode,
    encoder_model,
    manifest,
    write_onnx_bundle,
)


def prompts(count: int = 3, slots: int = 4):
    rng = np.random.default_rng(0)
    return (
        rng.uniform(0, SIDE, (count, slots, 2)).astype(np.float32),
        rng.integers(-2, 4, (count, slots)).astype(np.float32),
        rng.standard_normal((count, 1, CELLS, CELLS)).astype(np.float32),
        rng.integers(0, 2, count).astype(np.float32),
    )


# Running ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [BackendOptions(), BackendOptions(threads=1, provider="cpu")])
@pytest.mark.parametrize(("capacity", "slots"), [(None, None), (3, 4)])
def test_outputs_are_those_of_the_graphs(tmp_path, options, capacity, slots):
    backend = load_backend(write_onnx_bundle(tmp_path, capacity, slots), options)
    image = np.random.default_rng(1).uniform(0, 255, (1, 3, SIDE, SIDE)).astype(np.float32)
    (embeddings,) = backend.encode(image)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, encode(image), rtol=1e-5)
    decoded = backend.decode((embeddings,), *prompts())
    assert decoded.object_scores is None
    for found, expected in zip(decoded[:2], decode(embeddings, *prompts()), strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("capacity", "slots"), [(None, None), (1, 5), (4, 8)])
def test_the_predictor_returns_the_same_for_every_capacity(tmp_path, capacity, slots):
    bundle = write_onnx_bundle(tmp_path, capacity, slots)
    made = SamPredictor(tmp_path, threads=1, provider="CPUExecutionProvider")
    plain = SamPredictor(dataclasses.replace(bundle, manifest=manifest()), backend=NumpyBackend())
    photo = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    coords = np.random.default_rng(1).uniform(0, 90, (6, 2, 2))
    batch = (coords, np.array([[1, 0], [1, -2], [0, 0]] * 2), np.array([[10, 10, 60, 70]] * 6))
    for one in (made, plain):
        one.set_image(photo)
    for found, expected in zip(
        made.predict_batch(*batch, return_logits=True), plain.predict_batch(*batch, return_logits=True), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_each_graph_is_loaded_on_first_use(tmp_path, monkeypatch):
    bundle = write_onnx_bundle(tmp_path)
    loaded, real = [], onnxruntime.InferenceSession

    def session(path, **options):
        loaded.append(
            (path, options["sess_options"].intra_op_num_threads, options["sess_options"].inter_op_num_threads)
        )
        return real(path, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    backend = OnnxBackend(bundle, BackendOptions(threads=2))
    assert not loaded
    for _ in range(2):
        embeddings = backend.encode(np.zeros((1, 3, SIDE, SIDE), np.float32))
    assert loaded == [(str(bundle.encoder_path), 2, 1)]
    backend.decode(embeddings, *prompts())
    assert [path for path, _, _ in loaded] == [str(bundle.encoder_path), str(bundle.decoder_path)]


# Options ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", True])
def test_impossible_thread_counts_are_refused(threads):
    with pytest.raises(UsageError, match="threads"):
        BackendOptions(threads=threads)


@pytest.mark.parametrize("provider", ["", "  ", 3])
def test_impossible_provider_names_are_refused(provider):
    with pytest.raises(UsageError, match="provider"):
        BackendOptions(provider=provider)


@pytest.mark.parametrize("provider", ["cpu", "CPU", " cpu ", "CPUExecutionProvider", "cpuexecutionprovider"])
def test_a_provider_has_a_short_and_a_full_name(tmp_path, provider):
    assert OnnxBackend(write_onnx_bundle(tmp_path), BackendOptions(provider=provider))._providers == [PROVIDERS["cpu"]]


def test_the_cpu_follows_another_provider(tmp_path, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [PROVIDERS["cuda"], PROVIDERS["cpu"]])
    backend = OnnxBackend(write_onnx_bundle(tmp_path), BackendOptions(provider="cuda"))
    assert backend._providers == [PROVIDERS["cuda"], PROVIDERS["cpu"]]


@pytest.mark.parametrize("provider", ["coreml", "abacus"])
def test_a_provider_that_is_not_available_is_refused(tmp_path, monkeypatch, provider):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [PROVIDERS["cuda"], PROVIDERS["cpu"]])
    with pytest.raises(BackendError, match=rf"'{provider}' is not in this onnxruntime, which has: cuda, cpu"):
        OnnxBackend(write_onnx_bundle(tmp_path), BackendOptions(provider=provider))


def test_a_provider_that_does_not_start_is_an_error(tmp_path, monkeypatch):
    class CpuOnly:
        def __init__(self, *_, **__) -> None:
            pass

        def get_providers(self):
            return [PROVIDERS["cpu"]]

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [PROVIDERS["cuda"], PROVIDERS["cpu"]])
    monkeypatch.setattr(onnxruntime, "InferenceSession", CpuOnly)
    backend = OnnxBackend(write_onnx_bundle(tmp_path), BackendOptions(provider="cuda"))
    with pytest.raises(BackendError, match=r"CUDAExecutionProvider.*could not start"):
        backend.encode(np.zeros((1, 3, SIDE, SIDE), np.float32))


# Refusing -----------------------------------------------------------------------------------------------------------


def test_a_missing_engine_names_the_install_command(tmp_path, monkeypatch):
    bundle = write_onnx_bundle(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match=re.escape('pip install "sam-edge[onnx]"')):
        load_backend(bundle)


def test_an_unknown_target_names_the_known_ones(tmp_path):
    with pytest.raises(UsageError, match=f"no target called 'abacus': choose one of {', '.join(TARGETS)}"):
        load_backend(Bundle(tmp_path, manifest(target="abacus")))


def test_a_file_that_is_no_model_is_refused_in_one_line(tmp_path):
    bundle = write_onnx_bundle(tmp_path)
    bundle.encoder_path.write_bytes(b"no model at all")
    with pytest.raises(BackendError, match=r"cannot load '.*encoder\.onnx'") as error:
        load_backend(bundle).encode(np.zeros((1, 3, SIDE, SIDE), np.float32))
    assert "\n" not in str(error.value)


def test_a_failure_in_a_run_is_reported_in_one_line(tmp_path):
    with pytest.raises(BackendError, match=r"failed in '.*encoder\.onnx'") as error:
        load_backend(write_onnx_bundle(tmp_path)).encode(np.zeros((1, 3, 8, 8), np.float32))
    assert "\n" not in str(error.value)


def with_input(contract: GraphContract, index: int, **changes) -> GraphContract:
    inputs = list(contract.inputs)
    inputs[index] = dataclasses.replace(inputs[index], **changes)
    return GraphContract(tuple(inputs), contract.outputs)


def with_output(contract: GraphContract, index: int, **changes) -> GraphContract:
    outputs = list(contract.outputs)
    outputs[index] = dataclasses.replace(outputs[index], **changes)
    return GraphContract(contract.inputs, tuple(outputs))


ENCODER = encoder_contract(FrameSize.square(SIDE), CHANNELS)
FREE, FIXED = (
    decoder_contract(FrameSize.square(SIDE), CHANNELS, None, None),
    decoder_contract(FrameSize.square(SIDE), CHANNELS, 1, 4),
)


def run_encoder(backend):
    backend.encode(np.zeros((1, 3, SIDE, SIDE), np.float32))


def run_decoder(backend):
    backend.decode((np.zeros((1, CHANNELS, 16, 16), np.float32),), *prompts(1, 4))


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        (with_input(ENCODER, 0, name="picture"), "no input 'image'; its inputs are picture"),
        (with_input(ENCODER, 0, shape=(1, 3, 320, 320)), r"input 'image' .*\(1, 3, 320, 320\).*\(1, 3, 256, 256\)"),
        (with_input(ENCODER, 0, shape=("B", 3, 256, 256)), r"input 'image' .*\(B, 3, 256, 256\)"),
        (with_output(ENCODER, 0, name="features"), "no output 'image_embeddings'"),
    ],
)
def test_an_encoder_that_breaks_the_contract_is_refused(tmp_path, contract, message):
    bundle = write_onnx_bundle(tmp_path, encoder=encoder_model(contract))
    with pytest.raises(BundleError, match=message):
        run_encoder(load_backend(bundle))


@pytest.mark.parametrize(
    ("capacity", "slots", "contract", "message"),
    [
        (None, None, FIXED, r"input 'point_coords' .*\(1, 4, 2\).*\(B, N, 2\)"),
        (1, 4, FREE, r"input 'point_coords' .*\(B, N, 2\).*\(1, 4, 2\)"),
        (1, 5, FIXED, r"input 'point_coords' .*\(1, 4, 2\).*\(1, 5, 2\)"),
        (1, 4, with_input(FIXED, 4, name="has_mask"), "no input 'has_mask_input'"),
        (1, 4, with_output(FIXED, 1, name="scores"), "no output 'iou_predictions'"),
    ],
)
def test_a_decoder_that_breaks_the_contract_is_refused(tmp_path, capacity, slots, contract, message):
    bundle = write_onnx_bundle(tmp_path, capacity, slots, decoder=decoder_model(contract))
    with pytest.raises(BundleError, match=message):
        run_decoder(load_backend(bundle))


def test_another_dtype_is_refused(tmp_path):
    model = encoder_model()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    with pytest.raises(BundleError, match=r"input 'image' .* is float16 where the contract has float32"):
        run_encoder(load_backend(write_onnx_bundle(tmp_path, encoder=model)))


def test_an_extra_input_is_refused(tmp_path):
    model = encoder_model()
    model.graph.input.append(helper.make_tensor_value_info("seed", TensorProto.FLOAT, [1]))
    with pytest.raises(BundleError, match="input 'seed' that is not in the contract"):
        run_encoder(load_backend(write_onnx_bundle(tmp_path, encoder=model)))


def test_an_output_whose_size_was_not_inferred_is_accepted(tmp_path):
    loose = with_output(FREE, 0, shape=("B", "K", "h", "w"))
    backend = load_backend(write_onnx_bundle(tmp_path, decoder=decoder_model(loose)))
    assert backend.decode((np.zeros((1, CHANNELS, 16, 16), np.float32),), *prompts())[0].shape == (3, 4, CELLS, CELLS)


def test_large_graphs_save_memory_and_small_ones_time(tmp_path, monkeypatch):
    bundle = write_onnx_bundle(tmp_path)
    patterns, real = [], onnxruntime.InferenceSession

    def session(path, **options):
        patterns.append(options["sess_options"].enable_mem_pattern)
        return real(path, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    OnnxBackend(bundle, BackendOptions()).load()
    monkeypatch.setattr(onnx_backend, "PATTERN_BELOW", bundle.encoder_path.stat().st_size)
    OnnxBackend(bundle, BackendOptions()).encode(np.zeros((1, 3, SIDE, SIDE), np.float32))
    assert patterns == [True, True, False]
