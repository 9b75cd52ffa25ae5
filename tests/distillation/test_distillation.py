"""Distillation: stored embeddings, an encoder that learns them, prompts where two models differ, and the command."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sam_edge.cli.app import run
from sam_edge.data.sources import open_source
from sam_edge.distillation.embeddings import EmbeddingCache
from sam_edge.distillation.encoder import EncoderObjective, masked_mean, resized_to_grid
from sam_edge.distillation.inherit import copy_decoder, shares_decoder
from sam_edge.distillation.int8 import Int8Objective
from sam_edge.distillation.prompt import PromptObjective
from sam_edge.model import EncoderGraph, Sam, build_sam
from sam_edge.model.torch_backend import TorchBackend
from sam_edge.prompting.simulation import TrainingPrompts
from sam_edge.quantization.fake_quant_graph import FakeQuantGraph
from sam_edge.quantization.weight_grids import round_layers
from sam_edge.training.batch import Batch
from sam_edge.training.losses import RITM
from sam_edge.training.objective import SessionRecipe
from sam_edge.training.recipe import Phase, TrainRecipe
from sam_edge.training.trainer import Trainer, TrainJob
from sam_edge.weights.seeded import seed_module
from sam_edge_quant.methods.weight_scales import has_qat_scales
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
    """A teacher that counts its calls and can be interrupted at one of them."""

    def __init__(self, sam: Sam, stop_at: int | None = None) -> None:
        self._backend, self.calls, self._stop_at = TorchBackend(sam), 0, stop_at

    def encode(self, image):
        if self.calls == self._stop_at:
            raise KeyboardInterrupt
        self.calls += 1
        return self._backend.encode(image)

    def decode(self, *inputs):
        raise AssertionError("the cache needs no decoder")


class TestEmbeddings:
    def test_each_embedding_is_computed_once_and_an_interrupted_pass_is_resumed(self, shards, tmp_path):
        teacher = seeded(0)
        cache = EmbeddingCache(tmp_path, "nano random:0", SIDE, 256)
        source = open_source(str(shards))
        with pytest.raises(KeyboardInterrupt):
            cache.fill([source], Counting(teacher, stop_at=1))
        rest, again = Counting(teacher), Counting(teacher)
        cache.fill([source], rest)
        cache.fill([source], again)
        assert (rest.calls, again.calls) == (3, 0)

    def test_photos_with_an_embedding_are_not_opened(self, shards, tmp_path, monkeypatch):
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
        calls = []
        log = cache.fill([source], teacher, lambda done, total: calls.append((done, total)))
        assert opened == [source.record_name(2)[1]]
        assert calls == [(3, 4), (4, 4)]
        assert (log.seen, log.skipped) == (4, 0)
        assert absent.exists()

    def test_the_share_of_broken_photos_counts_the_photos_that_are_done(self, tmp_path):
        folder = tmp_path / "photos"
        folder.mkdir()
        for number in range(30):
            (folder / f"{number}.jpg").write_bytes(encoded(picture(number)))
        (folder / "7.jpg").write_bytes(b"no photo")

        class Flat:
            def encode(self, image):
                return (np.zeros((1, 256, SIDE // 16, SIDE // 16), np.float32),)

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

    def test_disk_space_is_checked_for_the_missing_embeddings_of_these_sources(self, shards, tmp_path, monkeypatch):
        cache = EmbeddingCache(tmp_path, "t", SIDE, 256)
        for number in range(9):  # embeddings of other data
            path = cache.path("other/b.tar", str(number))
            path.parent.mkdir(exist_ok=True)
            path.touch()
        free = cache.bytes_needed(4) - 1
        monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": free})())
        teacher = Counting(seeded(0))
        with pytest.raises(OutputError, match="no space"):
            cache.fill([open_source(str(shards))], teacher)
        assert teacher.calls == 0

    def test_embeddings_are_named_by_shard_and_folder_and_data_can_be_moved(self, tmp_path):
        cache = EmbeddingCache(tmp_path, "t", SIDE, 256)
        assert cache.path("data/coco/train.tar", "1") != cache.path("data/ccp/train.tar", "1")
        assert cache.path("data/coco/train.tar", "1") == cache.path("/mnt/coco/train.tar", "1")

    def test_an_embedding_too_large_for_half_precision_is_refused(self, shards, tmp_path):
        class Loud:
            def encode(self, image):
                return (np.full((1, 256, SIDE // 16, SIDE // 16), 1e6, np.float32),)

        with pytest.raises(DataError, match="half precision"):
            EmbeddingCache(tmp_path, "t", SIDE, 256).fill([open_source(str(shards))], Loud())
        assert not list(tmp_path.glob("*/*.npy"))

    def test_stored_embeddings_equal_the_teacher_s_and_have_the_reported_size(self, shards, tmp_path):
        from sam_edge.data.augment import letterbox
        from sam_edge.data.skips import SkipLog
        from sam_edge.data.stream import walk

        teacher = seeded(0)
        cache = EmbeddingCache(tmp_path, "nano random:0", SIDE, 256)
        source = open_source(str(shards))
        cache.fill([source], TorchBackend(teacher))
        assert sum(path.stat().st_size for path in tmp_path.glob("*/*.npy")) == cache.bytes_needed(4)
        for sample in walk(source, SkipLog(), photos_only=True):
            expected = TorchBackend(teacher).encode(letterbox(sample, SIDE).image[None])[0][0]
            np.testing.assert_array_equal(cache.read(sample.source, sample.key), expected.astype(np.float16))

    def test_embeddings_of_two_teachers_are_not_mixed(self, tmp_path):
        EmbeddingCache(tmp_path, "nano random:0", SIDE, 256)
        EmbeddingCache(tmp_path, "nano random:0", SIDE, 256)
        with pytest.raises(UsageError, match=r"random:0.*random:1"):
            EmbeddingCache(tmp_path, "nano random:1", SIDE, 256)

    def test_too_small_a_disk_is_reported_before_the_first_embedding(self, shards, tmp_path, monkeypatch):
        teacher = Counting(seeded(0))
        monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
        with pytest.raises(OutputError, match=r"no space for .* MB are free"):
            EmbeddingCache(tmp_path, "t", SIDE, 256).fill([open_source(str(shards))], teacher)
        assert teacher.calls == 0

    def test_a_missing_or_damaged_embedding_is_named(self, tmp_path):
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
        """Holds the embeddings of nano with seed 0 for the frames of `batch`."""
        cache = EmbeddingCache(tmp_path, "t", SIDE, 256)
        backend = TorchBackend(seeded(0))
        for number in (1, 2):
            path = cache.path("a.tar", str(number))
            path.parent.mkdir(exist_ok=True)
            np.save(path, backend.encode(batch(number).images.numpy())[0][0].astype(np.float16))
        return cache

    def photos(self) -> Batch:
        return batch(1, 2, names=(("a.tar", "1"), ("a.tar", "2")))

    def test_the_loss_of_the_teacher_itself_is_zero(self, cache):
        objective = EncoderObjective(seeded(0), cache, projected=False)
        objective.begin(PHASE)
        losses = objective(self.photos())
        assert float(losses["loss"].detach()) < 1e-6
        assert float(losses["explained"]) > 0.999

    def test_the_loss_of_another_student_falls(self, cache):
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

    def test_only_cells_that_show_photo_count(self):
        values = torch.tensor([1.0, 2.0, 30.0, 40.0]).reshape(1, 1, 2, 2).expand(1, 3, 2, 2)
        cells = torch.tensor([[True, True], [False, False]]).reshape(1, 1, 2, 2)
        assert masked_mean(values, cells).item() == pytest.approx(1.5)

    def test_a_finer_grid_is_averaged_down(self):
        fine = torch.arange(16.0).reshape(1, 1, 4, 4)
        assert torch.equal(resized_to_grid(fine, 4), fine)
        assert resized_to_grid(torch.full((1, 2, 8, 8), 3.0), 4).unique().tolist() == [3.0]
        assert resized_to_grid(fine, 2).mean() == pytest.approx(float(fine.mean()))


class TestInheritance:
    def test_only_decoders_of_one_architecture_are_shared(self):
        assert shares_decoder(build_sam("tiny_vit"), build_sam("vit_b"))
        assert shares_decoder(build_sam("nano"), build_sam("nano"))
        assert not shares_decoder(build_sam("nano"), build_sam("tiny_vit"))

    def test_copying_the_decoder_changes_nothing_else(self):
        teacher, student = seeded(0), seeded(1)
        names = copy_decoder(student, teacher)
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

    def test_a_copy_of_the_teacher_has_its_masks_and_gets_no_new_points(self):
        objective = self.objective(student=0)
        losses = objective(batch(1, 2))
        assert float(losses["iou"]) == pytest.approx(1.0)
        assert float(losses["iou_loss"]) == pytest.approx(0.0, abs=1e-9)
        last = self.watch(objective, batch(1, 2))[-1][0]
        counted = (last.labels >= 0).sum(dim=1) - (last.labels == float(Label.BOX_BOTTOM_RIGHT)).sum(dim=1)
        assert counted.tolist() == [1, 1, 1]

    def test_points_fall_where_the_two_masks_differ(self):
        objective = self.objective()
        photos = batch(1, 3)
        seen = self.watch(objective, photos)
        theirs = self.watch(self.objective(student=0), photos)  # the teacher's own first masks
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

    def test_photos_without_masks_get_the_teacher_s_masks_of_random_clicks(self):
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
        assert not targets[:, 200:].any(), "rows from 200 on are padding"
        clicks = prompts.labels[:, 0] == float(Label.FOREGROUND)
        assert clicks.any()
        for row in clicks.nonzero().flatten().tolist():
            x, y = prompts.coords[row, 0].round().long().tolist()
            assert targets[row, y, x]

    def test_masks_of_random_clicks_do_not_depend_on_other_photos(self):
        objective = self.objective()
        objective.begin(replace(PHASE, masks=2))
        together = self.watch(objective, replace(batch(1, 2), masks=(self.bare(1).masks[0], batch(2).masks[0])))
        alone = self.watch(objective, self.bare(1)), self.watch(objective, batch(2))
        for whole, left, right in zip(together, *alone, strict=True):
            assert torch.equal(whole[0].coords, torch.cat([left[0].coords, right[0].coords]))

    def test_prompts_are_scaled_to_a_teacher_of_another_side(self):
        """At twice the side, coordinates are scaled and masks are resized back."""
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
        masks, _ = objective.teacher_outputs(torch.zeros(1), prompts, None, 64)
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
    def test_stages_are_chained_and_finished_ones_are_skipped(self, shards, tmp_path, capsys):
        command = arguments(tmp_path, shards, "--stages", "encoder,prompt,masks")
        assert run(command) == 0
        captured = capsys.readouterr()
        assert "teacher's prompt encoder and mask decoder" in captured.err
        assert "GB" in captured.err
        out = tmp_path / "run"
        stages = ["1-encoder", "2-prompt", "3-masks"]
        weights = [load_file(out / stage / "model.safetensors") for stage in stages]
        assert set(weights[0]) == set(build_sam("nano").state_dict())
        # The first stage does not change the teacher's decoder, the second trains it.
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
            (("--stages", "decoder"), ("'decoder'", "encoder, prompt, masks, int8")),
            (("--stages", "prompt,encoder"), ("in order",)),
            (("--stages", ""), ("no stages",)),
            (("--stages", "int8"), ("fake_quant = true in every phase",)),
            (("--student", "tiny_vit"), ("recipe is for nano",)),
            (("--teacher", "vit_x"), ("'vit_x'",)),
            (("--teacher-checkpoint", "missing.pth"), ("missing.pth",)),
            (("--resume",), ("no distillation to resume",)),
            (("--data", "nowhere"), ("no data at",)),
        ],
    )
    def test_a_wrong_option_is_named_in_one_line(self, more, says, shards, tmp_path, capsys):
        assert run(arguments(tmp_path, shards, *more)) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
        assert len(lines) == 1
        for part in says:
            assert part in lines[0]

    def test_a_folder_of_another_distillation_is_refused(self, shards, tmp_path, capsys):
        out = tmp_path / "run"
        out.mkdir()
        (out / "distillation.json").write_text(
            json.dumps({"teacher": "vit_h x", "student": "nano", "stages": ["encoder"]})
        )
        assert run(arguments(tmp_path, shards, "--resume")) == 2
        assert "was begun with teacher vit_h x" in capsys.readouterr().err
        assert run(arguments(tmp_path, shards)) == 2
        assert "--resume" in capsys.readouterr().err

    def test_a_distillation_is_resumed_only_with_the_same_recipe_and_weights(self, shards, tmp_path, capsys):
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

    def test_stage_prompt_works_on_photos_without_masks(self, tmp_path, capsys):
        folder = tmp_path / "photos" / "a.tar"
        folder.mkdir(parents=True)
        for number in range(2):
            (folder / f"{number}.jpg").write_bytes(encoded(picture(number, SIZE)))
        assert run(arguments(tmp_path, folder.parent, "--stages", "prompt")) == 0
        assert "random" in capsys.readouterr().err

    def test_stage_masks_refuses_photos_without_masks(self, tmp_path, capsys):
        folder = tmp_path / "photos"
        folder.mkdir()
        (folder / "a.tar").mkdir()
        (folder / "a.tar" / "one.jpg").write_bytes(encoded(picture(0, SIZE)))
        assert run(arguments(tmp_path, folder, "--stages", "masks")) == 2
        assert "without masks" in capsys.readouterr().err


class TestInt8:
    def arguments(self, folder: Path, shards: Path, *more: str) -> list[str]:
        command = arguments(folder, shards, "--stages", "int8", *more)
        recipe = RECIPE.replace("warm_up", "learning_rate = 1e-4\nwarm_up") + "fake_quant = true\n"
        (folder / "tiny.toml").write_text(recipe)
        return command

    def test_the_student_begins_with_the_teacher_s_weights_and_ends_on_grids(self, shards, tmp_path):
        assert run(self.arguments(tmp_path, shards)) == 0
        weights = load_file(tmp_path / "run" / "1-int8" / "model.safetensors")
        teacher = seeded(0).state_dict()
        assert set(weights) == set(teacher)
        for name, value in weights.items():
            assert float((value - teacher[name]).abs().max()) <= 0.02 * max(float(teacher[name].abs().max()), 1.0)
        assert has_qat_scales(weights["image_encoder.blocks.1.expand.weight"].flatten(1).numpy()).all()
        assert not torch.equal(weights["image_encoder.mix.bias"], teacher["image_encoder.mix.bias"])

    def test_a_stopped_run_resumes_to_the_same_weights(self, shards, tmp_path):
        recipe = TrainRecipe("nano", ("a.tar",), (replace(PHASE, steps=2, photos=2, masks=1, fake_quant=True),))
        results = []
        for name, stops in (("whole", (None,)), ("parts", (1, None))):
            for number, stop in enumerate(stops):
                job = TrainJob(shards, tmp_path / name, resume=number > 0, workers=0, stop_after=stop)
                path = Trainer(job, recipe, Int8Objective(seeded(0), 0)).run()
            results.append(load_file(path))
        assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])

    def test_noise_and_drift_are_those_of_the_embedding(self):
        student = seeded(0)
        objective = Int8Objective(student, 0)
        objective.begin(replace(PHASE, fake_quant=True))
        with torch.no_grad():
            student.image_encoder.mix.bias += 0.05
        photos = batch(1, 2)
        losses = objective(photos)
        grids = objective.on_grids.grids
        losses["loss"].backward()
        assert float(grids.gains.get_parameter("image_encoder/blocks/1/expand").grad.abs().max()) > 0
        assert float(student.mask_decoder.up_8.weight.grad.abs().max()) > 0
        with torch.no_grad(), FakeQuantGraph(grids):
            rounded = objective.encoder(photos.images)
        on_grid = copy.deepcopy(student)
        grids.round_layers(on_grid)
        plain, wanted = (EncoderGraph(each)(photos.images).detach() for each in (on_grid, seeded(0)))
        cells = torch.nn.functional.avg_pool2d(photos.valid.float()[:, None], 16) == 1
        for name, error in (("noise_db", rounded - plain), ("drift_db", plain - wanted)):
            ratio = (error.square() * cells).sum() / (wanted.square() * cells).sum()
            assert float(losses[name]) == pytest.approx(float(10 * ratio.log10()), abs=0.01)
        assert -40 < float(losses["noise_db"]) < -5
        assert 3 < float(losses["spread"]) < 100
        assert 0 < float(losses["noise_iou"]) < 1
        assert 0 < float(losses["drift_iou"]) < 1

    def test_a_student_that_has_not_moved_has_no_drift(self):
        student = seeded(0)
        round_layers(student)
        objective = Int8Objective(student, 0)
        objective.begin(replace(PHASE, fake_quant=True))
        losses = objective(batch(1))
        assert float(losses["drift_db"]) < -110
        assert float(losses["drift_iou"]) < 1e-4
        assert float(losses["noise_db"]) > -60

    def test_a_student_without_weights_is_refused(self, shards, tmp_path, capsys):
        command = self.arguments(tmp_path, shards)
        recipe = tmp_path / "tiny.toml"
        recipe.write_text(recipe.read_text().replace('"nano"', '"tiny_vit"'))
        command[command.index("--student") + 1] = "tiny_vit"
        assert run(command) == 2
        assert "give --student-checkpoint" in capsys.readouterr().err
