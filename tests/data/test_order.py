"""Orders are permutations, pure functions of seed and number, and independent of ranks."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from sam_edge.data.order import ROUND, Purpose, RecordOrder, SourceOrder, Steps, generator
from sam_edge_runtime.errors import DataError, UsageError

SIZES = (5, 1, 9, 4, 30)
TOTAL = sum(SIZES)


@pytest.mark.parametrize("window", [1, 2, 5, 100])
def test_every_epoch_is_a_permutation_of_its_own(window):
    order = RecordOrder(SIZES, 0, window=window)
    epochs = [[order.record(epoch, place) for place in range(TOTAL)] for epoch in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(TOTAL))
    assert epochs[0] != epochs[1] != epochs[2]
    assert [order.nth(number) for number in range(3 * TOTAL)] == list(chain(*epochs))


def test_the_seed_determines_the_order():
    def drawn(seed: int, stream: int = 0) -> list[int]:
        order = RecordOrder(SIZES, seed, stream=stream)
        return [order.nth(number) for number in range(2 * TOTAL)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert drawn(1) != drawn(1, stream=1)


def test_a_record_does_not_depend_on_what_was_drawn_before():
    order = RecordOrder(SIZES, 0, window=2)
    forwards = [order.nth(number) for number in range(4 * TOTAL)]
    backwards = [order.nth(number) for number in reversed(range(4 * TOTAL))]
    assert backwards[::-1] == forwards
    assert [RecordOrder(SIZES, 0, window=2).nth(number) for number in range(4 * TOTAL)] == forwards


def test_a_window_keeps_reads_in_few_shards():
    shard_of = np.repeat(np.arange(5), SIZES)
    order = RecordOrder(SIZES, 0, window=1)
    visited = shard_of[[order.nth(place) for place in range(TOTAL)]]
    assert np.count_nonzero(np.diff(visited)) == 4  # each shard is read through before the next
    order = RecordOrder(SIZES, 0, window=5)
    mixed = shard_of[[order.nth(place) for place in range(TOTAL)]]
    assert np.count_nonzero(np.diff(mixed)) > 15


def test_every_place_is_equally_likely():
    order = RecordOrder((3, 3), 0)
    counts = np.zeros((6, 6))
    for epoch in range(3000):
        for place in range(6):
            counts[order.record(epoch, place), place] += 1
    assert abs(counts / 3000 - 1 / 6).max() < 0.04  # six standard deviations


def test_sources_are_drawn_by_their_shares():
    shares = (0.55, 0.1, 0.1, 0.13, 0.06, 0.06)
    order = SourceOrder(shares, 0)
    draws = [order.draw(number) for number in range(3 * ROUND)]
    for turn in range(3):
        sources = [source for source, _ in draws[turn * ROUND : (turn + 1) * ROUND]]
        assert np.bincount(sources).tolist() == [550, 100, 100, 130, 60, 60]
    for source in range(6):  # each source counts its own draws without a gap
        assert [count for which, count in draws if which == source] == list(range(round(3 * ROUND * shares[source])))
    assert np.bincount([source for source, _ in draws[:100]], minlength=6)[0] < 75  # mixed, not one after another


def test_thirds_fill_the_round():
    order = SourceOrder((1 / 3, 1 / 3, 1 / 3), 0)
    assert sorted(np.bincount([order.draw(number)[0] for number in range(ROUND)]).tolist()) == [333, 333, 334]


def test_the_draw_of_a_source_is_a_pure_function_too():
    shares = (0.7, 0.3)
    order = SourceOrder(shares, 5)
    numbers = [2500, 3, 999, 1000, 0, 7777]
    assert [order.draw(number) for number in numbers] == [SourceOrder(shares, 5).draw(number) for number in numbers]
    assert [order.draw(n)[0] for n in range(100)] != [SourceOrder(shares, 6).draw(n)[0] for n in range(100)]
    assert [order.draw(n)[0] for n in range(100)] != [order.draw(ROUND + n)[0] for n in range(100)]


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_ranks_together_see_what_a_single_one_sees(ranks):
    alone = list(Steps(8, stop=6))
    divided = [list(Steps(8, stop=6, rank=rank, ranks=ranks)) for rank in range(ranks)]
    assert [list(chain(*step)) for step in zip(*divided, strict=True)] == alone
    assert list(chain(*alone)) == list(range(48))
    assert len(Steps(8, stop=6, start=2)) == 4
    assert list(Steps(8, stop=6, start=2)) == alone[2:]


def test_purposes_do_not_share_random_numbers():
    draws = [generator(0, purpose, 1).random() for purpose in Purpose]
    assert len(set(draws)) == len(draws)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: RecordOrder((), 0), DataError, "no records"),
        (lambda: RecordOrder((0, 0), 0), DataError, "no records"),
        (lambda: RecordOrder((3,), -1), UsageError, "seed -1"),
        (lambda: RecordOrder((3,), 0, window=0), UsageError, "window of 0"),
        (lambda: SourceOrder((0.9999, 0.0001), 0), DataError, "never be drawn"),
        (lambda: SourceOrder((1.0,), -1), UsageError, "seed -1"),
        (lambda: Steps(5, stop=1, ranks=2), UsageError, "cannot be divided"),
        (lambda: Steps(0, stop=1), UsageError, "cannot be divided"),
        (lambda: Steps(4, stop=1, rank=2, ranks=2), UsageError, "no rank 2 of 2"),
        (lambda: Steps(4, stop=1, start=2), UsageError, "no step 2 of 1"),
    ],
)
def test_bad_arguments_are_refused(make, error, says):
    with pytest.raises(error, match=says):
        make()
