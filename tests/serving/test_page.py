"""The photo page in Chromium, as a person uses it, on a bundle whose masks follow the clicks (`discs.py`)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_edge.cli.app import run
from sam_edge.serving.page import STATIC
from sam_edge_runtime import Bundle, SamPredictor, read_photo
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.bundle.document import digest_of
from sam_edge_runtime.bundle.vocabulary import Vocabulary

from .chromium import SAMPLES, SCREENSHOTS, drive, why_no_page
from .discs import write_disc_bundle
from .running import running

pytestmark = pytest.mark.skipif(why_no_page() is not None, reason=str(why_no_page()))

CAT = (451, 300)
CAT_CLICKS = ("220,170", "120,120", "300,60", "400,250")
BROKEN = ("truncated", "tampered", "newer", "missing")


@pytest.fixture(scope="module")
def discs(tmp_path_factory) -> Path:
    return write_disc_bundle(tmp_path_factory.mktemp("bundles") / "discs")


def test_photo_page_does_what_it_promises(discs: Path) -> None:
    with running(STATIC, discs, "--port", "0") as server:
        drive("photo.mjs", server.address, SCREENSHOTS)


def test_all_of_it_goes_by_keyboard(discs: Path) -> None:
    with running(STATIC, discs, "--port", "0") as server:
        drive("keyboard.mjs", server.address)


def test_second_bundle_is_compared(discs: Path, tmp_path: Path) -> None:
    (tmp_path / "again").symlink_to(discs)
    with running(STATIC, discs, tmp_path / "again", "--port", "0") as server:
        drive("compare.mjs", server.address, SCREENSHOTS)


def test_browser_and_server_give_the_same_masks(exported: Path, tmp_path: Path) -> None:
    with running(STATIC, exported, "--port", "0") as server:
        photo = SAMPLES / "chelsea.jpg"
        drive("engines.mjs", server.address, photo, tmp_path / "records", *map(str, CAT), *CAT_CLICKS)
    browser, server_side = (
        json.loads((tmp_path / "records" / f"{place}.json").read_text())["annotations"]
        for place in ("browser", "server")
    )
    assert len(browser) == len(server_side) == len(CAT_CLICKS)
    for one, other in zip(browser, server_side, strict=True):
        a, b = rle.decode(one["segmentation"]), rle.decode(other["segmentation"])
        assert np.logical_and(a, b).sum() / np.logical_or(a, b).sum() >= 0.999
        assert one["predicted_iou"] == pytest.approx(other["predicted_iou"], abs=1e-3)


def test_words_become_layers_in_the_browser_and_on_the_server(discs: Path, tmp_path: Path) -> None:
    words = Vocabulary(("left", "right"), (("lefts",), ()), np.array([[60, 80], [200, 90]], np.float32))
    worded = write_disc_bundle(tmp_path / "worded", words=words)
    with running(STATIC, worded, "--port", "0") as server, running(STATIC, discs, "--port", "0") as wordless:
        drive("words.mjs", server.address, wordless.address, tmp_path / "records", SCREENSHOTS)
    predictor = SamPredictor(worded)
    predictor.set_image(read_photo(SAMPLES / "chelsea.jpg"))
    asked = [
        predictor.predict(*click, text=text, multimask_output=False)[0][0]
        for text, click in (
            ("left", ()),
            ("left", ()),
            ("right", ()),
            ("right", ([[220.5, 150.5]], [1])),
        )
    ]
    for place in ("browser", "server"):
        annotations = json.loads((tmp_path / "records" / f"{place}.json").read_text())["annotations"]
        assert len(annotations) == len(asked)
        for annotation, mask in zip(annotations, asked, strict=True):
            found = rle.decode(annotation["segmentation"])
            assert np.logical_and(found, mask).sum() / np.logical_or(found, mask).sum() >= 0.999


def test_static_site_isolates_itself_and_opens_without_a_network(discs: Path, tmp_path: Path) -> None:
    assert run(["site", str(discs), "--out", str(tmp_path / "site")]) == 0
    drive("site.mjs", tmp_path / "site")


def break_bundles(folder: Path) -> None:
    """Break the bundles of a site, which were sound when it was made."""
    truncated = folder / "truncated" / "decoder.onnx"
    truncated.write_bytes(truncated.read_bytes()[:100])
    tampered = folder / "tampered" / "encoder.onnx"
    content = bytearray(tampered.read_bytes())
    content[len(content) // 2] ^= 1
    tampered.write_bytes(content)
    newer = folder / "newer" / "manifest.json"
    document = {**json.loads(newer.read_text()), "format_version": 99}
    del document["digest"]
    newer.write_text(json.dumps({"digest": digest_of(document), **document}))
    (folder / "missing" / "decoder.onnx").unlink()


def test_what_is_missing_or_broken_is_told_in_a_line(discs: Path, tmp_path: Path) -> None:
    others = [write_disc_bundle(tmp_path / name) for name in BROKEN]
    for number, bundle in enumerate(others):  # files of their own: the page keeps files by their hash
        _rewrite(bundle, number)
    assert run(["site", str(discs), *map(str, others), "--out", str(tmp_path / "site")]) == 0
    break_bundles(tmp_path / "site" / "bundles")
    drive("faults.mjs", tmp_path / "site")


def _rewrite(bundle: Path, number: int) -> None:
    """Give the graphs of a bundle another content."""
    import onnx

    from sam_edge_runtime.bundle.bundle import record_files
    from tests.runtime.standin import manifest

    for name in ("encoder.onnx", "decoder.onnx"):
        model = onnx.load(bundle / name)
        model.doc_string = f"copy {number}"
        onnx.save(model, bundle / name)
    (bundle / "manifest.json").unlink()
    (bundle / "manifest.json").write_text(manifest(files=record_files(bundle)).to_json())
    Bundle.open(bundle)


@pytest.mark.slow
def test_a_photo_of_a_hundred_megapixels(discs: Path, tmp_path: Path) -> None:
    width, height = 11_600, 8_700
    y, x = np.ogrid[:height, :width]
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = x // 48, y // 36, (x + y) // 96
    Image.fromarray(pixels).save(tmp_path / "large.jpg", quality=80)
    del pixels
    with running(STATIC, discs, "--port", "0") as server:
        print(drive("large.mjs", server.address, tmp_path / "large.jpg", str(width), str(height), tmp_path / "out"))
    (record,) = json.loads((tmp_path / "out" / "large.json").read_text())["annotations"]
    # Whole: a disc around the middle, of a radius of 60 pixels of the frame of 256.
    scale = width / 256
    assert record["area"] == pytest.approx(np.pi * (60 * scale) ** 2, rel=0.02)
    left, top, across, down = record["bbox"]
    assert (left + across / 2, top + down / 2) == pytest.approx((width / 2, height / 2), abs=2 * scale)
    assert rle.area(record["segmentation"]) == record["area"]
