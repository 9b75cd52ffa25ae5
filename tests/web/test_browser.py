"""The TypeScript package in Chromium answers as the Python runtime does, and refuses what that refuses."""

from __future__ import annotations

import base64
import io
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam_edge_runtime import read_photo
from sam_edge_runtime.agreement.metrics import mask_iou
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.bundle.document import FORMAT_VERSION, digest_of

from .answers import LARGEST_ERROR, LEAST_IOU, PROMPTS, Answers, answers_of, assert_same_answers
from .browser import SOFTWARE_GPU, drive, masks_of, why_not
from .family_bundles import FAMILIES
from .fixtures import WITH_TEXT, bundles

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

PHOTO = {"url": "../data/photo.png", "prompts": PROMPTS, "multimask": True}
REFINED = {**PHOTO, "multimask": False, "refine": True}
WORDED = [prompt for prompt in WITH_TEXT if "maskInput" not in prompt]
KNOWN_TO_ALL = PROMPTS[:2]  # EfficientSAM knows neither points outside of an object nor mask prompts


def disc_photo() -> np.ndarray:
    y, x = np.mgrid[:80, :120]
    pixels = np.stack([x * 2, y * 3, 255 - x], axis=-1).astype(np.uint8)
    pixels[np.hypot(x - 60, y - 40) < 20] = (240, 230, 60)
    return pixels


