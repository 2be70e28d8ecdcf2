"""Jobs, items and answers as they are shown: frozen, detached from the database."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from medx_core import __version__
from medx_core.categories import Route
from medx_core.clock import iso
from medx_core.jobs.status import ItemStatus, JobKind, JobStatus
from medx_core.questions import Answer, Arm, Exploration, Mode, Question


@dataclass(frozen=True)
class Progress:
    """How many items of a job are in which state."""

    total: int
    queued: int = 0
    running: int = 0
    answered: int = 0
    quarantined: int = 0
    cancelled: int = 0

    @property
    def finished(self) -> int:
        """Items that need no more work."""
        return self.answered + self.quarantined + self.cancelled


@dataclass(frozen=True)
class JobSnapshot:
    """One job. `public_id` is the only id that appears in addresses; it cannot be guessed. `recipe` is the one it is bound to."""

    public_id: str
    kind: JobKind
    status: JobStatus
    mode: Mode
    arms: tuple[Arm, ...]
    title: str
    progress: Progress
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    person: str = ""
    carried_columns: tuple[str, ...] = ()
    exploration: Exploration | None = None
    recipe: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the state of the job, as programs and the command line show it."""
        counts = asdict(self.progress)
        return {
            "job": self.public_id,
            "status": self.status.value,
            "rows": counts.pop("total"),
            **counts,
            "recipe": self.recipe,
            "created_at": iso(self.created_at),
            "finished_at": iso(self.finished_at),
        }


@dataclass(frozen=True)
class StoredAnswer:
    """One arm's answer as stored, under an id that cannot be guessed."""

    public_id: str
    answer: Answer
    created_at: datetime


@dataclass(frozen=True)
class ItemSnapshot:
    """One question of a job, with its route and answers so far."""

    id: int
    row: int
    given_id: str
    text: str
    status: ItemStatus
    reason: str = ""
    attempts: int = 0
    route: Route | None = None
    expected: bool | None = None
    harm: str = ""
    urgency: str = ""
    carried: Mapping[str, str] = field(default_factory=dict)
    answers: tuple[StoredAnswer, ...] = ()

    def answer_in(self, arm: Arm) -> Answer | None:
        """Return the stored answer of one arm, None while there is none."""
        return next((stored.answer for stored in self.answers if stored.answer.arm is arm), None)

    def as_json(self, job: JobSnapshot) -> dict[str, Any]:
        """Return the question as `medx ask --json` shows one, with its job and its state."""
        return {
            "job": job.public_id,
            "status": self.status.value,
            "reason": self.reason,
            "question": self.text,
            "mode": job.mode.value,
            "route": self.route.as_json() if self.route else None,
            "answers": [stored.answer.as_json() | {"id": stored.public_id} for stored in self.answers],
            "recipe": next((stored.answer.recipe for stored in self.answers), None),
            "emergency": self.route.red_flag if self.route else None,
            "medx_version": __version__,
        }


@dataclass(frozen=True)
class LeasedItem:
    """An item that the worker `owner` holds: results are stored only while `fence` is the item's latest."""

    id: int
    job_id: str
    owner: str
    fence: int
    row: int
    question: Question


@dataclass(frozen=True)
class ArmAccuracy:
    """Right verdicts of one arm, among the answered items that have an expected answer."""

    arm: Arm
    right: int
    judged: int


@dataclass(frozen=True)
class RecipeCount:
    """How many rows of a job were answered by a recipe. The name is empty where the recipe is not stored here."""

    recipe: str
    name: str
    rows: int


def recipes_in_words(counts: Sequence[RecipeCount]) -> str:
    """Say that a job was answered by several recipes, because it could not stay with its first one; empty where it was not."""
    if len(counts) < 2:
        return ""
    shares = ", ".join(
        f"{each.name or 'unnamed'} ({each.recipe}) {each.rows:,} row{'' if each.rows == 1 else 's'}"
        for each in counts
    )
    return (
        f"Answered by {len(counts)} recipes, since the one that it began with was withdrawn or could not be used any more: "
        f"{shares}; the column `recipe` says which one answered each row."
    )


@dataclass(frozen=True)
class ArmChanges:
    """Steered against unsteered verdicts of one harm, among items with an expected answer that both arms judged.

    `helped` are wrong unsteered and right steered, `harmed` the other way round. `harm` is empty where none was given.
    """

    harm: str
    judged: int
    helped: int
    harmed: int
