"""Answering: one routed, steered answer, or many of them in one batch.

An engine belongs to one thread. It knows nothing of jobs: the same engine serves `medx ask` and a worker's
micro-batches.
"""

from medx_core.answering.engine import AnsweringEngine, AnsweringLimits
from medx_core.answering.row_vectors import NO_VECTOR, NOT_FOR_TEXT, NOT_ROUTED, OTHER_PROMPT, ActiveVectors
from medx_core.answering.writing import Writing
from medx_core.questions import ArmRow

__all__ = [
    "NOT_FOR_TEXT",
    "NOT_ROUTED",
    "NO_VECTOR",
    "OTHER_PROMPT",
    "ActiveVectors",
    "AnsweringEngine",
    "AnsweringLimits",
    "ArmRow",
    "Writing",
]
