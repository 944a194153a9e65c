"""Pages: the search path of templates, and the environment that renders them."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context, select_autoescape
from jinja2.runtime import Context

from kit.context import root_path
from kit.extensions import enabled_extensions, extension_dir
from kit.settings import BASE_DIR, settings

TEMPLATES_DIR = BASE_DIR / "templates"
KIT_TEMPLATES_DIR = BASE_DIR / "kit" / "templates"


def extension_template_dirs() -> list[Path]:
    """The `templates/` of the enabled extensions, in the order in which they are enabled."""
    return [extension_dir(name) / "templates" for name in enabled_extensions()]


def page_environment() -> Environment:
    """The Jinja2 environment in which pages are rendered.

    A misspelt variable is an error instead of a gap. Everything but plain text is escaped.
    """
    environment = Environment(
        loader=FileSystemLoader([*extension_template_dirs(), TEMPLATES_DIR, KIT_TEMPLATES_DIR]),
        autoescape=select_autoescape(
            disabled_extensions=("txt",), default=True, default_for_string=True
        ),
        undefined=StrictUndefined,
    )
    environment.globals["project_name"] = settings.PROJECT_NAME
    environment.globals["environment"] = settings.ENVIRONMENT
    environment.globals["link"] = _link
    return environment


@pass_context
def _link(context: Context, address: str) -> str:
    """`link("/orders")` in a template: the address below the service's root path."""
    is_own = address.startswith("/")
    return f"{root_path(context['request'].scope)}{address}" if is_own else address
