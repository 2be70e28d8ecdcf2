"""The engine's thread: who shares a pass, who goes first, and what one bad row may cost."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medx_core.categories import Category, Route
from medx_core.errors import Cancelled, ModelUnavailable, RecipeUnusable, VectorRefused
from medx_core.job_execution.batching import MicroBatcher
from medx_core.job_execution.interfaces import Interrupted, Lane, Listener
from medx_core.job_execution.scheduling import BatchLimits, WaitingQuestion, nearest_in_length
from medx_core.jobs.engine import EngineDescription
from medx_core.questions import CANCELLED, Answer, Answered, Arm, ArmRow, Mode, Question

SECONDS = 20
BOTH = (Arm.STEERED, Arm.UNSTEERED)


class ScriptedEngine:
    """Notes what it is asked, and waits at `gate` before each pass and token."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.passes: list[list[str]] = []
        self.gate = threading.Semaphore(0)
        self.at_gate = threading.Semaphore(0)
        self.fits_rows = 1_000
        self.threads: set[int] = set()

    def open(self) -> None:
        self.gate.release(100_000)

    def pause(self) -> None:
        self.at_gate.release()
        assert self.gate.acquire(timeout=SECONDS), "nobody opened the gate"

    @property
    def description(self) -> EngineDescription:
        return EngineDescription("scripted", "0" * 64, "cpu", "float32", recipe="", recipe_name="")

    def route(self, questions: Sequence[Question]) -> tuple[Route, ...]:
        self.threads.add(threading.get_ident())
        return tuple(Route(question.category or Category.TRIAGE) for question in questions)

    def verdicts(self, rows: Sequence[ArmRow]) -> tuple[Answer, ...]:
        self.pause()
        self.passes.append([row.question.text for row in rows])
        self.events.append("pass " + rows[0].question.text)
        if len(rows) > self.fits_rows:
            raise ModelUnavailable("This question does not fit into this device's memory; shorten it.")
        if any("by no recipe" in row.question.text for row in rows):
            raise RecipeUnusable("0123456789ab", "mine", "a file is missing")
        if any("bad" in row.question.text for row in rows):
            raise ValueError("a bad row")
        return tuple(answer(row, score=0.9) for row in rows)

    def write(self, rows: Sequence[ArmRow]) -> "ScriptedWriting":
        return ScriptedWriting(self, rows)

    def refresh_recipe(self) -> None:
        self.events.append("refresh")


class ScriptedWriting:
    """Writes the question back, a letter a step."""

    def __init__(self, engine: ScriptedEngine, rows: Sequence[ArmRow]) -> None:
        self._engine, self._rows = engine, rows
        self._lengths = [len(row.question.text) for row in rows]
        self._written = [0] * len(rows)
        self._cancelled: set[int] = set()

    @property
    def finished(self) -> bool:
        return all(self.row_finished(index) for index in range(len(self._rows)))

    def refusal(self, index: int) -> VectorRefused | None:
        if self._rows[index].question.text == "refused" and self._written[index]:
            return VectorRefused("The dose is too large.")
        return None

    def row_finished(self, index: int) -> bool:
        return self._written[index] >= self._lengths[index]

    def cancel(self, index: int) -> None:
        if not self.row_finished(index):
            self._lengths[index] = self._written[index]
            self._cancelled.add(index)

    def step(self) -> tuple[str, ...]:
        self._engine.pause()
        self._engine.events.append("token " + self._rows[0].question.text)
        if len(self._rows) > self._engine.fits_rows:
            raise ModelUnavailable("This question does not fit into this device's memory; shorten it.")
        pieces = []
        for index, row in enumerate(self._rows):
            start = self._written[index]
            self._written[index] = min(start + 1, self._lengths[index])
            pieces.append(row.question.text[start : self._written[index]])
        return tuple(pieces)

    def answers(self) -> tuple[Answer, ...]:
        return tuple(
            replace(
                answer(row, text=row.question.text[:written]),
                finish=CANCELLED if index in self._cancelled else "done",
            )
            for index, (row, written) in enumerate(zip(self._rows, self._written, strict=True))
        )


def answer(row: ArmRow, *, score: float | None = None, text: str | None = None) -> Answer:
    return Answer(
        arm=row.arm,
        model="scripted",
        model_sha256="0" * 64,
        prompt_version="none",
        seconds=0.0,
        score=score,
        text=text,
    )


