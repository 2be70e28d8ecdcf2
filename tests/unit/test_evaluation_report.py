"""The report of an evaluation: complete, closed in itself, safe with what users wrote, right about what is missing."""

import json
import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medx_core.cli.evaluate import _print_table
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.evaluation.arms import ArmScores, ControlDraws, TestItems
from medx_core.evaluation.number_format import percent, plain, points, signed
from medx_core.evaluation.report.charts import Scale
from medx_core.evaluation.report.page import TEMPLATES, report_html, results_section, write_report
from medx_core.evaluation.result import read_result
from medx_core.evaluation.sentences import promise_in_words
from tests.evaluation_results import STRANGE, TWINS, bare_result, synthetic_result
from tests.evaluation_scores import figures
from tests.small_evaluation import small_evaluation

VOID = {"meta", "br", "hr", "img", "input", "link"}
LOADS = {"src", "href", "srcset", "action", "data", "poster", "xlink:href"}
NOT_PRINTED = {  # read off a curve; the schema of the file; figures beside the map; what only the CSV and the JSON give
    "risk_coverage", "schema_version", "sweep", "fitted_on",
}  # fmt: skip
NUMBER = re.compile(r"(?<![\w.])(?:−|< )?\d[\d.,]*(?:e-?\d+)?")


class Reader(HTMLParser):
    """Reads a page strictly: every element closed, in order; keeps texts, attributes and tables."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.texts: list[str] = []
        self.faults: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split()).replace("\u202f", " ")


def page_of(result: dict[str, Any]) -> str:
    return report_html(read_result(result))


@pytest.fixture(scope="module")
def page() -> str:
    return page_of(synthetic_result())


def test_the_page_is_well_formed_and_its_ids_are_unique(page):
    read = Reader(page)
    ids = [value for _, name, value in read.attributes if name == "id"]
    assert (read.faults, read.open) == ([], [])
    assert len(ids) == len(set(ids)) > 5
    named = {value for _, name, value in read.attributes if name == "aria-labelledby"}
    assert named <= set(ids)


def test_the_page_asks_for_nothing_and_runs_nothing(page):
    read = Reader(page)
    tags = {tag for tag, _, _ in read.attributes}
    assert [
        attribute for attribute in read.attributes if attribute[1] in LOADS or attribute[1].startswith("on")
    ] == []
    assert tags.isdisjoint({"script", "iframe", "object", "embed", "link", "img", "base", "form"})
    for word in ("http:", "https:", "url(", "@import", "//"):
        assert word not in page


def test_the_conclusion_comes_first_and_research_use_is_said_at_both_ends(page):
    text = Reader(page).text
    places = [
        text.index(passage)
        for passage in (
            synthetic_result()["conclusion"], "invented_statements.csv", "What changed against", "Where wording gives nothing",
            "All arms", "Layers and strengths", "certainty can be trusted", "helped and harmed", "How this was made",
        )
    ]  # fmt: skip
    assert places == sorted(places)
    assert text.count("Research use only - not for patient care") == 2


def test_every_number_of_the_result_is_written_somewhere(page):
    written = {number.rstrip(".,") for number in NUMBER.findall(Reader(page).text)}
    missing = [
        (path, value)
        for path, value in _numbers(synthetic_result(), ())
        if written.isdisjoint(_spellings(value))
    ]
    assert missing == []


def test_false_acceptance_and_the_wording_free_figure_stand_beside_accuracy(page):
    heads = page[page.index('id="mx-report-arms"') :]
    order = [heads.index(f">{title}<") for title in ("False accepted", "Accuracy", "Wording-free", "AUROC")]
    assert order == sorted(order)


def test_statements_are_shown_as_they_were_written_and_never_as_markup(page):
    assert STRANGE in Reader(page).text
    assert "<script" not in page
    assert "<b>femoral" not in page


@given(wild=st.text(max_size=60), key=st.text(min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_whatever_names_and_texts_hold_the_page_stays_well_formed(wild, key):
    result = bare_result()
    result |= {"model": wild, "conclusion": wild, "notes": {key: 1}, "data": wild}
    example = {"row": 1, "statement": wild, "answer": True, "unsteered_score": -1.0, "score": 1.0}
    result["arms"] = synthetic_result()["arms"] | {
        key: result["arms"]["gated"] | {"reasons": {"auroc": wild}}
    }
    result["arms"]["gated"]["vs_unsteered"]["examples"]["helped"] = [example]
    result["judged"]["failed_controls"] = [wild]
    read = Reader(page_of(result))
    assert (read.faults, read.open) == ([], [])
    assert {tag for tag, _, _ in read.attributes}.isdisjoint({"script", "iframe", "img"})


def test_a_result_with_little_in_it_says_what_is_missing():
    text = Reader(page_of(bare_result())).text
    assert "no wording-free part (there are no twins), so wording cannot be ruled out" in text
    assert "AUROC is not given for Gated: every score is the same." in text
    assert "AUROC is not given for Unsteered: no reason was recorded." in text
    assert "no sweep over layers and strengths" in text
    assert "Calibration was not measured." in text
    assert "No examples were kept." in text
    assert "Open: wording cannot be ruled out" in text


def test_a_part_that_is_not_valid_is_called_so_wherever_it_is_shown():
    result = synthetic_result()
    result["failed_controls"] = result["judged"]["failed_controls"] = ["gated_shuffled"]
    part = {
        **TWINS,
        "kind": "matched",
        "n": 210,
        "valid": False,
        "reason": "only 937 rows lie outside the test set",
    }
    result["matched"] = part
    for arm in result["arms"].values():
        arm["matched"] = {**arm["matched"], **part}
    text = Reader(page_of(result)).text
    assert "Not valid, so wording cannot be ruled out." in text
    assert "Only 937 rows lie outside the test set." in text
    assert "not valid: accuracy on matched items" in text
    assert text.count("not counted") == 1


def test_the_figures_of_the_evaluation_itself_are_read(tmp_path):
    result = synthetic_result() | {"n_test": 240} | _figures()
    text = Reader(page_of(result)).text
    assert result["conclusion"] in text
    assert "No wording" not in text
    assert "120 pairs of twins" in text
    gated = result["arms"]["gated"]
    assert percent(gated["safety_error_rate"]["false_acceptance"]["value"]).replace("\u202f", " ") in text
    assert points(gated["matched"]["vs_unsteered"]["accuracy_difference"]["value"]) in text
    draws = result["arms"]["gated_random"]["vs_unsteered"]["balanced_accuracy_difference"]["draws"]
    assert f"20 random draws: {points(min(draws))} to {points(max(draws))}" in text


def test_confidences_promises_and_changes_of_a_real_evaluation_are_told():
    result = small_evaluation().result
    text = Reader(report_html(result)).text
    gated, calibration = result.arm("gated"), result.choices.calibrations["gated"]
    assert gated is not None
    assert gated.vs_unsteered is not None
    assert f"{gated.vs_unsteered.helped} / {gated.vs_unsteered.harmed}" in text
    assert "Harm severe" in text
    assert "Two confidences" in text
    assert f"Gated: {calibration.kind} map, fitted on {calibration.n} training statements." in text
    kept, broken = (result.choices.abstention_rules[arm] for arm in ("gated", "unsteered"))
    assert kept.promised  # none of forty is wrong, which chance alone would do in 1.5 % where one in ten is
    assert "With 95.0 % confidence at most 10.0 % of the answers it trusts are wrong." in text
    assert not broken.promised
    assert (
        "cannot promise for this model on these statements that at most 10.0 % of the answers it trusts are wrong, "
        f"so no answer is marked as trusted: {broken.reason}."
    ) in text


def test_the_closing_lines_of_an_evaluation_speak_of_the_arm_that_was_saved(capsys):
    result = small_evaluation().result
    _print_table(result.model_copy(update={"recipes": {"0123456789ab": "unsteered"}}))
    told = capsys.readouterr().out
    assert f"unsteered: {promise_in_words(result.choices.abstention_rules['unsteered'])}" in told
    assert promise_in_words(result.choices.abstention_rules["gated"]) not in told
    _print_table(result)
    assert f"gated: {promise_in_words(result.choices.abstention_rules['gated'])}" in capsys.readouterr().out


def test_the_folder_holds_the_page_and_the_json_it_was_made_from(tmp_path):
    result = read_result(synthetic_result())
    written = write_report(result, tmp_path / "new" / "report")
    assert written.read_text(encoding="utf-8") == report_html(result)
    assert read_result(json.loads((written.parent / "result.json").read_text(encoding="utf-8"))) == result


def test_the_section_alone_can_stand_inside_another_page():
    read = Reader(results_section(read_result(synthetic_result())))
    assert (read.faults, read.open) == ([], [])
    classes = {
        css_class
        for _, name, value in read.attributes
        if name == "class"
        for css_class in (value or "").split()
    }
    assert {css_class for css_class in classes if not css_class.startswith("mx-report")} == set()
    assert {tag for tag, _, _ in read.attributes}.isdisjoint({"html", "head", "body", "style"})


def test_every_class_that_is_used_for_drawing_has_a_style():
    drawn = {
        css_class
        for tag, name, value in Reader(results_section(read_result(synthetic_result()))).attributes
        if tag in {"rect", "circle", "line", "polyline"} and name == "class"
        for css_class in (value or "").split()
    }
    plain_marks = {"mx-report-plain"}  # drawn as the rule without a tone says
    known = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    assert {css_class for css_class in drawn - plain_marks if f".{css_class}" not in known} == set()


@given(low=st.floats(-1e3, 1e3), span=st.floats(1e-6, 1e3), wanted=st.integers(2, 10))
def test_ticks_are_round_evenly_spaced_and_inside(low, span, wanted):
    ticks = Scale(low, low + span, 0, 100).ticks(wanted)
    steps = np.diff(ticks)
    assert 1 <= len(ticks) <= wanted + 1
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in ticks)
    assert len(steps) == 0 or np.allclose(steps, steps[0], atol=1e-8 * max(1, abs(low), span))


def test_numbers_that_round_to_nothing_have_no_sign_and_a_minus_is_a_minus():
    assert [signed(0.04), signed(-0.04), signed(-0.06), plain(3.14)] == ["0.0", "0.0", "−0.1", "3.1"]


def _numbers(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], float]]:
    """All numbers of a JSON, but those a reader takes from a drawing."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in NOT_PRINTED and not (key == "draws" and "vs_unsteered" in path):
                yield from _numbers(inner, (*path, str(key)))
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value


