"""What lets people in without their password: sessions, tokens of programs and one-time links.

A credential is a random secret that its holder keeps; the database has its SHA-256 alone, so that whoever reads the
database cannot sign in. (No slow hash: 256 random bits cannot be guessed.) Deleting the row ends the credential at the
next request, in every web process.
"""

import hashlib
import logging
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlmodel import Session, col, delete, select

from medx_core.errors import BadInput, NotFound, StorageFault
from medx_core.storage.engine import Store
from medx_core.storage.people import Person, as_person
from medx_core.storage.tables import CredentialKind, CredentialTable, PersonTable, as_value

log = logging.getLogger(__name__)

__all__ = [
    "MOST_DAYS",
    "Credential",
    "CredentialKind",
    "CredentialStore",
    "Scope",
    "Visitor",
    "new_link",
    "new_token",
    "read_scopes",
]

SECRET_BYTES = 32
SEEN_EVERY = timedelta(minutes=1)
LONGEST_TITLE = 200
MOST_DAYS = 366
MOST_LISTED = 200


class Scope(StrEnum):
    """What a program with a token may do, as far as its person may: ask, read results, rate."""

    ASK = "ask"
    READ = "read"
    RATE = "rate"


def read_scopes(words: Iterable[str]) -> tuple[Scope, ...]:
    """Read scopes as chosen on a page or a command line; BadInput is raised where there is none or no such scope."""
    given = list(words)
    unknown = [word for word in given if word not in set(Scope)]
    if unknown or not given:
        raise BadInput(f"Choose what the token is for: {', '.join(Scope)}.")
    return tuple(scope for scope in Scope if scope in given)


@dataclass(frozen=True)
class Credential:
    """One session, token or link. `title` is the browser of a session or the name of a token, `address` where from."""

    public_id: str
    kind: CredentialKind
    title: str
    address: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    seen_at: datetime
    ends_at: datetime


@dataclass(frozen=True)
class Visitor(Person):
    """A person who was let in, with the credential that let them in."""

    credential: Credential


