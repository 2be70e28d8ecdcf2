"""Every sentence a user reads, as pure functions and constants. Plain text only: markup escapes it later."""

from collections.abc import Mapping

from medx_core.categories import Category, Route, RouteSource
from medx_core.jobs.snapshots import Progress
from medx_core.jobs.status import ItemStatus, JobStatus
from medx_core.questions import Answer, Arm, Mode, Verdict
from medx_core.storage.health import ProcessHealth

RESEARCH_USE = "Research use only - not for patient care"
NO_IDENTIFIERS = "Do not enter anything that identifies a patient."
EMERGENCY = "If this may be an emergency, call your local emergency number now."
STEERED_MEANS = (
    "Steered: a direction learned from correct and incorrect answers was added inside the model while it answered. "
    "Plain: the same model and prompt without it."
)
NOT_EVALUATED = "Whether this vector helps: not evaluated."
NO_KIND = "No kind decided: answered plain."
SIGN_IN_FAILED = "That name and password do not match an active account. Check both, or ask an administrator."
SIGN_IN_TOO_OFTEN = "Too many attempts to sign in. Wait a minute, then try again."
FORM_EXPIRED = "This form has expired. Go back, reload the page and try again."
SIGN_IN_FIRST = "Sign in first."
NO_SUCH_JOB = "There is nothing under this address, or it belongs to somebody else."
NOTHING_TO_RATE = "There is nothing left for you to rate. Answers appear here once questions have been asked or a batch has run."
WORKER_AWAY = "No worker has been seen lately. Your question is kept and answered once one is running."
WORKER_AWAY_BATCH = (
    "No worker has been seen lately. Your questions are kept and answered once one is running."
)
WROTE_NOTHING = "The model wrote nothing."
CHOOSE_FILE = "Choose a file first: CSV, TSV or JSONL with a column called question or statement."
FILE_MEANING = (
    "A file needs a column called question or statement; id, answer, category, harm, urgency are understood."
)

KIND_NAMES: dict[Category, str] = {
    Category.TRIAGE: "triage",
    Category.LITERATURE: "literature",
    Category.PATIENT_FACING: "patient-facing",
}
ARM_NAMES: dict[str, str] = {Arm.STEERED.value: "Steered", Arm.UNSTEERED.value: "Plain"}
MODE_CHOICES: list[tuple[str, str]] = [("Verdict", "verdict"), ("Written answer", "text")]
KIND_CHOICES: list[tuple[str, str]] = [
    ("Decide for me", "auto"),
    *((name, kind.value) for kind, name in KIND_NAMES.items()),
]
FILE_KIND_CHOICES: list[tuple[str, str]] = [("As the file says, else decide", "auto"), *KIND_CHOICES[1:]]
ARM_CHOICES: list[tuple[str, str]] = [
    ("Steered and plain", "both"),
    ("Steered", "steered"),
    ("Plain", "unsteered"),
]
# What the core writes beside an answer, in the words of the pages. Its own module brings torch, which the web never loads.
ANSWER_NOTES = {
    "No category was decided, so no steering vector was used; choose a category to steer.": (
        "No kind was decided, so no vector was used; choose a kind to have it steered."
    ),
    "No steering vector is active for this model and category; answered unsteered. Build them with `medx vectors build`.": (
        "No vector is in use for this kind on this model; answered plain. Vectors are built with medx vectors build."
    ),
}
PROCESS_KINDS = {"worker": "worker", "evaluator": "evaluation worker", "web": "web page"}
WORKER_STAGES = {
    "loading": "loading its model; questions wait until it is ready",
    "ready": "ready",
    "stopping": "stopping; its questions go to the next worker",
}


def arm_name(arm: str) -> str:
    """Name an arm the way pages do; evaluation arms keep their own names."""
    return ARM_NAMES.get(arm, arm.replace("_", " "))


def kind_name(category: Category | None) -> str:
    """Name the kind of a question; a question without one says so."""
    return "no kind" if category is None else KIND_NAMES[category]


def route_sentence(route: Route) -> str:
    """Say which kind was decided and by whom."""
    if route.category is None:
        return f"{NO_KIND} Choose one below to have it steered."
    chosen = {RouteSource.USER: ", your choice", RouteSource.FILE: ", from the file"}.get(route.source, "")
    return f"Kind: {kind_name(route.category)}{chosen}"


def verdict_word(verdict: Verdict | None) -> str:
    """The large word of a verdict card."""
    if verdict is None:
        return "No verdict"
    return "Uncertain" if verdict is Verdict.UNCERTAIN else verdict.value


def verdict_remark(answer: Answer) -> str:
    """What must be said beside the large word, empty when nothing."""
    if answer.verdict is Verdict.UNCERTAIN and answer.raw_verdict is not None:
        return f"Leans {answer.raw_verdict.value}, but the score is too close to one half to say."
    return ""


SCORE_LABEL = "score for TRUE (uncalibrated)"


def seconds(value: float) -> str:
    """Write a duration of one answer, in seconds."""
    return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


