import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from medx_core.categories import Category
from medx_core.cli.app import app
from medx_core.data.labelled_files import LabelledData, load_labelled
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput, RecipeUnusable
from medx_core.evaluation.calibrated_arms import unseen_scores
from medx_core.evaluation.data_split import PartSizes, parts_of
from medx_core.evaluation.fit import fit_arms
from medx_core.evaluation.items import read_items, write_items
from medx_core.evaluation.prompt_selection import INSTRUCTIONS, candidate_scores, instructed_candidates
from medx_core.evaluation.report.tables import arm_table
from medx_core.evaluation.request import EvaluationRequest
from medx_core.evaluation.result_builder import rechecked
from medx_core.evaluation.runner import Evaluated, Evaluator
from medx_core.evaluation.sentences import excluded_sentence
from medx_core.lab import arms
from medx_core.settings import settings
from medx_core.steering.loaded_recipe import LoadedRecipe
from medx_core.traces.statement_runner import StatementRunner
from tests.language_models import saved_tiny_model, tiny_model
from tests.small_evaluation import PARTS, PROMPT, quiet, small_evaluation, write_statements

ARMS = {
    "unsteered",
    "prompt_only",
    "prior",
    "paper",
    "paper_statement",
    "gated",
    "random",
    "shuffled",
    "recipe",
}
ARMS |= {"gated_random", "gated_shuffled", "probe", "lexical"}
KEYS = {
    "accuracy", "balanced_accuracy", "auroc", "predicted_true_rate", "false_acceptance_rate", "safety_error_rate",
    "factual_consistency", "answer_word_rate", "calibration", "vs_unsteered", "by_category", "by_difficulty", "matched",
}  # fmt: skip


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict:
    file = write_statements(tmp_path_factory.mktemp("data") / "statements.csv")
    request = asked(extra=("fine_tuned", "likelihood_gated"))
    evaluator = Evaluator(load_labelled(file), request, quiet, extra_arms=arms.ARMS)
    return json_of(evaluator.evaluate([tiny_model()]))


@pytest.fixture(scope="module")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> dict:
    data = load_labelled(write_statements(tmp_path_factory.mktemp("data") / "statements.csv"))
    models = [tiny_model("llama"), tiny_model("qwen2")]
    return json_of(Evaluator(data, asked(), quiet).evaluate(models))


def asked(split: str = "100/50", **given: Any) -> EvaluationRequest:
    return EvaluationRequest("statements.csv", split=split, **given)


def json_of(evaluated: Evaluated) -> dict:
    return evaluated.result.model_dump(mode="json")


def test_the_json_has_every_arm_and_figure_of_the_contract(result: dict) -> None:
    assert (result["n_train"], result["n_test"]) == (100, 50)
    assert set(result["arms"]) >= ARMS | {"fine_tuned", "likelihood_gated"}
    for name in ("unsteered", "gated", "paper"):
        assert set(result["arms"][name]) >= KEYS, name
    assert result["arms"]["unsteered"]["factual_consistency"] is None
    assert result["arms"]["unsteered"]["reasons"]["factual_consistency"]
    assert len(result["arms"]["gated_random"]["accuracy"]["draws"]) == 20
    assert {"prompt", "layer", "strength", "fitted_on"} <= set(result["choices"])
    tried, refused = (result["choices"][f"prompts_{how}"] for how in ("tried", "refused"))
    assert len(tried) + len(refused) >= 8
    assert result["helps"] in {True, False, None}
    assert "False statements" in result["conclusion"] or "false statements" in result["conclusion"]
    json.dumps(result, allow_nan=False)


def test_the_map_of_settings_holds_the_chosen_one_and_was_made_from_the_training_part(result: dict) -> None:
    sweep, chosen = result["sweep"], result["choices"]
    row = sweep["layers"].index(chosen["layer"])
    column = sweep["strengths"].index(chosen["strength"])
    assert 0 <= sweep["accuracy"][row][column] <= 1
    assert {len(cells) for cells in sweep["auroc"]} == {len(sweep["strengths"])}
    assert sweep["n_train"] + sweep["n_measured"] == result["n_train"]


