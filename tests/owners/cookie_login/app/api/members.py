"""Sign-in with a password: a signed cookie says who calls, a signed link in a mail lets in."""

from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Form, Request, Response
from itsdangerous import BadSignature, URLSafeTimedSerializer
from sqlalchemy import bindparam
from sqlmodel import select
from starlette.requests import HTTPConnection

from app.core.config import settings
from app.core.dependencies import PrincipalDep, SessionDep
from app.models.member import Member
from kit.context import client_address, client_network
from kit.database import read_row
from kit.errors import Problem
from kit.messages import publish
from kit.security import (
    PASSWORD_THREADS,
    Kind,
    Principal,
    RateLimit,
    hash_password,
    register_principal_provider,
    serves,
    verify_password,
)

MEMBERS = Kind("member")
COOKIE = "member"
SESSION_SECONDS = 14 * 24 * 3600
LINK_SECONDS = 900
MEMBER = select(Member).where(Member.email == bindparam("email"))
attempts = RateLimit(20, settings.API_INSTANCES * settings.API_WORKERS)

router = APIRouter(prefix="/members", dependencies=[serves(MEMBERS)])
public_router = APIRouter(prefix="/members")
Text = Annotated[str, Form(max_length=254)]


def signer(use: str) -> URLSafeTimedSerializer:
    """What signs for one use, so that a link is no cookie."""
    return URLSafeTimedSerializer(settings.secret_key, salt=use)


def read_signed(use: str, value: str, seconds: int) -> Any:
    """What was signed for this use and has not expired, or None."""
    try:
        return signer(use).loads(value, max_age=seconds)
    except BadSignature:
        return None


@register_principal_provider
async def identify_member(request: HTTPConnection) -> Principal | None:
    """Recognise a member by the cookie."""
    member = read_signed("session", request.cookies.get(COOKIE, ""), SESSION_SECONDS)
    return Principal(MEMBERS, id=str(member["id"]), name=member["email"]) if member else None


@router.get("/me")
async def read_me(principal: PrincipalDep) -> dict[str, str]:
    """Who calls."""
    return {"id": principal.id, "email": principal.name}


@public_router.post("", status_code=201)
async def join(session: SessionDep, email: Text, password: Text) -> None:
    """Become a member."""
    hashed = await to_thread.run_sync(hash_password, password, limiter=PASSWORD_THREADS)
    session.add(Member(email=email, password_hash=hashed))
    await session.commit()


@public_router.post("/session", status_code=204)
async def sign_in(request: Request, email: Text, password: Text, response: Response) -> None:
    """Sign in; no connection to the database is held while the password is verified."""
    attempts.admit(f"sign-in:{client_network(client_address(request.scope))}")
    member = await read_row(MEMBER, Member, email=email)
    hashed = member.password_hash if member else None
    matches = await to_thread.run_sync(verify_password, password, hashed, limiter=PASSWORD_THREADS)
    if not matches or member is None:
        raise Problem(401, "Address or password is wrong.")
    let_in(response, member)


@public_router.post("/link", status_code=202)
async def send_link(session: SessionDep, request: Request, email: Text) -> None:
    """Mail a link that lets in, if there is such a member; the answer does not say so."""
    member = (await session.exec(select(Member).where(Member.email == email))).first()
    if member is not None:
        link = request.url_for("follow_link").include_query_params(
            token=signer("link").dumps(member.id)
        )
        await publish(session, "members.link", {"mail_to": member.email, "link": str(link)})
        await session.commit()


@public_router.get("/link")
async def follow_link(session: SessionDep, token: str, response: Response) -> None:
    """Let in whoever has the link."""
    member = await session.get(Member, read_signed("link", token, LINK_SECONDS) or 0)
    if member is None:
        raise Problem(404, "This link is not valid, or not any more.")
    let_in(response, member)


def let_in(response: Response, member: Member) -> None:
    """Set the cookie, which no page of another site sends along with a form."""
    response.set_cookie(
        COOKIE,
        signer("session").dumps({"id": member.id, "email": member.email}),
        max_age=SESSION_SECONDS,
        httponly=True,
        samesite="lax",
        secure=not settings.is_local,
    )
