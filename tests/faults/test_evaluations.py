"""An evaluation survives what questions survive, and runs once: real broker, real Celery worker, real child process."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.stack import BROKER, EVALUATOR, Commands
from medx_core.evaluation.request import EvaluationRequest
from medx_core.jobs.messages import EVALUATION_QUEUE, EVALUATION_TASK, RunRequest
from medx_core.storage.runs import Run, RunStatus
from tests.faults.harness import Installation, installation, is_running
from tests.language_models import saved_tiny_model
from tests.small_evaluation import write_statements
from tests.waiting import until
from workers.celery_app import build_app

BODY = "tests.faults.directed_evaluations:wait_for_file"
DIRECTED = Commands(evaluator=(*Commands.evaluator, "--evaluate", BODY))
PARTS = (BROKER, EVALUATOR)
# An evaluation's process runs at low priority: on a busy machine it may not come to renew a shorter lease in time.
LEASE_SECONDS = 8.0


class Evaluation:
    """One evaluation in the hands of the directed body."""

    def __init__(self, running: Installation, *, held: bool = True) -> None:
        self._runs = running.runs
        self._data = running.stack.settings.home / f"data-{len(running.runs.list())}"
        if not held:
            self.release()
        request = EvaluationRequest(str(self._data))
        self.public_id = self._runs.request("evaluation", request.as_json(), requested_by="ada").public_id

    @property
    def run(self) -> Run:
        return self._runs.get(self.public_id)

    @property
    def processes(self) -> list[int]:
        """The process ids of all that began it, in order."""
        begun = Path(f"{self._data}.begun")
        return [int(line) for line in begun.read_text().splitlines()] if begun.exists() else []

    def wait_begun(self, times: int = 1) -> int:
        until(lambda: len(self.processes) == times, f"the evaluation is begun {times} times")
        return self.processes[-1]

    def release(self) -> None:
        Path(f"{self._data}.go").touch()

    def wait(self, status: RunStatus = RunStatus.DONE) -> Run:
        until(lambda: self.run.status is status, f"the evaluation is {status}")
        return self.run


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One installation for the faults that it survives unchanged."""
    home = tmp_path_factory.mktemp("home")
    with installation(
        home, commands=DIRECTED, parts=PARTS, max_attempts=2, lease_seconds=LEASE_SECONDS
    ) as started:
        yield started


def test_killing_the_worker_ends_its_process_and_the_run_is_taken_up_again(running: Installation) -> None:
    evaluation = Evaluation(running)
    process = evaluation.wait_begun()
    running.kill("evaluator")
    until(lambda: not is_running(process), "the evaluation's process ends with its worker")
    evaluation.release()
    assert evaluation.wait().attempts == 2
    assert len(evaluation.processes) == 2


@pytest.mark.slow
def test_a_run_whose_process_is_killed_each_time_has_failed_in_words(running: Installation) -> None:
    evaluation = Evaluation(running)
    for attempt in (1, 2):
        os.kill(evaluation.wait_begun(attempt), signal.SIGKILL)
    failed = evaluation.wait(RunStatus.FAILED)
    assert failed.reason.startswith("Its process ended 2 times before it was finished, perhaps because")


def test_a_broker_that_forgets_everything_loses_neither_the_run_in_hand_nor_the_one_that_waits(
    running: Installation,
) -> None:
    in_hand, waiting = Evaluation(running), Evaluation(running, held=False)
    in_hand.wait_begun()
    with running.broker() as broker:
        until(lambda: broker.llen(EVALUATION_QUEUE) > 0, "a run waits in the broker")
        broker.flushall()
    in_hand.release()
    assert (in_hand.wait().attempts, waiting.wait().attempts) == (1, 1)
    assert (len(in_hand.processes), len(waiting.processes)) == (1, 1)


def test_killing_the_broker_alone_leaves_the_run_in_hand_where_it_is(running: Installation) -> None:
    evaluation = Evaluation(running)
    evaluation.wait_begun()
    running.kill("broker")
    meanwhile = Evaluation(running, held=False)
    evaluation.release()
    assert (evaluation.wait().attempts, meanwhile.wait().attempts) == (1, 1)
    assert len(evaluation.processes) == 1


