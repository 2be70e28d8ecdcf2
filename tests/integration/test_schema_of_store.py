"""The tables: the migrations make exactly what the code expects, and a database at another version says so."""

import stat
from functools import partial
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from medx_core.clock import utc_now
from medx_core.errors import StorageFault
from medx_core.jobs.messages import AnswerRequest, RunRequest
from medx_core.review import Harm
from medx_core.storage.engine import MIGRATIONS, Database, needed_version
from medx_core.storage.jobs import JobStore
from medx_core.storage.outbox import OutboxStore
from medx_core.storage.ratings import RatingStore
from medx_core.storage.runs import RunStore
from medx_core.storage.tables import AuditTable, metadata
from tests.databases import at_once

NEEDED = needed_version()


def test_the_upgraded_tables_are_those_of_the_code(database):
    database.check()
    with database.read() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert set(metadata.tables) == set(inspect(session.connection()).get_table_names()) - {
            "alembic_version"
        }


def test_upgrading_again_or_from_two_processes_at_once_is_harmless(database_url):
    processes = [Database(database_url) for _ in range(3)]
    assert at_once(*(process.upgrade for process in processes)) == [None] * 3
    for process in processes:
        process.check()
        process.close()


FILLED = """
INSERT INTO job (id, public_id, kind, status, mode, arms, title, file_sha256, carried_columns, created_at)
VALUES (1, 'j', 'batch', 'queued', 'verdict', '[]', '', '', '[]', '2026-11-01 12:00:00.000000');
INSERT INTO person (id, name, name_key, role, password_hash, disabled, session_epoch, created_at)
VALUES (1, 'ada', 'ada', 'admin', '', false, 1, '2026-11-01 12:00:00.000000');
INSERT INTO item (id, job_id, row_number, given_id, text, harm, urgency, carried, status, reason, attempts, fence,
    route_red_flag, route_router)
VALUES (4, 1, 1, '', 'Aspirin is a drug.', '', '', '{}', 'answered', '', 1, 1, false, '');
INSERT INTO answer (id, public_id, item_id, arm, verdict, raw_verdict, score, calibrated, model, model_sha256,
    prompt_version, seconds, finish, note, shuffle, created_at)
VALUES (7, 'a', 4, 'steered', 'TRUE', 'TRUE', 0.75, false, 'm', 'ab', 'p', 1.0, 'done', '', 5, '2026-11-01 12:00:00.000000');
INSERT INTO rating (public_id, answer_id, rater_id, version, form_version, form, seconds, seen, created_at, changed_at)
VALUES ('r', 7, 1, 1, 1, '{"harm": "mild"}', 9.0, '[]', '2026-11-01 12:00:00.000000', '2026-11-01 12:00:00.000000');
INSERT INTO outbox (job_id, queue, priority, message, created_at)
VALUES (1, 'batch', 1, '{"job_id": "j", "item_ids": [5]}', '2026-11-01 12:00:00.000000');
INSERT INTO run (public_id, kind, status, settings, requested_by, owner, attempts, reason, model_sha256, progress,
    summary, result, created_at, heartbeat_at)
VALUES ('queued', 'evaluation', 'queued', '{"data": "x.csv"}', 'ada', NULL, 0, '', '', NULL,
        NULL, NULL, '2026-11-01 12:00:00.000000', NULL),
    ('running', 'evaluation', 'running', '{"data": "x.csv"}', 'ada', 'w', 1, '', '',
        '{"what": "states", "done": 1, "total": 2}', NULL, NULL, '2026-11-01 12:00:00.000000', '2026-11-01 12:00:00.000000'),
    ('done', 'evaluation', 'done', '{"data": "x.csv"}', 'ada', NULL, 1, '', '', NULL,
        '{"conclusion": "Yes.", "helps": true}', '{"conclusion": "Yes.", "helps": true}', '2026-11-01 12:00:00.000000', NULL)
"""


