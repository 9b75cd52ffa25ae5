"""Arguments of the Python interface and of the command line."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz import mutations as mutate
from tests.fuzz.surfaces.inputs import Attempt, saved, small_photo


def generator_arguments(folder: Path) -> Attempt:
    """Arguments of `AutomaticMaskGenerator` and its grids."""
    from dataclasses import fields

    from sam_edge_runtime.automatic.generator import AutomaticMaskGenerator
    from sam_edge_runtime.automatic.settings import AutomaticSettings
    from tests.runtime.standin import NumpyBackend
    from tests.runtime.standin import manifest as standin

    names = [field.name for field in fields(AutomaticSettings)]
    photo = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    grids: list[Any] = [[np.array([[0.5, 0.5]])], [[[0.1, 0.2]]], [np.zeros((0, 2))], [[["a", "b"]]], [None], [[[0.5]]]]
    large: list[Any] = [30_000, 100_000_000, 10**12, 2**63, 1e300]
    most_points = 4096

    def attempt(rng: np.random.Generator) -> None:
        keywords: dict[str, Any] = {"points_per_side": 2}
        for _ in range(rng.integers(1, 3)):
            name = names[rng.integers(len(names))]
            match rng.integers(4):
                case 0:
                    keywords[name] = large[rng.integers(len(large))]
                case 1 if name == "point_grids":
                    keywords |= {"point_grids": grids[rng.integers(len(grids))], "points_per_side": None}
                case _:
                    keywords[name] = mutate.values(rng)
        settings = AutomaticSettings(**keywords)
        generator = AutomaticMaskGenerator.from_backend(NumpyBackend(), standin(), settings)
        if sum(map(len, settings.grids())) <= most_points:  # 255 x 255 points are valid and take too long
            generator.generate(photo)

    return attempt


def predictor_arguments(folder: Path) -> Attempt:
    """Arguments of `SamPredictor`."""
    from sam_edge_runtime.predictor import SamPredictor
    from tests.runtime.standin import write_onnx_bundle

    predictor = SamPredictor(write_onnx_bundle(folder / "bundle"))
    photo = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    predictor.set_image(photo)
    valid = {
        "point_coords": np.array([[5.0, 6.0], [20.0, 10.0]]),
        "point_labels": np.array([1, 0]),
        "box": np.array([2.0, 3.0, 30.0, 20.0]),
        "mask_input": np.zeros((1, 64, 64), np.float32),
        "multimask_output": True,
        "return_logits": False,
    }

    def attempt(rng: np.random.Generator) -> None:
        if rng.integers(6) == 0:
            try:
                predictor.set_image(mutate.array(rng, photo))
            finally:
                predictor.set_image(photo)
            return
        keywords: dict[str, Any] = {name: value for name, value in valid.items() if rng.integers(2)}
        names = list(valid)
        name = names[rng.integers(len(names))]
        value = valid[name]
        keywords[name] = mutate.array(rng, value) if isinstance(value, np.ndarray) else mutate.values(rng)
        masks, scores, _ = predictor.predict(**keywords)
        assert masks.shape[1:] == photo.shape[:2]
        assert np.isfinite(scores).all()

    return attempt


def command_line(folder: Path) -> Attempt:
    """Arguments of commands, and names of files."""
    from sam_edge.cli.app import run
    from tests.runtime.standin import write_onnx_bundle

    bundle = folder / "bundle"
    write_onnx_bundle(bundle)
    photo = folder / "photo.jpg"
    photo.write_bytes(saved(small_photo(), "JPEG"))
    commands = {
        "predict": ([str(bundle), str(photo), "--point", "5,6", "--out", str(folder / "out"), "--overwrite"], _PREDICT),
        "segment": ([str(photo), "--bundle", str(bundle), "--points-per-side", "2"], _SEGMENT),
        "info": ([str(bundle)], ("--json",)),
    }

    def attempt(rng: np.random.Generator) -> None:
        verb = list(commands)[rng.integers(len(commands))]
        arguments, options = commands[verb]
        arguments = [verb, *arguments]
        for _ in range(rng.integers(1, 3)):
            value = str(mutate.values(rng)).replace("\x00", "")
            place = int(rng.integers(len(arguments)))
            match rng.integers(4):
                case 0:
                    arguments[place] = value
                case 1 if len(arguments) > 1:
                    del arguments[place]
                case _:
                    arguments += [options[rng.integers(len(options))], value]
        printed, complaints = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(complaints):
            code = run(arguments)
        assert code in {0, 1, 2}, f"exit code {code}"
        for line in (printed.getvalue() + complaints.getvalue()).splitlines():
            assert line.isprintable(), f"printed {line[:80]!r}"
        assert "Traceback" not in complaints.getvalue()

    return attempt


_PREDICT = ("--point", "--box", "--mask-input", "--threads", "--provider", "--json", "--multimask")
_SEGMENT = ("--threads", "--out", "--checkpoint", "--provider", "--bundle")
