"""Routes of folders."""

from fastapi import APIRouter

from app.core.dependencies import SessionDep
from app.models.folder import Folder

router = APIRouter(prefix="/folders", tags=["Folders"])


@router.post("", status_code=201)
async def create_loop(session: SessionDep) -> Folder:
    """Store a folder that is in itself."""
    folder = Folder(name="Loop")
    session.add(folder)
    await session.flush()
    folder.parent_id = folder.id
    await session.commit()
    return folder
