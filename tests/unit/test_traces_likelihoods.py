"""Log-likelihoods are those of a plain loop over tokens; damage shows where steering is too strong."""

import math

import numpy as np
import pytest
import torch

from medx_core.steering.hooks import ConstantShift, SteeringPlan, SteeringStep
from medx_core.steering.positions import Positions
from medx_core.traces.damage import damage, greedy_texts, mean_repetition, perplexity, repetition
from medx_core.traces.likelihoods import TextLikelihoods, perplexity_after, start_tokens
from tests.language_models import ARCHITECTURES, WIDTH, tiny_model

TEXTS = [
    "The heart pumps blood.",
    "Is",
    "Insulin raises glucose in the blood and the kidneys make urine.",
    "The heart",
]
PREFIX = "The kidneys make urine. Statement: {the} heart"


def plain_total(model, text, prefix=""):
    """One pass over one text, token by token, without cache and without batch."""
    start = [] if prefix else start_tokens(model)
    before = len(model.tokenizer(prefix)["input_ids"]) if prefix else len(start)
    ids = start + model.tokenizer(f"{prefix} {text}" if prefix else text)["input_ids"]
    with torch.inference_mode():
        logits = model.network(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double()
    return sum(float(logits[i - 1].log_softmax(dim=-1)[ids[i]]) for i in range(before, len(ids)))


@pytest.mark.parametrize("prefix", ["", PREFIX], ids=["alone", "after-a-prefix"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_texts_likelihood_is_the_sum_over_its_tokens(architecture, prefix):
    model = tiny_model(architecture)
    totals = TextLikelihoods(model, prefix).totals(TEXTS)
    np.testing.assert_allclose(totals, [plain_total(model, text, prefix) for text in TEXTS], atol=2e-3)
    assert (totals < 0).all()


def test_counted_tokens_are_the_texts_own():
    model = tiny_model()
    assert TextLikelihoods(model).counts(TEXTS).tolist() == [4, 1, 11, 2]
    assert TextLikelihoods(model, PREFIX).counts(TEXTS).tolist() == [4, 1, 11, 2]
    assert TextLikelihoods(model).totals([]).shape == (0,)


def test_perplexity_is_the_exponent_of_the_mean_over_all_tokens():
    model = tiny_model()
    expected = math.exp(-sum(plain_total(model, text) for text in TEXTS) / 18)
    assert perplexity(model, TEXTS, SteeringPlan()) == pytest.approx(expected, rel=1e-4)


def test_perplexity_sees_every_steered_token_but_not_steering_of_the_last_prompt_token():
    model = tiny_model()
    shift = ConstantShift(torch.linspace(-3, 3, WIDTH)[None])
    plain = perplexity(model, TEXTS, SteeringPlan())
    every = perplexity(model, TEXTS, SteeringPlan((SteeringStep(1, shift, Positions.LAST),)))
    same = perplexity(model, TEXTS, SteeringPlan((SteeringStep(1, shift, Positions.ALL),)))
    prompt_only = perplexity(model, TEXTS, SteeringPlan((SteeringStep(1, shift, Positions.LAST_PROMPT),)))
    assert every == same
    assert abs(every / plain - 1) > 5e-4  # random weights are near uniform whatever is done to them
    assert prompt_only == plain


def test_repetition_counts_runs_of_four_words_met_before():
    assert repetition("one two three four five six seven") == 0
    assert repetition("no no no no no no no") == pytest.approx(3 / 4)
    assert repetition("too short") == 0
    assert mean_repetition(["a a a a a", "one two three four"]) == pytest.approx(1 / 4)


def test_damage_puts_before_and_after_side_by_side():
    model = tiny_model()
    plan = SteeringPlan((SteeringStep(1, ConstantShift(20 * torch.linspace(-1, 1, WIDTH)[None])),))
    measured = damage(model, plan, texts=TEXTS, questions=["The heart", "Is blood"], new_tokens=12)
    assert measured.perplexity_before == perplexity(model, TEXTS, SteeringPlan())
    assert measured.perplexity_after == perplexity(model, TEXTS, plan)
    assert measured.repetition_after == mean_repetition(
        greedy_texts(model, ["The heart", "Is blood"], plan, new_tokens=12)
    )
    ratio = measured.as_json()["perplexity_ratio"]
    assert ratio == measured.perplexity_after / measured.perplexity_before != 1
    assert not any(module._forward_hooks for module in model.network.modules())


def test_the_perplexity_after_a_prompt_is_that_of_the_networks_own_loss():
    model = tiny_model()
    prompt, tokens = [5, 6, 7], [9, 10, 11, 12]
    ids, labels = torch.tensor([prompt + tokens]), torch.tensor([[-100] * len(prompt) + tokens])
    with torch.inference_mode():
        loss = model.network(input_ids=ids, labels=labels).loss
    assert perplexity_after(model, prompt, tokens) == pytest.approx(float(loss.exp()), rel=1e-5)
