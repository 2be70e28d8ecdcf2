"""Leases on items: which worker holds an item, until when, and whose result is stored.

Every lease raises the item's fence. A result is stored only from the present owner under the present fence while the
lease lives, so differing clocks may cause work to be done twice but never stored twice.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from secrets import randbits
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, insert, select, update

from medx_core.categories import Route
from medx_core.errors import LeaseLost
from medx_core.jobs.snapshots import LeasedItem
from medx_core.jobs.status import ItemStatus, JobStatus
from medx_core.questions import Answered, Question
from medx_core.storage.engine import Store
from medx_core.storage.items import (
    arms_of,
    close_if_hopeless,
    exploration_of,
    jobs_of,
    locked_items,
    requeue,
    settle,
)
from medx_core.storage.tables import AnswerTable, ItemTable, JobTable, LeaseTable, new_public_id


class LeaseStore(Store):
    """The leases of one database. The owner of a lease is a worker process, whose name must be unique.

    Methods that close one item raise LeaseLost, and change nothing, where another worker holds it or it was closed.
    """

    def lease(
        self, item_ids: Iterable[int], *, owner: str, seconds: float, max_attempts: int, recipe: str = ""
    ) -> tuple[LeasedItem, ...]:
        """Lease the items that wait and those whose lease ran out; leave the others alone.

        Items of a cancelled job become cancelled, items that used up their attempts are quarantined. A job that is not bound to
        a recipe yet is bound to this one, whoever leases its other items.
        """
        now = self._clock()
        taken, closed = [], set()
        with self._database.write() as session:
            free = [item for item in locked_items(session, item_ids) if item.is_free(now)]
            jobs = jobs_of(session, free)
            for item in free:
                if close_if_hopeless(item, jobs[item.job_id], max_attempts=max_attempts, now=now):
                    closed.add(item.job_id)
                else:
                    item.take(owner, now, seconds)
                    item.attempts += 1
                    taken.append(item)
            begun = col(JobTable.id).in_({item.job_id for item in taken})
            session.exec(
                update(JobTable)
                .where(begun, col(JobTable.status) == JobStatus.QUEUED)
                .values(status=JobStatus.RUNNING, started_at=now)
            )
            settle(session, closed, now=now)
            if recipe:
                _bind(session, {item.job_id: jobs[item.job_id] for item in taken}, recipe)
            return tuple(_leased(item, jobs[item.job_id]) for item in taken)

    def tried_before(self, item_ids: Iterable[int]) -> frozenset[int]:
        """Return those of the items that could be leased now and were attempted before."""
        now = self._clock()
        tried = select(ItemTable).where(col(ItemTable.id).in_(set(item_ids)), ItemTable.attempts > 0)
        with self._database.read() as session:
            return frozenset(item.id for item in session.exec(tried) if item.is_free(now))

    def renew(self, leases: Sequence[LeasedItem], *, seconds: float) -> frozenset[int]:
        """Renew the leases; return the ids of the items that are still held.

        A lease that ran out is renewed too, unless another worker has taken the item.
        """
        until = self._clock() + timedelta(seconds=seconds)
        with self._database.write() as session:
            held = _held(session, leases)
            for item in held:
                item.lease_until = until
            return frozenset(item.id for item in held)

    def store_route(self, leased: LeasedItem, route: Route) -> bool:
        """Store the route of an item before its answer is written; return whether the item is still held.

        The page shows the emergency line from the route, so the route is stored before any text is streamed.
        """
        with self._database.write() as session:
            live = _live(session, [leased], self._clock())
            for item in live:
                _set_route(item, route)
            return bool(live)

    def finish(self, results: Sequence[tuple[LeasedItem, Answered]]) -> frozenset[int]:
        """Store the results of a micro-batch in one transaction; return the ids of the items that were stored.

        Nothing is stored for the others: another worker holds them, they were closed, or their lease ran out. An item
        whose text was cut short becomes cancelled and keeps the text written so far; one of which an arm was refused is
        quarantined, and keeps its route and the answers of its other arms. Where another recipe had to take the place
        of the one that a job was bound to, the job is bound to that from now on.
        """
        now = self._clock()
        answered_by_id = {leased.id: answered for leased, answered in results}
        with self._database.write() as session:
            live = _live(session, [leased for leased, _ in results], now)
            rows = []
            for item in live:
                answered = answered_by_id[item.id]
                _set_route(item, answered.route)
                item.close(_status_of(answered), now, answered.refusal)
                rows += _answer_rows(item, answered, now)
            rows = _without_stored(session, rows)
            if rows:
                session.exec(insert(AnswerTable), params=rows)
            _bind_anew(session, [leased for leased, _ in results], live, answered_by_id)
            settle(session, {item.job_id for item in live}, now=now)
            return frozenset(item.id for item in live)

    def fail(self, leased: LeasedItem, reason: str, *, max_attempts: int) -> ItemStatus:
        """Queue the item for another attempt, or quarantine it with `reason` after the last; return its new state."""
        now = self._clock()
        with self._database.write() as session:
            item = _still_held(session, leased)
            job = jobs_of(session, [item])[item.job_id]
            if not close_if_hopeless(item, job, max_attempts=max_attempts, now=now, reason=reason):
                item.reason = reason
                requeue(session, [item], chunk_rows=1, now=now)
            settle(session, [item.job_id], now=now)
            return item.status

    def cancel_running(self, leased: LeasedItem) -> None:
        """Close an item whose job was cancelled while this worker held it."""
        now = self._clock()
        with self._database.write() as session:
            item = _still_held(session, leased)
            item.close(ItemStatus.CANCELLED, now)
            settle(session, [item.job_id], now=now)

    def give_back(self, leases: Sequence[LeasedItem]) -> None:
        """Queue untouched items again when a worker stops in good order; this does not count as an attempt."""
        with self._database.write() as session:
            held = _held(session, leases)
            for item in held:
                item.attempts -= 1
            requeue(session, held, chunk_rows=max(1, len(held)), now=self._clock())

    def cancelled_jobs(self, job_ids: Iterable[str]) -> frozenset[str]:
        """Return which of the jobs (public ids) were cancelled."""
        cancelled = select(JobTable.public_id).where(
            col(JobTable.public_id).in_(set(job_ids)), JobTable.status == JobStatus.CANCELLED
        )
        with self._database.read() as session:
            return frozenset(session.exec(cancelled))


def _held(session: Session, leases: Sequence[LeasedItem]) -> list[ItemTable]:
    holders = {leased.id: (leased.owner, leased.fence) for leased in leases}
    return [item for item in locked_items(session, holders) if item.is_held_by(*holders[item.id])]


def _live(session: Session, leases: Sequence[LeasedItem], now: datetime) -> list[ItemTable]:
    return [item for item in _held(session, leases) if not item.has_expired(now)]


def _still_held(session: Session, leased: LeasedItem) -> ItemTable:
    held = _held(session, [leased])
    if not held:
        raise LeaseLost(f"Question {leased.row} is no longer held by this worker.")
    return held[0]


def _set_route(item: ItemTable, route: Route) -> None:
    item.route_source = route.source
    item.route_category = route.category
    item.route_probabilities = {category.value: share for category, share in route.probabilities.items()}
    item.route_red_flag = route.red_flag
    item.route_router = route.router


def _answer_rows(item: ItemTable, answered: Answered, now: datetime) -> list[dict[str, Any]]:
    return [
        answer.as_json()
        | {"public_id": new_public_id(), "item_id": item.id, "shuffle": randbits(31), "created_at": now}
        for answer in answered.answers
    ]


def _status_of(answered: Answered) -> ItemStatus:
    if answered.refusal:
        return ItemStatus.QUARANTINED
    return ItemStatus.CANCELLED if answered.is_cut_short else ItemStatus.ANSWERED


def _without_stored(session: Session, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out the arms that have an answer: of a question that was tried again after another arm was refused."""
    ids = {row["item_id"] for row in rows}
    stored = set(
        session.exec(
            select(AnswerTable.item_id, AnswerTable.arm).where(col(AnswerTable.item_id).in_(ids))
        ).all()
    )
    return [row for row in rows if (row["item_id"], row["arm"]) not in stored]


