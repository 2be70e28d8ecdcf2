"""A sweep says of every cell what that cell alone gives, fits on train only, and knows how it was measured."""

import json

import numpy as np
import pytest

from medx_core.cli.vector_building import swept_layers
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput
from medx_core.fitting.fit import fit_at_layers
from medx_core.fitting.spec import SWEPT, SweepSpec
from medx_core.fitting.sweep import (
    check_cells,
    run_figures,
    spread,
    spread_cells,
    sweep,
)
from medx_core.prompts import STATEMENT_PROMPT
from medx_core.steering.names import ANSWER_WORD, STATEMENT
from medx_core.traces.running import FinishedBatches
from medx_core.traces.statement_runner import RunScores, StatementRunner
from tests.language_models import tiny_model

WORDS = ["heart", "pumps", "blood", "kidneys", "make", "urine", "Insulin", "glucose"]
STATEMENTS = [
    LabelledStatement(f"The {WORDS[i % 8]} {' '.join(WORDS[: i % 5])} the body.", i % 3 != 0, group=str(i))
    for i in range(40)
]
TRAIN, MEASURED = STATEMENTS[:24], STATEMENTS[24:]
TEXTS = [statement.text for statement in MEASURED]
SPEC = SweepSpec(layers=(0, 2), strengths=(1.0, 8.0, 40.0))


def silent(*_told):
    pass


@pytest.fixture(scope="module")
def runner():
    return StatementRunner(tiny_model(), STATEMENT_PROMPT, batch_rows=8)


@pytest.mark.parametrize("strategy", SWEPT)
def test_every_cell_is_what_it_is_alone(runner, strategy):
    spec = SweepSpec(SPEC.layers, SPEC.strengths, strategy, ANSWER_WORD)
    swept = sweep(runner, TRAIN, MEASURED, spec, silent)
    shown = swept.as_json()
    gold = np.array([statement.answer for statement in MEASURED])
    for row, layer in enumerate(spec.layers):
        fitted = fit_at_layers(runner, TRAIN, spec.vector, [layer]).layers[layer]
        for column, strength in enumerate(spec.strengths):
            alone = runner.steered(TEXTS, [fitted.at(strength).condition], resumed=False)[0]
            np.testing.assert_allclose(swept.runs[3 * row + column].scores, alone.scores, atol=5e-4)
            assert (
                shown["accuracy"][row][column] == ((swept.runs[3 * row + column].scores >= 0) == gold).mean()
            )
    assert len({str(run.scores.tolist()) for run in swept.runs}) == 6, "cells differ"
    json.dumps(shown, allow_nan=False)


def test_the_map_has_a_row_a_layer_and_says_what_it_was_fitted_and_measured_on(runner):
    shown = sweep(runner, TRAIN, MEASURED, SPEC, silent).as_json()
    figures = shown["unsteered"].keys()
    assert len(figures) == 6
    for name in figures:
        assert np.array(shown[name]).shape == (2, 3)
    assert (shown["n_train"], shown["n_measured"], shown["layers"]) == (24, 16, [0, 2])
    assert shown["reading"] == STATEMENT
    assert "measured on the other part" in shown["note"]


def test_the_labels_of_measured_statements_are_never_fitted_on(runner):
    turned = [
        LabelledStatement(statement.text, not statement.answer, statement.group) for statement in MEASURED
    ]
    first, second = (sweep(runner, TRAIN, part, SPEC, silent) for part in (MEASURED, turned))
    for run, other in zip(first.runs, second.runs, strict=True):
        np.testing.assert_array_equal(run.scores, other.scores)


def test_checked_cells_are_spread_over_the_map_and_agree_with_whole_passes(runner):
    swept = sweep(runner, TRAIN, MEASURED, SPEC, silent)
    check = check_cells(runner, swept, TEXTS, 4, silent)
    assert {layer for layer, _ in check.cells} == {0, 2}
    assert len(set(check.cells)) == 4
    assert check.largest_difference < 5e-4
    assert check.as_json()["ratio"] == check.whole_seconds_a_cell / check.swept_seconds_a_cell


def test_places_in_one_row_are_evenly_spread():
    assert spread(30, 5) == [3, 9, 15, 21, 27]
    assert spread(3, 10) == [0, 1, 2]


@pytest.mark.parametrize(
    ("layers", "strengths", "count"),
    [
        (30, 10, 10),
        (30, 10, 12),
        (30, 10, 37),
        (32, 10, 5),
        (2, 3, 4),
        (3, 2, 3),
        (4, 1, 3),
        (1, 5, 9),
        (3, 3, 0),
    ],
)
def test_checked_cells_cover_layers_and_strengths(layers, strengths, count):
    places = spread_cells(layers, strengths, count)
    expected = max(1, min(count, layers * strengths))
    assert len(set(places)) == len(places) == expected
    assert max(places) < layers * strengths
    assert len({place // strengths for place in places}) == min(layers, expected)
    assert len({place % strengths for place in places}) == min(strengths, expected)


def test_a_sweep_that_was_broken_off_gives_the_same_figures_when_it_goes_on(runner, tmp_path):
    def break_off(stage, done, _total):
        if stage == "measuring" and done >= 8:
            raise KeyboardInterrupt

    kept = StatementRunner(
        runner.model, STATEMENT_PROMPT, batch_rows=8, finished=FinishedBatches(tmp_path / "sweep")
    )
    with pytest.raises(KeyboardInterrupt):
        sweep(kept, TRAIN, MEASURED, SPEC, break_off)
    again, fresh = (sweep(reader, TRAIN, MEASURED, SPEC, silent) for reader in (kept, runner))
    for kept_run, fresh_run in zip(again.runs, fresh.runs, strict=True):
        np.testing.assert_array_equal(kept_run.scores, fresh_run.scores)
    # Other labels make other vectors: nothing kept may be taken for them.
    turned = [LabelledStatement(statement.text, not statement.answer, statement.group) for statement in TRAIN]
    other = sweep(kept, turned, MEASURED, SPEC, silent)
    assert not np.array_equal(other.runs[0].scores, fresh.runs[0].scores)


def test_figures_that_need_both_kinds_of_answer_are_left_out_where_one_is_missing():
    measured = run_figures(RunScores(np.array([1.0, -1.0]), None), np.array([True, True]))
    assert measured["accuracy"] == 0.5
    assert measured["auroc"] is measured["balanced_accuracy"] is measured["false_acceptance_rate"] is None


def test_one_kind_of_answer_and_an_unknown_strategy_are_refused(runner):
    with pytest.raises(BadInput, match="needs both"):
        sweep(runner, TRAIN, [statement for statement in MEASURED if statement.answer], SPEC, silent)
    with pytest.raises(BadInput, match="cannot be swept"):
        sweep(runner, TRAIN, MEASURED, SweepSpec((0,), (1.0,), "random"), silent)


def test_layers_are_read_as_all_lists_and_ranges():
    assert swept_layers("all", 3) == (0, 1, 2)
    assert swept_layers("2, 0", 3) == (0, 2)
    assert swept_layers("1-2,0", 3) == (0, 1, 2)
    for wrong in ("3", "2-1", "x", "", "1-9"):
        with pytest.raises(BadInput, match="--layers"):
            swept_layers(wrong, 3)
