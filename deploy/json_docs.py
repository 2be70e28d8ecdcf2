"""Writes docs/evaluation-json.md: the keys of an evaluation's JSON and of its items, from the schema itself.

Run it after the schema was changed: `.venv/bin/python -m deploy.json_docs`.
"""

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from medx_core.evaluation.items import ItemRow
from medx_core.evaluation.replicates import Replicates
from medx_core.evaluation.result import EvaluationResult, Recheck

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "evaluation-json.md"
HEAD = """# The JSON of an evaluation

Generated from the schema (`medx_core/evaluation/result.py`) by `python -m deploy.json_docs`; a test keeps it up to date.

`medx evaluate --json` writes an `EvaluationResult`, `medx evaluate --recheck FILE --json` a `Recheck`, and
`medx replicates --json` a `Replicates` with `medx_version`. A figure is an object with its interval or its draws, or
null; then `reasons` beside it says why. Shares and differences are fractions, not percent, and are not rounded.

`medx evaluate --items FILE` writes one row per model and test item. First come the columns of `ItemRow`, then per arm
`score:ARM`, `verdict:ARM` (TRUE at a score of 0 or more) and `answer_word:ARM` (whether the next token was an answer
word), per draw of a control `score:CONTROL:DRAW`, and per reader of wording `wording:READER`.
"""
WORDS: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    NoneType: "null",
}


def document() -> str:
    """Return the whole document."""
    models = dict.fromkeys(
        model for root in (EvaluationResult, Recheck, Replicates, ItemRow) for model in _reached(root)
    )
    return "\n".join([HEAD, *("\n".join(_section(model)) for model in models)])


def _reached(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Return a model and all models within its fields, depth first."""
    yield model
    for field in model.model_fields.values():
        for part in _models_in(field.annotation):
            yield from _reached(part)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _section(model: type[BaseModel]) -> Iterator[str]:
    yield f"## {model.__name__}\n\n{(model.__doc__ or '').strip()}\n\n| key | value | meaning |\n|---|---|---|"
    for name, field in model.model_fields.items():
        yield f"| `{name}` | {_in_words(field.annotation)} | {field.description} |"
    yield ""


def _in_words(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (dict, tuple):
        return _container_in_words(parts, is_object=origin is dict)
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts)
    return " or ".join(map(_in_words, parts)) if parts else _class_in_words(annotation)


def _container_in_words(parts: tuple[Any, ...], *, is_object: bool) -> str:
    if is_object:
        return f"object: {_in_words(parts[0])} to {_in_words(parts[1])}"
    return f"list of {_in_words(parts[0])}" if Ellipsis in parts else f"list of {len(parts)} numbers"


def _class_in_words(annotation: type) -> str:
    if issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    if issubclass(annotation, StrEnum):
        return " or ".join(f"`{member.value}`" for member in annotation)
    return WORDS[annotation]


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
