"""Tiny runs: complete, killed and resumed, divided over processes, accumulated; and errors that stop a run."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from safetensors.torch import save_file

from sam_edge.cli.app import run
from sam_edge.model import build_sam
from sam_edge.training.losses import RITM
from sam_edge.training.objective import MaskObjective, SessionRecipe
from sam_edge.training.recipe import Phase, read_recipe
from sam_edge.training.train import InitialWeights, load_initial_weights
from sam_edge.training.trainer import Trainer, TrainJob
from sam_edge.weights.seeded import seed_module
from sam_edge_runtime.errors import CheckpointError, DataError, UsageError
from tests.data.builders import encoded, picture, record, write_tar

STEPS = 8
RECIPE = """
model = "nano"
data = ["a.tar=2", "b.tar=1"]
seed = 5
warm_up = 2
learning_rate = 1e-3
loss = "ritm"
single_always = true
[[phases]]
steps = 5
side = 256
photos = 2
masks = 2
interactions = 2
[[phases]]
steps = 3
side = 320
photos = 2
masks = 1
interactions = 3
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def write_shards(folder: Path) -> Path:
    """Two shards of photos with two rectangles each, large enough for a low-resolution pixel at any jitter."""
    for name, start in (("a", 0), ("b", 10)):
        files = []
        for seed in range(start, start + 4):
            masks = np.zeros((2, 90, 120), bool)
            masks[0, 10 + seed : 60 + seed, 20:90] = True
            masks[1, 40:80, 50 + seed : 100] = True
            files.append((f"sa_{seed}.jpg", encoded(picture(seed, (90, 120)))))
            files.append((f"sa_{seed}.json", json.dumps(record(masks)).encode()))
        write_tar(folder / f"{name}.tar", files)
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    return write_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(RECIPE)
    return path


def arguments(recipe: Path, shards: Path, out: Path, *more: str) -> list[str]:
    return ["train", str(recipe), "--data", str(shards), "--out", str(out), "--workers", "0", *more]


