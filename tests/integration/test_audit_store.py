"""The audit log: a changed, missing or added row shows."""

import pytest
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, delete, update

from medx_core.errors import StorageFault
from medx_core.storage.audit import AuditStore
from medx_core.storage.tables import AuditTable
from tests.databases import at_once, forging


@pytest.fixture
def audit(database, clock):
    return AuditStore(database, clock=clock)


@pytest.fixture
def filled(audit, clock):
    for n in range(5):
        audit.append("Ann", "export", f"job {n}", {"rows": n, "share": 0.1, "umlaut": "ä"})
        clock.advance(1)
    return audit


def test_an_untouched_log_is_whole(filled, audit):
    assert audit.verify() == 5
    newest = filled.entries(limit=2)
    assert [(entry.target, entry.detail["rows"]) for entry in newest] == [("job 4", 4), ("job 3", 3)]


def test_an_empty_log_is_whole(audit):
    assert audit.verify() == 0


def test_rows_can_be_neither_changed_nor_deleted(database, filled):
    for act in (update(AuditTable).values(actor="Eve"), delete(AuditTable)):
        with pytest.raises((StorageFault, IntegrityError), match="append-only"), database.write() as session:
            session.exec(act)
    assert filled.verify() == 5


@pytest.mark.parametrize("column", ["actor", "action", "target", "detail", "hash", "previous_hash", "at"])
def test_a_changed_cell_is_named_by_its_row(database, filled, clock, column):
    forged = clock.now if column == "at" else '{"rows":0}'
    with forging(database) as session:
        session.exec(update(AuditTable).where(col(AuditTable.id) == 3).values({column: forged}))
    with pytest.raises(StorageFault, match="row 3"):
        filled.verify()


def test_a_missing_row_shows_at_the_one_after_it(database, filled):
    with forging(database) as session:
        session.exec(delete(AuditTable).where(col(AuditTable.id) == 2))
    with pytest.raises(StorageFault, match="row 3"):
        filled.verify()


def test_acts_noted_at_the_same_moment_form_one_chain(audit):
    results = at_once(
        *(
            lambda who=who: [audit.append(who, "sign in", detail={"n": n}) for n in range(10)]
            for who in "abcdef"
        )
    )
    assert not any(isinstance(result, Exception) for result in results)
    assert audit.verify() == 60


def test_what_cannot_be_read_back_exactly_is_not_noted(audit):
    for detail in ({"x": float("nan")}, {"x": object()}):
        with pytest.raises((ValueError, TypeError)):
            audit.append("Ann", "export", detail=detail)
    assert audit.verify() == 0