def test_a_message_that_comes_again_runs_nothing_again(running: Installation) -> None:
    evaluation = Evaluation(running)
    evaluation.wait_begun()
    app = build_app(running.stack.settings.model_copy(update={"redis_url": running.stack.redis_url}))
    request = RunRequest(run_id=evaluation.public_id).model_dump()
    app.send_task(EVALUATION_TASK, kwargs={"request": request}, queue=EVALUATION_QUEUE)
    app.close()
    evaluation.release()
    evaluation.wait()
    Evaluation(running, held=False).wait()  # it came after the message that was sent again
    assert len(evaluation.processes) == 1


@pytest.mark.slow
def test_cancelling_ends_a_process_that_hangs_and_the_next_run_begins(running: Installation) -> None:
    hung, following = Evaluation(running), Evaluation(running, held=False)
    process = hung.wait_begun()
    running.runs.cancel(hung.public_id)
    until(lambda: not is_running(process), "the process has ended")
    assert following.wait().attempts == 1
    assert hung.run.status is RunStatus.CANCELLED


@pytest.mark.slow
def test_a_worker_told_to_stop_hands_its_run_on_without_counting_the_attempt(running: Installation) -> None:
    evaluation = Evaluation(running)
    process = evaluation.wait_begun()
    os.kill(running.stack.process_ids["evaluator"], signal.SIGTERM)
    until(lambda: not is_running(process), "the process has ended")
    evaluation.release()
    assert evaluation.wait().attempts == 1


def test_a_run_longer_than_the_visibility_timeout_runs_once(tmp_path: Path) -> None:
    # Nothing but the broker sends a message again here, however long the process takes to begin.
    settings = {"visibility_seconds": 1, "resend_after_seconds": 3600.0, "lease_seconds": 60.0}
    with installation(tmp_path, commands=DIRECTED, parts=PARTS, **settings) as running:
        evaluation = Evaluation(running)
        evaluation.wait_begun()
        with running.broker() as broker:
            until(lambda: broker.llen(EVALUATION_QUEUE) > 0, "the broker delivers the message again")
        evaluation.release()
        assert evaluation.wait().attempts == 1
        log = tmp_path / "logs" / "evaluator.log"
        # On a slow machine the worker ends the second process before it can say so; a third one then follows it.
        signs = ("needs nobody", "SpawnPoolWorker-3")
        until(lambda: any(sign in log.read_text() for sign in signs), "the message is taken a second time")
        assert len(evaluation.processes) == 1


@pytest.mark.slow
def test_torch_is_loaded_in_the_child_alone_and_a_real_evaluation_comes_through(tmp_path: Path) -> None:
    home, model = tmp_path / "home", saved_tiny_model(tmp_path)
    file = write_statements(tmp_path / "statements.csv", split=True)
    refused = tmp_path / "one_sided.csv"
    refused.write_text("statement,answer\n" + "".join(f"Number {row}.,TRUE\n" for row in range(60)))
    # While torch is imported on a busy machine, no other thread may get a turn for seconds.
    with installation(home, commands=Commands(), parts=PARTS, lease_seconds=30.0) as running:
        run, hopeless = (
            running.runs.request(
                "evaluation", EvaluationRequest(str(data), models=(str(model),)).as_json(), requested_by="ada"
            ).public_id
            for data in (file, refused)
        )
        until(lambda: "evaluator" in running.stack.process_ids, "the worker is started")
        parent = psutil.Process(running.stack.process_ids["evaluator"])
        niceness: list[int] = []
        until(
            lambda: (
                niceness.extend(child.nice() for child in parent.children() if torch_in(child)) or niceness
            ),
            "a child has loaded torch",
        )
        assert set(niceness) == {parent.nice() + 10}
        assert not torch_in(parent)
        until(lambda: running.runs.get(run).finished, "the evaluation is finished")
        until(lambda: running.runs.get(hopeless).finished, "the other evaluation is finished")
        done, told = running.runs.get(run), running.runs.get(hopeless)
    assert done.result is not None
    assert (done.summary.n_train, done.summary.n_test, done.summary.data) == (110, 40, "statements.csv")
    assert (told.status, told.attempts) == (RunStatus.FAILED, 1)
    assert "needs at least 20" in told.reason


def torch_in(process: psutil.Process) -> bool:
    try:
        return any("libtorch" in mapped.path for mapped in process.memory_maps())
    except psutil.NoSuchProcess:
        return False
