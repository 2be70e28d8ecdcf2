"""What somebody asks of an evaluation, as one value that a command, a page and a stored run share.

It names data and models and holds neither; nothing here loads a language model.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from medx_core.errors import BadInput
from medx_core.evaluation.data_split import PartSizes

BUNDLED = "bundled"
"""Stands for the statements that come with MedX, in place of a file's name."""
DRAWS = 20
FEWEST_SAMPLED = 40
MAX_ERROR = 0.1
"""The largest share of wrong answers among those that a rule of abstention trusts."""
DECLARED = "gated"
RECIPE = "recipe"
"""The arm that is the recipe in use."""
ARMS = (
    "unsteered",
    "prompt_only",
    "prior",
    "paper",
    "gated",
    "random",
    "shuffled",
    "gated_random",
    "gated_shuffled",
    "probe",
    "lexical",
    RECIPE,
)
SAVABLE = ("unsteered", "prompt_only", "prior", "paper", "gated")
"""Arms that can be saved as a recipe."""
EXTRA_ARMS = ("likelihood_gated", "fine_tuned")
"""Arms that are off unless asked for: one is experimental, the other slow. The command line hands them in."""
STEERED = (DECLARED, "paper")
"""Arms that can be declared: those for which random and shuffled controls are drawn. The others are exploratory."""
FIT_ON = ("auto", "twins", "statements")
CATEGORIES = ("file", "auto")

PRESETS: dict[str, PartSizes] = {"paper": PartSizes(sample=1_077, split=(861, 216))}
"""The paper's protocol (MEDASSESS-X, arXiv 2601.12812): 1,077 statements, 861 to train and 216 to test."""


@dataclass(frozen=True)
class EvaluationRequest:
    """One evaluation as it was asked for; `models` empty means the model of the settings, `prompt` empty: the best ones.

    `save_recipe` names a candidate that is made of the winner, or of the arm `save_arm`. `data` is a path, a data set of the hub, or `bundled`; when `kept`, a file's name in the folder of evaluations.

    Raises:
        BadInput: a choice is not known, or two of them contradict each other.
    """

    data: str
    name: str = ""
    kept: bool = False
    models: tuple[str, ...] = ()
    preset: str = ""
    sample: int | None = None
    split: str = ""
    seed: int = 1
    declared: str = DECLARED
    extra: tuple[str, ...] = ()
    fit_on: str = "auto"
    prompt: str = ""
    category: str = "file"
    draws: int = DRAWS
    save_recipe: str = ""
    save_arm: str = ""
    max_error: float = MAX_ERROR

    def __post_init__(self) -> None:
        if not self.data:
            raise BadInput("Say which statements to evaluate on: --data FILE (or --self-test).")
        _known("preset", self.preset, ("", *PRESETS))
        if self.preset and (self.sample or self.split):
            raise BadInput("A preset states its own --sample and --split; give either the preset or those.")
        _known("--fit-on", self.fit_on, FIT_ON)
        _known("--category", self.category, CATEGORIES)
        for arm in self.extra:
            _known("arm", arm, EXTRA_ARMS)
        _known("arm to judge", self.declared, STEERED)
        _known("arm to save", self.save_arm, ("", *SAVABLE))
        if self.save_arm and not self.save_recipe:
            raise BadInput("--save-arm needs a name for the recipe: --save-recipe NAME.")
        if self.draws < DRAWS or self.seed < 0 or (self.sample or FEWEST_SAMPLED) < FEWEST_SAMPLED:
            raise BadInput(
                f"An evaluation draws {FEWEST_SAMPLED} statements or more, {DRAWS} controls or more, and its seed is 0 or more."
            )
        if not 0 < self.max_error < 1:
            raise BadInput(f"--max-error is a share between 0 and 1, as 0.1; {self.max_error} is none.")
        self.sizes  # noqa: B018 - refuses a split that cannot be read

    @property
    def title(self) -> str:
        """What to call the data: the file's own name."""
        return self.name or re.split(r"[/\\]", self.data)[-1]

    @property
    def sizes(self) -> PartSizes:
        """How many statements are drawn and how they are divided."""
        if self.preset:
            return PRESETS[self.preset]
        if not self.split:
            return PartSizes(self.sample)
        match = re.fullmatch(r"(\d+)/(\d+)", self.split)
        if not match:
            raise BadInput(
                f"--split {self.split!r} is not understood; write the sizes of train and test as 861/216."
            )
        return PartSizes(self.sample, (int(match[1]), int(match[2])))

    def as_json(self) -> dict[str, Any]:
        """Return what `request_from` reads."""
        return asdict(self) | {"name": self.title}


def request_from(stored: Mapping[str, Any]) -> EvaluationRequest:
    """Read a stored request.

    Raises:
        BadInput: it holds something that this version does not know.
    """
    known: dict[str, Any] = {
        name: stored[name] for name in EvaluationRequest.__dataclass_fields__ if name in stored
    }
    lists = {name: tuple(known[name]) for name in ("models", "extra") if name in known}
    return EvaluationRequest(**{"data": ""} | known | lists)


def arms_named(text: str) -> tuple[str, ...]:
    """Return those of the arms named by comma that do not run by themselves.

    Raises:
        BadInput: one is not known.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        _known("arm", name, (*ARMS, *EXTRA_ARMS))
    return tuple(name for name in EXTRA_ARMS if name in names)


def _known(kind: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        there = ", ".join(choice for choice in choices if choice)
        raise BadInput(f"The {kind} {value!r} is not known; there is: {there}.")
