"""Streams and WebSockets of a running service: what they hold while they last, and how they end."""

import asyncio
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.typing import Subprotocol

from kit.testing import own_database, run_api

READERS = 200
ROWS = 25
SOCKETS = 1000
OTHERS = 50
MEGABYTE = 1 << 20

pytestmark = pytest.mark.slow


class Service:
    """A running service, and clients of it."""

    def __init__(self, address: str, stack: ExitStack) -> None:
        self.address = address
        self.http = httpx.AsyncClient(base_url=f"{address}/api/lasting", timeout=30)
        self.stack = stack

    async def held(self) -> dict[str, int]:
        """What it holds, once what was under way has ended."""
        for _ in range(50):
            held = (await self.http.get("/held")).json()
            if not held["connections"]:
                break
            await asyncio.sleep(0.1)
        return dict(held)

    async def check_others(self) -> None:
        """Requests that need the database are answered meanwhile."""
        answers = await asyncio.gather(*(self.http.get("/count") for _ in range(OTHERS)))
        assert {answer.status_code for answer in answers} == {200}
        ready = await self.http.get(f"{self.address}/health/ready")
        assert ready.status_code == 200
        assert (await self.held())["connections"] == 0

    def socket(self, query: str = "", **options: object) -> connect:
        """A WebSocket to it."""
        address = f"{self.address.replace('http', 'ws', 1)}/api/lasting/echo{query}"
        return connect(address, ping_interval=None, **options)  # type: ignore[arg-type]


@pytest.fixture
def many_files() -> Iterator[None]:
    """Allow enough open files for each WebSocket, here and in the service."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
async def running(test_database: str, many_files: None) -> AsyncIterator[Service]:
    with ExitStack() as stack:
        environment = stack.enter_context(own_database())
        api = stack.enter_context(ExitStack())
        # On a busy machine 200 readers wait longer for their turns than a service should let them.
        pool = {"POSTGRES_POOL_SIZE": "10", "POSTGRES_POOL_TIMEOUT": "60", "API_WORKERS": "1"}
        address = api.enter_context(
            run_api({**environment, **pool}, module="kit.tests.lasting_service")
        )
        service = Service(address, api)
        async with service.http:
            yield service


class SlowReader:
    """Reads the stream's first bytes, and the rest when it is asked to."""

    async def begin(self, address: str) -> None:
        """Read until the first row has begun."""
        url = urlsplit(address)
        connection = socket.socket()
        # Small, so that the kernel's buffers do not take the whole answer off the server's hands.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1000)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, (url.hostname, url.port))
        self._reader, self._writer = await asyncio.open_connection(sock=connection, limit=8192)
        self._writer.write(
            b"GET /api/lasting/stream HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head, head
        await self._reader.readexactly(100)

    async def finish(self) -> int:
        """Read to the end, and return the number of rows."""
        rest = await self._reader.read()
        self._writer.close()
        return rest.count(b"}\n")


async def test_slow_readers_of_streams_hold_no_connection(running: Service) -> None:
    (await running.http.post("/prepare", params={"rows": ROWS})).raise_for_status()
    memory = []
    for _ in range(2):  # the first makes what is made once
        readers = [SlowReader() for _ in range(READERS)]
        async with asyncio.timeout(90):
            await asyncio.gather(*(reader.begin(running.address) for reader in readers))
        await running.check_others()

        rows = await asyncio.gather(*(reader.finish() for reader in readers))

        assert set(rows) == {ROWS}
        memory.append((await running.held())["bytes"])
    assert memory[1] - memory[0] < 20 * MEGABYTE, memory


async def test_readers_that_go_away_leave_nothing(running: Service) -> None:
    (await running.http.post("/prepare", params={"rows": ROWS})).raise_for_status()
    for path in ("/stream", "/events"):
        for _ in range(20):
            async with running.http.stream("GET", path) as answer:
                assert answer.status_code == 200
                await anext(answer.aiter_bytes())
    await running.check_others()


@pytest.mark.parametrize("path", ["/wrong-stream", "/wrong-task"])
async def test_the_requests_session_used_too_late_costs_no_connection(
    running: Service, path: str
) -> None:
    answers = await asyncio.gather(
        *(running.http.get(path) for _ in range(30)), return_exceptions=True
    )
    # A stream that fails after its head breaks off; a background task fails in the log alone.
    broken = [answer for answer in answers if isinstance(answer, httpx.RemoteProtocolError)]
    assert len(broken) == (30 if path == "/wrong-stream" else 0), answers
    await running.check_others()


@asynccontextmanager
async def idle_sockets(running: Service, count: int) -> AsyncIterator[list[ClientConnection]]:
    """So many WebSockets, each of which has sent a message and got its answer."""
    async with AsyncExitStack() as stack:
        turn = asyncio.Semaphore(50)

        async def one(number: int) -> ClientConnection:
            async with turn:
                client = await stack.enter_async_context(running.socket(open_timeout=60))
                await client.send(f"{number}")
                assert await client.recv() == f"Local developer: {number}"
            return client

        yield [*await asyncio.gather(*(one(number) for number in range(count)))]


async def test_idle_websockets_hold_no_connection_and_close_with_the_service(
    running: Service,
) -> None:
    async with idle_sockets(running, SOCKETS) as sockets:
        assert (await running.http.get("/count")).json() == SOCKETS
        await running.check_others()

        await asyncio.to_thread(running.stack.close)  # as a supervisor stops it

        await asyncio.wait_for(asyncio.gather(*(each.wait_closed() for each in sockets)), 30)
        assert {each.close_code for each in sockets} == {1012}  # service restart


async def test_websockets_authenticate_as_routes_do(running: Service) -> None:
    token = (await running.http.post("/prepare", params={"rows": ROWS})).json()
    by_header = {"additional_headers": {"Authorization": f"Bearer {token}"}}
    by_protocol = {"subprotocols": [Subprotocol("bearer"), Subprotocol(token)]}
    for credentials in (by_header, by_protocol):
        async with running.socket(**credentials) as client:
            await client.send("hello")
            assert await client.recv() == "lasting: hello"

    wrong_header = {"additional_headers": {"Authorization": "Bearer wrong"}}
    wrong_protocol = {"subprotocols": [Subprotocol("bearer"), Subprotocol("wrong")]}
    for credentials in (wrong_header, wrong_protocol):
        with pytest.raises(InvalidStatus) as refused:
            await running.socket(**credentials).__aenter__()
        assert refused.value.response.status_code == 401
        assert refused.value.response.headers["content-type"] == "application/problem+json"


async def test_the_log_of_websockets(capfd: pytest.CaptureFixture[str], test_database: str) -> None:
    """A failure is logged once, and closes with 1011; a query, which may hold a token, never is."""
    with own_database() as environment, ExitStack() as stack:
        module = "kit.tests.lasting_service"
        running = Service(stack.enter_context(run_api(environment, module=module)), stack)
        with pytest.raises(InvalidStatus):
            await running.socket("?key=of-one", additional_headers={"Authorization": "No"})
        async with running.socket("?key=of-another") as client:
            await client.send(b"no text, which the endpoint reads")
            with pytest.raises(ConnectionClosedError, match="1011"):
                await client.recv()
        await running.http.aclose()
    log = capfd.readouterr().err
    assert log.count('"WebSocket /api/lasting/echo"') == 2, log
    assert "key=" not in log
    assert log.count("KeyError: 'text'") == 1, log
