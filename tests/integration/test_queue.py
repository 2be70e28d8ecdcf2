"""What lies between the database and the workers: task names, queues, publishing and reconciling, on a real broker."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError

from deploy.embedded_broker import prepare_broker
from medx_core.jobs import messages
from medx_core.jobs.messages import (
    BATCH_QUEUE,
    EVALUATION_QUEUE,
    INTERACTIVE_QUEUE,
    QUEUE_OF,
    redis_client_url,
)
from medx_core.jobs.status import JobKind
from medx_core.settings import Settings
from medx_core.storage.engine import Database
from medx_core.storage.health import HealthStore
from medx_core.storage.jobs import JobStore
from medx_core.storage.leases import LeaderStore, LeaseStore
from medx_core.storage.outbox import OutboxStore
from tests.samples import submission
from tests.waiting import until
from workers.celery_app import build_app
from workers.heartbeat import Heartbeat, Rhythm
from workers.publishing import DUTY, Publisher


class Broker:
    """A real broker that the test may stop and start."""

    def __init__(self, folder: Path) -> None:
        self._embedded = prepare_broker(folder)
        self._process: subprocess.Popen[bytes] | None = None
        self.url = self._embedded.url
        self.client = redis.Redis.from_url(redis_client_url(self.url))

    def start(self) -> None:
        self._process = subprocess.Popen(self._embedded.command, stdout=subprocess.DEVNULL)
        until(self._answers)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
            self._process = None

    def waiting(self, queue: str) -> int:
        return int(self.client.llen(queue))

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    started = Broker(tmp_path / "broker")
    started.start()
    yield started
    started.stop()
    started.client.close()


class Publishing:
    """A publisher with its surroundings."""

    def __init__(self, database: Database, broker: Broker, owner: str = "one") -> None:
        self.settings = Settings(
            redis_url=broker.url,
            publish_every_seconds=0.01,
            reconcile_every_seconds=0.05,
            resend_after_seconds=3600,
        )
        self.app: Celery = build_app(self.settings)
        self.outbox = OutboxStore(database)
        self.jobs = JobStore(database)
        self.publisher = Publisher(self.app, database, self.settings, owner=owner)

    def close(self) -> None:
        self.publisher.stop()
        self.app.close()


@pytest.fixture
def publishing(database: Database, broker: Broker) -> Iterator[Publishing]:
    made = Publishing(database, broker)
    yield made
    made.close()


def test_every_task_name_a_message_may_carry_is_registered() -> None:
    for tasks in ("workers.answer_tasks", "workers.evaluation_tasks"):
        __import__(tasks)
    from workers.celery_app import app

    names = {value for name, value in vars(messages).items() if name.endswith("_TASK")}
    assert names
    assert names <= set(app.tasks)


def test_every_queue_has_an_exchange_and_a_routing_key_of_its_own() -> None:
    queues = build_app(Settings()).conf.task_queues
    assert {queue.name for queue in queues} == {*QUEUE_OF.values(), EVALUATION_QUEUE}
    assert all(queue.exchange.name == queue.routing_key == queue.name for queue in queues)


def test_only_json_is_taken_and_nothing_is_kept_of_results() -> None:
    conf = build_app(Settings()).conf
    assert (conf.accept_content, conf.task_serializer, conf.task_ignore_result) == (["json"], "json", True)


def test_what_was_committed_is_sent_to_its_queue_with_ids_and_no_text(
    publishing: Publishing, broker: Broker
) -> None:
    publishing.jobs.submit(submission(20), chunk_rows=8)
    publishing.jobs.submit(submission(1, kind=JobKind.QUESTION), chunk_rows=8)
    assert publishing.publisher.publish() == 4
    assert (broker.waiting(BATCH_QUEUE), broker.waiting(INTERACTIVE_QUEUE)) == (3, 1)
    assert b"Statement" not in b"".join(broker.client.lrange(BATCH_QUEUE, 0, -1))
    assert publishing.publisher.publish() == 0


def test_a_broker_that_is_away_delays_messages_and_loses_none(publishing: Publishing, broker: Broker) -> None:
    broker.stop()
    publishing.jobs.submit(submission(5), chunk_rows=1)
    with pytest.raises(OperationalError):
        publishing.publisher.publish()
    assert len(publishing.outbox.unsent()) == 5
    publishing.publisher.start()
    broker.start()
    until(lambda: broker.waiting(BATCH_QUEUE) == 5)
    until(lambda: not publishing.outbox.unsent())


def test_a_broker_that_forgot_is_sent_everything_again(publishing: Publishing, broker: Broker) -> None:
    publishing.publisher.reconcile()
    publishing.jobs.submit(submission(8), chunk_rows=4)
    publishing.publisher.publish()
    publishing.publisher.reconcile()
    assert publishing.publisher.publish() == 0, "nothing was lost yet"
    broker.client.flushall()
    publishing.publisher.reconcile()
    publishing.publisher.publish()
    assert broker.waiting(BATCH_QUEUE) >= 1


def test_items_of_a_dead_worker_are_sent_again(
    publishing: Publishing, broker: Broker, database: Database
) -> None:
    publishing.publisher.reconcile()
    job = publishing.jobs.submit(submission(8), chunk_rows=8)
    publishing.publisher.publish()
    ids = [item.id for item in publishing.jobs.every_item(job.public_id)]
    LeaseStore(database).lease(ids, owner="dead", seconds=-1, max_attempts=3)
    publishing.publisher.reconcile()
    assert publishing.publisher.publish() == 1
    assert publishing.jobs.get(job.public_id).progress.queued == 8


class NotedLeaders(LeaderStore):
    """Notes what became of each attempt to lead."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.attempts: list[bool] = []

    def hold(self, duty: str, owner: str, seconds: float) -> bool:
        self.attempts.append(super().hold(duty, owner, seconds))
        return self.attempts[-1]


