"""Pages: the Jinja2 templates of the core and of the enabled extensions.

A page route returns `templates.TemplateResponse(request, "page.html", {…})`. An extension keeps its
pages in its `templates/<name>/` and names them `<name>/page.html`; it may also replace a template
of the core by one of the same name.
"""

from pathlib import Path

from fastapi.templating import Jinja2Templates
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from app.core.config import BASE_DIR, settings
from app.core.extensions import enabled_extensions, extension_dir

__all__ = ["BASE_DIR", "TEMPLATES_DIR", "extension_template_dirs", "templates"]

TEMPLATES_DIR = BASE_DIR / "templates"


def extension_template_dirs() -> list[Path]:
    """The `templates/` of the enabled extensions, in the order in which they are enabled."""
    return [extension_dir(name) / "templates" for name in enabled_extensions()]


# A name that a page misspells is an error instead of a gap; everything is escaped but plain text.
templates = Jinja2Templates(
    env=Environment(
        loader=FileSystemLoader([*extension_template_dirs(), TEMPLATES_DIR]),
        autoescape=select_autoescape(
            disabled_extensions=("txt",), default=True, default_for_string=True
        ),
        undefined=StrictUndefined,
    )
)
templates.env.globals["project_name"] = settings.PROJECT_NAME
templates.env.globals["environment"] = settings.ENVIRONMENT
