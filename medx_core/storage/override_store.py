"""The questions whose category a person chose in place of the router."""

from collections.abc import Iterator
from typing import Any

from sqlmodel import col, select

from medx_core.categories import Category, RouteSource
from medx_core.data.route_overrides import RouteOverride
from medx_core.storage.engine import Database
from medx_core.storage.job_tables import ItemTable, JobTable

PAGE_ROWS = 1_000


class OverrideStore:
    """The overridden routes of one database."""

    def __init__(self, database: Database, *, page_rows: int = PAGE_ROWS) -> None:
        self._database = database
        self._page_rows = page_rows

    def every_override(self) -> Iterator[RouteOverride]:
        """Yield them in the order they were submitted, a page at a time.

        A question counts once it was answered: then its route is stored. Categories that came in a file are no
        overrides; the router was never meant to decide those.
        """
        last_id = 0
        while page := self._page_after(last_id):
            for item, job in page:
                yield RouteOverride(
                    question=item.text,
                    category=Category(item.route_category),
                    probabilities={
                        Category(name): share for name, share in (item.route_probabilities or {}).items()
                    },
                    asked_at=job.created_at,
                )
            last_id = page[-1][0].id

    def _page_after(self, last_id: int) -> list[Any]:
        following = (
            select(ItemTable, JobTable)
            .join(JobTable, col(JobTable.id) == col(ItemTable.job_id))
            .where(
                ItemTable.id > last_id,
                col(ItemTable.route_source) == RouteSource.USER,
                col(ItemTable.route_category).is_not(None),
            )
            .order_by(col(ItemTable.id))
            .limit(self._page_rows)
        )
        with self._database.read() as session:
            return list(session.exec(following))
