"""Pages that need a log-in: the admin's accounts and sessions, for pages of the service's own."""

from http import HTTPStatus
from typing import Annotated, cast

from fastapi import Depends, HTTPException, Request

from kit.admin._authentication import READS_ONLY, AdminAuthentication, may_change
from kit.admin._request_guard import SAFE_METHODS, is_from_our_pages
from kit.errors import Problem
from kit.security import GUARDS, Kind, Principal, Serves

ADMINISTRATORS = Kind("administrator")


async def require_admin(request: Request) -> Principal:
    """Open a page only to an administrator who is logged in; a page takes `admin: AdminDep`.

    A browser without a session is sent to the log-in, and from there back to the page. The
    administrator is also stored in `request.state.principal`.

    Raises:
        HTTPException: 303 to the log-in; 401 where that is no answer, as for a script's request;
            403 for a form of another site, and for a change by a reader.
    """
    authentication = cast("AdminAuthentication", request.app.state.admin.authentication_backend)
    user = await authentication.user_of_page(request)
    if user is None:
        log_in = request.url_for("admin:login").include_query_params(
            next=f"{request.url.path}?{request.url.query}".rstrip("?")
        )
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            raise HTTPException(HTTPStatus.SEE_OTHER, headers={"Location": str(log_in)})
        raise Problem(
            HTTPStatus.UNAUTHORIZED, f"Log in at {log_in.path}: this is for administrators."
        )
    if request.method not in SAFE_METHODS:
        if not is_from_our_pages(request.headers):
            raise Problem(HTTPStatus.FORBIDDEN, "Refused: the request comes from another site.")
        if not may_change(user):
            raise Problem(HTTPStatus.FORBIDDEN, READS_ONLY)
    role = {"role": str(user.role)}
    principal = Principal(kind=ADMINISTRATORS, id=str(user.id), name=user.username, claims=role)
    request.state.principal = principal
    return principal


GUARDS[require_admin] = Serves((ADMINISTRATORS,))
AdminDep = Annotated[Principal, Depends(require_admin)]
