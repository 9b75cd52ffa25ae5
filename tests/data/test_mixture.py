"""Several sources are drawn by weight."""

from __future__ import annotations

import pytest

from sam_edge.data.mixture import Mixture, of_sources, open_mixture
from sam_edge.data.sources import open_source
from sam_edge_runtime.errors import DataError, UsageError
from tests.data.builders import pairs, write_tar


@pytest.fixture
def paths(tmp_path):
    return [str(write_tar(tmp_path / name, pairs(size, prefix=name))) for name, size in (("a=b", 6), ("c", 2))]


def test_weights_are_read_from_the_command_line(paths):
    mixture = open_mixture([f"{paths[0]}=1", f"{paths[1]}=3e0"])
    assert [source.name for source in mixture.sources] == paths
    assert mixture.shares == (0.25, 0.75)
    assert len(mixture) == 8
    assert mixture.annotated


def test_without_weights_each_record_is_drawn_equally_often(paths):
    mixture = open_mixture(paths)  # the first holds an equals sign that no number follows
    assert mixture.shares == (0.75, 0.25)
    assert of_sources(*mixture.sources).shares == mixture.shares


@pytest.mark.parametrize(
    ("tails", "error", "says"),
    [
        (("=1", ""), UsageError, "c has no weight"),
        (("=1", "=0"), DataError, "weight 0.0"),
        (("=1", "=-2"), DataError, "weight -2.0"),
        (("=1", "=nan"), DataError, "weight nan"),
        (("=1", "=inf"), DataError, "weight inf"),
        (("=1", "=x"), DataError, "no data at .*c=x"),
    ],
)
def test_bad_weights_are_refused(paths, tails, error, says):
    if tails[1] == "=x":
        tails = ("", "=x")
    with pytest.raises(error, match=says):
        open_mixture([path + tail for path, tail in zip(paths, tails, strict=True)])


def test_no_sources_are_refused(paths):
    with pytest.raises(UsageError, match="no data are given"):
        open_mixture([])
    with pytest.raises(DataError, match="give one weight for each source"):
        Mixture((open_source(paths[0]),), ())
    empty = open_source(paths[1]).part(3, 5)
    with pytest.raises(DataError, match="holds no records"):
        of_sources(empty)
