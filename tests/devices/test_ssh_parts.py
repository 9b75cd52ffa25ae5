"""Parts of the benchmark over SSH: addresses, messages, and the resulting document, without a connection."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sam_edge.devices.ssh import _facts, checked_document, host_failure
from sam_edge.devices.ssh_connection import refusal
from sam_edge.devices.ssh_options import Address, SshOptions
from sam_edge.devices.ssh_requirements import requirements, why_missing
from sam_edge_runtime.benchmark.host import Contestant, contestants
from sam_edge_runtime.errors import BackendError, UsageError
from tests.runtime.standin import bundle_without_files


@pytest.mark.parametrize(
    ("text", "address", "arguments"),
    [
        ("pi", Address("pi"), ["pi"]),
        ("pi@board_1.local:2222", Address("board_1.local", "pi", 2222), ["-p", "2222", "-l", "pi", "board_1.local"]),
        ("DOM\\me@there@10.0.0.7", Address("10.0.0.7", "DOM\\me@there"), ["-l", "DOM\\me@there", "10.0.0.7"]),
        ("fe80::1%eth0", Address("fe80::1%eth0"), ["fe80::1%eth0"]),
        ("pi@[::1]:22", Address("::1", "pi", 22), ["-p", "22", "-l", "pi", "::1"]),
        ("[::1]", Address("::1"), ["::1"]),
    ],
)
def test_addresses(text, address, arguments):
    assert Address.parse(text) == address
    assert Address.parse(text).arguments == arguments


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "pi@",
        "@host",
        "-oProxyCommand=x",
        "-l@host",
        "a b",
        "a;b",
        "$(x)",
        "h\n",
        "[::1",
        "[::1]22",
        "u'@h",
        ":22",
    ],
)
def test_bad_addresses_are_refused(text):
    with pytest.raises(UsageError, match=r"is not an address: write \[USER@\]HOST\[:PORT\]"):
        Address.parse(text)


@pytest.mark.parametrize("port", ["", "0", "65536", "1e3", "-1", "22 ", "²", "9" * 5000])
def test_bad_ports_are_refused(port):
    with pytest.raises(UsageError, match="from 1 to 65535"):
        Address.parse(f"host:{port}")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"python": ""}, "is not a Python interpreter"),
        ({"python": "-c"}, "is not a Python interpreter"),
        ({"python": "a\nb"}, "is not a Python interpreter"),
        ({"identity": Path("no/key")}, "key no/key does not exist"),
        ({"config": Path("no/config")}, "configuration no/config does not exist"),
        ({"settings": ("ProxyJump",)}, "write NAME=VALUE"),
        ({"settings": ("-v=1",)}, "write NAME=VALUE"),
        ({"folder": "tmp"}, "is not an absolute path"),
        ({"connect_timeout": 0}, "give 1 or more"),
    ],
)
def test_bad_options_are_refused(changes, said):
    with pytest.raises(UsageError, match=said):
        SshOptions("host", **changes)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("ssh: connect to host 10.0.0.7 port 22: Connection timed out", "cannot be reached (ssh: connect to host"),
        ("ssh: connect to host 10.0.0.7 port 22: No route to host", "check whether it is on and in the same network"),
        ("ssh: Could not resolve hostname board: Name or service not known", "there is no host board:"),
        ("Connection closed by 10.0.0.7 port 22", "ended the connection before logging in"),
        ("kex_exchange_identification: read: Connection reset by peer", "ended the connection before logging in"),
        ("pi@board: Permission denied (publickey,password).", "`ssh-copy-id`"),
        ("Received disconnect from 10.0.0.7: Too many authentication failures", "`ssh-copy-id`"),
        (
            "@ WARNING: UNPROTECTED PRIVATE KEY FILE! @\nPermissions 0644 for 'k' are too open.\npi@board: Permission "
            "denied (publickey).",
            "(Permissions 0644 for 'k' are too open.): chmod 600 it",
        ),
        ("mktemp: failed to create directory via template '/tmp/x': No space left on device", "has no space"),
        ("mktemp: failed to create directory via template '/x/y': Permission denied", "no folder can be made"),
        ("This service allows sftp connections only.", "did not make a folder (This service allows"),
        ("", "did not make a folder (no message)"),
    ],
)
def test_messages_of_ssh_become_errors_with_a_remedy(said, meant):
    found = str(refusal(SshOptions("pi@board"), said))
    assert meant in found
    assert "\n" not in found


def test_the_command_by_hand_is_quoted(tmp_path):
    key = tmp_path / "my key"
    key.write_text("")
    assert SshOptions("pi@board:23", identity=key).by_hand == f"ssh -i '{key}' -p 23 -l pi board"


@pytest.mark.parametrize(
    ("code", "lines", "meant"),
    [
        (2, ["warning", "error: provider 'x' is unknown"], "h: provider 'x' is unknown"),
        (
            2,
            ["std::bad_alloc", "error: 'b': its process ended with exit code 1; its output is above"],
            "(std::bad_alloc)",
        ),
        (137, [], "was killed, as when memory runs out"),
        (1, ["Traceback", "OSError: [Errno 28] No space left on device"], "ran out of space"),
        (1, ["Traceback", "SystemError: odd", ""], "ended with exit code 1 (SystemError: odd)"),
        (1, [], "(no message)"),
    ],
)
def test_exit_codes_of_the_benchmark_become_errors(code, lines, meant):
    assert meant in str(host_failure("h", code, lines))


ENTRIES: list[Contestant] = contestants({"a": bundle_without_files(), "c": bundle_without_files()})
WHOLE = {
    "format": "sam-edge-benchmark",
    "version": 1,
    "machine": {"device": "Raspberry Pi 5"},
    "bundles": [{"name": "a"}],
    "not_measured": {"c": "Core ML"},
}


def test_a_valid_document_is_returned_unchanged():
    assert checked_document(json.dumps(WHOLE).encode(), "h", ENTRIES) == WHOLE


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "other"}, "sent no benchmark"),
        ({"version": 2}, "has version 2, and 1 is expected"),
        ({"machine": "none"}, "is not about these bundles"),
        ({"bundles": []}, "is not about these bundles"),
        ({"bundles": [{"name": "b"}]}, "is not about these bundles"),
        ({"bundles": [7]}, "is not about these bundles"),
        ({"not_measured": {}}, "is not about these bundles"),
    ],
)
def test_a_wrong_document_is_refused(changes, said):
    with pytest.raises(BackendError, match=said):
        checked_document(json.dumps({**WHOLE, **changes}).encode(), "h", ENTRIES)


@pytest.mark.parametrize("text", [b"", b"\xff", b"[]", b"[" * 100_000])
def test_a_malformed_document_is_refused(text):
    with pytest.raises(BackendError, match="sent no benchmark"):
        checked_document(text, "h", ENTRIES)


def test_the_report_of_a_host_is_checked():
    assert _facts('{"missing": {"numpy": "no\\u001b[2J"}, "free": 5}', "h") == ({"numpy": "no[2J"}, 5)
    for text in ("", "[]", '{"missing": [], "free": 5}', '{"missing": {}}', '{"missing": {}, "free": "x"}'):
        with pytest.raises(BackendError, match="h did not report its packages"):
            _facts(text, "h")


def test_requirements_of_a_host():
    assert list(requirements(["onnx"], "linux")) == ["numpy", "Pillow", "onnxruntime"]
    assert list(requirements(["coreml"], "linux")) == ["numpy", "Pillow"]
    assert list(requirements(["coreml", "tflite"], "darwin")) == ["numpy", "Pillow", "coremltools", "ai-edge-litert"]


def test_a_package_that_fails_to_import_is_missing(tmp_path, monkeypatch):
    (tmp_path / "brokenlib.py").write_text("raise OSError('libx.so.0: not there\\nmore')")
    monkeypatch.syspath_prepend(tmp_path)
    assert why_missing(("brokenlib", "json")) is None
    assert why_missing(("brokenlib", "no_such_module")) == "libx.so.0: not there"
