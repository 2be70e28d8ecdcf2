"""Whatever order workers, clocks and people act in: no item is lost, none is answered twice, every job ends right."""

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule
from sqlmodel import col, select

from medx_core.errors import LeaseLost
from medx_core.jobs.messages import BATCH_QUEUE
from medx_core.jobs.status import UNFINISHED, ItemStatus, JobStatus
from medx_core.storage.engine import Database
from medx_core.storage.health import HealthStore
from medx_core.storage.jobs import JobStore
from medx_core.storage.leases import LeaseStore
from medx_core.storage.outbox import OutboxStore
from medx_core.storage.tables import AnswerTable, ItemTable, JobTable, OutboxTable
from tests.databases import migrated_sqlite_file
from tests.samples import answered, submission

MAX_ATTEMPTS = 2
OWNERS = st.sampled_from(["a", "b"])


class AnyOrder(RuleBasedStateMachine):
    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.folder = tempfile.TemporaryDirectory()
        file = Path(self.folder.name) / "medx.sqlite3"
        file.write_bytes(migrated_sqlite_file())
        self.database = Database(f"sqlite:///{file}")
        parts = (JobStore, LeaseStore, OutboxStore, HealthStore)
        self.jobs, self.leases, self.outbox, self.health = (
            part(self.database, clock=lambda: self.now) for part in parts
        )
        self.stored: dict[int, int] = {}

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()

    def all_ids(self) -> list[int]:
        with self.database.read() as session:
            return list(session.exec(select(ItemTable.id)))

    @rule(rows=st.integers(1, 4))
    def submit(self, rows):
        self.jobs.submit(submission(rows=rows), chunk_rows=2)

    @rule(target=held, owner=OWNERS)
    def lease(self, owner):
        taken = self.leases.lease(self.all_ids(), owner=owner, seconds=30, max_attempts=MAX_ATTEMPTS)
        return multiple(*taken)

    @rule(lease=held)
    def renew(self, lease):
        self.leases.renew([lease], seconds=30)

    @rule(lease=consumes(held))
    def finish(self, lease):
        for item_id in self.leases.finish([(lease, answered(lease))]):
            self.stored[item_id] = self.stored.get(item_id, 0) + 1

    @rule(lease=consumes(held))
    def fail(self, lease):
        try:
            self.leases.fail(lease, "No.", max_attempts=MAX_ATTEMPTS)
        except LeaseLost:
            return

    @rule(lease=consumes(held))
    def give_back(self, lease):
        self.leases.give_back([lease])

    @rule(seconds=st.sampled_from([1, 29, 31]))
    def wait(self, seconds):
        self.now += timedelta(seconds=seconds)

    @rule()
    def publish(self):
        self.outbox.mark_sent([message.id for message in self.outbox.unsent()])

    @rule()
    def reconcile(self):
        self.outbox.return_expired(max_attempts=MAX_ATTEMPTS, chunk_rows=2)
        self.outbox.resend_stale(older_than_seconds=30, queue=BATCH_QUEUE, chunk_rows=2, limit=10)

    @rule(place=st.integers(0, 3))
    def cancel(self, place):
        jobs = self.jobs.recent()
        if place < len(jobs):
            self.jobs.cancel(jobs[place].public_id)

    @rule()
    def retry(self):
        for quarantined in self.health.quarantined():
            self.health.retry_quarantined(quarantined.item.id)

    @invariant()
    def answers_stand_exactly_where_a_result_was_taken(self):
        with self.database.read() as session:
            of_items = list(session.exec(select(AnswerTable.item_id)))
            finished = session.exec(select(ItemTable.id).where(ItemTable.status == ItemStatus.ANSWERED)).all()
        assert sorted(of_items) == sorted(2 * list(self.stored))
        assert set(finished) == set(self.stored)
        assert set(self.stored.values()) <= {1}

    @invariant()
    def whatever_waits_has_a_message_or_was_sent(self):
        with self.database.read() as session:
            unsent = session.exec(select(OutboxTable).where(col(OutboxTable.sent_at).is_(None)))
            promised = {item_id for row in unsent for item_id in row.message["item_ids"]}
            waiting = session.exec(select(ItemTable).where(ItemTable.status == ItemStatus.QUEUED)).all()
        assert all(item.sent_at is not None or item.id in promised for item in waiting)

    @invariant()
    def only_what_runs_is_held(self):
        with self.database.read() as session:
            for item in session.exec(select(ItemTable)):
                assert (item.owner is not None) == (item.status == ItemStatus.RUNNING)
                assert (item.finished_at is None) == (item.status in UNFINISHED)

    @invariant()
    def a_job_is_finished_when_its_items_are(self):
        with self.database.read() as session:
            for job in session.exec(select(JobTable)):
                states = set(session.exec(select(ItemTable.status).where(ItemTable.job_id == job.id)))
                assert (job.finished_at is None) == bool(states & set(UNFINISHED))
                assert job.status != JobStatus.DONE or job.finished_at is not None


AnyOrder.TestCase.settings = settings(max_examples=15, stateful_step_count=30)
TestAnyOrder = AnyOrder.TestCase
