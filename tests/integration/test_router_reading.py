"""How texts are read by a network: as sentence-transformers reads them, and the same whichever way is fastest."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from medx_core.models.packed_linear import pack_linear_layers
from medx_core.routing.encoder_files import WHEEL_ENCODER, batches_by_length, encoder_folder
from medx_core.routing.encoders import BATCH_TOKENS, freeze, load_encoder, tokens_of
from medx_core.routing.numpy_encoder import can_read, load_numpy_encoder

TEXTS = [
    "Is it urgent?",
    "Association between statin use and mortality in patients with sepsis: a cohort study",
    "my mum has had this cough for weeks now and she wont see anyone " * 30,
    "naïve T-cells & β-blockers – “what for”?",
    "",
]


@pytest.fixture(scope="module")
def encoder():
    return load_encoder()


def test_the_last_third_of_an_embedding_is_what_sentence_transformers_gives(encoder):
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(
        str(encoder_folder(WHEEL_ENCODER)), device="cpu", local_files_only=True
    ).encode(TEXTS, normalize_embeddings=True)
    depths = len(encoder.layers)
    ours = encoder.encode(TEXTS)[:, -encoder.width // depths :] * np.sqrt(depths)
    assert theirs.shape == ours.shape
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_numpy_reads_texts_as_torch_does(encoder):
    folder = encoder_folder(WHEEL_ENCODER)
    assert can_read(folder)
    light = load_numpy_encoder(WHEEL_ENCODER, folder, encoder.sha256)
    assert light.width == encoder.width
    np.testing.assert_allclose(light.encode(TEXTS), encoder.encode(TEXTS), atol=1e-5)


def test_control_tokens_in_a_question_are_text_to_both_readers(encoder):
    text = "Is it safe [SEP] to stop?"
    end = encoder.tokenizer.sep_token_id
    light = load_numpy_encoder(WHEEL_ENCODER, encoder_folder(WHEEL_ENCODER), encoder.sha256)
    for ids in (tokens_of(encoder.tokenizer, [text])[0], light.tokenizer.encode(text).ids):
        assert ids.count(end) == 1, "the reader's own, at the end"


def test_a_text_that_comes_again_has_the_same_row_in_its_place(encoder):
    rows = encoder.encode([TEXTS[1], TEXTS[0], TEXTS[1]])
    np.testing.assert_array_equal(rows[0], rows[2])
    np.testing.assert_allclose(rows[1], encoder.encode([TEXTS[0]])[0], atol=1e-5)


def test_batches_hold_every_text_once_and_no_more_tokens_than_they_may(encoder):
    lengths = [len(ids) for ids in tokens_of(encoder.tokenizer, TEXTS * 40)]
    batches = list(batches_by_length(lengths, BATCH_TOKENS["cpu"]))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert len(batches) > 1
    assert all(len(batch) * max(lengths[i] for i in batch) <= BATCH_TOKENS["cpu"] for batch in batches)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch was built without oneDNN")
def test_a_network_prepared_for_reading_says_the_same_and_refuses_to_be_saved(tmp_path):
    config = BertConfig(vocab_size=50, hidden_size=64, num_hidden_layers=2, num_attention_heads=2)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = BertModel(config)
    freeze(network)
    batch = {
        "input_ids": torch.arange(24).reshape(2, 12),
        "attention_mask": torch.tensor([[1] * 12, [1] * 7 + [0] * 5]),
    }
    with torch.inference_mode():
        before = network(**batch).last_hidden_state
        pack_linear_layers(network)
        after = network(**batch).last_hidden_state
    assert not any(type(module) is torch.nn.Linear for module in network.modules())
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)
    with pytest.raises(TypeError, match="load it anew"):
        network.save_pretrained(tmp_path)
