"""Ends a failed start with one clear line, also under plain `uvicorn app.main:app`."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kit.settings import StartupError


class StartupErrorMiddleware:
    """Gives the server a `StartupError`'s message where Starlette would give it a stack trace.

    Starlette reports a lifespan that raised with the whole traceback as the message, which the
    server then logs. Errors other than `StartupError` keep theirs: somebody has to debug them.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on but a lifespan that fails."""
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return
        failure: Message | None = None

        async def hold_failure_back(message: Message) -> None:
            nonlocal failure
            if message["type"].endswith(".failed"):
                failure = message
            else:
                await send(message)

        try:
            await self.app(scope, receive, hold_failure_back)
        except StartupError as error:
            if failure is None:
                raise
            # Not raised again: the server ends with a status of its own once it has the message.
            await send({**failure, "message": str(error)})
        except BaseException:
            if failure is not None:
                await send(failure)
            raise