def test_a_metric_is_a_value_with_its_interval_and_count(result: dict) -> None:
    accuracy = result["arms"]["gated"]["accuracy"]
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert accuracy["n"] == 50
    assert result["arms"]["gated"]["safety_error_rate"]["value"] == pytest.approx(1 - accuracy["value"])


def test_the_same_evaluation_again_is_the_same_to_the_last_digit_whatever_else_is_measured(
    result: dict, two_models: dict
) -> None:
    def repeated(written: dict) -> dict:
        return {
            **{part: written[part] for part in ("judged", "conclusion", "failed_controls")},
            **{name: written["arms"][name] for name in ARMS},
            "choices": written["choices"] | {"fine_tuned": None},
            "sweep": written["sweep"] | {"seconds": None},
        }

    assert json.dumps(repeated(two_models)) == json.dumps(repeated(result))


RATES = ("accuracy", "balanced_accuracy", "predicted_true_rate", "false_acceptance_rate", "answer_word_rate")


def test_a_batch_of_one_gives_the_verdicts_of_a_batch_of_32_but_for_near_ties(tmp_path: Path) -> None:
    data = load_labelled(write_statements(tmp_path / "statements.csv"))
    runs = [
        Evaluator(data, asked("24/20", prompt=PROMPT), quiet, batch_rows=rows).evaluate([tiny_model()])
        for rows in (1, 32)
    ]
    results = [run.result for run in runs]
    assert results[0].choices.layer == results[1].choices.layer
    for ours, theirs in zip(*(run.scores[0].arms for run in runs), strict=True):
        sure = (np.abs(ours.scores) >= 0.01) & (np.abs(theirs.scores) >= 0.01)
        assert np.array_equal((ours.scores >= 0)[sure], (theirs.scores >= 0)[sure]), ours.name
        assert np.allclose(ours.scores, theirs.scores, atol=5e-3), ours.name
        if ours.answer_words is not None:
            counted = results[0].near_ties[ours.name]
            assert counted == int((np.abs(ours.scores) < 0.01).sum()), ours.name
            tied = (counted + results[1].near_ties[ours.name]) / len(ours.scores)
            for rate in RATES:
                ours_value, theirs_value = (getattr(result.arm(ours.name), rate).value for result in results)
                assert abs(ours_value - theirs_value) <= 0.002 + tied, (ours.name, rate)


def unusable_recipe(_model: object) -> LoadedRecipe:
    raise RecipeUnusable("0123456789ab", "mine", "a file is missing")


def test_what_was_left_out_is_said_prompts_where_one_was_given_and_a_recipe_in_use_that_cannot_answer(
    tmp_path: Path,
) -> None:
    data = load_labelled(write_statements(tmp_path / "statements.csv"))
    evaluated = Evaluator(data, asked(prompt=PROMPT), quiet, recipe_of=unusable_recipe).evaluate(
        [tiny_model()]
    )
    result = json_of(evaluated)
    assert "recipe" not in result["arms"]
    assert result["recipes"] == {}
    assert result["recipe_refused"].startswith("The recipe in use, mine (0123456789ab), cannot answer")
    assert result["recipe_refused"] in " ".join(arm_table(evaluated.result).notes)
    assert (result["choices"]["prompt"], result["choices"]["prompt_given"]) == (PROMPT, True)
    assert [tried["prompt"] for tried in result["choices"]["prompts_tried"]] == [PROMPT]
    assert "prompt_only" not in result["arms"]
    assert result["helps"] is not True
    with pytest.raises(BadInput, match="There is no prompt 'verdict'"):
        Evaluator(data, asked("", prompt="verdict"), quiet).evaluate([tiny_model()])


