"""Verdict prompts as values: the words around a statement or a question, up to where an answer word is read.

The answer words matter more than steering does: on the paper's kind of data Yes/No instead of True/False alone is worth
.2 of AUROC to a small model. So a prompt is part of the recipe that answers, and its version is stored with every answer.
"""

from dataclasses import dataclass

STATEMENT_SHOTS = (
    ("The heart pumps blood through the body.", True),
    ("Insulin raises the amount of glucose in the blood.", False),
    ("The kidneys make urine.", True),
    ("Antibiotics are an effective treatment for the common cold.", False),
)
QUESTION_SHOTS = (
    ("Does the heart pump blood through the body?", True),
    ("Does insulin raise the amount of glucose in the blood?", False),
    ("Do the kidneys make urine?", True),
    ("Are antibiotics an effective treatment for the common cold?", False),
)


@dataclass(frozen=True)
class VerdictPrompt:
    """A few-shot prompt whose next token is one of two answer words.

    `frame` holds one `{}` for the statement or question; `shots` pairs of text and truth come first, filled into the
    same frame and followed by their answer word. An `instruction` comes before all of it.
    """

    version: str
    frame: str
    true_word: str
    false_word: str
    shots: tuple[tuple[str, bool], ...] = ()
    instruction: str = ""

    def word(self, truth: bool) -> str:
        """Return the answer word for a truth value, with its leading space."""
        return self.true_word if truth else self.false_word

    def filled(self, text: str) -> str:
        """Return the whole prompt for `text`, ending right before the answer word."""
        shown = "\n\n".join(self.frame.format(shot) + self.word(truth) for shot, truth in self.shots)
        before = "".join(part + "\n\n" for part in (self.instruction, shown) if part)
        return before + self.frame.format(" ".join(text.split()))


STATEMENT_PROMPT = VerdictPrompt(
    version="verdict-statement-yes-no-4shot-v1",
    frame="Statement: {}\nIs the statement correct? Answer:",
    true_word=" Yes",
    false_word=" No",
    shots=STATEMENT_SHOTS,
)
QUESTION_PROMPT = VerdictPrompt(
    version="verdict-question-yes-no-4shot-v1",
    frame="Question: {}\nAnswer:",
    true_word=" Yes",
    false_word=" No",
    shots=QUESTION_SHOTS,
)
