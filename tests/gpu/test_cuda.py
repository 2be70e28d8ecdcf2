"""On CUDA the same as on the CPU: exact shifts, batch equals single, bfloat16, verdicts, and one sentence when memory ends."""

import pytest
import torch

from medx_core.answering import AnsweringEngine
from medx_core.categories import Category
from medx_core.data.bundled_texts import bundled_statements
from medx_core.errors import ModelUnavailable
from medx_core.models.devices import choose_placement
from medx_core.models.loading import load_model
from medx_core.models.prefix_cache import SharedPrefix
from medx_core.models.scoring import AnswerHead
from medx_core.prompts import STATEMENT_PROMPT
from medx_core.questions import ARM_CHOICES, Arm, ArmRow, Question
from medx_core.settings import Settings
from medx_core.steering.hooks import (
    ConstantShift,
    SteeringPlan,
    SteeringStep,
    plan_for_rows,
    recorded,
    steered,
)
from medx_core.steering.layers import hidden_size, penultimate_layer
from tests.integration.test_answering import FixedRouter, vector_for
from tests.language_models import REAL, models_folder, tiny_model
from tests.recipes import FixedRecipe

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]
NEAR_TIE = {"float32": 0.01, "bfloat16": 0.25}
STATEMENTS = [statement.statement for statement in bundled_statements()[:96]]


def load(dtype: str):
    return load_model(REAL, models_folder=models_folder(), placement=choose_placement("cuda:0", dtype))


def differences(model, batch: int) -> torch.Tensor:
    prefix = SharedPrefix(model, STATEMENT_PROMPT)
    head = AnswerHead(prefix)
    prompts = [prefix.encoded(text) for text in STATEMENTS]
    parts = [
        head.logit_differences(prefix.last_states(prompts[i : i + batch]))
        for i in range(0, len(prompts), batch)
    ]
    return torch.cat(parts)


def same_but_for_near_ties(left: torch.Tensor, right: torch.Tensor, near: float) -> bool:
    clear = (left.abs() >= near) & (right.abs() >= near)
    return bool(((left > 0) == (right > 0))[clear].all())


def test_a_gpu_that_has_bfloat16_uses_it():
    expected = torch.bfloat16 if torch.cuda.get_device_capability(0)[0] >= 8 else torch.float16
    assert choose_placement("auto").dtype is expected


def test_steering_shifts_a_row_by_exactly_its_vector():
    model = tiny_model(placement=choose_placement("cuda:0", "float32"))
    layer, width = penultimate_layer(model.network), hidden_size(model.network)
    vector = torch.linspace(-1, 1, width)
    ids = torch.tensor([[5, 6, 7], [8, 9, 10]], device="cuda:0")
    with torch.inference_mode(), recorded(model.network, [layer]) as before:
        model.network(input_ids=ids, use_cache=False)
    added = SteeringPlan((SteeringStep(layer, ConstantShift(vector[None])),))
    plan = plan_for_rows([added, SteeringPlan()], width=width)
    with torch.inference_mode(), steered(model.network, plan), recorded(model.network, [layer]) as after:
        model.network(input_ids=ids, use_cache=False)
    torch.testing.assert_close(after[layer][0] - before[layer][0], vector, atol=1e-5, rtol=1e-5)
    assert torch.equal(after[layer][1], before[layer][1])


@pytest.mark.weights
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_batch_gives_the_verdicts_of_batches_of_one(dtype):
    model = load(dtype)
    assert same_but_for_near_ties(differences(model, 32), differences(model, 1), NEAR_TIE[dtype])


@pytest.mark.weights
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_verdicts_equal_those_of_the_cpu_in_float32(dtype, real_model):
    assert same_but_for_near_ties(differences(load(dtype), 32), differences(real_model, 32), NEAR_TIE[dtype])


@pytest.mark.weights
def test_mixed_arms_share_a_pass_in_bfloat16():
    model = load("bfloat16")
    recipes = FixedRecipe(vector_for(model))
    engine = AnsweringEngine(model, FixedRouter(Category.TRIAGE), recipes, Settings())
    questions = [Question(text, arms=ARM_CHOICES["both"]) for text in STATEMENTS[:8]]
    routes = engine.route(questions)
    rows = [ArmRow(q, r, arm) for q, r in zip(questions, routes, strict=True) for arm in q.arms]
    answers = engine.verdicts(rows)
    assert any(a.score != b.score for a, b in zip(answers[::2], answers[1::2], strict=True))
    assert all(answer.vector is None for answer in answers if answer.arm is Arm.UNSTEERED)


@pytest.mark.weights
def test_out_of_memory_becomes_one_sentence():
    model = load("float32")
    prefix = SharedPrefix(model, STATEMENT_PROMPT)
    torch.cuda.set_per_process_memory_fraction(0.02, 0)
    try:
        with pytest.raises(ModelUnavailable, match="does not fit into this device's memory"):
            prefix.last_states([prefix.encoded("word " * 3000)] * 512)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, 0)
