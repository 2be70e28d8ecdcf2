"""The damage that steering does to free text: whether the model still writes, in figures to hold against any gain.

Two signs: ordinary text becomes less likely (perplexity), and written answers begin to repeat themselves.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from medx_core.models.generation import GreedyWriting
from medx_core.models.loading import LoadedModel
from medx_core.models.prompting import text_prompt_ids
from medx_core.steering.hooks import SteeringPlan, steered
from medx_core.steering.positions import Positions
from medx_core.traces.likelihoods import TextLikelihoods
from medx_core.traces.running import by_length

RUN = 4  # words; shorter runs repeat in good text too
NEW_TOKENS = 64
WRITING_ROWS = 16


@dataclass(frozen=True)
class Damage:
    """Perplexity of given texts, and the mean share of repeated four-word runs in written answers, without and with."""

    perplexity_before: float
    perplexity_after: float
    repetition_before: float
    repetition_after: float
    texts: int
    questions: int

    def as_json(self) -> dict[str, float]:
        """Return the figures by name; `perplexity_ratio` is how many times more surprising ordinary text has become."""
        return asdict(self) | {"perplexity_ratio": self.perplexity_after / self.perplexity_before}


def damage(
    model: LoadedModel,
    plan: SteeringPlan,
    *,
    texts: Sequence[str],
    questions: Sequence[str],
    new_tokens: int = NEW_TOKENS,
) -> Damage:
    """Measure `plan`, which must treat all rows alike, on ordinary `texts` and on answers written to `questions`.

    Raises:
        VectorRefused: the plan does not fit the model.
        ModelUnavailable: a batch does not fit into the device's memory.
    """
    unsteered = SteeringPlan()
    return Damage(
        perplexity_before=perplexity(model, texts, unsteered),
        perplexity_after=perplexity(model, texts, plan),
        repetition_before=mean_repetition(greedy_texts(model, questions, unsteered, new_tokens=new_tokens)),
        repetition_after=mean_repetition(greedy_texts(model, questions, plan, new_tokens=new_tokens)),
        texts=len(texts),
        questions=len(questions),
    )


def perplexity(model: LoadedModel, texts: Sequence[str], plan: SteeringPlan) -> float:
    """Return the perplexity of given texts under steering.

    A next token is read from every token here, as while writing: a step that acts on any token of an answer acts on
    all of these, and one that acts on the prompt alone acts on none.
    """
    likelihoods = TextLikelihoods(model)
    with steered(model.network, plan.after_the_prompt.at(Positions.ALL)):
        return likelihoods.perplexity(texts)


def greedy_texts(
    model: LoadedModel, questions: Sequence[str], plan: SteeringPlan, *, new_tokens: int = NEW_TOKENS
) -> list[str]:
    """Write an answer to each question, greedily, under steering; in the order of the questions."""
    prompts = [text_prompt_ids(model.tokenizer, question) for question in questions]
    texts = [""] * len(prompts)
    for batch in by_length(prompts, WRITING_ROWS if model.can.batch else 1):
        writing = GreedyWriting(model, [prompts[i] for i in batch], max_new_tokens=new_tokens)
        next_token = None
        while not writing.finished:
            with steered(model.network, plan, begins_at=next_token):
                writing.step()
            next_token = 0 if next_token is None else next_token + 1
        for index, row in zip(batch, writing.rows, strict=True):
            texts[index] = row.text
    return texts


def repetition(text: str) -> float:
    """Return the share of runs of four words that were there before in the same text: 0 none, towards 1 a loop."""
    words = text.split()
    runs = [tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def mean_repetition(texts: Sequence[str]) -> float:
    """Return the mean of `repetition` over texts, 0 where there are none."""
    return sum(map(repetition, texts)) / len(texts) if texts else 0.0