def about(value: float) -> str:
    """Write an estimated duration without false precision."""
    if value < 1:
        return "about a second"
    if value < 90:
        return f"about {value:.0f} s"
    minutes = value / 60
    return f"about {minutes:.0f} min" if minutes < 90 else f"about {minutes / 60:.1f} h"


def provenance(answer: Answer) -> str:
    """One line on what made an answer: model, vector, time."""
    vector = f"vector {answer.vector}" if answer.vector else "no vector"
    return f"{answer.model} · {vector} · {seconds(answer.seconds)}"


def answer_note(note: str) -> str:
    """Say in the words of the pages what the core noted beside an answer."""
    return ANSWER_NOTES.get(note, note)


def written(text: str) -> str:
    """Return a written answer; a blank one is said to be so."""
    return text if text.strip() else WROTE_NOTHING


def finish_remark(answer: Answer) -> str:
    """Say when a written answer is not whole."""
    return {
        "length": "The answer reached its length limit and stops here.",
        "cancelled": "Cancelled here; what was written stays.",
    }.get(answer.finish, "")


def waiting(ahead: int | None, *, worker_seen: bool) -> str:
    """Say where a question stands while nothing has been written yet."""
    if not worker_seen:
        return WORKER_AWAY
    if ahead is None or ahead <= 0:
        return "Waiting for the model ..."
    return f"Waiting: {ahead} question{'s' if ahead != 1 else ''} ahead of yours."


def item_status(status: ItemStatus, reason: str = "") -> str:
    """Say what became of one question that has no answer."""
    words = {
        ItemStatus.QUEUED: "waiting",
        ItemStatus.RUNNING: "being answered",
        ItemStatus.ANSWERED: "answered",
        ItemStatus.QUARANTINED: "set aside",
        ItemStatus.CANCELLED: "cancelled",
    }[status]
    return f"{words}: {reason}" if reason else words


def question_failed(reason: str) -> str:
    """Say that a question was set aside after its attempts, and what to do."""
    why = reason or "The worker could not answer this question."
    return f"{why.rstrip('.')}. Ask again, or tell an administrator."


def job_status(status: JobStatus) -> str:
    """Name the state of a job."""
    return {
        JobStatus.QUEUED: "waiting",
        JobStatus.RUNNING: "running",
        JobStatus.DONE: "finished",
        JobStatus.CANCELLED: "cancelled",
    }[status]


def counts(progress: Progress) -> str:
    """Count what became of the rows of a job; zeros are left out except the answered."""
    parts = [f"answered {progress.answered:,}"]
    if progress.quarantined:
        parts.append(f"set aside {progress.quarantined:,}")
    if progress.cancelled:
        parts.append(f"cancelled {progress.cancelled:,}")
    return " · ".join(parts)


def ago(value: float) -> str:
    """Say how long ago something was."""
    return f"{value:.0f} s ago" if value < 90 else f"{about(value)} ago"


def process_state(process: ProcessHealth, seen_limit: float) -> str:
    """Say in words what a process does, as far as it reported."""
    if process.seconds_since_seen > seen_limit:
        return "not heard of lately; it was ended, or cannot reach the database"
    detail = process.detail
    if process.kind == "web":
        return f"serving on {detail['address']}" if detail.get("address") else "serving"
    parts = [WORKER_STAGES.get(str(detail.get("stage")), "at work")]
    if detail.get("model_name"):
        device = f" on {detail['device']}" if detail.get("device") else ""
        parts.append(f"{detail['model_name']}{device}")
    if isinstance(detail.get("answered"), int):
        count = detail["answered"]
        parts.append(f"{count:,} question{'' if count == 1 else 's'} answered since it started")
    if detail.get("weight_sha256"):
        parts.append(f"weights {str(detail['weight_sha256'])[:8]}")
    return " · ".join(parts)


def share(value: float) -> str:
    """Write a probability, score or share with two decimals."""
    return f"{value:.2f}"


def page_needs(title: str, *, needed: str, own: str) -> str:
    """Say that a page is for another role."""
    return f"The page {title} needs the role {needed}; yours is {own}. Ask an administrator if you need it."


def action_needs(*, needed: str, own: str) -> str:
    """Say that an action is for another role."""
    return f"This needs the role {needed}; yours is {own}. Ask an administrator."


def something_broke(reference: str) -> str:
    """Say that a handler failed; the log has the details under the reference."""
    return f"Something went wrong in MedX. Try again; if it happens again, give an administrator this reference: {reference}."


def too_often(limit: int, *, per: str) -> str:
    """Say that a person reached a rate limit; `per` is `minute` or `hour`."""
    return f"That is more than {limit} in one {per}. Wait a little, then try again."


def limits(max_rows: int, max_bytes: int, max_characters: int) -> str:
    """State the limits of an upload."""
    return (
        f"CSV, TSV or JSONL, up to {max_rows:,} rows, {max_bytes / 1_000_000:,.0f} MB "
        f"and {max_characters:,} characters a question."
    )


def choices_made(mode: Mode, arms: Mapping[str, object] | tuple[Arm, ...]) -> str:
    """One line on how a job is answered."""
    form = "verdicts" if mode is Mode.VERDICT else "written answers"
    return f"{form} · {' and '.join(arm_name(str(arm)).lower() for arm in arms)}"
