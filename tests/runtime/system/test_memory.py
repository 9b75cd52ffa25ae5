"""Peak memory can be reset and read."""

from __future__ import annotations

import pytest

from sam_edge_runtime.system.memory import peak_bytes, reset_peak

MEGABYTES = 300


def test_the_peak_can_be_reset():
    before = peak_bytes()
    assert before > 10 << 20
    block = bytearray(MEGABYTES << 20)
    assert peak_bytes() > before + (MEGABYTES // 2 << 20) or peak_bytes() > MEGABYTES << 20
    del block
    if not reset_peak():
        pytest.skip("this system's peak is that of the whole process")
    assert peak_bytes() < before + (MEGABYTES // 2 << 20)
