"""A real server on loopback: its address, its rules on the wire, its end; and the command's refusals."""

from __future__ import annotations

import json
import socket
import sys
from contextlib import closing
from pathlib import Path

import pytest

from sam_edge.cli.app import run
from sam_edge.serving import page as page_module
from sam_edge.serving import server as server_module
from sam_edge.serving.server import address_of, listen
from sam_edge_runtime.errors import UsageError
from tests.runtime.standin import write_onnx_bundle

from .builders import EVERYWHERE, mask, write_page, write_photos
from .running import running

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT for one process")


def test_a_session_of_annotation_over_real_connections(tmp_path):
    page, bundle = write_page(tmp_path / "page"), write_onnx_bundle(tmp_path / "bundle").root
    photos, out = write_photos(tmp_path / "photos", "a.png", "b%2e?<i>.png"), tmp_path / "out"
    with running(page, bundle, "--annotate", photos, "--out", out, "--port", "0", "--engine", "server") as server:
        assert server.address.startswith(f"http://127.0.0.1:{server.port}/?token=")
        # The rules on the wire.
        nothing = {"Authorization": ""}
        assert server.request("GET", "/", headers=nothing)[0] == 401
        status, headers, _ = server.request("GET", f"/?token={server.token}", headers=nothing)
        assert (status, headers["location"]) == (303, "./")
        cookie = headers["set-cookie"].partition(";")[0]
        status, headers, content = server.request("GET", "/", headers={**nothing, "Cookie": cookie})
        assert (status, headers["cross-origin-embedder-policy"]) == (200, "require-corp")
        assert "server" not in headers
        assert b"page" in content
        assert server.request("GET", "/", headers={"Host": "rebound.example"})[0] == 403
        assert server.request("GET", "/session.json", headers={"Origin": "http://rebound.example"})[0] == 403
        assert server.request("POST", "/api/queue/next", {}, {**nothing, "Cookie": cookie})[0] == 403
        assert server.request("GET", "/../../etc/passwd")[0] == 404
        large = {"Content-Type": "image/png", "Content-Length": str(1 << 40)}
        assert server.request("POST", "/api/photos", b"", large)[0] == 413
        # A photo, its masks.
        session = json.loads(server.request("GET", "/session.json")[2])
        assert (session["mode"], session["engine"], session["annotate"]["photos"]) == ("annotate", "server", 2)
        photo = json.loads(server.request("POST", "/api/photos?photo=a")[2])
        found = server.post(f"/api/photos/{photo['id']}/masks", prompts=[{"points": [[20, 10, 1]]}])
        assert len(found["prompts"][0]["masks"]) == 3
        opened = server.post("/api/queue/next", annotator="Ada")
        under = {"annotator": "Ada", "lease": opened["lease"]["id"]}
        server.post("/api/queue/a/masks", **under, request="1", segmentation=mask())
        server.post("/api/queue/a/done", **under, request="2")
        odd = server.post("/api/queue/next", annotator="Ada")["photo"]
        assert server.request("GET", f"/{odd['url']}")[2] == (photos / "b%2e?<i>.png").read_bytes()
        assert server.stop() == 0
    assert json.loads((out / "a.json").read_bytes())["image"]["sam_edge"]["done"]
    assert not [path for path in out.rglob("*") if path.name.endswith(".partial")]