def losses(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "losses.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(recipe, shards, tmp_path_factory) -> Path:
    """A run that was not interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    subprocess.run([sys.executable, "-m", "sam_edge", *arguments(recipe, shards, out)], env=ENVIRONMENT, check=True)
    return out


def test_a_run_leaves_its_losses_and_weights(whole):
    from sam_edge.weights.load import load_sam
    from sam_edge.weights.source import parse_source

    found = losses(whole)
    assert [line["step"] for line in found] == list(range(STEPS))
    assert all(np.isfinite(value) for line in found for value in line.values())
    assert found[0]["rate"] == pytest.approx(5e-4)
    load_sam("nano", parse_source(whole / "model.safetensors"))
    assert json.loads((whole / "recipe.json").read_text())["seed"] == 5


@pytest.mark.slow
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(whole, recipe, shards, tmp_path):
    """One of the two runs draws pictures, which makes no difference."""
    out = tmp_path / "run"
    more = ("--save-every", "2", "--picture-every", "0")
    command = [sys.executable, "-m", "sam_edge", *arguments(recipe, shards, out, *more)]
    with subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if (out / "losses.jsonl").exists() and len((out / "losses.jsonl").read_text().splitlines()) >= 4:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert not (out / "model.safetensors").exists(), "the run ended before it could be killed"
    assert list((out / "checkpoints").glob("step-*.safetensors"))
    subprocess.run([*command, "--resume"], env=ENVIRONMENT, check=True)
    assert not (out / "pictures").exists()
    assert losses(out) == losses(whole)
    ours, theirs = (load_file(each / "model.safetensors") for each in (out, whole))
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name], values, err_msg=name)


@pytest.mark.slow
def test_ctrl_c_saves_a_checkpoint_and_the_resumed_run_is_the_same(whole, recipe, shards, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "sam_edge", *arguments(recipe, shards, out, "--save-every", "100")]
    with subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if (out / "losses.jsonl").exists() and len((out / "losses.jsonl").read_text().splitlines()) >= 2:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "--resume" in said
    assert len(list((out / "checkpoints").iterdir())) == 1
    subprocess.run([*command, "--resume"], env=ENVIRONMENT, check=True)
    assert losses(out) == losses(whole)


def test_an_infinite_or_nan_loss_stops_the_run(shards, tmp_path, capsys):
    wild = tmp_path / "wild.toml"
    wild.write_text(
        RECIPE.replace("learning_rate = 1e-3", "learning_rate = 1e30").replace("warm_up = 2", "warm_up = 0")
    )
    refused(capsys, arguments(wild, shards, tmp_path / "run", "--save-every", "1"), "loss of step", "last checkpoint")
    assert list((tmp_path / "run" / "checkpoints").iterdir())


def test_pictures_show_the_first_step(whole):
    pictures = sorted((whole / "pictures").iterdir())
    assert [path.name for path in pictures] == ["step-00000000.png"]
    with Image.open(pictures[0]) as picture:
        assert picture.size == (2 * 256 + 4, 2 * 256 + 4)  # two photos, two steps
    assert list((whole / "tensorboard").iterdir())


@pytest.fixture
def trainer_of(recipe, shards) -> Callable[..., Trainer]:
    """A trainer of a one-step run in this process, whose recipe has the given changes."""

    def made(out: Path, pretrained: tuple[str, ...] = (), **changes: object) -> Trainer:
        changed = replace(read_recipe(recipe), phases=(Phase(1, 256, 2, 1, 1),), **changes)
        sam = build_sam("nano")
        seed_module(sam, 1)
        objective = MaskObjective(sam, RITM, SessionRecipe(), changed.seed)
        return Trainer(TrainJob(shards, out, workers=0, picture_every=0), changed, objective, pretrained)

    return made


def test_the_gradient_is_clipped(trainer_of, tmp_path, monkeypatch):
    """The optimizer gets the gradient at its own length, or at most at the recipe's."""
    lengths = []

    def look(optimizer: torch.optim.Optimizer, *_: object, **__: object) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        lengths.append(float(torch.stack([gradient.norm() for gradient in gradients]).norm()))

    monkeypatch.setattr(torch.optim.AdamW, "step", look)
    for name, clip in (("free", 1e9), ("bound", 1e-3)):
        trainer_of(tmp_path / name, clip=clip).run()
    free, bound = (losses(tmp_path / name)[0] for name in ("free", "bound"))
    assert free["norm"] == pytest.approx(bound["norm"], rel=1e-5)  # as it was before clipping
    assert lengths == [pytest.approx(free["norm"], rel=1e-4), pytest.approx(1e-3, rel=1e-3)]


def test_a_nan_gradient_changes_no_weights(trainer_of, tmp_path):
    trainer = trainer_of(tmp_path / "run")
    weights = [parameter.clone() for parameter in trainer.objective.trained.parameters()]
    trainer.objective.trained.mask_decoder.iou_token.weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(DataError, match="gradient of step 0 is nan"):
        trainer.run()
    for before, after in zip(weights, trainer.objective.trained.parameters(), strict=True):
        assert torch.equal(before, after)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_run_is_resumed_only_with_the_same_pretrained_weights(trainer_of, recipe, shards, tmp_path):
    """Pretrained parameters have another learning rate."""
    trainer = trainer_of(tmp_path / "run", ("image_encoder.stem.weight",))
    trainer.run()
    again = replace(trainer.job, resume=True)
    with pytest.raises(UsageError, match="--init-encoder"):
        Trainer(again, trainer.recipe, trainer.objective)
    Trainer(again, trainer.recipe, trainer.objective, trainer.pretrained)
    (tmp_path / "run" / "start.json").unlink()  # a run of an earlier version
    Trainer(again, trainer.recipe, trainer.objective)


@pytest.mark.parametrize("eight_bits", [False, True])
def test_a_run_of_version_0_1_is_resumed_under_its_old_recipe_key(trainer_of, tmp_path, eight_bits):
    trainer = trainer_of(tmp_path / "run")
    trainer.run()
    path = tmp_path / "run" / "recipe.json"
    values = json.loads(path.read_text())
    for phase in values["phases"]:
        del phase["fake_quant"]
        phase["eight_bits"] = eight_bits
    path.write_text(json.dumps(values))
    again = replace(trainer.job, resume=True)
    if eight_bits:
        with pytest.raises(UsageError, match="was started with phases"):
            Trainer(again, trainer.recipe, trainer.objective)
    else:
        assert Trainer(again, trainer.recipe, trainer.objective).step == 1


@pytest.mark.parametrize(
    ("name", "value"), [("workers", -1), ("save_every", 0), ("picture_every", -1), ("stop_after", 0)]
)
def test_a_job_with_a_number_out_of_range_is_refused(name, value):
    with pytest.raises(UsageError, match=f"{name} {value} is not possible"):
        TrainJob(Path(), Path(), **{name: value})


@pytest.fixture
def two_steps(whole, recipe, shards, tmp_path) -> Path:
    """The folder of a run that stopped after its second step, with two checkpoints."""
    out = tmp_path / "two"
    assert run(arguments(recipe, shards, out, "--stop-after", "2", "--save-every", "1")) == 0
    return out


def test_a_full_disk_leaves_earlier_checkpoints(two_steps, recipe, shards):
    """The write really fails: files are limited to 1 MB."""
    before = {path.name: path.stat().st_mtime_ns for path in (two_steps / "checkpoints").iterdir()}
    command = [sys.executable, "-m", "sam_edge", *arguments(recipe, shards, two_steps, "--resume", "--save-every", "1")]
    done = subprocess.run(
        command,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "no space to write" in " ".join(done.stderr.split())
    assert {path.name: path.stat().st_mtime_ns for path in (two_steps / "checkpoints").iterdir()} == before


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(whole, two_steps, recipe, shards, capsys):
    last = two_steps / "checkpoints" / "step-00000002.safetensors"
    last.write_bytes(last.read_bytes()[:5000])
    again = arguments(recipe, shards, two_steps, "--resume", "--stop-after", "3")
    refused(capsys, again, last.name, "remove it", "the one before")
    last.unlink()
    assert run(again) == 0
    assert [line["step"] for line in losses(two_steps)] == [0, 1, 2]


def test_skipped_records_are_named_at_the_end(recipe, tmp_path, capsys):
    """With one damaged photo among many, the run continues and reports it."""
    data = tmp_path / "data"
    masks = np.zeros((1, 90, 120), bool)
    masks[0, 10:70, 20:90] = True
    files = []
    for seed in range(21):
        photo = encoded(picture(seed, (90, 120)))
        files.append((f"sa_{seed}.jpg", photo[:100] if seed == 7 else photo))
        files.append((f"sa_{seed}.json", json.dumps(record(masks)).encode()))
    write_tar(data / "a.tar", files)
    short = tmp_path / "short.toml"
    phase = "[[phases]]\nsteps = 1\nside = 256\nphotos = 21\nmasks = 1\ninteractions = 1\n"
    short.write_text(RECIPE[: RECIPE.index("[[phases]]")].replace('"a.tar=2", "b.tar=1"', '"a.tar"') + phase)
    assert run(arguments(short, data, tmp_path / "run")) == 0
    said = capsys.readouterr().err
    assert "skipped 1 of" in said
    assert "sa_7 in" in said
    strict = arguments(short, data, tmp_path / "strict", "--allow-broken", "0")
    assert run(strict) == 2
    assert (tmp_path / "strict" / "model.safetensors").exists()  # finished work is written before the complaint
    said = capsys.readouterr().err
    assert "model.safetensors is written, but 1 of 21 records could not be used, more than 0.0%" in said


def test_a_run_that_cannot_start_leaves_no_folder(recipe, shards, tmp_path, capsys):
    strict = tmp_path / "strict.toml"
    strict.write_text(RECIPE.replace("seed = 5", "seed = 5\nmin_area = 0.999"))
    refused(capsys, arguments(strict, shards, tmp_path / "run"), "none of", "has a mask")
    assert not (tmp_path / "run").exists()


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def same_run(out: Path, whole: Path) -> None:
    """The same losses and weights up to the order of sums.

    Points are drawn where the thresholded mask is wrong, so sooner or later rounding moves a point. Later steps have
    a wider bound.
    """
    for ours, theirs in zip(losses(out), losses(whole), strict=True):
        bound = 1e-5 if ours["step"] == 0 else 1e-3 if ours["step"] < 4 else 5e-2
        for name in ("loss", "mask_loss"):
            assert ours[name] == pytest.approx(theirs[name], rel=bound), (ours["step"], name)
    ours, theirs = (load_file(each / "model.safetensors") for each in (out, whole))
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, atol=5e-3, err_msg=name)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(whole, recipe, shards, tmp_path):
    out = tmp_path / "run"
    # Not `accelerate launch --cpu`: without MPI it starts a single process, whatever the given number.
    launch = ["torch.distributed.run", "--nproc_per_node", "2", "--master_port", free_port()]
    command = [sys.executable, "-m", *launch, "-m", "sam_edge", *arguments(recipe, shards, out)]
    environment = {**ENVIRONMENT, "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    with Image.open(out / "pictures" / "step-00000000.png") as picture:
        assert picture.height == 256  # the other photo was the other process's
    same_run(out, whole)


@pytest.mark.slow
def test_accumulated_parts_learn_what_one_does(whole, recipe, shards, tmp_path):
    parts = tmp_path / "parts.toml"
    parts.write_text(RECIPE.replace("seed = 5", "seed = 5\naccumulate = 2"))
    command = [sys.executable, "-m", "sam_edge", *arguments(parts, shards, tmp_path / "run")]
    subprocess.run(command, env=ENVIRONMENT, check=True)
    same_run(tmp_path / "run", whole)


Damage = Callable[[Path, Path], list[str]]


def without_tar(_: Path, folder: Path) -> list[str]:
    (folder / "a.tar").write_bytes(b"no tar" * 500)
    write_tar(folder / "b.tar", [])
    return []


def empty(_: Path, folder: Path) -> list[str]:
    assert not list(folder.iterdir())
    return []


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (empty, ("no data at", "a.tar")),
        (without_tar, ("a.tar",)),
    ],
)
def test_unusable_data_are_refused(damage, says, recipe, tmp_path, capsys):
    folder = tmp_path / "data"
    folder.mkdir()
    damage(recipe, folder)
    refused(capsys, arguments(recipe, folder, tmp_path / "run"), *says)


