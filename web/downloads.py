"""Files to download: the results of a job as far as they have come, the template of a batch, reports of evaluations."""

import json
import shutil
from pathlib import Path

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.background import BackgroundTask

from medx_core.data.result_files import template_csv, write_results
from medx_core.errors import MedxError, NotFound
from medx_core.evaluation.report.arm_csv import arms_csv
from medx_core.evaluation.report.page import report_html
from medx_core.evaluation.result import read_result
from medx_core.storage.credentials import Scope
from medx_core.storage.jobs import result_rows
from medx_core.storage.people import Person
from medx_core.storage.runs import Run
from web import wording
from web.following import visible_job
from web.services import Services
from web.session import PERSON_IN_SCOPE, may_use
from web.uploads import NoRoom

NO_RESULT = "There is no finished evaluation at this address."
EVALUATION_FILES = {
    "report.html": "text/html; charset=utf-8",
    "result.json": "application/json",
    "arms.csv": "text/csv; charset=utf-8",
}


def written_results(services: Services, public_id: str, person: Person) -> Path:
    """Write the results of a job so far into a new file of this person's own and return its path.

    Raises:
        NotFound: there is no such job.
        NoRoom: this person's files take all the room there is.
    """
    job = services.jobs.get(public_id)
    with services.uploads.new_folder(person) as incoming:
        path = incoming.folder / f"medx-{public_id[:8]}.csv"
        with path.open("w", encoding="utf-8", newline="") as out:
            write_results(
                result_rows(services.jobs.every_item(public_id), job.arms), job.carried_columns, out
            )
    return path


def finished_evaluation(services: Services, public_id: str) -> Run:
    """Return an evaluation with its result.

    Raises:
        NotFound: there is none, or it has not finished.
    """
    run = services.runs.get(public_id)
    if run.kind != "evaluation" or run.result is None:
        raise NotFound(NO_RESULT)
    return run


def evaluation_file(run: Run, file: str) -> str:
    """Return the text of one of `EVALUATION_FILES`; the JSON is what was stored.

    Raises:
        BadInput: the result was written by another version of MedX and cannot be read.
    """
    if file == "result.json":
        return json.dumps(run.result, indent=2, ensure_ascii=False) + "\n"
    result = read_result(run.result)
    return report_html(result) if file == "report.html" else arms_csv(result)


def _for_reading(request: Request) -> None:
    if not may_use(request.scope[PERSON_IN_SCOPE], Scope.READ):
        raise HTTPException(403, wording.token_needs(Scope.READ))


FOR_READING = Depends(_for_reading)


def download_routes(services: Services) -> APIRouter:
    """Return `/jobs/ID/results.csv`, `/template.csv` and `/evaluations/ID/FILE`; all need a signed-in person."""
    router = APIRouter()

    @router.get("/jobs/{public_id}/results.csv", dependencies=[FOR_READING])
    def results(request: Request, public_id: str) -> Response:
        person: Person = request.scope[PERSON_IN_SCOPE]
        try:
            visible_job(services, public_id, person)
        except NotFound as error:
            return JSONResponse({"detail": str(error)}, status_code=404)
        services.audit.append(person.name, "download results", f"job {public_id}", {})
        try:
            path = written_results(services, public_id, person)
        except NoRoom as error:
            return JSONResponse({"detail": str(error)}, status_code=507)
        done = BackgroundTask(shutil.rmtree, path.parent, ignore_errors=True)
        return FileResponse(path, media_type="text/csv; charset=utf-8", filename=path.name, background=done)

    @router.get("/evaluations/{public_id}/{file}", dependencies=[FOR_READING])
    def evaluation(request: Request, public_id: str, file: str) -> Response:
        person: Person = request.scope[PERSON_IN_SCOPE]
        try:
            run = finished_evaluation(services, public_id)
            media_type = EVALUATION_FILES[file]
            text = evaluation_file(run, file)
        except (NotFound, KeyError):
            return JSONResponse({"detail": NO_RESULT}, status_code=404)
        except MedxError as error:
            return JSONResponse({"detail": str(error)}, status_code=409)
        services.audit.append(person.name, "download evaluation", f"run {public_id}", {"file": file})
        name = f'attachment; filename="medx-evaluation-{public_id[:8]}-{file}"'
        return Response(text, media_type=media_type, headers={"content-disposition": name})

    @router.get("/template.csv")
    def template() -> Response:
        name = {"content-disposition": 'attachment; filename="medx-template.csv"'}
        return Response(template_csv(), media_type="text/csv; charset=utf-8", headers=name)

    return router
