"""Errors of the shop."""

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from kit.errors import Problem, problem_response


class UnicornException(Exception):  # noqa: N818
    """An error with an answer of its own."""

    def __init__(self, name: str) -> None:
        self.name = name


class TeaNotFoundError(LookupError):
    """An error of the domain, which knows nothing of HTTP."""


def setup_shop_errors(app: FastAPI) -> None:
    """Register the handlers."""

    @app.exception_handler(UnicornException)
    async def unicorn_exception_handler(_: Request, exc: UnicornException) -> JSONResponse:
        """Answer as FastAPI's documentation has it."""
        return JSONResponse(
            status_code=418,
            content={"message": f"Oops! {exc.name} did something. There goes a rainbow..."},
        )

    @app.exception_handler(TeaNotFoundError)
    async def answer_missing_tea(request: Request, _: TeaNotFoundError) -> Response:
        """Answer with the document that all errors have."""
        return problem_response(request, Problem(404, "No such tea."))
