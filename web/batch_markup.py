"""HTML of the batch page: what a file holds, how a job stands, its rows, and the jobs before it."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from medx_core.data.problems import Problem
from medx_core.data.question_files import QuestionFile
from medx_core.evaluation.bootstrap import wilson
from medx_core.jobs.snapshots import ArmAccuracy, ItemSnapshot, JobSnapshot
from medx_core.jobs.status import UNFINISHED, ItemStatus, JobKind, JobStatus
from medx_core.questions import Answer, Arm
from medx_core.storage.jobs import is_correct
from web import wording
from web.estimates import rows_a_second, seconds_left
from web.markup import bar, escape, link, note, table, tag

SHOWN_ROWS = 5
SHOWN_REMARKS = 40
LONG_TEXT = 160


def file_html(file: QuestionFile, pace: float | None) -> str:
    """Show what was understood of an uploaded file; nothing is queued yet."""
    if file.refused:
        why = file.problems[0].message if file.problems else "The file holds no question."
        return tag("div", tag("p", escape(why), "medx-fault", role="alert"), "medx-check refused")
    parts = [tag("p", escape(_understood(file)), "medx-lead")]
    if pace:
        parts.append(
            note(f"{wording.about(len(file.rows) / pace)} at the pace of your last batch.".capitalize())
        )
    parts.append(_first_rows(file))
    parts.append(_remarks("Rows that are not taken", file.problems))
    parts.append(_remarks("Worth knowing", file.notices))
    parts.append(note("Nothing has been queued yet."))
    return tag("div", "".join(parts), "medx-check")


def _understood(file: QuestionFile) -> str:
    rows = f"{len(file.rows):,} question{'' if len(file.rows) == 1 else 's'}"
    answers = sum(row.answer is not None for row in file.rows)
    given = f", {answers:,} with an answer to compare with" if answers else ""
    return f"{file.name}: {rows}{given}. Columns: {', '.join(file.columns)}. Read as {file.format}, {file.encoding}."


def _first_rows(file: QuestionFile) -> str:
    head = [("row", "num"), ("question", "wide"), ("answer", ""), ("kind", "")]
    rows = (
        (
            escape(row.number),
            escape(_short(row.text)),
            "" if row.answer is None else str(row.answer).upper(),
            "" if row.category is None else escape(wording.kind_name(row.category)),
        )
        for row in file.rows[:SHOWN_ROWS]
    )
    return table(head, rows, empty="No rows.", name="First rows of the file")


def _remarks(title: str, remarks: Sequence[Problem]) -> str:
    if not remarks:
        return ""
    rows = [
        tag("li", tag("span", escape(_where(remark)), "medx-where") + " " + escape(remark.message))
        for remark in remarks[:SHOWN_REMARKS]
    ]
    if len(remarks) > SHOWN_REMARKS:
        rows.append(tag("li", escape(f"... and {len(remarks) - SHOWN_REMARKS:,} more.")))
    return tag("h3", escape(f"{title} ({len(remarks):,})")) + tag("ul", "".join(rows), "medx-list")


def _where(remark: Problem) -> str:
    parts = [f"row {remark.row}"] if remark.row is not None else []
    return ", ".join([*parts, *([remark.column] if remark.column else [])])


def job_html(
    job: JobSnapshot, accuracies: Sequence[ArmAccuracy], now: datetime, *, worker_seen: bool = True
) -> str:
    """Show how a job stands; while no worker is seen nobody can say how long it takes."""
    progress = job.progress
    done = progress.finished / progress.total if progress.total else 1.0
    figures = f"{progress.finished:,} of {progress.total:,}"
    away = still_running(job) and not worker_seen
    left = None if away else seconds_left(job, now)
    ahead = f"{wording.about(left)} left" if left is not None else wording.job_status(job.status)
    if job.status is JobStatus.CANCELLED:
        ahead = "cancelled"
    lines = [
        tag("h2", escape(job.title or "Batch")),
        tag(
            "div",
            tag("strong", escape(figures)) + bar(done, label="finished") + escape(ahead),
            "medx-progress",
        ),
        note(wording.WORKER_AWAY_BATCH, "medx-remark") if away else "",
        tag("p", escape(_pace_line(job, now)), "medx-note"),
        tag("p", escape(wording.choices_made(job.mode, job.arms)), "medx-note"),
        _accuracy_html(accuracies, finished=job.progress.finished == job.progress.total),
    ]
    return tag(
        "div", "".join(lines), "medx-job", data_status=job.status.value, data_finished=str(progress.finished)
    )


def _pace_line(job: JobSnapshot, now: datetime) -> str:
    parts = [wording.counts(job.progress)]
    pace = rows_a_second(job, now)
    if pace:
        parts.append(f"{pace:.1f} rows/s" if pace < 100 else f"{pace:,.0f} rows/s")
    started = job.started_at or job.created_at
    parts.append(f"{'started' if job.started_at else 'submitted'} {started:%Y-%m-%d %H:%M} UTC")
    if job.person:
        parts[-1] += f" by {job.person}"
    return " · ".join(parts)


def _accuracy_html(accuracies: Sequence[ArmAccuracy], *, finished: bool) -> str:
    shown = []
    for arm in accuracies:
        share = wilson(arm.right, arm.judged)
        if share is not None:
            figure = tag("strong", wording.share(share.value))
            interval = f"({wording.share(share.low)} to {wording.share(share.high)}, n {share.n:,})"
            shown.append(
                tag("span", f"{escape(wording.arm_name(arm.arm.value))} {figure} {escape(interval)}")
            )
    if not shown:
        return ""
    title = tag("span", "Accuracy" if finished else "Accuracy so far", "medx-where")
    return tag("p", title + "".join(shown), "medx-accuracy", title="95 % Wilson interval")


def rows_html(items: Sequence[ItemSnapshot], arms: Sequence[Arm]) -> str:
    """Show a page of a job's rows; any row that has the emergency line carries it."""
    written = any(stored.answer.text is not None for item in items for stored in item.answers)
    css = "wide" if written else "short"
    head = [
        ("row", "num"),
        ("question", "wide"),
        ("kind", "short"),
        *((wording.arm_name(arm.value), css) for arm in arms),
    ]
    expected = any(item.expected is not None for item in items)
    if expected:
        head.append(("your answer", "short"))
    return table(
        head, (_row(item, arms, expected) for item in items), empty="No rows match.", name="Rows of this job"
    )


