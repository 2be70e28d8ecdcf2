"""The engine: questions are routed, steered and answered, several at a time, on one model."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from medx_core.answering.row_vectors import ActiveVectors, RowVector, vector_of_row
from medx_core.answering.writing import Writing, answer_shell
from medx_core.categories import Category, Route, RouteSource
from medx_core.models.loading import LoadedModel
from medx_core.models.prefix_cache import SharedPrefix
from medx_core.models.prompting import TEXT_PROMPT_VERSION, VerdictPrompt, verdict_prompt_for
from medx_core.models.scoring import AnswerHead, score
from medx_core.questions import Answer, Answered, ArmRow, Mode, Question, Verdict
from medx_core.routing.router import Router
from medx_core.steering.hooks import plan_for_rows, steered
from medx_core.steering.layers import hidden_size
from medx_core.steering.steering_vector import SteeringVector


@dataclass(frozen=True)
class AnsweringLimits:
    """What an answer may take: new tokens of a written one, and the margin around one half called uncertain.

    `gated_text` lets vectors that were made for verdicts steer written answers too.
    """

    max_new_tokens: int = 160
    uncertain_margin: float = 0.05
    gated_text: bool = False


class AnsweringEngine:
    """One model on one device with its router and active vectors. One thread calls it."""

    def __init__(
        self, model: LoadedModel, router: Router, vectors: ActiveVectors, limits: AnsweringLimits
    ) -> None:
        self._model = model
        self._router = router
        self._vectors = vectors
        self._limits = limits
        self._width = hidden_size(model.network)
        self._heads: dict[str, tuple[SharedPrefix, AnswerHead]] = {}
        self._active: Mapping[Category, SteeringVector] = {}
        self.refresh_vectors()

    @property
    def model_name(self) -> str:
        """The model's name as stored with every answer."""
        return self._model.name

    @property
    def weight_sha256(self) -> str:
        """The hash of the model's weights."""
        return self._model.weight_sha256

    @property
    def device(self) -> str:
        """Device and number type, for people."""
        return str(self._model.placement)

    def refresh_vectors(self) -> None:
        """Ask anew which vectors are active."""
        self._active = self._vectors.active(self._model.weight_sha256)

    def route(self, questions: Sequence[Question]) -> tuple[Route, ...]:
        """Route every question; a category chosen by a person or a file stands, with the router's probabilities beside it."""
        routed = self._router.route([question.text for question in questions])
        return tuple(_with_choice(question, route) for question, route in zip(questions, routed, strict=True))

    def verdicts(self, rows: Sequence[ArmRow]) -> tuple[Answer, ...]:
        """Judge every row, TRUE or FALSE; rows that share a prompt share one forward pass.

        Raises:
            ModelUnavailable: a pass does not fit into the device's memory.
        """
        answers: dict[int, Answer] = {}
        for prompt in dict.fromkeys(verdict_prompt_for(row.question.text) for row in rows):
            indices = [i for i, row in enumerate(rows) if verdict_prompt_for(row.question.text) == prompt]
            judged = self._judge(prompt, [rows[i] for i in indices])
            answers.update(zip(indices, judged, strict=True))
        return tuple(answers[i] for i in range(len(rows)))

    def write(self, rows: Sequence[ArmRow]) -> Writing:
        """Start a written answer for every row; nothing runs before the first step."""
        steerings = [self._vector_of(row, TEXT_PROMPT_VERSION) for row in rows]
        return Writing(self._model, rows, steerings, self._limits.max_new_tokens)

    def answer(self, question: Question) -> Answered:
        """Answer one question in all its arms, without a queue."""
        route = self.route([question])[0]
        rows = [ArmRow(question, route, arm) for arm in question.arms]
        if question.mode is Mode.VERDICT:
            return Answered(question, route, self.verdicts(rows))
        writing = self.write(rows)
        while not writing.finished:
            writing.step()
        return Answered(question, route, writing.answers())

    def _judge(self, prompt: VerdictPrompt, rows: Sequence[ArmRow]) -> list[Answer]:
        started = time.perf_counter()
        prefix, head = self._head(prompt)
        steerings = [self._vector_of(row, prompt.version) for row in rows]
        parts = [steering.parts_of_a_verdict for steering in steerings]
        plan = plan_for_rows(parts, width=self._width)
        with steered(self._model.network, plan):
            states = prefix.last_states([prefix.encoded(row.question.text) for row in rows])
        differences = head.logit_differences(states).tolist()
        seconds = (time.perf_counter() - started) / len(rows)
        return [
            self._verdict(answer_shell(self._model, row, steering, prompt.version, seconds), difference)
            for row, steering, difference in zip(rows, steerings, differences, strict=True)
        ]

    def _verdict(self, answer: Answer, difference: float) -> Answer:
        value = score(difference)
        raw = Verdict.TRUE if difference >= 0 else Verdict.FALSE
        near = abs(value - 0.5) < self._limits.uncertain_margin
        return replace(answer, score=value, raw_verdict=raw, verdict=Verdict.UNCERTAIN if near else raw)

    def _head(self, prompt: VerdictPrompt) -> tuple[SharedPrefix, AnswerHead]:
        if prompt.version not in self._heads:
            prefix = SharedPrefix(self._model, prompt)
            self._heads[prompt.version] = (prefix, AnswerHead(prefix))
        return self._heads[prompt.version]

    def _vector_of(self, row: ArmRow, prompt_version: str) -> RowVector:
        return vector_of_row(row, self._active, prompt_version, gated_text=self._limits.gated_text)


def _with_choice(question: Question, route: Route) -> Route:
    if question.category is None:
        return route
    source = RouteSource.FILE if question.category_from_file else RouteSource.USER
    return replace(route, category=question.category, source=source)
