"""The statements that come with MedX keep the promises that steering and evaluation are built on."""

import csv
import io
import re
from collections import Counter, defaultdict
from difflib import SequenceMatcher
from importlib.resources import files
from statistics import mean

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from medx_core.categories import Category
from medx_core.data.bundled_texts import (
    CONTROL_COLUMNS,
    EXPORT_COLUMNS,
    bundled_controls,
    bundled_statements,
    shared_facts,
    split_of,
    write_statements,
)
from medx_core.data.labelled_files import load_bundled, load_labelled
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.data.leakage import leakage
from medx_core.data.spellings import HARMS, URGENCIES
from medx_core.evaluation.data_split import PartSizes, parts_of
from medx_core.evaluation.wording_free import LEAST_PAIRS, swapped_pairs

NEGATIONS = (
    "no",
    "not",
    "never",
    "none",
    "nor",
    "neither",
    "without",
    "cannot",
    "hardly",
    "rarely",
    "seldom",
)
HEDGES = ("may", "might", "can", "could", "often", "usually", "sometimes", "generally", "mostly", "likely")
ABSOLUTES = ("always", "all", "every", "only", "must", "any")
# How soon, where or by whom: every true triage statement says one of them.
DECISION = re.compile(
    r"at once|immediate|that day|same.day|today|tomorrow|urgent|emergency|without|with(?:in|out) |straight|prompt|\b999\b|"
    r"ambulance|hospital|appointment|clinic|\bGP\b|referr|review|admission|at home|\bno \w+|dentist|pharmacist|sight test|"
    r"staff|unit\b|nurse|midwife|hours?|days?\b|weeks?\b|months?\b|year|assess|specialist|surgeon|surgery|callers?|handlers|"
    r"tag|level|sorted|category|scale|self-treatment|follow-up|left to fade|washing|tablets|first|needle|vein|against reimplanting|planned|home",
    re.IGNORECASE,
)


def in_groups(name):
    groups = defaultdict(list)
    for statement in bundled_statements():
        groups[getattr(statement, name)].append(statement)
    return groups


def words_of(text):
    return re.findall(r"[\w'-]+", text.lower())


def words(statements):
    return Counter(word for each in statements for word in words_of(each.statement))


def frame(twins):
    """What both twins say, in order, with a gap where the words were swapped."""
    left, right = (words_of(twin.statement) for twin in twins)
    same = SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks()
    return " _ ".join(" ".join(left[block.a : block.a + block.size]) for block in same)


def test_every_pair_is_one_true_and_one_false_statement_of_one_kind():
    for pair, twins in in_groups("pair").items():
        assert sorted(twin.answer for twin in twins) == [False, True], pair
        assert len({(twin.category, twin.quad, twin.source) for twin in twins}) == 1, pair
        assert twins[0].statement != twins[1].statement, pair


def test_words_alone_say_nothing_within_a_quad():
    for quad, statements in in_groups("quad").items():
        true = [each for each in statements if each.answer]
        false = [each for each in statements if not each.answer]
        assert words(true) == words(false), quad


def test_ids_and_statements_are_each_there_once():
    statements = bundled_statements()
    assert len({each.id for each in statements}) == len(statements)
    assert len({" ".join(each.statement.lower().split()) for each in statements}) == len(statements)


def test_each_category_has_its_pairs_with_a_source_and_an_honest_review_status():
    pairs = {pair: twins[0] for pair, twins in in_groups("pair").items()}
    counts = Counter(each.category for each in pairs.values())
    assert all(counts[category] >= 200 for category in Category), counts
    assert len({each.topic for each in bundled_statements()}) >= 60
    for each in bundled_statements():
        assert all((each.statement, each.source, each.topic)), each.id
        assert each.harm in HARMS, each.id
        assert each.review in {"agreed", "corrected", "unreviewed"}, each.id


