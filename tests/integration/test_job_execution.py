"""Running requests: every item is stored once or left to be leased again, whatever happens on the way."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from medx_core.categories import Category, Route
from medx_core.data.question_files import FileRow
from medx_core.errors import BadInput, Cancelled, RecipeUnusable
from medx_core.job_execution.dispatch import answer_job
from medx_core.job_execution.executor import JobExecutor
from medx_core.job_execution.interfaces import Interrupted, Lane, Listener
from medx_core.job_execution.leases import LeaseKeeper, LeaseTerms
from medx_core.jobs.messages import AnswerRequest
from medx_core.jobs.snapshots import ItemSnapshot, JobSnapshot, LeasedItem
from medx_core.jobs.status import ItemStatus, JobKind, JobStatus
from medx_core.jobs.submission import Submission
from medx_core.questions import Answer, Answered, Arm, Mode, Question
from medx_core.storage.engine import Database
from medx_core.storage.jobs import JobStore
from medx_core.storage.leases import LeaseStore
from medx_core.storage.outbox import OutboxStore
from tests.databases import SetClock
from tests.waiting import until

SECONDS = 60
BOTH = (Arm.STEERED, Arm.UNSTEERED)


def answered(question: Question) -> Answered:
    answers = tuple(
        Answer(
            arm=arm,
            model="m",
            model_sha256="0" * 64,
            prompt_version="p",
            seconds=0.1,
            text=question.text,
        )
        for arm in question.arms
    )
    return Answered(question, Route(Category.TRIAGE), answers)


class HeldAnswerer:
    """Keeps every question until the test ends it."""

    recipe = ""

    def __init__(self) -> None:
        self.held: dict[str, tuple[Future[Answered], Listener, Question]] = {}
        self._arrived = threading.Condition()
        self.most_at_once = 0

    def submit(self, question: Question, *, lane: Lane, listener: Listener) -> Future[Answered]:
        future: Future[Answered] = Future()
        with self._arrived:
            self.held[question.text] = (future, listener, question)
            self.most_at_once = max(self.most_at_once, len(self.held))
            self._arrived.notify_all()
        return future

    def wait_for(self, *texts: str) -> None:
        with self._arrived:
            assert self._arrived.wait_for(lambda: set(texts) <= set(self.held), SECONDS), texts

    def answer_one(self) -> str:
        """Answer whichever question comes next, and return it."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: bool(self.held), SECONDS)
            [text] = self.held
        self.answer(text)
        return text

    def listener(self, text: str) -> Listener:
        return self.held[text][1]

    def answer(self, text: str) -> None:
        future, _, question = self.held.pop(text)
        future.set_result(answered(question))

    def fail(self, text: str, error: Exception) -> None:
        self.held.pop(text)[0].set_exception(error)


class AtOnceAnswerer:
    """Answers at once, except what it was told to fail."""

    recipe = ""

    def __init__(self, faults: dict[str, Exception] | None = None) -> None:
        self.faults = faults or {}
        self.asked: list[str] = []

    def submit(self, question: Question, *, lane: Lane, listener: Listener) -> Future[Answered]:
        self.asked.append(question.text)
        future: Future[Answered] = Future()
        fault = self.faults.get(question.text)
        if fault is None:
            future.set_result(answered(question))
        else:
            future.set_exception(fault)
        return future


class NotedStreams:
    """Notes what would be streamed."""

    def __init__(self) -> None:
        self.events: list[tuple[str, ...]] = []

    def begin(self, item_id: int, arm: str) -> None:
        self.events.append(("begin", arm))

    def piece(self, item_id: int, arm: str, text: str) -> None:
        self.events.append(("piece", arm, text))

    def done(self, item_id: int, arm: str) -> None:
        self.events.append(("done", arm))


