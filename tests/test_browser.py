"""What a browser shows of a rendered service, with every other host out of its reach."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installed_servers import free_port, installed_program
from tests.service import Development, Service

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("service")]


@pytest.fixture(scope="module")
def address(service: Service, service_folder: Path) -> Iterator[str]:
    """Where a service with the skeleton of an extension answers."""
    project = service_folder / "browsed"
    shutil.copytree(service.folder, project, ignore=shutil.ignore_patterns(".venv"))
    settings = {
        "API_PORT": free_port(),
        "FLOWER_PORT": free_port(),
        "ENABLED_EXTENSIONS": "_example",
    }
    lines = [f"{name}={value}" for name, value in settings.items()]
    (project / ".env").write_text("\n".join(lines) + "\n", encoding="utf-8")
    browsed = Service(project, service.environment)
    browsed.make("setup")
    development = Development(browsed)
    try:
        development.wait_until_ready()
        yield f"http://127.0.0.1:{settings['API_PORT']}"
    finally:
        development.interrupt()


def shown(url: str, profile: Path) -> str:
    """The page's document after its scripts have run."""
    done = subprocess.run(
        [
            installed_program("chromium", "chromium"),
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
            *("--disable-background-networking", "--disable-component-update", "--disable-quic"),
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
            f"--user-data-dir={profile}",
            "--virtual-time-budget=15000",
            "--dump-dom",
            url,
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout


def test_api_documentation_needs_no_other_host(address: str, tmp_path: Path) -> None:
    """Scalar draws the page, with a group for core and one for the extension."""
    page = re.sub(
        r"<(script|style)\b.*?</\1>", "", shown(f"{address}/scalar", tmp_path), flags=re.DOTALL
    )
    text = re.sub(r"<[^>]+>", " ", page)
    for expected in ("Core", "Example", "Health", "Tasks"):
        assert re.search(rf"\b{expected}\b", text), expected


def test_start_page_shows_the_state_of_the_service(address: str, tmp_path: Path) -> None:
    """Its own script asks the service how it is doing: nothing is loaded from elsewhere."""
    page = shown(address, tmp_path)
    assert "My Service" in page
    assert re.search(r"\bready\b", page, re.IGNORECASE)


def test_admin_shows_its_log_in_form(address: str, tmp_path: Path) -> None:
    """SQLAdmin's styles and scripts come from the service, and its policy lets them run."""
    page = shown(f"{address}/admin/login", tmp_path)
    assert 'name="username"' in page
    assert "https://" not in re.sub(r"<a\b[^>]*>|xmlns=\S+", "", page)
