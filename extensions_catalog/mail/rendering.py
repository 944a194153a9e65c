"""What a mail says: the templates `mail/<message name>.txt` and `.html` of any extension.

The first line of the text is the subject, and an empty line follows:

    Subject: Your booking of room {{ room }}

    Dear {{ guest }}, …

The HTML is optional. In it values are escaped; in the text there is nothing to escape.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from jinja2 import Template, TemplateNotFound

from app.core.templates import templates

SUBJECT = "Subject:"
LONGEST_SUBJECT = 250
LARGEST_PART = 1_000_000
"""Characters of the text or the HTML; many servers take no mail above 10 MB."""

_LINE_BREAKS_AND_CONTROLS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


class RenderingError(ValueError):
    """A mail's templates do not give a mail; the message says which of them, and why."""


class Content(NamedTuple):
    """What a mail says."""

    subject: str
    text: str
    html: str | None


def has_template(name: str) -> bool:
    """Whether messages of this name are told by mail."""
    return _source(_text_file(name)) is not None


def render(name: str, payload: Mapping[str, Any]) -> Content:
    """The mail for a message.

    Raises:
        RenderingError: when a template is broken, or a value that it names is not in the payload.
    """
    file = _text_file(name)
    try:
        subject, text = _subject_and_text(_source(file) or "")
        content = Content(
            one_line(_compiled(subject).render(payload))[:LONGEST_SUBJECT],
            _compiled(text).render(payload).strip("\n") + "\n",
            None,
        )
        file = _html_file(name)
        if _source(file) is not None:
            content = content._replace(html=templates.env.get_template(file).render(payload))
    except Exception as error:  # whatever a template's expressions raise
        raise RenderingError(f"{file}: {type(error).__name__}: {error}") from error
    if max(len(content.text), len(content.html or "")) > LARGEST_PART:
        raise RenderingError(f"{name}: a mail of more than {LARGEST_PART} characters")
    return content


def one_line(text: str) -> str:
    """The text with every line break and control character made a space: fit for a header."""
    return _LINE_BREAKS_AND_CONTROLS.sub(" ", text).strip()


def _text_file(name: str) -> str:
    return f"mail/{name}.txt"


def _html_file(name: str) -> str:
    return f"mail/{name}.html"


def _source(file: str) -> str | None:
    """A template's text, from wherever the pages' templates are looked for."""
    loader = templates.env.loader
    assert loader is not None  # noqa: S101 (`templates` is made with one)
    try:
        return loader.get_source(templates.env, file)[0]
    except TemplateNotFound:
        return None


def _subject_and_text(source: str) -> tuple[str, str]:
    # Parted before anything is filled in: a value with a line break cannot end the subject.
    first, _, rest = source.partition("\n")
    empty, _, text = rest.partition("\n")
    if not first.startswith(SUBJECT) or empty.strip():
        raise ValueError(f"the first line has to be `{SUBJECT} …`, and the second one empty")
    return first.removeprefix(SUBJECT), text


@lru_cache(maxsize=500)
def _compiled(source: str) -> Template:
    text_environment = templates.env.overlay(
        autoescape=False, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return text_environment.from_string(source)
