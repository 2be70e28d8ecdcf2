"""HTML of the results page: which evaluations there are, how one stands, two side by side."""

from collections.abc import Iterable
from datetime import datetime

from medx_core.evaluation.report.comparison import Comparison
from medx_core.evaluation.report.tables import Cell
from medx_core.storage.runs import Run, RunStatus
from web import wording
from web.evaluations import CheckedRequest
from web.markup import bar, escape, fault, link, note, table, tag

STATES = {
    RunStatus.QUEUED: "waiting",
    RunStatus.RUNNING: "running",
    RunStatus.DONE: "finished",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "cancelled",
}
HELPS = {True: "helps", False: "not shown to help", None: "open"}
NO_EVALUATION = "No evaluation has been run yet."
NO_PACE = "How long it takes is not known yet on this installation: minutes with a small model, hours with a large one."
MEANWHILE = "It runs at low priority beside the answering of questions; you may close the page."


def run_title(run: Run) -> str:
    """Name an evaluation in a list of choices: date, data, model, outcome."""
    outcome = HELPS[run.summary.helps] if run.status is RunStatus.DONE else STATES[run.status]
    return " · ".join(part for part in (_day(run.created_at), _data_of(run), _model_of(run), outcome) if part)


def runs_html(runs: Iterable[Run]) -> str:
    """List the evaluations with their sentences, the newest first."""
    head = [("date", "short"), ("data", ""), ("model", ""), ("seed", "num"), ("what came of it", "wide")]
    rows = (
        (
            link(f"/app/results?run={run.public_id}", _day(run.created_at)),
            escape(_data_of(run)),
            escape(_model_of(run)),
            escape(run.settings.get("seed", "")),
            escape(_outcome(run)),
        )
        for run in runs
    )
    return table(head, rows, empty=NO_EVALUATION, name="Evaluations")


def run_html(run: Run, now: datetime, *, ahead: int, worker_seen: bool) -> str:
    """Show how an evaluation stands that has no report to show."""
    lines = [tag("h2", escape(f"{_data_of(run)} · {_day(run.created_at)}"))]
    if run.status is RunStatus.QUEUED:
        lines.append(note(_waiting(ahead, worker_seen=worker_seen)))
    elif run.status is RunStatus.RUNNING:
        lines += [_progress(run), note(_running_since(run, now))]
    elif run.status is RunStatus.FAILED:
        lines.append(fault(run.reason or "The evaluation failed without saying why."))
    elif run.status is RunStatus.CANCELLED:
        lines.append(note("Cancelled before it finished; there is no result."))
    else:
        return ""
    return tag("div", "".join(lines), "medx-job", data_status=run.status.value, aria_live="polite")


def downloads_html(run: Run) -> str:
    """Link what can be taken away of a finished evaluation."""
    if run.status is not RunStatus.DONE:
        return ""
    files = (("report.html", "Report (HTML)"), ("arms.csv", "Table of arms (CSV)"), ("result.json", "JSON"))
    return "".join(
        link(f"/evaluations/{run.public_id}/{file}", title, "medx-button quiet", download=True)
        for file, title in files
    )


def comparison_html(first: Run, second: Run, shown: Comparison) -> str:
    """Show two evaluations side by side, as A and B."""
    head = [("", "wide"), ("A", "num"), ("B", "num")]
    rows = ((escape(what), _cell(a), _cell(b)) for what, a, b in shown.rows)
    sides = table(head, rows, empty="Neither has figures.", name="Two evaluations side by side")
    names = "".join(
        tag("p", tag("strong", letter) + " " + escape(run_title(run)))
        for letter, run in (("A", first), ("B", second))
    )
    return tag("h2", "Side by side") + names + "".join(note(line) for line in shown.remarks) + sides


def checked_html(found: CheckedRequest) -> str:
    """Say what would be run and how long it may take; nothing is queued yet."""
    sizes = f"{found.request.title}: {found.train:,} statements to train, {found.test:,} to test."
    took = (
        f"{wording.about(found.about_seconds)} at the pace of earlier evaluations here.".capitalize()
        if found.about_seconds
        else NO_PACE
    )
    notices = "".join(tag("li", escape(line)) for line in found.notices)
    return tag(
        "div",
        tag("p", escape(sizes), "medx-lead")
        + (tag("ul", notices, "medx-list") if notices else "")
        + note(f"{took} {MEANWHILE}"),
        "medx-check",
    )


def _cell(cell: Cell) -> str:
    small = " ".join(part for part in (cell.small, cell.remark) if part)
    return escape(cell.text) + (tag("small", escape(small)) if small else "")


def _progress(run: Run) -> str:
    stage = run.progress
    what = stage.what.capitalize() if stage else "Starting"
    if stage is None or stage.total <= 1:
        return tag("p", escape(f"{what} ..."), "medx-lead")
    figures = tag("strong", escape(f"{what}: {stage.done:,} of {stage.total:,}"))
    return tag("div", figures + bar(stage.done / stage.total, label=what), "medx-progress")


def _running_since(run: Run, now: datetime) -> str:
    parts = [f"running for {wording.about((now - (run.started_at or now)).total_seconds())}"]
    if run.attempts > 1:
        parts.append(f"attempt {run.attempts}")
    if run.requested_by:
        parts.append(f"started by {run.requested_by}")
    return " · ".join([*parts, "the bar starts again with each of its steps"])


def _waiting(ahead: int, *, worker_seen: bool) -> str:
    if not worker_seen:
        return "No evaluation worker has been seen lately. The evaluation is kept and begins once one is running."
    if ahead:
        return f"Waiting: {ahead} evaluation{'s' if ahead != 1 else ''} before this one."
    return "Waiting for the evaluation worker to begin it."


def _outcome(run: Run) -> str:
    if run.status is RunStatus.DONE:
        return str(run.summary.conclusion or "It came to no conclusion.")
    return f"{STATES[run.status]}: {run.reason}" if run.reason else STATES[run.status]


def _data_of(run: Run) -> str:
    return str(run.summary.data or run.settings.get("name") or run.settings.get("data") or "")


def _model_of(run: Run) -> str:
    """Name the model without the folder or owner it came from."""
    named = str(run.summary.model or ", ".join(run.settings.get("models") or ()))
    return named.rsplit("/", 1)[-1]


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
