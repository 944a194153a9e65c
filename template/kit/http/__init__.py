"""HTTP: middleware, health checks, the API's documentation, and the discovery of routers."""

import kit.http._finite
from kit.http._health import router as health_router
from kit.http._middleware import middleware_stack, path_template
from kit.http._openapi_tags import (
    clashing_operations,
    extension_prefix,
    extension_title,
    own_group,
    setup_openapi,
)
from kit.http._routers import build_api_router, build_extension_pages_router
from kit.http._scalar import OPENAPI_URL, setup_api_docs
