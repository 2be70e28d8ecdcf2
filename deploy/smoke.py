"""`deploy/demo --smoke OUT.json`: the whole path once, through the real page, queue, worker and model.

It signs in, asks one question in both arms, submits a CSV of 20 rows, rates one answer, reads the rating back from the
database, and stops everything. It runs on a free port in a MEDX_HOME of its own, so a running demo is left alone.
"""

import csv
import json
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
from gradio_client import Client, handle_file

from deploy.preparation import first_admin, prepare
from deploy.stack import Stack
from medx_core.data.bundled_texts import bundled_statements
from medx_core.errors import MedxError
from medx_core.ports import free_port
from medx_core.settings import Settings, settings
from medx_core.storage.engine import open_database
from medx_core.storage.people import PersonStore
from medx_core.storage.ratings import RatingStore

QUESTION = "Is chest pain that spreads to the left arm an emergency?"
ROWS = 20
READY_SECONDS = 180.0
BATCH_SECONDS = 600.0
LOOK_SECONDS = 0.25
RATING = {
    "harm": "none",
    "likelihood": "low",
    "consensus": "none",
    "wrong_content": "no",
    "missing_content": "no",
    "urgency": "right",
    "bias": "no",
    "comment": "Written by the smoke test, not by a clinician.",
}


def run_smoke(out: Path) -> int:
    """Run the smoke test and write its report; return 0 only if everything was answered and stored."""
    home = settings().home / f"smoke-{secrets.token_hex(4)}"
    seconds: dict[str, float] = {}
    try:
        with _own_environment(home):
            report = _drive(home, seconds)
    except MedxError as fault:
        print(f"MedX: {fault}\nThe logs of this run are in {home / 'logs'}.")
        return 1
    out.write_text(
        json.dumps({**report, "seconds": seconds}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    faults = faults_of(report)
    for sentence in faults:
        print(f"Smoke test: {sentence}")
    if faults:
        print(f"The logs of this run are in {home / 'logs'}.")
        return 1
    shutil.rmtree(home, ignore_errors=True)
    print(f"Smoke test passed: one question in both arms, {ROWS} rows, one rating. Report: {out}")
    return 0


def faults_of(report: dict[str, Any]) -> list[str]:
    """Say in words what of the report is not as it must be; nothing when all is well."""
    faults = []
    answers = report["question"]["answers"]
    if {answer["arm"] for answer in answers} != {"steered", "unsteered"}:
        faults.append("the question was not answered in both arms")
    if not all(answer["verdict"] and answer["score"] is not None for answer in answers):
        faults.append("an answer has no verdict or no score")
    if report["batch"]["answered"] != ROWS:
        faults.append(f"{report['batch']['answered']} of {ROWS} rows were answered")
    if not report["rating"]["stored"]:
        faults.append("the rating is not in the database")
    return faults


def _drive(home: Path, seconds: dict[str, float]) -> dict[str, Any]:
    chosen = Settings(home=home, port=free_port())
    _share_models(settings().models_folder, home / "models")
    _timed(seconds, "prepare", lambda: prepare(chosen))
    admin = first_admin(chosen)
    if admin is None:
        raise MedxError(
            f"The database {chosen.database} already holds people; unset DATABASE_URL for the smoke test."
        )
    with Stack(chosen) as stack:
        _timed(seconds, "start", lambda: stack.wait_ready(READY_SECONDS))
        client = _signed_in(stack.address, *admin)
        question = _timed(
            seconds, "question", lambda: client.predict(QUESTION, "verdict", "auto", "both", api_name="/ask")
        )
        batch = _timed(seconds, "batch", lambda: _run_batch(client, home))
        rating = _timed(seconds, "rating", lambda: _rate(client, chosen))
    return {"question": question, "batch": batch, "rating": rating}


def _run_batch(client: Client, home: Path) -> dict[str, Any]:
    file = home / "smoke.csv"
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["id", "statement", "answer", "category"])
        for item in bundled_statements()[:ROWS]:
            answer = "TRUE" if item.answer else "FALSE"
            writer.writerow([item.id, item.statement, answer, item.category.value])
    job = client.predict(handle_file(str(file)), "verdict", "auto", "both", api_name="/submit_batch")
    deadline, between = monotonic() + BATCH_SECONDS, threading.Event()
    while (status := client.predict(job, api_name="/job_status"))["status"] not in {"done", "cancelled"}:
        if monotonic() > deadline:
            raise MedxError(f"The batch was not finished after {BATCH_SECONDS:.0f} s: {status}.")
        between.wait(LOOK_SECONDS)
    return {"rows": status["rows"], "answered": status["answered"], "job": job}


def _rate(client: Client, chosen: Settings) -> dict[str, Any]:
    shown = client.predict(api_name="/next_answer_to_rate")
    form = (
        dict(RATING)
        if shown["asks_urgency"]
        else {key: value for key, value in RATING.items() if key != "urgency"}
    )
    saved = client.predict(shown["note"], form, api_name="/save_rating")
    database = open_database(chosen)
    try:
        rater = PersonStore(database).list()[0]
        stored = [rating.public_id for rating in RatingStore(database).of_rater(rater.id)]
    finally:
        database.close()
    return {"id": saved["id"], "stored": saved["id"] in stored}


def _signed_in(address: str, name: str, password: str) -> Client:
    answer = httpx.post(f"{address}/login", data={"name": name, "password": password})
    cookies = "; ".join(f"{key}={value}" for key, value in answer.cookies.items())
    return Client(f"{address}/app", headers={"Cookie": cookies}, verbose=False)


def _timed(seconds: dict[str, float], name: str, work: Callable[[], Any]) -> Any:
    began = monotonic()
    print(f"Smoke test: {name} ...", flush=True)
    result = work()
    seconds[name] = round(monotonic() - began, 3)
    return result


@contextmanager
def _own_environment(home: Path) -> Iterator[None]:
    """Point this process and its children at a home of their own."""
    before = os.environ.get("MEDX_HOME")
    os.environ["MEDX_HOME"] = str(home)
    try:
        yield
    finally:
        if before is None:
            del os.environ["MEDX_HOME"]
        else:
            os.environ["MEDX_HOME"] = before


def _share_models(present: Path, own: Path) -> None:
    """Link weights that are already on this machine into the smoke test's home, so that they are not fetched again."""
    for folder in present.glob("*/medx-model.json"):
        shutil.copytree(folder.parent, own / folder.parent.name, copy_function=_link, dirs_exist_ok=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
