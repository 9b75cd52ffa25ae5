"""All that a server answers, as one ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

import sam_edge
from sam_edge_runtime.backends import BackendOptions
from sam_edge_runtime.errors import SamEdgeError
from sam_edge_runtime.photo.read import largest_photo
from sam_edge_runtime.system.documents import parse_json

from .access import Access
from .annotation_session import AnnotationSession
from .api_error import ApiError, as_api_error, error_response, json_response, unknown
from .bodies import LARGEST_PICTURE
from .engine import MOST_PHOTOS, BundleEngine
from .guard import Guard
from .hosted_bundle import BROWSER, SERVER, HostedBundle
from .mask_api import MaskApi
from .page import INDEX, Page
from .photo_api import MOST_PROMPTS, PhotoApi
from .queue_api import QueueApi

FORMAT, API_VERSION = "sam-edge-session", 1
SESSION_FILE = "session.json"
PHOTO_MODE, ANNOTATE_MODE = "photo", "annotate"


@dataclass(frozen=True)
class Content:
    """What a server gives out.

    Attributes:
        page: the built page.
        bundles: the first is the default.
        engine: where the page encodes at first.
        options: of the server's engines.
        annotation: the session; None for the page that opens any photo.
    """

    page: Page
    bundles: tuple[HostedBundle, ...]
    engine: str = BROWSER
    options: BackendOptions = BackendOptions()  # noqa: RUF009 - frozen
    annotation: AnnotationSession | None = None


def session_document(bundles: Sequence[dict[str, Any]], engine: str, *, server: bool) -> dict[str, Any]:
    """What the page reads first; a server adds its limits and its session."""
    return {
        "format": FORMAT,
        "api": API_VERSION,
        "version": sam_edge.__version__,
        "server": server,
        "mode": PHOTO_MODE,
        "engine": engine,
        "bundles": list(bundles),
        "limits": {
            "upload_bytes": LARGEST_PICTURE,
            "photo_pixels": largest_photo(),
            "prompts": MOST_PROMPTS,
            "photos": MOST_PHOTOS,
        },
        "annotate": None,
    }


class Site:
    """Endpoints that only read: the page, the session, the bundles."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._bundles = {hosted.name: hosted for hosted in content.bundles}

    def routes(self) -> list[Route]:
        """The routes; the page's own, which takes every path, is the last."""
        return [
            Route(f"/{SESSION_FILE}", self.session),
            Route("/bundles", self.bundles),
            Route("/bundles/{name}/{file:path}", self.bundle_file),
            Route("/{file:path}", self.page_file),
        ]

    async def session(self, _: Request) -> Response:
        """What the page reads first."""
        content = self._content
        document = session_document([each.described() for each in content.bundles], content.engine, server=True)
        if content.annotation is not None:
            document |= {"mode": ANNOTATE_MODE, "annotate": content.annotation.described()}
        return json_response(document)

    async def bundles(self, _: Request) -> Response:
        """All bundles with their manifests."""
        described = [
            {**each.described(), "manifest": parse_json(each.bundle.manifest.to_json())}
            for each in self._content.bundles
        ]
        return json_response({"bundles": described})

    async def bundle_file(self, request: Request) -> Response:
        """A file that a bundle's manifest names."""
        hosted = self._bundles.get(request.path_params["name"])
        file = None if hosted is None else hosted.files.get(request.path_params["file"])
        if file is None:
            raise unknown("there is no such file")
        return file.response(request)

    async def page_file(self, request: Request) -> Response:
        """A file of the page."""
        file = self._content.page.files.get(request.path_params["file"] or INDEX)
        if file is None:
            raise unknown("there is no such file")
        return file.response(request)


def create_application(content: Content, access: Access) -> ASGIApp:
    """The application: what it gives out, to whom."""
    engines = {
        hosted.name: BundleEngine(hosted, content.options) for hosted in content.bundles if SERVER in hosted.engines
    }
    session = content.annotation
    routes = PhotoApi(engines, session).routes()
    if session is not None:
        routes += QueueApi(session).routes() + MaskApi(session).routes()
    routes += Site(content).routes()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        for engine in engines.values():
            engine.close()
        if session is not None:
            session.folder.close()

    handlers = dict.fromkeys((ApiError, SamEdgeError, OSError, MemoryError), _refuse)
    application = Starlette(
        routes=routes, lifespan=lifespan, exception_handlers={**handlers, HTTPException: _refuse_http}
    )
    return Guard(application, access)


async def _refuse(_: Request, error: Exception) -> Response:
    return error_response(as_api_error(error))


async def _refuse_http(_: Request, error: Exception) -> Response:
    """What the framework refuses: an unknown address, another method."""
    if not isinstance(error, HTTPException):
        raise error
    code = {404: "unknown", 405: "method"}.get(error.status_code, "invalid")
    response = error_response(ApiError(error.status_code, code, str(error.detail)))
    response.headers.update(error.headers or {})
    return response
