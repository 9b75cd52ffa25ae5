"""Checkpoints: the formats that load, and those that are refused in one line without changing the model."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from sam_edge.weights.checkpoint import CheckpointRecord, CheckpointSource, load_into, parse_source
from sam_edge.weights.families import guess_variant
from sam_edge.weights.seeded import seeded_array
from sam_edge.weights.state_file import read_file
from sam_edge_runtime.errors import CheckpointError, SamEdgeError, UsageError


class Encoder(torch.nn.Module):
    """The parts of an image encoder that the checks look at."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pos_embed = torch.nn.Parameter(torch.zeros(1, 2, 2, width))
        self.neck = torch.nn.Linear(width, 3)
        self.norm = torch.nn.BatchNorm1d(3)


class Model(torch.nn.Module):
    def __init__(self, width: int = 768) -> None:
        super().__init__()
        self.image_encoder = Encoder(width)


State = dict[str, torch.Tensor]


def state_of(width: int = 768) -> State:
    model = Model(width)
    load_into(model, parse_source("random:1"))
    return model.state_dict()


class Evil:
    """Pickles to a call that creates the folder `marker`."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.marker),)


def evil_zip(path: Path, marker: Path) -> None:
    torch.save({"model": state_of(), "extra": Evil(marker)}, path)


def evil_legacy(path: Path, marker: Path) -> None:
    torch.save({"model": Evil(marker)}, path, _use_new_zipfile_serialization=False)


def evil_plain_2(path: Path, marker: Path) -> None:
    path.write_bytes(pickle.dumps(Evil(marker), protocol=2))


def evil_plain_5(path: Path, marker: Path) -> None:
    path.write_bytes(pickle.dumps(Evil(marker), protocol=5))


def assert_equal(model: torch.nn.Module, state: State) -> None:
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, state[name].to(tensor.dtype), rtol=0, atol=0)


# ---- files that load ------------------------------------------------------------------------------------------------


def save_plain(state: State, path: Path) -> None:
    torch.save(state, path)


def save_nested_model(state: State, path: Path) -> None:
    torch.save({"epoch": 3, "model": state}, path)


def save_nested_state_dict(state: State, path: Path) -> None:
    torch.save({"state_dict": state}, path)


def save_legacy(state: State, path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


def save_half(state: State, path: Path) -> None:
    torch.save({name: t.half() if t.is_floating_point() else t for name, t in state.items()}, path)


def save_parameters(state: State, path: Path) -> None:
    torch.save({name: torch.nn.Parameter(t, requires_grad=False) for name, t in state.items()}, path)


@pytest.mark.parametrize(
    "save", [save_plain, save_nested_model, save_nested_state_dict, save_legacy, save_half, save_parameters]
)
def test_files_of_torch_save_load(tmp_path, save):
    path = tmp_path / "weights.pth"
    state = state_of()
    save(state, path)
    model = Model()
    record = load_into(model, parse_source(str(path)))
    assert record == CheckpointRecord("weights.pth", hashlib.sha256(path.read_bytes()).hexdigest(), is_random=False)
    assert_equal(model, {k: v.half() if save is save_half and v.is_floating_point() else v for k, v in state.items()})


def test_safetensors_load(tmp_path):
    path = tmp_path / "weights.safetensors"
    state = state_of()
    safetensors.torch.save_file(state, path)
    model = Model()
    assert load_into(model, CheckpointSource(path=path)).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert_equal(model, state)


def test_the_model_no_longer_depends_on_the_file(tmp_path):
    path = tmp_path / "weights.pth"
    state = state_of()
    torch.save(state, path)
    model = Model()
    load_into(model, parse_source(path))
    path.write_bytes(b"\0" * path.stat().st_size)
    assert_equal(model, state)


def test_random_weights_load_by_their_seed():
    model = Model()
    assert load_into(model, parse_source("random:7")) == CheckpointRecord("random:7", None, is_random=True)
    np.testing.assert_array_equal(
        model.image_encoder.neck.weight.detach().numpy(), seeded_array("image_encoder.neck.weight", (3, 768), 7)
    )


# ---- files that are refused -----------------------------------------------------------------------------------------


def missing(path: Path) -> None:
    """Write nothing."""


def folder(path: Path) -> None:
    path.mkdir()


def empty(path: Path) -> None:
    path.touch()


def truncated_zip(path: Path) -> None:
    torch.save(state_of(), path)
    path.write_bytes(path.read_bytes()[:-200])


def cut_to_a_few_bytes(path: Path) -> None:
    torch.save(state_of(), path)
    path.write_bytes(path.read_bytes()[:3])


def truncated_legacy(path: Path) -> None:
    torch.save(state_of(), path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-200])


def truncated_legacy_early(path: Path) -> None:
    torch.save(state_of(), path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:150])


def truncated_safetensors(path: Path) -> None:
    safetensors.torch.save_file(state_of(), path)
    path.write_bytes(path.read_bytes()[:-200])


def web_page(path: Path) -> None:
    path.write_text("<!DOCTYPE html><html>not found</html>\n")


def noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(3).bytes(5000))


def another_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<xml/>")


def torchscript(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"m/{name}", pickle.dumps({}, protocol=2))


def a_list(path: Path) -> None:
    torch.save([torch.zeros(2)], path)


def plain_dict_of_numbers(path: Path) -> None:
    torch.save({"accuracy": 0.5}, path)


def no_tensors(path: Path) -> None:
    torch.save({"model": {}}, path)


def number_as_name(path: Path) -> None:
    torch.save({0: torch.zeros(2)}, path)


def two_states(path: Path) -> None:
    torch.save({"model": state_of(), "state_dict": state_of()}, path)


def changed(path: Path, change: Callable[[State], object]) -> None:
    state = dict(state_of())
    change(state)
    torch.save(state, path)


NECK = "image_encoder.neck.weight"


def wrong_shape(path: Path) -> None:
    changed(path, lambda state: state.update({NECK: torch.zeros(5, 768)}))


def missing_key(path: Path) -> None:
    changed(path, lambda state: state.pop(NECK))


def unexpected_key(path: Path) -> None:
    changed(path, lambda state: state.update({"image_encoder.head.weight": torch.zeros(1)}))


def all_renamed(path: Path) -> None:
    torch.save({name.replace("image_encoder", "backbone"): tensor for name, tensor in state_of().items()}, path)


def vit_l(path: Path) -> None:
    torch.save(state_of(1024), path)


def tiny_vit(path: Path) -> None:
    torch.save({"image_encoder.patch_embed.seq.0.c.weight": torch.zeros(32, 3, 3, 3)}, path)


def not_a_number(path: Path) -> None:
    changed(path, lambda state: state[NECK].view(-1)[100].fill_(float("nan")))


def too_large_for_fp32(path: Path) -> None:
    changed(path, lambda state: state.update({NECK: torch.full((3, 768), 1e300, dtype=torch.float64)}))


def integers(path: Path) -> None:
    changed(path, lambda state: state.update({NECK: torch.ones(3, 768, dtype=torch.int8)}))


def complex_numbers(path: Path) -> None:
    changed(path, lambda state: state.update({NECK: torch.ones(3, 768, dtype=torch.complex64)}))


def sparse(path: Path) -> None:
    changed(path, lambda state: state.update({NECK: torch.eye(768)[:3].to_sparse()}))


def on_no_device(path: Path) -> None:
    changed(path, lambda state: state.update({NECK: torch.zeros(3, 768, device="meta")}))


REFUSED: list[tuple[Callable[[Path], None], str]] = [
    (missing, r"no checkpoint at .*sam-edge download vit_b.*random:0"),
    (folder, r"is a folder"),
    (empty, r"is empty"),
    (truncated_zip, r"is truncated"),
    (cut_to_a_few_bytes, r"truncated, corrupt or no file of weights"),
    (truncated_legacy, r"truncated, corrupt or no file of weights"),
    (truncated_legacy_early, r"truncated, corrupt or no file of weights"),
    (truncated_safetensors, r"truncated, corrupt or no file of weights"),
    (web_page, r"truncated, corrupt or no file of weights"),
    (noise, r"truncated, corrupt or no file of weights"),
    (another_zip, r"truncated, corrupt or no file of weights"),
    (torchscript, r"TorchScript"),
    (a_list, r"holds a list, not a state dict"),
    (plain_dict_of_numbers, r"holds no tensors, only accuracy"),
    (no_tensors, r"holds no tensors, only model"),
    (number_as_name, r"no tensor of a model that sam-edge knows: its 1 names begin with 0$"),
    (two_states, r"under both model and state_dict"),
    (wrong_shape, r"shapes: image_encoder.neck.weight is \(5, 768\) where the model has \(3, 768\)$"),
    (missing_key, r"missing image_encoder.neck.weight$"),
    (unexpected_key, r"unexpected image_encoder.head.weight$"),
    (all_renamed, r"no tensor of a model that sam-edge knows: its 8 names begin with backbone.pos_embed, "),
    (vit_l, r"\(1, 2, 2, 1024\) where the model has \(1, 2, 2, 768\).*use --model vit_l$"),
    (tiny_vit, r"missing .*unexpected .*use --model tiny_vit$"),
    (not_a_number, r"image_encoder.neck.weight holds NaN or infinite numbers"),
    (too_large_for_fp32, r"image_encoder.neck.weight holds NaN or infinite numbers"),
    (integers, r"image_encoder.neck.weight is a torch.int8 .* cannot become the model's torch.float32"),
    (complex_numbers, r"torch.complex64"),
    (sparse, r"torch.sparse_coo"),
    (on_no_device, r"on meta"),
]


@pytest.mark.parametrize(("make", "words"), REFUSED, ids=[make.__name__ for make, _ in REFUSED])
def test_bad_files_are_refused_in_one_line_and_the_model_is_unchanged(tmp_path, make, words):
    path = tmp_path / ("weights.safetensors" if make is truncated_safetensors else "weights.pth")
    make(path)
    model = Model()
    load_into(model, parse_source("random:0"))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=words) as error:
        load_into(model, parse_source(str(path)))
    assert "\n" not in str(error.value)
    assert "weights." in str(error.value)
    assert "weights_only" not in str(error.value)
    assert_equal(model, before)


@pytest.mark.parametrize("make", [evil_zip, evil_legacy, evil_plain_2, evil_plain_5])
def test_code_in_a_pickle_is_named_and_never_run(tmp_path, make):
    path, marker = tmp_path / "weights.pth", tmp_path / "was_run"
    make(path, marker)
    with pytest.raises(CheckpointError, match=r"would run code .*mkdir.*nothing was run") as error:
        load_into(Model(), parse_source(str(path)))
    assert "\n" not in str(error.value)
    assert ".safetensors" in str(error.value)
    assert not marker.exists()
    if make in (evil_plain_2, evil_plain_5):  # unpickling does run the code
        pickle.loads(path.read_bytes())
        assert marker.exists()


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_truncated_files_and_flipped_bytes_raise_nothing_but_checkpoint_errors(tmp_path, legacy):
    whole, path = tmp_path / "whole.pth", tmp_path / "weights.pth"
    torch.save({f"a{i}.weight": torch.zeros(3, 4) for i in range(4)}, whole, _use_new_zipfile_serialization=not legacy)
    content = whole.read_bytes()
    rng = np.random.default_rng(0)
    for place in range(1, len(content), max(1, len(content) // 60)):
        path.write_bytes(content[:place])
        with pytest.raises(CheckpointError) as error:
            read_file(path)
        assert str(error.value).isprintable()
        flipped = bytearray(content)
        flipped[place] ^= int(rng.integers(1, 256))
        path.write_bytes(flipped)
        with contextlib.suppress(CheckpointError):  # many bytes are padding, or part of a number
            read_file(path)


def test_hostile_names_stay_in_one_line(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(state_of() | {"image_encoder.\x1b[2J\nall is well" + "!" * 10_000: torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"unexpected image_encoder.\\x1b\[2J\\nall is well!+\.\.\.$") as error:
        load_into(Model(), parse_source(str(path)))
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400


def test_a_file_without_read_permission_is_refused(tmp_path, monkeypatch):
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(CheckpointError, match=r"cannot read .*Permission denied"):
        load_into(Model(), parse_source(str(tmp_path / "weights.pth")))


# ---- arguments of --checkpoint --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["random:abc", "random:-1", "random:", "random:1.5", "random:٣", "random: 1", "", "  "]
)
def test_malformed_arguments_are_refused(text):
    with pytest.raises(UsageError, match=r"random:0"):
        parse_source(text)


def test_arguments_become_sources(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("USERPROFILE", "/home/someone")
    assert parse_source("random:12") == CheckpointSource(seed=12)
    assert parse_source("random:12").label == "random:12"
    assert parse_source("random:12").is_random
    assert parse_source("~/w/a.pth") == CheckpointSource(path=Path("/home/someone/w/a.pth"))
    assert parse_source("w/a.pth").label == "a.pth"
    assert not parse_source("./random:0").is_random
    assert parse_source(Path("random:0")) == CheckpointSource(path=Path("random:0"))


@pytest.mark.parametrize("fields", [{}, {"seed": 1, "path": Path("a")}, {"seed": -1}])
def test_a_source_is_either_a_file_or_a_seed(fields):
    with pytest.raises(SamEdgeError):
        CheckpointSource(**fields)


def test_variants_are_recognized_by_their_weights():
    for width, variant in ((768, "vit_b"), (1024, "vit_l"), (1280, "vit_h"), (640, None)):
        assert guess_variant({"image_encoder.pos_embed": (1, 64, 64, width)}) == variant
    assert guess_variant({"image_encoder.patch_embed.seq.0.c.weight": (32, 3, 3, 3)}) == "tiny_vit"
    assert guess_variant({}) is None
