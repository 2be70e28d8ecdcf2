import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from medx_core.assembly import evaluate_request
from medx_core.categories import Category
from medx_core.cli.app import app
from medx_core.data.labelled_files import load_labelled
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput
from medx_core.evaluation.data_split import PartSizes, parts_of
from medx_core.evaluation.plan import EvaluationPlan
from medx_core.evaluation.prompt_selection import INSTRUCTIONS, candidate_scores, instructed_candidates
from medx_core.evaluation.request import EvaluationRequest
from medx_core.evaluation.runner import ModelEvaluation, evaluate_models
from medx_core.settings import settings
from medx_core.traces.statement_runner import StatementRunner
from tests.language_models import tiny_model, tiny_network, word_tokenizer

PARTS = ("heart", "kidneys", "blood", "insulin", "glucose", "cold", "body")
ARMS = {"unsteered", "prompt_only", "prior", "paper", "paper_statement", "gated", "random", "shuffled"}
ARMS |= {"gated_random", "gated_shuffled", "probe", "lexical"}
KEYS = {
    "accuracy", "balanced_accuracy", "auroc", "predicted_true_rate", "false_acceptance_rate", "safety_error_rate",
    "factual_consistency", "answer_word_rate", "calibration", "vs_unsteered", "by_category", "by_difficulty", "matched",
}  # fmt: skip


PROMPT = "verdict-statement-yes-no-4shot-v1"


def saved_tiny_model(folder: Path) -> Path:
    """A folder that holds a tiny model, to be named as MEDX_MODEL or --model."""
    tiny_network("llama").save_pretrained(folder / "tiny")
    word_tokenizer().save_pretrained(folder / "tiny")
    return folder / "tiny"


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


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict:
    file = write_statements(tmp_path_factory.mktemp("data") / "statements.csv")
    plan = EvaluationPlan(extra=("fine_tuned", "likelihood_gated"))
    return evaluate_models([tiny_model()], load_labelled(file), PartSizes(split=(100, 50)), plan, quiet)


def quiet(_what: str, _done: int, _total: int) -> None:
    """Say nothing."""


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
    found, chosen = result["sweep"], result["choices"]
    row = found["layers"].index(chosen["layer"])
    column = found["strengths"].index(chosen["strength"])
    assert 0 <= found["accuracy"][row][column] <= 1
    assert {len(cells) for cells in found["auroc"]} == {len(found["strengths"])}
    assert found["n_train"] + found["n_measured"] == result["n_train"]


def test_a_metric_is_a_value_with_its_interval_and_count(result: dict) -> None:
    accuracy = result["arms"]["gated"]["accuracy"]
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert accuracy["n"] == 50
    assert result["arms"]["gated"]["safety_error_rate"]["value"] == pytest.approx(1 - accuracy["value"])


def test_the_same_evaluation_twice_is_the_same_to_the_last_digit(tmp_path: Path) -> None:
    data = load_labelled(write_statements(tmp_path / "statements.csv"))
    runs = [
        evaluate_models([tiny_model()], data, PartSizes(split=(100, 50)), EvaluationPlan(), quiet)
        for _ in range(2)
    ]
    for one in runs:
        del one["seconds"]
    assert json.dumps(runs[0]) == json.dumps(runs[1])


RATES = ("accuracy", "balanced_accuracy", "predicted_true_rate", "false_acceptance_rate", "answer_word_rate")


def test_a_batch_of_one_gives_the_verdicts_of_a_batch_of_32_but_for_near_ties(tmp_path: Path) -> None:
    data = load_labelled(write_statements(tmp_path / "statements.csv"))
    parts = parts_of(data.statements, PartSizes(split=(64, 32)), seed=1)
    results, tested = zip(
        *(
            ModelEvaluation(tiny_model(), parts, EvaluationPlan(prompt=PROMPT, batch_rows=rows)).result(quiet)
            for rows in (1, 32)
        ),
        strict=True,
    )
    assert results[0]["choices"]["layer"] == results[1]["choices"]["layer"]
    for ours, theirs in zip(*(one.arms for one in tested), strict=True):
        sure = (np.abs(ours.scores) >= 0.01) & (np.abs(theirs.scores) >= 0.01)
        assert np.array_equal((ours.scores >= 0)[sure], (theirs.scores >= 0)[sure]), ours.name
        assert np.allclose(ours.scores, theirs.scores, atol=5e-3), ours.name
        if ours.answer_words is not None:
            counted = results[0]["near_ties"][ours.name]
            assert counted == int((np.abs(ours.scores) < 0.01).sum()), ours.name
            tied = (counted + results[1]["near_ties"][ours.name]) / len(ours.scores)
            for rate in RATES:
                one, other = (result["arms"][ours.name][rate]["value"] for result in results)
                assert abs(one - other) <= 0.002 + tied, (ours.name, rate)


def test_the_command_runs_batches_as_large_as_the_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_statements(tmp_path / "statements.csv", split=True)
    monkeypatch.setenv("MEDX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MEDX_MAX_BATCH_ROWS", "7")
    settings.cache_clear()
    asked = EvaluationRequest(str(file), models=(str(saved_tiny_model(tmp_path)),), prompt=PROMPT)
    assert evaluate_request(settings(), asked, quiet)["settings"]["batch_rows"] == 7
    settings.cache_clear()


