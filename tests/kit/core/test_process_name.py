import os
import socket

import pytest

from app.core.config import settings
from kit.process import application_name, client_name, parse_process_name

LONG_HOST = "orders-worker-7d9f8b6c5d-" + "x" * 33 + "-x2x4z"


@pytest.mark.parametrize("host", ["web-1", LONG_HOST])
@pytest.mark.parametrize("project", ["Shop", "A service whose name is longer than anybody wants"])
def test_a_name_for_postgresql_keeps_role_process_and_the_end_of_the_host(
    monkeypatch: pytest.MonkeyPatch, host: str, project: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    configuration = settings.model_copy(update={"PROJECT_NAME": project})

    name = application_name(configuration, "worker-child")

    parsed = parse_process_name(name)
    assert len(name.encode()) <= 63
    assert parsed is not None
    assert (parsed.role, parsed.pid) == ("worker-child", os.getpid())
    assert parsed.host.endswith(host[-5:])


def test_a_name_for_redis_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: LONG_HOST)
    parsed = parse_process_name(client_name(settings, "api"))
    assert parsed is not None
    assert parsed.host == LONG_HOST


@pytest.mark.parametrize("name", ["", "redis-cli", "Supavisor", "shop:worker@host", "a:b@:1"])
def test_a_stranger_has_no_parts(name: str) -> None:
    assert parse_process_name(name) is None
