"""Endpoints of a photo's masks: saved, changed, removed, finished.

Requests that write name the lease under which they do so and the annotator. The answer comes when the record is on the
disk. A request that carries an id and comes again, because the connection was lost, changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sam_edge.data.sa1b import Annotation
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.automatic.regions import bounding_box, xywh

from .annotation_files import Answer, Change
from .annotation_record import DrawnMask, PhotoRecord
from .annotation_session import LONGEST_ANNOTATOR, LONGEST_ID, LONGEST_NAME, AnnotationSession
from .api_error import invalid, json_response
from .bodies import Document, read_document

_MOST_POINTS = 1000
_DAY = 86400.0


class MaskApi:
    """The endpoints below `api/queue/KEY` that read and write its record.

    Args:
        session: the open session.
    """

    def __init__(self, session: AnnotationSession) -> None:
        self._session = session

    def routes(self) -> list[Route]:
        """The routes."""
        photo = "/api/queue/{key}"
        return [
            Route(f"{photo}/masks", self.masks),
            Route(f"{photo}/masks", self.add_mask, methods=["POST"]),
            Route(f"{photo}/masks/{{mask:int}}", self.change_mask, methods=["PATCH"]),
            Route(f"{photo}/masks/{{mask:int}}", self.remove_mask, methods=["DELETE"]),
            Route(f"{photo}/undo", self.undo, methods=["POST"]),
            Route(f"{photo}/done", self.finish, methods=["POST"]),
        ]

    async def masks(self, request: Request) -> Response:
        """All masks of a photo."""
        key = self._session.key_of(request)
        record = await to_thread.run_sync(self._session.files.read, key)
        height, width = record.size
        return json_response(
            {
                "key": key,
                "width": width,
                "height": height,
                "done": record.done,
                "seconds": round(record.seconds, 3),
                "warning": self._session.files.warnings.get(key),
                "masks": [mask.described() for mask in record.masks],
            }
        )

    async def add_mask(self, request: Request) -> Response:
        """Save a mask."""
        document = await read_document(request)
        made = datetime.now(timezone.utc).isoformat(timespec="seconds")
        annotator = document.text("annotator", LONGEST_ANNOTATOR)
        name, seconds = document.optional_text("name", LONGEST_NAME), document.number("seconds", 0, _DAY)
        request_id = document.text("request", LONGEST_ID)
        size = await to_thread.run_sync(self._session.queue.size, self._session.key_of(request))
        drawn = DrawnMask(
            0,
            _annotation(document, size),
            name=name,
            annotator=annotator,
            seconds=seconds,
            made=made,
            request=request_id,
        )

        def apply(record: PhotoRecord) -> tuple[PhotoRecord, Answer]:
            added = record.added(drawn)
            return added, _saved(added, added.masks[-1])

        def repeated(record: PhotoRecord) -> Answer:
            saved = next((mask for mask in record.masks if mask.request == request_id), None)
            return {"mask": None, "masks": len(record.masks)} if saved is None else _saved(record, saved)

        return json_response(await self._write(request, document, apply, repeated), 201)

    async def change_mask(self, request: Request) -> Response:
        """Give a mask another name or shape, or more seconds."""
        document = await read_document(request)
        number = request.path_params["mask"]
        size = await to_thread.run_sync(self._session.queue.size, self._session.key_of(request))
        shape = _annotation(document, size) if document.has("segmentation") else None
        name, seconds = document.optional_text("name", LONGEST_NAME), document.number("seconds", 0, _DAY)

        def apply(record: PhotoRecord) -> tuple[PhotoRecord, Answer]:
            mask = record.mask(number)
            if shape is not None:
                mask = replace(mask, annotation=shape)
            if document.has("name"):
                mask = replace(mask, name=name)
            if seconds is not None:
                mask = replace(mask, seconds=(mask.seconds or 0.0) + seconds)
            return record.replaced(mask), _saved(record, mask)

        return json_response(
            await self._write(request, document, apply, lambda record: _saved(record, record.mask(number)))
        )

    async def remove_mask(self, request: Request) -> Response:
        """Remove a mask."""
        document = Document(dict(request.query_params), "the address")

        def apply(record: PhotoRecord) -> tuple[PhotoRecord, Answer]:
            mask = record.mask(request.path_params["mask"])
            return record.removed(mask.number), {"masks": len(record.masks) - 1, "removed": mask.described()}

        return json_response(await self._write(request, document, apply, _nothing_removed))

    async def undo(self, request: Request) -> Response:
        """Remove the mask that a person added last."""
        document = await read_document(request)
        document.text("request", LONGEST_ID)

        def apply(record: PhotoRecord) -> tuple[PhotoRecord, Answer]:
            mask = record.last_drawn()
            if mask is None:
                return record, _nothing_removed(record)
            return record.removed(mask.number), {"masks": len(record.masks) - 1, "removed": mask.described()}

        return json_response(await self._write(request, document, apply, _nothing_removed))

    async def finish(self, request: Request) -> Response:
        """Call a photo finished and give it back; or open it again."""
        document = await read_document(request)
        done = document.flag("done", default=True)
        await self._write(request, document, lambda record: (replace(record, done=done), {}), lambda record: {})
        if done:
            self._session.leases.release(document.text("lease", LONGEST_ID))
        return json_response({"done": done, "left": self._session.left()})

    async def _write(
        self,
        request: Request,
        document: Document,
        apply: Callable[[PhotoRecord], tuple[PhotoRecord, Answer]],
        repeated: Callable[[PhotoRecord], Answer],
    ) -> Answer:
        """Carry a change out under the request's lease, and add the seconds that it reports."""
        key = self._session.key_of(request)
        annotator, lease_id = document.text("annotator", LONGEST_ANNOTATOR), document.text("lease", LONGEST_ID)
        seconds = document.number("photo_seconds", 0, _DAY) or 0.0
        self._session.leases.renew(key, annotator, lease_id)

        def timed(record: PhotoRecord) -> tuple[PhotoRecord, Answer]:
            changed, answer = apply(record)
            return replace(changed, seconds=changed.seconds + seconds), answer

        change = Change(timed, repeated, document.optional_text("request", LONGEST_ID))
        return await to_thread.run_sync(self._session.files.change, key, change)