class Bench:
    """An executor with a name of its own on the test's database."""

    def __init__(
        self,
        database: Database,
        answerer: HeldAnswerer | AtOnceAnswerer,
        owner: str = "one",
        seconds: float = 30.0,
    ) -> None:
        self.jobs = JobStore(database)
        self.leases = LeaseStore(database)
        self.outbox = OutboxStore(database)
        self.streams = NotedStreams()
        terms = LeaseTerms(owner, seconds=seconds, max_attempts=3)
        self.keeper = LeaseKeeper(self.leases, terms)
        self.executor = JobExecutor(self.leases, answerer, self.keeper, terms, self.streams)

    def submit(
        self, *texts: str, mode: Mode = Mode.VERDICT, kind: JobKind = JobKind.BATCH, chunk_rows: int = 100
    ) -> JobSnapshot:
        items = tuple(FileRow(row, "", text) for row, text in enumerate(texts, start=1))
        return self.jobs.submit(Submission(kind, mode, BOTH, items), chunk_rows=chunk_rows)

    def requests(self) -> list[AnswerRequest]:
        messages = self.outbox.unsent()
        self.outbox.mark_sent([message.id for message in messages])
        return [message.request for message in messages]

    def items(self, job: JobSnapshot) -> list[ItemSnapshot]:
        return list(self.jobs.every_item(job.public_id))

    def statuses(self, job: JobSnapshot) -> list[ItemStatus]:
        return [item.status for item in self.items(job)]


class Threads:
    """Runs works on threads of their own, which do not keep a test that failed from ending."""

    def submit(self, work: Callable[..., None], *given: object, **named: object) -> Future[None]:
        future: Future[None] = Future()

        def run() -> None:
            try:
                future.set_result(work(*given, **named))
            except BaseException as error:  # noqa: BLE001 - handed to the test
                future.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        return future


@pytest.fixture
def threads() -> Threads:
    return Threads()


def test_a_request_is_answered_in_every_arm_and_a_second_delivery_finds_nothing(database: Database) -> None:
    answerer = AtOnceAnswerer()
    bench = Bench(database, answerer)
    job = bench.submit("a", "b", "c")
    [request] = bench.requests()
    for _ in range(2):
        bench.executor.run(request, lane=Lane.BATCH)
    assert sorted(answerer.asked) == ["a", "b", "c"]
    assert [[stored.answer.arm for stored in item.answers] for item in bench.items(job)] == [list(BOTH)] * 3
    assert bench.jobs.get(job.public_id).status is JobStatus.DONE


def test_two_processes_with_the_same_message_answer_each_item_once(database: Database) -> None:
    first, second = AtOnceAnswerer(), AtOnceAnswerer()
    bench, other = Bench(database, first, "one"), Bench(database, second, "two")
    bench.submit(*(f"q{i}" for i in range(40)))
    [request] = bench.requests()
    with ThreadPoolExecutor(2) as pool:
        for run in [pool.submit(b.executor.run, request, lane=Lane.BATCH) for b in (bench, other)]:
            run.result(SECONDS)
    assert sorted(first.asked + second.asked) == sorted(f"q{i}" for i in range(40))


def test_a_fault_costs_the_row_its_attempts_and_then_its_place_and_leaves_the_others(
    database: Database,
) -> None:
    bench = Bench(database, AtOnceAnswerer({"b": ZeroDivisionError("inside")}))
    job = bench.submit("a", "b", "c")
    for expected in (ItemStatus.QUEUED, ItemStatus.QUEUED, ItemStatus.QUARANTINED):
        for request in bench.requests():
            bench.executor.run(request, lane=Lane.BATCH)
        assert bench.statuses(job) == [ItemStatus.ANSWERED, expected, ItemStatus.ANSWERED]
    reason = bench.items(job)[1].reason
    assert reason == "The model failed on this question (ZeroDivisionError); the worker's log says more."
    assert bench.jobs.get(job.public_id).status is JobStatus.DONE


def test_what_is_wrong_with_the_question_itself_is_not_tried_again(database: Database) -> None:
    bench = Bench(database, AtOnceAnswerer({"b": BadInput("The question is too long; shorten it.")}))
    job = bench.submit("b")
    [request] = bench.requests()
    bench.executor.run(request, lane=Lane.BATCH)
    [item] = bench.items(job)
    assert (item.status, item.reason) == (ItemStatus.QUARANTINED, "The question is too long; shorten it.")


def test_while_the_recipe_in_use_cannot_answer_rows_wait_at_no_cost_and_a_command_ends(
    database: Database,
) -> None:
    unusable = RecipeUnusable("0123456789ab", "mine", "a file is missing")
    bench = Bench(database, AtOnceAnswerer({"b": unusable}))
    job = bench.submit("a", "b")
    [request] = bench.requests()
    with pytest.raises(RecipeUnusable, match="mine"):
        bench.executor.run(request, lane=Lane.BATCH)
    assert bench.statuses(job) == [ItemStatus.ANSWERED, ItemStatus.QUEUED]
    assert [item.attempts for item in bench.items(job)][1] == 0
    [again] = bench.requests()
    assert len(again.item_ids) == 1
    with pytest.raises(RecipeUnusable):
        answer_job(bench.executor, bench.jobs, job.public_id, chunk_rows=8, on_progress=lambda _: None)
    assert bench.statuses(job) == [ItemStatus.ANSWERED, ItemStatus.CANCELLED]


