"""Every sentence of the pages, as constants and pure functions. Plain text only: templates escape it.

Users read the same words here as on the command line, in CSV files and in reports: *category*, *steered*,
*unsteered*, *wrong*.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from medx_core.categories import Category, Route, RouteSource
from medx_core.data.identifiers import MASK, IdentifierKind, in_words
from medx_core.data.patient_data import Screening
from medx_core.jobs.snapshots import Progress
from medx_core.jobs.status import ItemStatus, JobStatus
from medx_core.model_check import ModelCheck
from medx_core.questions import Answer, Arm, Exploration, Mode, Verdict
from medx_core.settings import PatientDataRule
from medx_core.storage.credentials import Credential, CredentialKind, Scope
from medx_core.storage.health import ProcessHealth
from medx_core.storage.runs import Run, RunStatus

RESEARCH_USE = "Research use only - not for patient care"
NO_IDENTIFIERS = "Do not enter anything that identifies a patient."
AS_WRITTEN = "Store the file as written: it names no patient"
REMOVED = MASK
DECIDE = "Ask masked stores this text. Ask as written stores your own: only if it names no patient. Or edit the question above."
BATCH_DECIDE = "If none of this names a patient, tick the box below to store the file as written."
MASKING_MISSES = (
    "It misses some: unusual names standing alone, nicknames, places, dates without a year, rare diseases and events that "
    "point to one person."
)
STEERED_MEANS = (
    "Steered: a direction learned from correct and incorrect answers was added to the model's hidden states while it "
    "answered. Unsteered: the same model and prompt without it."
)
NO_CATEGORY = "No category decided: answered unsteered."
DOSE_LABEL = "dose"
EXPLORE_MEANS = "Try vectors on one question at any strength, for engineers: nothing here is a measured answer, and nobody rates it."
EXPLORE_FIGURES = (
    "Dose: the largest share of a state's own length by which it was moved. Perplexity: how surprising the text is to the "
    "unsteered model. Repetition: the share of its runs of four words that were there before."
)
SCORE_LABEL = "score for TRUE (uncalibrated)"
SIGN_IN_FAILED = "That name and password do not match an active account. Check both, or ask an administrator."
SIGN_IN_TOO_OFTEN = "Too many attempts. Wait a minute, then try again."
FORM_EXPIRED = "This form has expired. Go back, reload the page and try again."
SIGN_IN_FIRST = "Sign in first."
OTHER_SITE = "This request came from another site and was refused."
NOT_SERVED = "MedX does not serve this address."
NOT_YOUR_FILE = "This is not a file that you sent, or that was written for you; choose the file again."
NO_SUCH_JOB = "There is nothing at this address, or it belongs to another person."
NOTHING_TO_RATE = "There is nothing left for you to rate. Answers appear here after questions were asked or a batch was run."
WORKER_AWAY = "No worker is running. Your question is stored and will be answered when a worker starts."
WORKER_AWAY_BATCH = (
    "No worker is running. Your questions are stored and will be answered when a worker starts."
)
WORKER_LOADING = (
    "The worker is still loading its model. Your question is stored and will be answered when it is ready."
)
WORKER_LOADING_BATCH = (
    "The worker is still loading its model. Your questions are stored and will be answered when it is ready."
)
ANSWERING = "Answering ..."
CANCELLED_WRITING = "Cancelled while it was written."
CANCELLED_WAITING = "Cancelled before an answer was written."
REFUSED = "No answer: refused."
WROTE_NOTHING = "The model wrote nothing."
CHOOSE_FILE = "Choose a file first: CSV, TSV or JSONL with a column called question or statement."
FILE_NEEDS = (
    "A file needs a column called question or statement. The columns id, answer, category, harm and urgency are "
    "also understood; all others are carried along."
)
NO_EVALUATION = {
    True: (
        'No evaluation has been run yet. Start one under "Start an evaluation": choose the bundled statements or a file of '
        "your own with TRUE or FALSE, and press Start. The report appears here, with a way to download it."
    ),
    False: (
        "No evaluation has been run yet. An administrator starts one on this page; its report then appears here, and you may "
        "download it. Until then nothing here says whether steering helps."
    ),
}
"""What stands on Results before the first evaluation, for whoever may start one and for everybody else."""
NO_VECTORS = "There are no vectors yet; questions are answered unsteered. Build them with medx vectors build."
NO_RECIPES = "No recipe yet: the built-in one appears here once a worker has loaded its model."
ANSWERS_NOW = "answers now"
RATING_KEYS = (
    "Number keys answer the highlighted field and move on · arrow keys or Backspace change the field · Enter saves · "
    "S skips · C cannot judge · Esc leaves a text field"
)
LIMITS_PER_PROCESS = (
    "Limits on questions and sign-ins are counted per web process, because no broker can be reached."
)
RATING_CHOICES = {("consensus", "none"): "no consensus exists"}
"""Choices of the rating form that read differently from their stored values, by field and value."""


CATEGORY_NAMES: dict[Category, str] = {category: category.value for category in Category}
ARM_NAMES: dict[str, str] = {Arm.STEERED.value: "Steered", Arm.UNSTEERED.value: "Unsteered"}
MODE_CHOICES: list[tuple[str, str]] = [("Verdict", "verdict"), ("Written answer", "text")]
CATEGORY_CHOICES: list[tuple[str, str]] = [
    ("Decide for me", "auto"),
    *((name, category.value) for category, name in CATEGORY_NAMES.items()),
]
FILE_CATEGORY_CHOICES: list[tuple[str, str]] = [
    ("From the file, else decide for me", "auto"),
    *CATEGORY_CHOICES[1:],
]
ARM_CHOICES: list[tuple[str, str]] = [
    ("Steered and unsteered", "both"),
    ("Steered", "steered"),
    ("Unsteered", "unsteered"),
]
PROCESS_KINDS = {"worker": "worker", "evaluator": "evaluation worker", "web": "web page"}
WORKER_STAGES = {
    "loading": "loading its model; questions wait until it is ready",
    "ready": "ready",
    "stopping": "stopping; its questions go to the next worker",
    "refused": "its model cannot be used, so it ended",
    "waiting": "answers nothing",
}


def arm_name(arm: str) -> str:
    """Return the name of an arm; arms of evaluations keep their own names."""
    return ARM_NAMES.get(arm, arm.replace("_", " "))


def category_name(category: Category | None) -> str:
    """Return the name of a category, or that there is none."""
    return "no category" if category is None else CATEGORY_NAMES[category]


def route_sentence(route: Route) -> str:
    """Say which category was decided and by whom."""
    if route.category is None:
        return f"{NO_CATEGORY} Choose a category below to have it steered."
    chosen = {RouteSource.USER: ", your choice", RouteSource.FILE: ", from the file"}.get(route.source, "")
    return f"Category: {category_name(route.category)}{chosen}"


def verdict_word(verdict: Verdict | None) -> str:
    """Return the large word of a verdict card."""
    if verdict is None:
        return "No verdict"
    return "Uncertain" if verdict is Verdict.UNCERTAIN else verdict.value


def score_label(answer: Answer) -> str:
    """Return what to call the number beside a verdict: a probability only where a test allows it."""
    return SCORE_LABEL if answer.probability is None else "probability of TRUE"


def verdict_remark(answer: Answer) -> str:
    """Return what must be said with an uncertain verdict, empty otherwise."""
    if answer.verdict is Verdict.UNCERTAIN and answer.raw_verdict is not None:
        return f"Leans {answer.raw_verdict.value}."
    return ""


def seconds(value: float) -> str:
    """Write the duration of one answer in seconds."""
    return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


def about(value: float) -> str:
    """Write an estimated duration, given in seconds, without false precision."""
    if value < 1:
        return "about a second"
    if value < 90:
        return f"about {value:.0f} s"
    minutes = value / 60
    return f"about {minutes:.0f} min" if minutes < 90 else f"about {minutes / 60:.1f} h"


def ago(value: float) -> str:
    """Say how many seconds, minutes or hours ago something was; the value is in seconds."""
    return f"{value:.0f} s ago" if value < 90 else f"{about(value)} ago"


def share(value: float) -> str:
    """Write a probability, score or share with two decimals."""
    return f"{value:.2f}"


def counted(number: int, noun: str) -> str:
    """Write a number with its noun, for example `1 question` or `1,200 questions`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def provenance(answer: Answer) -> str:
    """Return one line on what made an answer: model, recipe, vector with its dose, time."""
    vector = f"vector {answer.vector}" if answer.vector else "no vector"
    dose = "" if answer.dose is None else f" · {DOSE_LABEL} {answer.dose:.2g}"
    recipe = f" · recipe {answer.recipe}" if answer.recipe else ""
    return f"{answer.model}{recipe} · {vector}{dose} · {seconds(answer.seconds)}"