def _nothing_removed(record: PhotoRecord) -> Answer:
    return {"masks": len(record.masks), "removed": None}


def _saved(record: PhotoRecord, mask: DrawnMask) -> Answer:
    described = mask.described()
    return {"masks": len(record.masks)} | {name: described[name] for name in ("mask", "area", "bbox", "name")}


def _annotation(document: Document, size: tuple[int, int]) -> Annotation:
    """The mask in a request, checked to be one of a photo of (H, W) `size`.

    Raises:
        ApiError: it is of another size, or empty.
        UsageError: it is no run-length encoding.
    """
    segmentation = document.content.get("segmentation")
    lengths, found = rle.checked_lengths(segmentation)
    if found != size:
        raise invalid(f"the mask is not of the photo's size {list(size)}")
    area = int(lengths[1::2].sum())
    if not area:
        raise invalid("the mask is empty")
    mask: rle.Rle = {"size": list(size), "counts": rle.compress(lengths)}
    x, y, width, height = xywh(bounding_box(lengths, size[0]))
    points = document.numbers("point_coords", 2, _MOST_POINTS)
    return Annotation(
        mask,
        area,
        (x, y, width, height),
        _score(document, "predicted_iou"),
        _score(document, "stability_score"),
        point_coords=tuple((px, py) for px, py in points),
    )


def _score(document: Document, name: str) -> float:
    value = document.number(name, -100, 100)  # a network's estimate may leave 0..1 slightly
    return 1.0 if value is None else value