def test_where_categories_are_mixed_each_statement_is_tried_with_its_own_instruction() -> None:
    statements = [
        LabelledStatement(f"The heart pumps {number}.", number % 2 == 0, str(number), category)
        for number, category in enumerate((Category.TRIAGE, Category.LITERATURE, None) * 4)
    ]
    mixed = instructed_candidates({statement.category for statement in statements}, questions=False)
    assert [candidate.prompt.version.rpartition("-")[2] for candidate in mixed] == [
        "category",
        "category",
        "clinician",
        "clinician",
    ]
    model, runners = tiny_model(), {}

    def runner_for(prompt):
        return runners.setdefault(prompt, StatementRunner(model, prompt))

    together = candidate_scores(runner_for, mixed[0], statements)
    for row, statement in enumerate(statements):
        prompt = mixed[0].prompt_for(statement.category)
        assert prompt.instruction == INSTRUCTIONS[statement.category]
        alone = runner_for(prompt).scores([statement.text]).scores[0]
        assert together.scores[row] == pytest.approx(alone, abs=1e-4)


def test_two_models_of_one_name_stay_two(tmp_path: Path) -> None:
    data = load_labelled(write_statements(tmp_path / "statements.csv"))
    models = [tiny_model(), tiny_model()]
    evaluated = Evaluator(data, asked("40/20", prompt=PROMPT), quiet).evaluate(models)
    result = json_of(evaluated)
    assert list(result["models"]) == ["tiny-llama (2)"]
    assert result["comparisons"][0]["specialised"] == "tiny-llama (2)"
    write_items(evaluated.scores, tmp_path / "items.csv")
    again = rechecked(read_items(tmp_path / "items.csv")).model_dump(mode="json")
    assert again["comparisons"] == result["comparisons"]
    for name, figures in again["models"].items():
        assert figures == {part: result["models"][name][part] for part in figures}


def with_long_texts(data: LabelledData, words: dict[int, int]) -> LabelledData:
    """The data with so many words in the statements of these rows."""
    longer = (
        replace(each, text=each.text + " word" * words[each.row]) if each.row in words else each
        for each in data.statements
    )
    return replace(data, statements=tuple(longer))


def test_a_statement_that_cannot_be_asked_is_left_out_for_all_arms_and_named_and_many_of_them_end_the_evaluation(
    tmp_path: Path,
) -> None:
    data = load_labelled(write_statements(tmp_path / "statements.csv"))
    parts = parts_of(data.statements, PartSizes(split=(40, 20)), seed=1)
    of_train, of_test, of_second = parts.train[3].row, parts.test[5].row, parts.test[7].row
    models = [tiny_model(), tiny_model("qwen2")]
    models[1].network.config.max_position_embeddings = 300
    lengths = {of_train: 600, of_test: 600, of_second: 250}
    evaluated = Evaluator(with_long_texts(data, lengths), asked("40/20", prompt=PROMPT), quiet).evaluate(
        models
    )
    result = evaluated.result
    assert [(each.row, each.part) for each in result.excluded] == [(of_train, "train"), (of_test, "test")]
    assert "longer than the model tiny-llama reads" in result.excluded[0].reason
    assert (result.n_train, result.n_test) == (39, 19)
    assert {len(arm.scores) for arm in evaluated.scores[0].arms} == {19}
    assert [each.row for each in result.models["tiny-qwen2"].excluded] == [of_second]
    assert result.comparisons[0].accuracy_difference.n == 18, "what both models could be asked"
    said = excluded_sentence(result.excluded)
    assert said.startswith(
        f"2 statements could not be asked and are left out for all arms: row {of_train} (train): "
    )
    assert said in " ".join(arm_table(result).notes)
    for name in ("items.csv", "items.parquet"):
        write_items(evaluated.scores, tmp_path / name)
        read = read_items(tmp_path / name)
        assert [each.statement.row for each in read[0].excluded] == [of_test]
        again = rechecked(read).model_dump(mode="json")
        whole = json_of(evaluated)
        assert {part: again[part] for part in ("arms", "comparisons")} == {
            part: whole[part] for part in ("arms", "comparisons")
        }
    many = with_long_texts(data, {each.row: 600 for each in parts.test[:7]})
    with pytest.raises(
        BadInput, match=r"cannot be asked 7 of the 60 statements, more than a tenth; the first is row"
    ):
        Evaluator(many, asked("40/20", prompt=PROMPT), quiet).evaluate([tiny_model()])