@contextmanager
def batching(
    engine: ScriptedEngine, *, max_rows: int = 32, max_wait_seconds: float = 0.0
) -> Iterator[MicroBatcher]:
    batcher = MicroBatcher(lambda: engine, BatchLimits(max_rows, max_wait_seconds))
    batcher.start()
    batcher.ready.result(SECONDS)
    try:
        yield batcher
    finally:
        engine.open()
        batcher.close(timeout_seconds=SECONDS)
        assert not batcher._thread.is_alive(), "the engine's thread did not end"


def verdict(text: str, *arms: Arm) -> Question:
    return Question(text, arms=arms or (Arm.STEERED,))


def written(text: str, *arms: Arm) -> Question:
    return Question(text, mode=Mode.TEXT, arms=arms or (Arm.STEERED,))


def results(futures: Sequence[Future[Answered]]) -> list[Answered]:
    return [future.result(SECONDS) for future in futures]


def hold_the_engine(batcher: MicroBatcher, engine: ScriptedEngine) -> Future[Answered]:
    """Let one pass begin and stop at the gate, so that all that comes after it waits."""
    future = batcher.submit(verdict("first"), lane=Lane.BATCH)
    assert engine.at_gate.acquire(timeout=SECONDS)
    return future


def test_what_waits_together_shares_passes_of_the_set_size_and_one_thread() -> None:
    engine = ScriptedEngine()
    with batching(engine, max_rows=8) as batcher:
        hold_the_engine(batcher, engine)
        futures = [batcher.submit(verdict(f"q{i:02}"), lane=Lane.BATCH) for i in range(20)]
        engine.open()
        texts = [answered.question.text for answered in results(futures)]
    assert texts == [f"q{i:02}" for i in range(20)]
    assert sorted(map(len, engine.passes[1:])) == [4, 8, 8]
    assert len(engine.threads) == 1


def test_the_arms_of_a_question_are_rows_of_one_pass_and_keep_their_order() -> None:
    engine = ScriptedEngine()
    engine.open()
    with batching(engine) as batcher:
        answered = batcher.submit(verdict("both", *BOTH), lane=Lane.INTERACTIVE).result(SECONDS)
    assert [answer.arm for answer in answered.answers] == list(BOTH)
    assert engine.passes == [["both", "both"]]


def test_a_question_somebody_waits_for_goes_ahead_of_a_full_batch() -> None:
    engine = ScriptedEngine()
    with batching(engine, max_rows=4) as batcher:
        hold_the_engine(batcher, engine)
        batch = [batcher.submit(verdict(f"row {i}"), lane=Lane.BATCH) for i in range(40)]
        asked = batcher.submit(verdict("asked"), lane=Lane.INTERACTIVE)
        engine.open()
        results([asked, *batch])
    assert engine.passes[1] == ["asked"]


def test_a_verdict_gets_in_between_two_tokens_of_a_batch_text() -> None:
    engine = ScriptedEngine()
    with batching(engine) as batcher:
        text = batcher.submit(written("long answer"), lane=Lane.BATCH)
        assert engine.at_gate.acquire(timeout=SECONDS)
        asked = batcher.submit(verdict("asked"), lane=Lane.INTERACTIVE)
        engine.open()
        results([asked, text])
    assert engine.events[:3] == ["token long answer", "pass asked", "token long answer"]


def test_a_text_somebody_waits_for_is_written_before_the_batch_goes_on() -> None:
    engine = ScriptedEngine()
    with batching(engine) as batcher:
        slow = batcher.submit(written("batch text"), lane=Lane.BATCH)
        assert engine.at_gate.acquire(timeout=SECONDS)
        asked = batcher.submit(written("ask"), lane=Lane.INTERACTIVE)
        engine.open()
        results([slow, asked])
    tokens = [event for event in engine.events if event.startswith("token")]
    assert tokens[:4] == ["token batch text", "token ask", "token ask", "token ask"]


def test_verdicts_and_texts_of_files_take_turns() -> None:
    engine = ScriptedEngine()
    with batching(engine, max_rows=1) as batcher:
        hold_the_engine(batcher, engine)
        text = batcher.submit(written("abcdefgh"), lane=Lane.BATCH)
        verdicts = [batcher.submit(verdict(f"v{i}"), lane=Lane.BATCH) for i in range(8)]
        engine.open()
        results([text, *verdicts])
    kinds = [event.split()[0] for event in engine.events[1:13]]
    assert kinds.count("token") >= 4
    assert kinds.count("pass") >= 4


