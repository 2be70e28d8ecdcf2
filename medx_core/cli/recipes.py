"""`medx recipes`: what answers, with the evidence beside it; list, show, build, check, promote, retire, roll back."""

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar

import typer

from medx_core import __version__
from medx_core.cli.database import note, opened_database
from medx_core.cli.outputs import AsJson, print_json
from medx_core.errors import (
    BadInput,
    ModelUnavailable,
    NotFound,
    RecipeUnusable,
    StorageFault,
    VectorRefused,
)
from medx_core.job_execution.dispatch import number_types
from medx_core.models.model_files import model_identity_sha256, model_weight_sha256
from medx_core.prompts import QUESTION_PROMPT, STATEMENT_PROMPT
from medx_core.recipes import ALL, ModelIdentity, Recipe
from medx_core.settings import settings
from medx_core.storage.engine import Database
from medx_core.storage.evidence import Evidence, KnownEvidence
from medx_core.storage.health import HealthStore
from medx_core.storage.recipes import RecipeName, RecipeRecord, RecipeStore
from medx_core.storage.vectors import VectorRecord, VectorStatus, VectorStore, check_file

Named = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name or id in `medx recipes list`.")]
Known = TypeVar("Known", RecipeRecord, RecipeName)
Yes = Annotated[bool, typer.Option("--yes", help="Promote without asking.")]

app = typer.Typer(no_args_is_help=True, help="Recipes: what answers, with the evidence beside it.")


def model_in_use(sha256: str = "") -> ModelIdentity:
    """Return the model of the settings, or the one of a given hash, in the number type of this machine.

    Raises:
        ModelUnavailable: it is not on this machine.
    """
    types = number_types(settings())
    if len(types) > 1:  # a GPU has one of two; only torch knows which
        from medx_core.models.devices import choose_placement

        types = (str(choose_placement(settings().device, settings().dtype).dtype).removeprefix("torch."),)
    named = (settings().model, settings().models_folder)
    if sha256 and sha256 != model_weight_sha256(*named):
        return ModelIdentity("", sha256, types[0])
    return ModelIdentity(
        settings().model, model_weight_sha256(*named), types[0], model_identity_sha256(*named)
    )


@app.command("list")
def list_recipes(as_json: AsJson = False) -> None:
    """List all recipes with their evidence; the one that answers for the model in use is marked."""
    with opened_database() as database:
        evidence = Evidence(database)
        records, standing = _all(database)
        shown = [_contract(record, evidence, standing) for record in records]
        answering = standing.answering
        damaged = [known.in_words for known in RecipeStore(database).damaged()]
    if as_json:
        print_json(
            {
                "recipes": shown,
                "answering": answering,
                "refused": standing.refused,
                "damaged": damaged,
                "medx_version": __version__,
            }
        )
        return
    for recipe in shown:
        mark = "*" if recipe["id"] == answering else " "
        print(
            f"{mark} {recipe['id']}  {recipe['name']:<20} {recipe['status']:<10} {recipe['model']}  {recipe['number_type']}"
        )
        print(f"    {recipe['evidence']}")
    for sentence in damaged:
        print(sentence)
    if standing.refused:
        print(standing.refused)
    else:
        print("* answers for the model in use." if answering else "The model in use is not on this machine.")


@dataclass(frozen=True)
class Standing:
    """What answers for the model in use: the id of that recipe, None where nothing does; `refused` says why it cannot."""

    answering: str | None = None
    refused: str = ""


def _all(database: Database) -> tuple[list[RecipeRecord], Standing]:
    """Return all recipes, the one that is to answer now included, and whether it does."""
    store = RecipeStore(database)
    records = list(store.list())
    with suppress(ModelUnavailable):
        model = model_in_use()
        try:
            record = store.standing(model, settings())
        except RecipeUnusable as damaged:
            return records, Standing(refused=str(damaged))
        if record.id not in {each.id for each in records}:
            records.append(record)
        reason = store.why_unusable(record, model, settings().vectors_folder)
        if not reason:
            workers, within = HealthStore(database), settings().worker_seen_seconds
            reason = workers.why_unaskable(record.recipe, seen_within_seconds=within) or ""
        if reason and record.is_promoted:
            return records, Standing(refused=str(RecipeUnusable(record.id, record.name, reason)))
        return records, Standing(record.id)
    return records, Standing()


def _contract(record: RecipeRecord, evidence: Evidence, standing: Standing) -> dict[str, Any]:
    known = evidence.of(record.id, record.recipe.model_sha256)
    return record.as_json() | {
        "answers": record.id == standing.answering,
        "evidence": known.line,
        "run": known.run or None,
    }


