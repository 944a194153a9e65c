"""The bucket, through Supabase Storage's S3 interface.

boto3 blocks: async code calls these functions with `in_thread`, and holds no database connection
meanwhile.

https://supabase.com/docs/guides/storage/s3/compatibility
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, TypeVar
from urllib.parse import quote

from anyio import CapacityLimiter, to_thread

from app.extensions.storage.models import SignedUrl, StorageObject
from app.extensions.storage.settings import storage_settings

Result = TypeVar("Result")

CONCURRENT_CALLS = 8
CONNECT_SECONDS = 5
ATTEMPTS = 2

_threads = CapacityLimiter(CONCURRENT_CALLS)


class StorageUnavailableError(ConnectionError):
    """The server did not answer, or with an error; the API answers 503."""


@dataclass(frozen=True)
class Uploaded:
    """Size, type and ETag of an object in the bucket."""

    size: int
    content_type: str
    etag: str


@dataclass(frozen=True)
class Listed:
    """An object in a listing."""

    key: str
    modified_at: datetime


async def in_thread(call: Callable[..., Result], *args: Any) -> Result:
    """Run one of this module's functions from async code; a few run at once, others wait."""
    return await to_thread.run_sync(call, *args, limiter=_threads)


def sign_upload(row: StorageObject) -> SignedUrl:
    """Sign a URL to upload a file of exactly the declared size and type, under the row's key."""
    params = {"Key": row.key, "ContentType": row.content_type, "ContentLength": row.size}
    # HTTP clients send both headers anyway; signed, they cannot have other values.
    headers = {"Content-Type": row.content_type, "Content-Length": str(row.size)}
    return _sign("put_object", "PUT", params, headers)


def sign_download(row: StorageObject) -> SignedUrl:
    """Sign a URL at which browsers save the file under its name, instead of showing it."""
    params = {
        "Key": row.key,
        "ResponseContentDisposition": content_disposition(row.filename),
        "ResponseContentType": row.content_type,
    }
    return _sign("get_object", "GET", params, {})


def content_disposition(filename: str) -> str:
    """The header with the name of a download, also beyond ASCII.

    Source: https://www.rfc-editor.org/rfc/rfc6266#appendix-D
    """
    plain = "".join(
        character if character.isascii() and character not in '"%' else "_"
        for character in filename
    )
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


def find(key: str) -> Uploaded | None:
    """Find the object under a key; None when there is none.

    Raises:
        StorageUnavailableError: when the bucket does not answer.
    """
    from botocore.exceptions import ClientError  # type: ignore[import-untyped]  # noqa: PLC0415

    with _outages():
        try:
            head = _client().head_object(Bucket=storage_settings.BUCKET, Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:  # noqa: PLR2004
                return None
            raise
    return Uploaded(head["ContentLength"], head.get("ContentType", ""), head["ETag"])


def delete(keys: Collection[str]) -> list[str]:
    """Delete up to 1000 objects; returns the keys that no longer exist, or never did.

    Raises:
        StorageUnavailableError: when the bucket does not answer.
    """
    if not keys:
        return []
    with _outages():
        answer = _client().delete_objects(
            Bucket=storage_settings.BUCKET, Delete={"Objects": [{"Key": key} for key in keys]}
        )
    return [each["Key"] for each in answer.get("Deleted", [])]


def list_page(prefix: str, after: str, limit: int) -> list[Listed]:
    """List up to `limit` objects whose keys follow `after`, in the order of their keys.

    Raises:
        StorageUnavailableError: when the bucket does not answer.
    """
    with _outages():
        page = _client().list_objects_v2(
            Bucket=storage_settings.BUCKET, Prefix=prefix, StartAfter=after, MaxKeys=limit
        )
    return [Listed(each["Key"], each["LastModified"]) for each in page.get("Contents", [])]


def _sign(
    operation: str, method: str, params: dict[str, Any], headers: dict[str, str]
) -> SignedUrl:
    seconds = storage_settings.URL_SECONDS
    expires_at = datetime.now(UTC) + timedelta(seconds=seconds)
    url = _client().generate_presigned_url(
        operation, Params={"Bucket": storage_settings.BUCKET, **params}, ExpiresIn=seconds
    )
    return SignedUrl(method=method, url=url, headers=headers, expires_at=expires_at)


@cache
def _client() -> Any:
    """Make the client when it is first needed: boto3 takes half a second to import."""
    import boto3  # type: ignore[import-untyped]  # noqa: PLC0415
    from botocore.config import Config  # type: ignore[import-untyped]  # noqa: PLC0415

    secret = storage_settings.SECRET_ACCESS_KEY
    return boto3.session.Session().client(
        "s3",
        endpoint_url=storage_settings.ENDPOINT_URL,
        region_name=storage_settings.REGION,
        aws_access_key_id=storage_settings.ACCESS_KEY_ID,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=CONNECT_SECONDS,
            read_timeout=storage_settings.TIMEOUT,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            max_pool_connections=CONCURRENT_CALLS,
            # Supabase does not support S3's newer checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


@contextmanager
def _outages() -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise StorageUnavailableError(f"the bucket does not answer: {error}") from error
