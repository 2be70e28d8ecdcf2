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
    assert audit.verify().rows == 5
    newest = filled.entries(limit=2)
    assert [(entry.target, entry.detail["rows"]) for entry in newest] == [("job 4", 4), ("job 3", 3)]


def test_an_empty_log_is_whole(audit):
    assert audit.verify().rows == 0


def test_rows_can_be_neither_changed_nor_deleted(database, filled):
    for act in (update(AuditTable).values(actor="Eve"), delete(AuditTable)):
        with pytest.raises((StorageFault, IntegrityError), match="append-only"), database.write() as session:
            session.exec(act)
    assert filled.verify().rows == 5


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
    assert audit.verify().rows == 60


def test_what_cannot_be_read_back_exactly_is_not_noted(audit):
    for detail in ({"x": float("nan")}, {"x": object()}):
        with pytest.raises((ValueError, TypeError)):
            audit.append("Ann", "export", detail=detail)
    assert audit.verify().rows == 0


@pytest.fixture
def anchored(database, clock, tmp_path):
    store = AuditStore(database, anchors=tmp_path / "audit", clock=clock)
    for n in range(5):
        store.append("Ann", "export", f"job {n}")
    return store


def cut_off(database, first):
    with forging(database) as session:
        session.exec(delete(AuditTable).where(col(AuditTable.id) >= first))


def test_a_tail_that_was_cut_off_is_noticed_by_the_file_outside(database, anchored, clock, tmp_path):
    (file,) = (tmp_path / "audit").iterdir()
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    cut_off(database, 5)
    assert AuditStore(database).verify().rows == 4  # without the file nothing shows
    with pytest.raises(StorageFault, match="does not have row 5 as it was written"):
        anchored.verify()
    for _ in range(3):
        anchored.append("Eve", "export")  # in their place: a chain without a gap
    with pytest.raises(StorageFault, match="does not have row 5"):
        AuditStore(database, anchors=tmp_path / "audit", clock=clock).verify()


def test_verification_goes_on_from_where_it_was_whole(database, anchored):
    assert anchored.verify().rows == 5
    for n in range(3):
        anchored.append("Ann", "export", f"more {n}")
    verified = anchored.verify(go_on=True)
    assert (verified.rows, verified.after) == (3, 5)
    with forging(database) as session:
        session.exec(update(AuditTable).where(col(AuditTable.id) == 8).values(actor="Eve"))
    with pytest.raises(StorageFault, match="row 8"):
        anchored.verify(go_on=True)


def test_a_restored_database_is_taken_only_when_somebody_says_so(database, anchored):
    cut_off(database, 3)
    anchored.accept_restored()
    assert anchored.verify().rows == 3
    newest = anchored.entries(limit=1)[0]
    assert (newest.action, newest.detail) == ("audit log taken as restored", {"after": 2})


def test_an_anchor_that_cannot_be_read_or_written_is_said_and_stops_no_work(anchored, tmp_path, caplog):
    (file,) = (tmp_path / "audit").iterdir()
    file.write_text("torn")
    with pytest.raises(StorageFault, match="cannot be read"):
        anchored.verify()
    anchored.append("Ann", "export")
    assert "was not anchored" in caplog.text
    anchored.accept_restored()
    assert anchored.verify().rows == 7


def test_processes_that_write_at_once_anchor_the_newest_row(database, anchored, clock, tmp_path):
    stores = [AuditStore(database, anchors=tmp_path / "audit", clock=clock) for _ in range(4)]
    at_once(*(lambda store=store: [store.append("Ann", "export") for _ in range(5)] for store in stores))
    assert anchored.verify().rows == 25
    cut_off(database, 25)
    with pytest.raises(StorageFault, match="row 25"):
        anchored.verify()
