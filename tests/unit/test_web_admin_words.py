"""What the admin page says of processes and of what becomes of recipes."""

from dataclasses import replace

import pytest

from medx_core.categories import Category
from medx_core.clock import utc_now
from medx_core.errors import BadInput
from medx_core.evaluation.request import EvaluationRequest
from medx_core.jobs.snapshots import ItemSnapshot
from medx_core.jobs.status import ItemStatus
from medx_core.model_check import Can, Check, ModelCheck
from medx_core.storage.health import ProcessHealth, QuarantinedItem
from medx_core.storage.recipes import RecipeRecord, RecipeStatus
from medx_core.storage.vectors import VectorRecord
from tests.evaluation_results import finished_run, synthetic_result
from tests.recipes import IDENTITY, recipe
from tests.web_site import prepared_services, site_settings
from web import wording
from web.tabs.admin import failed_questions_html, health_html
from web.tabs.recipes import PROMOTE, RETIRE, ROLL_BACK, confirm_html, consequence, recipes_html
from web.wording import process_state

READY = {
    "ready": True,
    "stage": "ready",
    "answered": 1234,
    "model_name": "smollm2-135m",
    "weight_sha256": "b179c952" * 8,
    "device": "cpu, float32",
    "recipe": "0123456789ab",
    "recipe_name": "paper",
}
VECTOR = VectorRecord("tiny", "ab" * 32, Category.TRIAGE, 2, 1.0, "v", "f")
FIRST = RecipeRecord(recipe(threshold=1.0), "first", "tiny")
IN_USE = replace(FIRST, status=RecipeStatus.IN_USE)
SECOND = RecipeRecord(recipe(threshold=2.0), "second", "tiny")


def process(kind: str = "worker", seconds: float = 1.0, **detail) -> ProcessHealth:
    return ProcessHealth("name", kind, detail, utc_now(), utc_now(), seconds)


@pytest.mark.parametrize(
    ("process", "words"),
    [
        (
            process(**READY),
            "ready · smollm2-135m on cpu, float32 · recipe paper (0123456789ab) · 1,234 questions answered since it started · weights b179c952, verified by their content when it started",
        ),
        (
            process(ready=False, stage="loading", answered=0),
            "loading its model; questions wait until it is ready · 0 questions answered since it started",
        ),
        (
            process(seconds=99.0, stage="refused", refused="The folder x holds an adapter."),
            "its model cannot be used, so it ended: The folder x holds an adapter.",
        ),
        (process("web", address="127.0.0.1:7860"), "serving on 127.0.0.1:7860"),
        (process(seconds=16.0, **READY), "not seen lately; it was ended, or cannot reach the database"),
    ],
)
def test_a_process_is_described_in_words(process, words):
    assert process_state(process, seen_limit=15.0) == words


def test_health_without_a_worker_says_how_to_start_one_and_that_limits_are_counted_per_process(tmp_path):
    services = prepared_services(site_settings(tmp_path / "home"))
    services.health.beat("page", "web", {})
    html = health_html(services)
    assert "No worker has been seen yet" in html
    assert "medx-health bad" in html
    assert "Nothing is waiting." in html
    assert wording.LIMITS_PER_PROCESS in html


def test_health_shows_how_the_model_of_a_worker_was_checked_and_why_another_was_refused(tmp_path):
    services = prepared_services(site_settings(tmp_path / "home"))
    steering = Check(name="steering", ok=False, detail="It cannot be steered.")
    check = ModelCheck(model="tiny", checks=(steering,), can=Can(steer=False), placement="cpu float32")
    services.health.beat("w1", "worker", {**READY, "check": check.model_dump(mode="json")})
    services.health.beat("host (ended)", "worker", {"stage": "refused", "refused": "It was cut off."})
    html = health_html(services)
    assert "The model tiny on cpu float32 was checked, and not everything works" in html
    assert "It cannot be steered." in html
    assert "its model cannot be used, so it ended: It was cut off." in html
    assert [worker.name for worker in services.live_workers()] == ["w1"]
    assert services.refusal() == "", "another worker answers"
    services.health.leave("w1")
    assert services.refusal() == "It was cut off."


