"""The API: every module of this folder and below it, and every extension's `api`, below `/api`.

A module that defines `router` is found by itself. All routes of `api_router` need a principal. Page
routes are not below `/api`: the service's are in `pages.py`, and the `page_router` of an
extension's `api` is found at `/<name>`.
"""

from kit.http import build_api_router, build_extension_pages_router

api_router = build_api_router(__name__)
extension_pages_router = build_extension_pages_router()
