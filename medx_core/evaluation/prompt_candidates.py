"""The prompts an evaluation tries before anything is steered.

Answer words matter more than a steering vector does: on the paper's kind of data Yes/No in place of True/False alone
was worth .2 of AUROC. A steered arm that is compared with a poor prompt therefore proves nothing, and every
evaluation begins by choosing the best of these on its training part.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from medx_core.categories import Category
from medx_core.models.prompting import QUESTION_SHOTS, STATEMENT_SHOTS, VerdictPrompt

MORE_STATEMENTS = (
    ("The lungs take up oxygen from the air.", True),
    ("The liver lies in the chest, above the diaphragm.", False),
    ("The skin helps to regulate body temperature.", True),
    ("Red blood cells are the body's main defence against infection.", False),
)
MORE_QUESTIONS = (
    ("Do the lungs take up oxygen from the air?", True),
    ("Does the liver lie in the chest, above the diaphragm?", False),
    ("Does the skin help to regulate body temperature?", True),
    ("Are red blood cells the body's main defence against infection?", False),
)
INSTRUCTIONS: dict[Category | None, str] = {
    None: "You are a careful clinician. Judge each of the following by established medical knowledge.",
    Category.TRIAGE: "You are an experienced triage nurse. Judge each of the following by how urgently care is needed and by what is safe.",
    Category.LITERATURE: "You are an expert in reading medical research. Judge each of the following by the published evidence.",
    Category.PATIENT_FACING: "You are a clinician who advises patients. Judge each of the following by whether a patient may rely on it.",
}
_WORDS = {
    "yes-no": (" Yes", " No", "Is the statement correct? Answer:"),
    "true-false": (" True", " False", "True or False? Answer:"),
    "correct-incorrect": (" Correct", " Incorrect", "Is this correct or incorrect? Answer:"),
}
_SHOTS = {"yes-no": (0, 2, 4, 8), "true-false": (0, 2, 4, 8), "correct-incorrect": (4,)}
_INSTRUCTED = (("yes-no", 4), ("true-false", 4))


@dataclass(frozen=True)
class PromptCandidate:
    """What is tried as one: one prompt for all statements, or one for each category.

    The prompt under None serves every category that has none of its own.
    """

    version: str
    prompts: Mapping[Category | None, VerdictPrompt]

    @classmethod
    def of(cls, prompt: VerdictPrompt) -> "PromptCandidate":
        """Make a candidate that asks every statement with the same prompt."""
        return cls(prompt.version, {None: prompt})

    @property
    def prompt(self) -> VerdictPrompt:
        """The prompt of statements without a category; of most candidates the only one."""
        return self.prompts[None]

    def prompt_for(self, category: Category | None) -> VerdictPrompt:
        """Return the prompt that statements of `category` are asked with."""
        return self.prompts.get(category, self.prompt)


def plain_candidates(*, questions: bool) -> tuple[PromptCandidate, ...]:
    """Return answer words x shots, for statements or for yes/no questions."""
    return tuple(
        PromptCandidate.of(_prompt(words, shots, questions=questions))
        for words, counts in _SHOTS.items()
        for shots in counts
    )


def instructed_candidates(
    categories: Iterable[Category | None], *, questions: bool
) -> tuple[PromptCandidate, ...]:
    """Return the candidates that begin with an instruction.

    With categories, each statement gets its own category's instruction; where several categories are mixed, a general
    instruction for all of them is tried too.
    """
    found = set(categories)
    named = sorted(category for category in found if category is not None)
    kinds: list[tuple[str, list[Category | None]]] = []
    if named:
        kinds.append((named[0].value if len(found) == 1 else "by-category", [None, *named]))
    if len(found) != 1 or not named:
        kinds.append(("clinician", [None]))
    return tuple(
        _instructed(words, shots, name, chosen, questions=questions)
        for name, chosen in kinds
        for words, shots in _INSTRUCTED
    )


def _instructed(
    words: str, shots: int, name: str, categories: Iterable[Category | None], *, questions: bool
) -> PromptCandidate:
    version = f"{_version(words, shots, questions=questions)}-{name}"
    plain = _prompt(words, shots, questions=questions)
    return PromptCandidate(
        version,
        {
            category: replace(plain, version=version, instruction=INSTRUCTIONS[category])
            for category in categories
        },
    )


def _prompt(words: str, shots: int, *, questions: bool) -> VerdictPrompt:
    true_word, false_word, ask = _WORDS[words]
    known = QUESTION_SHOTS + MORE_QUESTIONS if questions else STATEMENT_SHOTS + MORE_STATEMENTS
    return VerdictPrompt(
        version=_version(words, shots, questions=questions),
        frame="Question: {}\nAnswer:" if questions else f"Statement: {{}}\n{ask}",
        true_word=true_word,
        false_word=false_word,
        shots=known[:shots],
    )


def _version(words: str, shots: int, *, questions: bool) -> str:
    return f"verdict-{'question' if questions else 'statement'}-{words}-{shots}shot-v1"
