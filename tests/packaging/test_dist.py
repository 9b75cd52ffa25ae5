"""What `make dist` builds: the content of both distributions, and that the wheel alone answers prompts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

import sam_edge
from benchmarks.install import InstallError, copy_sources, installed_sizes, make_environment
from sam_edge_runtime import SamPredictor, read_photo

from .test_install import NO_NETWORK

# Where each package lies in the checkout; below it a wheel has what the checkout has.
ROOTS = {
    "sam_edge": "sam_edge",
    "sam_edge_exporters": "exporters/sam_edge_exporters",
    "sam_edge_quant": "quant/sam_edge_quant",
    "sam_edge_runtime": "runtime/sam_edge_runtime",
}
# Files that a command or a type checker reads from the installed package, by what each kind is for.
DATA = {"typing": "py.typed", "pages": "*.html.j2", "recipes": "recipes/*.toml", "weights": "shipped/*.safetensors"}


def environment() -> dict[str, str]:
    """This process's, without what makes Python look into the checkout."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git takes of the checkout: a build leaves files where it runs."""
    return copy_sources(tmp_path_factory.mktemp("dist") / "source")


@pytest.fixture(scope="module")
def built(source: Path) -> tuple[Path, Path]:
    """The source distribution, and the wheel that was built from nothing but it."""
    out = source.parent / "dist"
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(), cwd=source.parent)
    assert done.returncode == 0, done.stderr
    (archive,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return archive, wheel


@pytest.fixture(scope="module")
def shipped(built: tuple[Path, Path]) -> list[str]:
    """Names of the files in the wheel."""
    with zipfile.ZipFile(built[1]) as wheel:
        return wheel.namelist()


def test_the_wheel_holds_the_packages_of_the_checkout_and_nothing_else(source, shipped):
    wanted = {
        f"{package}/{path.relative_to(source / root).as_posix()}"
        for package, root in ROOTS.items()
        for path in (source / root).rglob("*")
        if path.is_file()
    }
    found = {name for name in shipped if ".dist-info/" not in name}
    assert found == wanted


@pytest.mark.parametrize("kind", DATA)
def test_the_wheel_holds_data_of_each_kind(shipped, kind):
    assert [name for name in shipped if PurePosixPath(name).match(DATA[kind])]


def test_each_package_says_that_it_is_typed(shipped):
    assert {f"{package}/py.typed" for package in ROOTS} <= set(shipped)


def test_neither_tests_nor_benchmarks_nor_documentation_are_in_the_wheel(shipped):
    tops = {name.split("/")[0] for name in shipped}
    assert tops - set(ROOTS) == {f"sam_edge-{sam_edge.__version__}.dist-info"}
    assert not [name for name in shipped if re.search(r"(^|/)(tests?|benchmarks|docs)/|(^|/)(test_|conftest)", name)]


def test_what_the_wheel_says_of_itself(built):
    with zipfile.ZipFile(built[1]) as wheel:
        folder = f"sam_edge-{sam_edge.__version__}.dist-info"
        about = HeaderParser().parsestr(wheel.read(f"{folder}/METADATA").decode())
        entries = wheel.read(f"{folder}/entry_points.txt").decode()
        assert f"{folder}/licenses/LICENSE" in wheel.namelist()
    assert (about["Name"], about["Version"]) == ("sam-edge", sam_edge.__version__)
    assert about["License-Expression"] == "Apache-2.0"
    assert "sam-edge = sam_edge.cli:main" in entries
    always = [Requirement(text) for text in about.get_all("Requires-Dist") if "extra ==" not in text]
    assert {each.name for each in always} == {"numpy", "Pillow", "typer", "rich"}


def test_the_source_distribution_holds_what_the_build_reads(built):
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "PKG-INFO"} <= names
    assert {f"{root}/__init__.py" for root in ROOTS.values()} <= names


@pytest.fixture(scope="module")
def python(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment with the wheel and its extra `onnx`."""
    try:
        return make_environment("onnx", tmp_path_factory.mktemp("wheel") / "environment", built[1])
    except InstallError as error:
        if NO_NETWORK not in error.said:
            raise
        pytest.skip(f"pip reaches no package index here: {error}")


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of nano that the checkout exported."""
    from sam_edge.cli.app import run

    bundle = tmp_path_factory.mktemp("nano") / "nano"
    assert run(["export", "--model", "nano", "--out", str(bundle)]) == 0
    return bundle


def said(python: Path, folder: Path, *arguments: str) -> str:
    """What the installed `sam-edge` prints, in a folder that is not the checkout."""
    command = [str(python.parent / "sam-edge"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(), cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
class TestTheInstalledWheel:
    def test_brings_no_torch_and_is_what_was_built(self, python, tmp_path):
        assert not installed_sizes(python)["torch"]
        assert said(python, tmp_path, "--version").strip() == f"sam-edge {sam_edge.__version__}"
        found = json.loads(said(python, tmp_path, "doctor", "--json"))
        states = {each["name"]: each["state"] for each in found["extras"]}
        assert (states["onnx"], states["export"], states["train"]) == ("usable", "missing", "missing")
        assert found["sam_edge"] == {"version": sam_edge.__version__, "commit": None}

    def test_answers_a_prompt_with_the_mask_of_the_checkout(self, python, nano, photo, tmp_path):
        said(python, tmp_path, "predict", str(nano), str(photo), "--point", "60,40", "--out", "out")
        predictor = SamPredictor(nano)
        predictor.set_image(read_photo(photo))
        masks, _, _ = predictor.predict(np.array([[60, 40]]), np.array([1]), multimask_output=False)
        with Image.open(tmp_path / "out" / "photo_mask.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture) > 0, masks[0])
        y, x = np.mgrid[:80, :120]
        disc = np.hypot(x - 60, y - 40) < 20
        assert np.logical_and(masks[0], disc).sum() / np.logical_or(masks[0], disc).sum() > 0.9

    def test_verifies_a_bundle_by_its_golden_answers(self, python, nano, tmp_path):
        text = said(python, tmp_path, "verify", str(nano), "--out", "report")
        assert "golden.npz" in text
        assert json.loads((tmp_path / "report" / "report.json").read_text())["passed"]

    def test_finds_its_recipes_and_its_weights(self, python, tmp_path):
        program = (
            "from sam_edge.weights.catalogue import SHIPPED; import sam_edge, pathlib; "
            "print(all(each.path.is_file() for each in SHIPPED.values()), "
            "sorted(p.name for p in pathlib.Path(sam_edge.__file__).parent.rglob('*.toml')))"
        )
        done = subprocess.run([str(python), "-I", "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "True ['distill.toml', 'nano.toml']"
