from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

router = APIRouter()


@router.post("/words", max_body_size=40)
async def count_words(words: Annotated[list[str], Field(max_length=3)]) -> int:
    """Count them."""
    return len(words)
