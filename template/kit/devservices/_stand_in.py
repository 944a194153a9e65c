"""Answer requests in place of a server that is down: 503, with the last lines of its output."""

import asyncio
import html
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

SECONDS = 5
"""Timeout of one request."""

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="2"><title>{title}</title>
<body style="font: 16px/1.5 system-ui; margin: 3rem auto; max-width: 60rem; padding: 0 1rem">
<h1>{title}</h1><p>This page reloads by itself.</p>
<pre style="white-space: pre-wrap; overflow-wrap: anywhere">{text}</pre></body></html>
"""


@asynccontextmanager
async def stand_in(
    listener: socket.socket, title: str, lines: Sequence[str]
) -> AsyncIterator[None]:
    """Answer every request on the listening socket, until the block ends.

    Args:
        listener: which stays open; the server that is started next continues with it.
        title: what happened, in a sentence.
        lines: the output that says why, and what to do.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(
            TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
        ):
            async with asyncio.timeout(SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_answer(head.decode("latin-1"), title, "\n".join(lines)))
                await writer.drain()
                writer.write_eof()
                # Closed with unread data, the connection would be reset, and the answer lost.
                while await reader.read(65536):
                    pass
        writer.close()

    server = await asyncio.start_server(answer, sock=listener.dup())
    try:
        yield
    finally:
        server.close()


def _answer(head: str, title: str, text: str) -> bytes:
    method, _, rest = head.partition(" ")
    path = rest.partition(" ")[0]
    if "text/html" in head and not path.startswith(("/api/", "/health/")):
        kind = "text/html; charset=utf-8"
        content = PAGE.format(title=html.escape(title), text=html.escape(text))
    else:
        kind = "application/problem+json"
        problem = {"type": "about:blank", "title": title, "status": 503, "detail": text}
        content = json.dumps(problem | {"instance": path})
    body = content.encode()
    lines = (
        "HTTP/1.1 503 Service Unavailable",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Retry-After: 2",
        "Connection: close",
    )
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if method == "HEAD" else body)
