"""The precision that a recipe gets on a machine."""

from __future__ import annotations

import pytest
import torch

from sam_edge.training.accelerator import machine_precision


class TestMachinePrecision:
    @pytest.mark.parametrize("wanted", ["no", "bf16", "fp16"])
    def test_a_named_precision_is_used(self, wanted):
        assert machine_precision(wanted, torch.device("cpu")) == wanted

    @pytest.mark.parametrize(
        ("capabilities", "expected"),
        [
            ({"avx2": True}, "no"),
            ({"avx512_bf16": True}, "bf16"),
            ({"amx_bf16": True}, "bf16"),
            ({"amx_bf16": False, "avx512_bf16": False}, "no"),
        ],
    )
    def test_auto_is_bf16_only_if_the_cpu_has_instructions_for_it(self, capabilities, expected, monkeypatch):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
        assert machine_precision("auto", torch.device("cpu")) == expected

    def test_auto_is_fp32_on_unknown_devices(self):
        assert machine_precision("auto", torch.device("meta")) == "no"
