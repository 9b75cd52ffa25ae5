"""Annotation: what is saved is SA-1B's format, whole, readable by others, and enough to go on from."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from sam_edge.annotation.record import kept_mask, record_bytes, sa1b_record
from sam_edge.data.sa1b import Annotation
from sam_edge.data.skips import SkipLog
from sam_edge.data.sources import open_source
from sam_edge.data.stream import walk
from sam_edge.serving.job import AnnotationJob
from sam_edge.serving.session_folder import MARKER
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.errors import DataError, OutputError, UsageError

from .builders import HEIGHT, WIDTH, Annotating, mask, write_photos


def again(session: Annotating, tmp_path, job: AnnotationJob) -> Annotating:
    """The session after a restart of the server."""
    session.close()
    session.__init__(tmp_path, job)
    return session


def stored(job: AnnotationJob, key: str = "img_1") -> dict:
    return json.loads((job.out / f"{key}.json").read_bytes())


class TestRecords:
    def test_a_mask_is_on_disk_when_the_answer_comes(self, session, job):
        opened = session.next()
        assert opened["photo"] == {
            "key": "img_1", "file_name": "img_1.jpg", "width": WIDTH, "height": HEIGHT, "number": 0,
            "url": "api/queue/img_1/photo",
        }  # fmt: skip
        drawn = mask()
        answer = session.add(
            opened, drawn, name="cat", seconds=8.25, predicted_iou=0.93, point_coords=[[12.5, 7]], photo_seconds=9
        )
        assert answer == {"mask": 0, "masks": 1, "area": 240, "bbox": [10, 5, 19, 11], "name": "cat"}
        record = stored(job)
        assert record["image"] | {"sam_edge": None} == {
            "image_id": 1, "width": WIDTH, "height": HEIGHT, "file_name": "img_1.jpg", "orientation": "upright",
            "sam_edge": None,
        }  # fmt: skip
        assert record["image"]["sam_edge"]["seconds"] == 9
        (entry,) = record["annotations"]
        assert entry["segmentation"] == drawn
        assert (entry["id"], entry["area"], entry["bbox"]) == (1 << 16, 240, [10, 5, 19, 11])
        assert (entry["predicted_iou"], entry["stability_score"], entry["point_coords"]) == (0.93, 1.0, [[12.5, 7]])
        own = entry["sam_edge"]
        assert (own["source"], own["name"], own["annotator"], own["seconds"]) == ("person", "cat", "Ada", 8.25)

    def test_pycocotools_and_our_readers_read_the_folder_as_it_stands(self, session, job, tmp_path):
        shapes = {"img_1": [mask(), mask(0, 0, 60, 40)], "img_2": [mask(59, 39, 1, 1)]}
        for key, drawn in shapes.items():
            opened = session.next(after=None if key == "img_1" else "img_1")
            for each in drawn:
                session.add(opened, each)
            session.post(f"{key}/done", **session.under(opened))
        for key, drawn in shapes.items():
            entries = stored(job, key)["annotations"]
            areas = coco.area([entry["segmentation"] for entry in entries])
            assert areas.tolist() == [entry["area"] for entry in entries]
            for entry, each in zip(entries, drawn, strict=True):
                np.testing.assert_array_equal(coco.decode(entry["segmentation"]), rle.decode(each))
        source = open_source(job.out)
        assert (len(source), source.annotated) == (2, True)
        samples = list(walk(source, SkipLog()))
        assert {sample.key: len(sample.rles) for sample in samples} == {"img_1": 2, "img_2": 1}
        photo = {sample.key: sample.photo for sample in samples}["img_2"]
        np.testing.assert_array_equal(photo, np.asarray(Image.open(job.photos / "img_2.png")))

    def test_counts_may_be_a_list_and_are_stored_as_coco_s_string(self, session, job):
        lengths = rle.run_lengths(rle.decode(mask())).tolist()
        session.add(session.next(), {"size": [HEIGHT, WIDTH], "counts": lengths})
        assert stored(job)["annotations"][0]["segmentation"] == mask()

    def test_numbers_are_never_given_twice(self, session, job):
        opened = session.next()
        assert [session.add(opened)["mask"] for _ in range(3)] == [0, 1, 2]
        under = session.under(opened)
        removed = session.client.delete("/api/queue/img_1/masks/1", params=under).json()
        assert (removed["masks"], removed["removed"]["mask"]) == (2, 1)
        assert session.post("img_1/undo", **session.under(opened))["removed"]["mask"] == 2
        assert session.add(opened)["mask"] == 3
        assert [entry["id"] & 0xFFFF for entry in stored(job)["annotations"]] == [0, 3]
        assert session.client.delete("/api/queue/img_1/masks/1", params=under).json() == removed  # the same request
        assert session.client.delete("/api/queue/img_1/masks/1", params=session.under(opened)).status_code == 404

    def test_undo_takes_the_last_mask_and_redo_brings_it_back(self, session):
        opened = session.next()
        session.add(opened, mask(), name="cat", seconds=3)
        session.add(opened, mask(1, 1, 2, 2), name="dog", seconds=4)
        undone = session.post("img_1/undo", **session.under(opened))
        assert (undone["masks"], undone["removed"]["name"]) == (1, "dog")
        removed = undone["removed"]
        more = {name: removed[name] for name in ("name", "seconds", "predicted_iou", "point_coords")}
        session.add(opened, removed["segmentation"], **more)
        assert [each["name"] for each in session.masks("img_1")["masks"]] == ["cat", "dog"]
        for _ in range(2):
            session.post("img_1/undo", **session.under(opened))
        assert session.post("img_1/undo", **session.under(opened)) == {"masks": 0, "removed": None}

    def test_a_mask_is_renamed_reshaped_and_timed(self, session):
        opened = session.next()
        session.add(opened, seconds=2, name="cat")
        place = "/api/queue/img_1/masks/0"
        changed = session.client.patch(place, json={**session.under(opened), "name": "dog", "seconds": 1.5})
        assert changed.json()["name"] == "dog"
        session.client.patch(place, json={**session.under(opened), "segmentation": mask(0, 0, 4, 4)})
        (found,) = session.masks("img_1")["masks"]
        assert (found["name"], found["seconds"], found["area"], found["source"]) == ("dog", 3.5, 16, "person")
        session.client.patch(place, json={**session.under(opened), "name": None})
        assert session.masks("img_1")["masks"][0]["name"] is None

    @pytest.mark.parametrize(
        ("segmentation", "says"),
        [
            (None, "no RLE"),
            ({"size": [HEIGHT, WIDTH]}, "no RLE"),
            (mask(size=(WIDTH, HEIGHT)), "size"),
            (mask(0, 0, 0, 0), "empty"),
            ({"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * WIDTH + 1]}, "run"),
            ({"size": [HEIGHT, WIDTH], "counts": [-1, HEIGHT * WIDTH + 1]}, "run"),
            ({"size": [HEIGHT, WIDTH], "counts": "<script>"}, "counts"),
            ({"size": [1 << 40, 1 << 40], "counts": [0, 1]}, "size"),
            ([[1, 2, 3, 4, 5, 6]], "no RLE"),
        ],
    )
    def test_what_is_no_mask_of_the_photo_is_refused(self, session, job, segmentation, says):
        opened = session.next()
        body = {**session.under(opened), "segmentation": segmentation}
        answer = session.post("img_1/masks", 422, **body)
        assert says in answer["error"]
        assert not (job.out / "img_1.json").exists()

    @pytest.mark.parametrize(
        "more",
        [
            {"name": "a\x00b"},
            {"name": "x" * 201},
            {"seconds": -1},
            {"predicted_iou": "1"},
            {"point_coords": [[1]]},
            {"annotator": ""},
            {"lease": None},
            {"request": None},
        ],
    )
    def test_what_stands_beside_a_mask_is_checked(self, session, job, more):
        opened = session.next()
        session.post("img_1/masks", 422, **{**session.under(opened), "segmentation": mask(), **more})
        assert not (job.out / "img_1.json").exists()


class TestGoingOn:
    def test_a_request_that_comes_twice_is_carried_out_once(self, session):
        opened = session.next()
        body = {**session.under(opened), "segmentation": mask(), "photo_seconds": 5}
        assert session.post("img_1/masks", 201, **body) == session.post("img_1/masks", 201, **body)
        undo = session.under(opened)
        assert session.post("img_1/undo", **undo) == session.post("img_1/undo", **undo)
        assert session.masks("img_1") | {"masks": []} == {
            "key": "img_1", "width": WIDTH, "height": HEIGHT, "done": False, "seconds": 5, "warning": None, "masks": [],
        }  # fmt: skip

    def test_after_a_restart_all_is_as_it_was_and_repeated_requests_are_known(self, session, tmp_path, job):
        opened = session.next()
        body = {**session.under(opened), "segmentation": mask(), "name": "cat", "seconds": 2, "photo_seconds": 5}
        first = session.post("img_1/masks", 201, **body)
        session.add(opened, mask(1, 1, 2, 2))
        undo = session.under(opened)
        session.post("img_1/undo", **undo)
        before = session.masks("img_1")
        session = again(session, tmp_path, job)
        assert session.masks("img_1") == before
        assert session.post("img_1/masks", 201, **body) == first
        assert session.post("img_1/undo", **undo) == {"masks": 1, "removed": None}
        assert session.masks("img_1") == before
        assert session.client.get("/api/queue").json()["photos"][0]["annotator"] == "Ada"

    def test_done_photos_stay_done(self, session, tmp_path, job):
        opened = session.next()
        session.post("img_1/done", **session.under(opened), photo_seconds=12.5)
        session = again(session, tmp_path, job)
        assert session.masks("img_1")["done"]
        assert session.masks("img_1")["seconds"] == 12.5
        assert session.next()["photo"]["key"] == "img_2"
        assert (job.out / "img_1.jpg").exists()

    def test_leftovers_of_a_kill_are_removed(self, session, tmp_path, job):
        session.add(session.next())
        (job.out / ".0123456789ab.partial").write_bytes(b'{"image": ')
        os.link(job.photos / "img_2.png", job.out / "img_2.png")  # its record did not come
        session = again(session, tmp_path, job)
        assert sorted(path.name for path in job.out.iterdir()) == [MARKER, "img_1.jpg", "img_1.json"]

    def test_another_photo_of_that_name_is_left_alone(self, session, tmp_path, job):
        (job.out / "img_1.jpg").write_bytes(b"years of work")
        answer = session.add(session.next(), status=500)
        assert "another photo" in answer["error"]
        session = again(session, tmp_path, job)
        assert (job.out / "img_1.jpg").read_bytes() == b"years of work"

    def test_a_second_server_is_kept_away(self, session, tmp_path, job):
        with pytest.raises(OutputError, match="another `sam-edge serve`"):
            Annotating(tmp_path, job)

    def test_a_damaged_record_is_named_and_left_alone(self, session, tmp_path, job):
        session.add(session.next())
        session.close()
        (job.out / "img_1.json").write_text('{"image": ')
        with pytest.raises(DataError, match=r"img_1\.json cannot be read"):
            Annotating(tmp_path, job)
        assert (job.out / "img_1.json").read_text() == '{"image": '

    def test_masks_that_others_added_count_as_existing(self, session, tmp_path, job):
        session.add(session.next())
        session.close()
        record = stored(job)
        record["annotations"].append({"segmentation": mask(2, 2, 2, 2)})
        (job.out / "img_1.json").write_text(json.dumps(record))
        session.__init__(tmp_path, job)
        assert [(each["mask"], each["source"]) for each in session.masks("img_1")["masks"]] == [
            (0, "person"),
            (1, "existing"),
        ]


class TestFolders:
    def test_a_folder_with_other_files_is_refused(self, tmp_path, job):
        job.out.mkdir()
        (job.out / "img_1.json").write_text("years of work")
        with pytest.raises(OutputError, match=r"'img_1\.json'"):
            Annotating(tmp_path, job)
        assert [path.name for path in job.out.iterdir()] == ["img_1.json"]

    def test_photos_and_records_lie_apart(self, tmp_path, job):
        with pytest.raises(OutputError, match="folder of photos"):
            Annotating(tmp_path, AnnotationJob(job.photos, job.photos))

    def test_folders_that_are_missing_or_empty(self, tmp_path, job):
        with pytest.raises(UsageError, match="no folder"):
            Annotating(tmp_path, AnnotationJob(tmp_path / "nowhere", job.out))
        with pytest.raises(UsageError, match="no folder"):
            Annotating(tmp_path, AnnotationJob(job.photos, job.out, tmp_path / "nowhere"))
        (tmp_path / "empty").mkdir()
        with pytest.raises(UsageError, match="no photos"):
            Annotating(tmp_path, AnnotationJob(tmp_path / "empty", job.out))
        with pytest.raises(DataError, match="no JSON file"):
            Annotating(tmp_path, AnnotationJob(job.photos, job.out, tmp_path / "empty"))
        assert not job.out.exists()

    @pytest.mark.skipif(os.name == "nt", reason="links need rights there")
    def test_links_out_of_the_folder_are_left_out(self, tmp_path, job):
        elsewhere = write_photos(tmp_path / "elsewhere", "secret.png")
        (job.photos / "a.png").symlink_to(elsewhere / "secret.png")
        (job.photos / "b.png").symlink_to(job.photos / "img_2.png")
        session = Annotating(tmp_path, job)
        listed = [each["key"] for each in session.client.get("/api/queue").json()["photos"]]
        assert listed == ["b", "img_1", "img_2", "img_3"]
        assert [path.name for path in session.session.queue.left_out] == ["a.png"]
        opened = session.next()  # a link that is turned while the server runs
        (job.photos / "b.png").unlink()
        (job.photos / "b.png").symlink_to(elsewhere / "secret.png")
        for path in ("b/photo", "b/photo?form=upright"):
            assert session.client.get(f"/api/queue/{path}").status_code == 422
        assert session.client.post("/api/photos?photo=b", headers={"Content-Type": "image/png"}).status_code == 422
        assert opened["photo"]["key"] == "b"
        session.close()

    @pytest.mark.parametrize("key", ["..%2f..%2fphotos%2fimg_1", "..", "nothing", "%00", "img_1.jpg"])
    def test_no_other_photo_is_reached(self, session, key):
        for path in ("photo", "masks"):
            assert session.client.get(f"/api/queue/{key}/{path}").status_code == 404

    def test_markup_in_names_stays_text(self, tmp_path):
        names = ['<img src=x onerror="alert(1)">.png', "a&b?c#d.png"]
        session = Annotating(tmp_path, AnnotationJob(write_photos(tmp_path / "photos", *names), tmp_path / "out"))
        for name in names:
            opened = session.next()
            assert opened["photo"]["file_name"] == name
            photo = session.client.get(f"/{opened['photo']['url']}")
            assert (photo.status_code, photo.headers["content-type"]) == (200, "image/png")
            key = opened["photo"]["url"].split("/")[2]
            body = {**session.under(opened, "<b>Ada</b>"), "segmentation": mask(), "name": "<script>alert(1)</script>"}
            session.post(f"{key}/masks", 201, **body)
            session.post(f"{key}/done", **session.under(opened, "<b>Ada</b>"))
        answer = session.client.get("/api/statistics")
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["annotators"][0]["annotator"] == "<b>Ada</b>"
        assert len(list((tmp_path / "out").glob("*.json"))) == len(names)
        session.close()


class TestExisting:
    @pytest.fixture
    def job(self, job, tmp_path) -> AnnotationJob:
        existing = tmp_path / "existing"
        existing.mkdir()
        for key, shapes in {"img_1": [mask(), mask(1, 1, 3, 3)], "img_3": []}.items():
            masks = [kept_mask(Annotation(each, rle.area(each), predicted_iou=0.9)) for each in shapes]
            record = sa1b_record(key, f"{key}.png", (HEIGHT, WIDTH), masks, 0)
            (existing / f"{key}.json").write_bytes(record_bytes(record))
        (existing / "img_2.json").write_text("{")
        return AnnotationJob(job.photos, job.out, existing)

    def test_people_add_to_what_is_there_and_both_are_told_apart(self, session, job):
        opened = session.next()
        assert [each["source"] for each in session.masks("img_1")["masks"]] == ["existing"] * 2
        assert not (job.out / "img_1.json").exists()
        assert session.add(opened, mask(5, 5, 5, 5))["mask"] == 2
        assert [entry["sam_edge"]["source"] for entry in stored(job)["annotations"]] == ["existing"] * 2 + ["person"]
        assert session.post("img_1/undo", **session.under(opened))["removed"]["mask"] == 2
        assert session.post("img_1/undo", **session.under(opened))["removed"] is None
        assert len(session.masks("img_1")["masks"]) == 2
        assert session.client.get("/session.json").json()["annotate"]["existing"]

    def test_a_damaged_file_is_told_and_nothing_is_lost(self, session):
        assert "img_2.json cannot be used" in session.masks("img_2")["warning"]
        opened = session.next(after="img_1")
        assert session.add(opened)["mask"] == 0

    def test_masks_of_the_stored_photo_are_turned_with_it(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        (tmp_path / "photos").mkdir()
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "photos" / "a.jpg", exif=exif)
        pixels = np.zeros((20, 30), np.bool_)
        pixels[2:6, 3:10] = True
        (tmp_path / "existing").mkdir()
        record = {"image": {"width": 30, "height": 20}, "annotations": [{"segmentation": rle.encode(pixels)}]}
        (tmp_path / "existing" / "a.json").write_text(json.dumps(record))
        job = AnnotationJob(tmp_path / "photos", tmp_path / "out", tmp_path / "existing")
        session = Annotating(tmp_path, job)
        (found,) = session.masks("a")["masks"]
        np.testing.assert_array_equal(rle.decode(found["segmentation"]), np.rot90(pixels, -1))
        session.close()
