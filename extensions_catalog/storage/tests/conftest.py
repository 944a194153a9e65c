"""A bucket on a fake S3 server, for the tests."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import boto3  # type: ignore[import-untyped]
import httpx
import pytest
from botocore.config import Config  # type: ignore[import-untyped]
from moto.server import ThreadedMotoServer
from pydantic import SecretStr

from app.extensions.storage import bucket as bucket_module
from app.extensions.storage.settings import storage_settings
from app.extensions.storage.tasks import compare_with_bucket, delete_marked
from kit import messages
from kit.testing import change_settings

BUCKET = "files"


class Bucket:
    """The bucket, as another client with its keys sees it."""

    def __init__(self, endpoint: str) -> None:
        self.s3 = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="eu-central-1",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
            config=Config(s3={"addressing_style": "path"}),
        )

    @property
    def keys(self) -> list[str]:
        return [each["Key"] for each in self.s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]

    def put(self, key: str, body: bytes = b"%PDF", content_type: str = "application/pdf") -> str:
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=body, ContentType=content_type)
        return key

    def delete(self, key: str) -> None:
        self.s3.delete_object(Bucket=BUCKET, Key=key)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def configured(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Set the settings to the server, which is empty."""
    httpx.post(f"{s3_endpoint}/moto-api/reset").raise_for_status()
    change_settings(
        monkeypatch,
        storage_settings,
        ENDPOINT_URL=s3_endpoint,
        REGION="eu-central-1",
        BUCKET=BUCKET,
        ACCESS_KEY_ID="key",
        SECRET_ACCESS_KEY=SecretStr("secret"),
    )
    bucket_module._client.cache_clear()
    yield s3_endpoint
    bucket_module._client.cache_clear()


@pytest.fixture
def bucket(configured: str) -> Bucket:
    bucket = Bucket(configured)
    bucket.s3.create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    return bucket


@pytest.fixture(autouse=True)
def sent_tasks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Names and arguments of the tasks that would have been sent."""
    sent: list[tuple[Any, ...]] = []
    for task in (delete_marked, compare_with_bucket):
        monkeypatch.setattr(task, "delay", partial(_note, sent, task.name.rpartition(".")[2]))
    return sent


def _note(sent: list[tuple[Any, ...]], *call: object) -> None:
    sent.append(call)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Mapping[str, Any]]]:
    """Names and payloads of the messages whose sender has committed."""
    there = {name: dict(handlers) for name, handlers in messages._handlers.items()}
    monkeypatch.setattr(messages, "_handlers", there)
    published: list[tuple[str, Mapping[str, Any]]] = []

    @messages.handles(messages.EVERY_MESSAGE, after_commit=True)
    def note(message: messages.Message) -> None:
        published.append((message.name, message.payload))

    return published
