"""What people send and what is written for them: a folder per person, limited in bytes and removed by age.

Gradio's own route for uploads stores what anybody sends under the hash of its content, without an owner and without an
end. The route here takes its place: it receives with Gradio's own parser, into a folder of the person who sends.
"""

import asyncio
import fcntl
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from medx_core.errors import BadInput
from medx_core.settings import Settings
from medx_core.storage.people import Person
from web import wording
from web.session import PERSON_IN_SCOPE

if TYPE_CHECKING:
    from gradio import File

log = logging.getLogger(__name__)

UPLOAD_PATH = "/app/gradio_api/upload"
SMALLEST_BYTES = 65_536
"""What a file counts at least, so that a limit on bytes limits the number of files, too."""
TIDY_SECONDS = 600.0
IN_USE = ".in-use"


class NoRoom(BadInput):
    """A limit on the bytes of uploads is reached; nothing of what was sent is kept."""


@dataclass(eq=False)
class Incoming:
    """A folder that one person's files are being written to, with the bytes that were counted for it so far."""

    person_id: int
    folder: Path
    counted_bytes: int = 0
    has_arrived: bool = False


class Uploads:
    """The folder of all uploads. Safe to share between threads, and between web processes of one MEDX_HOME."""

    def __init__(self, settings: Settings) -> None:
        self.folder = settings.home / "uploads"
        self.max_file_bytes = settings.max_file_bytes
        self._per_person = settings.upload_bytes_per_person
        self._in_all = settings.upload_bytes_in_all
        self._hours = settings.upload_hours
        self._turn = threading.Lock()
        self._incoming: set[Incoming] = set()  # what the last look at the disk did not count
        self._on_disk: dict[str, int] = {}  # bytes by the name of a person's folder

    def owns(self, person: Person, path: str) -> bool:
        """Whether a path, wherever its links lead, is inside this person's own folder."""
        return _is_inside(path, self._folder_of(person.id))

    def holds(self, path: str) -> bool:
        """Whether a path, wherever its links lead, is inside the folder of all uploads."""
        return _is_inside(path, self.folder)

    @contextmanager
    def new_folder(self, person: Person) -> Iterator[Incoming]:
        """Make a folder for files that this person sends or is sent; it is removed if the block ends in a fault.

        Raises:
            NoRoom: this person's room, or all room, is used up.
        """
        incoming = Incoming(person.id, self._folder_of(person.id) / secrets.token_hex(16))
        with self._turn:
            self._look_at_disk()
            self._incoming.add(incoming)
        try:
            self.count(incoming, SMALLEST_BYTES)
            incoming.folder.mkdir(parents=True, mode=0o700)
            yield incoming
        except BaseException:
            shutil.rmtree(incoming.folder, ignore_errors=True)
            with self._turn:
                self._incoming.discard(incoming)
            raise
        incoming.has_arrived = True

    def count(self, incoming: Incoming, more: int) -> None:
        """Count bytes before they are stored.

        Raises:
            NoRoom: this person's room, or all room, is used up.
        """
        with self._turn:
            incoming.counted_bytes += more
            others = [each for each in self._incoming if each.person_id == incoming.person_id]
            used = self._on_disk.get(str(incoming.person_id), 0) + sum(each.counted_bytes for each in others)
            used_in_all = sum(self._on_disk.values()) + sum(each.counted_bytes for each in self._incoming)
        if used > self._per_person:
            raise NoRoom(wording.no_room_for_person(self._per_person, hours=self._hours))
        if used_in_all > self._in_all:
            raise NoRoom(wording.no_room_for_anyone(hours=self._hours))

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Remove what is old now and then, and everything before and after, unless another web process uses it."""
        with self._in_use():
            tidying = asyncio.create_task(self._tidy())
            try:
                yield
            finally:
                tidying.cancel()

    def remove_old(self, now: float) -> None:
        """Remove what came more than `upload_hours` before `now`, in seconds since the epoch."""
        stray = (path for path in self.folder.glob("*") if path.name != IN_USE and not path.is_dir())
        for path in (*stray, *self.folder.glob("*/*")):
            with suppress(FileNotFoundError):
                if now - path.lstat().st_mtime > self._hours * 3600:
                    _remove(path)

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(TIDY_SECONDS)
            try:
                await asyncio.to_thread(self.remove_old, time.time())
            except OSError as error:
                log.warning("old uploads cannot be removed: %s", error.strerror)

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.folder / IN_USE).open("a") as mark:
            self._remove_all_if_alone(mark)
            fcntl.flock(mark, fcntl.LOCK_SH)
            try:
                yield
            finally:
                self._remove_all_if_alone(mark)

    def _remove_all_if_alone(self, mark: TextIO) -> None:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # another web process of this home has files of people in hand
            self.remove_old(time.time())
            return
        try:
            for path in self.folder.iterdir():
                if path.name != IN_USE:
                    _remove(path)
        except OSError as error:
            log.warning("uploads of an earlier process cannot be removed: %s", error.strerror)

    def _folder_of(self, person_id: int) -> Path:
        return self.folder / str(person_id)

    def _look_at_disk(self) -> None:
        """Count what is stored. Of an upload under way the disk may hold any part: its own count stands for it."""
        self._incoming = {each for each in self._incoming if not each.has_arrived}
        under_way = {each.folder for each in self._incoming}
        self._on_disk = {
            own.name: sum(_bytes_in(folder) for folder in own.glob("*") if folder not in under_way)
            for own in self.folder.glob("*")
            if own.name != IN_USE
        }


def upload_route(uploads: Uploads) -> APIRouter:
    """Return the route that stands where Gradio's own route for uploads would."""
    from gradio.route_utils import upload_fn
    from gradio.routes import file_upload_statuses
    from starlette.formparsers import MultiPartException

    router = APIRouter()

    @router.post(UPLOAD_PATH)
    async def upload(request: Request, upload_id: str | None = None) -> Response:
        person: Person = request.scope[PERSON_IN_SCOPE]
        try:
            with uploads.new_folder(person) as incoming:
                counted = Request(request.scope, _counted(request.receive, uploads, incoming))
                stored, _, _ = await upload_fn(
                    counted,
                    str(incoming.folder),
                    uploads.max_file_bytes,
                    upload_id,
                    force_move=False,
                    upload_progress=file_upload_statuses if upload_id else None,
                )
        except NoRoom as refusal:
            return PlainTextResponse(str(refusal), status_code=413)
        except MultiPartException as refusal:
            too_large = "maximum allowed size" in refusal.message
            return PlainTextResponse(refusal.message, status_code=413 if too_large else 400)
        except ClientDisconnect:
            return Response(status_code=400)
        finally:
            if upload_id:
                file_upload_statuses.set_done(upload_id)
        return JSONResponse(stored)

    return router


