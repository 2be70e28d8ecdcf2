"""`medx evaluate`: what steering does to a model, with every control, on a file of labelled statements."""

import json
import logging
import os
import secrets
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medx_core import __version__
from medx_core.cli.outputs import refuse_input_as_output, write_json
from medx_core.data.bundled_texts import bundled_statements, write_statements
from medx_core.data.labelled_files import LabelledData, load_labelled
from medx_core.errors import BadInput, Cancelled, LeaseLost, MedxError, StorageFault
from medx_core.evaluation.replicates import replicated
from medx_core.evaluation.request import BUNDLED, EvaluationRequest, arms_named, request_from
from medx_core.settings import settings
from medx_core.storage.engine import Database, open_database
from medx_core.storage.runs import Run, RunStore

if TYPE_CHECKING:
    from medx_core.evaluation.prompt_selection import OnStage
    from medx_core.models.loading import LoadedModel


log = logging.getLogger(__name__)

KIND = "evaluation"
SAY_SECONDS = 1.0
BROKEN = "An unexpected fault stopped this evaluation; the details are in the logs folder of MEDX_HOME."


def begun_by_command(database: Database, request: EvaluationRequest) -> "RunRecord":
    """Write down that this command begins an evaluation.

    Raises:
        StorageFault: the database cannot be used.
    """
    runs, owner = RunStore(database), _owner()
    return RunRecord(runs, runs.add(KIND, request.as_json(), owner=owner), owner)


def taken_up(database: Database, public_id: str, owner: str) -> "RunRecord":
    """Take up a run that was asked for: as the `owner` who claimed it, or, without one, for this command.

    Raises:
        NotFound: there is no such run.
        BadInput: it does not wait any more.
    """
    runs = RunStore(database)
    if owner:
        return RunRecord(runs, runs.get(public_id), owner)
    owner = _owner()
    return RunRecord(runs, runs.begin(public_id, owner=owner), owner)


class RunRecord:
    """`with record: ... record.finish(result)`. A fault that leaves the block is written down before it goes on."""

    def __init__(self, runs: RunStore, run: Run, owner: str) -> None:
        self.run = run
        self._runs = runs
        self._owner = owner
        self._stage: Mapping[str, Any] | None = None
        self._lost = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._say, name="run-record", daemon=True)

    @property
    def request(self) -> EvaluationRequest:
        """What was asked for."""
        return request_from(self.run.settings)

    def __enter__(self) -> "RunRecord":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()
        if error is not None and not isinstance(error, LeaseLost | Cancelled):
            self._write_down(error)

    def on_stage(self, what: str, done: int, total: int) -> None:
        """Note how far it is.

        Raises:
            Cancelled: somebody cancelled it, or another process has it by now.
        """
        self._stage = {"what": what, "done": done, "total": total}
        if self._lost.is_set():
            raise Cancelled("This evaluation was cancelled, or another worker has taken it up.")

    def finish(self, result: Mapping[str, Any]) -> None:
        """Store the result.

        Raises:
            LeaseLost: it was cancelled meanwhile.
            StorageFault: the database cannot be reached.
        """
        json.dumps(
            result, allow_nan=False
        )  # a database may refuse what is no JSON, or keep it for others to trip over
        self._runs.finish(self.run.public_id, result, owner=self._owner)

    def _say(self) -> None:
        while not self._stopped.wait(SAY_SECONDS) and not self._lost.is_set():
            try:
                if not self._runs.keep(self.run.public_id, owner=self._owner, progress=self._stage):
                    self._lost.set()
            except MedxError as fault:
                log.warning("the progress of an evaluation did not reach the database: %s", fault)

    def _write_down(self, error: BaseException) -> None:
        try:
            if isinstance(error, KeyboardInterrupt):
                self._runs.cancel(self.run.public_id)
            else:
                reason = str(error) if isinstance(error, MedxError) else BROKEN
                self._runs.fail(self.run.public_id, reason, owner=self._owner)
        except (MedxError, StorageFault) as fault:
            log.warning("how the evaluation ended did not reach the database: %s", fault)


def _owner() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


PLANNED = ("declared", "extra", "fit_on", "prompt", "seed", "draws")


def run_request(request: EvaluationRequest, on_stage: "OnStage") -> dict[str, Any]:
    """Evaluate; return the JSON of design section 6.

    Raises:
        BadInput: the data cannot be read, divided or fitted on.
        ModelUnavailable: a model cannot be loaded or does not fit.
        Cancelled: `on_stage` said so.
    """
    on_stage("reading the statements", 0, 1)
    data = _labelled(request)
    for notice in data.notices:
        print(notice, file=sys.stderr)
    if request.category == "auto":
        data = _routed(data)
    # torch comes in only now: a refused file is told of at once
    from medx_core.evaluation.fit import EvaluationPlan
    from medx_core.evaluation.runner import evaluate_models
    from medx_core.lab.arms import EXPERIMENTAL_ARMS

    asked = asdict(request)
    plan = EvaluationPlan(**{name: asked[name] for name in PLANNED}, batch_rows=settings().max_batch_rows)
    models = _models(request.models or (settings().model,))
    on_stage("loading the model", 0, 1)
    result = evaluate_models(models, data, request.sizes, plan, on_stage, extra_arms=EXPERIMENTAL_ARMS)
    result["data"] = request.title
    result["settings"] |= {"preset": request.preset or None, "category": request.category}
    return result


