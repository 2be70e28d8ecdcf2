"""HTML of the admin page: health in plain words, people, questions set aside."""

from collections.abc import Mapping, Sequence

from medx_core.storage.health import ProcessHealth, QuarantinedItem, QueueBacklog
from medx_core.storage.people import Person
from web import wording
from web.markup import escape, link, note, table, tag


def health_html(
    processes: Sequence[ProcessHealth], backlog: Mapping[str, QueueBacklog], *, seen_limit: float
) -> str:
    """Say in sentences whether work is being done."""
    workers = [process for process in processes if process.kind == "worker"]
    lines = [_workers_line(workers, seen_limit)]
    for queue, state in sorted(backlog.items()):
        if state.waiting:
            age = wording.about(state.oldest_seconds or 0.0)
            lines.append(f"Queue {queue}: {state.waiting:,} waiting, the oldest for {age}.")
    if not any(state.waiting for state in backlog.values()):
        lines.append("Nothing is waiting.")
    good = any(worker.seconds_since_seen <= seen_limit for worker in workers)
    sentences = "".join(tag("p", escape(line)) for line in lines)
    return tag(
        "div", sentences + _processes(processes, seen_limit), f"medx-health {'good' if good else 'bad'}"
    )


def _workers_line(workers: Sequence[ProcessHealth], seen_limit: float) -> str:
    live = [worker for worker in workers if worker.seconds_since_seen <= seen_limit]
    if live:
        count = "A worker is" if len(live) == 1 else f"{len(live)} workers are"
        return f"{count} at work, last seen {wording.ago(live[0].seconds_since_seen)}."
    if workers:
        return f"No worker is at work; the last one was seen {wording.ago(workers[0].seconds_since_seen)}."
    return "No worker has been seen yet. Start one with `medx serve worker`."


def _processes(processes: Sequence[ProcessHealth], seen_limit: float) -> str:
    head = [("process", "short"), ("what", "short"), ("state", "wide"), ("last seen", "num")]
    rows = (
        (
            escape(process.name),
            escape(wording.PROCESS_KINDS.get(process.kind, process.kind)),
            escape(wording.process_state(process, seen_limit)),
            escape(wording.ago(process.seconds_since_seen)),
        )
        for process in processes
    )
    return table(head, rows, empty="No process has reported yet.", name="Processes")


def people_html(people: Sequence[Person]) -> str:
    """List who may sign in."""
    head = [("name", "wide"), ("role", ""), ("state", "")]
    rows = (
        (escape(person.name), escape(person.role.value), "disabled" if person.disabled else "active")
        for person in people
    )
    return table(head, rows, empty="Nobody yet.", name="People")


def quarantined_html(items: Sequence[QuarantinedItem]) -> str:
    """List the questions that were set aside, without their text."""
    head = [("number", "num"), ("job", "wide"), ("row", "num"), ("attempts", "num"), ("reason", "wide")]
    rows = (
        (
            escape(found.item.id),
            link(f"/app/batch?job={found.job_id}", found.job_title or "job"),
            escape(found.item.row),
            escape(found.item.attempts),
            escape(found.item.reason),
        )
        for found in items
    )
    return table(head, rows, empty="Nothing was set aside.", name="Questions set aside")


def told(sentence: str) -> str:
    """Return what an action reports."""
    return tag("div", note(sentence), "medx-told", role="status")
