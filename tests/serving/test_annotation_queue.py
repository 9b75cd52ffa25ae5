"""Annotation: photos as the queue gives them, and the figures of a session."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .builders import HEIGHT, WIDTH, Annotating, client_of, mask, photo_app


class TestPhotos:
    def test_a_photo_comes_as_it_is_or_upright(self, tmp_path, job):
        exif = Image.Exif()
        exif[0x0112] = 6
        pixels = np.random.default_rng(5).integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(pixels).save(job.photos / "img_0.png", exif=exif)
        Image.fromarray(pixels).save(job.photos / "img_4.tif")
        session = Annotating(tmp_path, job)
        plain = session.client.get("/api/queue/img_0/photo")
        assert plain.content == (job.photos / "img_0.png").read_bytes()
        import io

        upright = session.client.get("/api/queue/img_0/photo?form=upright").content
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(upright))), np.rot90(pixels, -1))
        converted = session.client.get("/api/queue/img_4/photo")
        assert converted.headers["content-type"] == "image/png"
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(converted.content))), pixels)
        session.close()

    def test_a_photo_of_the_queue_is_encoded_without_sending_it(self, session):
        answer = session.client.post("/api/photos?photo=img_1")
        assert answer.status_code == 201, answer.text
        assert (answer.json()["width"], answer.json()["height"]) == (WIDTH, HEIGHT)
        assert session.client.post("/api/photos?photo=img_9").status_code == 404


def test_statistics(session):
    empty = session.client.get("/api/statistics").json()
    assert empty["seconds_a_mask"] == {"mean": None, "median": None, "count": 0}
    first = session.next()
    session.add(first, mask(0, 0, 60, 40), seconds=10, name="sky")
    session.add(first, mask(0, 0, 3, 2), seconds=20)
    session.post("img_1/done", **session.under(first), photo_seconds=40)
    second = session.next("Bob")
    session.post(
        "img_2/masks", 201, **session.under(second, "Bob"), segmentation=mask(0, 0, 33, 32), seconds=3, name="sky"
    )
    found = session.client.get("/api/statistics").json()
    assert found["photos"] == {"total": 3, "done": 1, "started": 1, "broken": 0}
    assert found["masks"] == {"total": 3, "person": 3, "existing": 0, "named": 2}
    assert found["seconds_a_mask"] == {"mean": 11.0, "median": 10.0, "count": 3}
    assert found["seconds_a_photo"] == {"mean": 40.0, "median": 40.0, "count": 1}
    assert found["masks_a_photo"] == {"mean": 1.5, "median": 1.5, "count": 2}
    assert found["by_size"] == {"small": 1, "medium": 2, "large": 0}
    assert found["relative_size"]["counts"] == [1, 0, 0, 0, 0, 0, 1, 0, 0, 1]
    assert found["annotators"] == [
        {"annotator": "Ada", "masks": 2, "seconds_a_mask": 15.0},
        {"annotator": "Bob", "masks": 1, "seconds_a_mask": 3.0},
    ]
    assert found["names"] == [{"name": "sky", "masks": 2}]
    assert session.client.get("/session.json").json()["annotate"]["names"] == ["sky"]


def test_the_queue_in_parts(session):
    listed = session.client.get("/api/queue?offset=1&limit=1").json()
    assert (listed["total"], [each["key"] for each in listed["photos"]]) == (3, ["img_2"])
    for query in ("offset=-1", "offset=x", "limit=1e9", "offset=9999999999"):
        assert session.client.get(f"/api/queue?{query}").status_code == 422


def test_other_modes_have_no_queue(tmp_path):
    client = client_of(photo_app(tmp_path))
    assert client.get("/api/queue").status_code == 404
    assert client.post("/api/photos?photo=x").status_code == 404
