"""An evaluation to take away: the report as one HTML file, the arms as CSV, everything as JSON."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from medx_core.errors import NotFound
from medx_core.evaluation.report.arm_csv import arms_csv
from medx_core.evaluation.report.page import report_html
from medx_core.evaluation.result import read_result
from medx_core.storage.people import Person
from medx_core.storage.runs import Run
from web.services import Services
from web.session import PERSON_IN_SCOPE

NO_RESULT = "There is no finished evaluation under this address."

Written = Callable[[Mapping[str, Any]], str]


def finished_evaluation(services: Services, public_id: str) -> Run:
    """Return an evaluation with its result.

    Raises:
        NotFound: there is none, or it has not finished.
    """
    run = services.runs.get(public_id)
    if run.kind != "evaluation" or run.result is None:
        raise NotFound(NO_RESULT)
    return run


def _as_json(result: Mapping[str, Any]) -> str:
    return json.dumps(result, indent=2, ensure_ascii=False) + "\n"


FILES: dict[str, tuple[Written, str]] = {
    "report.html": (lambda result: report_html(read_result(result)), "text/html; charset=utf-8"),
    "result.json": (_as_json, "application/json"),
    "arms.csv": (lambda result: arms_csv(read_result(result)), "text/csv; charset=utf-8"),
}


def evaluation_routes(services: Services) -> APIRouter:
    """Return `/evaluations/ID/{report.html,result.json,arms.csv}`, for everybody who is signed in."""
    router = APIRouter()

    @router.get("/evaluations/{public_id}/{file}")
    def download(request: Request, public_id: str, file: str) -> Response:
        person: Person = request.scope[PERSON_IN_SCOPE]
        try:
            run = finished_evaluation(services, public_id)
            write, media_type = FILES[file]
        except (NotFound, KeyError):
            return JSONResponse({"detail": NO_RESULT}, status_code=404)
        services.audit.append(person.name, "download evaluation", f"run {public_id}", {"file": file})
        name = f'attachment; filename="medx-evaluation-{public_id[:8]}-{file}"'
        return Response(write(run.result or {}), media_type=media_type, headers={"content-disposition": name})

    return router