class CredentialStore(Store):
    """The credentials of one database."""

    def issue(
        self,
        person: Person,
        kind: CredentialKind,
        *,
        lasts: timedelta,
        title: str = "",
        address: str = "",
        scopes: Iterable[Scope] = (),
    ) -> str:
        """Make a credential and return its secret, which cannot be had again. Those that have ended are removed."""
        secret, now = secrets.token_urlsafe(SECRET_BYTES), self._clock()
        with self._database.write() as session:
            session.exec(delete(CredentialTable).where(col(CredentialTable.ends_at) <= now))
            session.add(
                CredentialTable(
                    kind=kind,
                    secret_sha256=_hash(secret),
                    person_id=person.id,
                    title=title[:LONGEST_TITLE],
                    address=address,
                    scopes=[scope.value for scope in scopes],
                    created_at=now,
                    seen_at=now,
                    ends_at=now + lasts,
                )
            )
        return secret

    def visitor(
        self, secret: str, kind: CredentialKind, *, idle: timedelta | None = None, is_use: bool = True
    ) -> Visitor | None:
        """Return whose credential this is; None when there is none, it has ended or its person is disabled.

        Args:
            secret: what the holder sent.
            kind: of which kind it must be.
            idle: it also ends when it was not used for so long.
            is_use: whether to note this as a use of it, to the minute.
        """
        with self._database.read() as session:
            visitor = self._let_in(session, CredentialTable.secret_sha256 == _hash(secret), kind, idle)
        if visitor is not None and is_use:
            try:
                self._note_use(visitor.credential)
            except StorageFault as error:  # a full or read-only disk signs nobody out
                log.warning("the use of a session was not noted: %s", error)
        return visitor

    def still(self, visitor: Visitor, *, idle: timedelta | None = None) -> Visitor | None:
        """Return the visitor as they are now; None once their credential has ended or they are disabled."""
        credential = visitor.credential
        with self._database.read() as session:
            same = CredentialTable.public_id == credential.public_id
            return self._let_in(session, same, credential.kind, idle)

    def of(self, person: Person, kinds: Iterable[CredentialKind] = CredentialKind) -> tuple[Credential, ...]:
        """Return the person's credentials of these kinds that have not ended, the one used last first; not more than MOST_LISTED."""
        theirs = select(CredentialTable).where(
            CredentialTable.person_id == person.id,
            col(CredentialTable.kind).in_(tuple(kinds)),
            CredentialTable.ends_at > self._clock(),
        )
        with self._database.read() as session:
            rows = session.exec(
                theirs.order_by(col(CredentialTable.seen_at).desc(), col(CredentialTable.id)).limit(
                    MOST_LISTED
                )
            )
            return tuple(map(_credential, rows))

    def end(self, person: Person, public_id: str) -> Credential:
        """End one credential of the person.

        Raises:
            NotFound: the person has none of that id, or it has ended already.
        """
        theirs = select(CredentialTable).where(
            CredentialTable.public_id == public_id, CredentialTable.person_id == person.id
        )
        with self._database.write() as session:
            row = session.exec(theirs).first()
            if row is None:
                raise NotFound("That session, token or link has ended already.")
            ended = _credential(row)
            session.delete(row)
            return ended

    def end_all(
        self,
        person: Person,
        kinds: Iterable[CredentialKind] = CredentialKind,
        *,
        but: Credential | None = None,
    ) -> int:
        """End the person's credentials of these kinds, all but one; return how many there were."""
        theirs = delete(CredentialTable).where(
            col(CredentialTable.person_id) == person.id, col(CredentialTable.kind).in_(tuple(kinds))
        )
        if but is not None:
            theirs = theirs.where(col(CredentialTable.public_id) != but.public_id)
        with self._database.write() as session:
            return session.exec(theirs).rowcount

    def _let_in(
        self, session: Session, which: object, kind: CredentialKind, idle: timedelta | None
    ) -> Visitor | None:
        now = self._clock()
        both = (
            select(CredentialTable, PersonTable)
            .join(PersonTable, col(PersonTable.id) == CredentialTable.person_id)
            .where(which, CredentialTable.kind == kind, CredentialTable.ends_at > now)  # type: ignore[arg-type]  # a condition
            .where(col(PersonTable.disabled).is_(False))
        )
        if idle is not None:
            both = both.where(CredentialTable.seen_at > now - idle)
        row = session.exec(both).first()
        if row is None:
            return None
        return Visitor(**vars(as_person(row[1])), credential=_credential(row[0]))

    def _note_use(self, credential: Credential) -> None:
        now = self._clock()
        if now - credential.seen_at < SEEN_EVERY:
            return
        with self._database.write() as session:
            used = select(CredentialTable).where(CredentialTable.public_id == credential.public_id)
            row = session.exec(used).first()
            if row is not None:
                row.seen_at = max(row.seen_at, now)


def new_token(
    store: CredentialStore, person: Person, *, title: str, scopes: Iterable[str], days: float | None
) -> str:
    """Make a token for a program of this person and return it.

    Raises:
        BadInput: it has no title, no scope, or lasts longer than may be.
    """
    if not title.strip():
        raise BadInput("Say what the token is for.")
    if days is None or not 1 <= days <= MOST_DAYS:
        raise BadInput(f"A token lasts between 1 and {MOST_DAYS} days.")
    return store.issue(
        person,
        CredentialKind.TOKEN,
        lasts=timedelta(days=days),
        title=title.strip(),
        scopes=read_scopes(scopes),
    )


def new_link(store: CredentialStore, person: Person, *, hours: float) -> str:
    """Make the key of a one-time link by which this person chooses a password; earlier links end."""
    store.end_all(person, [CredentialKind.LINK])
    return store.issue(person, CredentialKind.LINK, lasts=timedelta(hours=hours))


def _credential(row: CredentialTable) -> Credential:
    return as_value(Credential, row, scopes=tuple(map(Scope, row.scopes)))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
