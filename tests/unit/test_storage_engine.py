"""Which databases are taken, and what is said about the others."""

from datetime import datetime

import pytest
from sqlalchemy.dialects import sqlite

from medx_core.errors import StorageFault
from medx_core.storage.engine import Database
from medx_core.storage.tables import UtcDateTime, new_public_id


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_the_usual_postgresql_urls_are_taken_and_their_password_is_not_shown(scheme):
    database = Database(f"{scheme}://ann:secret@db.example/medx")
    assert not database.is_sqlite
    assert database.shown_url == "postgresql+psycopg://ann:***@db.example/medx"


@pytest.mark.parametrize(
    "url", ["", "nonsense", "mysql://a@b/c", "sqlite://", "sqlite:///:memory:", "sqlite+aiosqlite:///x"]
)
def test_a_url_that_cannot_be_used_is_refused_in_one_sentence(url):
    with pytest.raises(StorageFault) as refused:
        Database(url)
    assert str(refused.value).endswith(".")


def test_a_server_that_is_not_there_is_one_sentence_without_the_password(tmp_path):
    database = Database(f"postgresql://ann:secret@/medx?host={tmp_path}")
    with pytest.raises(StorageFault, match="cannot be used") as fault:
        database.check()
    assert "secret" not in str(fault.value)
    database.close()


def test_a_moment_without_offset_is_not_stored():
    with pytest.raises(ValueError, match="without an offset"):
        UtcDateTime().process_bind_param(datetime(2026, 1, 1), sqlite.dialect())  # noqa: DTZ001 - the mistake itself


def test_public_ids_are_long_and_never_the_same():
    made = {new_public_id() for _ in range(1000)}
    assert len(made) == 1000
    assert {len(public_id) for public_id in made} == {22}
