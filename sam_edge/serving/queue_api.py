"""Endpoints of the queue: what is to be done, who has what, the photos themselves, the figures."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sam_edge_runtime.errors import PhotoError
from sam_edge_runtime.photo.read import decode_photo
from sam_edge_runtime.photo.write import png_bytes

from .annotation_session import LONGEST_ANNOTATOR, LONGEST_ID, LONGEST_NAME, AnnotationSession
from .api_error import invalid, json_response
from .bodies import read_document
from .files import media_type_of
from .leases import Lease
from .statistics import statistics_of

_PAGE = 200  # photos of an answer
_LONGEST_KEY = 4 * LONGEST_NAME


class QueueApi:
    """The endpoints below `api/queue` that change no record, and `api/statistics`.

    Args:
        session: the open session.
    """

    def __init__(self, session: AnnotationSession) -> None:
        self._session = session

    def routes(self) -> list[Route]:
        """The routes."""
        photo = "/api/queue/{key}"
        return [
            Route("/api/queue", self.list_photos),
            Route("/api/queue/next", self.next_photo, methods=["POST"]),
            Route(f"{photo}/lease", self.take, methods=["POST"]),
            Route(f"{photo}/heartbeat", self.heartbeat, methods=["POST"]),
            Route(f"{photo}/release", self.release, methods=["POST"]),
            Route(f"{photo}/photo", self.photo),
            Route("/api/statistics", self.statistics),
        ]

    async def list_photos(self, request: Request) -> Response:
        """A part of the queue."""
        offset, limit = _whole(request, "offset", 0), min(_whole(request, "limit", _PAGE), _PAGE)
        photos = list(self._session.queue.photos)[offset : offset + limit]
        return json_response(
            {
                "total": len(self._session.queue.photos),
                "done": sum(figures.done for figures in list(self._session.files.figures.values())),
                "broken": len(self._session.queue.broken),
                "offset": offset,
                "photos": [self._state(key) for key in photos],
            }
        )

    async def next_photo(self, request: Request) -> Response:
        """Take the next photo that is not done and that nobody has."""
        document = await read_document(request)
        annotator, lease_id = (
            document.text("annotator", LONGEST_ANNOTATOR),
            document.optional_text("lease", LONGEST_ID),
        )
        keys = list(self._session.queue.photos)
        after = document.optional_text("after", _LONGEST_KEY)
        start = self._session.queue.photos[self._session.known(after)].number + 1 if after is not None else 0
        if lease_id is not None:
            self._session.leases.release(lease_id)
        for key in (*keys[start:], *keys[:start]):
            if self._session.is_done(key) or key in self._session.queue.broken or not self._session.leases.is_free(key):
                continue
            lease = self._session.leases.take(
                key, annotator, lease_id
            )  # before the photo is looked at, or two might take it
            try:
                return json_response(await self._opened(lease))
            except PhotoError:  # the next one, then
                self._session.leases.release(lease.id)
        left = self._session.left()
        return json_response({"photo": None, "lease": None, "left": left, "reason": "leased" if left else "done"})

    async def take(self, request: Request) -> Response:
        """Take a photo."""
        key, document = self._session.key_of(request), await read_document(request)
        annotator = document.text("annotator", LONGEST_ANNOTATOR)
        lease = self._session.leases.take(key, annotator, document.optional_text("lease", LONGEST_ID))
        try:
            return json_response(await self._opened(lease))
        except PhotoError:
            self._session.leases.release(lease.id)
            raise

    async def heartbeat(self, request: Request) -> Response:
        """Renew the lease on a photo."""
        key, document = self._session.key_of(request), await read_document(request)
        annotator = document.text("annotator", LONGEST_ANNOTATOR)
        lease = self._session.leases.renew(key, annotator, document.text("lease", LONGEST_ID))
        return json_response({"lease": {"id": lease.id, "seconds": self._session.leases.seconds}})

    async def release(self, request: Request) -> Response:
        """Give a photo back."""
        self._session.key_of(request)
        document = await read_document(request)
        self._session.leases.release(document.text("lease", LONGEST_ID))
        return Response(status_code=204)

    async def photo(self, request: Request) -> Response:
        """The photo's file, or a PNG of it."""
        key = self._session.key_of(request)
        path = self._session.queue.photos[key].path
        content = await self._session.content(key)
        kind = media_type_of(path.name)
        if request.query_params.get("form") == "upright" or not kind.startswith("image/"):
            content = await to_thread.run_sync(lambda: png_bytes(decode_photo(content, key)))
            kind = "image/png"
        return Response(content, media_type=kind)

    async def statistics(self, request: Request) -> Response:
        """The figures of the session."""
        figures = list(self._session.files.figures.values())
        return json_response(statistics_of(figures, len(self._session.queue.photos), len(self._session.queue.broken)))

    async def _opened(self, lease: Lease) -> dict[str, Any]:
        photo = self._session.queue.photos[lease.key]
        height, width = await to_thread.run_sync(self._session.queue.size, lease.key)
        return {
            "photo": {
                "key": photo.key,
                "file_name": photo.file_name,
                "width": width,
                "height": height,
                "number": photo.number,
                "url": f"api/queue/{quote(photo.key, safe='')}/photo",
            },
            "lease": {"id": lease.id, "seconds": self._session.leases.seconds},
            "left": self._session.left(),
        }

    def _state(self, key: str) -> dict[str, Any]:
        figures, holder = self._session.files.figures.get(key), self._session.leases.holder(key)
        if key in self._session.queue.broken:
            state = "broken"
        elif holder is not None:
            state = "leased"
        elif figures is None:
            state = "open"
        else:
            state = "done" if figures.done else "started"
        described = {
            "key": key,
            "file_name": self._session.queue.photos[key].file_name,
            "state": state,
            "masks": 0 if figures is None else len(figures.masks),
            "annotator": None if holder is None else holder.annotator,
        }
        return described | ({"reason": self._session.queue.broken[key]} if state == "broken" else {})


def _whole(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise invalid(f"{name} {text!r:.40} is no number from 0 on")
    return int(text)
