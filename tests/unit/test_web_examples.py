from medx_core.categories import Category
from medx_core.data.bundled_texts import bundled_statements
from medx_core.questions import Mode
from web.tabs.ask import examples


def test_the_page_offers_one_example_per_category_in_both_forms_of_answer():
    assert [example.category for example in examples()] == list(Category)
    assert {example.mode for example in examples()} == set(Mode)


def test_no_example_is_a_statement_that_vectors_are_built_from():
    built_from = {statement.statement for statement in bundled_statements() if statement.split == "train"}
    assert not built_from & {example.text for example in examples()}


def test_no_example_is_a_false_twin():
    false = {statement.statement for statement in bundled_statements() if not statement.answer}
    assert not false & {example.text for example in examples()}
