"""How a worker takes messages: Celery's own worker, with steps of ours around its consumer and its pool.

One consumer for questions and batches would let waiting batches fill every slot before a question arrives. With a
channel each, the broker hands over at most so many batch messages, and the remaining slots stay free for people.
"""

from collections.abc import Callable
from typing import Any

from celery import Celery, bootsteps
from celery.worker import state
from kombu.common import ignore_errors

from medx_core.jobs.messages import BATCH_QUEUE
from workers.celery_app import named_queue

POLL_MARK_SECONDS = 1.0


def consume(
    app: Celery,
    *,
    on_poll: Callable[[], None],
    on_start: Callable[[Any], None],
    on_stop: Callable[[], None],
    **options: Any,
) -> int:
    """Run Celery's worker in this thread until a signal ends it; return its exit status.

    `on_start` gets Celery's pool as soon as there is one; `on_stop` is called before Celery waits for the tasks in hand.
    """

    class AroundPool(bootsteps.StartStopStep):  # type: ignore[misc] # Celery has no types
        """Tells whoever works beside the pool that it starts and stops."""

        requires = ("celery.worker.components:Pool",)

        def start(self, worker: Any) -> None:
            on_start(worker.pool)

        def stop(self, _worker: Any) -> None:
            on_stop()

    app.steps["consumer"].add(_polling(on_poll))
    app.steps["worker"].add(AroundPool)
    worker = app.Worker(
        **options,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
        loglevel="INFO",
        optimization="fair",
    )
    worker.start()
    return int(worker.exitcode or 0)


def _polling(on_poll: Callable[[], None]) -> type:
    """Return a step that lets the very loop that looks for messages call `on_poll` each second.

    It also connects anew when the worker may take no message although it has none in hand. With its hands full it
    reads nothing from the broker and so does not notice that the connection is lost; the acknowledgement fails then,
    and kombu counts the message as in hand for ever. A new connection forgets it.
    """

    class Polling(bootsteps.StartStopStep):  # type: ignore[misc] # Celery has no types
        """Marks each second in which the consumer's loop turns."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def register_with_event_loop(self, consumer: Any, hub: Any) -> None:
            self._was_stuck = False

            def look() -> None:
                stuck = not consumer.task_consumer.channel.qos.can_consume() and not state.reserved_requests
                if stuck and self._was_stuck:
                    raise ConnectionError("A message could not be acknowledged; the worker connects anew.")
                self._was_stuck = stuck
                on_poll()

            look()
            hub.call_repeatedly(POLL_MARK_SECONDS, look)

    return Polling


def consume_batches_apart(app: Celery, *, slots: int) -> None:
    """Let workers of `app` take up to `slots` batch messages at a time, beside the queues they were started with."""

    class BatchConsumer(bootsteps.StartStopStep):  # type: ignore[misc] # Celery has no types
        """A second task consumer; started again with each new connection."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def __init__(self, consumer: Any, **_options: Any) -> None:
            self._tasks: Any = None
            super().__init__(consumer)

        def start(self, consumer: Any) -> None:
            channel = consumer.connection.channel()
            channel.basic_qos(0, slots, False)
            self._tasks = app.amqp.TaskConsumer(
                channel, queues=[named_queue(BATCH_QUEUE)], on_decode_error=consumer.on_decode_error
            )
            self._tasks.on_message = consumer.create_task_handler()
            self._tasks.consume()

        def stop(self, consumer: Any) -> None:
            tasks, self._tasks = self._tasks, None
            if tasks is not None:
                ignore_errors(consumer, tasks.cancel)  # type: ignore[no-untyped-call] # kombu has no types

    app.steps["consumer"].add(BatchConsumer)
