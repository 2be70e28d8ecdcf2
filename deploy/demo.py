"""The demo behind `deploy/demo`: prepares what is missing, starts all parts, and stops them together."""

import argparse
import os
import secrets
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deploy.stack import Stack, run_until_stopped
from medx_core.errors import MedxError
from medx_core.models.catalog import CATALOGUE
from medx_core.settings import Settings, settings
from medx_core.storage.opening import open_database
from medx_core.storage.person_store import PersonStore, Role

MEDX = str(Path(sys.executable).with_name("medx"))
FIRST_ADMIN = "admin"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo, or its smoke test; return the exit status."""
    parser = argparse.ArgumentParser(prog="deploy/demo", description="MedX on this machine, until Ctrl-C.")
    parser.add_argument(
        "--smoke", metavar="OUT.json", help="ask, upload and rate through the real page, write OUT.json, stop"
    )
    given = parser.parse_args(arguments)
    try:
        if given.smoke:
            # gradio_client is only needed here, and slow to import.
            from deploy.smoke import run_smoke

            return run_smoke(Path(given.smoke))
        prepare(settings())
        first_admin(settings())
        run_until_stopped(Stack(settings()))
    except MedxError as fault:
        print(f"MedX: {fault}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; run the same command again to go on.", file=sys.stderr)
        return 130
    return 0


def prepare(chosen: Settings) -> None:
    """Fetch the model, train the router and build the vectors, each only where it is missing.

    Raises:
        MedxError: one of these steps failed; its own sentence was printed above.
    """
    if chosen.model in CATALOGUE:
        _medx("models", "pull", chosen.model, home=chosen.home)
    open_database(chosen).close()
    began = monotonic()
    _medx("router", "train", "--missing", home=chosen.home)
    _medx("vectors", "build", "--missing", home=chosen.home)
    print(f"Model, router and vectors are ready ({monotonic() - began:.0f} s).", flush=True)


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


def _medx(*arguments: str, home: Path) -> None:
    done = subprocess.run([MEDX, *arguments], env={**os.environ, "MEDX_HOME": str(home)}, check=False)
    if done.returncode != 0:
        raise MedxError(f"`medx {' '.join(arguments)}` failed; the reason stands above.")


if __name__ == "__main__":
    sys.exit(main())
