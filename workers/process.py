"""One worker process from start to end: the runtime around Celery's own worker."""

import logging
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from types import FrameType

from celery.worker import state

from medx_core.errors import MedxError, SettingsFault
from medx_core.home import make_private
from medx_core.job_execution.interfaces import Engine
from medx_core.jobs.messages import INTERACTIVE_QUEUE
from medx_core.models.catalog import refuse_missing
from medx_core.settings import Settings
from medx_core.storage.engine import Database, open_database
from workers.celery_app import app
from workers.consuming import consume, consume_batches_apart
from workers.runtime import LoadEngine, Runtime, install

log = logging.getLogger(__name__)


def load_engine_of(settings: Settings, database: Database) -> LoadEngine:
    """Return what loads the engine of the settings; torch comes in only when it is called."""

    def load() -> Engine:
        refuse_missing(settings.model, settings.models_folder)
        from medx_core.assembly import build_engine

        engine = build_engine(settings, database)
        log.info("model %s loaded on %s", engine.description.model_name, engine.description.device)
        return engine

    return load


def work(
    settings: Settings,
    *,
    name: str = "",
    engine_loader: Callable[[Settings, Database], LoadEngine] = load_engine_of,
) -> int:
    """Work until told to stop; return the exit status.

    Raises:
        SettingsFault: there is no broker.
        StorageFault: the database cannot be used.
    """
    with opened_database(settings) as database:
        runtime = Runtime(
            settings,
            database,
            app,
            load_engine=engine_loader(settings, database),
            name=name or worker_name(),
        )
        install(runtime)
        runtime.start(on_load_failure=_stop_for)
        try:
            return _answer(runtime, settings)
        finally:
            runtime.stop()


def worker_name() -> str:
    """Return a name no other worker has, also after a restart under the same process id."""
    return f"{socket.gethostname()}-{secrets.token_hex(4)}"


@contextmanager
def opened_database(settings: Settings) -> Iterator[Database]:
    """Open the database of a worker, which needs a broker too; SIGTERM leaves the block in good order.

    Raises:
        SettingsFault: there is no broker.
        StorageFault: the database cannot be used.
    """
    if not settings.redis_url:
        raise SettingsFault(
            "A worker needs a broker: set REDIS_URL, or start everything together with deploy/demo."
        )
    make_private(settings.home)
    with closing(open_database(settings)) as database:
        # Until Celery sets its own handler, which may take seconds.
        signal.signal(signal.SIGTERM, _end_now)
        yield database


def _end_now(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _stop_for(error: BaseException) -> None:
    """End the worker because its model cannot be loaded; what waits is left to others."""
    if isinstance(error, MedxError):
        log.critical("the model cannot be loaded: %s", error)
    else:
        log.critical("the model cannot be loaded", exc_info=error)
    state.should_stop = 1


def _answer(runtime: Runtime, settings: Settings) -> int:
    __import__("workers.answer_tasks")
    consume_batches_apart(app, slots=settings.worker_threads)

    def let_go() -> None:
        log.info("stopping: finishing what people watch, handing back the rest")
        runtime.let_go()  # before Celery waits for its tasks, which would wait for the runtime

    return consume(
        app,
        on_poll=runtime.heartbeat.polled,
        on_start=lambda _pool: None,
        on_stop=let_go,
        hostname=f"medx@{runtime.name}",
        pool="threads",
        concurrency=settings.interactive_threads + settings.worker_threads,
        queues=[INTERACTIVE_QUEUE],
    )
