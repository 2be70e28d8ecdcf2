"""Evaluations started on a page: the request, checked before it is queued, and how long it may take."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

from medx_core.data.bundled_texts import bundled_statements
from medx_core.data.labelled_files import LabelledData, load_labelled
from medx_core.data.patient_data import screened_file
from medx_core.data.problems import FileLimits
from medx_core.data.question_files import read_question_file, write_questions
from medx_core.errors import BadInput
from medx_core.evaluation.data_split import TEST, TRAIN, parts_of
from medx_core.evaluation.request import BUNDLED, EvaluationRequest
from medx_core.job_execution.evaluation_run import EVALUATION
from medx_core.settings import PatientDataRule
from medx_core.storage.kept_files import keep
from medx_core.storage.people import Person
from medx_core.storage.runs import Run, RunStatus
from web.services import Services

FILE, OWN_SIZES, ALL = "file", "own", ""
CHOOSE_FILE = "Choose a file first: CSV, TSV or JSONL with the columns statement and answer."
RUNS_FOR_PACE = 5
RUNS_SHOWN = 100


@dataclass(frozen=True)
class StartForm:
    """The fields of the form as the page sends them, in its order."""

    source: str
    path: str | None
    preset: str
    sample: float | None
    train: float | None
    test: float | None
    seed: float | None
    declared: str
    extra: Sequence[str]

    def request(self) -> EvaluationRequest:
        """Return the request; a file keeps its own name in addition to its path.

        Raises:
            BadInput: there is no file, or choices contradict each other.
        """
        if self.source == FILE and not self.path:
            raise BadInput(CHOOSE_FILE)
        own = self.preset == OWN_SIZES
        if own and (self.train is None) != (self.test is None):
            raise BadInput("Give both sizes, of train and of test, or neither.")
        return EvaluationRequest(
            data=str(self.path) if self.source == FILE else BUNDLED,
            name=Path(str(self.path)).name if self.source == FILE else "Bundled statements",
            preset="" if own else self.preset,
            sample=int(self.sample) if own and self.sample else None,
            split=f"{self.train:.0f}/{self.test:.0f}" if own and self.train and self.test else "",
            seed=int(self.seed or 0),
            declared=self.declared,
            extra=tuple(self.extra),
        )


@dataclass(frozen=True)
class CheckedRequest:
    """A request whose data can be evaluated on. `about_seconds` is None when no similar evaluation has run here."""

    request: EvaluationRequest
    train: int
    test: int
    notices: tuple[str, ...]
    about_seconds: float | None


def checked(services: Services, form: StartForm) -> CheckedRequest:
    """Read and divide the data as the evaluation will, without queueing anything.

    Raises:
        BadInput: the form or the data cannot be used; the sentence is what the evaluation itself would say.
    """
    request = form.request()
    train, test, notices = _sizes(services, request)
    pace = _pace(services.runs.list(EVALUATION, limit=RUNS_SHOWN), request)
    return CheckedRequest(request, train, test, notices, pace * (train + test) if pace else None)


def start(services: Services, person: Person, form: StartForm) -> Run:
    """Keep the file and queue the evaluation; an evaluation worker begins it when it is free.

    Raises:
        BadInput: as `checked` says.
    """
    request = checked(services, form).request
    masking: dict[str, Any] = {}
    if request.data != BUNDLED:
        masking = _mask_upload(services, Path(request.data))
        request = replace(
            request, data=keep(Path(request.data), services.settings.evaluations_folder), kept=True
        )
    run = services.runs.request(EVALUATION, request.as_json(), requested_by=person.name)
    detail = {"data": request.title, "seed": request.seed, "declared": request.declared} | masking
    services.audit.append(person.name, "start evaluation", f"run {run.public_id}", detail)
    return run


def _mask_upload(services: Services, path: Path) -> dict[str, Any]:
    """Write an upload anew without what may identify a patient, as CSV; return what the audit log notes of it.

    Raises:
        BadInput: it may identify a patient, and the setting refuses that.
    """
    rule, limits = services.settings.patient_data, FileLimits.of(services.settings)
    file, screening = screened_file(read_question_file(path, limits=limits), rule)
    if not screening:
        return {}
    if rule is PatientDataRule.MASK:
        with path.open("w", encoding="utf-8", newline="") as out:
            write_questions(file.rows, out)
    return {"patient_data": screening.as_json()}


def cancel(services: Services, person: Person, public_id: str) -> None:
    """Cancel an evaluation; the process that runs it ends within seconds.

    Raises:
        NotFound: there is none.
        BadInput: it is over already.
    """
    services.runs.cancel(public_id)
    services.audit.append(person.name, "cancel evaluation", f"run {public_id}")


def ahead_of(run: Run, runs: Iterable[Run]) -> int:
    """Return how many evaluations come before a waiting one."""
    return sum(other.created_at < run.created_at and not other.finished for other in runs)


def _sizes(services: Services, request: EvaluationRequest) -> tuple[int, int, tuple[str, ...]]:
    if request.data == BUNDLED:
        return _bundled_sizes(request)
    data = _loaded(request.data, FileLimits.of(services.settings))
    parts = parts_of(data.statements, request.sizes, seed=request.seed)
    return len(parts.train), len(parts.test), data.notices


def _bundled_sizes(request: EvaluationRequest) -> tuple[int, int, tuple[str, ...]]:
    sides = [statement.split for statement in bundled_statements()]
    train, test = sides.count(TRAIN), sides.count(TEST)
    if request.sizes.sample is not None or request.sizes.split not in (None, (train, test)):
        raise BadInput(
            f"The bundled statements have a split of their own ({train:,} to train, {test:,} to test); choose all statements."
        )
    return train, test, ()


@lru_cache(maxsize=2)
def _loaded(path: str, limits: FileLimits) -> LabelledData:
    """Read an upload once for all the choices somebody tries; every upload has a path of its own."""
    return load_labelled(path, limits=limits)


def _pace(runs: Iterable[Run], request: EvaluationRequest) -> float | None:
    """Return the median seconds per statement of similar evaluations here; None when there were none."""
    paces = [
        (run.finished_at - run.started_at).total_seconds() / statements
        for run in runs
        if run.status is RunStatus.DONE and _is_alike(run, request) and run.finished_at and run.started_at
        and (statements := run.summary.n_train + run.summary.n_test)
    ]  # fmt: skip
    return median(paces[:RUNS_FOR_PACE]) if paces else None


def _is_alike(run: Run, request: EvaluationRequest) -> bool:
    settings = run.settings
    return set(settings.get("extra", ())) == set(request.extra) and tuple(settings.get("models", ())) == ()
