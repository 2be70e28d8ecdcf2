"""`python -m workers [answers|evaluations] --device auto`: one worker process on one device."""

import argparse
import os
import sys
from collections.abc import Sequence

from medx_core.errors import MedxError
from medx_core.home import write_privately


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker; settings come from the environment, the device may be named here."""
    parser = argparse.ArgumentParser(
        prog="python -m workers",
        description="Take work from the queues: questions and files, or evaluations.",
    )
    parser.add_argument("queue", nargs="?", choices=["answers", "evaluations"], default="answers")
    parser.add_argument(
        "--device", default=None, help="auto, cpu or cuda:N (default: MEDX_DEVICE, else auto)"
    )
    parser.add_argument(
        "--name", default="", help="a name that no other worker has (default: host and a random part)"
    )
    parser.add_argument(
        "--evaluate", default="", help="for evaluations: the function that evaluates, as module:name"
    )
    given = parser.parse_args(arguments)
    if given.queue == "evaluations" and not given.evaluate:
        parser.error("name the function that evaluates; `medx serve evaluator` does")
    write_privately()
    # Page, worker and tests share few cores: a waiting thread must not spin. Read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if given.device:
        os.environ["MEDX_DEVICE"] = given.device
    # Only now, for the application reads its settings on import.
    try:
        from medx_core.settings import settings
        from workers import evaluator, process
        from workers.celery_app import log_to_standard_error

        log_to_standard_error()
        if given.queue == "evaluations":
            return evaluator.work(settings(), name=given.name, evaluate=given.evaluate)
        return process.work(settings(), name=given.name)
    except MedxError as fault:
        print(fault, file=sys.stderr)  # noqa: T201 - the one sentence a person reads
        return 1


if __name__ == "__main__":
    sys.exit(main())