def test_a_result_that_comes_after_the_lease_was_taken_over_is_dropped(
    sqlite_database: Database, threads: Threads
) -> None:
    answerer = HeldAnswerer()
    late = Bench(sqlite_database, answerer, "late", seconds=0.05)
    job = late.submit("a")
    [request] = late.requests()
    running = threads.submit(late.executor.run, request, lane=Lane.BATCH)
    answerer.wait_for("a")
    [item] = late.items(job)
    other = LeaseStore(sqlite_database)
    while not (leased := other.lease([item.id], owner="other", seconds=60, max_attempts=3)):
        assert not running.done()
    answerer.answer("a")
    running.result(SECONDS)
    assert late.statuses(job) == [ItemStatus.RUNNING]
    other.finish([(leased[0], answered(Question("a", arms=BOTH)))])
    assert [len(item.answers) for item in late.items(job)] == [2]


class CountedLeases(LeaseStore):
    """Counts its renewals."""

    def __init__(self, database: Database, clock: SetClock) -> None:
        super().__init__(database, clock=clock)
        self.renewals = threading.Semaphore(0)

    def renew(self, leases: Sequence[LeasedItem], *, seconds: float) -> frozenset[int]:
        held = super().renew(leases, seconds=seconds)
        self.renewals.release()
        return held


def test_the_heartbeat_holds_a_lease_far_beyond_its_seconds(
    sqlite_database: Database, clock: SetClock
) -> None:
    leases = CountedLeases(sqlite_database, clock)
    Bench(sqlite_database, AtOnceAnswerer()).submit("a")
    keeper = LeaseKeeper(leases, LeaseTerms("one", seconds=0.3))
    leased = leases.lease([1], owner="one", seconds=0.3, max_attempts=3)
    with keeper.holding(leased):
        keeper.start()
        for _ in range(5):
            # One renewal may have begun before the clock moved, the next one has not.
            assert leases.renewals.acquire(timeout=SECONDS)
            assert leases.renewals.acquire(timeout=SECONDS)
            clock.advance(0.2)
            assert not leases.lease([1], owner="other", seconds=1, max_attempts=3)
    keeper.stop()
    clock.advance(1)
    assert leases.lease([1], owner="other", seconds=1, max_attempts=3)


def test_a_hanging_engine_loses_its_leases(sqlite_database: Database, clock: SetClock) -> None:
    leases = CountedLeases(sqlite_database, clock)
    Bench(sqlite_database, AtOnceAnswerer()).submit("a")
    asked = threading.Event()

    def hangs() -> bool:
        asked.set()
        return False

    keeper = LeaseKeeper(leases, LeaseTerms("one", seconds=0.1), alive=hangs)
    leased = leases.lease([1], owner="one", seconds=0.1, max_attempts=3)
    with keeper.holding(leased):
        keeper.start()
        assert asked.wait(SECONDS)
        clock.advance(1)
        assert leases.lease([1], owner="other", seconds=1, max_attempts=3)
    keeper.stop()


def test_cancelling_reaches_a_question_that_is_being_answered(database: Database, threads: Threads) -> None:
    answerer = HeldAnswerer()
    bench = Bench(database, answerer)
    bench.keeper.start()
    job = bench.submit("a", "b")
    [request] = bench.requests()
    running = threads.submit(bench.executor.run, request, lane=Lane.BATCH)
    answerer.wait_for("a", "b")
    answerer.answer("a")
    asked = answerer.listener("b").should_stop
    bench.jobs.cancel(job.public_id)
    until(asked)
    answerer.fail("b", Cancelled("The answer was cancelled while it was written."))
    running.result(SECONDS)
    bench.keeper.stop()
    assert bench.statuses(job) == [ItemStatus.ANSWERED, ItemStatus.CANCELLED]
    assert bench.jobs.get(job.public_id).status is JobStatus.CANCELLED