def _bind(session: Session, jobs: Mapping[int, JobTable], recipe: str) -> None:
    """Bind those of the jobs to a recipe that are bound to none; of two processes at once, the first one decides."""
    free = {job_id: job for job_id, job in jobs.items() if job.recipe is None and job.exploration is None}
    is_free = col(JobTable.id).in_(sorted(free)), col(JobTable.recipe).is_(None)
    session.exec(update(JobTable).where(*is_free).values(recipe=recipe))
    for job in free.values():
        session.refresh(job)


def _bind_anew(
    session: Session,
    leases: Sequence[LeasedItem],
    live: Sequence[ItemTable],
    answered_by_id: Mapping[int, Answered],
) -> None:
    """Bind jobs to the recipe that answered them, where it is not the one that they were bound to."""
    bound = {leased.id: leased.question.recipe for leased in leases}
    used = {
        (item.job_id, bound[item.id], answer.recipe)
        for item in live
        for answer in answered_by_id[item.id].answers
        if bound[item.id] and answer.recipe not in (None, bound[item.id])
    }
    for job_id, before, after in sorted(used):
        is_bound = col(JobTable.id) == job_id, col(JobTable.recipe) == before
        session.exec(update(JobTable).where(*is_bound).values(recipe=after))


def _leased(item: ItemTable, job: JobTable) -> LeasedItem:
    return LeasedItem(
        id=item.id,
        job_id=job.public_id,
        owner=item.owner or "",
        fence=item.fence,
        row=item.row_number,
        question=Question(
            text=item.text,
            mode=job.mode,
            category=job.category or item.category,
            category_from_file=job.category is None and item.category is not None,
            arms=arms_of(job),
            exploration=exploration_of(job),
            recipe=job.recipe,
        ),
    )


class LeaderStore(Store):
    """Named leases on duties that one process at a time may have."""

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
                elif row.owner == owner or row.until <= now:
                    row.owner, row.until = owner, until
                else:
                    return False
                return True
        except IntegrityError:
            return False  # another process took the free lease at the same moment

    def release(self, name: str, owner: str) -> None:
        """Give the lease up, if `owner` has it."""
        with self._database.write() as session:
            row = session.get(LeaseTable, name)
            if row is not None and row.owner == owner:
                session.delete(row)
