"""Leases: which annotator has which photo, until when. So several people share a queue and no photo is done twice.

A lease is renewed while the page is open, and runs out a while after it was closed or lost. Leases are in memory alone:
after a restart the first request of a page takes its photo again, under the id that it had.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from .api_error import ApiError

LEASE_SECONDS, HEARTBEAT_SECONDS = 120.0, 30.0
_ID_BYTES = 12


@dataclass(frozen=True)
class Lease:
    """One photo in one page.

    Attributes:
        id: the page's.
        key: of the photo.
        annotator: who works on it.
        expires: by the clock of `Leases`, in seconds.
    """

    id: str
    key: str
    annotator: str
    expires: float


class Leases:
    """All leases of a server. For the event loop only.

    Args:
        seconds: after which a lease that is not renewed runs out.
        clock: gives the time in seconds.
    """

    def __init__(self, seconds: float = LEASE_SECONDS, clock: Callable[[], float] = monotonic) -> None:
        self.seconds, self._clock = seconds, clock
        self._by_key: dict[str, Lease] = {}

    def holder(self, key: str) -> Lease | None:
        """The lease on a photo; None where nobody has it."""
        lease = self._by_key.get(key)
        return lease if lease is not None and lease.expires > self._clock() else None

    def is_free(self, key: str, lease_id: str | None = None) -> bool:
        """Whether a page can take a photo: nobody has it, or that page itself."""
        holder = self.holder(key)
        return holder is None or holder.id == lease_id

    def take(self, key: str, annotator: str, lease_id: str | None = None) -> Lease:
        """Take a photo, or renew the lease on it. A page that takes another photo gives back the one that it had.

        Args:
            key: of the photo.
            annotator: who takes it.
            lease_id: of the page; None for one that has none yet.

        Raises:
            ApiError: somebody else has the photo.
        """
        holder = self.holder(key)
        if holder is not None and holder.id != lease_id:
            raise ApiError(
                409,
                "leased",
                f"{holder.annotator} works on this photo",
                annotator=holder.annotator,
                expires_in=round(holder.expires - self._clock(), 1),
            )
        if lease_id is not None:
            self.release(lease_id)
        lease = Lease(lease_id or secrets.token_urlsafe(_ID_BYTES), key, annotator, self._clock() + self.seconds)
        self._by_key[key] = lease
        return lease

    def renew(self, key: str, annotator: str, lease_id: str) -> Lease:
        """Renew the lease on a photo, or take it again. Nothing is given back for it.

        A heartbeat that comes late names the photo before. `take` would give back the photo that the page has now.

        Raises:
            ApiError: somebody else has the photo, or the page has another one by now.
        """
        if any(lease.id == lease_id and lease.key != key for lease in self._by_key.values()):
            raise ApiError(409, "late", "this page works on another photo by now: open this one from the queue")
        return self.take(key, annotator, lease_id)

    def release(self, lease_id: str) -> None:
        """Give a photo back, if the page has one."""
        for key in [key for key, lease in self._by_key.items() if lease.id == lease_id]:
            del self._by_key[key]
