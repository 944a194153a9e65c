"""Routes below `/api/storage/objects`. Each principal has its own objects and sees no others."""

import logging
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Query
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.dependencies import PrincipalDep, ReadSessionDep, SessionDep
from app.extensions.storage import bucket
from app.extensions.storage.bucket import StorageUnavailableError, in_thread
from app.extensions.storage.keys import new_key
from app.extensions.storage.models import (
    ObjectState,
    StorageObject,
    StorageObjectDownload,
    StorageObjectInput,
    StorageObjectOutput,
    StorageObjectUpload,
)
from app.extensions.storage.objects import DELETED, STORED, mismatch, payload_of
from app.extensions.storage.settings import storage_settings
from kit.errors import Problem
from kit.messages import publish
from kit.security import PROGRAMS, USERS, Principal, serves

logger = logging.getLogger(__name__)


def require_bucket() -> None:
    """Refuse the request where no bucket is configured, as on a developer's machine.

    Raises:
        Problem: 503, naming what to set.
    """
    if storage_settings.missing:
        names = ", ".join(f"STORAGE_{name}" for name in storage_settings.missing)
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"No bucket is configured here: set {names}.")


router = APIRouter(
    prefix="/objects",
    tags=["Objects"],
    dependencies=[
        serves(PROGRAMS, USERS, scope="storage:read", write_scope="storage:write"),
        Depends(require_bucket),
    ],
)


@router.post("", status_code=HTTPStatus.CREATED)
async def create_object(
    session: SessionDep, principal: PrincipalDep, values: StorageObjectInput
) -> StorageObjectUpload:
    """Declare a file; the answer has the signed upload. After the upload, complete it."""
    object_id = uuid4()
    row = StorageObject(
        **values.model_dump(),
        id=object_id,
        key=new_key(object_id, values.content_type),
        owner_kind=principal.kind,
        owner_id=principal.id,
    )
    upload = await in_thread(bucket.sign_upload, row)
    session.add(row)
    await session.commit()
    return StorageObjectUpload(**row.model_dump(), upload=upload)


@router.post("/{object_id}/completion", response_model=StorageObjectOutput)
async def complete_upload(
    session: SessionDep, principal: PrincipalDep, object_id: UUID
) -> StorageObject:
    """Check an upload; one that differs from its declaration is deleted and answered with 422.

    A second call changes nothing.
    """
    row = await _get_object(session, principal, object_id)
    if row.state == ObjectState.STORED:
        return row
    await session.commit()  # returns the connection while the bucket is asked
    uploaded = await in_thread(bucket.find, row.key)
    row = await _get_object(session, principal, object_id, for_update=True)
    if row.state == ObjectState.STORED:  # a concurrent request was faster
        return row
    if row.state != ObjectState.PENDING:
        raise Problem(HTTPStatus.CONFLICT, f"Object {object_id} is {row.state}: declare a new one.")
    if uploaded is None:
        raise Problem(HTTPStatus.CONFLICT, f"Nothing was uploaded for object {object_id} yet.")
    if difference := mismatch(row, uploaded):
        await _refuse(session, row, difference)
    row.state, row.etag, row.stored_at = ObjectState.STORED, uploaded.etag, datetime.now(UTC)
    await publish(session, STORED, payload_of(row))
    await session.commit()
    return row


@router.get("", response_model=list[StorageObjectOutput])
async def list_objects(
    session: ReadSessionDep,
    principal: PrincipalDep,
    after: Annotated[
        UUID | None, Query(description="The last id of the page before this one.")
    ] = None,
) -> list[StorageObject]:
    """List the caller's objects in the order of their ids, a page of them after the id `after`."""
    key = col(StorageObject.id)
    statement = (
        select(StorageObject)
        .where(
            col(StorageObject.owner_kind) == principal.kind,
            col(StorageObject.owner_id) == principal.id,
            col(StorageObject.state) != ObjectState.DELETED,
            key > (after or UUID(int=0)),
        )
        .order_by(key)
        .limit(storage_settings.PAGE_SIZE)
    )
    return list(await session.exec(statement))


@router.get("/{object_id}")
async def read_object(
    session: ReadSessionDep, principal: PrincipalDep, object_id: UUID
) -> StorageObjectDownload:
    """Read one object, with a URL to download it while it is stored."""
    row = await _get_object(session, principal, object_id)
    await session.commit()  # returns the connection: all threads may be waiting for the bucket
    is_stored = row.state == ObjectState.STORED
    download = await in_thread(bucket.sign_download, row) if is_stored else None
    return StorageObjectDownload(**row.model_dump(), download=download)


@router.delete("/{object_id}", status_code=HTTPStatus.NO_CONTENT)
async def delete_object(session: SessionDep, principal: PrincipalDep, object_id: UUID) -> None:
    """Delete an object permanently; a task deletes the file a moment later."""
    row = await _get_object(session, principal, object_id, for_update=True)
    row.state = ObjectState.DELETED
    await publish(session, DELETED, payload_of(row))
    await session.commit()


async def _get_object(
    session: AsyncSession, principal: Principal, object_id: UUID, *, for_update: bool = False
) -> StorageObject:
    """Read an object of the caller's; locked until the commit if it is to be changed."""
    statement = (
        select(StorageObject)
        .where(
            col(StorageObject.id) == object_id,
            col(StorageObject.owner_kind) == principal.kind,
            col(StorageObject.owner_id) == principal.id,
            col(StorageObject.state) != ObjectState.DELETED,
        )
        .execution_options(populate_existing=True)
    )
    row = (await session.exec(statement.with_for_update() if for_update else statement)).first()
    if row is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"There is no object {object_id}.")
    return row


async def _refuse(session: AsyncSession, row: StorageObject, difference: str) -> None:
    """Mark the row as refused, delete the upload, and answer with the reason.

    Raises:
        Problem: 422, always.
    """
    row.state = ObjectState.REFUSED
    await session.commit()
    try:
        await in_thread(bucket.delete, [row.key])
    except StorageUnavailableError as error:
        logger.warning("refused object %s is left to the nightly clean-up: %s", row.id, error)
    raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"The upload was refused: {difference}.")