@app.command()
def show(recipe: Named, as_json: AsJson = False) -> None:  # noqa: ARG001 - it is JSON either way
    """Show one recipe as JSON: everything that decides an answer, and the evidence."""
    with opened_database() as database:
        record, standing = _readable(database, recipe), _all(database)[1]
        shown = _contract(record, Evidence(database), standing)
    print_json(shown | {"medx_version": __version__}, indent=2)


def _readable(database: Database, named: str) -> RecipeRecord:
    """Return the recipe of an id or a name, that which is to answer included.

    Raises:
        NotFound: there is none.
        BadInput: several have this name.
        StorageFault: its row in the database was damaged.
    """
    for known in RecipeStore(database).damaged():
        if named in (known.id, known.name):
            raise StorageFault(known.in_words)
    return _found(_all(database)[0], named)


def _found(records: Iterable[Known], named: str) -> Known:
    """Return the recipe of an id or a name.

    Raises:
        NotFound: there is none.
        BadInput: several have this name.
    """
    meant = [record for record in records if named in (record.id, record.name)]
    if not meant:
        raise NotFound(f"There is no recipe {named!r}; see `medx recipes list`.")
    if len(meant) > 1:
        ids = ", ".join(record.id for record in meant)
        raise BadInput(f"{len(meant)} recipes are called {named!r}; give the id of one: {ids}.")
    return meant[0]


