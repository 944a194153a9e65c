"""Tags of the API's documentation. Yours go into both places below, in the navigation's order.

    router = APIRouter(prefix="/orders", tags=[APITag.ORDERS])

An extension's router needs nothing but a tag of its own: its group in the navigation is made from
what its routes carry.
"""

from enum import StrEnum


class APITag(StrEnum):
    """Tags of the routes, in the order of the navigation."""

    HEALTH = "Health"
    TASKS = "Tasks"


DESCRIPTIONS: dict[str, str] = {
    APITag.HEALTH: "Whether the service runs, and whether it reaches what it needs.",
    APITag.TASKS: "Background tasks: send one, ask how it is doing.",
}
