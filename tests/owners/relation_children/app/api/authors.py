"""Routes of authors."""

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy.orm import selectinload
from sqlmodel import select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.author import Author, Novel

router = APIRouter(prefix="/authors", tags=["Authors"])


class AuthorWithTitles(BaseModel):
    """An author and the titles of their novels."""

    name: str
    titles: list[str]


@router.post("", status_code=201)
async def create_author(new: AuthorWithTitles, session: SessionDep) -> AuthorWithTitles:
    """Store an author and novels."""
    author = Author(name=new.name, novels=[Novel(title=title) for title in new.titles])
    session.add(author)
    await session.commit()
    return new


@router.get("")
async def read_authors(session: ReadSessionDep) -> list[AuthorWithTitles]:
    """Read the authors."""
    statement = select(Author).options(selectinload(Author.novels)).limit(100)  # type: ignore[arg-type]
    return [
        AuthorWithTitles(name=author.name, titles=[novel.title for novel in author.novels])
        for author in await session.exec(statement)
    ]
