"""An evaluation that tests direct: it waits for a file, and writes down that it was begun."""

import os
import time
from pathlib import Path

from medx_core.evaluation.request import EvaluationRequest
from medx_core.job_execution.evaluation_run import Measured, OnStage


def wait_for_file(request: EvaluationRequest, on_stage: OnStage) -> Measured:
    """Wait for the file `DATA.go`; `DATA.begun` gets the process id of each that came to this."""
    begun, go = (Path(f"{request.data}.{ending}") for ending in ("begun", "go"))
    on_stage("waiting", 0, 1)
    with begun.open("a") as file:
        file.write(f"{os.getpid()}\n")
    while not go.exists():
        time.sleep(0.005)
    return Measured({"conclusion": "Nobody can say.", "n_train": 1, "n_test": 1})
