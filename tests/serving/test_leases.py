"""Several annotators on one queue: no photo is given twice, and a lost page's photo comes back."""

from __future__ import annotations

import pytest

from sam_edge.serving.api_error import ApiError
from sam_edge.serving.job import AnnotationJob
from sam_edge.serving.leases import Leases

from .builders import Annotating, mask, write_photos


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leases(clock) -> Leases:
    return Leases(seconds=120, clock=clock)


class TestLeases:
    def test_a_photo_is_had_by_one(self, leases):
        ada = leases.take("a", "Ada")
        with pytest.raises(ApiError, match="Ada works on this photo") as refused:
            leases.take("a", "Bob")
        assert (refused.value.status, refused.value.details) == (409, {"annotator": "Ada", "expires_in": 120.0})
        assert leases.holder("a") == ada
        assert leases.is_free("a", ada.id)
        assert not leases.is_free("a")
        assert leases.is_free("b")

    def test_two_pages_of_one_person_are_two(self, leases):
        leases.take("a", "Ada")
        with pytest.raises(ApiError):
            leases.take("a", "Ada")

    def test_a_renewed_lease_lives_on_and_another_runs_out(self, leases, clock):
        renewed, left = leases.take("a", "Ada"), leases.take("b", "Bob")
        clock.now += 100
        assert leases.take("a", "Ada", renewed.id).id == renewed.id
        clock.now += 100
        assert leases.holder("a") is not None
        assert leases.holder("b") is None
        assert leases.take("b", "Cy").id != left.id
        with pytest.raises(ApiError):
            leases.take("b", "Bob", left.id)

    def test_a_lease_that_ran_out_is_had_again_if_nobody_came(self, leases, clock):
        lease = leases.take("a", "Ada")
        clock.now += 1000
        assert leases.take("a", "Ada", lease.id).id == lease.id

    def test_after_a_restart_a_page_goes_on_under_its_id(self, clock):
        assert Leases(120, clock).take("a", "Ada", "id-of-before").id == "id-of-before"

    def test_taking_another_photo_gives_the_first_back(self, leases):
        lease = leases.take("a", "Ada")
        leases.take("b", "Ada", lease.id)
        assert leases.holder("a") is None
        leases.release(lease.id)
        leases.release("never given")
        assert leases.holder("b") is None

    def test_a_late_heartbeat_gives_no_photo_back(self, leases):
        lease = leases.take("a", "Ada")
        leases.take("b", "Ada", lease.id)
        with pytest.raises(ApiError, match="another photo by now") as refused:
            leases.renew("a", "Ada", lease.id)
        assert (refused.value.status, refused.value.code) == (409, "late")
        assert leases.holder("a") is None
        assert leases.holder("b").id == lease.id

    def test_a_heartbeat_renews_and_takes_again_after_a_restart(self, leases, clock):
        assert leases.renew("a", "Ada", "id-of-before").id == "id-of-before"
        clock.now += 100
        leases.renew("a", "Ada", "id-of-before")
        clock.now += 100
        assert leases.holder("a").annotator == "Ada"
        with pytest.raises(ApiError, match="Ada works on this photo"):
            leases.renew("a", "Bob", "another")


class TestQueue:
    @pytest.fixture
    def session(self, tmp_path, leases):
        photos = write_photos(tmp_path / "photos", "b.png", "a.png", "c.jpg")
        session = Annotating(tmp_path, AnnotationJob(photos, tmp_path / "out"), leases)
        yield session
        session.close()

    def test_photos_come_in_order_of_names_and_each_to_one(self, session):
        opened = [session.next(who) for who in ("Ada", "Bob", "Cy")]
        assert [each["photo"]["key"] for each in opened] == ["a", "b", "c"]
        assert session.next("Dan") == {"photo": None, "lease": None, "left": 3, "reason": "leased"}
        assert len({each["lease"]["id"] for each in opened}) == 3

    def test_the_next_photo_is_behind_the_last_and_round(self, session):
        first = session.next()
        second = session.next(after="a", lease=first["lease"]["id"])
        assert second["photo"]["key"] == "b"
        assert second["lease"]["id"] == first["lease"]["id"]
        assert session.next("Bob")["photo"]["key"] == "a"
        third = session.next(after="c", lease=second["lease"]["id"])
        assert third["photo"]["key"] == "b"

    def test_a_lost_page_s_photo_comes_again(self, session, clock):
        lost = session.next("Ada")
        session.next("Bob")
        session.next("Cy")
        clock.now += 60
        session.post("b/lease", annotator="Bob", lease="x", status=409)
        clock.now += 61
        again = session.next("Dan")
        assert again["photo"]["key"] == "a"
        refused = session.add(lost, status=409)
        assert (refused["code"], refused["annotator"]) == ("leased", "Dan")

    def test_a_write_renews_and_takes_again(self, session, clock):
        opened = session.next()
        clock.now += 100
        session.add(opened)
        clock.now += 100
        assert session.client.get("/api/queue").json()["photos"][0]["state"] == "leased"
        clock.now += 100
        assert session.client.get("/api/queue").json()["photos"][0]["state"] == "started"
        session.add(opened, mask(1, 1, 3, 3))
        assert session.masks("a")["masks"][1]["area"] == 9

    def test_done_photos_are_not_given_again_but_can_be_opened(self, session):
        opened = session.next()
        assert session.post("a/done", **session.under(opened)) == {"done": True, "left": 2}
        assert session.next()["photo"]["key"] == "b"
        again = session.post("a/lease", annotator="Ada")
        assert session.post("a/done", **session.under(again), done=False) == {"done": False, "left": 3}

    def test_heartbeats_and_writes_of_the_photo_before_leave_the_new_lease_alone(self, session):
        first = session.next()
        lease = first["lease"]["id"]
        assert session.post("a/heartbeat", annotator="Ada", lease=lease)["lease"] == first["lease"]
        second = session.next(after="a", lease=lease)
        assert second["photo"]["key"] == "b"
        assert session.post("a/heartbeat", 409, annotator="Ada", lease=lease)["code"] == "late"
        assert session.add(first, status=409)["code"] == "late"
        assert [each["state"] for each in session.client.get("/api/queue").json()["photos"]][:2] == ["open", "leased"]
        session.add(second)
        session.post("b/heartbeat", 422, annotator="Ada")

    def test_photos_that_cannot_be_read_are_passed_over_and_named(self, tmp_path, leases):
        photos = write_photos(tmp_path / "photos", "b.png", "d.png")
        (photos / "a.jpg").write_bytes(b"no photo")
        session = Annotating(tmp_path, AnnotationJob(photos, tmp_path / "out"), leases)
        opened = session.next()
        assert (opened["photo"]["key"], opened["left"]) == ("b", 2)
        listed = session.client.get("/api/queue").json()
        assert [each["state"] for each in listed["photos"]] == ["broken", "leased", "open"]
        assert "no picture" in listed["photos"][0]["reason"]
        assert session.post("a/lease", 422, annotator="Bob")["code"] == "invalid"
        session.close()

    def test_release_needs_no_more_than_the_lease(self, session):
        opened = session.next()
        session.post("a/release", 204, lease=opened["lease"]["id"])
        assert session.next("Bob")["photo"]["key"] == "a"

    @pytest.mark.parametrize("annotator", [None, "", "  ", "x" * 61, "a\nb", 7])
    def test_an_annotator_has_a_name(self, session, annotator):
        session.post("next", 422, annotator=annotator)
