from pathlib import Path

import jinja2
import pytest
from fastapi.templating import Jinja2Templates
from jinja2 import FileSystemLoader

from app.core.config import BASE_DIR
from app.core.templates import TEMPLATES_DIR, templates
from kit.pages import KIT_TEMPLATES_DIR, extension_template_dirs


def test_places() -> None:
    assert TEMPLATES_DIR == BASE_DIR / "templates"
    assert isinstance(templates, Jinja2Templates)
    loader = templates.env.loader
    assert isinstance(loader, FileSystemLoader)
    expected = [*extension_template_dirs(), TEMPLATES_DIR, KIT_TEMPLATES_DIR]
    assert loader.searchpath == [*map(str, expected)]


def test_enabled_extensions_are_searched() -> None:
    assert BASE_DIR / "app/extensions/_example/templates" in extension_template_dirs()


def test_an_extension_s_template_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "index.html").write_text("the extension's")
    loader = FileSystemLoader([tmp_path, TEMPLATES_DIR])
    monkeypatch.setattr(templates.env, "loader", loader)
    monkeypatch.setattr(templates.env, "cache", None)
    assert templates.get_template("index.html").render() == "the extension's"


def test_every_template_compiles() -> None:
    names = templates.env.list_templates(extensions=["html", "txt"])
    assert "base.html" in names
    for name in names:
        if not name.startswith("sqladmin/"):
            templates.get_template(name)


def test_values_are_escaped() -> None:
    template = templates.env.from_string("{{ value }}")
    assert template.render(value="<b>&") == "&lt;b&gt;&amp;"


def test_plain_text_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an extension mails, for example, where `&amp;` would be read as it stands."""
    for name in ("mail.txt", "mail.html"):
        (tmp_path / name).write_text("{{ value }}")
    monkeypatch.setattr(templates.env, "loader", FileSystemLoader(tmp_path))
    monkeypatch.setattr(templates.env, "cache", None)
    assert templates.get_template("mail.txt").render(value="<b>&") == "<b>&"
    assert templates.get_template("mail.html").render(value="<b>&") == "&lt;b&gt;&amp;"


def test_a_misspelt_name_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="nmae"):
        templates.env.from_string("{{ nmae }}").render(name="x")


def test_base_has_the_blocks_that_pages_fill() -> None:
    template = templates.get_template("base.html")
    assert {"title", "content", "extra_css", "extra_js"} <= set(template.blocks)
