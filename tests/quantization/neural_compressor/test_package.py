"""What needs neural-compressor says how to install it."""

from __future__ import annotations

import sys

import pytest

from sam_edge.quantization.neural_compressor import package
from sam_edge.quantization.neural_compressor.package import require_package
from sam_edge_runtime.errors import UsageError


def test_a_missing_package_is_one_line_with_the_command(monkeypatch):
    monkeypatch.setattr(package, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "version_info", (3, 12, 0))
    with pytest.raises(UsageError, match=r"^--tuner neural-compressor needs .*: pip install 'sam-edge\[neural-"):
        require_package("--tuner neural-compressor")
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    with pytest.raises(UsageError, match=r"needs Python 3\.11"):
        require_package("rounding nc-gptq")


def test_nothing_is_missing_where_both_packages_are(monkeypatch):
    monkeypatch.setattr(package, "find_spec", lambda name: object())
    require_package("--tuner neural-compressor")