def refused(capsys, command: list[str], *says: str) -> None:
    assert run(command) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    for part in says:
        assert part in lines[0], (part, lines[0])


def test_a_min_area_that_no_mask_has_is_named(recipe, shards, tmp_path, capsys):
    strict = tmp_path / "strict.toml"
    strict.write_text(RECIPE.replace("seed = 5", "seed = 5\nmin_area = 0.999"))
    refused(capsys, arguments(strict, shards, tmp_path / "run"), "none of", "has a mask", "99.9")


@pytest.mark.parametrize("name", ["model.safetensors", "start.json", "losses.jsonl"])
def test_files_that_a_new_run_would_replace_are_kept(trainer_of, tmp_path, name):
    (tmp_path / name).write_text("weeks of work")
    with pytest.raises(UsageError, match=f"holds {name}, which this run would replace"):
        trainer_of(tmp_path)
    assert (tmp_path / name).read_text() == "weeks of work"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_runs_are_neither_overwritten_nor_resumed_with_another_recipe(whole, recipe, shards, tmp_path, capsys):
    refused(capsys, arguments(recipe, shards, whole), "--resume")
    other = tmp_path / "other.toml"
    other.write_text(RECIPE.replace("seed = 5", "seed = 6"))
    refused(capsys, arguments(other, shards, whole, "--resume"), "seed = 5", "6")
    refused(capsys, arguments(recipe, shards, tmp_path / "none", "--resume"), "no run to resume")


