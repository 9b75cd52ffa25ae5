"""`benchmarks/operators.py` refuses bundles that it cannot feed."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.operators import check
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.official import OFFICIAL, OFFICIAL_SINGLE_MASK
from sam_edge_runtime.errors import UsageError
from tests.runtime.standin import manifest


@pytest.mark.parametrize("interface", [OFFICIAL, OFFICIAL_SINGLE_MASK])
def test_the_official_layout_is_refused_with_its_remedy(interface):
    with pytest.raises(UsageError, match=r"^some/nano has .*export it again without --layout official$"):
        check(Bundle(Path("some/nano"), manifest(interface=interface)))


def test_another_target_is_refused_and_a_plain_bundle_accepted():
    with pytest.raises(UsageError, match=r"is for TFLite.*--target onnx"):
        check(Bundle(Path("some/nano"), manifest(target="tflite", prompts=1, points=10)))
    check(Bundle(Path("some/nano"), manifest()))
