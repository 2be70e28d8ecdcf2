"""The API: endpoints for programs, called through gradio_client. All other events of the pages are private.

A program has a token of its own: made on the Account page or by `medx users token NAME`, for asking, for reading
results, or for rating; it ends on a day, and earlier when somebody ends it.

    headers = {"Authorization": f"Bearer {token}"}
    client = gradio_client.Client(f"{url}/app", headers=headers)
    client.predict("Aspirin is safe for a child with flu.", "verdict", "auto", "both", api_name="/ask")

Without a token: post `name` and `password` to `/login` and pass all its cookies on; that is a session like any other.
"""

import asyncio
from dataclasses import asdict
from typing import Any

import gradio as gr
from gradio.events import api

from medx_core.clock import iso
from medx_core.job_execution.evaluation_run import EVALUATION
from medx_core.jobs.snapshots import JobSnapshot
from medx_core.questions import Mode
from medx_core.review import form_from
from medx_core.storage.credentials import Scope
from medx_core.storage.people import Person, Role
from medx_core.storage.runs import Run, RunStatus
from web.downloads import finished_evaluation, written_results
from web.following import follow, visible_job
from web.handler_guard import guarded
from web.health_and_metrics import SUBMITTED
from web.services import Services
from web.submission import screened_upload, submit_file, submit_question
from web.tabs.batch import cancel_job, note_submitted, still_running
from web.tabs.review import keep_rating
from web.uploads import file_field

WAIT_SECONDS = 600.0


def build(services: Services) -> None:
    """Register the endpoints on the page that is being built."""
    _questions(services)
    _batches(services)
    _ratings(services)
    _evaluations(services)


def _questions(services: Services) -> None:
    @guarded(services, scope=Scope.ASK)
    async def ask(
        person: Person, question: str, mode: str = "verdict", category: str = "auto", arm: str = "both"
    ) -> dict[str, Any]:
        """Ask one question and wait for its answer, as `medx ask --json` shows it, with its job and status.

        What may identify a patient is masked before it is stored; `patient_data` names kinds and counts.
        Where no worker has a model and a recipe that can be used, it returns at once: the question is stored, and `waits_for`
        says why.

        mode: verdict or text. category: auto, triage, literature or patient-facing. arm: steered, unsteered or both.
        """
        job, screening = await asyncio.to_thread(
            submit_question, services, person, question, mode=mode, category=category, arm=arm
        )
        SUBMITTED.labels("question").inc()
        detail = {"mode": mode, "category": category, "arm": arm}
        await asyncio.to_thread(
            services.audit.append, person.name, "ask by program", f"job {job.public_id}", detail
        )
        state = await followed(services, job, person)
        return state | {"patient_data": screening.as_json()}

    api(ask, api_name="ask", concurrency_limit=None)


async def followed(services: Services, job: JobSnapshot, person: Person) -> dict[str, Any]:
    """Return a question once it is answered; at once where nobody will before an administrator has acted."""
    state: dict[str, Any] = {}
    async with asyncio.timeout(WAIT_SECONDS):
        async for view in follow(services, job.public_id, person):
            state = view.item.as_json(job) | {"model_line": await asyncio.to_thread(services.model_line)}
            if view.refused:
                return state | {"waits_for": view.refused}
    return state


def state_of(services: Services, job: JobSnapshot) -> dict[str, Any]:
    """Return where a job stands, the recipes that answered it, and what its unanswered rows wait for."""
    return job.as_json() | {
        "waits_for": services.refusal() if still_running(job) else "",
        "recipes": [asdict(count) for count in services.jobs.recipes(job.public_id)],
        "model_line": services.model_line(),
    }


