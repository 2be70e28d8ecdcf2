import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from medx_core.categories import Category
from medx_core.data.routing_texts import RoutingText
from medx_core.routing.evaluation import auroc, evaluate, expected_calibration_error, fitted_temperature
from medx_core.routing.router import CATEGORIES, ScoringRouter
from medx_core.routing.rules_router import RulesRouter
from medx_core.routing.tfidf import learn_vocabulary, terms_of

SURE_TRIAGE, SURE_LITERATURE = [0.9, 0.05, 0.05], [0.05, 0.9, 0.05]


class KnownScores(ScoringRouter):
    """A router whose probabilities and in-scope score are written down for each text."""

    name = "known"

    def __init__(self, threshold, **scores):
        self.known, self.at = scores, threshold

    @property
    def threshold(self):
        return self.at

    def scores(self, texts):
        rows, in_scope = zip(*(self.known[text] for text in texts), strict=True)
        return np.array(rows, np.float32), np.array(in_scope, np.float32)


def test_the_figures_of_three_questions_are_those_counted_by_hand():
    router = KnownScores(
        0.4,
        a=(SURE_TRIAGE, 0.9),
        b=(SURE_LITERATURE, 0.2),
        c=(SURE_LITERATURE, 0.8),
        outside=(SURE_TRIAGE, 0.1),
        beyond=(SURE_TRIAGE, 0.5),
    )
    figures = evaluate(
        router,
        [
            RoutingText("a", Category.TRIAGE, "one"),
            RoutingText("outside", None),
            RoutingText("b", Category.TRIAGE, "one"),
            RoutingText("c", Category.LITERATURE, "two"),
            RoutingText("beyond", None),
        ],
    )
    assert (figures["router"], figures["n"]) == ("known", 3)
    assert figures["accuracy"] == pytest.approx(2 / 3)
    assert figures["macro_f1"] == pytest.approx(2 / 3)
    assert figures["confusion"]["matrix"] == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert figures["by_source"] == {"one": {"n": 2, "accuracy": 0.5}, "two": {"n": 1, "accuracy": 1.0}}
    assert figures["ece"] == pytest.approx(0.9 - 2 / 3, abs=1e-6)
    assert figures["abstained"] == pytest.approx(1 / 3)
    assert figures["routed"] == {"n": 2, "share": pytest.approx(2 / 3), "accuracy": 1.0}
    assert figures["out_of_scope"] == {"n": 2, "auroc": pytest.approx(5 / 6), "abstained": 0.5}
    assert [mistake["question"] for mistake in figures["confident_mistakes"]] == ["b"]


def test_auroc_counts_a_tie_as_half():
    assert auroc(np.array([0.5], np.float32), np.array([0.5, 0.1], np.float32)) == pytest.approx(0.75)
    assert auroc(np.array([], np.float32), np.array([0.5], np.float32)) is None


def test_the_temperature_undoes_a_known_over_confidence():
    random = np.random.default_rng(1)
    honest = random.normal(size=(4_000, 3)) * 2
    shares = np.exp(honest) / np.exp(honest).sum(axis=1, keepdims=True)
    labels = np.array([random.choice(3, p=row) for row in shares])
    assert fitted_temperature((honest * 3).astype(np.float32), labels) == pytest.approx(3.0, rel=0.15)
    assert expected_calibration_error(shares.astype(np.float32), labels) < 0.03


def test_below_the_threshold_a_route_has_no_category_and_keeps_its_probabilities():
    router = KnownScores(np.float32(0.4), a=(SURE_TRIAGE, 0.4), b=(SURE_TRIAGE, 0.39))
    sure, unsure = router.route(["a", "b"])
    assert sure.category is Category.TRIAGE
    assert unsure.abstained
    assert unsure.probabilities[Category.TRIAGE] == pytest.approx(0.9)


def test_a_red_flag_is_kept_when_the_router_abstains():
    (route,) = KnownScores(0.5, **{"he is not breathing": (SURE_TRIAGE, 0.0)}).route(["he is not breathing"])
    assert route.abstained
    assert route.red_flag


def test_rules_know_the_plainest_question_of_each_kind():
    plain = (
        "Should I go to A&E or wait to see my GP?",
        "Is statin use associated with lower mortality in randomised trials?",
        "What are the side effects of my tablets?",
    )
    texts = [RoutingText(text, category) for text, category in zip(plain, CATEGORIES, strict=True)]
    figures = evaluate(RulesRouter(), [*texts, RoutingText("pigeon", None)])
    assert figures["accuracy"] == 1.0
    assert figures["by_source"] == {}


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text(max_size=200), max_size=5))
def test_terms_are_weighted_as_scikit_learn_weights_them(texts):
    known = ["how soon should I go", "how soon is it, how soon?", "what is it"]
    vocabulary = learn_vocabulary(known)
    theirs = TfidfVectorizer(
        analyzer=terms_of, vocabulary=vocabulary.terms, sublinear_tf=True, dtype=np.float32
    )
    theirs.idf_ = vocabulary.idf
    texts = [*known, *texts]
    ours = vocabulary.features(texts)
    assert ours.shape == (len(texts), len(vocabulary.terms))
    np.testing.assert_allclose(ours.toarray(), theirs.transform(texts).toarray(), atol=1e-6)
    fitted = TfidfVectorizer(analyzer=terms_of, min_df=2).fit(known)
    assert tuple(fitted.get_feature_names_out()) == vocabulary.terms
    np.testing.assert_allclose(fitted.idf_, vocabulary.idf, atol=1e-6)


@given(st.lists(st.text(max_size=300), max_size=4))
def test_rules_route_any_text(texts):
    routes = RulesRouter().route(texts)
    assert len(routes) == len(texts)
    assert all(sum(route.probabilities.values()) == pytest.approx(1.0) for route in routes)
