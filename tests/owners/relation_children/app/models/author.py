"""Authors and their novels."""

from sqlmodel import Field, Relationship, SQLModel


class Author(SQLModel, table=True):
    """An author."""

    id: int | None = Field(default=None, primary_key=True)
    name: str
    novels: list["Novel"] = Relationship(
        back_populates="author", sa_relationship_kwargs={"foreign_keys": "Novel.author_id"}
    )

    def __str__(self) -> str:
        return self.name


class Novel(SQLModel, table=True):
    """A novel, of an author, and perhaps of an editor."""

    id: int | None = Field(default=None, primary_key=True)
    title: str = Field(min_length=2)
    author_id: int | None = Field(
        default=None, nullable=False, foreign_key="author.id", ondelete="CASCADE", index=True
    )
    editor_id: int | None = Field(default=None, foreign_key="author.id", ondelete="SET NULL")
    author: Author = Relationship(
        back_populates="novels", sa_relationship_kwargs={"foreign_keys": "Novel.author_id"}
    )
    editor: Author | None = Relationship(sa_relationship_kwargs={"foreign_keys": "Novel.editor_id"})

    def __str__(self) -> str:
        return self.title