def file_field(**options: Any) -> "File":
    """Return Gradio's field for one file, as `gradio.File` does, whose value is the file's path.

    The original (Gradio 6.31, components/file.py) leaves an empty temporary file among the uploads at every call.
    """
    from gradio import Error, File
    from gradio.data_classes import FileData
    from gradio_client.utils import is_valid_file

    field = File(**options, type="filepath")

    def path_of(file: FileData) -> str:
        if field.file_types and not is_valid_file(file.path, field.file_types):
            raise Error(wording.other_kind_of_file(field.file_types), print_exception=False)
        return file.path

    field.__dict__["_process_single_file"] = path_of
    return field


def _counted(receive: Receive, uploads: Uploads, incoming: Incoming) -> Receive:
    async def counting() -> Message:
        message = await receive()
        uploads.count(incoming, len(message.get("body", b"")))
        return message

    return counting


def _is_inside(path: str, folder: Path) -> bool:
    try:
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
    except (OSError, ValueError):  # no path: too long, or with a zero byte in it
        return False


def _bytes_in(folder: Path) -> int:
    total = 0
    for within, _, files in os.walk(folder):
        for name in files:
            with suppress(FileNotFoundError):
                total += max(SMALLEST_BYTES, Path(within, name).lstat().st_size)
    return total


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
