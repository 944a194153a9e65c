"""What callers send is limited before it is read, and who they are is asked first."""

import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from functools import partial
from itertools import cycle, islice, product, repeat

import httpx
import pytest
from fastapi.testclient import TestClient
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from app.core.config import BASE_DIR, settings
from app.main import app
from kit.commands.serve import HEADERS_LIMIT, MOST_ARRIVING
from kit.http._routers import BYTES_OF_A_VALUE, FEW_VALUES
from kit.security import require_principal
from kit.testing import own_database, run_api
from kit.tests.measured_service import (
    DOORS,
    MEASURE,
    OPEN_ECHO,
    OPEN_JSON,
    OPEN_LIST,
    OPEN_UPLOAD,
    UPLOAD_LIMIT,
    router,
)
from kit.tests.strangers import (
    CUT_OFF_FORM,
    CUT_OFF_JSON,
    DEEP_JSON,
    MEGABYTE,
    WIDE_JSON,
    WIDEST_JSON,
    ZEROS,
    Answer,
    Stranger,
    seconds_until_closed,
)

RECEIVE_TIMEOUT = 2
PRODUCTION = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": "0123456789abcdefghijklmnopqrstuvwxyz",
    "CORS_ORIGINS": "none",
    "ENABLED_EXTENSIONS": ",".join(settings.ENABLED_EXTENSIONS),
    "API_WORKERS": "1",
    "API_RATE_LIMIT": "0",
    "API_RECEIVE_TIMEOUT": str(RECEIVE_TIMEOUT),
    "ACCOUNTS_SUPABASE_URL": "https://project.supabase.co",
    "MAIL_SMTP_HOST": "localhost",
    "MAIL_FROM": "service@example.org",
    "MESSENGER_APP_SECRET": "secret",
    "MESSENGER_VERIFY_TOKEN": "secret",
    "MESSENGER_PAGE_TOKEN": "secret",
    "STORAGE_ENDPOINT_URL": "https://storage.example.com",
    "STORAGE_REGION": "eu",
    "STORAGE_BUCKET": "bucket",
    "STORAGE_ACCESS_KEY_ID": "key",
    "STORAGE_SECRET_ACCESS_KEY": "secret",
}
JSON = {"content_type": "application/json"}
FORM = {"content_type": "application/x-www-form-urlencoded"}
PING = "/api/tasks/ping"
LOG_IN = "/admin/login"
LIMIT = settings.API_MAX_BODY_SIZE
PROBLEM = "application/problem+json"
CUT_OFF_BODIES = 1000
CLIENTS = 4
HALF_SENT = 400
LATEST_SECONDS = 30
"""Much longer than `RECEIVE_TIMEOUT`, for a busy machine; without it they never end."""
MEMORY_RATIO = 1.2
LONGEST_TURN = 0.1
"""Seconds of the processor that one request may take at a stretch."""

ENCODINGS = ("utf-16", "idna", "rot13", "undefined", "hex", "punycode", "x" * 1000, "utf-8\x00")


