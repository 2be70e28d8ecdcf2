"""The endpoints by which programs read evaluations."""

from dataclasses import asdict
from typing import Any

from gradio.events import api

from medx_core.clock import iso
from medx_core.job_execution.evaluation_run import EVALUATION
from medx_core.storage.people import Person
from medx_core.storage.runs import Run, RunStatus
from web.evaluation_downloads import finished_evaluation
from web.handler_guard import guarded
from web.services import Services


def build_evaluation_programs(services: Services) -> None:
    """Register the endpoints on the page that is being built."""

    @guarded(services)
    def evaluations(person: Person, limit: int = 50) -> list[dict[str, Any]]:  # noqa: ARG001 - every guarded handler takes the person
        """Return the newest evaluations first: where each stands, what was set, and its sentence."""
        return [run_json(run) for run in services.runs.list(EVALUATION, limit=max(1, min(500, limit)))]

    @guarded(services)
    def evaluation_result(person: Person, run: str) -> dict[str, Any]:
        """Return everything a finished evaluation measured, as `medx evaluate --json` writes it."""
        found = finished_evaluation(services, run)
        services.audit.append(person.name, "download evaluation", f"run {run}", {"file": "result.json"})
        return dict(found.result or {})

    api(evaluations, api_name="evaluations", concurrency_limit=8)
    api(evaluation_result, api_name="evaluation_result", concurrency_limit=4)


def run_json(run: Run) -> dict[str, Any]:
    """Return where an evaluation stands."""
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
