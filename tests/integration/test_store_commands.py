"""`medx db`, `medx users` and `medx audit`, against the database that the settings name."""

import io
import json
from datetime import timedelta
from getpass import fallback_getpass

import pytest
import typer
from sqlmodel import col, delete, update
from typer.testing import CliRunner

from medx_core.cli import administration
from medx_core.errors import BadInput, NotFound, StorageFault
from medx_core.settings import settings
from medx_core.storage.credentials import CredentialKind, CredentialStore, Scope
from medx_core.storage.engine import Database
from medx_core.storage.people import PersonStore, Role
from medx_core.storage.tables import AuditTable
from tests.databases import forging


@pytest.fixture
def command(database_url, monkeypatch, tmp_path):
    """Run one command line; an error comes out as it was raised."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("MEDX_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    medx = typer.Typer()
    for name, app in (
        ("db", administration.db_app),
        ("users", administration.users_app),
        ("audit", administration.audit_app),
    ):
        medx.add_typer(app, name=name)

    def run(line, stdin=None):
        return CliRunner().invoke(medx, line.split(), input=stdin, catch_exceptions=False).output

    yield run
    settings.cache_clear()


def test_people_are_added_listed_disabled_and_given_new_passwords(command, database_url):
    with pytest.raises(StorageFault, match="medx db upgrade"):
        command("users list")
    assert "up to date" in command("db upgrade")
    assert "up to date" in command("db check")
    command("users add Root --role admin --password-stdin", "the first password\n")
    made = command("users add Ann --role clinician --generate").strip().split()[-1]
    typed = command("users add Bob", "typed password\ntyped password\n")
    assert "typed password" not in typed
    command("users disable Ann")
    assert command("users list").splitlines() == [
        "Ann\tclinician\tdisabled",
        "Bob\tasker\tenabled",
        "Root\tadmin\tenabled",
    ]
    command("users enable ann")
    command("users set-role bob clinician")
    command("users reset-password root --password-stdin", "another password\n")

    database = Database(database_url)
    people = PersonStore(database)
    assert people.authenticate("Ann", made).role is Role.CLINICIAN
    assert people.authenticate("Bob", "typed password").role is Role.CLINICIAN
    assert people.authenticate("Root", "another password") is not None
    assert people.authenticate("Root", "the first password") is None
    database.close()


def test_a_taken_name_is_said_before_a_password_is_asked_for(command):
    command("db upgrade")
    command("users add Ann --generate")
    with pytest.raises(BadInput, match="already somebody called ann"):
        command("users add ann")


def test_without_a_terminal_one_sentence_says_how_to_give_a_password(command, monkeypatch):
    # What Click asks with outside of its test runner.
    monkeypatch.setattr(
        administration.typer, "prompt", lambda *_, **__: fallback_getpass(stream=io.StringIO())
    )
    command("db upgrade")
    with pytest.raises(BadInput, match=r"--password-stdin.*--generate"):
        command("users add Ann")


def test_every_change_of_people_is_in_the_audit_log_and_a_forged_row_is_found(command, database_url):
    command("db upgrade")
    command("users add Ann --role admin --generate")
    command("users reset-password Ann --generate")
    assert "2 rows" in command("audit verify")
    database = Database(database_url)
    with forging(database) as session:
        session.exec(update(AuditTable).where(col(AuditTable.id) == 1).values(target="Eve"))
    database.close()
    with pytest.raises(StorageFault, match="row 1"):
        command("audit verify")


def test_the_audit_log_is_written_to_a_file_and_a_cut_off_tail_is_found(command, database_url, tmp_path):
    command("db upgrade")
    command("users add Ann --role admin --generate")
    command(f"audit export -o {tmp_path / 'audit.jsonl'}")
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [line["action"] for line in lines] == ["person added", "audit log exported"]
    assert lines[1]["previous_hash"] == lines[0]["hash"]
    database = Database(database_url)
    with forging(database) as session:
        session.exec(delete(AuditTable).where(col(AuditTable.id) == 2))
    database.close()
    with pytest.raises(StorageFault, match="row 2"):
        command("audit verify")
    assert "2 rows" in command("audit verify --after-restore")


def test_where_somebody_is_signed_in_is_listed_and_ended(command, database_url):
    command("db upgrade")
    command("users add Ann --generate")
    database = Database(database_url)
    ann, credentials = PersonStore(database).find("Ann"), CredentialStore(database)
    for address in ("10.0.0.1", "10.0.0.2", "10.0.0.3"):
        credentials.issue(
            ann, CredentialKind.SESSION, lasts=timedelta(hours=1), title="Firefox", address=address
        )
    listed = command("users sessions Ann").splitlines()
    assert {line.split("\t")[2] for line in listed} == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}
    ended = listed[0].split("\t")[0]
    assert ended not in command(f"users sessions Ann --end {ended}")
    with pytest.raises(NotFound, match="ended already"):
        command(f"users sessions Ann --end {ended}")
    assert command("users sessions Ann --end-all").splitlines() == ["2 ended."]
    assert credentials.of(ann) == ()
    database.close()


def test_tokens_and_links_are_made_listed_and_ended(command, database_url):
    command("db upgrade")
    command("users add Ann --generate")
    made = (
        command("users token Ann --title nightly --scope read --scope ask --days 30").split(": ")[1].strip()
    )
    first, key = (command("users link Ann").rsplit("key=", 1)[1].strip() for _ in range(2))
    database = Database(database_url)
    credentials = CredentialStore(database)
    assert credentials.visitor(made, CredentialKind.TOKEN).credential.scopes == (Scope.ASK, Scope.READ)
    assert credentials.visitor(made, CredentialKind.SESSION) is None
    assert credentials.visitor(first, CredentialKind.LINK) is None  # the second took its place
    assert credentials.visitor(key, CredentialKind.LINK).name == "Ann"
    assert {line.split("\t")[1] for line in command("users sessions Ann").splitlines()} == {"token", "link"}
    added = command("users add Bob --link")
    assert "Password" not in added
    assert credentials.visitor(added.rsplit("key=", 1)[1].strip(), CredentialKind.LINK).name == "Bob"
    for wrong in ("--title x --scope own", "--title x --scope ask --days 400"):
        with pytest.raises(BadInput):
            command(f"users token Ann {wrong}")
    database.close()


def test_two_sources_of_a_password_are_refused(command):
    command("db upgrade")
    with pytest.raises(BadInput, match="one of"):
        command("users add Ann --generate --password-stdin")
