"""The server is killed at random moments: what it answered is on disk, and at most the request in hand is lost."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from http.client import HTTPException

import numpy as np
import pytest

from sam_edge_runtime.automatic import rle
from tests.runtime.standin import write_onnx_bundle

from .builders import HEIGHT, WIDTH, mask, write_page, write_photos
from .running import Running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL"),
]
KILLS = 12
LOST = (OSError, HTTPException)  # the connection of a server that was killed


def test_a_killed_server_loses_at_most_the_request_in_hand(tmp_path):
    page, bundle = write_page(tmp_path / "page"), write_onnx_bundle(tmp_path / "bundle").root
    photos, out = write_photos(tmp_path / "photos", "a.png"), tmp_path / "out"
    rng = np.random.default_rng(0)
    saved: dict[str, dict] = {}  # by request: the mask that the server said it has
    number = 0
    for kill in range(KILLS):
        server = Running(page, bundle, "--annotate", photos, "--out", out, "--port", "0")
        opened = server.post("/api/queue/a/lease", annotator="Ada", lease="Ada's page")
        under = {"annotator": "Ada", "lease": opened["lease"]["id"]}
        threading.Timer(float(rng.uniform(0, 0.4)), os.kill, (server.process.pid, signal.SIGKILL)).start()
        in_hand = None
        with suppress(LOST):
            while True:
                number += 1
                shape = mask(number % WIDTH, number // WIDTH % HEIGHT, 1, 1)
                in_hand = {"request": f"request-{number}", "segmentation": shape}
                answer = server.post("/api/queue/a/masks", **under, **in_hand)
                saved[in_hand["request"]] = {"mask": answer["mask"], "segmentation": shape}
                in_hand = None
                if number % 5 == 0:
                    in_hand = {"undo": f"undo-{number}", "of": f"request-{number}"}
                    removed = server.post("/api/queue/a/undo", **under, request=in_hand["undo"])["removed"]
                    assert removed["mask"] == saved.pop(in_hand["of"])["mask"]
                    in_hand = None
        assert server.process.wait(30) == -signal.SIGKILL
        server.close()
        if not (out / "a.json").exists():
            assert not saved
            continue
        record = json.loads((out / "a.json").read_bytes())  # whole
        found = {entry["sam_edge"]["request"]: entry for entry in record["annotations"]}
        extra, missing = found.keys() - saved.keys(), saved.keys() - found.keys()
        assert extra <= ({in_hand["request"]} if in_hand and "request" in in_hand else set())
        assert missing <= ({in_hand["of"]} if in_hand and "undo" in in_hand else set())
        for name in extra:  # carried out, and the answer was lost
            saved[name] = {"mask": found[name]["sam_edge"]["mask"], "segmentation": in_hand["segmentation"]}
        for name in missing:
            del saved[name]
        for name, each in saved.items():
            assert found[name]["segmentation"] == each["segmentation"]
            assert found[name]["sam_edge"]["mask"] == each["mask"]
            assert rle.area(found[name]["segmentation"]) == 1
        time.sleep(0.01 * kill)
    assert number > KILLS
    server = Running(page, bundle, "--annotate", photos, "--out", out, "--port", "0")
    server.post("/api/queue/a/done", annotator="Ada", lease="Ada's page", request="end")
    assert server.stop() == 0
    assert sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) == ["a.json", "a.png"]
    assert not [path for path in out.iterdir() if path.name.endswith(".partial")]
