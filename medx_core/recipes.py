"""A recipe: everything about a model's use that decides an answer, as one immutable value named by the hash of its content.

What is measured is what answers: `medx evaluate` measures the recipe in use, an answer stores the id of the recipe it came
from, and the evidence that a page shows is of that very recipe. What routes a question, and how long a text may grow, are
settings of the process and no part of it. Needs neither torch nor the database.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field, model_validator

from medx_core.calibration import AbstentionRule, Calibration
from medx_core.categories import Category
from medx_core.metric import Value
from medx_core.prompts import QUESTION_PROMPT, STATEMENT_PROMPT, VerdictPrompt
from medx_core.settings import Settings

ENGINE = "torch"
"""What computes: this program's own way through a model on torch. Another engine is another recipe."""
PAPER, UNSTEERED = "paper", "unsteered"
BUILT_IN = (PAPER, UNSTEERED)
"""The recipes that a model answers by while none was promoted: the paper's once it has vectors, else its bare prompt."""
ALL = "all"
"""The key of the vector that steers whatever has none of its own category."""
ID_LENGTH = 12
DO_NOT_TRUST = "Do not trust this answer"


@dataclass(frozen=True)
class ModelIdentity:
    """A model as recipes are made for it.

    Its name is for people. `sha256` names the weights, `identity_sha256` all of the model that changes an answer.
    """

    name: str
    sha256: str
    number_type: str
    identity_sha256: str = ""


class SteeringEntry(Value):
    """What steers the questions of one category: a vector by the hash of its file, and what that does.

    `layer` is the highest one that it shifts (decoder index, 0-based), `strength` its alpha. `positions` is empty where the
    record of the vector does not say, and the file decides.
    """

    file_sha256: str
    strategy: str
    layer: int
    strength: float
    positions: str = ""