def _spellings(value: float) -> set[str]:
    """The ways in which the page may write a number; a plus is left out."""
    written = {f"{value:,}", repr(value), f"{value:g}", plain(100 * value)}
    written |= {plain(value, digits) for digits in (1, 2, 3)}
    return written | ({"< 0.001"} if value < 0.001 else set())


def _figures() -> dict[str, Any]:
    random = np.random.default_rng(0)
    n = 240
    statements = [
        LabelledStatement(
            f"statement {at}", bool(at % 2), f"group {at // 2}", pair=f"pair {at // 2}", row=at,
            difficulty=str(at % 3), harm=("none", "moderate", "severe")[at % 3],
        )
        for at in range(n)
    ]  # fmt: skip
    items = TestItems(statements)

    def scores(signal: float, shift: float = 0.0) -> np.ndarray[Any, np.dtype[np.float64]]:
        return random.normal(size=n) + signal * (items.gold - 0.5) + shift

    names = {"unsteered": 0.2, "prompt_only": 0.3, "prior": 0.2, "gated": 2.0, "paper": 0.3, "lexical": 0.8}
    arms = [ArmScores(name, scores(signal), np.ones(n, dtype=bool)) for name, signal in names.items()]
    owners = {"random": "paper", "shuffled": "paper", "gated_random": "gated", "gated_shuffled": "gated"}
    controls = [
        ControlDraws(name, of, np.stack([scores(0.1, draw / 10 - 1) for draw in range(20)]))
        for name, of in owners.items()
    ]
    return figures(items, arms, controls)
