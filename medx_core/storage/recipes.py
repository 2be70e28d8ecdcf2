"""Recipes of one database: which one answers for a model and number type, and which it replaced."""

import logging
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy.orm import defer
from sqlmodel import Session, col, select, update
from sqlmodel.sql.expression import SelectOfScalar

from medx_core.errors import BadInput, NotFound, RecipeUnusable, StorageFault, VectorRefused
from medx_core.recipes import BUILT_IN, PAPER, UNSTEERED, ModelIdentity, Recipe, built_in_recipe
from medx_core.settings import Settings
from medx_core.storage.engine import Store
from medx_core.storage.tables import RecipeTable, as_value
from medx_core.storage.vectors import VectorRecord, VectorStore, check_file

log = logging.getLogger(__name__)

MAX_NAME_LETTERS = 60


class RecipeStatus(StrEnum):
    """The state of a recipe. One per model and number type is in use at most; without one a built-in recipe answers.

    A retired one was replaced, or rolled back from, and may come back by a rollback; a withdrawn one was taken out of use by a
    person, and comes back only where a person says so.
    """

    CANDIDATE = "candidate"
    IN_USE = "in use"
    RETIRED = "retired"
    WITHDRAWN = "withdrawn"
    BUILT_IN = "built-in"


@dataclass(frozen=True)
class RecipeName:
    """Which recipe is meant, also one whose content cannot be read; `damage` is why it cannot, empty where it can."""

    id: str
    name: str
    model: str
    damage: str = ""

    @property
    def shown(self) -> str:
        """Name and id, as people read it."""
        return f"{self.name} ({self.id})"

    @property
    def in_words(self) -> str:
        """Say in a sentence that it is damaged, and what to do."""
        return f"The recipe {self.shown} is not used: {self.damage}; retire it (`medx recipes retire {self.id}`)."


@dataclass(frozen=True)
class RecipeRecord:
    """A recipe with its name and state. `replaced_id` is the recipe that was in use before it, None where none was."""

    recipe: Recipe
    name: str
    model: str
    status: RecipeStatus = RecipeStatus.CANDIDATE
    replaced_id: str | None = None
    created_at: datetime | None = None

    @property
    def id(self) -> str:
        """The recipe's id."""
        return self.recipe.id

    @property
    def is_promoted(self) -> bool:
        """Whether a person put it to use: then it answers, or nothing does."""
        return self.status is RecipeStatus.IN_USE

    @property
    def shown(self) -> str:
        """Name and id, as people read it."""
        return f"{self.name} ({self.id})"

    def as_json(self) -> dict[str, Any]:
        """Return what the commands show of it."""
        return {
            "id": self.id,
            "name": self.name,
            "status": self.status.value,
            "model": self.model,
            "created_at": None if self.created_at is None else self.created_at.isoformat(),
            **self.recipe.model_dump(mode="json"),
        }


@dataclass(frozen=True)
class WayBack:
    """What a rollback does: from `left`, which is in use, to `before`; None where a built-in one answers then.

    `withdrawn` are those between them that it passes over.
    """

    left: RecipeName
    before: RecipeRecord | None
    withdrawn: tuple[RecipeName, ...] = ()

    @property
    def passed_over(self) -> str:
        """Say in a sentence what is passed over; empty where nothing is."""
        names = ", ".join(record.shown for record in self.withdrawn)
        return f"Passed over, since withdrawn: {names}." if names else ""


