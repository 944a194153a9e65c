"""Routes that fail."""

from fastapi import APIRouter, HTTPException

from app.core.shop_errors import TeaNotFoundError, UnicornException
from kit.errors import Problem

router = APIRouter(prefix="/teapots", tags=["Teapots"])


@router.get("/unicorn")
async def read_unicorn() -> None:
    """Fail with an exception that has its own handler."""
    raise UnicornException("unicorn")


@router.get("/dictionary")
async def read_dictionary() -> None:
    """Fail with a dictionary."""
    raise HTTPException(418, detail={"code": "OUT_OF_TEA", "left": 0})


@router.get("/list")
async def read_list() -> None:
    """Fail with a list."""
    raise HTTPException(409, detail=["too hot", "too full"])


@router.get("/nothing")
async def read_nothing() -> None:
    """Fail without a detail."""
    raise HTTPException(410)


@router.get("/problem")
async def read_problem() -> None:
    """Fail with a problem."""
    raise Problem(402, "Top up.", balance=3)


@router.get("/broken")
async def read_broken() -> None:
    """Fail by mistake."""
    raise ZeroDivisionError


@router.get("/lookup")
async def read_lookup() -> None:
    """Fail with an error of the domain."""
    raise TeaNotFoundError


@router.get("/moved")
async def read_moved() -> None:
    """Send the client elsewhere from within."""
    raise HTTPException(307, headers={"Location": "/api/teapots/unicorn"})
