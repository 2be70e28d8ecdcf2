"""`medx vectors sweep` from a file to a map, and resuming on the real small model."""

import csv
import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from medx_core.cli.app import app
from medx_core.data.bundled_texts import bundled_statements
from medx_core.errors import BadInput
from medx_core.prompts import STATEMENT_PROMPT
from medx_core.settings import settings
from medx_core.steering.hooks import ConstantShift, SteeringPlan, SteeringStep
from medx_core.traces.statement_runner import StatementRunner

WORDS = ("heart", "kidneys", "blood", "insulin", "glucose")


@pytest.fixture
def command(tmp_path, tiny_home):
    """Run `medx vectors sweep` on a tiny model saved in a folder."""
    with (tmp_path / "statements.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["statement", "answer"])
        writer.writerows(
            (f"The {WORDS[i % 5]} {'pumps' if i % 2 else 'raises'} number {i}.", i % 2 == 1)
            for i in range(100)
        )

    def run(*arguments: str):
        line = [
            "vectors",
            "sweep",
            "--data",
            str(tmp_path / "statements.csv"),
            "--split",
            "60/40",
            *arguments,
        ]
        return CliRunner().invoke(app, line)

    return run


def test_the_command_writes_the_map_with_its_check(command, tmp_path):
    out = tmp_path / "map.json"
    done = command("--strategy", "gated", "--strengths", "1,4", "--check-cells", "3", "--json", str(out))
    assert done.exit_code == 0, done.output
    sweep = json.loads(out.read_text(encoding="utf-8"))
    assert (sweep["n_train"], sweep["n_measured"], sweep["layers"], sweep["strengths"]) == (
        60,
        40,
        [0, 1, 2],
        [1.0, 4.0],
    )
    assert np.array(sweep["balanced_accuracy"]).shape == (3, 2)
    assert len(sweep["check"]["cells"]) == 3
    assert sweep["check"]["largest_difference"] < 1e-3
    assert sweep["from_cached_states"] is True
    assert sweep["data_sha256"]
    assert "Balanced accuracy" in done.output
    check = sweep["check"]
    assert f"a swept cell is {check['ratio']:.1f} times cheaper than a whole pass" in done.output
    assert f"the largest difference of a score is {check['largest_difference']:.2g}" in done.output


def test_a_resumed_sweep_leaves_no_files_when_it_is_done(command, tmp_path):
    done = command("--layers", "0-1", "--strengths", "1", "--resume", "--json", "-")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["layers"] == [0, 1]
    assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file() and "traces" in path.parts]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--layers", "7"), "layers 0 to 2"),
        (("--strengths", "much"), "--strengths"),
        (("--strategy", "random"), "cannot be swept"),
        (("--fit-on", "twins", "--strategy", "gated"), "complete pairs"),
        (("--resume", "--check-cells", "2"), "--resume"),
    ],
)
def test_what_cannot_be_swept_is_refused_in_one_sentence(command, arguments, word):
    refused = command(*arguments)
    assert isinstance(refused.exception, BadInput)
    assert word in str(refused.exception)


def test_a_file_larger_than_the_settings_allow_is_refused(command, monkeypatch):
    monkeypatch.setenv("MEDX_MAX_FILE_ROWS", "10")
    settings.cache_clear()
    refused = command("--layers", "0", "--strengths", "1")
    assert isinstance(refused.exception, BadInput)
    assert "10 rows" in str(refused.exception)


@pytest.mark.weights
@pytest.mark.slow
def test_the_real_model_resumes_to_what_whole_passes_give(real_model):
    texts = [statement.statement for statement in bundled_statements()[:12]]
    runner = StatementRunner(real_model, STATEMENT_PROMPT, batch_rows=8)
    assert runner.resumes
    direction = torch.randn(1, runner.width, generator=torch.Generator().manual_seed(0))
    cells = [SteeringPlan((SteeringStep(layer, ConstantShift(direction * 3)),)) for layer in (0, 13, 28)]
    resumed, whole = runner.steered(texts, cells), runner.steered(texts, cells, resumed=False)
    for quick, full in zip(resumed, whole, strict=True):
        np.testing.assert_allclose(quick.scores, full.scores, atol=1e-3)
        np.testing.assert_array_equal(quick.answer_words, full.answer_words)


@pytest.mark.weights
def test_one_logit_along_the_answer_gradient_is_about_one_logit_in_the_score(real_model):
    texts = [statement.statement for statement in bundled_statements()[:6]]
    runner = StatementRunner(real_model, STATEMENT_PROMPT)
    gradient = runner.answer_gradients(texts, [21])[21]
    push = gradient / gradient.square().sum()
    plain = runner.scores(texts).scores
    moved = runner.steered(texts, [SteeringPlan((SteeringStep(21, ConstantShift(push[None])),))])[0].scores
    assert (moved - plain).mean() == pytest.approx(1, abs=0.2)
