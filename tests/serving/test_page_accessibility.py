"""axe-core finds nothing to object to in the main states of the page, light, dark and small."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam_edge.data.sample_photos import copy_samples
from sam_edge.serving.page import STATIC

from .chromium import drive, why_no_page
from .discs import write_disc_bundle
from .running import running

pytestmark = pytest.mark.skipif(why_no_page() is not None, reason=str(why_no_page()))


@pytest.mark.slow
def test_axe_finds_nothing(tmp_path: Path) -> None:
    discs = write_disc_bundle(tmp_path / "discs")
    (tmp_path / "again").symlink_to(discs)
    copy_samples(tmp_path / "photos")
    annotate = ("--annotate", tmp_path / "photos", "--out", tmp_path / "masks")
    with (
        running(STATIC, discs, tmp_path / "again", "--port", "0") as photo,
        running(STATIC, discs, *annotate, "--port", "0") as annotation,
    ):
        drive("axe.mjs", photo.address, annotation.address)