def changed_colours() -> bytes:
    """An ICC profile whose red and green are exchanged, so that a reader who applies it is found out."""
    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(profile[128:132], "big")
    tags = {bytes(profile[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    profile[red + 4 : red + 12], profile[green + 4 : green + 12] = (
        profile[green + 4 : green + 12],
        profile[red + 4 : red + 12],
    )
    return bytes(profile)


def write_photos(data: Path) -> None:
    pixels = disc_photo()
    picture = Image.fromarray(pixels)
    picture.save(data / "photo.png")
    picture.save(data / "profile.png", icc_profile=changed_colours())
    exif = Image.Exif()
    exif[274] = 6
    picture.save(data / "turned.jpg", quality=95, subsampling=0, exif=exif)
    alpha = (np.arange(80 * 120).reshape(80, 120) % 256).astype(np.uint8)
    Image.fromarray(np.dstack([pixels, alpha])).save(data / "alpha.png")
    picture.convert("L").save(data / "grey.png")
    (data / "broken.png").write_bytes((data / "photo.png").read_bytes()[:200])


PIXELS = ("photo.png", "profile.png", "turned.jpg", "alpha.png", "grey.png")


def break_bundles(data: Path) -> dict[str, str]:
    """Broken copies of the bundle, and what each is refused with."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(data / "small", data / name))

    def edit(folder: Path, **fields: Any) -> None:
        path = folder / "manifest.json"
        document = {**json.loads(path.read_text()), **fields}
        del document["digest"]
        path.write_text(json.dumps({"digest": digest_of(document), **document}))

    truncated = copy("truncated") / "decoder.onnx"
    truncated.write_bytes(truncated.read_bytes()[:100])
    tampered = copy("tampered") / "encoder.onnx"
    content = bytearray(tampered.read_bytes())
    content[len(content) // 2] ^= 1
    tampered.write_bytes(content)
    (copy("incomplete") / "decoder.onnx").unlink()
    edit(copy("newer"), format_version=99)
    edit(copy("escaping"), files={"../photo.png": {"sha256": "0" * 64, "bytes": 1}})
    edited = copy("edited") / "manifest.json"
    edited.write_text(json.dumps({**json.loads(edited.read_text()), "tools": {}}))
    return {
        "truncated/": "decoder.onnx has 100 bytes",
        "tampered/": "encoder.onnx has SHA-256",
        "incomplete/": "decoder.onnx is missing",
        "newer/": f"format_version 99, and this runtime reads up to {FORMAT_VERSION}",
        "escaping/": "not a path inside the bundle",
        "edited/": "does not match its digest",
        "nowhere/": "is no bundle",
    }


@pytest.fixture(scope="module")
def data(exported, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_photos(folder)
    shutil.copytree(exported, folder / "bundle")
    with tempfile.TemporaryDirectory() as made:
        bundles(Path(made), np.random.default_rng(0))
        shutil.copytree(Path(made) / "sam_2", folder / "small")
        for family in FAMILIES:
            shutil.copytree(Path(made) / family, folder / family)
    return folder


@pytest.fixture(scope="module")
def refusals(data) -> dict[str, str]:
    return break_bundles(data)


@pytest.fixture(scope="module")
def ran(site, data, refusals, tmp_path_factory) -> dict[str, Any]:
    """All runs of this module, in one go: starting a browser takes longer than most of them."""
    job = {"bundle": "bundle/", "photos": [PHOTO, REFINED], "verify": True}
    small = {**job, "bundle": "small/"}
    files = sorted(path.name for path in (data / "small").iterdir())
    one, two = {"engine": "wasm", "threads": 1}, {"engine": "wasm", "threads": 2}
    unkept = {"keep": False}  # their sound files would come from the store
    mask = rle.encode(np.hypot(*np.mgrid[-40:40, -60:60]) < 20)
    runs = [
        {"name": "one thread", "origin": "isolated", "jobs": [{**job, "options": one}]},
        {"name": "two threads", "origin": "isolated", "jobs": [{**job, "options": two}]},
        {"name": "by itself", "origin": "isolated", "jobs": [small]},
        {
            "name": "not isolated",
            "origin": "plain",
            "jobs": [{**small, "options": two}, {**small, "files": files, "options": one}],
        },
        {"name": "kept", "origin": "plain", "jobs": [small, small, {**small, "clear": True}]},
        {
            "name": "offline",
            "origin": "plain",
            "jobs": [small, {**small, "offline": True}, {**small, "offline": True, "clear": True}],
        },
        {"name": "families", "origin": "isolated", "jobs": [families_job(family) for family in FAMILIES]},
        {
            "name": "words",
            "origin": "isolated",
            "jobs": [
                {"bundle": "words/", "photos": [{**PHOTO, "prompts": WORDED}], "verify": True, "options": two},
                {"bundle": "words/", "photos": [{**PHOTO, "prompts": [{"text": "dinning table"}]}], "options": two},
                {**small, "photos": [{**PHOTO, "prompts": WORDED}], "options": two},
            ],
        },
        {"name": "no storage", "origin": "plain", "quota": 1, "jobs": [small, small]},
        {"name": "insecure", "origin": "insecure", "jobs": [small, {**small, "options": {"checkHashes": False}}]},
        {
            "name": "photos",
            "origin": "plain",
            "jobs": [
                {"bundle": "", "pixels": [f"../data/{name}" for name in PIXELS]},
                {"bundle": "", "pixels": ["../data/broken.png"]},
                {"bundle": "", "png": {"url": "../data/photo.png", "mask": mask}},
            ],
        },
        {"name": "refused", "origin": "plain", "jobs": [{"bundle": name, "options": unkept} for name in refusals]},
    ]
    return drive(tmp_path_factory.mktemp("run"), site, data, runs)


def families_job(bundle: str) -> dict[str, Any]:
    """Masks as arrays and as both forms of RLE, and the acceptance test."""
    modes = ("binary_mask", "uncompressed_rle", "coco_rle")
    photos = [{**PHOTO, "prompts": KNOWN_TO_ALL, "outputMode": mode} for mode in modes]
    return {"bundle": f"{bundle}/", "photos": photos, "verify": True, "options": {"threads": 2}}


def answers_known_to_all(bundle: Path, photo: Path) -> Answers:
    """Those of `families_job`."""
    return [answers_of(bundle, photo, KNOWN_TO_ALL, refine=False)[0]] * 3


@pytest.fixture(scope="module")
def expected(data) -> Answers:
    return answers_of(data / "bundle", data / "photo.png")


@pytest.fixture(scope="module")
def expected_of_small(data) -> Answers:
    return answers_of(data / "small", data / "photo.png")


@pytest.mark.parametrize(("name", "threads"), [("one thread", 1), ("two threads", 2)])
def test_answers_are_those_of_the_python_runtime(ran, expected, name, threads):
    (result,) = ran[name]["answers"]
    assert_same_answers(result, expected)
    assert (result["engine"]["name"], result["engine"]["threads"]) == ("wasm", threads)
    assert not ran[name]["errors"]


def test_so_they_are_with_the_conventions_of_sam_2_by_url_and_by_files(ran, expected_of_small):
    for result in (*ran["by itself"]["answers"], *ran["not isolated"]["answers"]):
        assert_same_answers(result, expected_of_small)
        assert result["engine"]["name"] == "wasm"
        assert all(answer["objectScore"] > 0 for answers in result["answers"] for answer in answers)
    assert {result["engine"]["threads"] for result in ran["not isolated"]["answers"]} == {1}


def test_the_engine_and_its_reason_are_told(ran):
    assert ran["one thread"]["environment"]["isolated"]
    assert not ran["not isolated"]["environment"]["isolated"]
    assert "not cross-origin isolated" in ran["not isolated"]["answers"][0]["engine"]["reason"]
    assert "WebGPU" in ran["by itself"]["answers"][0]["engine"]["reason"]


def test_the_page_goes_on_while_the_worker_computes(ran):
    assert ran["one thread"]["answers"][0]["ticks"] >= 5


def test_a_kept_bundle_is_not_fetched_again(ran, expected_of_small):
    first, second, third = ran["kept"]["requests"]
    assert first["small/encoder.onnx"] == third["small/encoder.onnx"] == 1
    assert "small/encoder.onnx" not in second
    assert second["small/manifest.json"] == 1
    for result in ran["kept"]["answers"]:
        assert_same_answers(result, expected_of_small)


def test_a_kept_bundle_opens_while_its_host_cannot_be_reached(ran, expected_of_small):
    first, second, forgotten = ran["offline"]["answers"]
    for result in (first, second):
        assert_same_answers(result, expected_of_small)
    assert "manifest.json cannot be read" in forgotten["error"]["message"]
    assert "check the connection" in forgotten["error"]["message"]


def test_every_family_answers_as_the_python_runtime_in_every_form_of_masks(ran, data):
    for family, result in zip(FAMILIES, ran["families"]["answers"], strict=True):
        assert_same_answers(result, answers_known_to_all(data / family, data / "photo.png"))
    assert not ran["families"]["errors"]


def test_words_are_answered_as_by_the_python_runtime_or_refused_in_a_line(ran, data):
    answered, unknown, wordless = ran["words"]["answers"]
    assert_same_answers(answered, [answers_of(data / "words", data / "photo.png", WORDED, refine=False)[0]])
    assert unknown["error"]["name"] == "PromptError"
    assert "the nearest are 'dining table'" in unknown["error"]["message"]
    assert "takes no text" in wordless["error"]["message"]
    assert not ran["words"]["errors"]


@pytest.mark.slow  # an export for each
@pytest.mark.parametrize(
    "variant", ["sam2.1_hiera_tiny", "edgetam", "light_hq", "efficient_sam_vitt", "efficientvit_sam_l0", "repvit_sam"]
)
def test_seeded_models_of_every_family_answer_as_the_python_runtime(site, data, variant, tmp_path):
    from sam_edge.cli.app import run

    shutil.copy(data / "photo.png", tmp_path)
    arguments = ["--model", variant, "--checkpoint", "random:0", "--input-size", "256"]
    assert run(["export", *arguments, "--out", str(tmp_path / "bundle")]) == 0
    (tmp_path / "run").mkdir()
    job = families_job("bundle")
    driven = drive(tmp_path / "run", site, tmp_path, [{"name": variant, "origin": "isolated", "jobs": [job]}])[variant]
    (result,) = driven["answers"]
    assert_same_answers(result, answers_known_to_all(tmp_path / "bundle", tmp_path / "photo.png"))
    assert not driven["errors"]


def test_a_page_without_storage_fetches_again(ran, expected_of_small):
    for result, requests in zip(ran["no storage"]["answers"], ran["no storage"]["requests"], strict=True):
        assert_same_answers(result, expected_of_small)
        assert requests["small/encoder.onnx"] == 1


def test_an_insecure_page_says_what_it_needs(ran):
    refused, trusted = ran["insecure"]["answers"]
    assert not ran["insecure"]["environment"]["secure"]
    assert refused["error"]["name"] == "BundleError"
    assert "serve it by https" in refused["error"]["message"]
    # The acceptance test hashes golden.npz; everything else works without.
    assert "serve it by https" in trusted["error"]["message"]
    assert len(trusted["answers"]) == 2


def test_photos_are_those_of_read_photo(ran, data):
    pixels = ran["photos"]["answers"][0]["pixels"]
    for name, packed in zip(PIXELS, pixels, strict=True):
        found = np.frombuffer(base64.b64decode(packed["data"]), np.uint8).reshape(packed["height"], packed["width"], 3)
        photo = read_photo(data / name)
        assert found.shape == photo.shape, name
        difference = np.abs(found.astype(int) - photo).max()
        assert difference <= {"alpha.png": 1, "turned.jpg": 3}.get(name, 0), (name, difference)
    assert ran["photos"]["answers"][1]["error"]["name"] == "PhotoError"


def test_png_files_hold_the_mask_and_the_cutout(ran, data):
    mask, cutout = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))) for png in ran["photos"]["answers"][2]["png"]
    )
    inside = np.hypot(*np.mgrid[-40:40, -60:60]) < 20
    assert np.array_equal(mask, inside * np.uint8(255))
    assert np.array_equal(cutout[:, :, 3], mask)
    assert np.array_equal(cutout[inside][:, :3], read_photo(data / "photo.png")[inside])


def test_broken_bundles_are_refused(ran, refusals):
    for result, message in zip(ran["refused"]["answers"], refusals.values(), strict=True):
        assert result["error"]["name"] == "BundleError"
        assert message in result["error"]["message"]


@pytest.mark.slow  # a graphics card in software takes minutes
@pytest.mark.parametrize("bundle", ["small", "bundle"])
def test_webgpu_answers_as_the_python_runtime_where_a_software_adapter_starts(site, data, bundle, tmp_path):
    photo = {**PHOTO, "prompts": PROMPTS[:1]}
    jobs = [
        {"bundle": f"{bundle}/", "photos": [photo], "limit": 400, "options": {"engine": "webgpu"}},
        {"bundle": "small/"},
    ]
    run = {"name": "GPU", "origin": "isolated", "flags": SOFTWARE_GPU, "jobs": jobs}
    asked, chosen = drive(tmp_path, site, data, [run])["GPU"]["answers"]
    if "no WebGPU" in asked.get("error", {}).get("message", ""):
        pytest.skip(asked["error"]["message"])
    assert "error" not in asked, asked["error"]
    assert asked["engine"]["name"] == "webgpu"
    ((answer,),) = asked["answers"]
    masks, scores = answers_of(data / bundle, data / "photo.png")[0][0]
    assert np.abs(np.array(answer["scores"]) - scores).max() <= LARGEST_ERROR
    assert min(map(mask_iou, masks_of(answer), masks)) >= LEAST_IOU
    assert chosen["engine"]["name"] == "wasm"
    assert "program on the CPU" in chosen["engine"]["reason"]
