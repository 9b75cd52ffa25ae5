"""The benchmark over SSH against a real sshd on loopback, if one can be started."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from sam_edge.devices import ssh
from sam_edge.devices.ssh import SshOptions, benchmark_ssh
from sam_edge.devices.ssh_connection import connected
from sam_edge_runtime.benchmark.machine import machine
from sam_edge_runtime.benchmark.rounds import Rounds
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.errors import BackendError, UsageError
from tests.devices.sshd import NoServerError, Server, serving

ROOT = Path(__file__).parents[2]
FEW, MANY = Rounds(3, 0, 60.0), Rounds(1_000_000, 0, 3600.0)
PATIENCE = 30.0
PROGRAM = """
import json, sys
from pathlib import Path
from sam_edge.devices.ssh import SshOptions, benchmark_ssh
from sam_edge_runtime.benchmark.rounds import Rounds
from sam_edge_runtime.bundle.bundle import Bundle
bundle, config, rest = sys.argv[1:]
options = SshOptions(config=Path(config), **json.loads(rest))
show = lambda what, done, total: print(what, flush=True)
benchmark_ssh({"b": Bundle.open(bundle)}, options, Rounds(1000000, 0, 3600.0), show=show)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = serving(tmp_path_factory.mktemp("sshd"))
    try:
        found = running.__enter__()
    except NoServerError as error:
        pytest.skip(str(error))
    yield found
    running.__exit__(None, None, None)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """Where the host's folders are made."""
    folder = tmp_path / "host's place"
    folder.mkdir()
    return folder


@pytest.fixture
def options(server: Server, there: Path) -> Callable[..., SshOptions]:
    def make(**changes) -> SshOptions:
        defaults = {"host": server.host, "python": sys.executable, "config": server.config, "folder": str(there)}
        return SshOptions(**{**defaults, **changes})

    return make


