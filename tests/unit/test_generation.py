"""Writing token by token is greedy decoding, in any batch, and can be stopped."""

import pytest
import torch

from medx_core.models.generation import GreedyWriting
from medx_core.steering.layers import decoder_layers, hidden_of
from tests.language_models import tiny_model

PROMPTS = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14]]


def written(model, prompts, tokens=8, **given):
    writing = GreedyWriting(model, prompts, max_new_tokens=tokens, **given)
    pieces = [""] * len(prompts)
    while not writing.finished:
        pieces = [have + new for have, new in zip(pieces, writing.step(), strict=True)]
    return writing, pieces


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2", "opt"])
def test_it_writes_what_the_librarys_own_greedy_search_writes(architecture):
    model = tiny_model(architecture)
    ids = torch.tensor([PROMPTS[0]])
    with torch.inference_mode():
        own = model.network.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=8
        )
    writing, _ = written(model, [PROMPTS[0]])
    expected = own[0, len(PROMPTS[0]) :].tolist()
    assert writing.rows[0].tokens == expected[: len(writing.rows[0].tokens)]
    assert len(writing.rows[0].tokens) >= 1


def test_a_batch_writes_what_each_prompt_gets_alone():
    model = tiny_model()
    together, _ = written(model, PROMPTS)
    for row, prompt in zip(together.rows, PROMPTS, strict=True):
        alone, _ = written(model, [prompt])
        assert row.tokens == alone.rows[0].tokens


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3_text", "opt", "mixtral"])
def test_rows_of_one_prompt_read_it_once_and_write_what_they_write_alone(architecture):
    model = tiny_model(architecture)
    arms = [PROMPTS[0], PROMPTS[1], PROMPTS[0], PROMPTS[0], PROMPTS[1]]
    apart, _ = written(model, arms)
    passes = []
    counting = decoder_layers(model.network)[0].register_forward_hook(
        lambda _layer, _inputs, output: passes.append(tuple(hidden_of(output).shape[:2]))
    )
    together, _ = written(model, arms, share_prompts=True)
    counting.remove()
    assert [row.tokens for row in together.rows] == [row.tokens for row in apart.rows]
    assert passes[:2] == [(2, 4), (5, 1)], (
        "two prompts but for their last token, then the last token of every row"
    )


def test_the_pieces_add_up_to_the_text():
    writing, pieces = written(tiny_model(), PROMPTS)
    assert pieces == [row.text for row in writing.rows]
    assert all(row.finish in {"done", "length"} for row in writing.rows)


def test_a_cancelled_row_keeps_what_was_written_and_the_others_go_on():
    writing = GreedyWriting(tiny_model(), PROMPTS, max_new_tokens=6)
    writing.step()
    writing.cancel(1)
    before = list(writing.rows[1].tokens)
    while not writing.finished:
        writing.step()
    assert writing.rows[1].finish == "cancelled"
    assert writing.rows[1].tokens == before
    assert len(writing.rows[0].tokens) > len(before)
