"""Replicates are told together: means and ranges over seeds, never the best of them."""

import json

import pytest
from typer.testing import CliRunner

from medx_core.cli.app import app
from medx_core.errors import BadInput
from medx_core.evaluation.replicates import replicated as replicates_of
from medx_core.evaluation.result import read_result
from tests.small_evaluation import small_evaluation


def metric(value, half=0.03, n=1_000):
    return {"value": value, "low": value - half, "high": value + half, "n": n}


def json_of(seed, *, excess=0.02, accuracy=0.766, **changed):
    """The JSON of the real small evaluation under another seed, with the gated arm's figures that are looked at set."""
    result = small_evaluation().result.model_dump(mode="json") | {"seed": seed, **changed}
    gated = result["arms"]["gated"]
    gated["accuracy"] = metric(accuracy)
    gated["matched"] |= {"excess": metric(excess, 0.05)}
    return result


def run_of(seed, **changed):
    return read_result(json_of(seed, **changed))


def replicated(results):
    """The replicates as they are in the JSON."""
    return replicates_of(results).model_dump(mode="json")


def test_the_mean_and_the_range_of_every_figure_are_told():
    summary = replicated(
        [run_of(1, excess=0.06), run_of(2, excess=0.02, helps=None), run_of(3, excess=-0.02, helps=False)]
    )
    [model] = summary["models"].values()
    assert (model["runs"], model["seeds"]) == (3, [1, 2, 3])
    assert sum(model["helps"].values()) == 3
    assert model["helps"]["null"] >= 1
    excess = model["arms"]["gated"]["matched"]["excess"]
    assert excess["value"] == pytest.approx(0.02)
    assert (excess["lowest"], excess["highest"]) == (-0.02, 0.06)
    assert (excess["low"], excess["high"]) == pytest.approx((-0.03, 0.07))
    assert summary["remarks"] == []


def test_the_interval_of_a_mean_is_no_narrower_than_that_of_one_run():
    runs = [run_of(seed) for seed in range(1, 21)]
    excess = replicated(runs)["models"][runs[0].model]["arms"]["gated"]["matched"]["excess"]
    assert excess["high"] - excess["low"] == pytest.approx(0.1)


def test_draws_of_controls_have_a_range_and_no_interval():
    summary = replicated([run_of(1), run_of(2)])
    random = summary["models"][run_of(1).model]["arms"]["gated_random"]["accuracy"]
    assert (random["low"], random["high"]) == (None, None)
    assert random["lowest"] <= random["value"] <= random["highest"]


def test_every_model_is_told_by_itself():
    other = {"model": "another", "model_sha256": "b" * 64}
    summary = replicated([run_of(1), run_of(2), run_of(1, **other), run_of(2, accuracy=0.6, **other)])
    assert summary["models"]["another"]["arms"]["gated"]["accuracy"]["value"] == pytest.approx(0.683)


def test_what_cannot_be_told_together_is_refused():
    other = run_of(1, model="other", model_sha256="b")
    for results, said in (
        ([], "0 were given"),
        ([run_of(1)], "1 were given"),
        ([run_of(1), run_of(2), other], "one evaluation of other only"),
        ([run_of(1), run_of(1)], "Result 2 appears twice"),
    ):
        with pytest.raises(BadInput, match=said):
            replicated(results)


def test_what_differs_besides_the_seed_is_said():
    [said] = replicated([run_of(1), run_of(2, n_train=400)])["remarks"]
    assert "statements to train: 400, 80" in said
    first, second = json_of(1), json_of(2, data="others.csv")
    second["judged"]["arm"], second["settings"]["fit_on"] = "paper", "statements"
    said = " ".join(replicated([read_result(first), read_result(second)])["remarks"])
    assert "arm that is judged: gated, paper" in said
    assert "what gates are fitted on: auto, statements" in said
    assert "name of the data: others.csv, statements.csv" in said


def test_two_models_of_one_name_are_two():
    runs = [run_of(seed, model_sha256=sha256) for seed in (1, 2) for sha256 in ("a" * 64, "b" * 64)]
    summary = replicated(runs)
    assert [(name[-10:], model["runs"]) for name, model in summary["models"].items()] == [
        ("(aaaaaaaa)", 2),
        ("(bbbbbbbb)", 2),
    ]


def test_the_same_seed_on_another_device_is_another_run():
    summary = replicated([run_of(1, device="cpu float32"), run_of(1, device="cpu bfloat16")])
    assert "device and number type: cpu bfloat16, cpu float32" in summary["remarks"][0]


def test_twins_and_matched_items_have_no_mean():
    matched, twins = json_of(2), run_of(1)
    for part in (matched["matched"], *(arm["matched"] for arm in matched["arms"].values())):
        part["kind"] = "matched"
    summary = replicated([twins, read_result(matched)])
    assert summary["models"][twins.model]["arms"]["gated"]["matched"]["accuracy"] is None
    assert any("figures are then not averaged" in said for said in summary["remarks"])


def test_the_command_reads_results_and_refuses_what_is_none(tmp_path):
    files = []
    for seed in (1, 2):
        files.append(tmp_path / f"{seed}.json")
        files[-1].write_text(json.dumps(json_of(seed)), encoding="utf-8")
    out = tmp_path / "mean.json"
    done = CliRunner().invoke(app, ["replicates", *map(str, files), "--json", str(out)])
    assert done.exit_code == 0, done.output
    assert "gated" in done.output
    assert "2.0 [-3.0, 7.0]" in done.output
    written = json.loads(out.read_text(encoding="utf-8"))
    assert written["models"][run_of(1).model]["runs"] == 2
    lost = CliRunner().invoke(app, ["replicates", *map(str, files), "--json", str(files[0])])
    assert isinstance(lost.exception, BadInput)
    nowhere = CliRunner().invoke(app, ["replicates", *map(str, files), "--json", str(files[0] / "x.json")])
    assert "cannot be written" in str(nowhere.exception)
    files[0].write_text("accuracy,0.7", encoding="utf-8")
    refused = CliRunner().invoke(app, ["replicates", *map(str, files)])
    assert isinstance(refused.exception, BadInput)
    assert "is not JSON" in str(refused.exception)