def written(text: str) -> str:
    """Return a written answer, or that it is blank."""
    return text if text.strip() else WROTE_NOTHING


def finish_remark(answer: Answer) -> str:
    """Say when a written answer is incomplete."""
    return {
        "length": "The answer reached its length limit and stops here.",
        "cancelled": "Cancelled here; the text so far is kept.",
    }.get(answer.finish, "")


def worker_away(refused: str, *, questions: int = 1) -> str:
    """Say that no worker answers and what becomes of the questions; `refused` is why, where one said so, or empty."""
    if refused:
        kept = "Your question is" if questions == 1 else "Your questions are"
        return f"Nothing is answered now: {refused} {kept} stored and will be answered then."
    return WORKER_AWAY if questions == 1 else WORKER_AWAY_BATCH


def waiting(ahead: int | None, worker: str, refused: str = "") -> str:
    """Say where a question stands while nothing has been written yet; `worker` is a stage of `WORKER_STAGES` or ""."""
    if not worker:
        return worker_away(refused)
    if worker == "loading":
        return WORKER_LOADING
    if ahead is None or ahead <= 0:
        return "Waiting for the model ..."
    return f"Waiting: {counted(ahead, 'question')} ahead of yours."


def item_status(status: ItemStatus, reason: str = "") -> str:
    """Say what became of a question that has no answer."""
    words = {
        ItemStatus.QUEUED: "waiting",
        ItemStatus.RUNNING: "being answered",
        ItemStatus.ANSWERED: "answered",
        ItemStatus.QUARANTINED: "failed",
        ItemStatus.CANCELLED: "cancelled",
    }[status]
    return f"{words}: {reason}" if reason else words