class TestListening:
    def test_a_taken_port_is_named_and_8000_falls_back(self):
        with closing(listen("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(UsageError, match=f"--port {port} is in use"):
                listen("127.0.0.1", port)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(server_module, "PORT", port)
                with closing(listen("127.0.0.1", None)) as other:
                    assert other.getsockname()[1] != port
                patch.setattr(server_module, "_TRIED_PORTS", 1)
                with closing(listen("127.0.0.1", None)) as other:
                    assert other.getsockname()[1] not in (0, port)

    @pytest.mark.parametrize("host", ["203.0.113.7", "no such host", "host.invalid", "ü" * 300])
    def test_another_machine_s_host_is_refused(self, host):
        with pytest.raises(UsageError, match="no address of this machine"):
            listen(host, 0)

    def test_addresses(self):
        assert address_of("127.0.0.1", 8000, "t") == "http://127.0.0.1:8000/?token=t"
        assert address_of("::1", 80, None) == "http://[::1]:80/"
        assert address_of(EVERYWHERE, 80, None) == f"http://{socket.gethostname()}:80/"


class TestCommand:
    @pytest.fixture
    def bundle(self, tmp_path, monkeypatch):
        monkeypatch.setattr(page_module, "STATIC", write_page(tmp_path / "page"))
        monkeypatch.chdir(tmp_path)
        write_photos(tmp_path / "photos", "a.png")
        return write_onnx_bundle(tmp_path / "bundle").root

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["nowhere"], ["nowhere does not exist", "sam-edge export"]),
            (["photos"], ["photos is no bundle"]),
            (["bundle", "--port", "70000"], ["--port 70000", "65535"]),
            (["bundle", "--port", "-1"], ["--port -1"]),
            (["bundle", "--host", ""], ["--host is empty"]),
            (["bundle", "--host", "203.0.113.7"], ["--host 203.0.113.7"]),
            (["bundle", "--host", EVERYWHERE, "--no-token"], ["--no-token", EVERYWHERE]),
            (["bundle", "--engine", "gpu"], ["'gpu'", "browser, server"]),
            (["bundle", "--threads", "0", "--engine", "server"], ["threads 0"]),
            (["bundle", "--out", "o"], ["--out o", "--annotate"]),
            (["bundle", "--existing", "e"], ["--existing e", "--annotate"]),
            (["bundle", "--annotate", "photos"], ["--out"]),
            (["bundle", "--annotate", "nowhere", "--out", "o"], ["nowhere", "no folder"]),
            (["bundle", "--annotate", "photos/a.png", "--out", "o"], ["a.png", "no folder"]),
            (["bundle", "--annotate", "bundle", "--out", "o"], ["bundle holds no photos"]),
            (["bundle", "--annotate", "photos", "--out", "photos"], ["photos", "choose another"]),
            (["bundle", "--annotate", "photos", "--out", "bundle"], ["'decoder.onnx'", "choose another"]),
            (["bundle", "--annotate", "photos", "--out", "o", "--existing", "nowhere"], ["--existing nowhere"]),
        ],
    )
    def test_refusals(self, bundle, capsys, arguments, says):
        assert run(["serve", *arguments, "--no-browser", *([] if "--port" in arguments else ["--port", "0"])]) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1
        assert all(words in lines[0] for words in says), lines[0]
        assert not Path("o").exists()

    def test_a_taken_port(self, bundle, capsys):
        with closing(listen("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            assert run(["serve", "bundle", "--port", port]) == 2
        assert f"--port {port} is in use" in capsys.readouterr().err

    def test_a_bad_token_of_the_environment(self, bundle, capsys, monkeypatch):
        monkeypatch.setenv("SAM_EDGE_TOKEN", "short")
        assert run(["serve", "bundle", "--port", "0"]) == 2
        assert "SAM_EDGE_TOKEN" in capsys.readouterr().err

    def test_a_page_that_is_not_built(self, bundle, capsys, monkeypatch, tmp_path):
        monkeypatch.setattr(page_module, "STATIC", tmp_path / "nowhere")
        for arguments in (["serve"], ["site", "bundle", "--out", "s"]):
            assert run(arguments) == 2
            assert "make web" in capsys.readouterr().err

    @pytest.mark.parametrize("verb", [["serve", "bundle"], ["site", "bundle", "--out", "s"]])
    def test_a_missing_package_is_named_with_its_extra(self, bundle, capsys, monkeypatch, verb):
        for name in [name for name in sys.modules if name.startswith("sam_edge.serving")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "starlette.responses", None)
        assert run(verb) == 2
        assert "starlette" in (error := capsys.readouterr().err)
        assert "pip install 'sam-edge[serve]'" in error
