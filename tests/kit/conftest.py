"""A Redis of a test's own, for the tests of the kit."""

from kit.tests.redis_servers import pytest_collection_modifyitems, use_redis

__all__ = ["pytest_collection_modifyitems", "use_redis"]