@pytest.fixture
def http(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """The service outside of `local`, with routes that are open to everyone."""
    outside = settings.model_copy(update={"ENVIRONMENT": "production", "API_RATE_LIMIT": 0})
    monkeypatch.setattr("kit.security._principals.settings", outside)
    routes, app.router.routes = app.router.routes, [*app.router.routes]
    app.include_router(router)
    app.middleware_stack = None
    yield TestClient(app)
    app.router.routes = routes
    app.middleware_stack = None


class TestCredentials:
    @pytest.mark.parametrize(
        "body", [b"{", b"x" * (LIMIT + 1), b"[" * 1000], ids=["cut off", "large", "deep"]
    )
    def test_are_asked_for_before_the_body(self, http: TestClient, body: bytes) -> None:
        answer = http.post(PING, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"

    def test_are_asked_for_once(self, http: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []

        async def provider(_: object) -> None:
            asked.append(1)

        monkeypatch.setattr("kit.security._principals._providers", [provider])
        assert http.post(PING, json={"message": "x"}).status_code == 401
        assert asked == [1]

    def test_an_outage_meanwhile_is_a_503(
        self, http: TestClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def provider(_: object) -> None:
            raise ConnectionRefusedError

        monkeypatch.setattr("kit.security._principals._providers", [provider])
        answer = http.post(PING, json={"message": "x"})
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]

    def test_a_test_may_replace_them(self, http: TestClient) -> None:
        app.dependency_overrides[require_principal] = lambda: None
        try:
            assert http.post(PING, json={"message": 1}).status_code == 422
        finally:
            del app.dependency_overrides[require_principal]


class TestBody:
    def test_a_larger_one_is_a_413(self, http: TestClient) -> None:
        answer = http.post(OPEN_JSON, content=b"1" * (LIMIT + 1))
        assert answer.status_code == 413
        assert answer.headers["Content-Type"] == PROBLEM
        assert answer.json()["detail"] == "Send at most 1,048,576 bytes to this address."

    def test_one_in_pieces_too(self, http: TestClient) -> None:
        answer = http.post(OPEN_JSON, content=repeat(b"1" * 1000, LIMIT // 1000 + 1))
        assert answer.status_code == 413

    @pytest.mark.parametrize(("size", "status"), [(UPLOAD_LIMIT - 1000, 200), (UPLOAD_LIMIT, 413)])
    def test_a_route_may_have_its_own_limit(self, http: TestClient, size: int, status: int) -> None:
        answer = http.post(OPEN_UPLOAD, files={"file": b"x" * size})
        assert answer.status_code == status

    def test_a_form_of_the_log_in_is_small(self, http: TestClient) -> None:
        form = {"username": "x" * 20_000, "password": "x"}
        assert http.post(LOG_IN, data=form).status_code == 413


class TestJSON:
    @pytest.mark.parametrize(
        ("body", "detail"),
        [
            (b'{"a":', "EOF while parsing a value at line 1 column 5"),
            (b"[" * 202 + b"]" * 202, "recursion limit exceeded at line 1 column 202"),
            (b"\xff", "expected value at line 1 column 1"),
        ],
    )
    @pytest.mark.parametrize("path", [OPEN_JSON, OPEN_LIST])
    def test_what_is_none_is_told(
        self, http: TestClient, path: str, body: bytes, detail: str
    ) -> None:
        answer = http.post(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422
        assert [each["detail"] for each in answer.json()["errors"]] == [detail]

    def test_a_byte_order_mark_is_no_mistake(self, http: TestClient) -> None:
        assert http.post(OPEN_JSON, content=b"\xef\xbb\xbf{}").json() == 2

    def test_200_levels_are_read(self, http: TestClient) -> None:
        assert http.post(OPEN_JSON, content=b"[" * 200 + b"]" * 200).status_code == 200

    def test_more_values_than_a_part_of_the_bytes_are_refused(self, http: TestClient) -> None:
        most = LIMIT // BYTES_OF_A_VALUE
        assert http.post(OPEN_JSON, json=[0] * most).status_code == 200
        answer = http.post(OPEN_JSON, json={"a": [0] * (most + 2)})
        assert answer.status_code == 413
        assert answer.json()["detail"] == "Send at most 65,536 values, or commas, to this address."

    def test_thousands_of_mistakes_are_counted(self, http: TestClient) -> None:
        few = http.post(OPEN_LIST, json=[0] * FEW_VALUES).json()
        many = http.post(OPEN_LIST, json=[0] * (FEW_VALUES + 1)).json()
        assert len(few["errors"]) == FEW_VALUES
        assert [each["detail"] for each in many["errors"]] == ["1001 values are wrong"]


@pytest.fixture(scope="module")
def address(test_database: str) -> Iterator[str]:
    """Address of the service in production, with all extensions that there are."""
    with ExitStack() as stack:
        environment = stack.enter_context(own_database())
        in_local = {**os.environ, **environment}
        serve = [sys.executable, "-m", "kit.commands.serve", "--check"]  # which migrates, in local
        subprocess.run(serve, cwd=BASE_DIR, env=in_local, check=True)
        yield stack.enter_context(
            run_api(environment | PRODUCTION, module="kit.tests.measured_service")
        )


@pytest.fixture
def stranger(address: str) -> Stranger:
    """A caller without credentials."""
    return Stranger(address)


def post(path: str, *headers: str) -> bytes:
    """The beginning of a request, without an end of its headers."""
    return "\r\n".join([f"POST {path} HTTP/1.1", "host: service", *headers, ""]).encode()


BLOB = b"a" * MEGABYTE
FIELDS = b"x: y\r\n" * 160_000
CHUNKED = post(OPEN_JSON, "content-type: application/json", "transfer-encoding: chunked") + b"\r\n"
HEADERS = {
    "one": [post("/"), b"x: ", *repeat(BLOB, 40), b"\r\n\r\n"],
    "many": [post("/"), *repeat(FIELDS, 40), b"\r\n"],
    "a name": [post("/"), *repeat(BLOB, 40), b": x\r\n\r\n"],
    "the address": [b"GET /", *repeat(BLOB, 40), b" HTTP/1.1\r\n\r\n"],
    "at once": [post("/"), b"x: ", BLOB[:HEADERS_LIMIT], b"\r\n\r\n"],
    "a trailer": [CHUNKED, b"0\r\nx: ", *repeat(BLOB, 40), b"\r\n\r\n"],
    "trailers": [CHUNKED, b"0\r\n", *repeat(FIELDS, 40), b"\r\n"],
    "of a chunk": [CHUNKED, b"1;", *repeat(BLOB, 40), b"\r\n1\r\n0\r\n\r\n"],
}
"""Requests of 40 MB that are not in their bodies."""

UPGRADE = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
OPENINGS = {
    "a body": b"content-length: 5\r\n\r\nabcde",
    "a body that stays away": b"content-length: 5\r\n\r\n",
    "chunks": b"transfer-encoding: chunked\r\n\r\n",
    "a long header": b"x: " + BLOB[:20_000] + b"\r\n\r\n",
    "many headers": b"x: y\r\n" * 500 + b"\r\n",
}
"""Ends of an opening request of a WebSocket that the library does not read."""

BEGINNINGS = [
    b"",
    b"P",
    b"\r\n",
    post(OPEN_JSON),
    *(
        post(path, f"content-type: {kind}", "content-length: 1000") + b"\r\n1"
        for path, kind in [(OPEN_JSON, "application/json"), (PING, "application/json")]
    ),
    post(LOG_IN, "content-type: application/x-www-form-urlencoded", "content-length: 9") + b"\r\na",
]


@pytest.mark.slow
class TestServer:
    @pytest.mark.parametrize("name", HEADERS)
    def test_large_headers_are_a_431(self, stranger: Stranger, name: str) -> None:
        assert stranger.talk(HEADERS[name]) == Answer(431, PROBLEM)

    def test_those_of_a_large_cookie_are_taken(self, stranger: Stranger) -> None:
        cookie = [b"GET /health/live HTTP/1.1\r\nhost: x\r\ncookie: ", BLOB[:60_000], b"\r\n\r\n"]
        assert stranger.talk(cookie).status == 200

    def test_small_chunks_are_taken(self, stranger: Stranger) -> None:
        numbers = [b"[", *repeat(b"1234567,", 10_000), b"1]"]
        assert stranger.send(OPEN_JSON, numbers, **JSON).status == 200

    def test_what_is_not_http_is_a_400(self, stranger: Stranger) -> None:
        assert stranger.talk([b"\x16\x03\x01 hello\r\n\r\n"]) == Answer(400, PROBLEM)

    @pytest.mark.parametrize("encoding", ENCODINGS)
    def test_a_form_in_an_odd_encoding_is_no_failure(
        self, stranger: Stranger, encoding: str
    ) -> None:
        form = (
            b'--b\r\ncontent-disposition: form-data; name="username"\r\n\r\n\xff\xd8\r\n--b--\r\n'
        )
        kind = f"multipart/form-data; boundary=b; charset={encoding}"
        assert 400 <= stranger.send(LOG_IN, form, content_type=kind).status < 500

    def test_a_body_that_stays_away_is_a_408(self, stranger: Stranger) -> None:
        assert stranger.talk([BEGINNINGS[4]]) == Answer(408, PROBLEM)

    def test_a_body_that_comes_slowly_is_taken(self, stranger: Stranger) -> None:
        """Longer than the time to begin, but with as many bytes a second as are wanted."""

        def pieces() -> Iterator[bytes]:
            yield b"["
            for _ in range(2 * RECEIVE_TIMEOUT):
                yield b"123456789012," * 1500
                time.sleep(1)
            yield b"1]"

        assert stranger.send(OPEN_JSON, pieces(), **JSON).status == 200

    def test_a_websocket_may_be_silent(self, address: str) -> None:
        """Its time to send ends with its opening request."""
        with connect(f"{address.replace('http', 'ws', 1)}{OPEN_ECHO}") as socket:
            time.sleep(RECEIVE_TIMEOUT + 1)
            socket.send("x")
            assert socket.recv() == "x"

    @pytest.mark.parametrize("name", OPENINGS)
    def test_an_opening_of_a_websocket_that_none_can_be_is_a_400(
        self, stranger: Stranger, name: str
    ) -> None:
        """On any address; without an answer it would keep its connection for good."""
        assert stranger.talk([UPGRADE + OPENINGS[name]]) == Answer(400, PROBLEM)

    def test_a_websocket_is_not_compressed(self, address: str) -> None:
        """64 kB would become 64 messages of 1 MiB, all of which wait in memory."""
        with connect(f"{address.replace('http', 'ws', 1)}{OPEN_ECHO}") as socket:
            assert socket.request is not None
            assert socket.response is not None
            assert "Sec-WebSocket-Extensions" in socket.request.headers
            assert "Sec-WebSocket-Extensions" not in socket.response.headers

    def test_a_large_message_closes_its_websocket(self, address: str) -> None:
        with connect(f"{address.replace('http', 'ws', 1)}{OPEN_ECHO}") as socket:
            socket.send("x" * (LIMIT + 1))
            with pytest.raises(ConnectionClosedError, match="1009"):
                socket.recv()


@pytest.fixture
def with_few_files(test_database: str) -> Iterator[str]:
    """Address of a service whose starter allowed it 256 open files, as systemd does 1,024."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with own_database() as environment:
        subprocess.run(
            [sys.executable, "-m", "alembic", "upgrade", "heads"],
            cwd=BASE_DIR,
            env={**os.environ, **environment},
            check=True,
        )
        patient = environment | PRODUCTION | {"API_RECEIVE_TIMEOUT": "120"}
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
            with run_api(patient) as address:
                resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
                yield address
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.slow
def test_others_are_served_beside_thousands_of_half_sent_requests(with_few_files: str) -> None:
    stranger = Stranger(with_few_files)
    with ExitStack() as stack:
        connections = [
            stack.enter_context(closing(stranger.connect())) for _ in range(MOST_ARRIVING + 100)
        ]
        for connection, beginning in zip(connections, cycle(BEGINNINGS[1:]), strict=False):
            with suppress(ConnectionError):  # the first are refused already
                connection.sendall(beginning)
        assert stranger.send("/health/live", b"", method="GET").status == 200
        assert b"408" in connections[0].recv(100)
        connections[-1].settimeout(0.1)
        with pytest.raises(TimeoutError):
            connections[-1].recv(100)


@pytest.mark.slow
@pytest.mark.load
def test_strangers_cost_neither_memory_nor_time(address: str, stranger: Stranger) -> None:
    """After each kind of request: memory as before, and no turn of the loop above 100 ms.

    A turn is measured in processor time, so that a busy machine does not count.
    """
    with closing(httpx.Client(base_url=address)) as http, ThreadPoolExecutor(CLIENTS) as pool:
        places = http.get(DOORS).json()
        for path, method in places:  # warm up: what is imported and kept at first use
            stranger.send(path, b"{}", method=method, **JSON)
            stranger.send(path, b"a=b", method=method, **FORM)
        stranger.send(LOG_IN, b"username=a&password=b", **FORM)
        http.get(MEASURE)
        memory = MEMORY_RATIO * http.get(MEASURE).json()["memory"]

        def check(send: Callable[[], Answer], *statuses: int, times: int = 1) -> None:
            answers = Counter(pool.map(lambda _: send(), range(times)))
            measured = http.get(MEASURE).json()
            seen = f"{answers}: {measured}, allowed {memory}"
            assert {answer.status for answer in answers} <= {*statuses}, seen
            assert measured["turn"] < LONGEST_TURN, seen
            assert measured["memory"] < memory, seen

        send = stranger.send
        for path, method in places:
            call = partial(send, path, CUT_OFF_JSON, method=method, **JSON)
            is_open = path.startswith("/open")
            statuses = (422, 413) if is_open else (401, 403)
            check(call, *statuses, times=CUT_OFF_BODIES // len(places))
        check(partial(send, LOG_IN, CUT_OFF_FORM, **FORM), 413, times=50)
        for path, body in product(
            (OPEN_JSON, OPEN_LIST), (DEEP_JSON, WIDE_JSON, WIDEST_JSON, ZEROS)
        ):
            check(partial(send, path, body, **JSON), 200, 413, 422, times=5)
        wide = b"[" + b"[]," * (7 * MEGABYTE) + b"[]]"
        for path, status, kind in ((PING, 401, JSON), (OPEN_LIST, 413, JSON), (LOG_IN, 413, FORM)):
            check(partial(send, path, wide, **kind), status)
            check(partial(send, path, 10 * wide[: 20 * MEGABYTE], **kind), status)
            check(partial(send, path, repeat(BLOB, 200), **kind), status)
        for pieces in HEADERS.values():
            check(partial(stranger.talk, pieces), 431)
        began = islice(cycle(BEGINNINGS), HALF_SENT)
        assert seconds_until_closed(stranger, began) < LATEST_SECONDS
        assert http.get(MEASURE).json()["memory"] < memory
