"""Pages: the Jinja2 templates of the service and of the enabled extensions.

A page route returns `templates.TemplateResponse(request, "page.html", {…})`. An extension keeps its
pages in its `templates/<name>/` and names them `<name>/page.html`; it may also replace a template
of the service by one of the same name. Globals and filters of your own go below.
"""

from fastapi.templating import Jinja2Templates

from app.core.config import BASE_DIR
from kit.pages import TEMPLATES_DIR, page_environment

__all__ = ["BASE_DIR", "TEMPLATES_DIR", "templates"]

templates = Jinja2Templates(env=page_environment())
