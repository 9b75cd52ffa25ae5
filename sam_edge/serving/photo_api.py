"""Endpoints of the server's engine: upload a photo, ask for masks.

A photo is encoded when it comes. It is named by its content and the bundle, so the same file is not encoded twice while
it is kept. Nothing of it is written to disk.
"""

from __future__ import annotations

import hashlib
from time import perf_counter
from typing import Protocol

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sam_edge_runtime.bundle.vocabulary import LONGEST_WORD
from sam_edge_runtime.errors import UsageError
from sam_edge_runtime.photo.read import decode_photo, largest_photo, read_size

from .api_error import ApiError, invalid, json_response, too_large, unknown
from .bodies import Document, read_document, read_picture
from .engine import BundleEngine, EncodedPhoto, PhotoMemory, Prompt

MOST_PROMPTS = 64  # of a request
MOST_POINTS = 1024  # of a prompt; a decoder's own capacity is checked, too
UPLOADS_AT_ONCE = 4  # each may take the memory of the largest picture
# Settings of `everything` that a page may choose, with the largest value.
_SETTINGS = {
    "points_per_side": 64,
    "pred_iou_thresh": 1,
    "stability_score_thresh": 1,
    "stability_score_offset": 1e6,
    "box_nms_thresh": 1,
    "crop_n_layers": 1,
    "min_mask_region_area": 1e9,
}
_INTEGERS = frozenset({"points_per_side", "crop_n_layers", "min_mask_region_area"})


class QueuedPhotos(Protocol):
    """Photos that lie on the server already."""

    async def content(self, key: str) -> bytes:
        """The file of a photo of the queue."""
        ...


class PhotoApi:
    """The endpoints below `api/photos`.

    Args:
        engines: by the bundle's name, the default first.
        queued: photos of the queue; None where there is none.
        memory: keeps the photos.
    """

    def __init__(
        self, engines: dict[str, BundleEngine], queued: QueuedPhotos | None, memory: PhotoMemory | None = None
    ) -> None:
        self._engines, self._queued = engines, queued
        self._memory = PhotoMemory() if memory is None else memory
        self._uploads = 0

    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/api/photos", self.encode, methods=["POST"]),
            Route("/api/photos/{id}/masks", self.masks, methods=["POST"]),
            Route("/api/photos/{id}/everything", self.everything, methods=["POST"]),
            Route("/api/photos/{id}", self.forget, methods=["DELETE"]),
        ]

    async def encode(self, request: Request) -> Response:
        """Encode the photo in the body, or one of the queue."""
        engine = self._engine(request)
        key = request.query_params.get("photo")
        if self._uploads >= UPLOADS_AT_ONCE:
            raise ApiError(503, "busy", f"{self._uploads} photos are on their way already")
        self._uploads += 1
        try:
            if key is None:
                content, name = await read_picture(request), "upload"
            elif self._queued is None:
                raise unknown("there is no queue of photos")
            else:
                content, name = await self._queued.content(key), key
            digest = await to_thread.run_sync(lambda: hashlib.sha256(content).hexdigest())
            photo_id = hashlib.sha256(f"{engine.hosted.name} {digest}".encode()).hexdigest()[:32]
            photo = self._memory.find(photo_id)
            if photo is None:
                _check_pixels(content)
                photo = await engine.run(lambda: engine.encode(decode_photo(content, name), photo_id))
                self._memory.add(photo)
        finally:
            self._uploads -= 1
        height, width = photo.frame.original_size
        return json_response(
            {
                "id": photo.id,
                "bundle": engine.hosted.name,
                "width": width,
                "height": height,
                "low_res": list(photo.frame.size.cells),
                "encode_ms": round(photo.seconds * 1000, 1),
                "engine": engine.backend.engine,
                "threads": engine.options.threads,
            },
            201,
        )

    async def masks(self, request: Request) -> Response:
        """The masks for prompts on an encoded photo."""
        photo = self._photo(request)
        document = await read_document(request)
        prompts = [_prompt(each, photo) for each in document.documents("prompts", MOST_PROMPTS)]
        multimask, low_res = document.flag("multimask", default=True), document.flag("low_res", default=False)
        start = perf_counter()
        answers = await photo.engine.run(
            lambda: photo.engine.masks(photo, prompts, multimask=multimask, low_res=low_res)
        )
        return json_response({"prompts": answers, "decode_ms": _milliseconds(start)})

    async def everything(self, request: Request) -> Response:
        """All masks of an encoded photo."""
        photo = self._photo(request)
        document = await read_document(request)
        for name in document.content:
            if name not in _SETTINGS:
                raise invalid(f"there is no setting {name!r:.60}: choose one of {', '.join(_SETTINGS)}")
        numbers = {name: document.number(name, 0, most) for name, most in _SETTINGS.items()}
        settings = {name: value for name, value in numbers.items() if value is not None}
        for name in _INTEGERS & settings.keys():
            if not settings[name].is_integer():
                raise invalid(f"{name} {settings[name]:g} is no integer")
            settings[name] = int(settings[name])
        start = perf_counter()
        found = await photo.engine.run(lambda: photo.engine.everything(photo, settings))
        return json_response({"annotations": found, "ms": _milliseconds(start)})

    async def forget(self, request: Request) -> Response:
        """Let a photo go."""
        self._memory.remove(request.path_params["id"])
        return Response(status_code=204)

    def _engine(self, request: Request) -> BundleEngine:
        name = request.query_params.get("bundle") or next(iter(self._engines), "")
        if name not in self._engines:
            raise unknown(f"no bundle called {name!r:.60} runs on this server")
        return self._engines[name]

    def _photo(self, request: Request) -> EncodedPhoto:
        photo = self._memory.find(request.path_params["id"])
        if photo is None:
            raise ApiError(404, "gone", "the server does not keep this photo any more: send it again")
        return photo


def _milliseconds(start: float) -> float:
    return round((perf_counter() - start) * 1000, 1)


def _check_pixels(content: bytes) -> None:
    """Refuse a photo with too many pixels by its header, before it waits for the engine."""
    size = read_size(content)
    if size is not None and size[0] * size[1] > largest_photo():
        raise too_large(f"the photo has {size[1]}x{size[0]} pixels, and {largest_photo():,} are allowed")


def _prompt(document: Document, photo: EncodedPhoto) -> Prompt:
    points = document.numbers("points", 3, MOST_POINTS)
    if any(point[2] not in (0, 1) for point in points):
        raise invalid("a point's label is neither 1 (inside) nor 0 (outside)")
    box = document.row("box", 4)
    mask = document.logits("mask_input", photo.frame.size.cells)
    text = document.optional_text("text", LONGEST_WORD)
    if not points and box is None and mask is None and text is None:
        raise UsageError("a prompt has neither points nor a box nor a mask_input nor a text: give one of them")
    return Prompt(
        tuple((x, y, int(label)) for x, y, label in points),
        None if box is None else (box[0], box[1], box[2], box[3]),
        mask,
        text,
    )
