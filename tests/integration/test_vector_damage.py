"""`medx vectors damage`: whether a model still writes is measured on the model, from the registry to the figures."""

import json
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from medx_core.assembly import build_model, build_registry
from medx_core.categories import Category
from medx_core.cli.app import app
from medx_core.cli.database import opened_database
from medx_core.settings import settings
from medx_core.steering.steering_vector import SteeringVector
from tests.language_models import WIDTH


@pytest.fixture
def vector(tiny_home):
    """A vector for a tiny model that is in use."""
    model = build_model(settings())
    return SteeringVector(
        category=Category.TRIAGE,
        direction=torch.randn(WIDTH, generator=torch.Generator().manual_seed(3)),
        layer=1,
        model=model.name,
        model_sha256=model.weight_sha256,
        strategy="mean_difference",
        alpha=1e-6,
        reading="answer_word",
        pairs=2,
        data_sha256="d",
        prompt_version="p",
        created_at="2026-01-01",
    )


def measured(vector: SteeringVector) -> dict:
    with opened_database() as database:
        number = build_registry(settings(), database).publish(vector).id
    done = CliRunner().invoke(app, ["vectors", "damage", str(number), "--questions", "2", "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_vector_that_floods_the_states_is_seen_and_one_of_no_size_is_not(vector):
    nothing, flood = measured(vector), measured(replace(vector, alpha=1e3))
    assert nothing["perplexity_ratio"] == pytest.approx(1, abs=1e-3)
    assert nothing["repetition_after"] == nothing["repetition_before"]
    assert abs(flood["perplexity_ratio"] - 1) > 0.01  # a network of random weights may as well gain by it
    assert flood["texts"] == nothing["texts"] > 20


def test_a_vector_of_another_model_is_refused_with_the_way_out(vector):
    with opened_database() as database:
        number = build_registry(settings(), database).publish(replace(vector, model_sha256="ab" * 32)).id
    done = CliRunner().invoke(app, ["vectors", "damage", str(number)])
    assert done.exit_code != 0
    assert "set MEDX_MODEL" in str(done.exception)
