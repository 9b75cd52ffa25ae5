"""A page, photos and clients for tests of the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from sam_edge.serving.access import Access
from sam_edge.serving.annotation_session import AnnotationSession
from sam_edge.serving.application import Content, create_application
from sam_edge.serving.hosted_bundle import HostedBundle, host_bundles
from sam_edge.serving.job import AnnotationJob
from sam_edge.serving.leases import Leases
from sam_edge.serving.page import Page
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.backends import BackendOptions
from tests.runtime.standin import write_onnx_bundle

TOKEN = "a-token-of-the-tests"  # noqa: S105
EVERYWHERE = "0.0.0.0"  # noqa: S104 - never listened on
ADDRESS = "http://127.0.0.1:8000"
HEIGHT, WIDTH = 40, 60


def write_page(folder: Path) -> Path:
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>page</title>")
    (folder / "assets" / "app-0a1b2c.js").write_text("export const answer = 42;")
    (folder / "assets" / "engine-9f.wasm").write_bytes(bytes(range(256)) * 4)
    (folder / "isolation-sw.js").write_text("self.addEventListener('fetch', () => {});")
    return folder


def write_photos(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def mask(x: int = 10, y: int = 5, width: int = 20, height: int = 12, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Any:
    """A rectangle as COCO's RLE."""
    pixels = np.zeros(size, np.bool_)
    pixels[y : y + height, x : x + width] = True
    return rle.encode(pixels)


def hosted(folder: Path, name: str = "bundle") -> tuple[HostedBundle, ...]:
    return host_bundles([write_onnx_bundle(folder / name).root])


def client_of(app: Any, *, token: str | None = TOKEN) -> TestClient:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return TestClient(app, base_url=ADDRESS, headers=headers, raise_server_exceptions=False)


def photo_app(folder: Path, token: str | None = TOKEN, **changes: Any) -> Any:
    """The application that opens any photo."""
    content = {
        "page": Page.open(write_page(folder / "page")),
        "bundles": hosted(folder),
        "options": BackendOptions(threads=1),
    }
    return create_application(Content(**{**content, **changes}), Access(token))


class Annotating:
    """A session of annotation, and a client with its leases."""

    def __init__(self, folder: Path, job: AnnotationJob, leases: Leases | None = None) -> None:
        self.session = AnnotationSession.open(job, leases)
        page = folder / "page"
        content = Content(
            Page.open(page if page.exists() else write_page(page)), hosted(folder), annotation=self.session
        )
        self.client = client_of(create_application(content, Access(TOKEN)))
        self._requests = 0

    def close(self) -> None:
        self.session.folder.close()

    def next(self, annotator: str = "Ada", status: int = 200, **more: Any) -> dict[str, Any]:
        return self.post("next", status, annotator=annotator, **more)

    def post(self, path: str, status: int = 200, **body: Any) -> dict[str, Any]:
        answer = self.client.post(f"/api/queue/{path}", json=body)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else {}

    def add(self, opened: dict[str, Any], segmentation: Any = None, status: int = 201, **more: Any) -> dict[str, Any]:
        """Save a mask under a lease that `next` gave."""
        body = {"segmentation": mask() if segmentation is None else segmentation, **self.under(opened), **more}
        return self.post(f"{opened['photo']['key']}/masks", status, **body)

    def under(self, opened: dict[str, Any], annotator: str = "Ada") -> dict[str, Any]:
        self._requests += 1
        return {"annotator": annotator, "lease": opened["lease"]["id"], "request": f"request-{self._requests}"}

    def masks(self, key: str) -> dict[str, Any]:
        answer = self.client.get(f"/api/queue/{key}/masks")
        assert answer.status_code == 200, answer.text
        return answer.json()