def test_a_worker_that_stops_hands_back_what_it_had_not_begun_at_no_cost(
    database: Database, threads: Threads
) -> None:
    answerer = HeldAnswerer()
    bench = Bench(database, answerer)
    job = bench.submit("a", "b")
    [request] = bench.requests()
    running = threads.submit(bench.executor.run, request, lane=Lane.BATCH)
    answerer.wait_for("a", "b")
    bench.executor.stop()
    answerer.answer("a")
    answerer.fail("b", Interrupted("This worker stops."))
    running.result(SECONDS)
    assert bench.statuses(job) == [ItemStatus.ANSWERED, ItemStatus.QUEUED]
    assert [item.attempts for item in bench.items(job)][1] == 0
    [again] = bench.requests()
    with pytest.raises(Interrupted):
        bench.executor.run(again, lane=Lane.BATCH)
    Bench(database, AtOnceAnswerer(), "next").executor.run(again, lane=Lane.BATCH)
    assert bench.statuses(job) == [ItemStatus.ANSWERED] * 2


def test_rows_of_a_dead_worker_are_tried_one_at_a_time_beside_nothing_else_from_files(
    database: Database, threads: Threads
) -> None:
    bench = Bench(database, AtOnceAnswerer())
    job = bench.submit("a", "b", "c")
    [request] = bench.requests()
    # A worker that died: it held all three, and its leases have run out.
    LeaseStore(database).lease(request.item_ids, owner="dead", seconds=-1, max_attempts=3)
    answerer = HeldAnswerer()
    second = Bench(database, answerer, "second")
    fresh = second.submit("fresh")
    [fresh_request] = second.requests()
    first = threads.submit(second.executor.run, request, lane=Lane.BATCH)
    answerer.wait_for("a")
    beside = threads.submit(second.executor.run, fresh_request, lane=Lane.BATCH)
    # The fresh row's turn may come between any two of the others.
    assert {answerer.answer_one() for _ in range(4)} == {"a", "b", "c", "fresh"}
    first.result(SECONDS)
    beside.result(SECONDS)
    assert answerer.most_at_once == 1
    assert second.statuses(job) == [ItemStatus.ANSWERED] * 3
    assert second.statuses(fresh) == [ItemStatus.ANSWERED]


def test_a_person_does_not_wait_for_suspect_rows_of_a_file(
    sqlite_database: Database, threads: Threads
) -> None:
    answerer = HeldAnswerer()
    bench = Bench(sqlite_database, answerer)
    bench.submit("suspect")
    [suspect] = bench.requests()
    LeaseStore(sqlite_database).lease(suspect.item_ids, owner="dead", seconds=-1, max_attempts=3)
    bench.submit("asked", kind=JobKind.QUESTION)
    [asked] = bench.requests()
    slow = threads.submit(bench.executor.run, suspect, lane=Lane.BATCH)
    answerer.wait_for("suspect")
    quick = threads.submit(bench.executor.run, asked, lane=Lane.INTERACTIVE)
    answerer.wait_for("asked")
    answerer.answer("asked")
    quick.result(SECONDS)
    assert not slow.done()
    answerer.answer("suspect")
    slow.result(SECONDS)


def test_text_is_streamed_to_people_and_ends_once_it_is_stored(
    sqlite_database: Database, threads: Threads
) -> None:
    answerer = HeldAnswerer()
    bench = Bench(sqlite_database, answerer)
    job = bench.submit("asked", mode=Mode.TEXT, kind=JobKind.QUESTION)
    [request] = bench.requests()
    running = threads.submit(bench.executor.run, request, lane=Lane.INTERACTIVE)
    answerer.wait_for("asked")
    answerer.listener("asked").on_route(Route(Category.TRIAGE))
    answerer.listener("asked").on_text(Arm.STEERED, "as")
    answerer.answer("asked")
    running.result(SECONDS)
    assert bench.streams.events == [
        ("begin", "steered"),
        ("begin", "unsteered"),
        ("piece", "steered", "as"),
        ("done", "steered"),
        ("done", "unsteered"),
    ]
    assert bench.statuses(job) == [ItemStatus.ANSWERED]


def test_a_job_is_answered_to_its_end_in_process_with_its_faulty_row_set_aside(database: Database) -> None:
    bench = Bench(database, AtOnceAnswerer({"q7": ZeroDivisionError()}))
    job = bench.submit(*(f"q{i}" for i in range(50)))
    answer_job(bench.executor, bench.jobs, job.public_id, chunk_rows=8, on_progress=lambda _progress: None)
    statuses = bench.statuses(job)
    assert statuses.pop(7) is ItemStatus.QUARANTINED
    assert set(statuses) == {ItemStatus.ANSWERED}
