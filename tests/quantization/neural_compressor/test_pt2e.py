"""neural-compressor's PT2E path through ONNX, as a contestant of the benchmarks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

pytest.importorskip("neural_compressor", reason="an extra, which Python 3.10 has not")

from benchmarks.neural_compressor_pt2e import write_pt2e
from sam_edge_runtime.agreement.metrics import snr_db
from sam_edge_runtime.errors import UsageError


def test_the_onnx_file_computes_in_int8_what_the_network_computes(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1)).eval()
    samples = [np.random.default_rng(seed).normal(size=(1, 3, 16, 16)).astype(np.float32) for seed in range(4)]
    write_pt2e(network, samples, tmp_path / "encoder.onnx")
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "encoder.onnx").graph.node)
    assert kinds["Conv"] == 2
    assert kinds["QuantizeLinear"] >= 3
    with torch.inference_mode():
        expected = network(torch.from_numpy(samples[0])).numpy()
    options = ort.SessionOptions()  # fused kernels saturate on x86 without VNNI
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(tmp_path / "encoder.onnx", options, providers=["CPUExecutionProvider"])
    (actual,) = session.run(["image_embeddings"], {"image": samples[0]})
    assert 35 < snr_db(expected, actual) < 60


def test_without_samples_nothing_is_written(tmp_path):
    with pytest.raises(UsageError, match="at least one sample"):
        write_pt2e(nn.Conv2d(3, 3, 1), [], tmp_path / "encoder.onnx")
    assert not (tmp_path / "encoder.onnx").exists()
