"""People who may sign in, their roles and passwords."""

import threading
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, delete, select

from medx_core.clock import utc_now
from medx_core.errors import BadInput, NotAllowed, NotFound
from medx_core.storage.account_rules import (
    LONGEST_PASSWORD,
    appearance,
    check_password,
    name_key,
    usable_name,
)
from medx_core.storage.engine import Clock, Database, Store
from medx_core.storage.tables import CredentialTable, PersonTable, as_value

CHECKS_AT_ONCE = 4  # each takes 64 MiB of memory while it runs


class Role(StrEnum):
    """How far a person reaches: an asker asks, a clinician also rates, an admin also administers."""

    ASKER = "asker"
    CLINICIAN = "clinician"
    ADMIN = "admin"


def read_role(text: str) -> Role:
    """Read a role as chosen on a page or a command line; BadInput is raised where there is no such role."""
    try:
        return Role(text)
    except ValueError:
        raise BadInput(f"There is no role {text!r}; choose {', '.join(Role)}.") from None


@dataclass(frozen=True)
class Person:
    """A person who may sign in, unless disabled."""

    id: int
    name: str
    role: Role
    disabled: bool


class PersonStore(Store):
    """The people of one database; names differ by more than case.

    Methods that change a person raise NotFound if nobody has the name, and NotAllowed if the change would leave no
    administrator. Those that take a password to set raise BadInput if it is too weak.
    """

    def __init__(
        self, database: Database, *, hasher: PasswordHasher | None = None, clock: Clock = utc_now
    ) -> None:
        super().__init__(database, clock=clock)
        self._hasher = hasher or PasswordHasher()
        self._checking = threading.BoundedSemaphore(CHECKS_AT_ONCE)

    def add(self, name: str, role: Role, password: str) -> Person:
        """Add a person.

        Raises:
            BadInput: the name cannot be used or looks like one that is taken, or the password is too weak.
        """
        name = usable_name(name)
        person = PersonTable(
            name=name,
            name_key=name_key(name),
            role=role,
            password_hash=self._hash(password, name),
            created_at=self._clock(),
        )
        try:
            with self._database.write() as session:
                _refuse_look_alike(session, name)
                session.add(person)
                session.flush()
                return as_person(person)
        except IntegrityError as error:
            raise _taken(name) from error

    def refuse_name(self, name: str) -> None:
        """Raise the BadInput with which `add` would refuse this name, if it would."""
        name = usable_name(name)
        with self._database.read() as session:
            _refuse_look_alike(session, name)

    def authenticate(self, name: str, password: str) -> Person | None:
        """Return the person whose name and password these are, None otherwise or when disabled.

        An unknown name takes as long as a wrong password, so that answers do not tell which names exist.
        """
        password = password[:LONGEST_PASSWORD]
        with self._database.read() as session:
            row = _row_of(session, name)
            stored = row.password_hash if row is not None else self._nobodys_hash
            person = None if row is None or row.disabled else as_person(row)
        try:
            with self._checking:
                self._hasher.verify(stored, password)
        except (VerificationError, UnicodeEncodeError):
            return None
        return person

    def find(self, name: str) -> Person:
        """Return the person of that name."""
        with self._database.read() as session:
            return as_person(_row(session, name))

    def list(self) -> tuple[Person, ...]:
        """Return everybody by name."""
        with self._database.read() as session:
            return tuple(map(as_person, session.exec(select(PersonTable).order_by(PersonTable.name_key))))

    def disable(self, name: str) -> Person:
        """Keep a person from signing in, and end their sessions, tokens and links."""
        with self._database.write() as session:
            row = _row(session, name)
            if not row.disabled:
                _keep_an_admin(session, row)
                row.disabled = True
                _end_credentials(session, row)
            return as_person(row)

    def enable(self, name: str) -> Person:
        """Let a disabled person sign in again."""
        with self._database.write() as session:
            row = _row(session, name)
            row.disabled = False
            return as_person(row)

    def set_role(self, name: str, role: Role) -> Person:
        """Give a person another role; it counts from the next request on."""
        with self._database.write() as session:
            row = _row(session, name)
            if role is not Role.ADMIN:
                _keep_an_admin(session, row)
            row.role = role
            return as_person(row)

    def change_password(self, name: str, old: str, new: str) -> Person:
        """Give oneself a new password; sessions, tokens and links end. NotAllowed is raised if `old` is not the present one."""
        if self.authenticate(name, old) is None:
            raise NotAllowed("The present password is not right.")
        return self.reset_password(name, new)

    def reset_password(self, name: str, new: str) -> Person:
        """Give somebody a new password, as an administrator; their sessions, tokens and links end."""
        hashed = self._hash(new, name)
        with self._database.write() as session:
            row = _row(session, name)
            row.password_hash = hashed
            _end_credentials(session, row)
            return as_person(row)

    @cached_property
    def _nobodys_hash(self) -> str:
        return self._hasher.hash("the password of nobody")

    def _hash(self, password: str, name: str) -> str:
        check_password(password, name)
        return self._hasher.hash(password)


def _refuse_look_alike(session: Session, name: str) -> None:
    looks = appearance(name)
    if any(appearance(other) == looks for other in session.exec(select(PersonTable.name))):
        raise _taken(name)


def _taken(name: str) -> BadInput:
    return BadInput(
        f"There is already somebody called {name}, or so alike that people would take one for the other; choose another name."
    )


def _row_of(session: Session, name: str) -> PersonTable | None:
    # Names from before names were normalised have their keys as they were typed.
    keys = (name_key(name), " ".join(name.split()).casefold())
    return session.exec(select(PersonTable).where(col(PersonTable.name_key).in_(keys))).first()


def _row(session: Session, name: str) -> PersonTable:
    row = _row_of(session, name)
    if row is None:
        raise NotFound(f"There is nobody called {name}.")
    return row


def _end_credentials(session: Session, row: PersonTable) -> None:
    session.exec(delete(CredentialTable).where(col(CredentialTable.person_id) == row.id))


def _keep_an_admin(session: Session, row: PersonTable) -> None:
    if row.role != Role.ADMIN or row.disabled:
        return
    # Locked in one order: two administrators who disable each other at once must not both succeed.
    admins = select(PersonTable.id).where(
        PersonTable.role == Role.ADMIN, col(PersonTable.disabled).is_(False)
    )
    if len(session.exec(admins.order_by(col(PersonTable.id)).with_for_update()).all()) == 1:
        raise NotAllowed(f"{row.name} is the only administrator; make somebody else one first.")


def as_person(row: PersonTable) -> Person:
    """Return the person that a row of the table describes."""
    return as_value(Person, row, role=Role(row.role))
