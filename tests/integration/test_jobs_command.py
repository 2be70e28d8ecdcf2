"""`medx jobs`: what the pages do with jobs, from the command line, by the same ids and with the same audit log."""

import json

import pytest
from typer.testing import CliRunner

from medx_core.cli import jobs as commands
from medx_core.clock import iso
from medx_core.errors import BadInput, NotFound
from medx_core.jobs.status import JobKind
from medx_core.settings import settings
from medx_core.storage.audit import AuditStore
from medx_core.storage.health import HealthStore
from medx_core.storage.jobs import JobStore
from medx_core.storage.leases import LeaseStore
from medx_core.storage.outbox import OutboxStore
from medx_core.storage.people import PersonStore, Role
from tests.samples import answered, submission


@pytest.fixture
def run(database, migrated_url, monkeypatch):
    """Run `medx jobs ...`; an error comes out as it was raised."""
    monkeypatch.setenv("DATABASE_URL", migrated_url)
    settings.cache_clear()

    def output(*words: str) -> str:
        return CliRunner().invoke(commands.app, list(words), catch_exceptions=False).output

    yield output
    settings.cache_clear()


def work(database, job: str, *, hopeless: tuple[int, ...] = ()) -> None:
    """Answer what waits of a job; the rows named as hopeless fail at once."""
    outbox, leases = OutboxStore(database), LeaseStore(database)
    messages = [message for message in outbox.unsent() if message.request.job_id == job]
    outbox.mark_sent(message.id for message in messages)
    ids = [item for message in messages for item in message.request.item_ids]
    for leased in leases.lease(ids, owner="w", seconds=60, max_attempts=3):
        if leased.row in hopeless:
            leases.fail(leased, "The question is too long.", max_attempts=1)
        else:
            leases.finish([(leased, answered(leased))])


def test_a_job_is_listed_followed_tried_again_and_cancelled_as_on_the_pages(run, database):
    jobs = JobStore(database)
    assert run("list") == "There is no job yet.\n"
    ann = PersonStore(database).add("Ann", Role.ASKER, "a long password")
    batch = jobs.submit(submission(3, title="mine.csv", person_id=ann.id), chunk_rows=10).public_id
    work(database, batch, hopeless=(2, 3))
    question = jobs.submit(submission(1, kind=JobKind.QUESTION, title="Why?\nWhy?"), chunk_rows=1).public_id

    [newest, before] = run("list").splitlines()
    assert newest.startswith(f"{question}  waiting · answered 0 of 1 · question “Why? Why?”")
    assert before.startswith(f"{batch}  finished · answered 1 of 3 · set aside 2 · batch “mine.csv” of Ann")
    assert [job["job"] for job in json.loads(run("list", "--limit", "1", "--json"))["jobs"]] == [question]
    assert "  row 2 was set aside after 1 attempt: The question is too long.\n" in run("show", batch)
    told = json.loads(run("show", batch, "--json"))
    assert jobs.get(batch).as_json().items() <= told.items()
    assert [item["row"] for item in told["set_aside"]] == [2, 3]

    with pytest.raises(BadInput, match="row 1 of this job was not set aside"):
        run("retry", batch, "--row", "1")
    HealthStore(database).beat("w", "worker")
    assert run("retry", batch, "--row", "3") == "1 question waits again.\n"
    work(database, batch)
    HealthStore(database).leave("w")
    assert json.loads(run("retry", batch, "--json"))["retried"] == [2]
    with pytest.raises(BadInput, match="no question of this job was set aside"):
        run("retry", batch)

    assert "cancelled · answered 2 of 3 · cancelled 1" in run("cancel", batch)
    with pytest.raises(BadInput, match="nothing to cancel: this job is cancelled"):
        run("cancel", batch)
    cancelled = json.loads(run("cancel", question, "--json"))
    assert (cancelled["status"], cancelled["cancelled"]) == ("cancelled", 1)
    assert cancelled["finished_at"] == iso(jobs.get(question).finished_at)
    acts = [(act.actor, act.action, act.target) for act in AuditStore(database).entries(limit=10)]
    assert acts == [
        ("command line", "cancel job", f"job {question}"),
        ("command line", "cancel job", f"job {batch}"),
        ("command line", "retry", f"job {batch}"),
        ("command line", "retry", f"job {batch}"),
    ]


def test_without_a_worker_a_retry_says_what_will_come_of_it(run, database):
    job = JobStore(database).submit(submission(1), chunk_rows=1).public_id
    work(database, job, hopeless=(1,))
    assert run("retry", job) == f"1 question waits again.\n{commands.WORKER_AWAY}\n"


@pytest.mark.parametrize("command", ["show", "retry", "cancel"])
@pytest.mark.parametrize("unknown", ["nothing", "-nothing", "--nothing"])
def test_an_unknown_id_is_said_to_be_none_also_where_it_begins_like_an_option(run, command, unknown):
    with pytest.raises(NotFound, match="There is no job with this id"):
        run(command, unknown, "--json")
