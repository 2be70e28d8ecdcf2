"""Verdict prompts as values: the words around a statement or a question, up to where an answer word is read.

The answer words matter more than steering does: on the paper's kind of data Yes/No instead of True/False alone is worth
.2 of AUROC to a small model. So a prompt is part of the recipe that answers, and its version is stored with every answer.
"""

from dataclasses import dataclass, replace

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

ANSWER_WORDS = {
    "yes-no": (" Yes", " No", "Is the statement correct? Answer:"),
    "true-false": (" True", " False", "True or False? Answer:"),
    "correct-incorrect": (" Correct", " Incorrect", "Is this correct or incorrect? Answer:"),
}
"""The pairs of answer words that a recipe may read, TRUE's first, and how a statement is asked for them."""


@dataclass(frozen=True)
class VerdictPrompt:
    """A few-shot prompt whose next token is one of two answer words.

    `frame` holds one `{}` for the statement or question; `shots` pairs of text and truth come first, filled into the
    same frame and followed by their answer word. An `instruction` comes before all of it. With `chat` the rest is a user's
    turn in the model's chat template, the instruction its system text, and the answer word begins the model's own turn.
    """

    version: str
    frame: str
    true_word: str
    false_word: str
    shots: tuple[tuple[str, bool], ...] = ()
    instruction: str = ""
    chat: bool = False

    def word(self, truth: bool) -> str:
        """Return the answer word for a truth value as it follows the prompt: with its leading space, or as a turn begins."""
        word = self.true_word if truth else self.false_word
        return word.lstrip() if self.chat else word

    def in_chat(self) -> "VerdictPrompt":
        """Return the same prompt as a turn in the model's chat template, with the answer words as its instruction."""
        return replace(
            self,
            version=f"{self.version}-chat",
            instruction=f"Answer with one word:{self.true_word} or{self.false_word}.",
            chat=True,
        )

    def filled(self, text: str) -> str:
        """Return the whole prompt for `text`, ending right before the answer word; what a chat template adds is left out."""
        return "\n\n".join(part for part in (self.instruction, self.asked(text)) if part)

    def asked(self, text: str) -> str:
        """Return the prompt for `text` without its instruction: the shots, then the frame around the text."""
        words = {True: self.true_word, False: self.false_word}
        shown = [self.frame.format(shot) + words[truth] for shot, truth in self.shots]
        return "\n\n".join([*shown, self.frame.format(" ".join(text.split()))])


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
