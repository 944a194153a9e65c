"""From the API to the worker, as processes, with nothing else enabled."""

import time

import httpx
import pytest

from app.extensions.storage.tests.conftest import BUCKET, Bucket
from kit.testing import QueueProcess, own_database, run_api

OBJECTS = "/api/storage/objects"
CONTENT = b"%PDF-1.7"
DELETE_SECONDS = 20


@pytest.mark.slow
def test_a_file_goes_up_comes_down_and_is_deleted(s3_endpoint: str, bucket: Bucket) -> None:
    configured = {
        "ENABLED_EXTENSIONS": "storage",
        "STORAGE_ENDPOINT_URL": s3_endpoint,
        "STORAGE_REGION": "eu-central-1",
        "STORAGE_BUCKET": BUCKET,
        "STORAGE_ACCESS_KEY_ID": "key",
        "STORAGE_SECRET_ACCESS_KEY": "secret",
    }
    with (
        own_database() as environment,
        run_api(environment | configured) as address,
        QueueProcess("worker", **environment, **configured) as worker,
        httpx.Client(base_url=address) as client,
    ):
        worker.wait_for("ready.")
        declaration = {"filename": "a.pdf", "content_type": "application/pdf", "size": 8}
        declared = client.post(OBJECTS, json=declaration).raise_for_status().json()
        signed = declared["upload"]
        httpx.put(signed["url"], content=CONTENT, headers=signed["headers"]).raise_for_status()
        path = f"{OBJECTS}/{declared['id']}"
        client.post(f"{path}/completion").raise_for_status()
        signed = client.get(path).raise_for_status().json()["download"]
        assert httpx.get(signed["url"]).content == CONTENT

        client.delete(path).raise_for_status()

        end = time.monotonic() + DELETE_SECONDS
        while bucket.keys and time.monotonic() < end:
            time.sleep(0.1)
        assert bucket.keys == []
