import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

import kit
from app.core.config import StartupError
from kit import process
from kit.settings import _base as local_environment
from kit.testing import change_settings


@pytest.fixture
def nothing_configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project without configured servers, whose embedded ones end with the test."""
    change_settings(
        monkeypatch,
        database_url_override=None,
        redis_url_override=None,
        POSTGRES_HOST=None,
        POSTGRES_PASSWORD=None,
        REDIS_HOST=None,
        REDIS_PASSWORD=None,
    )
    # Not pytest's own directory: run as root, PostgreSQL is somebody else, who cannot enter it.
    with tempfile.TemporaryDirectory(prefix="project-") as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setattr(process, "BASE_DIR", Path(folder))
        monkeypatch.setattr(local_environment, "BASE_DIR", Path(folder))
        monkeypatch.setattr(process, "_lease", None)
        yield Path(folder)
        if lease := process.local_services_lease():
            lease.release()


def test_a_production_image_is_told_what_to_set(
    nothing_configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kit.devservices", None)
    monkeypatch.delattr(kit, "devservices", raising=False)

    with pytest.raises(StartupError, match="set ENVIRONMENT=production, DATABASE_URL") as caught:
        process.start_local_services()

    assert len(caught.value.message.splitlines()) == 1


def test_nothing_starts_where_both_are_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "devservices_package", lambda: pytest.fail("not to be asked"))

    process.start_local_services()


@pytest.mark.slow
def test_servers_start_at_the_known_addresses_with_the_services_database(
    nothing_configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_settings(monkeypatch, POSTGRES_DB="shop")
    addresses = local_environment.local_addresses()

    process.start_local_services()
    process.start_local_services()

    psycopg2.connect(f"{addresses.postgres.url}/shop").close()
    socket.create_connection((addresses.redis.host, addresses.redis.port)).close()