def test_pieces_of_a_text_arrive_in_order_and_make_up_the_answer() -> None:
    engine = ScriptedEngine()
    engine.open()
    heard: dict[Arm, list[str]] = {arm: [] for arm in BOTH}
    listener = Listener(on_text=lambda arm, piece: heard[arm].append(piece))
    with batching(engine) as batcher:
        answered = batcher.submit(written("a text", *BOTH), lane=Lane.INTERACTIVE, listener=listener).result(
            SECONDS
        )
    assert {answer.arm: answer.text for answer in answered.answers} == {
        arm: "".join(pieces) for arm, pieces in heard.items()
    }
    assert all(len(pieces) == len("a text") for pieces in heard.values())


def test_a_short_answer_does_not_wait_for_the_long_one_beside_it() -> None:
    engine = ScriptedEngine()
    with batching(engine) as batcher:
        hold_the_engine(batcher, engine)
        short = batcher.submit(written("ab"), lane=Lane.BATCH)
        long = batcher.submit(written("a much longer text"), lane=Lane.BATCH)
        engine.gate.release(3)
        assert short.result(SECONDS).answers[0].text == "ab"
        assert not long.done()
        engine.open()
        results([long])


def test_a_bad_row_fails_alone_and_its_neighbours_are_answered() -> None:
    engine = ScriptedEngine()
    with batching(engine) as batcher:
        hold_the_engine(batcher, engine)
        good = [batcher.submit(verdict(f"good {i}"), lane=Lane.BATCH) for i in range(11)]
        bad = batcher.submit(verdict("bad"), lane=Lane.BATCH)
        engine.open()
        results(good)
        with pytest.raises(ValueError, match="a bad row"):
            bad.result(SECONDS)


def test_what_was_refused_failed_or_was_cut_short_is_not_counted_as_answered() -> None:
    engine = ScriptedEngine()
    unwanted = threading.Event()
    with batching(engine) as batcher:
        hold_the_engine(batcher, engine)
        before = batcher.answered_questions
        watched = Listener(on_text=lambda _arm, _piece: unwanted.set(), should_stop=unwanted.is_set)
        cut_short = batcher.submit(written("cut short"), lane=Lane.INTERACTIVE, listener=watched)
        refused = batcher.submit(written("refused"), lane=Lane.BATCH)
        bad = batcher.submit(verdict("bad"), lane=Lane.BATCH)
        engine.open()
        assert isinstance(bad.exception(SECONDS), ValueError)
        assert cut_short.result(SECONDS).is_cut_short
        assert refused.result(SECONDS).refusal == "The dose is too large."
        results([batcher.submit(written("whole"), lane=Lane.BATCH)])
        results([batcher.submit(verdict("right"), lane=Lane.BATCH)])
    assert batcher.answered_questions == before + 3, "the first, which was held, the whole text and the last"


def test_where_the_recipe_in_use_cannot_answer_all_are_told_after_one_pass() -> None:
    engine = ScriptedEngine()
    with batching(engine) as batcher:
        hold_the_engine(batcher, engine)
        asked = [batcher.submit(verdict(f"by no recipe {i}"), lane=Lane.BATCH) for i in range(4)]
        passes = len(engine.passes)
        engine.open()
        for future in asked:
            assert isinstance(future.exception(SECONDS), RecipeUnusable)
    assert len(engine.passes) == passes + 2, "the one that held the engine, and one of all four"


@pytest.mark.parametrize("ask", [verdict, written])
def test_a_batch_too_large_for_the_device_is_answered_in_smaller_ones(
    ask: Callable[[str], Question],
) -> None:
    engine = ScriptedEngine()
    engine.fits_rows = 3
    heard: list[str] = []
    listener = Listener(on_text=lambda _arm, piece: heard.append(piece))
    with batching(engine) as batcher:
        hold_the_engine(batcher, engine)
        futures = [batcher.submit(ask(f"text {i:02}"), lane=Lane.BATCH, listener=listener) for i in range(16)]
        engine.open()
        results(futures)
    if ask is written:
        assert sorted("".join(heard)) == sorted("".join(f"text {i:02}" for i in range(16)))


