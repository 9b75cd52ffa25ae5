"""Loops that cannot be run are refused in one line, before anything is computed; a folder tells how far a loop is."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from sam_edge.cli.app import run
from sam_edge.engine.folder import LOOP_FILE, RoundFolder, locked, rounds_of, settle, write_document
from sam_edge.engine.habits import Habits
from sam_edge.engine.loop import CONFIDENT, confident, read_loop
from sam_edge.engine.report import box, draw, errors, table
from sam_edge.engine.run import EngineJob, run_engine, training_data
from sam_edge.engine.stages import STAGES
from sam_edge.engine.status import status_of
from sam_edge.engine.work import Work
from sam_edge_runtime.errors import DataError, OutputError, UsageError
from tests.data.builders import encoded, write_folder

from .scenes import scene, write_scenes

RECIPE = """
model = "nano"
data = ["replaced"]
[[phases]]
steps = 1
side = 256
"""
LOOP = """
photos = "pool.tar"
validation = ["val.tar"]
recipe = "tiny.toml"
[annotator]
missed = 0.0
[[rounds]]
stage = "manual"
photos = 2
[[rounds]]
stage = "automatic"
photos = 1
settings = { points_per_side = 4 }
"""

MEASURED = {
    "data": "val.tar",
    "photos": 1,
    "masks": 3,
    "box": 0.5,
    "box_error": 0.03,
    "clicks": [0.25, 0.5, 0.75],
    "click_errors": [0.01, 0.01, 0.01],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loop")
    (folder / "tiny.toml").write_text(RECIPE)
    (folder / "large.toml").write_text(RECIPE.replace("nano", "vit_b"))
    write_scenes(folder / "pool.tar", 3)
    write_scenes(folder / "val.tar", 1, 50)
    write_folder(folder / "plain", [(f"{n}.jpg", encoded(scene(n)[0])) for n in range(4)])
    return folder


def written(folder, text: str, name: str = "loop.toml"):
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("missed", "mised", "'mised' is unknown; choose one of kind, find"),
        ("missed = 0.0", "missed = 2.0", "missed 2.0 is out of range"),
        ("[annotator]", '[annotator]\nkind = "robot"', "no annotator called 'robot'"),
        ('photos = "pool.tar"', 'photo = "pool.tar"', "'photo' is unknown"),
        ('photos = "pool.tar"\n', "", "has no photos"),
        ('"manual"', '"automatic"', None),
        ('"automatic"', '"semi"', "no stage called 'semi'"),
        ("photos = 1\n", "photos = 0\n", "a round of 0 photos"),
        ("points_per_side", "points", "no setting 'points'"),
        ("tiny.toml", "large.toml", "trains vit_b, and the loop is for nano"),
        ("tiny.toml", "none.toml", "cannot read the recipe"),
        ("photos = 2", "photos = 3", "want 4 photos and pool.tar has 3"),
        ("pool.tar", "plain", "plain has no masks for the simulated annotator"),
        ("val.tar", "plain", "the validation data .* have no masks"),
        ("pool.tar", "nothing.tar", "no data at"),
        ('photos = "pool.tar"', 'photos = "pool.tar"\npeople_weight = 0.0', "people_weight 0.0 is out of range"),
        ('"manual"\nphotos = 2', '"manual"\nphotos = 2\nsettings = { points_per_side = 4 }', "leave them out"),
    ],
)
def test_a_loop_that_cannot_run_is_refused(folder, tmp_path, old, new, message):
    assert old in LOOP
    path = written(folder, LOOP.replace(old, new))
    if message is None:
        path = written(folder, LOOP.replace('"automatic"', '"late"').replace('"manual"', '"automatic"'))
        path = written(folder, path.read_text().replace('"late"', '"manual"').replace("settings", "# settings"))
        message = "the stage manual comes after automatic: the order is manual, semi-automatic, automatic"
    with pytest.raises((UsageError, DataError), match=message):
        run_engine(EngineJob(read_loop(path), folder, folder, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_command_refuses_with_one_line(folder, tmp_path, capsys):
    path = written(folder, LOOP.replace("missed", "mised"))
    assert run(["engine", "run", str(path), "--out", str(tmp_path / "out")]) == 2
    assert run(["engine", "run", str(folder / "nothing.toml"), "--out", str(tmp_path / "out")]) == 2
    assert run(["engine", "status", str(folder)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("error: ") for line in lines)
    assert lines[2].endswith("holds no loop of sam-edge: name the --out of `sam-edge engine run`")


def test_a_folder_of_something_else_or_of_another_loop_is_refused(folder, tmp_path):
    loop = read_loop(written(folder, LOOP))
    settle(loop, tmp_path / "out")
    settle(loop, tmp_path / "out")
    other = read_loop(written(folder, LOOP.replace("missed = 0.0", "missed = 0.1")))
    with pytest.raises(OutputError, match="holds another loop, whose annotator is"):
        settle(other, tmp_path / "out")
    settle(read_loop(written(folder, f'notes = "new"\n{LOOP}')), tmp_path / "out")
    with pytest.raises(OutputError, match="holds no loop of sam-edge"):
        settle(loop, folder)


def test_the_folder_tells_how_far_the_loop_is(folder, tmp_path, capsys):
    loop, out = read_loop(written(folder, LOOP)), tmp_path / "out"
    settle(loop, out)
    stages = [each.stage for each in loop.rounds]
    first, second = rounds_of(stages, out)
    assert status_of(out).rounds == (first, second)
    assert (first.path.name, second.path.name) == ("01-manual", "02-automatic")
    measured = [MEASURED]
    write_document(out / "start.json", {"round": 0, "stage": "start", "evaluation": measured})
    for each in (first.queue, first.bundle, first.train):
        each.mkdir(parents=True)
    write_document(first.path / "work.json", Work(2, 6, 0, 90.0).to_json())
    assert run(["engine", "status", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "01-manual  next: training" in shown
    assert "02-automatic  open" in shown
    assert "0.500" in shown
    (out / LOOP_FILE).write_text("{")
    assert run(["engine", "status", str(out)]) == 2


def test_the_status_is_read_without_torch(folder, tmp_path):
    settle(read_loop(written(folder, LOOP)), tmp_path / "out")
    code = (
        "import sys; from sam_edge.cli.app import run; "
        f"code = run(['engine', 'status', {str(tmp_path / 'out')!r}]); "
        "sys.exit(code or sorted({'torch', 'matplotlib', 'onnxruntime'} & set(sys.modules)) or 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such lock")
def test_a_second_run_in_the_same_folder_is_refused(folder, tmp_path, capsys):
    path, out = written(folder, LOOP), tmp_path / "out"
    settle(read_loop(path), out)
    code = (
        "import sys; from pathlib import Path; from sam_edge.engine.folder import locked\n"
        f"with locked(Path({str(out)!r})): print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"locked\n"
        assert run(["engine", "run", str(path), "--out", str(out)]) == 2
        assert capsys.readouterr().err.strip() == (
            f"error: another `sam-edge engine run` works in {out}: wait for it, or choose another --out"
        )
        other.kill()  # the lock ends with its process
    with locked(out):
        pass


def test_people_weigh_more_in_training_and_a_round_without_masks_is_left_out(folder, tmp_path):
    loop = read_loop(written(folder, LOOP))
    job, rounds = EngineJob(loop, folder, folder, tmp_path), rounds_of(STAGES, tmp_path)
    for each, work in zip(rounds, (Work(2, 6, 0, 9.0), Work(3, 2, 7, 9.0), Work(50, 0, 300, 9.0)), strict=True):
        write_document(each.path / "work.json", work.to_json())
    assert training_data(job, rounds) == (
        "01-manual/masks=20",
        "02-semi-automatic/masks=9",  # 3 photos; (2 x 10 + 7 x 1) / 9 = 3
        "03-automatic/shards=50",
    )
    write_document(rounds[1].path / "work.json", Work(3, 0, 0, 9.0).to_json())
    assert training_data(job, rounds) == ("01-manual/masks=20", "03-automatic/shards=50")
    with pytest.raises(DataError, match="no round up to 02-semi-automatic has a mask"):
        training_data(job, rounds[1:2])


def test_masks_to_train_on_pass_stricter_thresholds_than_masks_to_show():
    assert confident("nano", None) == CONFIDENT
    assert confident("nano", {"pred_iou_thresh": 0.5, "points_per_side": 8}) == {
        "pred_iou_thresh": 0.5,
        "stability_score_thresh": CONFIDENT["stability_score_thresh"],
        "points_per_side": 8,
    }
    assert confident("vit_b", {})["stability_score_thresh"] == 0.95


def test_figures_of_a_round():
    people, machine = Work(2, 6, 2, 90.0, 3.0), Work(10, 0, 500, 100.0, 100.0)
    assert (people.seconds_a_mask, people.masks_a_photo) == (15.0, 4.0)
    assert people.masks_a_minute == pytest.approx(60 * 8 / 90)
    assert (machine.seconds_a_mask, machine.masks_a_photo, machine.masks_a_minute) == (0.2, 50.0, 300.0)
    assert Work(1, 0, 0, 0.0).seconds_a_mask is None
    assert json.loads(json.dumps(people.to_json()))["masks_a_photo"] == 4.0
    assert Habits(**asdict(Habits())) == Habits()


def test_the_plot_is_a_picture_and_the_table_has_all_rounds(folder):
    other = {**MEASURED, "box": 0.7, "box_error": 0.04, "click_errors": [0.0, 0.0, 0.0]}
    rounds = [{"round": 0, "stage": "start", "evaluation": [MEASURED, other]}]
    assert box(rounds[0]) == pytest.approx(0.6)
    assert errors(rounds) == [pytest.approx(0.025)]  # of a mean of two: the root of the sum of squares, by two
    assert errors(rounds, 2) == [pytest.approx(0.005)]
    assert draw(rounds).startswith(b"\x89PNG")
    rounds.append({**rounds[0], "round": 1, "stage": "manual", "work": Work(2, 6, 0, 90.0).to_json()})
    rounds.append({**rounds[0], "round": 2, "stage": "automatic", "work": Work(1, 0, 900, 0.0).to_json()})
    assert draw(rounds).startswith(b"\x89PNG")
    columns, rows = table(rounds)
    assert [len(row) for row in rows] == [len(columns)] * 3
    assert rows[1][:9] == ["1", "manual", "2", "6", "0", "0", "15.0", "3.0", "4.0"]
    assert rows[2][6:9] == ["0.0", "900.0", "-"]


def test_steps_are_done_when_their_results_are_there(tmp_path):
    folder = RoundFolder(tmp_path / "02-semi-automatic", 2, "semi-automatic")
    assert list(folder.steps()) == ["photos", "bundle", "confident masks", "masks", "training", "evaluation"]
    assert not any(folder.steps().values())