def until(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def content(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def running_in(folder: Path) -> list[str]:
    """Processes that work below a folder, which may be gone."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            place = str(path.readlink())
        except OSError:
            continue
        if place.startswith(str(folder)):
            found.append(path.parent.name)
    return found


def test_the_figures_of_the_host_are_returned(server, options, there, onnx_bundle):
    shown, logins = [], server.logins
    names = {"it's $(exit 9) `x`": onnx_bundle, "--out=é": onnx_bundle}
    document = benchmark_ssh(
        names, options(), FEW, (1, 2), provider="cpu", show=lambda *what: shown.append((*what, content(there)))
    )
    assert document["format"] == "sam-edge-benchmark"
    assert document["machine"] == machine()
    rows = [(row["name"], row["threads"], len(row["samples"]["click"])) for row in document["bundles"]]
    assert rows == [(f"{name}, {n} thread{'s' * (n > 1)}", n, 3) for name in names for n in (1, 2)]
    assert {"copying, MB", "measuring"} <= {what for what, *_ in shown}
    assert [entry[:3] for entry in shown if entry[0] == "measuring"] == [("measuring", done, 3) for done in range(3)]
    assert any(files for *_, files in shown)
    assert content(there) == []
    assert server.logins == logins + 1


def test_only_the_runtime_and_the_bundle_are_copied(options, there, onnx_bundle):
    seen = set()

    def look(what: str, _done: int, _total: int) -> None:
        if what.startswith("measuring"):
            seen.update(path.relative_to(there).parts[1:3] for path in there.rglob("*") if path.is_file())

    benchmark_ssh({"b": onnx_bundle}, options(), FEW, show=look)
    own = {parts for parts in seen if parts[0] in ("runtime", "bundles")}
    assert own == {("runtime", "sam_edge_runtime"), ("bundles", "0")}


def test_the_copied_runtime_runs_even_where_another_is_installed(options, onnx_bundle):
    with connected(options()) as connection:
        ssh._copy(connection, ssh._files([onnx_bundle], None), lambda *_: None)
        found = connection.call([sys.executable, "-c", "import sam_edge_runtime; print(sam_edge_runtime.__file__)"])
        assert found.stdout.decode().startswith(f"{connection.folder}/runtime/")
        for name in ("manifest.json", "encoder.onnx", "decoder.onnx"):
            sent = onnx_bundle.root / name
            assert connection.call(["cat", f"bundles/0/{name}"]).stdout == sent.read_bytes()


def test_a_command_gets_input_and_its_messages_arrive_line_by_line(options):
    heard: list[str] = []
    with connected(options()) as connection:
        command = ["sh", "-c", 'cat >&2; printf "\033[31mred\033[0m\n" >&2; exit 5']
        answer = connection.call(command, lambda stream: stream.write(b"one\ntwo\n"), heard.append)
    assert (answer.code, answer.stderr, heard) == (5, "", ["one", "two", "[31mred[0m"])


def test_the_photo_is_copied_and_python_may_be_relative_to_the_home_folder(options, there, onnx_bundle, tmp_path):
    photo = tmp_path / "a photo.PNG"
    Image.new("RGB", (64, 48)).save(photo)
    python = os.path.relpath(sys.executable, pwd.getpwuid(os.getuid()).pw_dir)
    document = benchmark_ssh({"b": onnx_bundle}, options(python=f"~/{python}"), FEW, photo=photo)
    assert document["photo"] == {"height": 48, "width": 64}
    assert content(there) == []


def test_the_default_folder_is_the_hosts_temporary_folder(options):
    with connected(options(folder=None)) as connection:
        folder = Path(connection.folder)
        answer = connection.call(["sh", "-c", 'echo "$TMPDIR"; exit 3'])
        assert folder.is_dir()
    assert (answer.code, answer.stdout.decode()) == (3, f"{folder}\n")
    assert not folder.exists()


# Refusals ------------------------------------------------------------------------------------------------------------


def refused(options: SshOptions, bundle: Bundle, kind: type[Exception] = BackendError, **more) -> str:
    with pytest.raises(kind) as caught:
        benchmark_ssh({"b": bundle}, options, FEW, **more)
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_an_unknown_host_key(server, options, there, onnx_bundle, tmp_path):
    config = tmp_path / "client"
    config.write_text(server.config.read_text().replace("known_hosts\n", "none\n", 1))
    said = refused(options(config=config), onnx_bundle)
    assert said.startswith(f"the host key of {server.host} is unknown: connect once with `ssh -F {config} -p ")
    assert content(there) == []


def test_a_changed_host_key(server, options, onnx_bundle, tmp_path):
    config, known = tmp_path / "client", tmp_path / "known"
    key = (server.folder / "stranger.pub").read_text()
    known.write_text(f"[127.0.0.1]:{server.port} {key}")
    config.write_text(server.config.read_text().replace(f"{server.folder}/known_hosts", str(known)))
    assert "has another host key than before" in refused(options(config=config), onnx_bundle)


def test_a_key_that_is_refused(server, options, onnx_bundle, tmp_path):
    config = tmp_path / "client"
    config.write_text(server.config.read_text().replace(f"{server.folder}/key", str(server.folder / "stranger")))
    assert "does not let this user in without a password" in refused(options(config=config), onnx_bundle)
    with connected(options(config=config, identity=server.folder / "key")):
        pass


def test_nobody_listens(options, onnx_bundle):
    said = refused(options(host="127.0.0.1:1"), onnx_bundle)
    assert said.startswith("127.0.0.1:1 refused the connection: start its SSH server")


def test_no_such_host(options, onnx_bundle):
    assert "there is no host no-such.invalid" in refused(options(host="no-such.invalid"), onnx_bundle)


def test_an_unknown_setting_of_ssh(options, onnx_bundle):
    assert "ssh refuses the options" in refused(options(settings=("NoSuch=1",)), onnx_bundle, UsageError)


def test_settings_cannot_make_ssh_prompt(options):
    settings = ("BatchMode=no", "ControlPersist=yes", "RemoteCommand=false", "ControlMaster=no", "ControlPath=none")
    with connected(options(settings=settings)) as connection:
        assert connection.call(["echo", "$HOME"]).stdout == b"$HOME\n"


def test_no_ssh_here(options, onnx_bundle):
    assert "apt install openssh-client" in refused(options(ssh="no-such-ssh"), onnx_bundle, UsageError)


def test_no_python_on_the_host(options, there, onnx_bundle):
    assert "there is no Python 'python9'" in refused(options(python="python9"), onnx_bundle)
    assert content(there) == []


def test_a_python_that_is_too_old(options, there, onnx_bundle, tmp_path):
    old = tmp_path / "old python"
    old.write_text("#!/bin/sh\necho sam-edge-version:3.9\n")
    old.chmod(0o755)
    said = refused(options(python=str(old)), onnx_bundle)
    assert "is Python 3.9, and 3.10 is the oldest supported" in said
    assert content(there) == []


def test_missing_packages(options, there, onnx_bundle, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    said = refused(options(python=str(tmp_path / "bare/bin/python")), onnx_bundle)
    assert "cannot import numpy (No module named 'numpy'), Pillow (No module named 'PIL'), onnxruntime (" in said
    assert "-m pip install numpy Pillow onnxruntime`" in said
    assert content(there) == []


def test_too_little_space(options, there, onnx_bundle, monkeypatch):
    monkeypatch.setattr(ssh, "MARGIN", 1 << 60)
    shown: list[str] = []
    assert "MB are needed" in refused(options(), onnx_bundle, show=lambda what, *_: shown.append(what))
    assert "copying, MB" not in shown
    assert content(there) == []


def test_no_folder_can_be_made(options, onnx_bundle, there):
    assert "no folder can be made on" in refused(options(folder=str(there / "none")), onnx_bundle)


def test_errors_of_the_host_are_reported(server, options, there, onnx_bundle):
    said = refused(options(), onnx_bundle, provider="no such; exit 0")
    assert said.startswith(f"{server.host}: 'b': provider 'no such; exit 0' is not in this onnxruntime")
    assert content(there) == []


def test_a_bundle_that_is_damaged_in_transit(options, there, onnx_bundle):
    (onnx_bundle.root / "decoder.onnx").write_bytes(b"0")
    assert "decoder.onnx has 1 bytes" in refused(options(), onnx_bundle)
    assert content(there) == []


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="processes are looked for in /proc")
def test_a_connection_that_is_lost(server, options, there, onnx_bundle):
    def cut(what: str, done: int, _total: int) -> None:
        if what == "measuring" and done == 1:
            for number in server.sessions():
                os.kill(number, signal.SIGKILL)

    with pytest.raises(BackendError, match="was lost: check whether the host is on"):
        benchmark_ssh({"b": onnx_bundle}, options(), MANY, show=cut)
    assert until(lambda: not content(there) and not running_in(there))


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="processes are looked for in /proc")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_nothing_is_left_when_it_is_stopped(options, there, onnx_bundle, tmp_path_factory, number, code):
    given = options()
    rest = {"host": given.host, "python": given.python, "folder": given.folder}
    command = [sys.executable, "-c", PROGRAM, str(onnx_bundle.root), str(given.config), json.dumps(rest)]
    here = tmp_path_factory.mktemp("t")  # a short path, because a socket goes into it
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'runtime'}", "TMPDIR": str(here)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        try:
            for line in process.stdout:
                if line.startswith(b"measuring"):
                    break
            else:
                pytest.fail(process.stderr.read().decode())
            assert content(there)
            assert running_in(there)
            process.send_signal(number)
            process.stdout.read()
            assert process.wait(PATIENCE) == code
        finally:
            process.kill()
    if number != signal.SIGKILL:
        assert content(there) == content(here) == []
    assert until(lambda: not content(there) and not running_in(there))


# Before connecting --------------------------------------------------------------------------------------------------


def test_arguments_are_checked_first(onnx_bundle, tmp_path):
    nowhere = SshOptions("no-such.invalid")
    with pytest.raises(UsageError, match="no bundle is given"):
        benchmark_ssh({}, nowhere, FEW)
    with pytest.raises(UsageError, match="threads 0 is not an integer from 1 to 1024"):
        benchmark_ssh({"b": onnx_bundle}, nowhere, FEW, (0,))
    with pytest.raises(UsageError, match="give numbers only"):
        benchmark_ssh({"b": onnx_bundle}, nowhere, FEW, (None, 2))
    with pytest.raises(UsageError, match="use 3 or more"):
        benchmark_ssh({"b": onnx_bundle}, nowhere, replace(FEW, repetitions=1))
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"none")
    with pytest.raises(Exception, match=r"photo\.jpg"):
        benchmark_ssh({"b": onnx_bundle}, nowhere, FEW, photo=photo)