STATUS_CHOICES: list[tuple[str, str]] = [
    ("all rows", ""),
    *((item_status(status), status.value) for status in ItemStatus),
]


def question_failed(reason: str, *, administrator: bool = False) -> str:
    """Say that a question failed in all its attempts, and what its reader can do: an administrator looks into it."""
    why = reason or "The worker could not answer this question."
    way = "look at Failed questions on Admin" if administrator else "tell an administrator"
    return f"{why.rstrip('.')}. Ask in other words, or {way}."


def exploration_failed(reason: str) -> str:
    """Say to an administrator why a try came to nothing."""
    return reason or "The worker could not try this; its log says why."


def job_status(status: JobStatus) -> str:
    """Return the name of a job's state."""
    return {
        JobStatus.QUEUED: "waiting",
        JobStatus.RUNNING: "running",
        JobStatus.DONE: "finished",
        JobStatus.CANCELLED: "cancelled",
    }[status]


def counts(progress: Progress) -> str:
    """Count what became of the rows of a job; only the answered are named when zero."""
    parts = [f"answered {progress.answered:,}"]
    if progress.quarantined:
        parts.append(f"failed {progress.quarantined:,}")
    if progress.cancelled:
        parts.append(f"cancelled {progress.cancelled:,}")
    return " · ".join(parts)


def choices_made(mode: Mode, arms: tuple[Arm, ...]) -> str:
    """Return one line on how a job is answered."""
    form = "verdicts" if mode is Mode.VERDICT else "written answers"
    return f"{form} · {' and '.join(arm_name(arm.value).lower() for arm in arms)}"


def workers_sentence(workers: list[ProcessHealth], seen_limit: float) -> str:
    """Say whether a worker is running; the workers are ordered by when they were last seen, the latest first."""
    live = [worker for worker in workers if worker.seconds_since_seen <= seen_limit]
    if live:
        count = "A worker is" if len(live) == 1 else f"{len(live)} workers are"
        return f"{count} running, last seen {ago(live[0].seconds_since_seen)}."
    if workers:
        return f"No worker is running; the last one was seen {ago(workers[0].seconds_since_seen)}."
    return "No worker has been seen yet. Start one with `medx serve worker`."


