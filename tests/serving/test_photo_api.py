"""The server's engine: its masks are the runtime's, photos are few and bounded, and what is wrong is said in a line."""

from __future__ import annotations

import asyncio
import base64
import io
import threading

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from sam_edge.serving import engine as engine_module
from sam_edge.serving import photo_api
from sam_edge.serving.api_error import ApiError
from sam_edge.serving.engine import BundleEngine, PhotoMemory
from sam_edge.serving.hosted_bundle import host_bundles
from sam_edge_runtime import AutomaticMaskGenerator, SamPredictor
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.automatic.mask_statistics import MaskStatistics
from sam_edge_runtime.backends import BackendOptions
from sam_edge_runtime.bundle.conventions import EFFICIENT_SAM
from sam_edge_runtime.bundle.vocabulary import Vocabulary
from sam_edge_runtime.photo.frame import fitting_frame
from sam_edge_runtime.photo.read import decode_photo

from .builders import client_of, hosted, photo_app
from .discs import write_disc_bundle


def picture(width: int = 90, height: int = 70, seed: int = 0, form: str = "PNG", **save) -> bytes:
    rng = np.random.default_rng(seed)
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(file, form, **save)
    return file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def client(folder) -> TestClient:
    return client_of(photo_app(folder))


def upload(client: TestClient, content: bytes, **query: str) -> dict:
    answer = client.post("/api/photos", content=content, params=query, headers={"Content-Type": "image/png"})
    assert answer.status_code == 201, answer.text
    return answer.json()