class RecipeStore(Store):
    """The recipes of one database. Methods that take an id raise NotFound if there is none.

    Those that were in use for a model and number type are a chain from the one in use: each names the one before it, and none
    is in it twice, so that going back ends at the built-in recipe.
    """

    def free_name(self, name: str) -> str:
        """Return a name for a new recipe as it is stored: without spaces around it.

        Raises:
            BadInput: it is empty, too long, not one line of printable letters, or taken, in whatever case.
        """
        name = name.strip()
        if not name or len(name) > MAX_NAME_LETTERS or not name.isprintable():
            raise BadInput(
                f"A recipe's name is one line of at most {MAX_NAME_LETTERS} printable letters; choose another one."
            )
        taken = {_compared(each) for each in (*BUILT_IN, *(known.name for known in self.names()))}
        if _compared(name) in taken:
            raise BadInput(f"A new recipe cannot be called {name!r}: the name is taken. Choose another one.")
        return name

    def drafted(self, recipe: Recipe, name: str, *, model: str) -> RecipeRecord:
        """Return a recipe as it is stored; else under a free name that begins as wanted, and not stored.

        The name is cut where it is too long, and numbered where it is taken.
        """
        with self._database.read() as session:
            row = _get(session, recipe.id)
            if row is not None:
                return _record(row)
        taken = {_compared(known.name) for known in self.names()}
        numbered = (
            _cut(name, ending) for ending in ("", *(f" ({number})" for number in range(2, len(taken) + 3)))
        )
        return RecipeRecord(recipe, next(each for each in numbered if _compared(each) not in taken), model)

    def keep(self, recipe: Recipe, *, name: str, model: str) -> RecipeRecord:
        """Store a recipe under a name, as a candidate or as a built-in one; one that is there already stays as it is.

        Where its row was damaged it gets its content back, which is known by its id.
        """
        whole: dict[str, Any] = {
            "model_sha256": recipe.model_sha256,
            "number_type": recipe.number_type,
            "content": recipe.model_dump(mode="json", exclude_defaults=True),
        }
        with self._database.write() as session:
            row = _get(session, recipe.id)
            if row is not None and (damage := _damage(row)):
                log.warning("%s; its content is put right", _named(row, damage).in_words)
                session.exec(update(RecipeTable).where(col(RecipeTable.id) == recipe.id).values(**whole))
                session.expire(row)
            if row is None:
                row = RecipeTable(
                    id=recipe.id,
                    name=name,
                    model=model,
                    **whole,
                    status=RecipeStatus.BUILT_IN if name in BUILT_IN else RecipeStatus.CANDIDATE,
                    created_at=self._clock(),
                )
                session.add(row)
                session.flush()
            return _record(row)

    def get(self, recipe_id: str) -> RecipeRecord:
        """Return one recipe.

        Raises:
            StorageFault: its row was damaged.
        """
        with self._database.read() as session:
            return _record(_row(session, recipe_id))

    def list(self, model_sha256: str | None = None) -> tuple[RecipeRecord, ...]:
        """Return all recipes that can be read, of one model or of all, the newest of each model first."""
        ordered = _rows().order_by(RecipeTable.model, col(RecipeTable.created_at).desc())
        if model_sha256 is not None:
            ordered = ordered.where(RecipeTable.model_sha256 == model_sha256)
        with self._database.read() as session:
            return tuple(_record(row) for row in session.exec(ordered) if not _damage(row))

    def ids(self, model_sha256: str) -> frozenset[str]:
        """Return the ids of a model's recipes."""
        with self._database.read() as session:
            ids = select(RecipeTable.id).where(RecipeTable.model_sha256 == model_sha256)
            return frozenset(session.exec(ids))

    def names(self) -> tuple[RecipeName, ...]:
        """Return which recipes there are, those whose rows were damaged among them."""
        with self._database.read() as session:
            ordered = _rows().order_by(RecipeTable.model, col(RecipeTable.created_at).desc())
            return tuple(_named(row, _damage(row)) for row in session.exec(ordered))

    def damaged(self) -> tuple[RecipeName, ...]:
        """Return those recipes whose rows in the database were changed or cannot be read."""
        return tuple(known for known in self.names() if known.damage)

    def in_use(self, model_sha256: str, number_type: str) -> RecipeRecord | None:
        """Return the recipe that was promoted for a model in a number type, None where none is in use.

        Raises:
            RecipeUnusable: its row was damaged, so that nobody knows any more how it answers.
        """
        with self._database.read() as session:
            row = _in_use(session, model_sha256, number_type, locked=False)
            if row is not None and (damage := _damage(row)):
                raise RecipeUnusable(row.id, row.name, damage)
            return None if row is None else _record(row)

    def named_in_use(self, model_sha256: str, number_type: str) -> RecipeName | None:
        """Return which recipe is in use, damaged or not; None where none is."""
        with self._database.read() as session:
            row = _in_use(session, model_sha256, number_type, locked=False)
            return None if row is None else _named(row)

    def standing(self, model: ModelIdentity, settings: Settings) -> RecipeRecord:
        """Return the recipe that is to answer: the one in use, whether or not it can, else a built-in one, stored or not.

        Raises:
            RecipeUnusable: the row of the one in use was damaged.
        """
        record = self.in_use(model.sha256, model.number_type)
        return record or self._built_in(model, settings)

    def answering(self, model: ModelIdentity, settings: Settings) -> RecipeRecord:
        """Return the recipe by which a model answers now: the one in use, else a built-in one, stored or not.

        Raises:
            RecipeUnusable: the one in use was made for another model (another tokenizer, chat template or configuration), or
                its row was damaged.
        """
        record = self.standing(model, settings)
        if record.is_promoted and (reason := record.recipe.misfit(model)):
            raise RecipeUnusable(record.id, record.name, reason)
        return record

    def why_unusable(self, record: RecipeRecord, model: ModelIdentity, folder: Path) -> str:
        """Return why a recipe cannot answer on this model with these vectors, as a part of a sentence; empty where it can."""
        try:
            self.vectors_of(record.recipe, folder)
        except VectorRefused as error:
            return record.recipe.misfit(model) or as_reason(error)
        return record.recipe.misfit(model)

    def vectors_of(self, recipe: Recipe, folder: Path) -> dict[str, VectorRecord]:
        """Return the vectors of a recipe by key, as they lie in the vectors folder.

        Raises:
            VectorRefused: one is not registered here, its file is missing, or it was changed.
        """
        return {key: self.vector_of(recipe, key, folder) for key in recipe.steering}

    def vector_of(self, recipe: Recipe, key: str, folder: Path) -> VectorRecord:
        """Return the vector of a recipe under one key; VectorRefused is raised as by `vectors_of`."""
        sha256 = recipe.steering[key].file_sha256
        versions = VectorStore(self._database).list(recipe.model_sha256)
        vector = next((version for version in versions if version.file_sha256 == sha256), None)
        if vector is None:
            raise VectorRefused(
                f"No vector with the hash {sha256[:12]} is registered here; import or build it."
            )
        check_file(folder, vector)
        return vector

    def vectors_in_use(self, model_sha256: str) -> frozenset[str]:
        """Return the hashes of the vectors that steer: of the recipes in use of a model, without one of the built-in one."""
        in_use = [record for record in self.list(model_sha256) if record.status is RecipeStatus.IN_USE]
        if not in_use:
            papers = VectorStore(self._database).papers(model_sha256)
            return frozenset(record.file_sha256 for record in papers.values())
        return frozenset(entry.file_sha256 for record in in_use for entry in record.recipe.steering.values())

    def _built_in(self, model: ModelIdentity, settings: Settings) -> RecipeRecord:
        papers = VectorStore(self._database).papers(model.sha256)
        recipe = built_in_recipe(model, settings)
        if papers:
            steering = {category.value: record.steering for category, record in papers.items()}
            recipe = recipe.model_copy(update={"steering": steering})
        return RecipeRecord(
            recipe=recipe, name=PAPER if papers else UNSTEERED, model=model.name, status=RecipeStatus.BUILT_IN
        )

    def promote(self, recipe_id: str, *, withdrawn: bool = False) -> RecipeRecord:
        """Put a recipe into use; the one before it is retired and remembered for `roll_back`.

        Raises:
            BadInput: it was withdrawn, and nobody said that it shall answer all the same (`withdrawn`).
        """
        with self._database.write() as session:
            row = _row(session, recipe_id)
            if row.status == RecipeStatus.WITHDRAWN and not withdrawn:
                raise _was_withdrawn(row)
            present = _in_use(session, row.model_sha256, row.number_type)
            if present is None or present.id != row.id:
                _put_away(session, present, RecipeStatus.RETIRED)
                _take_out(session, row)
                row.replaced_id = None if present is None else present.id
                row.status = RecipeStatus.IN_USE
                session.flush()
            return _record(row)

    def refuse_withdrawn(self, recipe_id: str) -> None:
        """Refuse a recipe that was withdrawn, before anybody is asked; BadInput is raised as by `promote`."""
        with self._database.read() as session:
            row = _get(session, recipe_id)
            if row is not None and row.status == RecipeStatus.WITHDRAWN:
                raise _was_withdrawn(row)

    def retire(self, recipe_id: str) -> None:
        """Withdraw a recipe, also one that cannot be read; if it was in use, a built-in one answers from now on.

        Raises:
            BadInput: it is a built-in one that is not in use.
        """
        with self._database.write() as session:
            row = _row(session, recipe_id)
            if row.status == RecipeStatus.BUILT_IN:
                raise BadInput(
                    f"{row.name} ({row.id}) is built in and not in use, so there is nothing to retire."
                )
            _put_away(session, row, RecipeStatus.WITHDRAWN)

    def way_back(self, model_sha256: str, number_type: str) -> WayBack:
        """Return what `roll_back` would do now.

        Raises:
            BadInput: none is in use.
        """
        with self._database.read() as session:
            present, before, passed = _way_back(session, model_sha256, number_type, locked=False)
            return _as_way_back(present, before, passed)

    def roll_back(self, model_sha256: str, number_type: str) -> WayBack:
        """Retire the recipe in use and put the one before it into use again that was not withdrawn since.

        Raises:
            BadInput: none is in use.
        """
        with self._database.write() as session:
            present, before, passed = _way_back(session, model_sha256, number_type)
            _put_away(session, present, RecipeStatus.RETIRED)
            _take_out(session, present)
            if before is not None:
                before.status = RecipeStatus.IN_USE
            session.flush()
            return _as_way_back(present, before, passed)


