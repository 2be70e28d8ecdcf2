"""Fine-tuning a RoBERTa-type classifier: the mechanics, on a tiny random network with a tokenizer made here."""

import numpy as np
import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import RobertaConfig, RobertaForMaskedLM, RobertaTokenizerFast

from medx_core.categories import Category
from medx_core.data.routing_texts import RoutingText
from medx_core.errors import RouterUnavailable
from medx_core.routing.classifier import Classifier, FineTuning, save_classifier, train_classifier
from medx_core.routing.loading import load_router

SIGNS = {
    Category.TRIAGE: "urgent hospital tonight",
    Category.LITERATURE: "randomised cohort mortality",
    Category.PATIENT_FACING: "tablets leaflet explain",
    None: "weather football invoice",
}
QUICK = FineTuning(max_epochs=8, patience=8, batch_rows=8, learning_rate=5e-3)


@pytest.fixture(scope="module")
def texts():
    return [
        RoutingText(text=f"number {turn} {words} please", category=category, voice="test")
        for turn in range(24)
        for category, words in SIGNS.items()
    ]


@pytest.fixture(scope="module")
def tiny_roberta(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("tiny-roberta")
    bpe = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train_from_iterator([text.text for text in texts], vocab_size=400, special_tokens=special)
    bpe.save(str(folder / "tokenizer.json"))
    tokenizer = RobertaTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), model_max_length=64, clean_up_tokenization_spaces=False
    )
    tokenizer.save_pretrained(folder)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=70,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        RobertaForMaskedLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained(texts, tiny_roberta):
    reports = []
    router = train_classifier(texts, str(tiny_roberta), settings=QUICK, progress=reports.append)
    return router, reports


def test_fine_tuning_lowers_the_loss_and_keeps_the_best_epoch(trained):
    router, reports = trained
    assert reports[-1].epoch <= QUICK.max_epochs
    best = min(reports, key=lambda report: report.loss)
    assert best.loss < reports[0].loss
    assert router.provenance.figures["best_epoch"] == best.epoch


def test_a_stored_classifier_routes_as_the_trained_one_and_as_its_texts_say(trained, tmp_path):
    router, _ = trained
    save_classifier(tmp_path / "router", router.network, router.tokenizer, router.provenance)
    stored = load_router(str(tmp_path / "router"), tmp_path)
    assert isinstance(stored, Classifier)
    asked = [f"number 77 {words} please" for words in SIGNS.values()]
    for fresh, loaded in zip(router.scores(asked), stored.scores(asked), strict=True):
        np.testing.assert_allclose(fresh, loaded, atol=1e-6)
    routes = load_router(str(tmp_path / "router"), tmp_path, threshold=0.3).route(asked)
    assert [route.category for route in routes] == list(SIGNS)
    assert all(sum(route.probabilities.values()) == pytest.approx(1.0, abs=1e-5) for route in routes)


def test_the_same_seed_gives_the_same_weights(texts, tiny_roberta):
    once = FineTuning(max_epochs=1, batch_rows=8)
    first, second = (train_classifier(texts, str(tiny_roberta), settings=once) for _ in range(2))
    for name, tensor in first.network.state_dict().items():
        assert tensor.equal(second.network.state_dict()[name]), name


def test_training_stops_early_when_nothing_gets_better(texts, tiny_roberta):
    reports = []
    still = FineTuning(max_epochs=9, patience=1, learning_rate=0.0)
    train_classifier(texts, str(tiny_roberta), settings=still, progress=reports.append)
    assert len(reports) == 2


def test_a_router_with_other_labels_is_refused(trained, tmp_path):
    router, _ = trained
    save_classifier(tmp_path, router.network, router.tokenizer, router.provenance)
    file = tmp_path / "medx-router.json"
    file.write_text(file.read_text(encoding="utf-8").replace("triage", "surgery"), encoding="utf-8")
    with pytest.raises(RouterUnavailable, match="other labels"):
        load_router(str(tmp_path), tmp_path)