class Recipe(Value):
    """How questions are answered by one model in one number type.

    `model_sha256` names the weights; `identity_sha256` also the tokenizer, the chat template and the configuration, empty
    in recipes that are older than that hash.
    `prompt` asks for verdicts, `question_prompt` in its place where a text ends in a question mark, and a category's own
    prompt in place of both. `steering` is keyed by category or `ALL`. An answer is TRUE where its logit difference is
    `threshold` or more, and not to be trusted where
    `abstention` says so of the confidence that `calibration` makes of the difference less the threshold; without such a rule,
    within `uncertain_margin` of the threshold, as a share of the two answer words.
    `gated_text` lets input-dependent vectors write. `max_dose` is the largest dose (see `steering.dose`) that it may give; a
    question that would get a larger one is refused. None leaves that to the setting, and the smaller of both counts.

    A field with a default is left out of the hash while it has it, so that one added later changes no id.
    """

    model_sha256: str
    identity_sha256: str = ""
    number_type: str
    engine: str
    prompt: VerdictPrompt
    question_prompt: VerdictPrompt | None = None
    category_prompts: Mapping[Category, VerdictPrompt] = {}
    steering: Mapping[str, SteeringEntry] = {}
    threshold: float = 0.0
    uncertain_margin: float = Field(0.0, ge=0, lt=0.5)
    calibration: Calibration | None = None
    abstention: AbstentionRule | None = None
    gated_text: bool = False
    max_dose: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _is_whole(self) -> "Recipe":
        if self.abstention is not None and self.calibration is None:
            raise ValueError("an abstention rule reads confidences, which need a calibration")
        return self

    @property
    def content(self) -> str:
        """The recipe as canonical JSON."""
        plain = self.model_dump(mode="json", exclude_defaults=True)
        return json.dumps(plain, sort_keys=True, separators=(",", ":"))

    @property
    def id(self) -> str:
        """The first twelve letters of the SHA-256 of its content."""
        return hashlib.sha256(self.content.encode()).hexdigest()[:ID_LENGTH]

    @property
    def unsteered(self) -> "Recipe":
        """The same recipe without what steers: how the unsteered arm answers."""
        return self.model_copy(update={"steering": {}})

    def changed(self, **parts: object) -> "Recipe":
        """Return this recipe with other parts; one that answers otherwise has neither calibration nor abstention rule.

        Both were fitted on answers that were made as the recipe stood, and say nothing of answers made otherwise.
        """
        changed = Recipe.model_validate(self.model_dump() | parts)
        return (
            self if changed == self else changed.model_copy(update={"calibration": None, "abstention": None})
        )

    @property
    def prompts(self) -> tuple[VerdictPrompt, ...]:
        """All prompts that it asks with, each once."""
        prompts = (self.prompt, self.question_prompt, *self.category_prompts.values())
        return tuple(dict.fromkeys(prompt for prompt in prompts if prompt is not None))

    def prompt_for(self, text: str, category: Category | None) -> VerdictPrompt:
        """Return the prompt that asks for the verdict on a text of that category, None where none was decided."""
        if category is not None and category in self.category_prompts:
            return self.category_prompts[category]
        is_question = text.rstrip().endswith("?")
        return self.question_prompt if is_question and self.question_prompt else self.prompt

    def key_for(self, category: Category | None) -> str | None:
        """Return the key of what steers a question of that category, None where nothing does."""
        if category is not None and category.value in self.steering:
            return category.value
        return ALL if ALL in self.steering else None

    def misfit(self, model: ModelIdentity) -> str:
        """Return why this recipe cannot answer on that model, as a part of a sentence; empty where it was made for it."""
        if self.model_sha256 != model.sha256:
            return f"it was made for other weights than those of {model.name}"
        if self.number_type != model.number_type:
            return f"it was made for {self.number_type}, and {model.name} runs in {model.number_type} here"
        if self.identity_sha256 not in ("", model.identity_sha256):
            return f"it was made for another tokenizer, chat template or configuration than {model.name} has here"
        return "" if self.engine == ENGINE else f"it was made for the engine {self.engine}, not for {ENGINE}"

    def probability(self, margin: float, *, as_measured: bool = True) -> float | None:
        """Return the probability of TRUE at a logit difference less the threshold; None where no test allows to call it so.

        `as_measured` is whether the answer was made as the recipe's calibration was fitted: steered where it steers.
        """
        if self.calibration is None or not self.calibration.is_probability or not as_measured:
            return None
        return self.calibration.probability(margin)

    def doubt(self, margin: float, *, as_measured: bool = True) -> str:
        """Return why an answer is not to be trusted, by its logit difference less the threshold; empty where it is.

        The abstention rule decides where there is one, of answers made as it was measured: without a promise it trusts none.
        Else an answer is trusted outside of `uncertain_margin`.
        """
        rule = self.abstention
        if rule is None or self.calibration is None or not as_measured:
            near = abs(1 / (1 + math.exp(-abs(margin))) - 0.5) < self.uncertain_margin
            return f"{DO_NOT_TRUST}: its score is too close to the threshold to decide." if near else ""
        if rule.trusts(self.calibration.confidence(margin, said_true=margin >= 0)):
            return ""
        wrong = f"at most {100 * rule.max_error:g} % of the answers it stands by are wrong"
        if not rule.promised:
            return (
                f"{DO_NOT_TRUST}: MedX cannot promise for this model, on the statements it was measured on, that "
                f"{wrong}, so no answer is marked as trusted; {rule.reason}."
            )
        return f"{DO_NOT_TRUST}: the model is not sure enough of it for the recipe's promise that {wrong}."


def dose_limit(by_recipe: float | None, *, by_setting: float) -> tuple[float, str]:
    """Return the largest dose that is allowed, the smaller of a recipe's and the setting's, and which of them that is."""
    if by_recipe is not None and by_recipe < by_setting:
        return by_recipe, "the recipe's max_dose"
    return by_setting, "MEDX_MAX_DOSE"


def built_in_recipe(model: ModelIdentity, settings: Settings) -> Recipe:
    """Return the built-in recipe of a model without steering: MedX's own prompts, and the margin of these settings."""
    return Recipe(
        model_sha256=model.sha256,
        identity_sha256=model.identity_sha256,
        number_type=model.number_type,
        engine=ENGINE,
        prompt=STATEMENT_PROMPT,
        question_prompt=QUESTION_PROMPT,
        uncertain_margin=settings.uncertain_margin,
        gated_text=settings.gated_text,
    )
