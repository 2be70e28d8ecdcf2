import ast
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

import medx_core.evaluation.report
import web
from medx_core.categories import Category, Route, RouteSource
from medx_core.clock import utc_now
from medx_core.data.emergency_lines import EMERGENCY_LINE, ENGLISH_ONLY, TRANSLATIONS
from medx_core.jobs.snapshots import ArmChanges, ItemSnapshot, JobSnapshot, Progress, StoredAnswer
from medx_core.jobs.status import ItemStatus, JobKind, JobStatus
from medx_core.questions import Answer, Arm, Mode, Verdict
from medx_core.review import BlindedAnswer
from medx_core.storage.evidence import KnownEvidence
from web import wording
from web.following import QuestionView
from web.rendering import note, render
from web.tabs import ask
from web.tabs.batch import JobFigures, job_html, rows_html

BOTH = (Arm.STEERED, Arm.UNSTEERED)
ANSWER = Answer(
    Arm.STEERED, "tiny", "ab" * 32, "p1", 0.2, Verdict.TRUE, Verdict.TRUE, 0.8, vector="triage v1"
)
EVIDENCE = "This recipe has not been evaluated."
REFUSED = "The model m gives no verdicts here. A row differs."


def question_html(shown: QuestionView) -> str:
    return ask.question_html(shown, KnownEvidence(EVIDENCE))


def item(*answers: Answer, route: Route | None = None, **given) -> ItemSnapshot:
    stored = tuple(StoredAnswer(f"a{at}", answer, utc_now()) for at, answer in enumerate(answers))
    values = {"id": 1, "row": 1, "given_id": "", "text": "A question.", "status": ItemStatus.ANSWERED} | given
    return ItemSnapshot(**values, route=route, answers=stored)


def view(shown: ItemSnapshot, **given) -> QuestionView:
    job = JobSnapshot(
        "job",
        JobKind.QUESTION,
        JobStatus.DONE,
        Mode.VERDICT,
        BOTH,
        "title",
        Progress(1, answered=1),
        utc_now(),
    )
    return QuestionView(job, shown, **given)


@pytest.mark.parametrize("route", [Route(Category.TRIAGE), Route(Category.LITERATURE, red_flag=True)])
def test_the_emergency_line_stands_once_above_the_answers_of_both_arms(route):
    html = question_html(
        view(item(ANSWER, replace(ANSWER, arm=Arm.UNSTEERED), route=route, text="May I wait?"))
    )
    assert html.index(EMERGENCY_LINE) < html.index("medx-card")
    assert html.count(EMERGENCY_LINE) == 1
    assert EMERGENCY_LINE in rows_html([item(ANSWER, route=route, text="May I wait?")], BOTH)


def test_the_emergency_line_stands_beside_text_that_is_still_written_and_stays_when_it_is_cancelled():
    partial = {"steered": "Call ", "unsteered": "Sit "}
    for status in (ItemStatus.RUNNING, ItemStatus.CANCELLED):
        asked = item(route=Route(Category.TRIAGE), status=status, text="May I wait?")
        html = question_html(view(asked, partial=partial))
        assert html.count(EMERGENCY_LINE) == 1
        assert "Category: triage" in html


def test_text_that_was_cancelled_is_written_no_more_and_says_so():
    partial = {"steered": "Call "}
    html = question_html(view(item(status=ItemStatus.CANCELLED), partial=partial))
    assert "writing" not in html
    assert html.count("Cancelled while it was written.") == 2
    running = question_html(view(item(status=ItemStatus.RUNNING), partial=partial))
    assert 'class="medx-text writing"' in running
    stored = replace(ANSWER, verdict=None, score=None, text="Call ", finish="cancelled")
    kept = question_html(view(item(stored, status=ItemStatus.CANCELLED)))
    assert "Cancelled here; the text so far is kept." in kept


@pytest.mark.parametrize("category", [Category.LITERATURE, Category.TRIAGE])
def test_a_calm_general_statement_carries_no_emergency_line(category):
    statement = item(ANSWER, route=Route(category), text="A sprained ankle needs no radiograph.")
    assert EMERGENCY_LINE not in question_html(view(statement))


def test_a_text_that_no_category_was_decided_for_carries_the_line_when_it_is_flagged():
    html = question_html(view(item(ANSWER, route=Route(None, red_flag=True))))
    assert html.count(EMERGENCY_LINE) == 1
    assert wording.NO_CATEGORY in html


def test_a_text_in_another_language_says_what_is_read_and_carries_the_line_in_that_language():
    text = "Mi padre tiene la boca torcida y no puede levantar el brazo desde hace una hora"
    html = question_html(view(item(text=text, status=ItemStatus.RUNNING)))
    assert html.count(ENGLISH_ONLY) == html.count(TRANSLATIONS["es"]) == html.count(EMERGENCY_LINE) == 1


def test_a_score_is_called_a_probability_only_where_the_calibration_of_its_recipe_makes_it_one():
    assert "score for TRUE (uncalibrated)" in question_html(view(item(ANSWER)))
    calibrated = question_html(view(item(replace(ANSWER, probability=0.625))))
    assert "probability of TRUE" in calibrated
    assert "uncalibrated" not in calibrated


def test_an_uncertain_verdict_names_the_side_it_leans_to():
    html = question_html(
        view(item(replace(ANSWER, verdict=Verdict.UNCERTAIN, raw_verdict=Verdict.FALSE, score=0.48)))
    )
    assert "Uncertain" in html
    assert "Leans FALSE" in html


