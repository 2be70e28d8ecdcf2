"""A written answer that somebody watches: its route is stored first, then its text is streamed piece by piece."""

import logging
from typing import Protocol

from medx_core.categories import Route
from medx_core.errors import MedxError
from medx_core.jobs.snapshots import LeasedItem
from medx_core.questions import Arm
from medx_core.storage.lease_store import LeaseStore

log = logging.getLogger(__name__)


class TextStreams(Protocol):
    """Where the text of an interactive answer goes while it is written. Must return at once and never fail."""

    def begin(self, item_id: int, arm: str) -> None:
        """The text is written from its beginning; what was sent before counts no more."""
        ...

    def piece(self, item_id: int, arm: str, text: str) -> None:
        """A new piece of the text."""
        ...

    def done(self, item_id: int, arm: str) -> None:
        """Nothing more comes; the database knows the rest."""
        ...


class WatchedText:
    """Hears what the engine does with one item and tells those who watch.

    The page shows the emergency line by the stored route, so no word is streamed before the route is stored. Where it
    cannot be stored (the lease was lost, the database is away) nothing is streamed, and the answer comes whole.
    """

    def __init__(self, item: LeasedItem, leases: LeaseStore, owner: str, streams: TextStreams) -> None:
        self._item, self._leases, self._owner, self._streams = item, leases, owner, streams
        self._route_is_stored = False
        for arm in item.arms:
            streams.begin(item.id, arm)

    def on_route(self, route: Route) -> None:
        """Store the route under the lease this item is held by."""
        if self._route_is_stored:
            return  # begun anew in smaller company: the same route, already stored
        try:
            self._route_is_stored = self._leases.store_route(self._item, owner=self._owner, route=route)
        except MedxError as error:
            log.warning("item %d: its route is stored with its answer only: %s", self._item.id, error)

    def on_text(self, arm: Arm, piece: str) -> None:
        """Stream one piece of the text."""
        if self._route_is_stored:
            self._streams.piece(self._item.id, arm, piece)