def test_triage_has_every_urgency_and_nothing_else_has_any():
    for category in Category:
        urgencies = {each.urgency for each in bundled_statements() if each.category is category}
        assert urgencies == (set(URGENCIES) if category is Category.TRIAGE else {""}), category


def test_a_quad_is_two_pairs_of_one_category():
    for quad, statements in in_groups("quad").items():
        assert Counter(each.pair for each in statements).most_common() == [
            (pair, 2) for pair in dict.fromkeys(each.pair for each in statements)
        ], quad
        assert len(statements) == 4, quad
        assert len({each.category for each in statements}) == 1, quad


@pytest.mark.parametrize("kind", [NEGATIONS, HEDGES, ABSOLUTES], ids=["negations", "hedges", "absolutes"])
def test_telling_words_are_as_frequent_in_true_as_in_false_statements(kind):
    true = words(each for each in bundled_statements() if each.answer)
    false = words(each for each in bundled_statements() if not each.answer)
    assert {word: true[word] for word in kind} == {word: false[word] for word in kind}
    assert any(true[word] for word in kind)


@pytest.mark.parametrize("category", Category)
def test_true_and_false_statements_are_equally_long_on_average(category):
    lengths = defaultdict(list)
    for each in bundled_statements():
        if each.category is category:
            lengths[each.answer].append(len(each.statement))
    assert mean(lengths[True]) == mean(lengths[False])


def test_no_sentence_frame_holds_more_than_two_percent():
    most = 0.02 * len(bundled_statements())
    frames = Counter(frame(twins) for twins in in_groups("pair").values())
    assert frames.most_common(1)[0][1] * 2 <= most, frames.most_common(1)
    beginnings = Counter(" ".join(words_of(each.statement)[:4]) for each in bundled_statements())
    assert beginnings.most_common(1)[0][1] <= most, beginnings.most_common(1)


def test_no_two_pairs_say_nearly_the_same():
    statements = bundled_statements()
    held = CountVectorizer(analyzer=words_of, binary=True, dtype=np.int64).fit_transform(
        [each.statement for each in statements]
    )
    shared = (held @ held.T).toarray()
    sizes = shared.diagonal()
    closeness = shared / (sizes[:, None] + sizes[None, :] - shared)
    pairs = np.array([each.pair for each in statements])
    closeness[pairs[:, None] == pairs[None, :]] = 0
    worst = np.unravel_index(closeness.argmax(), closeness.shape)
    assert closeness.max() < 0.8, [statements[place].id for place in worst]


def test_readers_of_the_wording_alone_stay_at_chance(monkeypatch):
    monkeypatch.setattr("medx_core.data.leakage.RESAMPLES", 2)  # intervals are not looked at
    figures = leakage(
        [
            LabelledStatement(each.statement, each.answer, each.quad, each.category)
            for each in bundled_statements()
        ]
    )
    for reader, values in figures["readers"].items():
        assert values["accuracy"]["value"] <= 0.55, reader
    for category, readers in figures["by_category"].items():
        for reader, values in readers.items():
            assert values["accuracy"]["value"] <= 0.60, (category, reader)
    assert set(figures["by_category"]) == set(Category)


def test_the_data_card_gives_the_counts_that_there_are():
    card = (files("medx_core.data") / "bundled" / "README.md").read_text("utf-8")
    counts = Counter(each.category.value for each in bundled_statements())
    assert f"{len(bundled_statements()):,} statements" in card
    for category, count in counts.items():
        assert f"| {category} | {count // 2} | {count} |" in card
    assert all(f"`{column}`" in card for column in EXPORT_COLUMNS)


def test_every_true_triage_statement_says_how_soon_where_or_by_whom():
    vague = [
        each.statement
        for each in bundled_statements()
        if each.category is Category.TRIAGE and each.answer and not DECISION.search(each.statement)
    ]
    assert not vague


def test_no_fact_and_no_quad_is_on_both_sides_of_the_split():
    for name in ("fact", "quad"):
        for value, statements in in_groups(name).items():
            assert len({each.split for each in statements}) == 1, value
    for category in Category:
        splits = Counter(each.split for each in bundled_statements() if each.category is category)
        assert 0.6 <= splits["train"] / splits.total() <= 0.8, category