def test_swaps_of_false_statements_near_the_training_part_are_left_out() -> None:
    def swap(number, group):
        return LabelledStatement(f"S{number}", False, group, pair=f"c{number}", source_answer=False)

    labelled = [LabelledStatement(f"T{number}", number % 2 == 0, f"g{number}") for number in range(60)]
    parts = parts_of([*labelled, swap(1, "g1"), swap(2, "far")], PartSizes(split=(30, 30)), seed=1)
    trained = {statement.group for statement in parts.train}
    assert {statement.group for statement in parts.association} == (
        {"far"} if "g1" in trained else {"far", "g1"}
    )
    everything = parts_of(
        [*labelled, *(swap(n, f"g{n}") for n in range(60))], PartSizes(split=(30, 30)), seed=1
    )
    assert {statement.group for statement in everything.association} == {
        statement.group for statement in everything.test
    }


def test_twins_are_fitted_on_and_ranked_where_there_are_twins(tmp_path: Path) -> None:
    data = load_labelled(write_statements(tmp_path / "twins.csv", twins=True))
    result = json_of(Evaluator(data, asked(), quiet).evaluate([tiny_model()]))
    assert result["choices"]["fitted_on"] == "twins"
    assert math.isclose(sum(tried["n"] for tried in result["choices"]["prompts_tried"][:1]), 100)


def test_the_files_own_split_is_used_and_other_sizes_are_refused(tmp_path: Path) -> None:
    data = load_labelled(write_statements(tmp_path / "statements.csv", split=True))
    parts = parts_of(data.statements, PartSizes(), seed=1)
    assert (len(parts.train), len(parts.test)) == (110, 40)
    with pytest.raises(BadInput, match="110 train and 40 test"):
        parts_of(data.statements, PartSizes(split=(100, 50)), seed=1)


def test_the_general_model_steered_is_compared_with_the_specialised_one_unsteered(two_models: dict) -> None:
    [comparison] = two_models["comparisons"]
    assert (comparison["general"], comparison["specialised"]) == ("tiny-llama", "tiny-qwen2")
    steered = two_models["arms"]["gated"]["accuracy"]["value"]
    unsteered = two_models["models"]["tiny-qwen2"]["arms"]["unsteered"]["accuracy"]["value"]
    assert comparison["accuracy_difference"]["value"] == pytest.approx(steered - unsteered)
    assert comparison["helped"] - comparison["harmed"] == round(50 * (steered - unsteered))


