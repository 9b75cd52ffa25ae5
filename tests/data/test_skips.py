"""Skipped records are counted, named, and too many of them are an error."""

from __future__ import annotations

import pytest

from sam_edge.data import skips as skips_module
from sam_edge.data.skips import CHECKED_FROM, Skip, SkipLog
from sam_edge_runtime.errors import DataError, UsageError


def skip(number: int) -> Skip:
    return Skip("a.tar", f"sa_{number}", "truncated")


def test_nothing_skipped_prints_nothing():
    log = SkipLog()
    log.add(1000)
    log.check()
    assert log.lines() == []


def test_an_empty_run_is_no_error():
    SkipLog().check()


def test_a_few_are_counted_and_named_once():
    log = SkipLog()
    for epoch in range(3):
        log.add(50, [skip(1)] if epoch else [skip(1), skip(2)])
    log.check()
    assert (log.seen, log.skipped) == (150, 4)
    assert log.names == (skip(1), skip(2))
    assert log.lines() == [
        "skipped 4 of 150 records (2.67%)",
        "  sa_1 in a.tar (truncated)",
        "  sa_2 in a.tar (truncated)",
    ]


def test_too_many_stop_the_run_once_enough_were_seen():
    log = SkipLog(0.05)
    log.add(CHECKED_FROM - 1, [skip(number) for number in range(11)])
    with pytest.raises(
        DataError, match=r"11 of 100 records .* more than 5\.0%: repair .* --allow-broken: sa_0 in a\.tar .*; \.\.\."
    ) as error:
        log.add(1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("records", "accepted"), [(3, 1), (12, 2), (50, 6), (100, 10), (1000, 66), (10_000, 550)])
def test_a_share_is_too_large_when_chance_does_not_explain_it(records, accepted):
    log = SkipLog(0.05, records, accepted)
    log.add(0, [skip(number) for number in range(accepted)])
    log.check()
    log.at_end = True
    log.add(0, [skip(accepted)])
    assert f"{accepted + 1} of {records} records" in (log.complaint() or "")


def test_a_record_that_comes_in_every_epoch_is_broken_once():
    log = SkipLog(draws=((0.9, 100), (0.1, 1000)))
    for _ in range(20):  # epochs of the small source, whose four broken records come each time
        log.add(110, [skip(number) for number in range(4)])
    assert (log.broken, log.distinct) == (4, 320)
    assert (log.seen, log.skipped) == (2200, 80)
    log.check()


def test_a_short_run_is_checked_at_its_end():
    log = SkipLog()
    log.add(10, [skip(0), skip(1), skip(2)])
    with pytest.raises(DataError, match="3 of 10 records"):
        log.check()


def test_finished_work_is_not_interrupted():
    log = SkipLog(at_end=True)
    log.add(200, [skip(number) for number in range(100)])
    log.check()
    assert "100 of 200 records could not be used" in (log.complaint() or "")


def test_the_accepted_share_is_between_0_and_1():
    log = SkipLog(1.0)
    log.add(200, [skip(number) for number in range(200)])
    log.check()
    log = SkipLog(0.0)
    with pytest.raises(DataError, match="1 of 1000"):
        log.add(1000, [skip(0)])
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match="share of broken records"):
            SkipLog(share)


def test_names_are_kept_up_to_a_bound(monkeypatch):
    monkeypatch.setattr(skips_module, "KEPT_NAMES", 3)
    log = SkipLog(1.0)
    log.add(200, [skip(number) for number in range(5)])
    assert log.skipped == 5
    assert len(log.names) == 3
    assert "more" in log.lines()[-1]


def test_hostile_names_are_printed_in_one_line():
    text = str(Skip("a\n.tar", "\x1b[31mred", "x" * 1000))
    assert "\n" not in text
    assert "\x1b" not in text
    assert len(text) < 300
