"""The default router on its real encoder, trained on a few of the bundled texts."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from medx_core.categories import Category
from medx_core.data.routing_texts import training_texts
from medx_core.errors import BadInput, RouterUnavailable
from medx_core.routing.embedding_router import EmbeddingRouter, explain
from medx_core.routing.encoder_files import encoder_folder
from medx_core.routing.encoders import load_encoder
from medx_core.routing.heads import head_path, load_head, save_head
from medx_core.routing.loading import load_router
from medx_core.routing.training import train_embedding_router

CLEAR = {
    "How soon should I be seen for a swollen knee, can it wait until Monday?": Category.TRIAGE,
    "Association between statin use and mortality in patients with sepsis: a cohort study": Category.LITERATURE,
    "What are the side effects of my blood pressure tablets?": Category.PATIENT_FACING,
}


@pytest.fixture(scope="module")
def encoder():
    return load_encoder()


@pytest.fixture(scope="module")
def few_texts():
    kinds = (*Category, None)
    short = sorted(training_texts(), key=lambda text: (len(text.text), text.text))
    return [text for kind in kinds for text in [t for t in short if t.category is kind][20:260:3]]


@pytest.fixture(scope="module")
def head(encoder, few_texts):
    return train_embedding_router(few_texts, encoder)


def test_embeddings_have_length_one_and_do_not_depend_on_their_batch(encoder):
    texts = ["Is it urgent?", "What is gout? " * 60, "", "p53 binds MDM2."]
    together = encoder.encode(texts)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    assert together.shape == (4, encoder.width)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert encoder.encode([]).shape == (0, encoder.width)


def test_training_twice_gives_the_same_head(encoder, few_texts, head):
    again = train_embedding_router(list(few_texts), encoder)
    np.testing.assert_array_equal(again.meaning.weights, head.meaning.weights)
    np.testing.assert_array_equal(again.terms.weights, head.terms.weights)
    assert (again.temperature, again.threshold) == (head.temperature, head.threshold)
    assert again.provenance.data_sha256 == head.provenance.data_sha256


def test_an_added_text_replaces_a_bundled_one_of_the_same_words(encoder, few_texts, head):
    taught = replace(few_texts[0], text=f" {few_texts[0].text.upper()}", category=Category.LITERATURE)
    assert few_texts[0].category is not Category.LITERATURE
    again = train_embedding_router(few_texts, encoder, added=[taught])
    known, known_again = head.provenance, again.provenance
    assert (known_again.texts, known_again.added_texts) == (known.texts, 1)
    assert known_again.bundled_sha256 == known.data_sha256 != known_again.data_sha256


def test_a_stored_router_routes_the_clearest_questions_as_a_person_would(encoder, head, tmp_path):
    save_head(head, head_path(tmp_path, encoder.sha256))
    router = load_router("minilm-l6-v2", tmp_path, threshold=0.001)
    routes = router.route(list(CLEAR))
    assert [route.category for route in routes] == list(CLEAR.values())
    assert all(sum(route.probabilities.values()) == pytest.approx(1.0, abs=1e-5) for route in routes)
    assert router.route([]) == ()


def test_a_threshold_of_one_abstains_from_everything(encoder, head):
    routes = EmbeddingRouter(encoder, head, own_threshold=1.0).route(list(CLEAR))
    assert all(route.abstained for route in routes)


def test_questions_lie_further_inside_its_field_than_small_talk(encoder, head):
    router = EmbeddingRouter(encoder, head)
    _, inside = router.scores(list(CLEAR))
    _, outside = router.scores(["lovely weather, isn't it", "write a python function that sorts a list"])
    assert inside.min() > outside.max()


def test_the_texts_nearest_to_a_training_text_begin_with_itself(encoder, head, few_texts):
    explanation = explain(EmbeddingRouter(encoder, head), few_texts[0].text, few_texts)
    assert explanation.nearest[0].text == few_texts[0].text
    assert explanation.nearest[0].likeness == pytest.approx(1.0, abs=1e-5)


def test_a_head_of_another_encoder_is_refused(encoder, head, tmp_path):
    path = head_path(tmp_path, encoder.sha256)
    save_head(replace(head, provenance=replace(head.provenance, encoder_sha256="0" * 64)), path)
    with pytest.raises(RouterUnavailable, match="another encoder"):
        load_router("minilm-l6-v2", tmp_path)


def test_a_missing_head_is_told_before_the_encoder_is_loaded(tmp_path):
    other = tmp_path / "encoder"
    shutil.copytree(encoder_folder("minilm-l6-v2"), other, ignore=shutil.ignore_patterns("*.safetensors"))
    (other / "model.safetensors").write_bytes(b"weights of which nothing is read but their hash")
    with pytest.raises(RouterUnavailable, match="run `medx router train`"):
        load_router(str(other), tmp_path)


def test_a_head_trained_here_comes_before_the_one_that_ships(encoder, head, tmp_path):
    assert load_router("minilm-l6-v2", tmp_path).head.provenance.texts == len(training_texts())
    save_head(head, head_path(tmp_path, encoder.sha256))
    assert load_router("minilm-l6-v2", tmp_path).head.version == head.version


@pytest.mark.parametrize("fault", ["nan", "no metadata", "no safetensors"])
def test_a_spoiled_head_is_refused(head, tmp_path, fault):
    path = tmp_path / "head.safetensors"
    save_head(head, path)
    if fault == "nan":
        save_head(replace(head, meaning=replace(head.meaning, bias=head.meaning.bias * np.nan)), path)
    elif fault == "no metadata":
        save_file(load_file(path), path)
    else:
        path.write_bytes(b"\x80\x04pickle")
    with pytest.raises(RouterUnavailable, match=r"head\.safetensors"):
        load_head(path)


def test_too_few_texts_of_a_kind_are_refused(encoder, few_texts):
    with pytest.raises(BadInput, match="none"):
        train_embedding_router([text for text in few_texts if text.category], encoder)


def test_a_folder_without_weights_is_no_encoder(tmp_path):
    with pytest.raises(RouterUnavailable, match="safetensors"):
        load_router(str(tmp_path), tmp_path)
