"""Wishes: customers see their own, and all see the same offers."""

from collections.abc import Sequence
from http import HTTPStatus

from fastapi import APIRouter, Request
from sqlmodel import col, func, select

from app.core.dependencies import PrincipalDep, ReadSessionDep, SessionDep
from app.models.wish import Wish, WishInput
from kit.errors import Problem
from kit.security import (
    ANONYMOUS_USERS,
    PROGRAMS,
    USERS,
    Principal,
    register_principal_provider,
    serves,
)

router = APIRouter(prefix="/wishes", tags=["Wishes"], dependencies=[serves(USERS)])


@register_principal_provider
async def customer_behind_a_gateway(request: Request) -> Principal | None:
    """Identify the customer whom the gateway in front of this service has authenticated."""
    name = request.headers.get("X-Customer")
    if name is None:
        return None
    return Principal(USERS, name, name, {"is_anonymous": name == "anonymous"})


@router.get("")
async def list_wishes(session: ReadSessionDep, principal: PrincipalDep) -> Sequence[Wish]:
    """List the caller's wishes."""
    return (await session.exec(select(Wish).where(Wish.customer == principal.id))).all()


@router.post("", status_code=HTTPStatus.CREATED)
async def make_wish(session: SessionDep, principal: PrincipalDep, values: WishInput) -> Wish:
    """Note a wish of the caller's."""
    wish = Wish(**values.model_dump(), customer=principal.id)
    session.add(wish)
    await session.commit()
    return wish


@router.get("/offers", dependencies=[serves(PROGRAMS, USERS, ANONYMOUS_USERS, shared=True)])
async def list_offers() -> dict[str, int]:
    """List what everybody may have."""
    return {"boats": 2}


@router.get("/report", dependencies=[serves(scope="wishes:read")])
async def count_wishes(session: ReadSessionDep) -> dict[str, int]:
    """Count everybody's wishes."""
    return {"wishes": (await session.exec(select(func.count(col(Wish.id))))).one()}


@router.get("/{wish_id}")
async def read_wish(session: ReadSessionDep, principal: PrincipalDep, wish_id: int) -> Wish:
    """Read one of the caller's wishes."""
    wish = await session.get(Wish, wish_id)
    if wish is None or wish.customer != principal.id:
        raise Problem(HTTPStatus.NOT_FOUND, f"There is no wish {wish_id}.")
    return wish
