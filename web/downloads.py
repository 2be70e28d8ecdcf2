"""Files to download: the results of a job so far, and the template for a batch."""

import shutil
import tempfile
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.background import BackgroundTask

from medx_core.data.result_files import template_csv, write_results
from medx_core.errors import NotFound
from medx_core.storage.jobs import result_rows
from medx_core.storage.people import Person
from web.following import visible_job
from web.services import Services
from web.session import PERSON_IN_SCOPE


def written_results(services: Services, public_id: str) -> Path:
    """Write the results of a job so far into a new private file and return its path.

    Raises:
        NotFound: there is no such job.
    """
    job = services.jobs.get(public_id)
    folder = Path(tempfile.mkdtemp(dir=services.settings.home / "uploads"))
    path = folder / f"medx-{public_id[:8]}.csv"
    with path.open("w", encoding="utf-8", newline="") as out:
        write_results(result_rows(services.jobs.every_item(public_id), job.arms), job.carried_columns, out)
    return path


def download_routes(services: Services) -> APIRouter:
    """Return `/jobs/ID/results.csv` and `/template.csv`; both need a session."""
    router = APIRouter()

    @router.get("/jobs/{public_id}/results.csv")
    def results(request: Request, public_id: str) -> Response:
        person: Person = request.scope[PERSON_IN_SCOPE]
        try:
            visible_job(services, public_id, person)
        except NotFound as error:
            return JSONResponse({"detail": str(error)}, status_code=404)
        services.audit.append(person.name, "download results", f"job {public_id}", {})
        path = written_results(services, public_id)
        done = BackgroundTask(shutil.rmtree, path.parent, ignore_errors=True)
        return FileResponse(path, media_type="text/csv; charset=utf-8", filename=path.name, background=done)

    @router.get("/template.csv")
    def template() -> Response:
        name = {"content-disposition": 'attachment; filename="medx-template.csv"'}
        return Response(template_csv(), media_type="text/csv; charset=utf-8", headers=name)

    return router