def test_an_abstained_route_says_so_and_shows_why_steering_was_left_out():
    unsteered = replace(ANSWER, vector=None, note="No category was decided, so nothing was added.")
    html = question_html(view(item(unsteered, route=Route(None, dict.fromkeys(Category, 1 / 3)))))
    assert wording.NO_CATEGORY in html
    assert unsteered.note in html


def test_what_a_recipe_is_worth_is_said_below_its_answer_whether_it_steered_or_not():
    assert EVIDENCE in question_html(view(item(ANSWER)))
    assert EVIDENCE in question_html(view(item(replace(ANSWER, vector=None))))
    assert EVIDENCE not in question_html(view(item(replace(ANSWER, arm=Arm.UNSTEERED, vector=None))))
    assert EVIDENCE not in question_html(view(item(status=ItemStatus.QUEUED)))


@pytest.mark.parametrize("text", ["", " \n "])
def test_a_blank_written_answer_is_said_to_be_blank_wherever_it_is_shown(text):
    written = replace(ANSWER, verdict=None, raw_verdict=None, score=None, text=text)
    blinded = BlindedAnswer("a", "A question.", Mode.TEXT, None, text, None)
    for html in (
        question_html(view(item(written))),
        rows_html([item(written)], BOTH),
        render("blinded_answer.html", answer=blinded),
    ):
        assert wording.WROTE_NOTHING in html


def test_while_no_worker_is_ready_a_job_promises_no_time():
    now = utc_now()
    job = JobSnapshot(
        "j", JobKind.BATCH, JobStatus.RUNNING, Mode.VERDICT, BOTH, "f.csv",
        Progress(100, answered=50, queued=50), now - timedelta(seconds=60), started_at=now - timedelta(seconds=50),
    )  # fmt: skip
    assert " left" in job_html(job, JobFigures(), now)
    away = job_html(job, JobFigures(), now, worker="")
    assert wording.WORKER_AWAY_BATCH in away
    assert REFUSED in job_html(job, JobFigures(), now, worker="", refused=REFUSED)
    loading = job_html(job, JobFigures(), now, worker="loading")
    assert wording.WORKER_LOADING_BATCH in loading
    assert " left" not in away + loading


def test_a_category_that_the_user_chose_is_said_to_be_so():
    html = question_html(view(item(ANSWER, route=Route(Category.TRIAGE, source=RouteSource.USER))))
    assert "Category: triage, your choice" in html


def test_a_question_that_failed_says_why_and_what_to_do():
    html = question_html(view(item(status=ItemStatus.QUARANTINED, reason="It is too long.")))
    assert "It is too long. Ask in other words" in html


@pytest.mark.parametrize(
    ("ahead", "worker", "words"),
    [
        (0, "ready", "Waiting for the model"),
        (1, "ready", "1 question ahead"),
        (7, "ready", "7 questions ahead"),
        (3, "loading", wording.WORKER_LOADING),
        (3, "", "No worker"),
    ],
)
def test_a_waiting_question_says_where_it_stands(ahead, worker, words):
    html = question_html(view(item(status=ItemStatus.QUEUED), ahead=ahead, worker=worker))
    assert words in html


def test_a_question_that_no_model_can_answer_says_what_is_wrong_with_the_model():
    html = question_html(view(item(status=ItemStatus.QUEUED), ahead=0, worker="", refused=REFUSED))
    assert f"Nothing is answered now: {REFUSED} Your question is stored" in html


@given(st.text())
def test_text_of_others_opens_no_tag_and_no_placeholder(text):
    shown = note(text).removeprefix('<p class="medx-note">').removesuffix("</p>")
    assert not set("<>\"'@") & set(shown)


@pytest.mark.parametrize("package", [web, medx_core.evaluation.report], ids=lambda package: package.__name__)
def test_html_comes_from_templates_alone(package: ModuleType):
    written = [
        f"{path}:{node.lineno}"
        for path in Path(package.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.search(r"</?[a-z][a-z0-9]*[ >]", node.value)
    ]
    assert written == []


def test_a_template_whose_value_is_missing_is_an_error_not_an_empty_page():
    with pytest.raises(UndefinedError):
        render("people.html")


def test_model_text_is_shown_as_text():
    hostile = "<img src=x onerror=alert(1)> **bold** ${1+1} {{value}}"
    shown = question_html(view(item(replace(ANSWER, verdict=None, score=None, text=hostile), text=hostile)))
    assert "<img" not in shown
    assert shown.count("&lt;img src=x onerror=alert(1)&gt; **bold** ${1+1} {{value}}") == 2


def test_a_cancelled_job_says_so_and_counts_what_became_of_its_rows():
    progress = Progress(10, answered=6, quarantined=1, cancelled=3)
    job = JobSnapshot(
        "j", JobKind.BATCH, JobStatus.CANCELLED, Mode.VERDICT, BOTH, "f.csv", progress, utc_now()
    )
    html = job_html(job, JobFigures(), utc_now())
    assert "10 of 10" in html
    assert "answered 6 · failed 1 · cancelled 3" in html
    assert "Accuracy" not in html


def test_what_steering_mends_and_breaks_is_shown_in_all_and_by_harm():
    job = JobSnapshot(
        "j", JobKind.BATCH, JobStatus.DONE, Mode.VERDICT, BOTH, "f.csv", Progress(9, answered=9), utc_now()
    )
    assert "mended" not in job_html(job, JobFigures(), utc_now())
    changes = (ArmChanges("", 4, helped=0, harmed=1), ArmChanges("severe", 5, helped=3, harmed=1))
    shown = " ".join(re.sub(r"<[^>]+>", " ", job_html(job, JobFigures(changes=changes), utc_now())).split())
    assert "3 wrong answers mended, 2 right answers broken (exact McNemar p 1.000) of 9" in shown
    assert "harm severe 3 / 1 of 5" in shown
