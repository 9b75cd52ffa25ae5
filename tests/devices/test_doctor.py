"""What the doctor finds: packages that are there, missing, broken or crash; devices; and what it advises."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from packaging.requirements import Requirement

from sam_edge.cli.app import run
from sam_edge.devices import doctor, probes
from sam_edge.devices.doctor import (
    BROKEN,
    EXTRAS,
    INSTALLED,
    MISSING,
    NOT_HERE,
    PACKAGES,
    USABLE,
    diagnose,
    packages_of,
)
from sam_edge.devices.probes import IDENTITY_MODEL, look, probe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
ROOMS = [ROOT, ROOT / "exporters", ROOT / "quant", ROOT / "runtime"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements(extra: str) -> list[Requirement]:
    return [Requirement(text) for text in PROJECT["optional-dependencies"][extra]]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Makes a package of some source, which this process and those it starts can import."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(source: str, name: str = "sam_edge_test_package") -> str:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(source)
        return name

    return make


class TestTheTableOfExtras:
    @pytest.mark.parametrize("extra", EXTRAS)
    def test_names_what_pyproject_names(self, extra):
        wanted = requirements(extra)
        # typing-extensions is a bound on what another package brings, and nothing to look for.
        own = {each.name for each in wanted if each.name not in ("sam-edge", "typing-extensions")}
        included = set().union(*(each.extras for each in wanted if each.name == "sam-edge"))
        assert set(EXTRAS[extra].packages) == own
        assert set(EXTRAS[extra].includes) == included

    def test_leaves_out_only_those_for_development(self):
        assert set(PROJECT["optional-dependencies"]) - set(EXTRAS) == {"all", "demo", "dev", "docs"} & set(
            PROJECT["optional-dependencies"]
        )

    def test_offers_what_pip_would_install_on_this_machine(self):
        for extra in EXTRAS:
            for each in requirements(extra):
                if each.name in PACKAGES:
                    offered = each.marker is None or each.marker.evaluate({"extra": extra})
                    assert PACKAGES[each.name].offered == offered, each.name

    def test_knows_what_comes_with_an_extra(self):
        assert {"torch", "onnxruntime", "pooch", "webdataset"} <= set(packages_of("train"))
        assert packages_of("onnx") == ("onnxruntime",)

    def test_names_the_packages_of_the_base(self):
        assert {Requirement(text).name for text in PROJECT["dependencies"]} == set(doctor.BASE)


class TestAProbe:
    def test_of_a_package_that_works(self, package):
        found = probe(package("print('hello', flush=True)"), "numpy")
        assert (found.error, found.missing, found.imported) == (None, False, True)

    def test_of_a_package_that_is_not_there(self):
        assert probe("sam_edge_no_such_package", "no-such").missing
        assert look("sam_edge_no_such_package", "no-such").missing

    def test_of_a_folder_of_that_name_which_is_no_package(self, tmp_path, monkeypatch):
        """A bundle that is called `onnx` must not pass for the package."""
        (tmp_path / "sam_edge_bundle").mkdir()
        monkeypatch.syspath_prepend(tmp_path)
        assert probe("sam_edge_bundle", "sam-edge-bundle").missing

    @pytest.mark.parametrize(
        ("source", "says"),
        [
            ("raise ImportError('libcublas.so.12: cannot open\\nmore')", "ImportError: libcublas.so.12: cannot open"),
            ("import sam_edge_no_such_package", "ModuleNotFoundError: No module named 'sam_edge_no_such_package'"),
            ("def f(:", "SyntaxError: invalid syntax"),
            ("raise SystemExit('not on this processor')", "SystemExit: not on this processor"),
            ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "crashes while it is imported (SIGKILL)"),
            ("import os, sys; sys.stderr.write('no AVX\\n'); sys.stderr.flush(); os._exit(3)", "(no AVX)"),
            ("import os; os._exit(3)", "ends the process while it is imported (exit code 3)"),
        ],
    )
    def test_of_a_broken_package_gives_one_line(self, package, source, says):
        found = probe(package(source), "numpy")
        assert not found.missing
        assert found.error is not None
        assert says in found.error
        assert "\n" not in found.error

    def test_of_a_package_that_never_ends(self, package):
        found = probe(package("import time; time.sleep(60)"), "numpy", patience=2.0)
        assert found.error == "took longer than 2 seconds to import"

    def test_tells_the_version_of_whatever_carries_the_module(self):
        """`onnxruntime-gpu` carries the module of `onnxruntime`."""
        assert probe("numpy", "numpy").version == distribution("numpy").version
        assert probe("numpy", "numpy-gpu").version == f"{distribution('numpy').version} (numpy)"

    def test_a_look_imports_nothing(self, package):
        name = package("raise ImportError('broken')")
        assert look(name, "numpy") == probes.Probe(distribution("numpy").version, imported=False)


class TestExecutionProviders:
    def test_the_model_that_they_are_tried_with(self):
        tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", tensors[:1], tensors[1:])
        model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
        onnx.checker.check_model(IDENTITY_MODEL)
        assert model.SerializeToString() == IDENTITY_MODEL

    def test_the_cpu_is_usable_and_the_web_service_is_no_device(self):
        found = probe("onnxruntime", "onnxruntime")
        assert found.error is None
        assert "cpu" in found.devices
        assert not {name.lower() for name in found.devices} & {"azure", "azureexecutionprovider"}

    @pytest.mark.filterwarnings("ignore:Specified provider")
    def test_one_that_is_built_in_and_cannot_be_loaded_is_refused(self, monkeypatch):
        """As CUDA's is where its libraries are not installed: listed, and then not in the session."""
        onnxruntime = pytest.importorskip("onnxruntime")
        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            pytest.skip("this ONNX Runtime has CUDA")
        monkeypatch.setattr(
            onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
        )
        found = probes._onnxruntime("onnxruntime")
        assert found["devices"] == ["cpu"]
        assert "falls back to the CPU" in found["refused"]["cuda"]


