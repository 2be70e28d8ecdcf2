"""Carries committed work to the broker, and repairs what got lost on the way.

Every worker runs this loop; a lease in the database lets one of them act. Nothing here is scheduled through the
broker, so the loop outlives it: what cannot be sent waits in the outbox.
"""

import logging
import threading
from time import monotonic

import redis
from celery import Celery
from kombu.exceptions import KombuError

from medx_core.errors import MedxError
from medx_core.jobs.messages import EVALUATION_QUEUE, PRIORITY_OF, redis_client_url
from medx_core.settings import Settings
from medx_core.storage.engine import Database
from medx_core.storage.leases import LeaderStore
from medx_core.storage.outbox import OutboxMessage, OutboxStore
from medx_core.storage.runs import RunStore

log = logging.getLogger(__name__)

DUTY = "publisher"
LEAD_SECONDS = 6.0
MESSAGES_AT_ONCE = 50
RESEND_ITEMS_AT_ONCE = 10_000
# This key is in the broker for as long as the broker remembers what it was sent.
MEMORY_MARK = "medx:broker-remembers"
BROKER_FAULTS = (redis.RedisError, KombuError, OSError)


class Publisher:
    """Sends the outbox and reconciles, on a thread of its own, while this process leads."""

    def __init__(self, app: Celery, database: Database, settings: Settings, *, owner: str) -> None:
        self._app = app
        self._outbox = OutboxStore(database)
        self._runs = RunStore(database)
        self._leaders = LeaderStore(database)
        self._settings = settings
        self._owner = owner
        self._broker = redis.Redis.from_url(
            redis_client_url(settings.redis_url), socket_connect_timeout=2, socket_timeout=5
        )
        self._leads_until = 0.0
        self._reconciled = -settings.reconcile_every_seconds
        self._fault = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    def start(self) -> None:
        """Begin the loop."""
        self._thread.start()

    def stop(self) -> None:
        """End the loop and let another process lead."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        try:
            self._leaders.release(DUTY, self._owner)
        except MedxError as error:
            log.warning("the publisher's lease runs out by itself: %s", error)
        self._broker.close()

    def publish(self) -> int:
        """Send what waits in the outbox, interactive questions first and evaluations last; return how many messages went out."""
        messages = self._outbox.unsent(MESSAGES_AT_ONCE)
        sent: list[int] = []
        try:
            with self._app.producer_or_acquire() as producer:
                for message in messages:
                    self._send(message, producer)
                    sent.append(message.id)
        finally:
            if sent:
                self._outbox.mark_sent(sent)
        return len(sent)

    def reconcile(self) -> None:
        """Take back what dead workers held, and send again what the broker forgot."""
        settings = self._settings
        returned = self._outbox.return_expired(
            max_attempts=settings.max_attempts, chunk_rows=settings.chunk_rows
        )
        if returned:
            log.warning("%d items had lost their worker; they are queued again or set aside", returned)
        if left := self._runs.return_expired(max_attempts=settings.max_attempts):
            log.warning("%d evaluations had lost their process; they are queued again or have failed", left)
        forgot = self._broker.set(MEMORY_MARK, "1", nx=True) is not None
        for queue in PRIORITY_OF:
            if forgot or not self._broker.llen(queue):
                # An evaluation's message is in hand for seconds before the run is leased: a process starts in between.
                is_slow = queue == EVALUATION_QUEUE
                seconds = settings.lease_seconds if is_slow else settings.resend_after_seconds
                self._resend(queue, 0.0 if forgot else seconds)
        self._outbox.forget_sent()

    def _resend(self, queue: str, older_than_seconds: float) -> None:
        if queue == EVALUATION_QUEUE:
            count = self._runs.resend_stale(older_than_seconds=older_than_seconds)
        else:
            count = self._outbox.resend_stale(
                older_than_seconds=older_than_seconds,
                queue=queue,
                chunk_rows=self._settings.chunk_rows,
                limit=RESEND_ITEMS_AT_ONCE,
            )
        if count:
            log.warning("the broker lost %d entries of the queue %s; they are sent again", count, queue)

    def _send(self, message: OutboxMessage, producer: object) -> None:
        self._app.send_task(
            message.request.task,
            kwargs={"request": message.request.model_dump(mode="json")},
            queue=message.queue,
            producer=producer,
            retry=False,
        )

    def _run(self) -> None:
        while not self._stopped.wait(self._settings.publish_every_seconds):
            try:
                if not self._leads():
                    self._stopped.wait(LEAD_SECONDS / 6)
                    continue
                # Reconciling goes first: a broker that forgot everything is noticed before it is sent anything new.
                if monotonic() - self._reconciled >= self._settings.reconcile_every_seconds:
                    self.reconcile()
                    self._reconciled = monotonic()
                while self.publish() == MESSAGES_AT_ONCE and not self._stopped.is_set():
                    self._leads()
                self._recovered()
            except (MedxError, *BROKER_FAULTS) as error:
                self._note(error)
                self._stopped.wait(1.0)

    def _leads(self) -> bool:
        """Whether this process leads; the lease is prolonged well before it ends."""
        if monotonic() > self._leads_until - LEAD_SECONDS / 2:
            began = monotonic()
            held = self._leaders.hold(DUTY, self._owner, LEAD_SECONDS)
            self._leads_until = began + LEAD_SECONDS if held else 0.0
        return monotonic() < self._leads_until

    def _note(self, error: Exception) -> None:
        fault = f"{type(error).__name__}: {error}"
        if fault != self._fault:
            log.warning("publishing waits, the outbox keeps everything (%s)", fault)
        self._fault = fault

    def _recovered(self) -> None:
        if self._fault:
            log.info("publishing goes on")
        self._fault = ""
