"""Routes below `/api/storage/objects`, with uploads and downloads over HTTP."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy.pool import QueuePool
from sqlmodel import delete, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core import database
from app.extensions.storage import bucket as bucket_module
from app.extensions.storage.models import ObjectState, StorageObject
from app.extensions.storage.settings import storage_settings
from app.extensions.storage.tests.conftest import Bucket
from kit.testing import change_settings, free_port

OBJECTS = "/api/storage/objects"
REPORT = {"filename": "Jahresübersicht.pdf", "content_type": "application/pdf", "size": 8}
CONTENT = b"%PDF-1.7"


async def declare(client: httpx.AsyncClient, **values: object) -> dict[str, Any]:
    answer = await client.post(OBJECTS, json=REPORT | values)
    assert answer.status_code == 201, answer.text
    declared: dict[str, Any] = answer.json()
    return declared


async def upload(declared: Mapping[str, Any], content: bytes = CONTENT, **headers: str) -> None:
    """As the caller does it: to the bucket, not to the service."""
    signed = declared["upload"]
    async with httpx.AsyncClient() as http:
        answer = await http.request(
            signed["method"],
            signed["url"],
            content=content,
            headers=signed["headers"] | {"Content-Length": str(len(content))} | headers,
        )
    assert answer.status_code == 200, answer.text


async def complete(client: httpx.AsyncClient, declared: Mapping[str, Any]) -> httpx.Response:
    return await client.post(f"{OBJECTS}/{declared['id']}/completion")


async def store(client: httpx.AsyncClient, **values: object) -> dict[str, Any]:
    declared = await declare(client, **values)
    await upload(declared)
    stored: dict[str, Any] = (await complete(client, declared)).raise_for_status().json()
    return stored


async def the_row(session: AsyncSession) -> StorageObject:
    statement = select(StorageObject).execution_options(populate_existing=True)
    return (await session.exec(statement)).one()


class TestWithoutBucket:
    @pytest.mark.parametrize(("method", "path"), [("GET", OBJECTS), ("POST", OBJECTS)])
    async def test_says_what_to_set(
        self, client: httpx.AsyncClient, method: str, path: str
    ) -> None:
        answer = await client.request(method, path, json=REPORT)
        assert answer.status_code == 503
        assert "set STORAGE_ENDPOINT_URL, STORAGE_REGION" in answer.json()["detail"]

    async def test_a_server_that_is_away(
        self, client: httpx.AsyncClient, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        declared = await declare(client)
        change_settings(
            monkeypatch, storage_settings, ENDPOINT_URL=f"http://127.0.0.1:{free_port()}"
        )
        bucket_module._client.cache_clear()
        answer = await complete(client, declared)
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]

    async def test_a_bucket_that_is_not_there(
        self, client: httpx.AsyncClient, configured: str, db_session: AsyncSession
    ) -> None:
        declared = await declare(client)
        answer = await complete(client, declared)
        assert answer.status_code == 409  # HEAD does not distinguish a bucket from an object
        assert (await the_row(db_session)).state == ObjectState.PENDING


@pytest.mark.usefixtures("bucket")
class TestDeclare:
    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"size": 0}, "greater than or equal to 1"),
            ({"size": storage_settings.MAX_BYTES + 1}, "has to be at most"),
            ({"content_type": "text/html"}, "has to be one of application/pdf"),
            ({"content_type": "application/pdf; charset=utf-8"}, "pattern"),
            ({"filename": "../../etc/passwd"}, "pattern"),
            ({"filename": "a\r\nSet-Cookie: b"}, "pattern"),
            ({"filename": ""}, "at least 1 character"),
        ],
    )
    async def test_what_is_not_taken(
        self,
        client: httpx.AsyncClient,
        db_session: AsyncSession,
        values: dict[str, object],
        message: str,
    ) -> None:
        answer = await client.post(OBJECTS, json=REPORT | values)
        assert answer.status_code == 422
        assert message in answer.text
        assert (await db_session.exec(select(StorageObject))).all() == []

    async def test_size_and_type_are_signed(self, client: httpx.AsyncClient) -> None:
        signed = (await declare(client))["upload"]
        query = parse_qs(urlsplit(signed["url"]).query)
        assert query["X-Amz-SignedHeaders"] == ["content-length;content-type;host"]
        assert query["X-Amz-Expires"] == [str(storage_settings.URL_SECONDS)]
        assert signed["headers"] == {"Content-Type": "application/pdf", "Content-Length": "8"}

    async def test_nothing_of_the_key_comes_from_the_caller(
        self, client: httpx.AsyncClient, db_session: AsyncSession
    ) -> None:
        declared = await declare(client, filename="invoice.exe")
        assert (await the_row(db_session)).key == f"local/{declared['id']}.pdf"


class TestComplete:
    async def test_nothing_was_uploaded(
        self, client: httpx.AsyncClient, bucket: Bucket, db_session: AsyncSession
    ) -> None:
        answer = await complete(client, await declare(client))
        assert answer.status_code == 409
        assert "Nothing was uploaded" in answer.json()["detail"]
        assert (await the_row(db_session)).state == ObjectState.PENDING

    @pytest.mark.parametrize(
        ("content", "headers", "difference"),
        [
            (b"%PDF-1.7 and more", {}, "17 bytes were uploaded, 8 were declared"),
            (CONTENT, {"Content-Type": "text/html"}, "text/html was uploaded"),
        ],
        ids=["larger", "of another type"],
    )
    async def test_something_else_was_uploaded(
        self,
        *,
        client: httpx.AsyncClient,
        bucket: Bucket,
        db_session: AsyncSession,
        published: list[tuple[str, Any]],
        content: bytes,
        headers: dict[str, str],
        difference: str,
    ) -> None:
        """A server that checks signatures does not let it get this far; moto does."""
        declared = await declare(client)
        await upload(declared, content, **headers)
        assert len(bucket.keys) == 1

        answer = await complete(client, declared)

        assert answer.status_code == 422
        assert difference in answer.json()["detail"]
        assert (await the_row(db_session)).state == ObjectState.REFUSED
        assert (bucket.keys, published) == ([], [])
        assert (await complete(client, declared)).status_code == 409

    async def test_what_was_declared(
        self, client: httpx.AsyncClient, bucket: Bucket, published: list[tuple[str, Any]]
    ) -> None:
        declared = await declare(client)
        await upload(declared)

        answer = await complete(client, declared)

        assert answer.status_code == 200, answer.text
        stored = answer.json()
        assert (stored["state"], stored["size"]) == ("stored", len(CONTENT))
        assert stored["etag"]
        assert stored["stored_at"]
        [key] = bucket.keys
        payload = {
            "object_id": declared["id"],
            "key": key,
            "filename": "Jahresübersicht.pdf",
            "content_type": "application/pdf",
            "size": 8,
            "owner_kind": "local",
            "owner_id": "local",
        }
        assert published == [("storage.object-stored", payload)]
        again = await complete(client, declared)
        assert again.json() == stored
        assert len(published) == 1


class TestDownload:
    async def test_not_before_it_is_stored(self, client: httpx.AsyncClient, bucket: Bucket) -> None:
        declared = await declare(client)
        answer = await client.get(f"{OBJECTS}/{declared['id']}")
        assert answer.json()["download"] is None

    async def test_as_an_attachment_under_its_name(
        self, client: httpx.AsyncClient, bucket: Bucket
    ) -> None:
        stored = await store(client)
        signed = (await client.get(f"{OBJECTS}/{stored['id']}")).json()["download"]
        async with httpx.AsyncClient() as http:
            answer = await http.request(signed["method"], signed["url"], headers=signed["headers"])
        assert answer.content == CONTENT
        assert answer.headers["content-type"] == "application/pdf"
        assert answer.headers["content-disposition"] == (
            'attachment; filename="Jahres_bersicht.pdf"; '
            "filename*=UTF-8''Jahres%C3%BCbersicht.pdf"
        )

    async def test_what_does_not_exist(self, client: httpx.AsyncClient, bucket: Bucket) -> None:
        assert (await client.get(f"{OBJECTS}/{uuid4()}")).status_code == 404


class TestList:
    async def test_pages(
        self, client: httpx.AsyncClient, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change_settings(monkeypatch, storage_settings, PAGE_SIZE=2)
        ids = sorted([(await declare(client))["id"] for _ in range(3)], key=UUID)
        first = (await client.get(OBJECTS)).json()
        assert [each["id"] for each in first] == ids[:2]
        second = (await client.get(OBJECTS, params={"after": ids[1]})).json()
        assert [each["id"] for each in second] == ids[2:]


class TestDelete:
    async def test_sends_the_task_to_a_worker(
        self,
        client: httpx.AsyncClient,
        bucket: Bucket,
        published: list[tuple[str, Any]],
        sent_tasks: list[tuple[str, ...]],
    ) -> None:
        stored = await store(client)
        published.clear()

        answer = await client.delete(f"{OBJECTS}/{stored['id']}")

        assert answer.status_code == 204
        assert [name for name, _ in published] == ["storage.object-deleted"]
        assert sent_tasks == [("delete_marked",)]
        assert (await client.get(f"{OBJECTS}/{stored['id']}")).status_code == 404
        assert (await client.get(OBJECTS)).json() == []
        assert (await client.delete(f"{OBJECTS}/{stored['id']}")).status_code == 404


def test_no_database_connection_is_held_while_the_bucket_is_asked(
    sync_client: TestClient, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = database.engine.pool
    assert isinstance(pool, QueuePool)
    held: list[tuple[str, int]] = []

    def watch(name: str) -> None:
        call = getattr(bucket_module, name)

        def counted(*args: object) -> object:
            held.append((name, pool.checkedout()))
            return call(*args)

        monkeypatch.setattr(bucket_module, name, counted)

    for name in ("sign_upload", "find", "sign_download"):
        watch(name)
    declared = sync_client.post(OBJECTS, json=REPORT).raise_for_status().json()
    signed = declared["upload"]
    httpx.put(signed["url"], content=CONTENT, headers=signed["headers"]).raise_for_status()
    path = f"{OBJECTS}/{declared['id']}"
    try:
        sync_client.post(f"{path}/completion").raise_for_status()
        sync_client.get(path).raise_for_status()
    finally:
        with database.sync_session_maker.begin() as session:
            session.exec(delete(StorageObject))
    assert held == [("sign_upload", 0), ("find", 0), ("sign_download", 0)]


class TestOthersObjects:
    @pytest.mark.parametrize(
        ("method", "path"), [("GET", ""), ("DELETE", ""), ("POST", "/completion")]
    )
    async def test_are_not_there(
        self,
        client: httpx.AsyncClient,
        bucket: Bucket,
        db_session: AsyncSession,
        method: str,
        path: str,
    ) -> None:
        stored = await store(client)
        row = await the_row(db_session)
        row.owner_id = "somebody else"
        await db_session.commit()
        answer = await client.request(method, f"{OBJECTS}/{stored['id']}{path}")
        assert answer.status_code == 404
        assert (await client.get(OBJECTS)).json() == []

    async def test_strangers_are_let_in_nowhere(
        self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change_settings(monkeypatch, ENVIRONMENT="production")
        assert (await client.get(OBJECTS)).status_code == 401
