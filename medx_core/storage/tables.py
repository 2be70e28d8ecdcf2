"""All tables under one name, so that the migrations and their test see every one of them."""

from medx_core.storage.job_tables import AnswerTable, ItemTable, JobTable, OutboxTable
from medx_core.storage.people_tables import (
    AuditTable,
    PersonTable,
    RatingHistoryTable,
    RatingTable,
)
from medx_core.storage.service_tables import LeaseTable, ProcessTable, RunTable, VectorTable
from medx_core.storage.table_base import Table

metadata = Table.metadata

__all__ = [
    "AnswerTable",
    "AuditTable",
    "ItemTable",
    "JobTable",
    "LeaseTable",
    "OutboxTable",
    "PersonTable",
    "ProcessTable",
    "RatingHistoryTable",
    "RatingTable",
    "RunTable",
    "VectorTable",
    "metadata",
]
