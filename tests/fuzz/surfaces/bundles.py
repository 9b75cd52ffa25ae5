"""Bundles, their golden tests, and Core ML packages."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np

from tests.fuzz import mutations as mutate
from tests.fuzz.surfaces.inputs import Attempt


def manifest(folder: Path) -> Attempt:
    """`manifest.json` of a bundle, and `report.json` beside it."""
    from sam_edge_runtime.bundle.bundle import Bundle, record_files
    from tests.runtime.standin import manifest as standin

    root = folder / "bundle"
    root.mkdir()
    for name in ("encoder.onnx", "decoder.onnx", "golden.npz"):
        (root / name).write_bytes(name.encode())
    (root / "report.json").write_text('{"passed": true, "figures": {"mask_miou": 1.0}, "graphs": {}}', "utf-8")
    valid = json.loads(standin(prompts=1, points=10, files=record_files(root)).to_json())
    report = json.loads((root / "report.json").read_text("utf-8"))

    def attempt(rng: np.random.Generator) -> None:
        (root / "manifest.json").write_bytes(mutate.json_text(rng, valid))
        if rng.integers(4) == 0:
            (root / "report.json").write_bytes(mutate.json_text(rng, report))
        bundle = Bundle.open(root, check_hashes=False)
        bundle.report()
        assert bundle.manifest.encoder_contract.input_names
        assert bundle.manifest.decoder_contract.input_names

    return attempt


def golden(folder: Path) -> Attempt:
    """Members of `golden.npz`."""
    from sam_edge_runtime.agreement import golden as golden_test
    from tests.runtime.standin import NumpyBackend
    from tests.runtime.standin import manifest as standin

    about = standin(prompts=1, points=10)
    path = folder / "golden.npz"
    golden_test.record(NumpyBackend(), about).save(path)
    with np.load(path, allow_pickle=False) as stored:
        valid = {name: stored[name] for name in stored.files}
    whole = path.read_bytes()

    def attempt(rng: np.random.Generator) -> None:
        match rng.integers(4):
            case 0:
                path.write_bytes(mutate.content(rng, whole))
            case 1:  # members that are no arrays, compressed otherwise, with a header that lies
                kind = int(rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]))
                victim = list(valid)[rng.integers(len(valid))]
                with zipfile.ZipFile(path, "w", kind) as archive:
                    for name, array in valid.items():
                        file = io.BytesIO()
                        np.save(file, array)
                        data = file.getvalue()
                        archive.writestr(f"{name}.npy", mutate.content(rng, data) if name == victim else data)
            case _:
                changed = dict(valid)
                name = list(valid)[rng.integers(len(valid))]
                value = mutate.array(rng, valid[name])
                try:
                    np.savez(path, **{**changed, name: value})
                except Exception:  # noqa: BLE001 - numpy cannot write it, so nobody reads it
                    return
        golden_test.Golden.load(path, about)

    return attempt


def package(folder: Path) -> Attempt:
    """A Core ML package, read and computed by the evaluator."""
    import shutil

    from sam_edge_runtime.mil import Program, read_package
    from tests.fuzz.packages import small_package

    root = small_package(folder / "small.mlpackage")
    work = folder / "work.mlpackage"
    files = [path.relative_to(root) for path in sorted(root.rglob("*")) if path.is_file()]
    inputs = {"x": np.linspace(-1, 1, 48, dtype=np.float32).reshape(1, 3, 4, 4)}

    def attempt(rng: np.random.Generator) -> None:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(root, work)
        name = files[rng.integers(len(files))]
        data = (work / name).read_bytes()
        changed = mutate.json_text(rng, json.loads(data)) if name.suffix == ".json" else mutate.content(rng, data)
        (work / name).write_bytes(changed)
        Program(read_package(work)).run(inputs)

    return attempt
