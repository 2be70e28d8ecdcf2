"""Ratings as values: what a rater sees, what they hand in, and what is kept."""

from dataclasses import dataclass
from datetime import datetime

from medx_core.categories import Category
from medx_core.questions import Mode, Verdict
from medx_core.review.rating_form import RatingForm

BLIND_VIEW = ("question", "mode", "verdict", "text", "category")


@dataclass(frozen=True)
class BlindedAnswer:
    """What a rater sees: no arm, model, vector, score or other rater's view. `category` decides on the urgency field."""

    answer_id: str
    question: str
    mode: Mode
    verdict: Verdict | None
    text: str | None
    category: Category | None
    red_flag: bool = False

    @property
    def is_triage(self) -> bool:
        """Whether the form asks about urgency."""
        return self.category is Category.TRIAGE


@dataclass(frozen=True)
class NewRating:
    """A filled-in form. `seconds` runs from showing the answer to saving; `seen` names what the rater could see."""

    answer_id: str
    rater_id: int
    form: RatingForm
    seconds: float
    seen: tuple[str, ...] = BLIND_VIEW


@dataclass(frozen=True)
class StoredRating:
    """One rating as it stands; `version` rises with each change."""

    public_id: str
    answer: BlindedAnswer
    rater_id: int
    form: RatingForm
    form_version: int
    seconds: float
    seen: tuple[str, ...]
    version: int
    created_at: datetime
    changed_at: datetime


@dataclass(frozen=True)
class EarlierRating:
    """A rating as it stood before a change."""

    version: int
    form: RatingForm
    seconds: float
    written_at: datetime
    replaced_at: datetime
