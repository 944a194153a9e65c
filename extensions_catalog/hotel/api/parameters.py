"""Parameters that several routes have."""

from typing import Annotated

from fastapi import Path, Query

from app.extensions.hotel.models import LARGEST_ID

RowId = Annotated[int, Path(ge=1, le=LARGEST_ID)]
AfterId = Annotated[
    int, Query(ge=0, le=LARGEST_ID, description="The last id of the page before this one.")
]
