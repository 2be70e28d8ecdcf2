"""HTML of the admin page: health in plain words, people, questions set aside, vectors."""

from collections.abc import Mapping, Sequence

from medx_core.storage.health_store import ProcessHealth, QuarantinedItem, QueueBacklog
from medx_core.storage.person_store import Person
from medx_core.storage.vector_store import VectorRecord
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
    return tag("div", sentences + _processes(processes), f"medx-health {'good' if good else 'bad'}")


def _workers_line(workers: Sequence[ProcessHealth], seen_limit: float) -> str:
    live = [worker for worker in workers if worker.seconds_since_seen <= seen_limit]
    if live:
        count = "A worker is" if len(live) == 1 else f"{len(live)} workers are"
        return f"{count} at work, last seen {live[0].seconds_since_seen:.0f} s ago."
    if workers:
        return (
            f"No worker is at work; the last one was seen {wording.about(workers[0].seconds_since_seen)} ago."
        )
    return "No worker has been seen yet. Start one with `medx serve worker`."


def _processes(processes: Sequence[ProcessHealth]) -> str:
    head = [("process", ""), ("kind", ""), ("last seen", "num"), ("detail", "wide")]
    rows = (
        (
            escape(process.name),
            escape(process.kind),
            escape(f"{process.seconds_since_seen:.0f} s ago"),
            escape(", ".join(f"{key} {value}" for key, value in process.detail.items())),
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


def vectors_html(vectors: Sequence[VectorRecord]) -> str:
    """List the vector versions with what is known of them."""
    head = [
        ("vector", ""), ("state", ""), ("model", "wide"), ("strategy", ""), ("layer", "num"), ("alpha", "num"),
        ("norm", "num"), ("made", "num"), ("evidence", ""),
    ]  # fmt: skip
    rows = (
        (
            escape(vector.name),
            tag("span", escape(vector.status.value), f"medx-state-{vector.status.value}"),
            escape(f"{vector.model} {vector.model_sha256[:8]}"),
            escape(f"{vector.strategy} ({vector.preset})"),
            escape(vector.layer),
            escape(f"{vector.alpha:g}"),
            escape(_figure(vector.diagnostics.get("norm"))),
            escape(f"{vector.created_at:%Y-%m-%d}" if vector.created_at else ""),
            "not evaluated",
        )
        for vector in vectors
    )
    empty = "There are no vectors yet; questions are answered plain. Build them with medx vectors build."
    return table(head, rows, empty=empty, name="Vectors")


def _figure(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, (int, float)) else ""


def told(sentence: str) -> str:
    """Return what an action reports."""
    return tag("div", note(sentence), "medx-told", role="status")