def process_state(process: ProcessHealth, seen_limit: float) -> str:
    """Say what a process does, as far as it reported."""
    is_away = process.seconds_since_seen > seen_limit
    if process.detail.get("refused") and not (process.waits and is_away):
        stage = "waiting" if process.waits else "refused"
        return f"{WORKER_STAGES[stage]}: {process.detail['refused']}"
    if is_away:
        return "not seen lately; it was ended, or cannot reach the database"
    detail = process.detail
    if process.kind == "web":
        return f"serving on {detail['address']}" if detail.get("address") else "serving"
    parts = [WORKER_STAGES.get(str(detail.get("stage")), "running")]
    if detail.get("model_name"):
        device = f" on {detail['device']}" if detail.get("device") else ""
        parts.append(f"{detail['model_name']}{device}")
    if detail.get("recipe"):
        parts.append(f"recipe {detail.get('recipe_name')} ({detail['recipe']})")
    if isinstance(detail.get("answered"), int):
        parts.append(f"{counted(detail['answered'], 'question')} answered since it started")
    if detail.get("weight_sha256"):
        parts.append(f"weights {str(detail['weight_sha256'])[:8]}, verified by their content when it started")
    return " · ".join(parts)


def check_sentence(check: ModelCheck) -> str:
    """Say what a model was found to do when it was checked."""
    able = [name.replace("_", " ") for name, can in check.can.model_dump().items() if can]
    begins = "was checked" if check.ok else "was checked, and not everything works"
    return f"The model {check.model} on {check.placement} {begins}; it can: {', '.join(able) or 'nothing'}."


def page_needs(title: str, *, needed: str, own: str) -> str:
    """Say that a page is for another role."""
    return f"The page {title} needs the role {needed}; yours is {own}. Ask an administrator if you need it."


def action_needs(*, needed: str, own: str) -> str:
    """Say that an action is for another role."""
    return f"This needs the role {needed}; yours is {own}. Ask an administrator."


def something_broke(reference: str) -> str:
    """Say that a handler failed; the log has the details under the reference."""
    return (
        "Something went wrong in MedX. Try again; if it happens again, give an administrator this reference: "
        f"{reference}."
    )


def other_kind_of_file(wanted: Sequence[str]) -> str:
    """Say that a file has another ending than those that are read."""
    return f"This file is of another kind; choose one that ends in {', '.join(wanted)}."


def request_too_large(limit: int) -> str:
    """Say that a request was refused for its size, in bytes."""
    return f"This request is larger than the {limit:,} bytes that are allowed here."


def no_room_for_person(limit: int, *, hours: float) -> str:
    """Say that a person's files take all the bytes that one person has."""
    return (
        f"Your files take all of the {limit / 1_000_000:,.0f} MB that one person has here. They are removed {hours:g} hours after "
        "they came; wait, or ask an administrator to raise MEDX_UPLOAD_BYTES_PER_PERSON."
    )


def no_room_for_anyone(*, hours: float) -> str:
    """Say that the files of all people take all the bytes there are for them."""
    return (
        f"The room for everybody's files is used up. They are removed {hours:g} hours after they came; wait, or ask an "
        "administrator to raise MEDX_UPLOAD_BYTES_IN_ALL."
    )


def too_often(limit: int, *, per: str) -> str:
    """Say that a person reached a rate limit; `per` is `minute` or `hour`."""
    return f"That is more than {limit} in one {per}. Wait a little, then try again."


def explored(exploration: Exploration) -> str:
    """Say what is tried, and that it is no answer."""
    vectors = counted(len(exploration.vectors), "vector")
    return f"Exploration, not a measured answer: {vectors}, {exploration.strength:g} times as strong as made."


def figure(value: float | None) -> str:
    """Return a figure with three digits that count, empty while there is none."""
    return "" if value is None else f"{value:.3g}"


def may_identify(kinds: Counter[IdentifierKind]) -> str:
    """Say what a question may contain, and that nothing is stored yet."""
    return f"This question may contain {in_words(kinds)}. Nothing is stored yet. It would be stored as:"


def patient_data(rule: PatientDataRule) -> str:
    """Say beside the box what is done with what may identify a patient, and that not everything is found."""
    done = {
        PatientDataRule.MASK: "What MedX takes for such is masked before it is stored, after asking you.",
        PatientDataRule.WARN: "MedX stores what you write as it is, and warns where it may identify somebody.",
        PatientDataRule.REFUSE: "MedX refuses what it takes for such.",
    }
    return f"{NO_IDENTIFIERS} {done[rule]} {MASKING_MISSES}"


