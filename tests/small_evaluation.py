"""A real small evaluation: a tiny random model on statements whose truth is one word, run once per test session."""

import csv
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from medx_core.data.labelled_files import LabelledData
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.evaluation.request import EvaluationRequest
from medx_core.evaluation.runner import Evaluated, Evaluator
from tests.language_models import tiny_model

PARTS = ("heart", "kidneys", "blood", "insulin", "glucose", "cold", "body")
PROMPT = "verdict-statement-yes-no-4shot-v1"


def write_statements(path: Path, *, split: bool = False, twins: bool = False) -> Path:
    """Statements in the tiny tokenizer's words; what makes them TRUE is one word, so that something can be learnt."""
    columns = ["statement", "answer", "harm", "split", "pair"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for number in range(150):
            truth = number % 2 == 0
            part = PARTS[(number // 2) % len(PARTS)]
            text = (
                f"The {part} {'pumps' if truth else 'raises'} the {PARTS[number % 5]} number {number // 2}."
            )
            pair = f"p{number // 2}" if twins else ""
            side = "train" if number < 110 else "test"
            writer.writerow(
                {
                    "statement": text,
                    "answer": truth,
                    "harm": "severe",
                    "split": side if split else "",
                    "pair": pair,
                }
            )
    return path


def quiet(_what: str, _done: int, _total: int) -> None:
    """Say nothing."""


@lru_cache(maxsize=1)
def small_evaluation() -> Evaluated:
    """A tiny model on twins with their association control, with a given prompt."""
    statements = tuple(_twins("t", 140, source=True)) + tuple(_twins("c", 100, source=False))
    notes = {"rows": len(statements)}
    data = LabelledData(statements, "d" * 64, notes, (), has_split=True)
    request = EvaluationRequest("statements.csv", prompt=PROMPT)
    return Evaluator(data, request, quiet).evaluate([tiny_model()])


def _twins(prefix: str, pairs: int, *, source: bool) -> Iterator[LabelledStatement]:
    """Pairs of statements of which the original pumps; with `source` it is true, else both are false."""
    for number in range(pairs):
        part, other = PARTS[number % len(PARTS)], PARTS[number % 5]
        for original in (True, False):
            yield LabelledStatement(
                f"The {part} {'pumps' if original else 'raises'} the {other} number {number}.",
                source and original,
                f"{prefix}{number}",
                pair=f"{prefix}{number}",
                harm="severe",
                split="train" if number < 40 else "test",
                source_answer=source,
                original=original,
                kind="verb",
                row=2 * number + original,
            )
