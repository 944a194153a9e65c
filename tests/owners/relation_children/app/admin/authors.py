"""Authors and novels in the admin."""

from sqladmin import ModelView

from app.models.author import Author, Novel


class AuthorAdmin(ModelView, model=Author):
    """Authors."""

    column_list = ("id", "name", "novels")
    column_searchable_list = ("name", "novels.title")
    column_sortable_list = ("name",)


class NovelAdmin(ModelView, model=Novel):
    """Novels."""

    column_list = ("id", "title", "author", "author.name", "editor")
    column_searchable_list = ("title", "author.name")
    column_sortable_list = ("title", "author.name")