def file_may_identify(screening: Screening) -> str:
    """Say what a file may contain and what will be done with it."""
    found = f"{counted(screening.cells, 'cell')} may identify a patient: {in_words(screening.kinds)}."
    done = {
        PatientDataRule.MASK: "They are stored masked, columns that are carried along too. Examples:",
        PatientDataRule.WARN: "They are stored as written.",
        PatientDataRule.REFUSE: "The file will be refused; take that out first.",
    }
    return f"{found} {done[screening.rule]}"


def is_masked(screening: Screening) -> bool:
    """Whether what was found will be stored masked."""
    return screening.rule is PatientDataRule.MASK


RUN_STATES = {
    RunStatus.QUEUED: "waiting",
    RunStatus.RUNNING: "running",
    RunStatus.DONE: "finished",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "cancelled",
}
HELPS = {True: "helps", False: "not shown to help", None: "open"}


BROWSERS = (("Edg/", "Edge"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS", "Mac"),
    ("Linux", "Linux"),
)


LINK_USED = "This link was used already or has ended. Ask an administrator for another one."
PASSWORDS_DIFFER = "The two new passwords differ; type both again."


def token_needs(scope: Scope | None) -> str:
    """Say what a token would have to be for."""
    if scope is None:
        return "A token is for programs; sign in to use the pages."
    return f"This token is not for this: it needs the scope {scope.value}."


def credential_name(credential: Credential) -> str:
    """Return the browser of a session in words, of a program the beginning of how it names itself; or the token, or link."""
    title = credential.title
    if credential.kind is CredentialKind.TOKEN:
        return f"token {title} ({', '.join(credential.scopes)})"
    if credential.kind is CredentialKind.LINK:
        return "one-time link"
    browser = next((name for mark, name in BROWSERS if mark in title), "")
    system = next((name for mark, name in SYSTEMS if mark in title), "")
    return f"{browser} on {system}" if browser and system else title[:40] or "unknown program"


def credential_line(credential: Credential) -> str:
    """Return a session in one line, as one chooses it from a list."""
    place = f" from {credential.address}" if credential.address else ""
    return f"{credential_name(credential)}{place}, since {minute(credential.created_at)}"


def credentials_ended(count: int) -> str:
    """Say how many sessions, tokens and links were ended."""
    return f"{count} ended."


def minute(moment: datetime) -> str:
    """Return a date and time to the minute."""
    return f"{moment:%Y-%m-%d %H:%M}"


def evaluation_title(run: Run) -> str:
    """Return the title of an evaluation in a list of choices: date, data, model, outcome."""
    outcome = HELPS[run.summary.helps] if run.status is RunStatus.DONE else RUN_STATES[run.status]
    parts = (minute(run.created_at), evaluation_data(run), evaluation_model(run), outcome)
    return " · ".join(part for part in parts if part)


def evaluation_data(run: Run) -> str:
    """Return the name of the data of an evaluation."""
    return str(run.summary.data or run.settings.get("name") or run.settings.get("data") or "")


def evaluation_model(run: Run) -> str:
    """Return the name of the model without its folder or owner."""
    names = run.summary.model or ", ".join(run.settings.get("models") or ())
    return names.rsplit("/", 1)[-1]


def evaluation_outcome(run: Run) -> str:
    """Return the conclusion of a finished evaluation, else its state and the reason for it."""
    if run.status is RunStatus.DONE:
        return run.summary.conclusion
    return f"{RUN_STATES[run.status]}: {run.reason}" if run.reason else RUN_STATES[run.status]


def evaluation_waiting(ahead: int, *, has_worker: bool) -> str:
    """Say what a queued evaluation waits for."""
    if not has_worker:
        return "No worker for evaluations is running. The evaluation is stored and starts when one does."
    if ahead:
        return f"Waiting: {counted(ahead, 'evaluation')} before this one."
    return "Waiting for a worker to start it."


def evaluation_time(about_seconds: float | None) -> str:
    """Say about how long an evaluation takes; None where this installation has no pace to go by."""
    pace = (
        f"{about(about_seconds)} at the pace of earlier evaluations here.".capitalize()
        if about_seconds
        else "How long it takes is not known yet on this installation: minutes with a small model, hours with a large one."
    )
    return f"{pace} It runs at low priority next to the answering of questions; you may close the page."