def test_one_process_at_a_time_publishes_and_another_takes_over(
    sqlite_database: Database, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.publishing.LEAD_SECONDS", 0.6)  # a tenth of a second between two attempts
    leaders = NotedLeaders(sqlite_database)
    assert leaders.hold(DUTY, "somebody else", 3600)
    monkeypatch.setattr("workers.publishing.LeaderStore", lambda _database: leaders)
    waiting = Publishing(sqlite_database, broker)
    waiting.jobs.submit(submission(3), chunk_rows=1)
    waiting.publisher.start()
    until(lambda: len(leaders.attempts) >= 3)
    assert not any(leaders.attempts[1:])
    assert broker.waiting(BATCH_QUEUE) == 0
    leaders.release(DUTY, "somebody else")
    until(lambda: broker.waiting(BATCH_QUEUE) == 3)
    waiting.close()
    assert leaders.hold(DUTY, "a third one", 1), "the publisher did not let go of its duty"


class StandingEngine:
    """An engine that neither hangs nor moves; counts how often it was asked."""

    stalled_seconds = 0.0

    def __init__(self) -> None:
        self.asked = 0

    @property
    def seconds_since_progress(self) -> float:
        self.asked += 1
        return 3600.0


def test_a_process_that_neither_polls_nor_moves_is_not_healthy(sqlite_database: Database) -> None:
    health, engine = HealthStore(sqlite_database), StandingEngine()
    heartbeat = Heartbeat(
        health, "w", kind="worker", rhythm=Rhythm(0.01, 60.0, 3600.0), engine=engine, detail=dict
    )
    heartbeat.start()
    try:
        until(lambda: engine.asked >= 3)
        assert health.processes() == ()
        heartbeat.polled()
        until(lambda: health.processes())
    finally:
        heartbeat.stop()
    assert health.processes() == (), "it did not sign off"


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("broker", "A worker needs a broker: set REDIS_URL"),
        ("tables", "run `medx db upgrade`"),
    ],
)
def test_a_worker_that_cannot_start_says_so_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, sentence: str
) -> None:
    monkeypatch.setenv("MEDX_HOME", str(tmp_path))
    monkeypatch.setenv("REDIS_URL", "" if missing == "broker" else "redis://127.0.0.1:1/0")
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'no-such.sqlite3'}")
    done = subprocess.run(
        [sys.executable, "-m", "workers"], capture_output=True, text=True, check=False, timeout=180
    )
    assert done.returncode == 1
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
