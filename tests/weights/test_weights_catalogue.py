"""The catalogue of weights: complete, and readable without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sam_edge.weights.cache import cached
from sam_edge.weights.catalogue import RELEASES, SHIPPED, SOURCE_FOLDER, release_of
from sam_edge_runtime.errors import UsageError
from sam_edge_runtime.system.files import sha256_of

# Numbers in the parts of SAM 2's files that only videos need.
VIDEO = {f"sam2.1_hiera_{size}": 7_521_777 for size in ("tiny", "small", "base_plus", "large")} | {"edgetam": 4_775_153}


def test_releases_are_complete_and_consistent():
    hq = ["sam_hq_vit_b", "sam_hq_vit_l", "sam_hq_vit_h", "light_hq"]
    efficient = ["efficient_sam_vitt", "efficient_sam_vits"]
    efficient += [f"efficientvit_sam_{size}" for size in ("l0", "l1", "l2", "xl0", "xl1")]
    assert list(RELEASES) == ["small", "vit_b", "vit_l", "vit_h", "tiny_vit", *hq, *VIDEO, "repvit_sam", *efficient]
    for variant, release in RELEASES.items():
        assert release.variant == variant
        assert release_of(variant) is release
        assert release.licence == "Apache-2.0"
        if release.in_source:
            continue
        assert release.url.startswith("https://")
        assert release.url.endswith("/" + release.file)
        assert release.input_side == 1024
        # fp32 and little else: the file is four bytes a number plus names, and in EdgeTAM running statistics
        numbers = release.parameters + VIDEO.get(variant, 0)
        if release.size is None:  # no public source states it
            assert release.about_bytes == 4 * numbers
        else:
            assert 4 * numbers < release.size < 4.04 * numbers
    assert len({release.sha256 for release in RELEASES.values()}) == len(RELEASES)


def test_weights_of_the_source_are_there_and_fit_their_row():
    from sam_edge.weights.load import find_source, load_sam

    own = [release for release in RELEASES.values() if release.in_source]
    assert [release.variant for release in own] == ["small"]
    for release in own:
        path = cached(release)
        assert path == SOURCE_FOLDER / release.file
        assert sha256_of(path) == release.sha256
        assert release.size == path.stat().st_size <= 10_000_000
        loaded = load_sam(release.variant, find_source(release.variant, None))
        assert (loaded.parameters, loaded.sam.side) == (release.parameters, release.input_side)
        assert (loaded.licence, loaded.checkpoint.sha256) == (release.licence, release.sha256)


def test_an_unknown_variant_is_refused_with_the_choices():
    with pytest.raises(UsageError, match=r"'vit_g'.*small, vit_b, vit_l, vit_h, tiny_vit"):
        release_of("vit_g")


def test_listing_the_releases_does_not_import_torch():
    script = (
        "import sys, sam_edge.weights, sam_edge.weights.catalogue, sam_edge.weights.cache, sam_edge.weights.source;"
        "print([name for name in ('torch', 'requests', 'pooch') if name in sys.modules])"
    )
    paths = [path for path in sys.path if path]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}; {script}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_shipped_weights_fit_their_row_and_their_model():
    from sam_edge.weights.load import find_source, load_sam

    for variant, shipped in SHIPPED.items():
        assert shipped.path.stat().st_size <= 8_000_000
        assert shipped.card.stat().st_size > 0
        loaded = load_sam(variant, find_source(variant, None))
        assert loaded.parameters == shipped.parameters
        assert loaded.sam.side == shipped.input_side
        assert (loaded.licence, loaded.checkpoint.is_random) == (shipped.licence, False)
