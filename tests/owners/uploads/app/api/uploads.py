"""Routes that take files and forms."""

import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, UploadFile
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

router = APIRouter(prefix="/uploads", tags=["Uploads"])


class Login(BaseModel, extra="forbid"):
    """A form."""

    name: str
    password: str


@router.post("", status_code=201, max_body_size=100 * 1024 * 1024)
async def upload(title: Annotated[str, Form()], file: UploadFile) -> dict[str, Any]:
    """Store a file."""

    def store() -> int:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "stored"
            with path.open("wb") as stored:
                shutil.copyfileobj(file.file, stored)
            return path.stat().st_size

    return {"title": title, "name": file.filename, "size": await run_in_threadpool(store)}


@router.post("/login")
async def log_in(form: Annotated[Login, Form()]) -> dict[str, str]:
    """Take a form."""
    return {"name": form.name}