def _batches(services: Services) -> None:
    @guarded(services, scope=Scope.ASK)
    def submit_batch(
        person: Person, file: str | None, mode: str = "verdict", category: str = "auto", arm: str = "both"
    ) -> str:
        """Submit a CSV, TSV or JSONL file; return the id of its job. What may identify a patient is masked in it first.

        `check_patient_data` says beforehand what that is.
        """
        job, screening = submit_file(services, person, file, mode=mode, category=category, arm=arm)
        note_submitted(services, person, job, by_program=True)
        if screening:
            gr.Info(screening.sentence())
        return job.public_id

    @guarded(services, scope=Scope.ASK)
    def check_patient_data(person: Person, file: str | None) -> dict[str, Any]:  # noqa: ARG001 - every guarded handler takes the person
        """Say what a file holds that may identify a patient, by kind and count; nothing is queued."""
        return screened_upload(services, file).as_json()

    @guarded(services, scope=Scope.READ)
    def job_status(person: Person, job: str) -> dict[str, Any]:
        """Return the state of a job: its status and how many rows are answered, quarantined, cancelled or waiting.

        `recipes` counts the rows by the recipe that answered them: several where the first could not answer any more.
        `waits_for` says why the worker's model or the recipe in use cannot be used, where unanswered rows wait for that.
        """
        return state_of(services, visible_job(services, job, person))

    @guarded(services, scope=Scope.ASK)
    def cancel(person: Person, job: str) -> dict[str, Any]:
        """Cancel what is not answered yet; what is finished stays."""
        cancel_job(services, person, job)
        return services.jobs.get(job).as_json()

    @guarded(services, scope=Scope.READ)
    def download_results(person: Person, job: str) -> str:
        """Return the results so far as a CSV file in the format of `medx batch`."""
        visible_job(services, job, person)
        services.audit.append(person.name, "download results", f"job {job}", {})
        return str(written_results(services, job, person))

    file = file_field(visible=False, label="file")
    job = gr.Textbox(visible=False, label="job")
    results = gr.File(visible=False, label="results")
    choices = [
        gr.Textbox("verdict", visible=False, label="mode"),
        gr.Textbox("auto", visible=False, label="category"),
        gr.Textbox("both", visible=False, label="arm"),
    ]
    hidden = gr.Button(visible=False)
    hidden.click(
        submit_batch,
        [file, *choices],
        [job],
        api_name="submit_batch",
        concurrency_limit=2,
        concurrency_id="files",
    )
    found = gr.JSON(visible=False, label="patient_data")
    hidden.click(
        check_patient_data,
        [file],
        [found],
        api_name="check_patient_data",
        concurrency_limit=2,
        concurrency_id="files",
    )
    hidden.click(download_results, [job], [results], api_name="download_results", concurrency_limit=4)
    api(job_status, api_name="job_status", concurrency_limit=16)
    api(cancel, api_name="cancel_job", concurrency_limit=8)


def _ratings(services: Services) -> None:
    @guarded(services, Role.CLINICIAN, scope=Scope.RATE)
    def next_answer_to_rate(person: Person) -> dict[str, Any]:
        """Return the next blinded answer with the `note` that `save_rating` needs; an empty object when none is left."""
        answer = services.ratings.next_to_rate(person.id)
        if answer is None:
            return {}
        return {
            "note": services.rating_tokens.issue(person.id, answer.answer_id),
            "answer": answer.answer_id,
            "question": answer.question,
            "mode": answer.mode.value,
            "verdict": answer.verdict.value if answer.verdict and answer.mode is Mode.VERDICT else None,
            "text": answer.text,
            "category": answer.category.value if answer.category else None,
            "asks_urgency": answer.is_triage,
        }

    @guarded(services, Role.CLINICIAN, scope=Scope.RATE)
    def save_rating(person: Person, note: str, form: dict[str, Any]) -> dict[str, Any]:
        """Save a rating; `form` holds the fields of rating form 1, `note` comes from `next_answer_to_rate`."""
        stored = keep_rating(services, person, note, "", form_from(form))
        return {"id": stored.public_id, "stored": True, "seconds": stored.seconds}

    @guarded(services, Role.CLINICIAN, scope=Scope.RATE)
    def my_ratings(person: Person, limit: int = 50) -> list[dict[str, Any]]:
        """Return your own ratings as stored, the newest first."""
        return [
            {
                "id": rating.public_id,
                "answer": rating.answer.answer_id,
                "form": rating.form.as_json(),
                "form_version": rating.form_version,
                "version": rating.version,
                "seconds": rating.seconds,
                "changed_at": iso(rating.changed_at),
            }
            for rating in services.ratings.of_rater(person.id, limit=max(1, min(500, limit)))
        ]

    api(next_answer_to_rate, api_name="next_answer_to_rate", concurrency_limit=8)
    api(save_rating, api_name="save_rating", concurrency_limit=8)
    api(my_ratings, api_name="my_ratings", concurrency_limit=8)


def _evaluations(services: Services) -> None:
    @guarded(services, scope=Scope.READ)
    def evaluations(person: Person, limit: int = 50) -> list[dict[str, Any]]:  # noqa: ARG001 - every guarded handler takes the person
        """Return the newest evaluations first: the state, settings and conclusion of each."""
        return [run_json(run) for run in services.runs.list(EVALUATION, limit=max(1, min(500, limit)))]

    @guarded(services, scope=Scope.READ)
    def evaluation_result(person: Person, run: str) -> dict[str, Any]:
        """Return everything a finished evaluation measured, as `medx evaluate --json` writes it."""
        evaluation = finished_evaluation(services, run)
        services.audit.append(person.name, "download evaluation", f"run {run}", {"file": "result.json"})
        return dict(evaluation.result or {})

    api(evaluations, api_name="evaluations", concurrency_limit=8)
    api(evaluation_result, api_name="evaluation_result", concurrency_limit=4)


def run_json(run: Run) -> dict[str, Any]:
    """Return the state, settings and summary of an evaluation."""
    shown = ("name", "preset", "sample", "split", "seed", "declared", "extra")
    return {
        "run": run.public_id,
        "status": run.status.value,
        "reason": run.reason,
        "created_at": iso(run.created_at),
        "finished_at": iso(run.finished_at),
        "requested_by": run.requested_by,
        "progress": asdict(run.progress) if run.progress else None,
        "settings": {key: run.settings[key] for key in shown if key in run.settings},
        "summary": asdict(run.summary) if run.status is RunStatus.DONE else {},
    }