def _labelled(request: EvaluationRequest) -> LabelledData:
    if request.kept:
        path = settings().evaluations_folder / Path(request.data).name
        if not path.exists():
            raise BadInput(
                f"The file {request.title} is not on this machine; pages and workers must share MEDX_HOME."
            )
        return load_labelled(path)
    if request.data == BUNDLED and not Path(BUNDLED).exists():
        return _bundled()
    return load_labelled(request.data)


def _bundled() -> LabelledData:
    """Read the bundled statements by the way that a user's file takes."""
    handle, name = tempfile.mkstemp(suffix=".csv")
    path = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as out:
            write_statements(bundled_statements(), out)
        return load_labelled(path)
    finally:
        path.unlink()


def _models(names: tuple[str, ...]) -> "Iterator[LoadedModel]":
    """Load one model at a time, as the evaluation comes to it."""
    from medx_core.assembly import build_model

    for name in names:
        yield build_model(settings().model_copy(update={"model": name}))


def _routed(loaded: LabelledData) -> LabelledData:
    from medx_core.assembly import build_router

    routes = build_router(settings()).route([one.text for one in loaded.statements])
    statements = tuple(
        replace(one, category=route.category) for one, route in zip(loaded.statements, routes, strict=True)
    )
    return replace(loaded, statements=statements)


SHOWN = ("accuracy", "balanced_accuracy", "auroc", "predicted_true_rate", "false_acceptance_rate")
HEADINGS = ("accuracy", "balanced", "AUROC", "says TRUE", "false accepted")
DATA = f"CSV, TSV, JSONL or Parquet, a hub data set owner/name, or: {BUNDLED}."


def evaluate(  # noqa: PLR0913 - an option each
    data: Annotated[str, typer.Option(help=DATA)] = "",
    sample: Annotated[int | None, typer.Option(min=40, help="Draw this many statements.")] = None,
    split: Annotated[str, typer.Option(help="Sizes of train and test, as 861/216.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Decides the draw, the split and the controls.")] = 1,
    preset: Annotated[str, typer.Option(help="paper: 1,077 statements, 861/216.")] = "",
    model: Annotated[list[str] | None, typer.Option(help="May be repeated: the general model first.")] = None,
    arms: Annotated[
        str,
        typer.Option(
            help="Arms, by comma. All but likelihood_gated and fine_tuned always run; these when named."
        ),
    ] = "",
    declared: Annotated[str, typer.Option(help="The arm that is judged: gated or paper.")] = "gated",
    fit_on: Annotated[str, typer.Option(help="auto, twins or statements.")] = "auto",
    prompt: Annotated[
        str, typer.Option(help="Every arm's prompt by name; none is chosen then, and prompt_only left out.")
    ] = "",
    category: Annotated[str, typer.Option(help="file, or auto: route each statement.")] = "file",
    draws: Annotated[int, typer.Option(min=20, help="Draws of each random and shuffled control.")] = 20,
    self_test: Annotated[bool, typer.Option("--self-test", help="Measure the instrument itself.")] = False,
    store: Annotated[
        bool, typer.Option("--store/--no-store", help="Keep the run in the database, for the Results page.")
    ] = True,
    run: Annotated[str, typer.Option(hidden=True, help="Run what was asked for on a page.")] = "",
    owner: Annotated[str, typer.Option(hidden=True, help="Who claimed it; else this command does.")] = "",
    json_out: Annotated[
        str, typer.Option("--json", help="Where to write the JSON; - is standard output.")
    ] = "",
    report: Annotated[Path | None, typer.Option(help="Folder for a report to read in a browser.")] = None,
) -> None:
    """Evaluate steering on labelled statements, with controls that a gain must beat."""
    refuse_input_as_output(data, json_out)
    if self_test:
        _write(_self_tested(), json_out)
        return
    asked = None
    if not run:
        asked = EvaluationRequest(
            data,
            models=tuple(model or ()),
            preset=preset,
            sample=sample,
            split=split,
            seed=seed,
            declared=declared,
            extra=arms_named(arms),
            fit_on=fit_on,
            prompt=prompt,
            category=category,
            draws=draws,
        )
    if asked is not None and not store:
        result = run_request(asked, _show_stage)
        _write(result, json_out)
    else:
        result = _on_record(asked, run, owner, json_out)
    _show(result, json_out, report)


