"""Each source left out in its turn, with an encoder that sees six words and nothing else."""

import numpy as np
import pytest

from medx_core.categories import Category
from medx_core.data.routing_texts import RoutingText
from medx_core.routing.training import leave_one_source_out

WORDS = ("urgent", "cohort", "tablets", "weather", "zebra", "yak")
TRIAGE, LITERATURE, PATIENT = Category


class SixWords:
    """A text's row says which of the six words it holds."""

    name, sha256, width = "six words", "0" * 64, len(WORDS)

    def encode(self, texts):
        return np.array([[word in text for word in WORDS] for text in texts], dtype=np.float32)


@pytest.fixture(scope="module")
def figures():
    own = [
        RoutingText(f"{word} {number}", category)
        for word, category in zip(WORDS, (*Category, None), strict=False)
        for number in range(12)
    ]
    # Everything that tells how "zebra" is labelled comes from the source "alone"; "yak" comes from two sources.
    rows = [
        *[("urgent", TRIAGE, "agrees"), ("cohort", LITERATURE, "agrees"), ("yak", LITERATURE, "agrees")] * 6,
        *[("yak", LITERATURE, "shares"), ("tablets", PATIENT, "shares")] * 6,
        *[("zebra urgent", LITERATURE, "alone")] * 30,
    ]
    texts = [
        RoutingText(f"{word} {100 + number}", category, source)
        for number, (word, category, source) in enumerate(rows)
    ]
    return leave_one_source_out(SixWords(), own, texts)


def test_every_source_is_measured_once(figures):
    assert {name: figure["n"] for name, figure in figures.items()} == {
        "agrees": 18,
        "alone": 30,
        "shares": 12,
    }


def test_a_source_is_measured_without_what_only_it_could_have_taught(figures):
    assert figures["alone"]["accuracy"] == 0.0


def test_what_other_sources_teach_counts(figures):
    assert figures["agrees"]["accuracy"] == 1.0
    assert figures["shares"]["accuracy"] == 1.0