def test_a_filled_database_of_the_first_version_keeps_everything_and_its_runs_are_sent(database_url):
    database = Database(database_url)
    upgrade_to(database, "0001", *FILLED.split(";"))
    database.upgrade()
    database.check()
    (item,) = JobStore(database).every_item("j")
    assert [stored.answer.score for stored in item.answers] == [0.75]
    (rating,) = RatingStore(database).of_rater(1)
    assert (rating.answer.answer_id, rating.form.harm) == ("a", Harm.MILD)
    runs, outbox = RunStore(database), OutboxStore(database)
    assert [run.status for run in runs.list()] == ["done", "running", "queued"]
    assert runs.get("done").result == {"conclusion": "Yes.", "helps": True}
    assert (runs.get("done").summary.helps, runs.get("running").progress.total) == (True, 2)
    assert [message.request for message in outbox.unsent()] == [AnswerRequest(job_id="j", item_ids=(5,))]
    assert (runs.return_expired(max_attempts=3), runs.resend_stale(older_than_seconds=0)) == (1, 1)
    sent = [message.request for message in outbox.unsent()][1:]
    assert sent == [RunRequest(run_id="running"), RunRequest(run_id="queued")]
    with database.write() as session:
        session.connection().execute(text("DELETE FROM run WHERE public_id = 'queued'"))
        assert session.connection().execute(text("SELECT count(*) FROM outbox")).scalar() == 2
    database.close()


def upgrade_to(database, version, *statements):
    """Bring an empty database to a version, and fill it."""
    database._make_folder()
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database._writer.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)
        for statement in statements:
            connection.exec_driver_sql(statement)


def test_a_database_at_another_version_is_refused_in_one_sentence(database_url):
    database = Database(database_url)
    database.upgrade()
    with database.write() as session:
        session.connection().execute(text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(
        StorageFault, match=f"at version 0000 and this program needs {NEEDED}; run `medx db upgrade`"
    ):
        database.check()
    database.close()


def test_a_database_without_tables_is_refused_in_one_sentence(database_url):
    database = Database(database_url)
    with pytest.raises(StorageFault, match="run `medx db upgrade`"):
        database.check()
    if database.is_sqlite:
        assert not Path(database_url.removeprefix("sqlite:///")).exists()  # asking leaves nothing behind
    else:
        with pytest.raises(StorageFault, match="lacks what this program needs"), database.read() as session:
            session.get(AuditTable, 1)
    database.close()


def test_the_folder_of_a_new_file_is_for_its_owner_only(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'a' / 'home' / 'medx.sqlite3'}")
    database.upgrade()
    database.close()
    assert stat.S_IMODE((tmp_path / "a" / "home").stat().st_mode) == 0o700


def audit_row(**given):
    empty = {"at": utc_now(), "actor": "", "action": "", "target": "", "detail": "{}", "previous_hash": ""}
    return AuditTable(**{**empty, **given})


def add_row(opened, mark, error=None):
    with opened as session:
        session.add(audit_row(hash=mark))
        session.flush()
        if error is not None:
            raise error


def test_a_reading_session_cannot_write_and_a_failed_write_leaves_nothing(database):
    with pytest.raises(StorageFault):
        add_row(database.read(), "1")
    with pytest.raises(KeyError):
        add_row(database.write(), "2", KeyError())
    add_row(database.write(), "3")
    with database.read() as session:
        assert session.connection().execute(text("SELECT hash FROM audit")).scalars().all() == ["3"]


def test_threads_that_write_at_once_all_get_their_turn(database):
    def write(n):
        for turn in range(20):
            add_row(database.write(), f"{n}-{turn}")

    assert at_once(*(partial(write, n) for n in range(8))) == [None] * 8
    with database.read() as session:
        assert session.connection().execute(text("SELECT count(*) FROM audit")).scalar() == 160


def test_moments_come_back_aware_and_to_the_microsecond(database, clock):
    with database.write() as session:
        if not database.is_sqlite:
            session.connection().execute(text("SET LOCAL TIME ZONE 'Asia/Kolkata'"))
        session.add(audit_row(at=clock.now, hash="x"))
        session.flush()
        session.expire_all()
        stored = session.get(AuditTable, 1).at
    assert stored == clock.now
    assert stored.utcoffset().total_seconds() == 0


def test_sqlite_runs_with_the_settings_that_many_writers_need(sqlite_database):
    with sqlite_database.read() as session:
        pragmas = {
            name: session.connection().exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 1, "busy_timeout": 15_000, "foreign_keys": 1}