def test_a_question_nobody_wants_any_more_costs_no_pass() -> None:
    engine = ScriptedEngine()
    unwanted = threading.Event()
    with batching(engine) as batcher:
        hold_the_engine(batcher, engine)
        listener = Listener(should_stop=unwanted.is_set)
        cancelled = batcher.submit(verdict("cancelled"), lane=Lane.BATCH, listener=listener)
        kept = batcher.submit(verdict("kept"), lane=Lane.BATCH)
        unwanted.set()
        engine.open()
        kept.result(SECONDS)
        with pytest.raises(Cancelled):
            cancelled.result(SECONDS)
    assert engine.passes[1:] == [["kept"]]


def test_a_text_stops_between_two_tokens_keeps_what_was_written_and_its_neighbour_goes_on() -> None:
    engine = ScriptedEngine()
    unwanted = threading.Event()
    with batching(engine) as batcher:
        hold_the_engine(batcher, engine)
        listener = Listener(should_stop=unwanted.is_set)
        cancelled = batcher.submit(written("cancelled"), lane=Lane.BATCH, listener=listener)
        kept = batcher.submit(written("kept text"), lane=Lane.BATCH)
        for _ in range(3):
            engine.gate.release()
            assert engine.at_gate.acquire(timeout=SECONDS)
        unwanted.set()
        engine.open()
        assert kept.result(SECONDS).answers[0].text == "kept text"
        [broken_off] = cancelled.result(SECONDS).answers
    assert (broken_off.text, broken_off.finish) == ("can", CANCELLED)


def test_a_text_that_is_cancelled_before_its_first_token_ends_without_an_answer() -> None:
    engine = ScriptedEngine()
    unwanted = threading.Event()
    with batching(engine) as batcher:
        hold_the_engine(batcher, engine)
        routed: list[Route] = []

        def cancel(route: Route) -> None:
            routed.append(route)
            unwanted.set()

        listener = Listener(on_route=cancel, should_stop=unwanted.is_set)
        cancelled = batcher.submit(written("cancelled"), lane=Lane.INTERACTIVE, listener=listener)
        engine.open()
        with pytest.raises(Cancelled):
            cancelled.result(SECONDS)
    assert routed == [Route(Category.TRIAGE)]
    assert not [event for event in engine.events if event.startswith("token")]


def test_closing_finishes_what_people_watch_and_hands_back_the_rest() -> None:
    engine = ScriptedEngine()
    with batching(engine) as batcher:
        watched = batcher.submit(written("watched"), lane=Lane.INTERACTIVE)
        assert engine.at_gate.acquire(timeout=SECONDS)
        waiting = [batcher.submit(verdict(f"q{i}"), lane=Lane.BATCH) for i in range(3)]
        batcher.begin_closing()
        late = batcher.submit(verdict("late"), lane=Lane.INTERACTIVE)
        engine.open()
        assert watched.result(SECONDS).answers[0].text == "watched"
        for future in (*waiting, late):
            with pytest.raises(Interrupted):
                future.result(SECONDS)


def test_an_engine_that_cannot_be_loaded_fails_what_waits_with_its_reason() -> None:
    held = threading.Event()

    def load() -> ScriptedEngine:
        held.wait(SECONDS)
        raise ModelUnavailable("The model is not on this machine yet.")

    batcher = MicroBatcher(load, BatchLimits())
    batcher.start()
    waiting = batcher.submit(verdict("q"), lane=Lane.INTERACTIVE)
    held.set()
    with pytest.raises(ModelUnavailable):
        waiting.result(SECONDS)
    with pytest.raises(ModelUnavailable):
        batcher.ready.result(SECONDS)


@given(
    lengths=st.lists(st.integers(0, 200), min_size=1, max_size=40),
    arms=st.sampled_from([(Arm.STEERED,), BOTH]),
    max_rows=st.integers(1, 12),
)
def test_a_micro_batch_holds_the_oldest_question_and_its_nearest_in_length(
    lengths: list[int], arms: tuple[Arm, ...], max_rows: int
) -> None:
    waiting = [
        WaitingQuestion(Question("x" * length, arms=arms), Lane.BATCH, Listener()) for length in lengths
    ]
    taken = nearest_in_length(waiting, max_rows=max_rows)
    rows = sum(question.rows for question in taken)
    assert waiting[0] in taken
    assert rows <= max(max_rows, len(arms))
    assert len(taken) == len(waiting) or rows + len(arms) > max_rows
    chosen = [len(question.question.text) for question in taken]
    left = [len(question.question.text) for question in waiting if question not in taken]
    assert not [length for length in left if min(chosen) < length < max(chosen)]