def _row(item: ItemSnapshot, arms: Sequence[Arm], expected: bool) -> list[str]:
    answers = {stored.answer.arm: stored.answer for stored in item.answers}
    route = item.route
    kind = "" if route is None else escape(wording.kind_name(route.category))
    question = escape(_short(item.text))
    if route is not None and route.needs_emergency_line and item.answers:
        question += tag("small", escape(wording.EMERGENCY), "medx-emergency")
    cells = [escape(item.row), question, kind]
    cells += [_cell(answers.get(arm), item) for arm in arms]
    if expected:
        cells.append("" if item.expected is None else str(item.expected).upper())
    return cells


def _cell(answer: Answer | None, item: ItemSnapshot) -> str:
    if answer is None:
        return tag("span", escape(wording.item_status(item.status, item.reason)), "medx-note")
    if answer.text is not None:
        return escape(_short(wording.written(answer.text)))
    wrong = is_correct(answer, item.expected) is False
    score = "" if answer.score is None else f" {tag('small', wording.share(answer.score), 'num')}"
    remark = " " + tag("small", "differs", "medx-differs") if wrong else ""
    return escape(wording.verdict_word(answer.verdict)) + score + remark


def history_html(jobs: Iterable[JobSnapshot]) -> str:
    """List a person's earlier batches."""
    batches = [job for job in jobs if job.kind is JobKind.BATCH]
    head = [("file", "wide"), ("rows", "num"), ("state", ""), ("submitted", "num")]
    rows = (
        (
            link(f"/app/batch?job={job.public_id}", job.title or "Batch"),
            escape(f"{job.progress.finished:,} / {job.progress.total:,}"),
            escape(wording.job_status(job.status)),
            escape(f"{job.created_at:%Y-%m-%d %H:%M}"),
        )
        for job in batches
    )
    return table(head, rows, empty="Your batches appear here.", name="Your earlier batches")


def downloads_html(job: JobSnapshot) -> str:
    """Return the link to the results as far as they have come."""
    unfinished = job.progress.finished < job.progress.total
    text = "Download so far" if unfinished else "Download results"
    return link(f"/jobs/{job.public_id}/results.csv", text, "medx-button", download=True) + link(
        "/app/batch", "New batch", "medx-button quiet"
    )


def status_choices() -> list[tuple[str, str]]:
    """Return the filter of the rows table."""
    return [("all rows", ""), *((wording.item_status(status), status.value) for status in ItemStatus)]


def still_running(job: JobSnapshot) -> bool:
    """Whether rows are still waiting or being answered."""
    return job.progress.queued + job.progress.running > 0 or job.status.value in {s.value for s in UNFINISHED}


def _short(text: str) -> str:
    return text if len(text) <= LONG_TEXT else text[: LONG_TEXT - 3].rstrip() + "..."