def _on_record(asked: EvaluationRequest | None, run: str, owner: str, json_out: str) -> dict[str, Any]:
    """Run what is asked for, or the stored request, and keep it in the database."""
    with _record(asked, run, owner) as record:

        def on_stage(what: str, done: int, total: int) -> None:
            _show_stage(what, done, total)
            record.on_stage(what, done, total)

        result = run_request(asked or record.request, on_stage)
        _write(result, json_out)  # first: a database that went away meanwhile must not cost the result
        record.finish(result)
        return result


@contextmanager
def _record(asked: EvaluationRequest | None, run: str, owner: str) -> Iterator[RunRecord]:
    with closing(_database()) as database:
        record = begun_by_command(database, asked) if asked else taken_up(database, run, owner)
        with record:
            yield record


def _database() -> Database:
    try:
        return open_database(settings())
    except StorageFault as fault:
        raise StorageFault(f"{fault} With --no-store the run is not kept in the database.") from fault


def _show(result: Mapping[str, Any], json_out: str, report: Path | None) -> None:
    if report:
        from medx_core.evaluation.report.page import write_report

        print(f"Report: {write_report(result, report)}", file=sys.stderr)
    if json_out != "-":
        _print_table(result)


def _self_tested() -> dict[str, Any]:
    from medx_core.lab.self_test import run_self_test

    return run_self_test(lambda done, total: _show_stage("self-test", done, total))


def _show_stage(what: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{what}: {done} of {total}", end="", file=sys.stderr, flush=True)


def _write(result: Mapping[str, Any], json_out: str) -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    write_json(result, json_out)


def _print_table(result: Mapping[str, Any]) -> None:
    print(result["conclusion"])
    print(f"\n{'arm':<20}" + "".join(f"{heading:>16}" for heading in HEADINGS))
    for name, arm in result["arms"].items():
        print(f"{name:<20}" + "".join(f"{_cell(arm.get(figure)):>16}" for figure in SHOWN))
    print(f"\n{result['n_train']} statements to train, {result['n_test']} to test, {result['model']}.")


def _cell(metric: Mapping[str, Any] | None) -> str:
    if metric is None:
        return "-"
    if "low" not in metric:
        return f"{metric['value']:.3f} (median)"
    return f"{metric['value']:.3f} {metric['low']:.2f}-{metric['high']:.2f}"


COLUMNS = (
    ("accuracy", "accuracy"),
    ("balanced_accuracy", "balanced"),
    ("false_acceptance_rate", "false accepted"),
    ("matched.accuracy", "wording-free"),
    ("matched.association", "association"),
    ("matched.excess", "excess"),
    ("matched.excess_difference", "excess gained"),
)
INTERVALS = "Means over the runs, in %; intervals as wide as one run's, since the runs share statements."


def replicates(
    results: Annotated[list[Path], typer.Argument(help="JSON files that medx evaluate wrote.")],
    json_out: Annotated[
        str, typer.Option("--json", help="Where to write the JSON; - is standard output.")
    ] = "",
) -> None:
    """Tell several evaluations together: the mean of every figure over seeds, with the range it took."""
    for path in results:
        refuse_input_as_output(path, json_out)
    found = {"medx_version": __version__, **replicated([_read(path) for path in results])}
    write_json(found, json_out)
    if json_out == "-":
        return
    for name, model in found["models"].items():
        _print_model(name, model)
    for remark in found["remarks"]:
        print(remark)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({(error.strerror or 'unknown reason').lower()}).") from error
    except ValueError as error:
        raise BadInput(f"{path} is no JSON; give the files that `medx evaluate --json` wrote.") from error
    if not isinstance(found, dict):
        raise BadInput(f"{path} holds no result of an evaluation.")
    return found


def _print_model(name: str, model: Mapping[str, Any]) -> None:
    verdicts = ", ".join(f"{verdict} {count}" for verdict, count in model["helps"].items() if count)
    seeds = ", ".join(str(seed) for seed in model["seeds"])
    print(f"{name}: {model['runs']} runs, seeds {seeds}; helps: {verdicts}. {INTERVALS}")
    print(f"\n{'arm':<20}" + "".join(f"{heading:>24}" for _, heading in COLUMNS))
    for arm, figures in model["arms"].items():
        print(
            f"{arm:<20}"
            + "".join(f"{_replicates_cell(_at(figures, place), model['runs']):>24}" for place, _ in COLUMNS)
        )
    print()


def _at(figures: Mapping[str, Any], place: str) -> Mapping[str, float] | None:
    first, _, rest = place.partition(".")
    found: Mapping[str, Any] | None = figures[first]
    return found.get(rest) if rest and found else found


def _replicates_cell(mean: Mapping[str, float] | None, runs: int) -> str:
    if mean is None:
        return "-"
    value = f"{100 * mean['value']:.1f}"
    spread = (mean["low"], mean["high"]) if "low" in mean else (mean["lowest"], mean["highest"])
    said = "[{:.1f}, {:.1f}]" if "low" in mean else "({:.1f} to {:.1f})"
    few = f" of {mean['runs']:.0f}" if mean["runs"] < runs else ""
    return f"{value} {said.format(*(100 * end for end in spread))}{few}"
