"""An evaluation worker as it really is, around a body that tests can direct."""

import sys

from medx_core.settings import settings
from workers.celery_app import log_to_standard_error
from workers.evaluator import work

if __name__ == "__main__":
    log_to_standard_error()
    sys.exit(work(settings(), tasks="tests.faults.directed_evaluations"))
