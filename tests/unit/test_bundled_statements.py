"""The statements that come with MedX keep the promises that steering and evaluation are built on."""

import io
import re
from collections import Counter, defaultdict

from medx_core.categories import Category
from medx_core.data.bundled_statements import EXPORT_COLUMNS, bundled_statements, split_of, write_statements


def in_groups(name):
    groups = defaultdict(list)
    for statement in bundled_statements():
        groups[getattr(statement, name)].append(statement)
    return groups


def words(statements):
    return Counter(word for each in statements for word in re.findall(r"[\w'-]+", each.statement.lower()))


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
    assert all(counts[category] >= 60 for category in Category), counts
    assert all(each.source and each.harm and each.review and each.topic for each in bundled_statements())
    assert all(each.urgency for each in bundled_statements() if each.category is Category.TRIAGE)


def test_the_split_keeps_quads_whole_and_holds_about_seventy_to_thirty():
    for quad, statements in in_groups("quad").items():
        assert {each.split for each in statements} == {split_of(quad)}
    for category in Category:
        splits = Counter(each.split for each in bundled_statements() if each.category is category)
        assert 0.6 <= splits["train"] / splits.total() <= 0.8, category


def test_the_split_of_a_quad_never_moves():
    first = [split_of(f"triage-q{n:03}") for n in range(1, 9)]
    assert first == ["train", "test", "train", "test", "train", "train", "train", "train"]


def test_the_export_has_the_columns_of_the_contract():
    out = io.StringIO(newline="")
    write_statements(bundled_statements()[:1], out)
    header, line = out.getvalue().splitlines()
    assert header == ",".join(EXPORT_COLUMNS)
    assert header.startswith("id,pair,statement,answer,category,topic,harm,urgency,source,review")
    assert line.endswith((",train", ",test"))
