"""Routes that people overrode: found in the database, exported safely, taken for training."""

import csv
import io
import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from medx_core.categories import Category, RouteSource
from medx_core.cli.router import app
from medx_core.data.question_files import FileRow
from medx_core.data.routing_texts import OVERRIDE_COLUMNS, read_routing_file, write_overrides
from medx_core.settings import settings
from medx_core.storage.audit import AuditStore
from medx_core.storage.jobs import JobStore
from tests.samples import answered, submission

WILD = "=cmd|' /C calc'!A0 is my knee urgent?"
NAMED = "'Quoted', she said. Mail me at ann.example@mail.org about gout"


@pytest.fixture
def answer(database, clock, leases):
    """Submit questions and answer them with routes decided by `source`."""

    def submit_and_answer(texts, source, category=Category.TRIAGE):
        jobs = JobStore(database, clock=clock)
        items = tuple(FileRow(row, "", text) for row, text in enumerate(texts, start=1))
        job = jobs.submit(submission(items=items), chunk_rows=32)
        ids = [item.id for item in jobs.every_item(job.public_id)]
        for leased in leases.lease(ids, owner="a", seconds=30, max_attempts=3):
            result = answered(leased, category=category)
            leases.finish([(leased, replace(result, route=replace(result.route, source=source)))])

    return submit_and_answer


def test_what_people_chose_is_found_and_nothing_else(database, clock, answer):
    answer(["routed"], RouteSource.ROUTER)
    answer(["first", "second"], RouteSource.USER, Category.PATIENT_FACING)
    answer(["from a file"], RouteSource.FILE)
    clock.advance(3600)
    answer(["third"], RouteSource.USER, Category.LITERATURE)
    JobStore(database, clock=clock).submit(submission(category=Category.TRIAGE), chunk_rows=32)

    overrides = list(JobStore(database).overrides())
    assert [override.question for override in overrides] == ["first", "second", "third"]
    assert [override.category for override in overrides] == [Category.PATIENT_FACING] * 2 + [
        Category.LITERATURE
    ]
    assert {override.router_category for override in overrides} == {Category.LITERATURE}
    assert (overrides[2].asked_at - overrides[0].asked_at).total_seconds() == 3600


def test_no_override_is_lost_or_doubled_between_pages(database, answer):
    answer([f"question {number}" for number in range(7)], RouteSource.USER)
    questions = [override.question for override in JobStore(database).overrides(page_rows=2)]
    assert questions == [f"question {number}" for number in range(7)]


def test_the_exported_table_is_masked_guarded_and_comes_back_as_training_questions(
    database, answer, tmp_path
):
    answer([WILD, NAMED, "Is it gout?"], RouteSource.USER, Category.PATIENT_FACING)
    table = io.StringIO(newline="")
    assert write_overrides(JobStore(database).overrides(), table) == 3
    rows = list(csv.DictReader(io.StringIO(table.getvalue(), newline="")))
    assert tuple(rows[0]) == OVERRIDE_COLUMNS
    assert not any(cell[0] in "=+-@" for row in rows for cell in row.values())
    assert json.loads(rows[0]["probabilities"]) == {
        "triage": 0.125,
        "literature": 0.75,
        "patient-facing": 0.125,
    }
    assert {(row["category"], row["router_category"]) for row in rows} == {("patient-facing", "literature")}
    assert rows[0]["asked_at"] == "2026-01-02T03:04:05+00:00"

    file = tmp_path / "overrides.csv"
    file.write_text(table.getvalue(), encoding="utf-8", newline="")
    questions = read_routing_file(file).questions
    assert [question.text for question in questions] == [
        WILD,
        NAMED.replace("ann.example@mail.org", "[removed]"),
        "Is it gout?",
    ]
    assert {question.category for question in questions} == {Category.PATIENT_FACING}


def test_an_export_is_in_the_audit_log_and_names_how_to_train_with_it(
    database, migrated_url, answer, tmp_path, monkeypatch
):
    answer(["Is it gout?"], RouteSource.USER)
    monkeypatch.setenv("DATABASE_URL", migrated_url)
    settings.cache_clear()
    file = tmp_path / "overrides.csv"
    try:
        told = CliRunner().invoke(app, ["overrides", "-o", str(file)], catch_exceptions=False).output
        printed = CliRunner().invoke(app, ["overrides"], catch_exceptions=False).output
    finally:
        settings.cache_clear()
    assert f"router train --with {file}" in told
    assert printed.splitlines() == file.read_text(encoding="utf-8").splitlines()
    entries = AuditStore(database).entries()
    assert [(entry.action, entry.detail) for entry in entries] == [("overrides exported", {"rows": 1})] * 2
