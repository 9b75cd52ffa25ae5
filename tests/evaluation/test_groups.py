"""Figures by group and against a second model: on scores that are known, and through the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sam_edge.cli.app import run
from sam_edge.evaluation.against import against_figures, against_table
from sam_edge.evaluation.groups import MEANING, Groups, group_table, grouped_figures
from sam_edge.evaluation.measure import OutputScores, PhotoMeasurement, random_click
from sam_edge.evaluation.paired import mean_interval, paired_loss
from sam_edge_runtime.errors import DataError
from tests.data.builders import encoded, picture, record, write_tar


def photo(key: str, *ious: float) -> PhotoMeasurement:
    """A photo whose masks have these IoUs after one click, 0.1 more after each further one; the oracle 0.05 more."""
    shown = np.stack([np.array(ious) + 0.1 * click for click in range(3)])
    four = np.tile(np.array(ious)[:, None], (1, 4))
    four[:, 3] += 0.05
    scores = OutputScores(four, np.zeros_like(four))
    return PhotoMeasurement("a.tar", key, np.full(len(ious), 100), scores, (scores,) * 3, shown, {})


def written(folder: Path, text: str) -> Path:
    path = folder / "groups.csv"
    path.write_text(text)
    return path


class TestGroups:
    def test_means_are_over_the_masks_of_a_group(self, tmp_path):
        text = "photo,mask,age,place\na/one.jpg,0,old,in\na/one,1,young,in\ntwo,,old,\n"
        photos = [photo("a/one", 0.2, 0.4), photo("two", 0.6, 0.8), photo("three", 0.5)]
        found = grouped_figures("it", "data", photos, Groups(written(tmp_path, text)))
        names = [(each.respect, each.group) for each in found.groups]
        assert names == [("age", "old"), ("age", "young"), ("place", "in")]
        old = found.groups[0].points
        assert old[0].mean == pytest.approx((0.2 + 0.6 + 0.8) / 3)
        assert old[1].mean == pytest.approx((0.2 + 0.6 + 0.8) / 3 + 0.2)
        assert (old[0].photos, old[0].prompts, old[0].low) == (2, 3, None)
        assert found.without == 1
        title, columns, rows = group_table(found, "data")
        assert (title, columns[1]) == ("by group, data", "mIoU, 1 point [95 %]")
        assert rows[0] == ("age: old", ["2 / 3", "0.533 [too few photos]", "0.733 [too few photos]"])

    def test_a_group_of_many_photos_has_an_interval_of_photos(self, tmp_path):
        draw = np.random.default_rng(0)
        means = draw.uniform(0.3, 0.7, 300)
        photos = [photo(f"p{number}", *([mean] * 4)) for number, mean in enumerate(means)]
        text = "photo,group\n" + "".join(f"p{number},x\n" for number in range(300))
        (group,) = grouped_figures("it", "data", photos, Groups(written(tmp_path, text))).groups
        one = group.points[0]
        assert one.mean == pytest.approx(means.mean())
        assert (one.high - one.low) / 2 == pytest.approx(1.96 * means.std() / np.sqrt(300), rel=0.06)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("key,group\n", "the first line names the columns"),
            ("photo,mask\n", "the first line names the columns"),
            ("photo,a,a\n", "the first line names the columns"),
            ("", "the first line names the columns"),
            ("photo,group\na,x\na,y\n", "line 3 .* again"),
            ("photo,group\na,x\na.jpg,y\n", "line 3 .* again"),
            ("photo,mask,group\na,first,x\n", "line 2 .* a key and a number"),
            ("photo,group\na\n", "line 2 .* number of cells"),
            ("photo,group\na,x,y\n", "line 2 .* number of cells"),
        ],
    )
    def test_files_are_checked(self, text, says, tmp_path):
        with pytest.raises(DataError, match=says):
            Groups(written(tmp_path, text))

    def test_groups_of_other_photos_are_refused(self, tmp_path):
        groups = Groups(written(tmp_path, "photo,group\nelsewhere,x\n"))
        with pytest.raises(DataError, match="none of the photos of data, such as 'one'"):
            grouped_figures("it", "data", [photo("one", 0.5)], groups)


class TestAgainst:
    def test_differences_are_paired_and_have_their_interval(self):
        draw = np.random.default_rng(1)
        values = draw.uniform(0.2, 0.6, (40, 2))
        ours = [photo(str(number), *pair) for number, pair in enumerate(values)]
        theirs = [photo(str(number), *(pair - 0.1 + 0.02 * draw.normal())) for number, pair in enumerate(values)]
        found = against_figures("a", "b", "data", ours, theirs)
        names = ["1 point", "1 point, best of three (oracle)", "2 points", "3 points"]
        assert [each.name for each in found.differences] == names
        first, oracle, *_ = found.differences
        assert first.one - first.other == pytest.approx(0.1, abs=0.02)
        assert oracle.one == pytest.approx(first.one + 0.05)
        wanted = paired_loss([each.shown[0] for each in ours], [each.shown[0] for each in theirs], 0.95)
        assert (first.low, first.high) == (wanted.low, wanted.high)
        assert (found.better, found.worse) == (1.0, 0.0)
        _, columns, rows = against_table(found)
        assert columns == ["a", "b", "difference [95 %]"]
        assert rows[0][1][2].startswith("+0.1")

    def test_few_photos_give_no_interval(self):
        found = against_figures("a", "a", "data", [photo("x", 0.5)], [photo("x", 0.7)])
        assert (found.differences[0].low, found.better, found.worse) == (None, 0.0, 1.0)
        assert against_table(found)[1][1] == "a (other weights)"


def test_the_interval_of_a_mean_is_that_of_a_loss_against_nothing():
    draw = np.random.default_rng(2)
    scores = [draw.uniform(size=3) for _ in range(20)]
    one, two = mean_interval(scores), paired_loss(scores, [np.zeros(3)] * 20, 0.95)
    assert (one.mean, one.low, one.high) == pytest.approx((two.loss, two.low, two.high))
    assert mean_interval(scores[:3]).low is None


def test_random_clicks_lie_in_the_mask_everywhere_and_are_the_same_again():
    mask = np.zeros((20, 30), bool)
    mask[5:9, 10:14] = True
    clicks = [random_click(mask, f"photo/{number}") for number in range(200)]
    assert all(mask[each.y, each.x] for each in clicks)
    assert len({(each.x, each.y) for each in clicks}) == 16
    assert clicks == [random_click(mask, f"photo/{number}") for number in range(200)]


@pytest.fixture(scope="module")
def shard(tmp_path_factory) -> Path:
    files = []
    for number in range(2):
        masks = np.zeros((2, 90, 120), bool)
        masks[0, 10:60, 20:90] = True
        masks[1, 40:80, 50 + number : 80] = True
        files.append((f"sa_{number}.jpg", encoded(picture(number, (90, 120)))))
        files.append((f"sa_{number}.json", json.dumps(record(masks)).encode()))
    return write_tar(tmp_path_factory.mktemp("data") / "val.tar", files)


def test_the_command_compares_and_groups(shard, bundle, tmp_path, capsys):
    groups = written(tmp_path, "photo,mask,kind\nsa_0,0,<b>$x$</b>\nsa_1,1,other\n")
    command = ["evaluate", "--input-size", "256", "--data", str(shard), "--clicks", "3", "--no-grabcut"]
    command += ["--against", str(bundle), "--groups", str(groups), "--first-point", "random"]
    assert run([*command, "--out", str(tmp_path / "report")]) == 0
    text = capsys.readouterr().out
    for part in ("points, ", "difference [95 %]", "by group", "kind: other", MEANING[:40]):
        assert part in text
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    against = report["against"][0]
    assert (against["subject"], against["other"]) == ("nano torch fp32", "tiny_vit onnx fp32")
    for column, name in enumerate(("one", "other")):
        assert [against["differences"][row][name] for row in (0, 2, 3)] == pytest.approx(
            report["figures"][column]["shown"]
        )
    assert report["protocol"]["first click"] == "a random point of the mask"
    assert [each["without"] for each in report["groups"]] == [2, 2]
    page = (tmp_path / "report" / "report.html").read_text()
    assert "<b>" not in page
    assert (tmp_path / "report" / "groups.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--against", "vit_x"), "'vit_x'"),
        (("--against", "nano", "--bundle", "x", "--model", "nano"), "compares two models"),
        (("--against", "nano", "--protocol", "box"), "--against is for --protocol clicks only"),
        (("--groups", "nowhere.csv"), "cannot read the groups nowhere.csv"),
        (("--groups", "g.csv", "--clicks", "2"), "--clicks 3 or more"),
        (("--first-point", "left"), "choose from centre, random"),
    ],
)
def test_bad_input_gives_one_line(more, says, shard, tmp_path, capsys):
    out = tmp_path / "report"
    assert run(["evaluate", "--data", str(shard), "--out", str(out), "--no-grabcut", *more]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    assert says in lines[0]
    assert not out.exists()