@dataclass(frozen=True)
class CommandRun:
    """What `medx evaluate --no-store` with batches of 7 rows said, and the folder with what it wrote."""

    folder: Path
    arguments: tuple[str, ...]
    output: str

    @property
    def written(self) -> dict:
        return json.loads((self.folder / "out.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def command_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandRun]:
    folder = tmp_path_factory.mktemp("command")
    file = write_statements(folder / "statements.csv", split=True)
    arguments = (
        "--data",
        str(file),
        "--model",
        str(saved_tiny_model(folder)),
        "--prompt",
        PROMPT,
        "--no-store",
    )
    outputs = {"--json": "out.json", "--report": "report", "--items": "items.csv"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDX_HOME", str(folder / "home"))
        patch.setenv("MEDX_MAX_BATCH_ROWS", "7")
        settings.cache_clear()
        places = [part for option, name in outputs.items() for part in (option, str(folder / name))]
        done = CliRunner().invoke(app, ["evaluate", *arguments, *places])
        assert done.exit_code == 0, done.output
        yield CommandRun(folder, arguments, done.output)
    settings.cache_clear()


def test_the_command_writes_json_and_report(command_run: CommandRun) -> None:
    written, report = command_run.written, command_run.folder / "report"
    assert written["conclusion"] in command_run.output
    assert written["conclusion"][:40] in (report / "index.html").read_text(encoding="utf-8")
    assert (report / "result.json").is_file()
    refused = CliRunner().invoke(app, ["evaluate", *command_run.arguments, "--preset", "none"])
    assert isinstance(refused.exception, BadInput)


def test_the_command_runs_batches_as_large_as_the_settings_say(command_run: CommandRun) -> None:
    assert command_run.written["settings"]["batch_rows"] == 7


def test_all_figures_can_be_made_again_from_the_items_alone(tmp_path: Path) -> None:
    evaluated = small_evaluation()
    written = json_of(evaluated)
    for name in ("items.csv", "items.parquet"):
        write_items(evaluated.scores, tmp_path / name)
        again = rechecked(read_items(tmp_path / name)).model_dump(mode="json")
        assert set(written) == set(again) - {"reasons"} | set(again["reasons"]), name
        for part in set(again) & set(written):
            assert again[part] == written[part], (name, part)
    assert written["matched"]["kind"] == "twins"
    assert written["arms"]["gated"]["matched"]["association"]["n"] == 100


def test_what_no_state_can_tell_is_not_told_of_statements_that_were_not_fitted_on() -> None:
    # Answers at random: a gate finds some of them in the statements that it was fitted on, and in no others.
    gold = np.random.default_rng(7).random(120) < 0.5
    parts = np.random.default_rng(3).choice(PARTS, (120, 2))
    train = tuple(
        LabelledStatement(f"The {one} raises the {other} number {row}.", bool(gold[row]), f"g{row}", row=row)
        for row, (one, other) in enumerate(parts)
    )
    request = EvaluationRequest("statements.csv", prompt=PROMPT, fit_on="statements")
    model = tiny_model()
    fitted = fit_arms(cache(lambda prompt: StatementRunner(model, prompt)), train, request, quiet)
    unseen, refused = unseen_scores(fitted, quiet)
    assert refused == {}
    assert set(unseen) == {"unsteered", "prior", "gated", "paper", "probe"}
    texts = [statement.text for statement in train]
    (seen,) = fitted.runner.steered(texts, [fitted.gated.chosen.condition])
    assert roc_auc_score(gold, seen.scores) > 0.6
    assert max(roc_auc_score(gold, unseen[name].scores) for name in ("gated", "probe")) < 0.5


@pytest.mark.parametrize(
    ("column", "cell", "said"),
    [
        ("score:gated", "", "row 3, column score:gated: a number is needed"),
        ("answer", "perhaps", "row 3, column answer: input should be a valid boolean"),
        ("model", "", "row 3, column model: field required"),
    ],
)
def test_items_that_were_damaged_are_refused_with_their_place(
    tmp_path: Path, column: str, cell: str, said: str
) -> None:
    file = tmp_path / "items.csv"
    write_items(small_evaluation().scores[:1], file)
    with file.open(encoding="utf-8", newline="") as lines:
        header, *rows = csv.reader(lines)
    rows[1][header.index(column)] = cell
    with file.open("w", encoding="utf-8", newline="") as lines:
        csv.writer(lines).writerows([header, *rows])
    with pytest.raises(BadInput, match=said):
        read_items(file)
    with pytest.raises(BadInput, match="is not a CSV or Parquet file of items"):
        read_items(b"PAR1 and nothing else", "stored items")


def test_the_command_writes_items_and_checks_them_again(command_run: CommandRun, tmp_path: Path) -> None:
    items, again = str(command_run.folder / "items.csv"), tmp_path / "again.json"
    checked = CliRunner().invoke(app, ["evaluate", "--recheck", items, "--json", str(again)])
    assert checked.exit_code == 0, checked.output
    first, second = command_run.written, json.loads(again.read_text(encoding="utf-8"))
    assert first["arms"] == second["arms"]
    assert first["conclusion"] == second["conclusion"]
    assert "choices" in second["reasons"]
    refused = CliRunner().invoke(app, ["evaluate", "--recheck", items, "--json", items])
    assert isinstance(refused.exception, BadInput)
