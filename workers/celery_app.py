"""The Celery application: queues, delivery rules, and how its processes log.

Celery carries ids and wakes workers up; it is never asked what became of a task. The database knows that, and sends
again what the broker lost, so every delivery may come twice.
"""

import logging
import warnings

from celery import Celery
from celery.exceptions import SecurityWarning
from kombu.entity import Exchange, Queue

from medx_core.jobs.messages import BATCH_QUEUE, EVALUATION_QUEUE, INTERACTIVE_QUEUE
from medx_core.logs import log_without_content
from medx_core.settings import Settings, settings

NO_BROKER = "memory://"


def build_app(chosen: Settings) -> Celery:
    """Return a Celery application for these settings; it connects at first use."""
    app = Celery("medx", broker=chosen.redis_url or NO_BROKER, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        # Work in hand goes on while the broker is away: its outcome goes to the database, not to the broker.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_prefetch_count_reduction=False,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        # A broker that takes no writes (a read-only replica, out of memory) answers with errors that Celery would end for.
        broker_channel_error_retry=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            # Only cleans up after a dead worker: the database has its items sent again long before.
            "visibility_timeout": chosen.visibility_seconds,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "unacked_mutex_expire": 10,
            "socket_connect_timeout": 5,
            "socket_timeout": 30,
            "socket_keepalive": True,
            "health_check_interval": 25,
        },
        task_queues=[named_queue(name) for name in (INTERACTIVE_QUEUE, BATCH_QUEUE, EVALUATION_QUEUE)],
        task_default_queue=INTERACTIVE_QUEUE,
        task_create_missing_queues=False,
        # A process that takes evaluations is a fresh interpreter, as it is on macOS in any case: a forked one would
        # inherit the parent's database connections, and locks that its threads held at that moment.
        worker_pool_start_method="spawn",
        # Celery kills a process that is not ready after this time and starts another: by default after 4 seconds,
        # which a fresh interpreter on a busy machine needs for its imports alone.
        worker_proc_alive_timeout=120.0,
    )
    return app


def named_queue(name: str) -> Queue:
    """Return a queue with an exchange and a routing key of its own; Celery would let them share one."""
    exchange = Exchange(name, type="direct")  # type: ignore[no-untyped-call] # kombu has no types
    return Queue(name, exchange, routing_key=name)  # type: ignore[no-untyped-call]


def log_to_standard_error() -> None:
    """Log one line per event to standard error; questions and answers are never logged."""
    log_without_content()
    # It warns of running as root for fear of pickled messages; ours are JSON alone.
    warnings.simplefilter("ignore", SecurityWarning)
    for chatty in ("alembic", "celery.worker.strategy", "celery.app.trace", "httpx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


app = build_app(settings())
