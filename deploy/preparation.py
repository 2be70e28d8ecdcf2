"""What the first start makes: the model's files, the router's head, the steering vectors, the first administrator.

Nothing here imports torch. A catalogued model needs no training: the head and the vectors come with MedX, and are used
when the hashes of encoder and weights are those that they were made for. For other models `medx` makes them.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from time import monotonic

from medx_core.categories import Category
from medx_core.data.routing_texts import training_texts
from medx_core.errors import MedxError
from medx_core.home import make_private
from medx_core.models.catalog import CATALOGUE, model_source, pull
from medx_core.models.model_files import weight_sha256
from medx_core.routing.heads import FORMAT as HEAD_FORMAT
from medx_core.routing.loading import needs_training
from medx_core.routing.router import texts_sha256
from medx_core.settings import Settings
from medx_core.storage.account_rules import generated_password
from medx_core.storage.engine import open_database
from medx_core.storage.people import PersonStore, Role
from medx_core.storage.vectors import VectorStore, register_shipped_vectors

MEDX = str(Path(sys.executable).with_name("medx"))
FIRST_ADMIN = "admin"
PREPARED = "prepared"
FIRST_ADMIN_FILE = "first-admin.txt"


def prepare(chosen: Settings) -> None:
    """Fetch the model and make router head and vectors available, each only where it is missing.

    What was prepared is remembered by the weights' hash, so that a second start does not look again.

    Raises:
        MedxError: one of these steps failed.
    """
    make_private(chosen.home)
    open_database(chosen).close()
    if _is_prepared(chosen):
        return
    began = monotonic()
    _say("First start with this model: fetching it, then router and steering vectors.")
    if chosen.model in CATALOGUE:
        pull(CATALOGUE[chosen.model], chosen.models_folder, say=_say)
    _say("Looking for a router head and steering vectors made for these weights.")
    if needs_training(chosen.router_encoder, chosen.routers_folder, training_texts()):
        _medx("router", "train", home=chosen.home)
    if not _has_vectors(chosen):
        _medx("vectors", "build", "--missing", home=chosen.home)
    (chosen.home / PREPARED).write_text(_what_is_prepared(chosen), encoding="utf-8")
    _say(f"Model, router and vectors are ready ({monotonic() - began:.0f} s).")


def _has_vectors(chosen: Settings) -> bool:
    """Return whether every category has a vector by the paper's method, after registering those that come with MedX."""
    weights = _weights(chosen)
    if not weights:
        return False
    database = open_database(chosen)
    try:
        store = VectorStore(database)
        for record in register_shipped_vectors(store, weights, chosen.vectors_folder):
            _say(
                f"{record.name} for {record.model} comes with MedX: layer {record.layer}, alpha {record.alpha:g}."
            )
        return len(store.papers(weights)) == len(Category)
    finally:
        database.close()


def _is_prepared(chosen: Settings) -> bool:
    mark = chosen.home / PREPARED
    return mark.is_file() and mark.read_text(encoding="utf-8") == _what_is_prepared(chosen)


def _what_is_prepared(chosen: Settings) -> str:
    """Name the weights, the encoder, the bundled texts and the database that router and vectors were made for."""
    where = hashlib.sha256(chosen.database.encode()).hexdigest()  # the address may hold a password
    texts = texts_sha256(training_texts())
    weights = _weights(chosen) or chosen.model
    return f"{HEAD_FORMAT} {texts} {weights} {chosen.router_encoder} {where}\n"


def _weights(chosen: Settings) -> str:
    """Return the hash of the model's weights; empty for a model that is not on this machine, or only in the hub's cache."""
    source = model_source(chosen.model, chosen.models_folder)
    folder = Path(source.location)
    if not source.is_folder or not any(folder.glob("*.safetensors")):
        return ""
    return weight_sha256(folder, memory_folder=chosen.models_folder)


def first_admin(chosen: Settings) -> tuple[str, str] | None:
    """Add the first administrator to an empty database, and show the credentials once.

    They are shown on a terminal; where the output goes somewhere else, into a log perhaps, a file under MEDX_HOME that its
    owner alone may read holds them.
    """
    database = open_database(chosen)
    try:
        people = PersonStore(database)
        if people.list():
            return None
        password = generated_password(FIRST_ADMIN)
        people.add(FIRST_ADMIN, Role.ADMIN, password)
    finally:
        database.close()
    if sys.stdout.isatty():
        _say(f"\n  First administrator: {FIRST_ADMIN}\n  Password, shown only now: {password}\n")
    else:
        file = chosen.home / FIRST_ADMIN_FILE
        file.unlink(missing_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(f"{password}\n")
        _say(
            f"\n  First administrator: {FIRST_ADMIN}\n  The password is in {file}; delete it when you have read it.\n"
        )
    return FIRST_ADMIN, password


def _medx(*arguments: str, home: Path) -> None:
    done = subprocess.run([MEDX, *arguments], env={**os.environ, "MEDX_HOME": str(home)}, check=False)
    if done.returncode != 0:
        raise MedxError(f"`medx {' '.join(arguments)}` failed; the reason is printed above.")


def _say(line: str) -> None:
    print(line, flush=True)
