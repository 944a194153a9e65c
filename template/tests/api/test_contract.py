"""Whatever is sent to the API, no route fails."""

import httpx
import pytest

from kit.testing import broken_contract

CHECKS = "not_a_server_error"
"""`all` also holds each answer to the OpenAPI schema, to the types of values for example."""


@pytest.mark.slow
def test_no_route_fails(running_service: httpx.Client) -> None:
    report = broken_contract(str(running_service.base_url), checks=CHECKS)
    assert not report, report