def ask(client: TestClient, photo: dict, prompts: list[dict], **more) -> list[dict]:
    answer = client.post(f"/api/photos/{photo['id']}/masks", json={"prompts": prompts, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["prompts"]


def logits_of(encoded: dict) -> np.ndarray:
    return np.frombuffer(base64.b64decode(encoded["float32"]), "<f4").reshape(encoded["shape"])


PROMPTS = (
    {"points": [[30, 20, 1]]},
    {"points": [[30, 20, 1], [80, 60, 0]]},
    {"box": [10, 5, 60, 50]},
    {"points": [[30, 20, 1]], "box": [10, 5, 60, 50]},
)


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_masks_are_the_predictors(client, folder, prompt, multimask):
    content = picture()
    photo = upload(client, content)
    ((answer),) = ask(client, photo, [prompt], multimask=multimask, low_res=True)
    predictor = SamPredictor(folder / "bundle", threads=1)
    predictor.set_image(decode_photo(content, "photo"))
    points = prompt.get("points")
    expected = {
        "point_coords": [point[:2] for point in points] if points else None,
        "point_labels": [point[2] for point in points] if points else None,
        "box": prompt.get("box"),
    }
    masks, scores, low_res = predictor.predict(**expected, multimask_output=multimask)
    assert len(answer["masks"]) == len(masks) == (3 if multimask else 1)
    for found, mask, score, logits in zip(answer["masks"], masks, scores, low_res, strict=True):
        np.testing.assert_array_equal(rle.decode(found["segmentation"]), mask)
        np.testing.assert_array_equal(logits_of(found["low_res"]), logits)
        assert found["predicted_iou"] == float(score)
        assert found["area"] == int(mask.sum())


def test_masks_of_a_family_with_bicubic_masks_are_the_predictors(tmp_path):
    bundle = write_disc_bundle(tmp_path / "efficient", EFFICIENT_SAM)
    client = client_of(photo_app(tmp_path, bundles=host_bundles([bundle])))
    content = picture(200, 130)
    photo = upload(client, content)
    predictor = SamPredictor(bundle, threads=1)
    predictor.set_image(decode_photo(content, "photo"))
    differ = 0
    for x, y in ((30, 20), (101.5, 64), (180, 125)):
        ((answer),) = ask(client, photo, [{"points": [[x, y, 1]]}])
        masks, _, low_res = predictor.predict([[x, y]], [1], multimask_output=True)
        for found, mask, logits in zip(answer["masks"], masks, low_res, strict=True):
            np.testing.assert_array_equal(rle.decode(found["segmentation"]), mask)
            assert found["area"] == int(mask.sum())
            bilinear = MaskStatistics(fitting_frame(predictor.bundle.manifest, (130, 200))).run_lengths(logits, 0.0)
            differ += not np.array_equal(bilinear, rle.run_lengths(mask))
    assert differ  # or nothing was shown


def test_words_are_answered_as_by_the_predictor_and_unknown_ones_refused(tmp_path):
    words = Vocabulary(("left", "right"), (("lefts",), ()), np.array([[60, 80], [200, 90]], np.float32))
    bundle = write_disc_bundle(tmp_path / "worded", words=words)
    client = client_of(photo_app(tmp_path, bundles=host_bundles([bundle])))
    assert client.get("/session.json").json()["bundles"][0]["words"] == ["left", "right"]
    content = picture(200, 130)
    photo = upload(client, content)
    predictor = SamPredictor(bundle, threads=1)
    predictor.set_image(decode_photo(content, "photo"))
    for asked, click in (({"text": "Lefts"}, ()), ({"text": "right", "points": [[50, 60, 1]]}, ([[50, 60]], [1]))):
        ((answer),) = ask(client, photo, [asked], multimask=False)
        masks, _, _ = predictor.predict(*click, text=asked["text"], multimask_output=False)
        np.testing.assert_array_equal(rle.decode(answer["masks"][0]["segmentation"]), masks[0])
        assert answer["object_score"] == float(predictor.object_scores[0, 0])
    refused = client.post(f"/api/photos/{photo['id']}/masks", json={"prompts": [{"text": "rihgt"}]})
    assert refused.status_code == 422
    assert "the nearest are 'right'" in refused.json()["error"]


def test_a_mask_prompt_refines_as_the_predictor_does(client, folder):
    content = picture(seed=3)
    photo = upload(client, content)
    ((first),) = ask(client, photo, [PROMPTS[0]], multimask=False, low_res=True)
    low_res = first["masks"][0]["low_res"]
    ((second),) = ask(client, photo, [{"points": [[5, 5, 0]], "mask_input": low_res}], multimask=False)
    predictor = SamPredictor(folder / "bundle", threads=1)
    predictor.set_image(decode_photo(content, "photo"))
    masks, _, _ = predictor.predict([[5, 5]], [0], mask_input=logits_of(low_res)[None], multimask_output=False)
    np.testing.assert_array_equal(rle.decode(second["masks"][0]["segmentation"]), masks[0])
    assert "low_res" not in second["masks"][0]


def test_photos_are_turned_upright(client):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    photo = upload(client, picture(90, 70, form="JPEG", exif=exif))
    assert (photo["width"], photo["height"]) == (70, 90)


def test_everything_in_a_photo_is_the_generators(client, folder):
    content = picture(seed=5)
    photo = upload(client, content)
    settings = {"points_per_side": 4, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    answer = client.post(f"/api/photos/{photo['id']}/everything", json=settings)
    assert answer.status_code == 200, answer.text
    generator = AutomaticMaskGenerator(SamPredictor(folder / "bundle", threads=1), **settings, output_mode="coco_rle")
    assert answer.json()["annotations"] == generator.generate(decode_photo(content, "photo"))
    assert answer.json()["annotations"]


def test_the_same_file_is_encoded_once_for_each_bundle(tmp_path, monkeypatch):
    bundles = (*hosted(tmp_path, "one"), *hosted(tmp_path, "two"))
    client = client_of(photo_app(tmp_path, bundles=bundles))
    calls = []
    encode = BundleEngine.encode
    monkeypatch.setattr(
        BundleEngine, "encode", lambda self, *rest: calls.append(self.hosted.name) or encode(self, *rest)
    )
    first, again, other = (upload(client, picture(), bundle=name) for name in ("one", "one", "two"))
    assert calls == ["one", "two"]
    assert first == again
    assert first["id"] != other["id"]
    assert client.post("/api/photos?bundle=three", content=b"x").status_code == 404


def test_the_least_recently_used_photo_goes(client):
    photos = [upload(client, picture(seed=seed)) for seed in range(10, 18)]
    ask(client, photos[0], [PROMPTS[0]])
    newest = upload(client, picture(seed=18))
    gone = client.post(f"/api/photos/{photos[1]['id']}/masks", json={"prompts": [PROMPTS[0]]})
    assert (gone.status_code, gone.json()["code"]) == (404, "gone")
    ask(client, photos[0], [PROMPTS[0]])
    assert client.delete(f"/api/photos/{newest['id']}").status_code == 204
    assert client.post(f"/api/photos/{newest['id']}/masks", json={"prompts": [PROMPTS[0]]}).status_code == 404


def test_photos_are_bounded_in_bytes_and_the_newest_stays(tmp_path):
    engine = BundleEngine(hosted(tmp_path)[0], BackendOptions(threads=1))
    pixels = np.zeros((70, 90, 3), np.uint8)
    memory = PhotoMemory(most=8, most_bytes=2 * pixels.nbytes)
    for name in "abc":
        memory.add(engine.encode(pixels, name))
    assert [memory.find(name) is not None for name in "abc"] == [False, True, True]
    memory.add(engine.encode(np.zeros((200, 200, 3), np.uint8), "large"))
    assert len(memory) == 1
    assert memory.find("large") is not None


@pytest.fixture
def encoded(client) -> dict:
    return upload(client, picture())


class TestRefusals:
    @pytest.mark.parametrize(
        ("prompts", "says"),
        [
            ([], "1 to 64"),
            ([{}], "neither points nor a box"),
            ([{"points": [[300, 20, 1]]}], "300"),
            ([{"points": [[30, 20, 2]]}], "label"),
            ([{"points": [[30, 20]]}], "3 numbers"),
            ([{"points": [["30", 20, 1]]}], "'30'"),
            ([{"points": [[True, 20, 1]]}], "number"),
            ([{"points": [[float("nan"), 20, 1]]}], "nan"),
            ([{"points": [[30, 20, 1]] * 2000}], "1024"),
            ([{"points": "<script>"}], "list"),
            ([{"box": [5, 5, 5, 9]}], "box"),
            ([{"box": [5, 5, 9]}], "4 numbers"),
            ([{"mask_input": {"shape": [1, 1], "float32": "AAAA"}}], "shape"),
            ([{"mask_input": {"shape": [64, 64], "float32": "!"}}], "base64"),
            ([{"mask_input": {"shape": [64, 64], "float32": "AAAA"}}], "base64"),
            ([{"points": [[30, 20, 1]]}] * 65, "1 to 64"),
            (["x"], "object"),
        ],
    )
    def test_prompts(self, client, encoded, prompts, says):
        import json

        answer = client.post(
            f"/api/photos/{encoded['id']}/masks",
            content=json.dumps({"prompts": prompts}),
            headers={"Content-Type": "application/json"},
        )
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
        assert says in answer.json()["error"]
        assert "\n" not in answer.json()["error"]

    @pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 100_000, b"\xff", b'{"prompts": 1e999}'])
    def test_documents(self, client, encoded, body):
        answer = client.post(
            f"/api/photos/{encoded['id']}/masks", content=body, headers={"Content-Type": "application/json"}
        )
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid")

    @pytest.mark.parametrize("content", [b"", b"no picture", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7"])
    def test_pictures(self, client, content):
        answer = client.post("/api/photos", content=content, headers={"Content-Type": "image/jpeg"})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid")

    def test_a_photo_too_narrow_for_the_frame(self, client):
        answer = client.post("/api/photos", content=picture(4000, 1), headers={"Content-Type": "image/png"})
        assert answer.status_code == 422
        assert "narrow" in answer.json()["error"]

    def test_too_many_bytes_are_not_read(self, client, monkeypatch):
        from sam_edge.serving import bodies

        monkeypatch.setattr(bodies, "LARGEST_PICTURE", 1000)
        taken = []

        def parts():
            for _ in range(1000):
                taken.append(1)
                yield b"x" * 100

        for content in (picture(), parts()):
            answer = client.post("/api/photos", content=content, headers={"Content-Type": "image/png"})
            assert (answer.status_code, answer.json()["code"]) == (413, "too_large")

    def test_too_many_pixels_are_not_decoded(self, client, monkeypatch):
        monkeypatch.setenv("SAM_EDGE_MAX_PIXELS", "6000")
        monkeypatch.setattr(photo_api, "decode_photo", None)
        answer = client.post("/api/photos", content=picture(seed=30), headers={"Content-Type": "image/png"})
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        assert "6,000" in answer.json()["error"]

    def test_settings(self, client, encoded):
        place = f"/api/photos/{encoded['id']}/everything"
        for settings in ({"points_per_side": 1000}, {"points_per_side": 0.5}, {"output_mode": "binary_mask"}, {"x": 1}):
            assert client.post(place, json=settings).status_code == 422, settings

    def test_methods_and_addresses(self, client):
        assert client.put("/api/photos").json()["code"] == "method"
        assert client.get("/api/photos").json()["code"] == "unknown"
        assert client.post("/api/nothing", json={}).json()["code"] in ("unknown", "method")


def test_the_server_answers_while_an_engine_computes_and_refuses_a_long_queue(tmp_path, monkeypatch):
    monkeypatch.setattr(engine_module, "MOST_WAITING", 2)
    engine = BundleEngine(hosted(tmp_path)[0], BackendOptions(threads=1))
    holds = threading.Event()

    async def main() -> None:
        first = asyncio.create_task(engine.run(holds.wait))
        second = asyncio.create_task(engine.run(lambda: threading.current_thread().name))
        await asyncio.sleep(0.01)  # the loop runs on
        with pytest.raises(ApiError, match="wait"):
            await engine.run(lambda: None)
        holds.set()
        assert await first
        assert (await second).startswith("sam-edge-bundle")
        assert await engine.run(lambda: 7) == 7

    asyncio.run(main())
    engine.close()
