"""Peak memory can be reset and read, and the limits of machines and containers are known."""

from __future__ import annotations

import pytest

from sam_edge_runtime.system import memory
from sam_edge_runtime.system.memory import memory_limit, peak_bytes, reset_peak

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


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A machine with 8 GiB of memory and 2 GiB of swap."""
    (tmp_path / "meminfo").write_text("MemTotal:  8388608 kB\nMemFree: 1 kB\nSwapTotal: 2097152 kB\n")
    (tmp_path / "cgroup").write_text("0::/user.slice\n")
    (tmp_path / "fs" / "user.slice").mkdir(parents=True)
    monkeypatch.setattr(memory, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_CONTROL", tmp_path / "fs")
    return tmp_path


def test_the_limit_is_the_machine_s_memory_with_its_swap(system):
    assert memory_limit() == 10 << 30
    (system / "fs" / "user.slice" / "memory.max").write_text("max\n")
    assert memory_limit() == 10 << 30


def test_a_container_s_limit_counts_where_it_is_less(system):
    (system / "fs" / "user.slice" / "memory.max").write_text(f"{4 << 30}\n")
    assert memory_limit() == 4 << 30
    (system / "fs" / "memory.max").write_text(f"{3 << 30}\n")
    assert memory_limit() == 3 << 30
    (system / "cgroup").write_text("3:cpu,cpuacct:/a\n2:memory:/docker/0\n0::/\n")
    (system / "fs" / "memory" / "docker" / "0").mkdir(parents=True)
    (system / "fs" / "memory" / "docker" / "0" / "memory.limit_in_bytes").write_text(f"{2 << 30}\n")
    assert memory_limit() == 2 << 30


def test_no_limit_is_known_on_other_systems(system):
    (system / "meminfo").unlink()
    assert memory_limit() is None