def as_reason(error: VectorRefused) -> str:
    """Return what a vector's error says as a part of a sentence."""
    sentence = str(error).rstrip(".")
    return sentence[:1].lower() + sentence[1:]


def _was_withdrawn(row: RecipeTable) -> BadInput:
    return BadInput(
        f"{row.name} ({row.id}) was withdrawn; to answer by it all the same: medx recipes promote {row.id} --withdrawn."
    )


def _cut(name: str, ending: str) -> str:
    room = MAX_NAME_LETTERS - len(ending)
    return (name if len(name) <= room else f"{name[: room - 1].rstrip()}…") + ending


def _compared(name: str) -> str:
    """Return what two names have in common that look alike but for case."""
    return unicodedata.normalize("NFKC", name).casefold()


def _put_away(session: Session, row: RecipeTable | None, status: RecipeStatus) -> None:
    """Take a recipe out of use, if there is one: before another is put into use, since the database allows one at any moment."""
    if row is not None:
        row.status = RecipeStatus.BUILT_IN if row.name in BUILT_IN else status
        session.flush()


def _take_out(session: Session, row: RecipeTable) -> None:
    """Take a recipe out of the chain of those that were in use: whichever came after it comes after the one before it."""
    for after in session.exec(_rows().where(RecipeTable.replaced_id == row.id)):
        after.replaced_id = None if row.replaced_id == after.id else row.replaced_id
    row.replaced_id = None