class TestADiagnosis:
    def test_names_what_is_broken_and_how_to_mend_it(self, package, device, monkeypatch, capsys):
        """Of this environment, with a broken jinja2 in front of the one that is installed."""
        package("raise ImportError('half of it is gone')", "jinja2")
        device.set(devices="SECRET42\tdevice\nSECRET43\tunauthorized")
        found = diagnose(adb=str(device.adb))
        assert (found.sam_edge["version"], found.machine["cores"] > 0) == (PROJECT["version"], True)
        engines, extras, packages, devices = (
            {each.name: each for each in group}
            for group in (found.engines, found.extras, found.packages, found.devices)
        )
        assert engines["ONNX Runtime"].state == extras["onnx"].state == USABLE
        assert engines["ONNX Runtime"].version == distribution("onnxruntime").version
        assert "cpu" in engines["ONNX Runtime"].detail
        assert engines["torch"].state == INSTALLED
        assert extras["report"].state == extras["export"].state == extras["train"].state == BROKEN
        assert packages["jinja2"].detail == "ImportError: half of it is gone"
        assert extras["report"].remedy == "pip install --force-reinstall --no-deps jinja2"
        assert extras["report"].detail == "broken: jinja2"
        phones = devices["Android phones, by adb"]
        assert (phones.state, phones.detail) == (USABLE, "connected: device, unauthorized")

        monkeypatch.setattr(doctor, "diagnose", lambda *_, **__: found)
        assert run(["doctor"]) == 0
        text = capsys.readouterr().out
        assert "broken: jinja2" in text
        assert "ImportError: half of it is gone" in text
        assert extras["report"].remedy in text
        assert run(["doctor", "--json"]) == 0
        said = capsys.readouterr().out
        assert json.loads(said)["engines"][0]["name"] == "ONNX Runtime"
        assert "SECRET" not in said + text

    def test_without_a_phone_says_how_to_get_one(self, device):
        device.set(devices="")
        found = doctor._phones(str(device.adb))
        assert (found.state, found.detail) == (MISSING, "connected: none")
        assert "USB debugging" in found.remedy
        device.set(server_fails=True)
        assert doctor._phones(str(device.adb)).state == BROKEN
        assert "platform-tools" in doctor._phones("/no/such/adb").remedy

    def test_of_the_weights(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("SAM_EDGE_CACHE", str(tmp_path / "some" / "cache"))
        found = doctor._weights()
        assert (found["folder"], found["cached"]) == ("~/some/cache", [])
        assert found["free_bytes"] == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)

    def test_advises_the_smallest_extra(self):
        assert doctor._install("onnxruntime") == "pip install 'sam-edge[onnx]'"
        assert doctor._install("torch") == "pip install 'sam-edge[export]'"


def base_only(folder: Path) -> Path:
    """A folder that holds the packages of the base installation and what they need, and no others."""
    waiting, done = list(doctor.BASE), set()
    while waiting:
        name = waiting.pop()
        if name.lower() in done:
            continue
        done.add(name.lower())
        found = distribution(name)
        for top in {file.parts[0] for file in found.files or () if file.parts[0] != ".."}:
            link = folder / top
            if not link.exists():
                link.symlink_to(Path(str(found.locate_file(top))))
        for text in found.requires or ():
            each = Requirement(text)
            if each.marker is None or each.marker.evaluate({"extra": ""}):
                waiting.append(each.name)
    return folder


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_the_command_works_with_the_base_installation_alone(tmp_path, options):
    program = (
        f"import sys; sys.path += {[str(base_only(tmp_path)), *map(str, ROOMS)]!r}; "
        f"from sam_edge.cli.app import run; sys.exit(run(['doctor', *{options!r}]))"
    )
    command = [sys.executable, "-I", "-S", "-W", "error", "-c", program]
    environment = {"PATH": "/nowhere", "HOME": str(tmp_path), "COLUMNS": "100"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    if not options:
        assert "pip install 'sam-edge[onnx]'" in done.stdout
        assert "SAM_EDGE_CACHE" in done.stdout
        return
    found = json.loads(done.stdout)
    assert {each["state"] for each in found["packages"]} <= {MISSING, NOT_HERE}
    assert {each["state"] for each in found["base"]} == {USABLE}
    assert {each["name"]: each["state"] for each in found["extras"]}["export"] == MISSING
    assert found["sam_edge"]["version"]


def test_a_crash_is_named_by_its_signal():
    done = subprocess.CompletedProcess([], -signal.SIGSEGV, "", "")
    assert probes._how_it_ended(done) == "crashes while it is imported (SIGSEGV)"
