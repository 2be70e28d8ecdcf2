"""Leases on items: which worker holds an item, until when, and whose result is stored.

Every lease raises the item's fence. A result is stored only from the present owner under the present fence while the
lease lives, so differing clocks may cause work to be done twice but never stored twice.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, and_, col, insert, or_, select, update

from medx_core.categories import Route
from medx_core.clock import utc_now
from medx_core.errors import LeaseLost
from medx_core.jobs.snapshots import LeasedItem
from medx_core.jobs.status import ItemStatus, JobStatus
from medx_core.questions import Answered, Mode, Question
from medx_core.storage.engine import Database
from medx_core.storage.items import (
    answer_values,
    arms_of,
    category_of,
    close_item,
    jobs_of,
    locked_items,
    requeue,
    set_route,
    settle,
    status_of,
)
from medx_core.storage.tables import AnswerTable, ItemTable, JobTable, LeaseTable


class LeaseStore:
    """The leases of one database. `owner` names a worker process and must be unique."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock

    def lease(
        self, item_ids: Iterable[int], *, owner: str, seconds: float, max_attempts: int
    ) -> tuple[LeasedItem, ...]:
        """Lease the items that wait and those whose lease ran out; leave the others alone.

        Items of a cancelled job become cancelled, items that used up their attempts are quarantined.
        """
        now = self._clock()
        taken: list[ItemTable] = []
        closed: set[int] = set()
        with self._database.write() as session:
            free = [item for item in locked_items(session, item_ids) if _is_free(item, now)]
            jobs = jobs_of(session, free)
            for item in free:
                if jobs[item.job_id].status == JobStatus.CANCELLED:
                    close_item(item, ItemStatus.CANCELLED, now=now)
                    closed.add(item.job_id)
                elif item.attempts >= max_attempts:
                    close_item(item, ItemStatus.QUARANTINED, now=now, reason=stopped(item.attempts))
                    closed.add(item.job_id)
                else:
                    _take(item, owner, now + timedelta(seconds=seconds))
                    taken.append(item)
            session.flush()
            _mark_started(session, {item.job_id for item in taken}, now)
            settle(session, closed, now=now)
            return tuple(_leased(item, jobs[item.job_id]) for item in taken)

    def tried_before(self, item_ids: Iterable[int]) -> frozenset[int]:
        """Return those of the items that could be leased now and were attempted before."""
        now = self._clock()
        free = or_(
            col(ItemTable.status) == ItemStatus.QUEUED,
            and_(
                col(ItemTable.status) == ItemStatus.RUNNING,
                or_(col(ItemTable.lease_until).is_(None), col(ItemTable.lease_until) <= now),
            ),
        )
        tried = select(ItemTable.id).where(col(ItemTable.id).in_(set(item_ids)), ItemTable.attempts > 0, free)
        with self._database.read() as session:
            return frozenset(session.exec(tried))

    def renew(self, leases: Sequence[LeasedItem], *, owner: str, seconds: float) -> frozenset[int]:
        """Renew the leases; return the ids of the items that are still held.

        A lease that ran out is renewed too, unless another worker has taken the item.
        """
        until = self._clock() + timedelta(seconds=seconds)
        with self._database.write() as session:
            held = _still_held(session, leases, owner)
            for item in held:
                item.lease_until = until
            return frozenset(item.id for item in held)

    def store_route(self, leased: LeasedItem, *, owner: str, route: Route) -> bool:
        """Store the route of an item before its answer is written; return whether the item is still held.

        The page shows the emergency line from the route, so the route is stored before any text is streamed.
        """
        now = self._clock()
        with self._database.write() as session:
            live = [item for item in _still_held(session, [leased], owner) if not _ran_out(item, now)]
            for item in live:
                set_route(item, route)
            return bool(live)

    def finish(self, leased: LeasedItem, *, owner: str, answered: Answered) -> None:
        """Store the route and the answers of one item.

        Raises:
            LeaseLost: another worker holds the item, it was closed, or the lease ran out; nothing is stored.
        """
        if not self.finish_all([(leased, answered)], owner=owner):
            raise LeaseLost(
                f"Question {leased.row} is no longer held by this worker; its result is dropped, and another worker stores its own."
            )

    def finish_all(self, results: Sequence[tuple[LeasedItem, Answered]], *, owner: str) -> frozenset[int]:
        """Store the results of a micro-batch in one transaction; return the ids of the items that were stored.

        The others were lost as described under `finish`. An item whose text was cut short becomes cancelled and keeps
        the text written so far.
        """
        now = self._clock()
        answered_by_id = {leased.id: answered for leased, answered in results}
        with self._database.write() as session:
            held = _still_held(session, [leased for leased, _ in results], owner)
            live = [item for item in held if not _ran_out(item, now)]
            rows: list[dict[str, Any]] = []
            for item in live:
                answered = answered_by_id[item.id]
                set_route(item, answered.route)
                close_item(item, status_of(answered), now=now)
                rows += [answer_values(answer, item.id, now) for answer in answered.answers]
            session.flush()
            if rows:
                session.exec(insert(AnswerTable), params=rows)
            settle(session, {item.job_id for item in live}, now=now)
            return frozenset(item.id for item in live)

    def fail(self, leased: LeasedItem, *, owner: str, reason: str, max_attempts: int) -> ItemStatus:
        """Queue the item for another attempt, or quarantine it with `reason` after the last one.

        Returns the state the item has now.

        Raises:
            LeaseLost: another worker holds the item, or it was closed; nothing changes.
        """
        now = self._clock()
        with self._database.write() as session:
            item = self._held(session, leased, owner)
            if jobs_of(session, [item])[item.job_id].status == JobStatus.CANCELLED:
                close_item(item, ItemStatus.CANCELLED, now=now)
            elif item.attempts >= max_attempts:
                close_item(item, ItemStatus.QUARANTINED, now=now, reason=reason)
            else:
                item.reason = reason
                requeue(session, [item], chunk_rows=1, now=now)
            session.flush()
            settle(session, [item.job_id], now=now)
            return ItemStatus(item.status)

    def cancel_running(self, leased: LeasedItem, *, owner: str) -> None:
        """Close an item whose job was cancelled while this worker held it.

        Raises:
            LeaseLost: another worker holds the item, or it was closed; nothing changes.
        """
        now = self._clock()
        with self._database.write() as session:
            item = self._held(session, leased, owner)
            close_item(item, ItemStatus.CANCELLED, now=now)
            session.flush()
            settle(session, [item.job_id], now=now)

    def give_back(self, leases: Sequence[LeasedItem], *, owner: str) -> None:
        """Queue untouched items again when a worker stops in good order; this does not count as an attempt."""
        now = self._clock()
        with self._database.write() as session:
            held = _still_held(session, leases, owner)
            for item in held:
                item.attempts -= 1
            requeue(session, held, chunk_rows=max(1, len(held)), now=now)

    def cancelled_jobs(self, job_ids: Iterable[str]) -> frozenset[str]:
        """Return which of the jobs (public ids) were cancelled."""
        cancelled = select(JobTable.public_id).where(
            col(JobTable.public_id).in_(set(job_ids)), JobTable.status == JobStatus.CANCELLED
        )
        with self._database.read() as session:
            return frozenset(session.exec(cancelled))

    def _held(self, session: Session, leased: LeasedItem, owner: str) -> ItemTable:
        held = _still_held(session, [leased], owner)
        if not held:
            raise LeaseLost(f"Question {leased.row} is no longer held by this worker.")
        return held[0]