def test_initial_weights_of_another_model_are_refused(recipe, shards, tmp_path, capsys):
    (tmp_path / "x.tflite").write_bytes(b"0000TFL3")
    more = ("--init-encoder", str(tmp_path / "x.tflite"))
    refused(capsys, arguments(recipe, shards, tmp_path / "a", *more), "x.tflite")
    refused(capsys, arguments(recipe, shards, tmp_path / "b", *more, "--init", "random:0"), "not from both")
    large = tmp_path / "large.toml"
    large.write_text(RECIPE.replace('"nano"', '"tiny_vit"'))
    refused(capsys, arguments(large, shards, tmp_path / "c", *more), "only nano")


def test_small_begins_with_nano_s_weights_or_its_own_and_no_others(tmp_path):
    nano, small = build_sam("nano"), build_sam("small")
    for sam, name in ((nano, "nano"), (small, "small"), (build_sam("tiny_vit"), "tiny_vit")):
        save_file(sam.state_dict(), tmp_path / f"{name}.safetensors")
    begun = build_sam("small")
    names = load_initial_weights(begun, InitialWeights(checkpoint=str(tmp_path / "nano.safetensors")))
    assert names == {name for name, _ in small.named_parameters()}
    state = begun.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in nano.state_dict().items())
    assert not state["image_encoder.mixing.0.project.weight"].any()
    load_initial_weights(begun, InitialWeights(checkpoint=str(tmp_path / "small.safetensors")))
    assert all(torch.equal(begun.state_dict()[name], tensor) for name, tensor in small.state_dict().items())
    save_file({n: t for n, t in nano.state_dict().items() if "meaning" not in n}, tmp_path / "part.safetensors")
    with pytest.raises(CheckpointError, match="meaning"):
        load_initial_weights(build_sam("small"), InitialWeights(checkpoint=str(tmp_path / "part.safetensors")))
    for name, sam in (("tiny_vit", build_sam("small")), ("small", build_sam("nano"))):
        with pytest.raises(CheckpointError, match=name):
            load_initial_weights(sam, InitialWeights(checkpoint=str(tmp_path / f"{name}.safetensors")))


def test_photos_that_cannot_be_divided_into_parts_are_refused(shards, tmp_path, capsys):
    odd = tmp_path / "odd.toml"
    odd.write_text(RECIPE.replace("seed = 5", "seed = 5\naccumulate = 3"))
    refused(capsys, arguments(odd, shards, tmp_path / "run"), "2 photos", "multiple of 3")
