"""The demo behind `deploy/demo`: prepares what is missing, starts all parts, and stops them together."""

import argparse
import hashlib
import os
import secrets
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deploy.stack import Stack, run_until_stopped
from medx_core.data.bundled_texts import training_texts
from medx_core.errors import MedxError
from medx_core.models.catalog import CATALOGUE, model_source
from medx_core.models.model_files import weight_sha256
from medx_core.routing.heads import FORMAT as HEAD_FORMAT
from medx_core.routing.router import texts_sha256
from medx_core.settings import Settings, settings
from medx_core.storage.engine import open_database
from medx_core.storage.people import PersonStore, Role

MEDX = str(Path(sys.executable).with_name("medx"))
FIRST_ADMIN = "admin"
PREPARED = "prepared"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo, or its smoke test; return the exit status."""
    parser = argparse.ArgumentParser(prog="deploy/demo", description="MedX on this machine, until Ctrl-C.")
    parser.add_argument(
        "--smoke", metavar="OUT.json", help="ask, upload and rate through the real page, write OUT.json, stop"
    )
    given = parser.parse_args(arguments)
    try:
        return _smoke(Path(given.smoke)) if given.smoke else _run()
    except MedxError as fault:
        print(f"MedX: {fault}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nInterrupted; run the same command again to go on.", file=sys.stderr)
    except Exception:  # noqa: BLE001 - the outermost door: the traceback goes to the log
        print(
            f"MedX: an unexpected fault stopped this; the details are in {_logged_fault()}.", file=sys.stderr
        )
    return 1


def _run() -> int:
    prepare(settings())
    first_admin(settings())
    run_until_stopped(Stack(settings()))
    return 0


def _smoke(out: Path) -> int:
    # gradio_client is only needed here, and slow to import.
    from deploy.smoke import run_smoke

    return run_smoke(out)


def prepare(chosen: Settings) -> None:
    """Fetch the model, train the router and build the vectors, each only where it is missing.

    What was prepared is remembered by the weights' hash, so that a second start does not load the model to find out.

    Raises:
        MedxError: one of these steps failed; its own sentence was printed above.
    """
    open_database(chosen).close()
    if _prepared(chosen):
        return
    if chosen.model in CATALOGUE:
        _medx("models", "pull", chosen.model, home=chosen.home)
    began = monotonic()
    _medx("router", "train", "--missing", home=chosen.home)
    _medx("vectors", "build", "--missing", home=chosen.home)
    (chosen.home / PREPARED).write_text(_what_is_prepared(chosen), encoding="utf-8")
    print(f"Router and vectors are ready ({monotonic() - began:.0f} s).", flush=True)


def _prepared(chosen: Settings) -> bool:
    mark = chosen.home / PREPARED
    return mark.is_file() and mark.read_text(encoding="utf-8") == _what_is_prepared(chosen)


def _what_is_prepared(chosen: Settings) -> str:
    """Name the weights, the encoder, the bundled texts and the database that router and vectors were made for."""
    source = model_source(chosen.model, chosen.models_folder)
    folder = Path(source.location)
    known = source.is_folder and any(folder.glob("*.safetensors"))
    weights = weight_sha256(folder, memory_folder=chosen.models_folder) if known else source.location
    where = hashlib.sha256(chosen.database.encode()).hexdigest()  # the address may hold a password
    texts = texts_sha256(training_texts())
    return f"{HEAD_FORMAT} {texts} {weights} {chosen.router_encoder} {where}\n"


def first_admin(chosen: Settings) -> tuple[str, str] | None:
    """Add the first administrator to an empty database and print the credentials once."""
    database = open_database(chosen)
    try:
        people = PersonStore(database)
        if people.list():
            return None
        password = secrets.token_urlsafe(12)
        people.add(FIRST_ADMIN, Role.ADMIN, password)
    finally:
        database.close()
    print(f"\n  First administrator: {FIRST_ADMIN}\n  Password, shown only now: {password}\n", flush=True)
    return FIRST_ADMIN, password


def _logged_fault() -> Path:
    file = settings().home / "logs" / "demo.log"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as log:
        traceback.print_exc(file=log)
    return file


def _medx(*arguments: str, home: Path) -> None:
    done = subprocess.run([MEDX, *arguments], env={**os.environ, "MEDX_HOME": str(home)}, check=False)
    if done.returncode != 0:
        raise MedxError(f"`medx {' '.join(arguments)}` failed; the reason stands above.")


if __name__ == "__main__":
    sys.exit(main())
