"""Logs that hold no content: what happened, where in the code, never what anybody asked, answered, typed or uploaded.

The message of an exception of Python or of a library often holds the value that it refused, and so do warnings. So a
traceback is written as the kinds of the faults and the lines they went through; a fault of the disk keeps its reason.
"""

import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from medx_core.errors import StorageFault

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
FILE_BYTES = 1_000_000
FILES_KEPT = 3
# Libraries whose messages about a fault hold the fault itself; the traceback that goes with them says what is left to say.
TELL_FAULTS = ("asyncio", "celery.app.trace")

log = logging.getLogger(__name__)


class WithoutContent(logging.Formatter):
    """Writes one line per event, and faults without their messages."""

    def __init__(self) -> None:
        super().__init__(FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's text."""
        if record.name in TELL_FAULTS and record.exc_info:
            record = logging.makeLogRecord(record.__dict__ | {"msg": "a task failed", "args": ()})
        # Celery lets logging write warnings, as text of several lines.
        if record.name == "py.warnings" and record.args and isinstance(record.args, tuple):
            where_and_kind = str(record.args[0]).split(": ")[:2]
            record = logging.makeLogRecord(record.__dict__ | {"msg": ": ".join(where_and_kind), "args": ()})
        return super().format(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
        """Return the kinds of a fault and of those before it, each with the lines it went through."""
        return "\n".join(_without_messages(ei[1])) if ei[1] is not None else ""


def _without_messages(fault: BaseException) -> Iterator[str]:
    seen: set[int] = set()
    after: BaseException | None = fault
    while after is not None and id(after) not in seen:
        seen.add(id(after))
        yield _kind(after)
        for frame in traceback.extract_tb(after.__traceback__):
            yield f"  {frame.filename}:{frame.lineno} in {frame.name}"
        after = after.__cause__ or (None if after.__suppress_context__ else after.__context__)


def _kind(fault: BaseException) -> str:
    name = f"{type(fault).__module__}.{type(fault).__qualname__}".removeprefix("builtins.")
    if isinstance(fault, OSError) and fault.strerror:
        return f"{name}: {fault.strerror}"  # not its file, whose name somebody may have given
    return f"{name}: {fault}" if isinstance(fault, StorageFault) else name


def log_without_content(*, level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Let this process log to standard error, uncaught faults and warnings included."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(WithoutContent())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda uncaught: _log_uncaught(
        uncaught.exc_type, uncaught.exc_value, uncaught.exc_traceback
    )
    sys.unraisablehook = lambda uncaught: _log_uncaught(
        uncaught.exc_type, uncaught.exc_value, uncaught.exc_traceback
    )
    warnings.showwarning = _log_warning


def _log_uncaught(
    kind: type[BaseException], fault: BaseException | None, trace: TracebackType | None
) -> None:
    if not issubclass(kind, KeyboardInterrupt | SystemExit):
        log.critical("uncaught fault", exc_info=fault.with_traceback(trace) if fault else None)


def _log_warning(
    message: Warning | str,  # noqa: ARG001 - it may hold a value
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001 - the signature is Python's
    line: str | None = None,  # noqa: ARG001 - as above
) -> None:
    log.warning("%s at %s:%d", category.__name__, filename, lineno)


def log_fault(fault: BaseException, file: Path, sentence: str) -> None:
    """Write a fault into a file that is rotated at `FILE_BYTES`.

    Raises:
        OSError: the file cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(file, maxBytes=FILE_BYTES, backupCount=FILES_KEPT, encoding="utf-8")
    handler.setFormatter(WithoutContent())
    logger = logging.getLogger(f"{__name__}.{file.stem}")
    logger.propagate = False
    logger.addHandler(handler)
    logger.error(sentence, exc_info=fault)
    logger.removeHandler(handler)
    handler.close()