def stopped(attempts: int) -> str:
    """Return the reason for quarantining an item whose workers died."""
    return f"The worker stopped {attempts} times while answering this question."


def _is_free(item: ItemTable, now: datetime) -> bool:
    return item.status == ItemStatus.QUEUED or (item.status == ItemStatus.RUNNING and _ran_out(item, now))


def _ran_out(item: ItemTable, now: datetime) -> bool:
    return item.lease_until is None or item.lease_until <= now


def _take(item: ItemTable, owner: str, until: datetime) -> None:
    item.status = ItemStatus.RUNNING
    item.owner = owner
    item.lease_until = until
    item.attempts += 1
    item.fence += 1


def _still_held(session: Session, leases: Sequence[LeasedItem], owner: str) -> list[ItemTable]:
    fences = {leased.id: leased.fence for leased in leases}
    return [
        item
        for item in locked_items(session, fences)
        if item.status == ItemStatus.RUNNING and item.owner == owner and item.fence == fences[item.id]
    ]


def _mark_started(session: Session, job_ids: set[int], now: datetime) -> None:
    if job_ids:
        session.exec(
            update(JobTable)
            .where(col(JobTable.id).in_(job_ids), col(JobTable.status) == JobStatus.QUEUED)
            .values(status=JobStatus.RUNNING, started_at=now)
        )


def _leased(item: ItemTable, job: JobTable) -> LeasedItem:
    return LeasedItem(
        id=item.id,
        job_id=job.public_id,
        fence=item.fence,
        row=item.row_number,
        question=Question(
            text=item.text,
            mode=Mode(job.mode),
            category=category_of(job.category or item.category),
            category_from_file=job.category is None and item.category is not None,
            arms=arms_of(job),
        ),
    )


class LeaderStore:
    """Named leases on duties that one process at a time may have."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock

    def hold(self, name: str, owner: str, seconds: float) -> bool:
        """Take or prolong the lease called `name`; return whether `owner` has it now."""
        now = self._clock()
        until = now + timedelta(seconds=seconds)
        try:
            with self._database.write() as session:
                row = session.exec(
                    select(LeaseTable).where(LeaseTable.name == name).with_for_update()
                ).first()
                if row is None:
                    session.add(LeaseTable(name=name, owner=owner, until=until))
                    return True
                if row.owner != owner and row.until > now:
                    return False
                row.owner = owner
                row.until = until
                return True
        except IntegrityError:
            return False  # another process took the free lease at the same moment

    def release(self, name: str, owner: str) -> None:
        """Give the lease up, if `owner` has it."""
        with self._database.write() as session:
            row = session.get(LeaseTable, name)
            if row is not None and row.owner == owner:
                session.delete(row)