def test_the_table_of_facts_names_pairs_that_are_there_and_each_of_them_once():
    known = set(in_groups("pair"))
    named = [pair for pairs in shared_facts().values() for pair in pairs]
    assert len(named) == len(set(named))
    assert set(named) <= known
    assert all(len(pairs) > 1 for pairs in shared_facts().values())
    facts = {each.pair: each.fact for each in bundled_statements()}
    assert all(facts[pair] == fact for fact, pairs in shared_facts().items() for pair in pairs)
    across = {
        fact
        for fact, statements in in_groups("fact").items()
        if len({each.category for each in statements}) > 1
    }
    assert len(across) >= 40


def test_nearly_all_quads_keep_the_side_of_their_own_name():
    sides = {each.quad: each.split for each in bundled_statements()}
    moved = [quad for quad, side in sides.items() if side != split_of(quad)]
    assert len(moved) < 0.08 * len(sides)


def test_the_controls_exchange_words_between_false_statements_of_one_category_and_side():
    statements = {each.statement: each for each in bundled_statements()}
    quads = defaultdict(list)
    for each in bundled_controls():
        quads[each.quad].append(each)
    for quad, versions in quads.items():
        originals = [each for each in versions if each.original]
        exchanged = [each for each in versions if not each.original]
        assert [len(originals), len(exchanged), len({each.pair for each in versions})] == [2, 2, 2], quad
        assert {(each.answer, each.source_answer) for each in versions} == {(False, False)}, quad
        assert len({(each.category, each.split) for each in versions}) == 1, quad
        assert words(originals) == words(exchanged), quad
        assert not any(statements[each.statement].answer for each in originals), quad
        assert not any(each.statement in statements for each in exchanged), quad


def test_an_evaluation_finds_enough_controls_beside_the_bundled_statements():
    data = load_bundled()
    parts = parts_of(data.statements, PartSizes(), seed=1)
    assert len(swapped_pairs(parts.association)) >= LEAST_PAIRS
    assert len(parts.train) + len(parts.test) == len(bundled_statements())
    assert not any(data.notes[name] for name in ("duplicates", "incomplete_pairs", "divided_groups"))


def test_controls_and_statements_are_read_from_one_joined_file_as_they_are_read_here(tmp_path):
    columns = tuple(dict.fromkeys((*EXPORT_COLUMNS, *CONTROL_COLUMNS)))
    with (tmp_path / "joined.csv").open("w", encoding="utf-8", newline="") as out:
        joined = csv.DictWriter(out, columns)
        joined.writeheader()
        for statements, of in ((bundled_controls(), CONTROL_COLUMNS), (bundled_statements(), EXPORT_COLUMNS)):
            part = io.StringIO(newline="")
            write_statements(statements, part, of)
            part.seek(0)
            joined.writerows(csv.DictReader(part))
    parts = [
        parts_of(data.statements, PartSizes(), seed=1)
        for data in (load_labelled(tmp_path / "joined.csv"), load_bundled())
    ]
    for name in ("train", "test", "association"):
        ours, theirs = ({each.text for each in getattr(part, name)} for part in parts)
        assert ours == theirs


def test_the_split_of_a_quad_never_moves():
    first = [split_of(f"triage-q{n:03}") for n in range(1, 9)]
    assert first == ["train", "test", "train", "test", "train", "train", "train", "train"]


def test_the_export_has_the_columns_of_the_contract():
    out = io.StringIO(newline="")
    write_statements(bundled_statements()[:1], out)
    header, line = out.getvalue().splitlines()
    assert header == ",".join(EXPORT_COLUMNS)
    assert header.startswith("id,pair,statement,answer,category,topic,harm,urgency,source,review")
    assert header.endswith("quad,split,fact")
    assert line.endswith((",train,triage-001", ",test,triage-001"))
