"""Written answers that somebody watches: the route comes before the first word, and a cancelled answer keeps its text."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest

from medx_core.categories import Category, Route
from medx_core.errors import StorageFault
from medx_core.job_execution.batching import MicroBatcher
from medx_core.job_execution.executor import JobExecutor
from medx_core.job_execution.interfaces import Lane
from medx_core.job_execution.leases import LeaseKeeper, LeaseTerms
from medx_core.job_execution.scheduling import BatchLimits
from medx_core.jobs.messages import AnswerRequest
from medx_core.jobs.snapshots import LeasedItem
from medx_core.jobs.status import ItemStatus, JobKind, JobStatus
from medx_core.questions import CANCELLED, Mode
from medx_core.storage.engine import Database
from medx_core.storage.jobs import JobStore
from medx_core.storage.leases import LeaseStore
from medx_core.storage.ratings import RatingStore
from tests.databases import SetClock
from tests.samples import BOTH, answered, item_of, submission
from tests.unit.test_micro_batching import ScriptedEngine
from tests.waiting import until

SECONDS = 60
TRIAGE = Route(Category.TRIAGE, {Category.TRIAGE: 1.0}, red_flag=True, router="test")


def asked(jobs: JobStore, rows: int = 1) -> tuple[str, list[int]]:
    job = jobs.submit(submission(rows, kind=JobKind.QUESTION, mode=Mode.TEXT), chunk_rows=32)
    return job.public_id, [item.id for item in jobs.every_item(job.public_id)]


def take(leases: LeaseStore, ids: list[int], owner: str) -> LeasedItem:
    (leased,) = leases.lease(ids, owner=owner, seconds=30, max_attempts=3)
    return leased


def test_a_route_is_stored_while_the_item_still_runs_and_again_without_harm(database: Database) -> None:
    jobs, leases = JobStore(database), LeaseStore(database)
    _, ids = asked(jobs)
    leased = take(leases, ids, "a")
    for _ in range(2):
        assert leases.store_route(leased, TRIAGE)
        item = item_of(jobs, ids[0])
        assert (item.status, item.route) == (ItemStatus.RUNNING, TRIAGE)
    leases.finish([(leased, answered(leased))])
    assert item_of(jobs, ids[0]).route == answered(leased).route


@pytest.mark.parametrize("dead", ["ran out", "taken over", "of another", "finished"])
def test_no_route_is_stored_under_a_dead_token(database: Database, clock: SetClock, dead: str) -> None:
    jobs, leases = JobStore(database, clock=clock), LeaseStore(database, clock=clock)
    _, ids = asked(jobs)
    leased = take(leases, ids, "a")
    if dead in {"ran out", "taken over"}:
        clock.advance(31)
    if dead == "taken over":
        take(leases, ids, "a")
    if dead == "finished":
        leases.finish([(leased, answered(leased))])
    before = item_of(jobs, ids[0])
    lease = replace(leased, owner="b") if dead == "of another" else leased
    assert not leases.store_route(lease, TRIAGE)
    assert item_of(jobs, ids[0]) == before


class Watching:
    """Notes the route that the database knows whenever a piece of text is streamed."""

    def __init__(self, jobs: JobStore) -> None:
        self._jobs = jobs
        self.known: list[Route | None] = []

    def begin(self, item_id: int, arm: str) -> None:
        assert item_of(self._jobs, item_id).route is None

    def piece(self, item_id: int, arm: str, text: str) -> None:
        self.known.append(item_of(self._jobs, item_id).route)

    def done(self, item_id: int, arm: str) -> None:
        """The answer was stored, or never will be."""


class Worker:
    """An executor on a scripted engine, which waits at its gate before each token."""

    def __init__(self, database: Database, leases: LeaseStore) -> None:
        self.engine = ScriptedEngine()
        self.jobs = JobStore(database)
        self.watching = Watching(self.jobs)
        self._batcher = MicroBatcher(lambda: self.engine, BatchLimits(32, 0.0))
        terms = LeaseTerms("one", seconds=SECONDS)
        self._keeper = LeaseKeeper(leases, terms)
        self._executor = JobExecutor(leases, self._batcher, self._keeper, terms, self.watching)

    @contextmanager
    def answering(self, job_id: str, ids: list[int], lane: Lane = Lane.INTERACTIVE) -> Iterator[None]:
        request = AnswerRequest(job_id=job_id, item_ids=tuple(ids))
        running = threading.Thread(target=partial(self._executor.run, request, lane=lane), daemon=True)
        self._batcher.start()
        self._keeper.start()
        running.start()
        try:
            yield
        finally:
            self.engine.open()
            running.join(SECONDS)
            self._batcher.close(timeout_seconds=SECONDS)
            self._keeper.stop()
        assert not running.is_alive()

    def is_unwanted(self, item_id: int) -> bool:
        """Whether the keeper of the leases noticed that nobody waits for the item."""
        return any(item == item_id for item, _ in self._keeper._unwanted)

    def write(self, tokens: int) -> None:
        """Let the engine write so many tokens and stop at the gate before the next one."""
        for _ in range(tokens):
            assert self.engine.at_gate.acquire(timeout=SECONDS)
            self.engine.gate.release()
        assert self.engine.at_gate.acquire(timeout=SECONDS)


def test_the_route_is_stored_before_the_first_word_is_streamed(database: Database) -> None:
    worker = Worker(database, LeaseStore(database))
    job_id, ids = asked(worker.jobs)
    with worker.answering(job_id, ids):
        worker.write(0)
        item = item_of(worker.jobs, ids[0])
        assert (item.status, item.route, item.answers) == (ItemStatus.RUNNING, Route(Category.TRIAGE), ())
    assert worker.watching.known
    assert all(known == Route(Category.TRIAGE) for known in worker.watching.known)
    assert worker.jobs.get(job_id).status is JobStatus.DONE


class Forgetful(LeaseStore):
    """Finds the database away whenever a route is to be stored before its answer."""

    def store_route(self, leased: LeasedItem, route: Route) -> bool:
        raise StorageFault("The database is away.")


def test_no_word_is_streamed_whose_route_could_not_be_stored_and_the_answer_comes_whole(
    sqlite_database: Database,
) -> None:
    worker = Worker(sqlite_database, Forgetful(sqlite_database))
    job_id, ids = asked(worker.jobs)
    with worker.answering(job_id, ids):
        worker.write(3)
    assert worker.watching.known == []
    item = item_of(worker.jobs, ids[0])
    assert (item.status, item.route) == (ItemStatus.ANSWERED, Route(Category.TRIAGE))
    assert [stored.answer.text for stored in item.answers] == [item.text] * 2


@pytest.mark.parametrize("lane", list(Lane))
def test_a_cancelled_answer_keeps_what_was_written_of_it(database: Database, lane: Lane) -> None:
    leases = LeaseStore(database)
    worker = Worker(database, leases)
    job_id, ids = asked(worker.jobs, rows=2)
    leased = take(leases, ids[1:], "slow")  # its worker has not begun to write
    with worker.answering(job_id, ids, lane):
        worker.write(4)
        worker.jobs.cancel(job_id)
        until(lambda: worker.is_unwanted(ids[0]))
    leases.cancel_running(leased)
    broken_off, unwritten = (item_of(worker.jobs, item_id) for item_id in ids)
    answers = [stored.answer for stored in broken_off.answers]
    # The token at whose gate the engine stood was still written.
    assert [(answer.arm, answer.text, answer.finish) for answer in answers] == [
        (arm, "State", CANCELLED) for arm in BOTH
    ]
    assert (broken_off.status, broken_off.route) == (ItemStatus.CANCELLED, Route(Category.TRIAGE))
    assert (unwritten.status, unwritten.answers) == (ItemStatus.CANCELLED, ())
    job = worker.jobs.get(job_id)
    assert (job.status, job.progress.cancelled) == (JobStatus.CANCELLED, 2)
    assert job.finished_at is not None


def test_half_an_answer_is_not_offered_for_rating(sqlite_database: Database) -> None:
    jobs, leases, ratings = (
        JobStore(sqlite_database),
        LeaseStore(sqlite_database),
        RatingStore(sqlite_database),
    )
    _, ids = asked(jobs)
    leased = take(leases, ids, "a")
    whole = answered(leased)
    steered, plain = whole.answers
    leases.finish([(leased, replace(whole, answers=(replace(steered, finish=CANCELLED), plain)))])
    assert ratings.left_to_rate(1) == 1
    offered = ratings.next_to_rate(1)
    assert offered is not None
    assert ratings.next_to_rate(1, skip=[offered.answer_id]) is None
