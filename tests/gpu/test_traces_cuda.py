"""On CUDA, in both number types, resumed runs are whole runs."""

import numpy as np
import pytest
import torch

from medx_core.models.devices import choose_placement
from medx_core.prompts import STATEMENT_PROMPT
from medx_core.steering.hooks import ConstantShift, ShiftsByText, SteeringPlan, SteeringStep
from medx_core.traces.likelihoods import TextLikelihoods
from medx_core.traces.resuming import UNSTEERED, SteeredRuns
from medx_core.traces.statement_runner import StatementRunner
from tests.language_models import WIDTH, tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]
TEXTS = [
    "The heart pumps blood.",
    "Is",
    "Insulin raises glucose in the blood and the kidneys make urine.",
] * 12
VECTOR = torch.linspace(-1, 1, WIDTH)
TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_resumed_runs_gradients_and_likelihoods_are_those_of_the_cpu(dtype):
    on_gpu = StatementRunner(tiny_model(placement=choose_placement("cuda:0", dtype)), STATEMENT_PROMPT)
    on_cpu = StatementRunner(tiny_model(placement=choose_placement("cpu", "float32")), STATEMENT_PROMPT)
    amounts = torch.linspace(-2, 2, len(TEXTS))
    cells = [
        SteeringPlan((SteeringStep(0, ConstantShift(VECTOR[None])),)),
        SteeringPlan((SteeringStep(1, ShiftsByText(amounts[:, None] * VECTOR)),)),
    ]
    assert on_gpu.resumes
    runs = zip(
        on_gpu.steered(TEXTS, cells),
        on_gpu.steered(TEXTS, cells, resumed=False),
        on_cpu.steered(TEXTS, cells),
        strict=True,
    )
    for resumed, whole, expected in runs:
        np.testing.assert_allclose(resumed.scores, whole.scores, atol=TOLERANCE[dtype])
        np.testing.assert_allclose(resumed.scores, expected.scores, atol=TOLERANCE[dtype])
    gradients = [runner.answer_gradients(TEXTS, [1])[1] for runner in (on_gpu, on_cpu)]
    torch.testing.assert_close(*gradients, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])
    likelihoods = [TextLikelihoods(runner.model).totals(TEXTS) for runner in (on_gpu, on_cpu)]
    np.testing.assert_allclose(*likelihoods, rtol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_arms_that_share_a_pass_are_those_of_the_cpu_apart(dtype):
    on_gpu, on_cpu = (
        StatementRunner(tiny_model(placement=choose_placement(device, number_type)), STATEMENT_PROMPT)
        for device, number_type in (("cuda:0", dtype), ("cpu", "float32"))
    )
    pushed = [SteeringPlan((SteeringStep(layer, ConstantShift(VECTOR[None])),)) for layer in (0, 1)]
    rows = [(text, plan) for text in TEXTS[:6] for plan in (pushed[0], UNSTEERED, pushed[1])]
    assert on_gpu.resumes
    finals = SteeredRuns(on_gpu.prefix).of_rows(
        [on_gpu.prefix.encoded(text) for text, _ in rows], [plan for _, plan in rows]
    )
    apart = [SteeredRuns(on_cpu.prefix).of_rows([on_cpu.prefix.encoded(text)], [plan]) for text, plan in rows]
    expected = [on_cpu.head.logit_differences(final).item() for final in apart]
    np.testing.assert_allclose(on_gpu.head.logit_differences(finals), expected, atol=TOLERANCE[dtype])
