"""Whatever is sent to the API, it answers as its OpenAPI schema says."""

import httpx
import pytest

from kit.testing import broken_contract


@pytest.mark.slow
def test_every_route_keeps_its_contract(running_service: httpx.Client) -> None:
    report = broken_contract(str(running_service.base_url), examples=5)
    assert not report, report
