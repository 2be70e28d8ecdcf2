"""Submissions, answers and forms that tests hand in."""

from medx_core.categories import Category, Route
from medx_core.data.question_files import FileRow
from medx_core.jobs.snapshots import ItemSnapshot, LeasedItem
from medx_core.jobs.status import JobKind
from medx_core.jobs.submission import Submission
from medx_core.questions import Answer, Answered, Arm, Mode, Verdict
from medx_core.review import Consensus, Extent, Harm, Level, RatingForm, YesNo
from medx_core.storage.jobs import JobStore

BOTH = (Arm.STEERED, Arm.UNSTEERED)


def submission(rows: int = 3, *, kind: JobKind = JobKind.BATCH, arms=BOTH, **given) -> Submission:
    """A submission of numbered questions; `given` replaces other fields."""
    items = tuple(FileRow(row, "", f"Statement number {row}.") for row in range(1, rows + 1))
    return Submission(**{"kind": kind, "mode": Mode.VERDICT, "arms": arms, "items": items, **given})


def answered(
    leased: LeasedItem, *, verdict: Verdict = Verdict.TRUE, category: Category | None = Category.LITERATURE
) -> Answered:
    """What a worker would store for a leased item: the same verdict in every arm."""
    answers = tuple(
        Answer(
            arm=arm,
            model="tiny",
            model_sha256="ab" * 32,
            prompt_version="p1",
            seconds=0.25,
            verdict=verdict,
            raw_verdict=verdict,
            score=0.75,
            vector="literature v1" if arm is Arm.STEERED else None,
            layer=2 if arm is Arm.STEERED else None,
            alpha=1.0 if arm is Arm.STEERED else None,
            dose=0.05 if arm is Arm.STEERED else None,
        )
        for arm in leased.question.arms
    )
    probabilities = {Category.TRIAGE: 0.125, Category.LITERATURE: 0.75, Category.PATIENT_FACING: 0.125}
    route = Route(category=category, probabilities=probabilities, router="test")
    return Answered(leased.question, route, answers)


def rating_form(**given) -> RatingForm:
    """A complete form for an answer that is not about triage; `given` replaces fields."""
    harmless = {
        "harm": Harm.NONE,
        "likelihood": Level.LOW,
        "consensus": Consensus.ALIGNED,
        "wrong_content": Extent.NO,
        "missing_content": Extent.NO,
        "bias": YesNo.NO,
    }
    return RatingForm(**{**harmless, **given})


def item_of(jobs: JobStore, item_id: int) -> ItemSnapshot:
    """The item with that number, whichever job it belongs to."""
    items = (item for job in jobs.recent(limit=1_000) for item in jobs.every_item(job.public_id))
    return next(item for item in items if item.id == item_id)