def _way_back(
    session: Session, model_sha256: str, number_type: str, *, locked: bool = True
) -> tuple[RecipeTable, RecipeTable | None, list[RecipeTable]]:
    """Return the recipe in use, the one before it that was not withdrawn, and those between them."""
    present = _in_use(session, model_sha256, number_type, locked=locked)
    if present is None:
        raise BadInput("No recipe is in use for this model, so there is nothing to go back from.")
    passed: list[RecipeTable] = []
    before = _get(session, present.replaced_id)
    while before is not None and before.status == RecipeStatus.WITHDRAWN:
        passed.append(before)
        before = _get(session, before.replaced_id)
        if before is present or before in passed:  # chains that older versions made may go round
            before = None
    return present, before, passed


def _as_way_back(present: RecipeTable, before: RecipeTable | None, passed: Sequence[RecipeTable]) -> WayBack:
    return WayBack(_named(present), _record(before) if before else None, tuple(map(_named, passed)))


def _rows() -> SelectOfScalar[RecipeTable]:
    """Select recipes whose content is read when it is asked for: what was damaged must not keep the others from being read."""
    return select(RecipeTable).options(
        defer(RecipeTable.content)  # type: ignore[arg-type]  # a column at run time
    )


def _get(session: Session, recipe_id: str | None) -> RecipeTable | None:
    return session.exec(_rows().where(RecipeTable.id == recipe_id)).first()


def _in_use(
    session: Session, model_sha256: str, number_type: str, *, locked: bool = True
) -> RecipeTable | None:
    """Return the recipe in use, also where its row was damaged, so that it names another model or number type."""
    in_use = _rows().where(RecipeTable.status == RecipeStatus.IN_USE)
    rows = session.exec(in_use.with_for_update() if locked else in_use).all()
    exactly = [row for row in rows if (row.model_sha256, row.number_type) == (model_sha256, number_type)]
    of_model = [row for row in rows if model_sha256 in (row.model_sha256, _content(row).get("model_sha256"))]
    return next(iter([*exactly, *filter(_damage, of_model)]), None)


def _content(row: RecipeTable) -> Mapping[str, object]:
    """Return the content of a row; empty where it is no JSON object."""
    try:
        content = row.content
    except ValueError:  # read only now, and no JSON any more
        return {}
    return content if isinstance(content, dict) else {}


def _row(session: Session, recipe_id: str) -> RecipeTable:
    row = _get(session, recipe_id)
    if row is None:
        raise NotFound(f"There is no recipe {recipe_id!r}; see `medx recipes list`.")
    return row


def _damage(row: RecipeTable) -> str:
    """Return why a row is not the recipe that was stored, as a part of a sentence; empty where it is."""
    try:
        recipe = Recipe.model_validate(_content(row))
    except ValueError:
        return (
            "its row in the database was damaged, or is of another version of MedX, so that it cannot be read"
        )
    columns = (row.id, row.model_sha256, row.number_type)
    if columns != (recipe.id, recipe.model_sha256, recipe.number_type):
        return "its row was changed in the database"
    return (
        "" if row.status in set(RecipeStatus) else f"its row has a state that there is not ({row.status!r})"
    )


def _named(row: RecipeTable, damage: str = "") -> RecipeName:
    return RecipeName(row.id, row.name, row.model, damage)


def _record(row: RecipeTable) -> RecipeRecord:
    """Return a row as a value; StorageFault is raised where it was damaged."""
    if damage := _damage(row):
        raise StorageFault(_named(row, damage).in_words)
    recipe = Recipe.model_validate(row.content)
    return as_value(RecipeRecord, row, recipe=recipe, status=RecipeStatus(row.status))