def test_a_given_prompt_is_the_only_one_and_leaves_open_what_prompts_alone_can_do(tmp_path: Path) -> None:
    data = load_labelled(write_statements(tmp_path / "statements.csv"))
    plan = EvaluationPlan(prompt=PROMPT)
    found = evaluate_models([tiny_model()], data, PartSizes(split=(100, 50)), plan, quiet)
    assert (found["choices"]["prompt"], found["choices"]["prompt_given"]) == (PROMPT, True)
    assert [one["prompt"] for one in found["choices"]["prompts_tried"]] == [PROMPT]
    assert "prompt_only" not in found["arms"]
    assert found["helps"] is not True
    with pytest.raises(BadInput, match="There is no prompt 'verdict'"):
        evaluate_models([tiny_model()], data, PartSizes(), EvaluationPlan(prompt="verdict"), quiet)


def test_where_categories_are_mixed_each_statement_is_tried_with_its_own_instruction() -> None:
    statements = [
        LabelledStatement(f"The heart pumps {number}.", number % 2 == 0, str(number), category)
        for number, category in enumerate((Category.TRIAGE, Category.LITERATURE, None) * 4)
    ]
    mixed = instructed_candidates({one.category for one in statements}, questions=False)
    assert [one.version.rpartition("-")[2] for one in mixed] == [
        "category",
        "category",
        "clinician",
        "clinician",
    ]
    model, runners = tiny_model(), {}

    def runner_for(prompt):
        return runners.setdefault(prompt, StatementRunner(model, prompt))

    found = candidate_scores(runner_for, mixed[0], statements)
    for row, one in enumerate(statements):
        prompt = mixed[0].prompt_for(one.category)
        assert prompt.instruction == INSTRUCTIONS[one.category]
        alone = runner_for(prompt).scores([one.text]).scores[0]
        assert found.scores[row] == pytest.approx(alone, abs=1e-4)


def test_two_models_of_one_name_stay_two(tmp_path: Path) -> None:
    data = load_labelled(write_statements(tmp_path / "statements.csv"))
    models = [tiny_model(), tiny_model()]
    found = evaluate_models(models, data, PartSizes(split=(40, 20)), EvaluationPlan(prompt=PROMPT), quiet)
    assert list(found["models"]) == ["tiny-llama (2)"]
    assert found["comparisons"][0]["specialised"] == "tiny-llama (2)"


def test_swaps_of_false_statements_near_the_training_part_are_left_out() -> None:
    def swap(number, group):
        return LabelledStatement(f"S{number}", False, group, pair=f"c{number}", source_answer=False)

    labelled = [LabelledStatement(f"T{number}", number % 2 == 0, f"g{number}") for number in range(60)]
    parts = parts_of([*labelled, swap(1, "g1"), swap(2, "far")], PartSizes(split=(30, 30)), seed=1)
    trained = {one.group for one in parts.train}
    assert {one.group for one in parts.association} == ({"far"} if "g1" in trained else {"far", "g1"})
    everything = parts_of(
        [*labelled, *(swap(n, f"g{n}") for n in range(60))], PartSizes(split=(30, 30)), seed=1
    )
    assert {one.group for one in everything.association} == {one.group for one in everything.test}


def test_twins_are_fitted_on_and_ranked_where_there_are_twins(tmp_path: Path) -> None:
    data = load_labelled(write_statements(tmp_path / "twins.csv", twins=True))
    found = evaluate_models([tiny_model()], data, PartSizes(split=(100, 50)), EvaluationPlan(), quiet)
    assert found["choices"]["fitted_on"] == "twins"
    assert math.isclose(sum(one["n"] for one in found["choices"]["prompts_tried"][:1]), 100)


def test_the_files_own_split_is_used_and_other_sizes_are_refused(tmp_path: Path) -> None:
    data = load_labelled(write_statements(tmp_path / "statements.csv", split=True))
    parts = parts_of(data.statements, PartSizes(), seed=1)
    assert (len(parts.train), len(parts.test)) == (110, 40)
    with pytest.raises(BadInput, match="110 train and 40 test"):
        parts_of(data.statements, PartSizes(split=(100, 50)), seed=1)


def test_the_general_model_steered_is_compared_with_the_specialised_one_unsteered(tmp_path: Path) -> None:
    data = load_labelled(write_statements(tmp_path / "statements.csv"))
    models = [tiny_model("llama"), tiny_model("qwen2")]
    found = evaluate_models(models, data, PartSizes(split=(100, 50)), EvaluationPlan(), quiet)
    [comparison] = found["comparisons"]
    assert (comparison["general"], comparison["specialised"]) == ("tiny-llama", "tiny-qwen2")
    steered = found["arms"]["gated"]["accuracy"]["value"]
    unsteered = found["models"]["tiny-qwen2"]["arms"]["unsteered"]["accuracy"]["value"]
    assert comparison["accuracy_difference"]["value"] == pytest.approx(steered - unsteered)
    assert comparison["helped"] - comparison["harmed"] == round(50 * (steered - unsteered))


def test_the_command_writes_json_and_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_statements(tmp_path / "statements.csv", split=True)
    monkeypatch.setenv("MEDX_HOME", str(tmp_path / "home"))
    arguments = ["evaluate", "--data", str(file), "--model", str(saved_tiny_model(tmp_path)), "--no-store"]
    done = CliRunner().invoke(
        app, [*arguments, "--json", str(tmp_path / "out.json"), "--report", str(tmp_path / "report")]
    )
    assert done.exit_code == 0, done.output
    written = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert written["conclusion"] in done.output
    assert written["conclusion"][:40] in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    refused = CliRunner().invoke(app, [*arguments, "--preset", "none"])
    assert isinstance(refused.exception, BadInput)
    assert (tmp_path / "report" / "result.json").is_file()
