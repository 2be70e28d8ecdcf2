"""From what was found out about an item to the values of its row and of its answers' rows."""

from datetime import datetime
from secrets import randbits
from typing import Any

from medx_core.categories import Route
from medx_core.jobs.status import ItemStatus
from medx_core.questions import CANCELLED, Answer, Answered
from medx_core.storage.columns import new_public_id
from medx_core.storage.job_tables import ItemTable


def set_route(item: ItemTable, route: Route) -> None:
    """Write a decided route into the item's row."""
    item.route_source = route.source
    item.route_category = route.category
    item.route_probabilities = {category.value: value for category, value in route.probabilities.items()}
    item.route_red_flag = route.red_flag
    item.route_router = route.router


def answer_values(answer: Answer, item_id: int, now: datetime) -> dict[str, Any]:
    """Return the row of one answer."""
    given = {"public_id": new_public_id(), "item_id": item_id, "shuffle": randbits(31), "created_at": now}
    return {**answer.as_json(), **given}


def status_of(answered: Answered) -> ItemStatus:
    """Return the last state of an item with these answers: one that was broken off counts as no answered question."""
    broken_off = any(answer.finish == CANCELLED for answer in answered.answers)
    return ItemStatus.CANCELLED if broken_off else ItemStatus.ANSWERED
