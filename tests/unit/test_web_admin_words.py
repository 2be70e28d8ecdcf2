"""What the admin page says of processes and of what becomes of vectors."""

from dataclasses import replace

import pytest

from medx_core.categories import Category
from medx_core.clock import utc_now
from medx_core.errors import BadInput
from medx_core.evaluation.request import EvaluationRequest
from medx_core.storage.health import ProcessHealth
from medx_core.storage.vectors import VectorRecord, VectorStatus
from tests.evaluation_results import finished_run, synthetic_result
from tests.web_site import prepared_services, site_settings
from web import wording
from web.tabs.admin import health_html
from web.tabs.vectors import PROMOTE, RETIRE, ROLL_BACK, confirm_html, consequence, vectors_html
from web.wording import process_state

READY = {
    "ready": True,
    "stage": "ready",
    "answered": 1234,
    "model_name": "smollm2-135m",
    "weight_sha256": "b179c952" * 8,
    "device": "cpu, float32",
}
FIRST = VectorRecord("tiny", "ab" * 32, Category.TRIAGE, 2, 1.0, "v", "f", name="triage v1", id=1)
ACTIVE = replace(FIRST, status=VectorStatus.ACTIVE)
SECOND = replace(FIRST, name="triage v2", id=2)


def process(kind: str = "worker", seconds: float = 1.0, **detail) -> ProcessHealth:
    return ProcessHealth("name", kind, detail, utc_now(), utc_now(), seconds)


@pytest.mark.parametrize(
    ("process", "words"),
    [
        (
            process(**READY),
            "ready · smollm2-135m on cpu, float32 · 1,234 questions answered since it started · weights b179c952",
        ),
        (
            process(ready=False, stage="loading", answered=0),
            "loading its model; questions wait until it is ready · 0 questions answered since it started",
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


def test_every_action_says_what_it_would_do():
    assert consequence(PROMOTE, SECOND, present=ACTIVE, before=None) == (
        "Use triage v2 for triage questions on tiny, in place of triage v1?"
    )
    assert "where none is in use" in consequence(PROMOTE, FIRST, present=None, before=None)
    assert consequence(RETIRE, SECOND, present=ACTIVE, before=None) == "Retire triage v2?"
    assert "are answered unsteered" in consequence(RETIRE, ACTIVE, present=ACTIVE, before=None)
    assert consequence(ROLL_BACK, ACTIVE, present=ACTIVE, before=SECOND) == (
        "Roll back from triage v1 to triage v2 for triage questions on tiny?"
    )


@pytest.mark.parametrize(
    ("action", "vector"),
    [
        (PROMOTE, ACTIVE),
        (RETIRE, replace(FIRST, status=VectorStatus.RETIRED)),
        (ROLL_BACK, ACTIVE),
        ("?", FIRST),
    ],
)
def test_an_action_that_would_do_nothing_is_refused(action, vector):
    with pytest.raises(BadInput):
        consequence(action, vector, present=ACTIVE, before=None)


def test_a_vector_too_small_to_matter_is_said_to_be_so(tmp_path):
    evidence = prepared_services(site_settings(tmp_path / "home")).evidence
    small, large = (replace(FIRST, diagnostics={"relative_norm": share}) for share in (0.002, 0.2))
    assert "too small" in confirm_html("?", small, evidence)
    assert "too small" not in confirm_html("?", large, evidence)
    assert "not evaluated" in confirm_html("?", large, evidence)


def test_before_a_vector_is_put_to_use_its_gain_and_its_warnings_are_said(tmp_path):
    evidence = prepared_services(site_settings(tmp_path / "home")).evidence
    gain = {"value": -0.02, "low": -0.05, "high": 0.01, "n": 90}
    poor = replace(FIRST, diagnostics={"validation_gain": gain, "halves_cosine": 0.1})
    html = confirm_html("Use it?", poor, evidence)
    assert "failure signature of poor contrast pairs or a wrong layer" in html
    assert "Two halves of the data give unlike directions" in html
    assert "Not evaluated on held-out statements" in confirm_html("Use it?", FIRST, evidence)


def test_a_gated_shift_is_not_made_larger_than_it_was_measured(tmp_path):
    """`relative_norm` is measured after the shift, with its strength in it."""
    evidence = prepared_services(site_settings(tmp_path / "home")).evidence
    gated = replace(FIRST, strategy="gated", alpha=8.0, diagnostics={"relative_norm": 0.004})
    html = confirm_html("?", gated, evidence)
    assert "moves states by 0.4 % of the residual stream" in html
    assert "too small" in html


def test_the_table_of_vectors_gives_the_verdict_and_leaves_the_rest_to_the_evaluation(tmp_path):
    services = prepared_services(site_settings(tmp_path / "home"))
    chosen = synthetic_result()["choices"]
    gated = replace(FIRST, strategy="gated", layer=chosen["layer"], alpha=chosen["strength"])
    result = synthetic_result() | {"model_sha256": FIRST.model_sha256}
    run = finished_run(services.runs, EvaluationRequest("x.csv"), result)
    html = vectors_html([gated], services.evidence, tmp_path)
    assert "is not shown to help (+15.7 points" in html
    assert "does not beat" not in html
    assert f"run={run.public_id}" in html
