"""What a recipe's precision means on a machine."""

from __future__ import annotations

import pytest
import torch

from sam_edge.training.accelerator import machine_precision


class TestMachinePrecision:
    @pytest.mark.parametrize("wanted", ["no", "bf16", "fp16"])
    def test_a_precision_that_is_named_is_used(self, wanted):
        assert machine_precision(wanted, torch.device("cpu")) == wanted

    @pytest.mark.parametrize(
        ("can", "means"),
        [
            ({"avx2": True}, "no"),
            ({"avx512_bf16": True}, "bf16"),
            ({"amx_bf16": True}, "bf16"),
            ({"amx_bf16": False, "avx512_bf16": False}, "no"),
        ],
    )
    def test_auto_is_bf16_only_where_the_cpu_computes_with_it(self, can, means, monkeypatch):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: can)
        assert machine_precision("auto", torch.device("cpu")) == means

    def test_auto_is_fp32_on_devices_nothing_is_known_of(self):
        assert machine_precision("auto", torch.device("meta")) == "no"
