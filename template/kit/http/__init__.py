"""HTTP: middleware, health checks, the API's documentation, and the discovery of routers."""

from kit.http._middleware import middleware_stack, path_template
from kit.http._openapi import (
    OPENAPI_URL,
    clashing_operations,
    extension_prefix,
    extension_title,
    own_group,
    setup_api_docs,
    setup_openapi,
)
from kit.http._routers import build_api_router, build_extension_pages_router, health_router
