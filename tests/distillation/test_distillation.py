"""Distillation: embeddings kept once, an encoder that matches them, prompts where two disagree, and the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sam_edge.cli.app import run
from sam_edge.data.sources import open_source
from sam_edge.distillation.embeddings import EmbeddingCache
from sam_edge.distillation.encoder import EncoderObjective, masked_mean, to_grid
from sam_edge.distillation.inherit import shares_decoder, take_decoder
from sam_edge.distillation.prompt import PromptObjective
from sam_edge.model import Sam, build_sam
from sam_edge.model.torch_backend import TorchBackend
from sam_edge.prompting.simulation import TrainingPrompts
from sam_edge.training.batch import Batch
from sam_edge.training.losses import RITM
from sam_edge.training.objective import SessionRecipe
from sam_edge.training.recipe import Phase
from sam_edge.weights.seeded import seed_module
from sam_edge_runtime.bundle.contract import Label
from sam_edge_runtime.errors import DataError, OutputError, UsageError
from tests.data.builders import encoded, picture, record, write_tar

SIDE = 256
PHASE = Phase(1, SIDE, interactions=3)
SIZE = (90, 120)


def seeded(number: int, side: int = SIDE) -> Sam:
    sam = build_sam("nano")
    seed_module(sam, number)
    sam.set_input_side(side)
    return sam


def masks_of(number: int) -> np.ndarray:
    masks = np.zeros((2, *SIZE), bool)
    masks[0, 10 + number : 60 + number, 20:90] = True
    masks[1, 40:80, 50:100] = True
    return masks


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    files = []
    for number in range(4):
        files.append((f"sa_{number}.jpg", encoded(picture(number, SIZE))))
        files.append((f"sa_{number}.json", json.dumps(record(masks_of(number))).encode()))
    write_tar(folder / "a.tar", files)
    return folder


class Counting:
    """A teacher that counts what it is asked, and fails when told to."""

    def __init__(self, sam: Sam, stop_at: int | None = None) -> None:
        self._backend, self.calls, self._stop_at = TorchBackend(sam), 0, stop_at

    def encode(self, image):
        if self.calls == self._stop_at:
            raise KeyboardInterrupt
        self.calls += 1
        return self._backend.encode(image)

    def decode(self, *inputs):
        raise AssertionError("nobody decodes here")


class TestEmbeddings:
    def test_each_is_computed_once_and_a_pass_that_was_cut_off_goes_on(self, shards, tmp_path):
        teacher = seeded(0)
        cache = EmbeddingCache(tmp_path, "nano random:0", SIDE, 256)
        source = open_source(str(shards))
        with pytest.raises(KeyboardInterrupt):
            cache.fill([source], Counting(teacher, stop_at=1))
        rest, again = Counting(teacher), Counting(teacher)
        cache.fill([source], rest)
        cache.fill([source], again)
        assert (rest.calls, again.calls) == (3, 0)

    def test_what_is_there_is_not_even_opened(self, shards, tmp_path, monkeypatch):
        cache = EmbeddingCache(tmp_path, "t", SIDE, 256)
        source = open_source(str(shards))
        teacher = TorchBackend(seeded(0))
        cache.fill([source], teacher)
        absent = cache.path(*source.record_name(2))
        absent.unlink()
        opened = []
        from sam_edge.data import stream

        read = stream.read_sample
        monkeypatch.setattr(stream, "read_sample", lambda raw, **how: (opened.append(raw.key), read(raw, **how))[1])
        told = []
        log = cache.fill([source], teacher, lambda done, total: told.append((done, total)))
        assert opened == [source.record_name(2)[1]]
        assert told == [(3, 4), (4, 4)]
        assert (log.seen, log.skipped) == (4, 0)
        assert absent.exists()

    def test_one_broken_photo_stays_a_small_share_when_all_others_are_done(self, tmp_path):
        folder = tmp_path / "photos"
        folder.mkdir()
        for number in range(30):
            (folder / f"{number}.jpg").write_bytes(encoded(picture(number)))
        (folder / "7.jpg").write_bytes(b"no photo")

        class Flat:
            def encode(self, image):
                return np.zeros((1, 256, SIDE // 16, SIDE // 16), np.float32)

        cache = EmbeddingCache(tmp_path / "cache", "t", SIDE, 256)
        for _ in range(2):
            log = cache.fill([open_source(str(folder))], Flat())
            assert (log.seen, log.skipped) == (30, 1)

    def test_processes_share_the_photos_however_many_are_done(self, shards, tmp_path):
        cache = EmbeddingCache(tmp_path, "t", SIDE, 256)
        source = open_source(str(shards))
        counts = []
        for part in (1, 0):
            teacher = Counting(seeded(0))
            cache.fill([source], teacher, part=part, parts=2)
            counts.append(teacher.calls)
        assert counts == [2, 2]

    def test_room_is_asked_for_what_is_missing_here_and_not_for_what_lies_beside(self, shards, tmp_path, monkeypatch):
        cache = EmbeddingCache(tmp_path, "t", SIDE, 256)
        for number in range(9):  # of other data
            path = cache.path("other/b.tar", str(number))
            path.parent.mkdir(exist_ok=True)
            path.touch()
        free = cache.bytes_needed(4) - 1
        monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": free})())
        teacher = Counting(seeded(0))
        with pytest.raises(OutputError, match="no room"):
            cache.fill([open_source(str(shards))], teacher)
        assert teacher.calls == 0

    def test_shards_of_one_name_are_told_apart_and_data_may_be_moved(self, tmp_path):
        cache = EmbeddingCache(tmp_path, "t", SIDE, 256)
        assert cache.path("data/coco/train.tar", "1") != cache.path("data/ccp/train.tar", "1")
        assert cache.path("data/coco/train.tar", "1") == cache.path("/mnt/coco/train.tar", "1")

    def test_what_half_precision_cannot_hold_is_refused(self, shards, tmp_path):
        class Loud:
            def encode(self, image):
                return np.full((1, 256, SIDE // 16, SIDE // 16), 1e6, np.float32)

        with pytest.raises(DataError, match="half precision"):
            EmbeddingCache(tmp_path, "t", SIDE, 256).fill([open_source(str(shards))], Loud())
        assert not list(tmp_path.glob("*/*.npy"))

    def test_they_are_the_teacher_s_and_as_large_as_told(self, shards, tmp_path):
        from sam_edge.data.augment import letterbox
        from sam_edge.data.skips import SkipLog
        from sam_edge.data.stream import walk

        teacher = seeded(0)
        cache = EmbeddingCache(tmp_path, "nano random:0", SIDE, 256)
        source = open_source(str(shards))
        cache.fill([source], TorchBackend(teacher))
        assert sum(path.stat().st_size for path in tmp_path.glob("*/*.npy")) == cache.bytes_needed(4)
        for sample in walk(source, SkipLog(), photos_only=True):
            expected = TorchBackend(teacher).encode(letterbox(sample, SIDE).image[None])[0]
            np.testing.assert_array_equal(cache.read(sample.source, sample.key), expected.astype(np.float16))

    def test_another_teacher_s_are_not_mixed_in(self, tmp_path):
        EmbeddingCache(tmp_path, "nano random:0", SIDE, 256)
        EmbeddingCache(tmp_path, "nano random:0", SIDE, 256)
        with pytest.raises(UsageError, match=r"random:0.*random:1"):
            EmbeddingCache(tmp_path, "nano random:1", SIDE, 256)

    def test_too_small_a_disk_is_said_beforehand(self, shards, tmp_path, monkeypatch):
        teacher = Counting(seeded(0))
        monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
        with pytest.raises(OutputError, match=r"no room|MB"):
            EmbeddingCache(tmp_path, "t", SIDE, 256).fill([open_source(str(shards))], teacher)
        assert teacher.calls == 0

    def test_what_is_missing_or_damaged_is_named(self, tmp_path):
        cache = EmbeddingCache(tmp_path, "t", SIDE, 256)
        with pytest.raises(DataError, match="no embedding of sa_9"):
            cache.read("here/a.tar", "sa_9")
        path = cache.path("here/a.tar", "sa_9")
        path.parent.mkdir()
        np.save(path, np.zeros((1, 2, 3), np.float16))
        with pytest.raises(DataError, match="remove it"):
            cache.read("moved/here/a.tar", "sa_9")


def batch(*numbers: int, names: tuple[tuple[str, str], ...] = ()) -> Batch:
    images, masks, valid = [], [], []
    for number in numbers:
        images.append(torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(number)) * 255)
        own = torch.zeros(1 + number % 2, SIDE, SIDE, dtype=torch.bool)
        own[:, 20 : 120 + number, 30:150] = True
        masks.append(own)
        whole = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        whole[:200] = True
        valid.append(whole)
    return Batch(torch.stack(images), tuple(masks), torch.stack(valid), numbers, 3, names)


class TestEncoder:
    @pytest.fixture
    def cache(self, tmp_path) -> EmbeddingCache:
        """Holds what nano of seed 0 says to the frames of `batch`."""
        cache = EmbeddingCache(tmp_path, "t", SIDE, 256)
        backend = TorchBackend(seeded(0))
        for number in (1, 2):
            path = cache.path("a.tar", str(number))
            path.parent.mkdir(exist_ok=True)
            np.save(path, backend.encode(batch(number).images.numpy())[0].astype(np.float16))
        return cache

    def photos(self) -> Batch:
        return batch(1, 2, names=(("a.tar", "1"), ("a.tar", "2")))

    def test_the_teacher_itself_has_nothing_to_learn(self, cache):
        objective = EncoderObjective(seeded(0), cache, projected=False)
        objective.begin(PHASE)
        losses = objective(self.photos())
        assert float(losses["loss"].detach()) < 1e-6
        assert float(losses["explained"]) > 0.999

    def test_another_learns(self, cache):
        objective = EncoderObjective(seeded(1), cache, projected=True)
        objective.begin(PHASE)
        optimizer = torch.optim.Adam([p for p in objective.trained.parameters() if p.requires_grad], 3e-3)
        found = []
        for _ in range(12):
            optimizer.zero_grad()
            loss = objective(self.photos())["loss"]
            loss.backward()
            optimizer.step()
            found.append(float(loss.detach()))
        assert found[-1] < 0.7 * found[0]
        assert objective.student.mask_decoder.iou_token.weight.grad is None

    def test_only_cells_of_photo_count(self):
        values = torch.tensor([1.0, 2.0, 30.0, 40.0]).reshape(1, 1, 2, 2).expand(1, 3, 2, 2)
        cells = torch.tensor([[True, True], [False, False]]).reshape(1, 1, 2, 2)
        assert masked_mean(values, cells).item() == pytest.approx(1.5)

    def test_grids_are_matched_by_averaging(self):
        fine = torch.arange(16.0).reshape(1, 1, 4, 4)
        assert torch.equal(to_grid(fine, 4), fine)
        assert to_grid(torch.full((1, 2, 8, 8), 3.0), 4).unique().tolist() == [3.0]
        assert to_grid(fine, 2).mean() == pytest.approx(float(fine.mean()))


class TestInheritance:
    def test_only_between_decoders_of_one_make(self):
        assert shares_decoder(build_sam("tiny_vit"), build_sam("vit_b"))
        assert shares_decoder(build_sam("nano"), build_sam("nano"))
        assert not shares_decoder(build_sam("nano"), build_sam("tiny_vit"))

    def test_the_decoder_is_the_teacher_s_afterwards(self):
        teacher, student = seeded(0), seeded(1)
        names = take_decoder(student, teacher)
        theirs, mine = teacher.state_dict(), student.state_dict()
        for name, tensor in theirs.items():
            same = torch.equal(mine[name], tensor)
            assert same == name.startswith(("prompt_encoder", "mask_decoder")), name
        assert names
        assert all(not name.startswith("image_encoder") for name in names)


Seen = list[tuple[TrainingPrompts, Tensor, Tensor]]


class TestPrompt:
    def objective(self, student: int = 1, teacher_side: int = SIDE, **changes) -> PromptObjective:
        session = replace(SessionRecipe(points=8), **changes)
        made = PromptObjective(seeded(student), seeded(0, teacher_side), RITM, session, seed=5)
        made.begin(PHASE)
        return made

    def watch(self, objective: PromptObjective, photos: Batch) -> Seen:
        seen: Seen = []
        objective.watcher = lambda batch, index, prompts, masks, chosen: seen.append((prompts, masks, chosen))
        objective(photos)
        return seen

    def test_a_copy_agrees_and_gets_no_new_points(self):
        objective = self.objective(student=0)
        losses = objective(batch(1, 2))
        assert float(losses["iou"]) == pytest.approx(1.0)
        assert float(losses["iou_loss"]) == pytest.approx(0.0, abs=1e-9)
        last = self.watch(objective, batch(1, 2))[-1][0]
        counted = (last.labels >= 0).sum(dim=1) - (last.labels == float(Label.BOX_BOTTOM_RIGHT)).sum(dim=1)
        assert counted.tolist() == [1, 1, 1]

    def test_points_fall_where_the_two_disagree(self):
        objective = self.objective()
        photos = batch(1, 3)
        seen = self.watch(objective, photos)
        theirs = self.watch(self.objective(student=0), photos)  # the teacher's own first answers
        first, second = seen[0], seen[1][0]
        rows = torch.arange(len(first[2]))
        mine = first[1][rows, first[2]] > 0
        wanted = theirs[0][1][rows, first[2]] > 0
        for row in range(len(rows)):
            label = float(second.labels[row, 0])
            if label == float(Label.EMPTY):
                continue
            x, y = ((second.coords[row, 0] - 1.5) / 4).round().long().tolist()
            assert mine[row, y, x] != wanted[row, y, x]
            assert bool(wanted[row, y, x]) == (label == float(Label.FOREGROUND))

    def test_the_teacher_is_neither_trained_nor_saved(self):
        objective = self.objective()
        objective(batch(1))["loss"].backward()
        teacher = objective._teacher[0]
        assert all(parameter.grad is None for parameter in teacher.parameters())
        assert any(parameter.grad is not None for parameter in objective.student.parameters())
        assert len(list(objective.parameters())) == len(list(objective.student.parameters()))

    def test_a_divided_batch_gets_the_same_prompts(self):
        objective = self.objective()
        together = self.watch(objective, batch(1, 2))[-1][0]
        parts = [self.watch(objective, batch(number))[-1][0] for number in (1, 2)]
        assert torch.equal(together.coords, torch.cat([part.coords for part in parts]))

    def bare(self, *numbers: int) -> Batch:
        """Photos without masks."""
        none = torch.zeros(0, SIDE, SIDE, dtype=torch.bool)
        return replace(batch(*numbers), masks=(none,) * len(numbers))

    def test_photos_without_masks_begin_on_what_the_teacher_sees(self):
        objective = self.objective(student=0)
        objective.begin(replace(PHASE, masks=3))
        seen = []
        objective.watcher = lambda batch, index, prompts, masks, chosen: seen.append((batch, prompts))
        losses = objective(self.bare(1, 2))
        assert float(losses["iou"]) == pytest.approx(1.0)
        photos, prompts = seen[0]
        assert photos.mask_counts == (3, 3)
        targets = torch.cat(photos.masks)
        assert targets.flatten(1).any(dim=1).all()
        assert not targets[:, 200:].any(), "that is padding"
        clicks = prompts.labels[:, 0] == float(Label.FOREGROUND)
        assert clicks.any()
        for row in clicks.nonzero().flatten().tolist():
            x, y = prompts.coords[row, 0].round().long().tolist()
            assert targets[row, y, x]

    def test_photos_without_masks_do_not_depend_on_their_neighbours(self):
        objective = self.objective()
        objective.begin(replace(PHASE, masks=2))
        together = self.watch(objective, replace(batch(1, 2), masks=(self.bare(1).masks[0], batch(2).masks[0])))
        alone = self.watch(objective, self.bare(1)), self.watch(objective, batch(2))
        for whole, left, right in zip(together, *alone, strict=True):
            assert torch.equal(whole[0].coords, torch.cat([left[0].coords, right[0].coords]))

    def test_a_teacher_of_another_side_sees_the_same_places(self):
        """Twice the side: the same photo enlarged, coordinates scaled, and answers brought back."""
        objective = self.objective(student=0, teacher_side=512)
        losses = objective(batch(1))
        assert torch.isfinite(losses["loss"])
        prompts = TrainingPrompts(
            torch.tensor([[[10.0, 20.0], [0.0, 0.0]]]),
            torch.tensor([[1.0, -1.0]]),
            torch.zeros(1, 1, 64, 64),
            torch.zeros(1),
        )
        given = []
        objective._graphs = (
            objective._graphs[0],
            lambda *inputs: (given.append(inputs), (torch.zeros(1, 4, 128, 128), torch.zeros(1, 4)))[1],
        )
        masks, _ = objective._teacher_answers(torch.zeros(1), prompts, None, 64)
        assert given[0][1].tolist() == [[[20.5, 40.5], [0.0, 0.0]]]
        assert masks.shape == (1, 4, 64, 64)


RECIPE = """
model = "nano"
data = ["a.tar"]
warm_up = 1
loss = "ritm"
[[phases]]
steps = 2
side = 256
photos = 2
masks = 1
interactions = 2
"""


def arguments(folder: Path, shards: Path, *more: str) -> list[str]:
    recipe = folder / "tiny.toml"
    recipe.write_text(RECIPE)
    fixed = ["--teacher", "nano", "--teacher-checkpoint", "random:0", "--student", "nano", "--workers", "0"]
    return ["distill", *fixed, "--recipe", str(recipe), "--data", str(shards), "--out", str(folder / "run"), *more]


class TestCommand:
    def test_stages_are_chained_and_a_finished_one_is_left_alone(self, shards, tmp_path, capsys):
        from safetensors.torch import load_file

        command = arguments(tmp_path, shards, "--stages", "encoder,prompt,masks")
        assert run(command) == 0
        captured = capsys.readouterr()
        assert "teacher's prompt encoder and mask decoder" in captured.err
        assert "GB" in captured.err
        out = tmp_path / "run"
        stages = ["1-encoder", "2-prompt", "3-masks"]
        weights = [load_file(out / stage / "model.safetensors") for stage in stages]
        assert set(weights[0]) == set(build_sam("nano").state_dict())
        # The first stage leaves the inherited decoder alone, the second does not.
        from sam_edge.weights.seeded import seeded_array

        name = "mask_decoder.iou_token.weight"
        np.testing.assert_array_equal(weights[0][name].numpy(), seeded_array(name, tuple(weights[0][name].shape), 0))
        assert not torch.equal(weights[0][name], weights[1][name])
        times = [(out / stage / "model.safetensors").stat().st_mtime_ns for stage in stages]
        (out / "3-masks" / "model.safetensors").unlink()
        assert run([*command, "--resume"]) == 0
        assert [(out / stage / "model.safetensors").stat().st_mtime_ns for stage in stages[:2]] == times[:2]
        again = load_file(out / "3-masks" / "model.safetensors")
        assert all(torch.equal(again[key], value) for key, value in weights[2].items())
        assert "done before" in capsys.readouterr().err

    Change = Callable[[Path], tuple[str, ...]]

    @pytest.mark.parametrize(
        ("more", "says"),
        [
            (("--stages", "decoder"), ("'decoder'", "encoder, prompt, masks")),
            (("--stages", "prompt,encoder"), ("in order",)),
            (("--stages", ""), ("no stages",)),
            (("--student", "tiny_vit"), ("recipe is for nano",)),
            (("--teacher", "vit_x"), ("'vit_x'",)),
            (("--teacher-checkpoint", "missing.pth"), ("missing.pth",)),
            (("--resume",), ("no distillation to resume",)),
            (("--data", "nowhere"), ("no data at",)),
        ],
    )
    def test_one_line_says_what_is_wrong(self, more, says, shards, tmp_path, capsys):
        assert run(arguments(tmp_path, shards, *more)) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
        assert len(lines) == 1
        for part in says:
            assert part in lines[0]

    def test_a_folder_of_another_distillation(self, shards, tmp_path, capsys):
        out = tmp_path / "run"
        out.mkdir()
        (out / "distillation.json").write_text(
            json.dumps({"teacher": "vit_h x", "student": "nano", "stages": ["encoder"]})
        )
        assert run(arguments(tmp_path, shards, "--resume")) == 2
        assert "was begun with teacher vit_h x" in capsys.readouterr().err
        assert run(arguments(tmp_path, shards)) == 2
        assert "--resume" in capsys.readouterr().err

    def test_a_resumed_distillation_is_the_one_that_was_begun(self, shards, tmp_path, capsys):
        command = arguments(tmp_path, shards, "--stages", "encoder")
        assert run(command) == 0
        recipe = tmp_path / "tiny.toml"
        recipe.write_text(RECIPE.replace("warm_up = 1", "warm_up = 1\nseed = 7"))
        assert run([*command, "--resume"]) == 2
        assert "was begun with recipe" in capsys.readouterr().err
        recipe.write_text(RECIPE)
        begun = tmp_path / "run" / "distillation.json"
        assert '"fake_quant"' in begun.read_text()
        begun.write_text(begun.read_text().replace('"fake_quant"', '"eight_bits"'))  # as version 0.1 wrote it
        assert run([*command, "--resume"]) == 0
        assert run([*command, "--resume", "--student-checkpoint", "random:3"]) == 2
        assert "was begun with student's weights seeded by the recipe, not random:3" in capsys.readouterr().err

    def test_photos_alone_are_enough_to_prompt_for(self, tmp_path, capsys):
        folder = tmp_path / "photos" / "a.tar"
        folder.mkdir(parents=True)
        for number in range(2):
            (folder / f"{number}.jpg").write_bytes(encoded(picture(number, SIZE)))
        assert run(arguments(tmp_path, folder.parent, "--stages", "prompt")) == 0
        assert "random" in capsys.readouterr().err

    def test_photos_without_masks_are_no_ground_for_masks(self, tmp_path, capsys):
        folder = tmp_path / "photos"
        folder.mkdir()
        (folder / "a.tar").mkdir()
        (folder / "a.tar" / "one.jpg").write_bytes(encoded(picture(0, SIZE)))
        assert run(arguments(tmp_path, folder, "--stages", "masks")) == 2
        assert "without masks" in capsys.readouterr().err