def test_every_action_says_what_it_would_do():
    place = "tiny in float32"
    assert consequence(PROMOTE, SECOND, present=IN_USE, before=None) == (
        f"Answer by second ({SECOND.id}) on {place}, in place of first ({FIRST.id})?"
    )
    assert "in place of the built-in recipe" in consequence(PROMOTE, FIRST, present=None, before=None)
    assert consequence(RETIRE, SECOND, present=IN_USE, before=None) == f"Retire second ({SECOND.id})?"
    assert "Then the built-in recipe answers" in consequence(RETIRE, IN_USE, present=IN_USE, before=None)
    assert consequence(ROLL_BACK, IN_USE, present=IN_USE, before=SECOND) == (
        f"Roll back from first ({FIRST.id}) to second ({SECOND.id}) on {place}?"
    )
    assert "to the built-in recipe on" in consequence(ROLL_BACK, IN_USE, present=IN_USE, before=None)
    withdrawn = replace(SECOND, status=RecipeStatus.WITHDRAWN)
    assert ", which was withdrawn, on" in consequence(PROMOTE, withdrawn, present=IN_USE, before=None)


@pytest.mark.parametrize(
    ("action", "record", "present"),
    [
        (PROMOTE, IN_USE, IN_USE),
        (RETIRE, replace(FIRST, status=RecipeStatus.WITHDRAWN), IN_USE),
        (RETIRE, replace(FIRST, status=RecipeStatus.BUILT_IN), None),
        (ROLL_BACK, FIRST, None),
        ("?", FIRST, IN_USE),
    ],
)
def test_an_action_that_would_do_nothing_is_refused(action, record, present):
    with pytest.raises(BadInput):
        consequence(action, record, present=present, before=None)


@pytest.fixture
def services(tmp_path):
    made = prepared_services(site_settings(tmp_path / "home"))
    yield made
    made.database.close()


def confirmed(services, **diagnostics):
    """What is said before a recipe with a vector of these figures is promoted."""
    vector = services.vectors.register(replace(VECTOR, diagnostics=diagnostics))
    record = RecipeRecord(recipe(steering={"triage": vector.steering}), "mine", "tiny")
    return confirm_html(services, "Use it?", record)


def test_before_a_recipe_is_put_to_use_the_gain_and_the_warnings_of_its_vectors_are_said(services):
    gain = {"value": -0.02, "low": -0.05, "high": 0.01, "n": 90}
    html = confirmed(services, validation_gain=gain, halves_cosine=0.1, relative_norm=0.004)
    assert "How well this recipe answers: not evaluated." in html
    assert "failure signature of poor contrast pairs or a wrong layer" in html
    assert "Two halves of the data give unlike directions" in html
    assert "moves states by 0.4 % of the residual stream" in html
    assert "too small" in html


def test_a_large_vector_is_not_called_too_small(services):
    html = confirmed(services, relative_norm=0.2)
    assert "too small" not in html
    assert "Not evaluated on held-out statements" in html


def test_the_table_of_recipes_gives_the_verdict_and_leaves_the_rest_to_the_evaluation(services):
    measured = {"model_sha256": IDENTITY.sha256, "recipes": {FIRST.id: "gated"}}
    run = finished_run(services.runs, EvaluationRequest("x.csv"), synthetic_result() | measured)
    html = recipes_html(services, [FIRST])
    assert "is not shown to help (+15.7 points" in html
    assert "does not beat" not in html
    assert "False statements accepted: " in html
    assert f"run={run.public_id}" in html


def test_the_table_of_recipes_says_by_what_two_differ_and_gives_a_model_one_name(services):
    calibration = {"kind": "isotonic", "n": 90, "knots": [{"score": 0.0, "probability": 0.3}]}
    rule = {"max_error": 0.2, "promised": False, "reason": "too few", "n": 90}
    plain = services.recipes.keep(recipe(threshold=0.4), name="plain", model="base")
    other = services.recipes.keep(
        recipe(max_dose=0.01, calibration=calibration, abstention=rule), name="other", model="/somewhere/base"
    )
    assert (plain.model, other.model) == ("base", "base")
    html = recipes_html(services, [plain, other])
    assert "TRUE from a logit difference of 0.4 on, not calibrated, no promise, " in html
    assert (
        "calibrated (isotonic, not called a probability), cannot promise at most 20 % wrong, max_dose 0.01"
        in html
    )


def test_failed_questions_are_folded_and_counted_by_reason_whatever_figures_it_names():
    reasons = ["The dose is 1.08.", "The dose is 2.", "It is too long."]
    items = [
        ItemSnapshot(number, number, "", "?", ItemStatus.QUARANTINED, reason, 1)
        for number, reason in enumerate(reasons, start=1)
    ]
    html = failed_questions_html([QuarantinedItem("j", "f.csv", item) for item in items])
    assert html.count("<details") == 2
    assert "<strong>2 questions</strong>: for example, The dose is 1.08." in html
    assert "open" not in html.split("<summary>")[0]
    assert "No question failed." in failed_questions_html([])
