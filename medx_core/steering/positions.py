"""Which tokens of a text are steered, as one plain value that files, recipes and options write as a word."""

import re
from dataclasses import dataclass
from typing import ClassVar

from medx_core.errors import BadInput

WINDOW = re.compile(r"(-?\d*):(-?\d*)")


@dataclass(frozen=True)
class Positions:
    """The tokens from `first` up to, not including, `stop`; None where there is no such bound.

    Tokens are counted from where the answer begins, so that a number means the same in prompts of every length: -1 is
    the last token of the prompt, which the first answer token is read from; 0 is the first token of the answer. A
    verdict is read from -1, so windows that begin later leave it as it is.

    Raises:
        BadInput: no token lies between the bounds.
    """

    first: int | None = None
    stop: int | None = None

    # each state that a next token of the answer is read from
    LAST: ClassVar["Positions"]
    LAST_PROMPT: ClassVar["Positions"]
    PROMPT: ClassVar["Positions"]
    ANSWER: ClassVar["Positions"]
    ALL: ClassVar["Positions"]

    def __post_init__(self) -> None:
        if self.first is not None and self.stop is not None and self.first >= self.stop:
            raise BadInput(
                f"No token lies from {self.first} up to {self.stop}; the second number must be larger."
            )

    @classmethod
    def parse(cls, text: str) -> "Positions":
        """Read a name (last, last-prompt, prompt, answer, all) or a window FROM:TO such as -12:0, 0:20 or :-1.

        Raises:
            BadInput: `text` is neither, or the window is empty.
        """
        if text in NAMED:
            return NAMED[text]
        bounds = WINDOW.fullmatch(text)
        if bounds is None or "-" in bounds.groups():
            raise BadInput(
                f"There are no positions {text!r}; choose one of {', '.join(NAMED)}, or FROM:TO counted from "
                "the answer's first token, for example -12:0 for the last twelve tokens of the prompt."
            )
        first, stop = (int(bound) if bound else None for bound in bounds.groups())
        return cls(first, stop)

    def __str__(self) -> str:
        named = {positions: name for name, positions in NAMED.items()}
        first, stop = ("" if bound is None else bound for bound in (self.first, self.stop))
        return named.get(self, f"{first}:{stop}")

    @property
    def in_earlier_prompt(self) -> bool:
        """Whether a prompt token before the last one is steered: then what follows it must be computed anew."""
        return self.first is None or self.first < -1

    @property
    def in_prompt(self) -> bool:
        """Whether any token of the prompt is steered."""
        return self.first is None or self.first < 0

    @property
    def in_answer(self) -> bool:
        """Whether any token of the answer is steered."""
        return self.stop is None or self.stop > 0

    def within(self, begins_at: int, tokens: int) -> slice:
        """Return which of a pass's `tokens` columns are steered, where the first of them is number `begins_at`."""
        low = 0 if self.first is None else min(max(self.first - begins_at, 0), tokens)
        high = tokens if self.stop is None else min(max(self.stop - begins_at, low), tokens)
        return slice(low, high)


Positions.LAST = Positions(-1, None)
Positions.LAST_PROMPT = Positions(-1, 0)
Positions.PROMPT = Positions(None, 0)
Positions.ANSWER = Positions(0, None)
Positions.ALL = Positions(None, None)
NAMED = {
    "last": Positions.LAST,
    "last-prompt": Positions.LAST_PROMPT,
    "prompt": Positions.PROMPT,
    "answer": Positions.ANSWER,
    "all": Positions.ALL,
}
