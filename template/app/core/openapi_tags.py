"""Tags of the API's documentation, and the groups of its navigation.

    router = APIRouter(prefix="/orders", tags=[APITag.ORDERS])

Yours go into `APITag` and `DESCRIPTIONS`, in the navigation's order. An extension's router needs
only a tag of its own: its group is made from the tags of its routes.
"""

from enum import StrEnum


class APITag(StrEnum):
    """Tags of the routes."""

    HEALTH = "Health"
    TASKS = "Tasks"


DESCRIPTIONS: dict[str, str] = {
    APITag.HEALTH: "Whether the service runs, and whether it reaches what it needs.",
    APITag.TASKS: "Background tasks: send one, read its state.",
}

# A tag that is in no group here is in one with the service's name.
GROUPS: dict[str, list[str]] = {
    "Core": [APITag.HEALTH, APITag.TASKS],
}