@app.command()
def build(  # noqa: PLR0913 - one parameter per option
    name: Annotated[str, typer.Argument(help="What to call the new recipe.")],
    base: Annotated[
        str, typer.Option("--from", help="The recipe to start from. [default: the one that answers now]")
    ] = "",
    vectors: Annotated[
        list[int] | None,
        typer.Option(
            "--vector", help="Steer with this vector (its number), in its category. May be repeated."
        ),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", help="Do not steer this category, or all. May be repeated."),
    ] = None,
    prompt: Annotated[str, typer.Option(help="Ask with the prompt of this name.")] = "",
    threshold: Annotated[
        float | None, typer.Option(help="Answer TRUE from this logit difference on. [default: 0]")
    ] = None,
    max_dose: Annotated[
        float | None,
        typer.Option(
            help="Refuse questions that steering would move further than this share of their states."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put a recipe together from parts; it is a candidate, not evaluated, until it is promoted."""
    with opened_database() as database:
        store = RecipeStore(database)
        name = store.free_name(name)
        started = _readable(database, base) if base else store.standing(model_in_use(), settings())
        recipe = started.recipe
        for key in without or ():
            recipe = without_key(recipe, key)
        for number in vectors or ():
            recipe = with_vector(recipe, VectorStore(database).get(number))
        changes = dict(_asked_with(prompt)) if prompt else {}
        if threshold is not None:
            if not math.isfinite(threshold):
                raise BadInput("--threshold must be a finite number, a difference of two logits.")
            changes["threshold"] = threshold
        if max_dose is not None:
            if not (math.isfinite(max_dose) and max_dose > 0):
                raise BadInput("--max-dose must be a finite number above 0, a share of a state's length.")
            changes["max_dose"] = max_dose
        recipe = recipe.changed(**changes) if changes else recipe
        record = _kept_as_new(store, recipe, name, started.model)
        note(database, "recipe built", f"{record.model} {record.shown}", recipe=record.id)
    if as_json:
        print_json(record.as_json() | {"medx_version": __version__})
    else:
        print(
            f"{record.shown}: candidate for {record.model}, not evaluated. Put it to use: medx recipes promote {record.id}"
        )


def _kept_as_new(store: RecipeStore, recipe: Recipe, name: str, model: str) -> RecipeRecord:
    record = store.keep(recipe, name=name, model=model)
    if record.name != name:
        raise BadInput(f"This is the recipe {record.shown} already; nothing was stored.")
    return record


def with_vector(recipe: Recipe, vector: VectorRecord) -> Recipe:
    """Return a recipe with this vector in its category's place.

    Raises:
        VectorRefused: it was made for other weights, was retired, or its file cannot be used.
    """
    if vector.model_sha256 != recipe.model_sha256:
        raise VectorRefused(
            f"{vector.name} was made for {vector.model}, and this recipe is for another model."
        )
    if vector.status is VectorStatus.RETIRED:
        raise VectorRefused(f"{vector.name} is retired; a recipe does not take it up again.")
    check_file(settings().vectors_folder, vector)
    key = vector.category.value if vector.category else ALL
    return recipe.changed(steering={**recipe.steering, key: vector.steering})


def without_key(recipe: Recipe, key: str) -> Recipe:
    """Return a recipe that does not steer one category, or not what has no category of its own (`all`).

    Raises:
        BadInput: it does not steer that anyway.
    """
    if key not in recipe.steering:
        keys = ", ".join(recipe.steering) or "nothing"
        raise BadInput(f"This recipe does not steer {key!r}; it steers {keys}.")
    steering = {other: entry for other, entry in recipe.steering.items() if other != key}
    return recipe.changed(steering=steering)


def _asked_with(name: str) -> Mapping[str, Any]:
    """Return the fields of a recipe that asks with a prompt, and with its like for questions."""
    from medx_core.evaluation.prompt_selection import chat_candidates, plain_candidates

    statements, questions = (
        plain_candidates(questions=asked) + chat_candidates(questions=asked) for asked in (False, True)
    )
    for statement, question in zip(statements, questions, strict=True):
        if name in (statement.prompt.version, question.prompt.version):
            return {
                "prompt": statement.prompt,
                "question_prompt": question.prompt,
                "category_prompts": {},
            }
    names = ", ".join(candidate.prompt.version for candidate in statements)
    raise BadInput(f"There is no prompt {name!r}; there is: {names}.")


@app.command()
def check(recipe: Named, as_json: AsJson = False) -> None:
    """Check that a recipe can answer here: model, content, dose, every prompt and vector. Exit code 1 when it cannot."""
    with opened_database() as database:
        record = _readable(database, recipe)
        checks = list(_checks(database, record))
    ok = all(each["ok"] for each in checks)
    if as_json:
        print_json({"ok": ok, "recipe": record.id, "checks": checks, "medx_version": __version__})
    else:
        for each in checks:
            print(f"{'ok ' if each['ok'] else 'NO '} {each['name']}: {each['detail']}")
    if not ok:
        raise typer.Exit(1)


def _checks(database: Database, record: RecipeRecord) -> Iterable[dict[str, Any]]:
    recipe = record.recipe
    yield {"name": "content", "ok": True, "detail": f"its hash is {recipe.id}"}
    try:
        here = model_in_use()
        misfit = recipe.misfit(here)
        detail = f"{misfit} (made for {record.model})" if misfit else f"{here.name} in {here.number_type}"
    except ModelUnavailable as error:
        misfit = detail = str(error)
    yield {"name": "model", "ok": not misfit, "detail": detail}
    if not misfit:
        yield from _prompt_checks(recipe)
    if refused := Evidence(database).refusals_of(record.id):
        yield {"name": "dose", "ok": False, "detail": refused}
    for key, entry in recipe.steering.items():
        try:
            vector = RecipeStore(database).vector_of(recipe, key, settings().vectors_folder)
        except VectorRefused as error:
            yield {"name": f"vector for {key}", "ok": False, "detail": str(error)}
        else:
            detail = f"{vector.name}, {entry.strategy}, layer {entry.layer}, strength {entry.strength:g}"
            yield {"name": f"vector for {key}", "ok": True, "detail": detail}


def _prompt_checks(recipe: Recipe) -> Iterable[dict[str, Any]]:
    """Try each prompt on the model, which may refuse a chat template, or answer words of several tokens."""
    from medx_core.assembly import build_model  # imports torch, which takes seconds
    from medx_core.models.scoring import why_unaskable

    try:
        model = build_model(settings())
        model.require("verdict")
    except ModelUnavailable as error:
        yield {"name": "verdicts", "ok": False, "detail": str(error)}
        return
    for prompt in recipe.prompts:
        reason = why_unaskable(model, prompt)
        detail = f"{reason[:1].upper()}{reason[1:]}." if reason else "the model can be asked so"
        yield {"name": f"prompt {prompt.version}", "ok": not reason, "detail": detail}


@app.command()
def promote(
    recipe: Named,
    yes: Yes = False,
    withdrawn: Annotated[
        bool,
        typer.Option("--withdrawn", help="Put it to use although it was withdrawn (retired by a person)."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put a recipe to use: show the evidence, ask, and then answer by it; the one before can be rolled back to."""
    with opened_database() as database:
        record = _readable(database, recipe)
        promoted, known = put_to_use(database, record, yes=yes, withdrawn=withdrawn)
    if as_json:
        print_json(
            promoted.as_json()
            | {"evidence": known.line, "run": known.run or None, "replaced": promoted.replaced_id}
            | {"medx_version": __version__}
        )
    else:
        print(f"{promoted.shown} is in use for {promoted.model}. Workers take it up within seconds.")


def put_to_use(
    database: Database, record: RecipeRecord, *, yes: bool, withdrawn: bool = False
) -> tuple[RecipeRecord, KnownEvidence]:
    """Show the evidence for a recipe, ask, and promote it; every promotion of the command line goes this way.

    One for other weights than those of the settings is for workers elsewhere, and whether it fits is left to them.

    Raises:
        VectorRefused: a vector of it cannot be read, so that a worker would answer nothing.
        BadInput: it does not fit the model here, it was withdrawn, or the person did not agree.
    """
    store = RecipeStore(database)
    if not withdrawn:
        store.refuse_withdrawn(record.id)
    _refuse_misfit(record)
    _refuse_unaskable(database, record)
    store.vectors_of(record.recipe, settings().vectors_folder)
    known = Evidence(database).of(record.id, record.recipe.model_sha256)
    present = store.named_in_use(record.recipe.model_sha256, record.recipe.number_type)
    place = f"in place of {present.shown}" if present else "in place of the built-in recipe"
    typer.echo(f"{record.shown} for {record.model} in {record.recipe.number_type}: {known.line}", err=True)
    if not yes:
        try:
            typer.confirm(f"Answer by it from now on, {place}?", abort=True, err=True)
        except typer.Abort:
            raise BadInput(
                "Nothing was promoted: it was not agreed to. --yes promotes without asking."
            ) from None
    store.keep(record.recipe, name=record.name, model=record.model)  # a built-in one may not be stored yet
    promoted = store.promote(record.id, withdrawn=withdrawn)
    note(
        *(database, "recipe promoted", f"{promoted.model} {promoted.shown}"),
        recipe=promoted.id,
        replaced=promoted.replaced_id or "",
        evidence=known.run,
    )
    return promoted, known


def _refuse_misfit(record: RecipeRecord) -> None:
    """Refuse a recipe that was made for the weights here and cannot answer: it would stop every worker that has them.

    Raises:
        BadInput: the tokenizer, the chat template or the configuration is another one. The number type may be that of
            workers elsewhere.
    """
    with suppress(ModelUnavailable):
        here = replace(model_in_use(), number_type=record.recipe.number_type)
        misfit = record.recipe.misfit(here)
        if misfit and record.recipe.model_sha256 == here.sha256:
            raise BadInput(f"{record.shown} cannot answer here, so nothing was promoted: {misfit}.")


def _refuse_unaskable(database: Database, record: RecipeRecord) -> None:
    """Refuse a recipe with a prompt that its model refuses: as the workers say that have the model, else as it is here.

    Nothing is loaded for MedX's own prompts, which the model's check has tried, nor for a model that is not here.

    Raises:
        BadInput: one of its prompts is refused.
    """
    recipe = record.recipe
    reason = HealthStore(database).why_unaskable(recipe, seen_within_seconds=settings().worker_seen_seconds)
    if reason is None and not set(recipe.prompts) <= {STATEMENT_PROMPT, QUESTION_PROMPT}:
        with suppress(ModelUnavailable):
            if not recipe.misfit(model_in_use()):
                failed = (each["detail"] for each in _prompt_checks(recipe) if not each["ok"])
                reason = next(failed, "")
    if reason:
        raise BadInput(f"{record.shown} cannot answer here, so nothing was promoted: {reason.rstrip('.')}.")


@app.command()
def retire(recipe: Named, as_json: AsJson = False) -> None:
    """Withdraw a recipe: no rollback leads to it; if it was in use, the built-in one answers from now on."""
    with opened_database() as database:
        store = RecipeStore(database)
        known = _found(store.names(), recipe)
        store.retire(known.id)
        note(database, "recipe retired", f"{known.model} {known.shown}", recipe=known.id)
        record = None if known.damage else store.get(known.id)
        answering = store.standing(_model_of(record) if record else model_in_use(), settings())
    if as_json:
        shown = record.as_json() if record else {"id": known.id, "name": known.name, "model": known.model}
        print_json(shown | {"answering": answering.id, "medx_version": __version__})
    else:
        print(f"{known.shown} is withdrawn. {answering.shown} answers for {answering.model}.")


@app.command()
def rollback(
    recipe: Annotated[
        str,
        typer.Argument(metavar="[RECIPE]", help="A recipe of the model meant. [default: the model in use]"),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Go back to the recipe that was in use before and not withdrawn; where there is none, the built-in one answers again."""
    with opened_database() as database:
        store = RecipeStore(database)
        model = _model_of(_found(store.list(), recipe)) if recipe else model_in_use()
        if before := store.way_back(model.sha256, model.number_type).before:
            _refuse_misfit(before)
            _refuse_unaskable(database, before)
            store.vectors_of(before.recipe, settings().vectors_folder)
        way = store.roll_back(model.sha256, model.number_type)
        left = way.left
        answering = store.standing(model, settings())
        note(
            database,
            "recipe rolled back",
            f"{left.model} {left.shown}",
            recipe=left.id,
            answering=answering.id,
        )
    if as_json:
        passed = [record.id for record in way.withdrawn]
        print_json(
            answering.as_json() | {"left": left.id, "passed_over": passed, "medx_version": __version__}
        )
    else:
        print(
            f"{answering.shown} answers again for {left.model}, in place of {left.shown}. {way.passed_over}".rstrip()
        )


def _model_of(record: RecipeRecord) -> ModelIdentity:
    recipe = record.recipe
    return ModelIdentity(record.model, recipe.model_sha256, recipe.number_type, recipe.identity_sha256)
