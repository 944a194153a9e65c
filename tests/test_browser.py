"""What a browser shows of a rendered service, with every other host out of its reach.

`SCREENSHOTS=/some/folder` keeps the pictures of the pages, to be looked at.
"""

import base64
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, get_args
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    StorageState,
    ViewportSize,
    sync_playwright,
)

from tests.installed_servers import free_port, installed_program
from tests.service import Development, Service

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("browser")]


class Running(NamedTuple):
    """A service under `make dev`."""

    address: str
    printed: str

    @property
    def password(self) -> str:
        """Of the administrator `admin`."""
        return re.split(r"/admin +admin / ", self.printed)[1].split()[0]


@pytest.fixture(scope="module")
def running(service: Service, service_folder: Path) -> Iterator[Running]:
    """A service with the skeleton of an extension."""
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
        printed = development.wait_until_ready()
        yield Running(f"http://127.0.0.1:{settings['API_PORT']}", printed)
    finally:
        development.interrupt()


@pytest.fixture(scope="module")
def address(running: Running) -> str:
    """Where the service answers."""
    return running.address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=installed_program("chromium", "chromium"),
            args=["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"],
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def session(browser: Browser, running: Running) -> StorageState:
    """The cookies of an administrator, who has written a note."""
    with browser.new_context() as context, context.new_page() as page:
        page.goto(f"{running.address}/admin/login")
        page.fill("#username", "admin")
        page.fill("#password", running.password)
        page.click("[type=submit]")
        page.goto(f"{running.address}/admin/example-note/create")
        page.fill("#title", "The note with a title that is longer than a telephone is wide")
        page.fill("#body", "Text")
        page.click("[name=save] >> nth=0")
        page.wait_for_url("**/list")
        return context.storage_state()


Scheme = Literal["light", "dark"]
Size = Literal["desktop", "phone"]
SIZES: dict[Size, ViewportSize] = {
    "desktop": {"width": 1280, "height": 800},
    "phone": {"width": 390, "height": 844},
}
LOOKS = [(scheme, size) for scheme in get_args(Scheme) for size in SIZES]


@pytest.fixture(scope="module", params=LOOKS, ids="-".join)
def look(request: pytest.FixtureRequest) -> tuple[Scheme, Size]:
    """A colour scheme and the size of a screen."""
    look: tuple[Scheme, Size] = request.param
    return look


@pytest.fixture(scope="module")
def context(
    browser: Browser, session: StorageState, look: tuple[Scheme, Size]
) -> Iterator[BrowserContext]:
    """An administrator's browser."""
    with new_context(browser, *look, storage_state=session) as context:
        yield context


def new_context(
    browser: Browser, scheme: Scheme, size: Size, storage_state: StorageState | None = None
) -> BrowserContext:
    """A browser that prefers a colour scheme, on a desk or in a hand."""
    return browser.new_context(
        color_scheme=scheme, viewport=SIZES[size], storage_state=storage_state
    )


def text_of(context: Browser, url: str) -> str:
    """The page's document after its scripts have run."""
    with context.new_page() as page:
        page.goto(url, wait_until="load")
        page.wait_for_timeout(1000)
        return page.content()


def test_api_documentation_needs_no_other_host(browser: Browser, address: str) -> None:
    """Scalar draws the page, with a group for core and one for the extension."""
    page = text_of(browser, f"{address}/scalar")
    page = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    text = re.sub(r"<[^>]+>", " ", page)
    for expected in ("Core", "Example", "Health", "Tasks"):
        assert re.search(rf"\b{expected}\b", text), expected


def test_start_page_shows_the_state_of_the_service(browser: Browser, address: str) -> None:
    """Its own script asks the service how it is doing: nothing is loaded from elsewhere."""
    page = text_of(browser, address)
    assert "My Service" in page
    assert re.search(r"\bready\b", page, re.IGNORECASE)


def test_admin_shows_its_log_in_form(browser: Browser, address: str) -> None:
    """SQLAdmin's styles and scripts come from the service, and its policy lets them run."""
    page = text_of(browser, f"{address}/admin/login")
    assert 'name="username"' in page
    assert "https://" not in re.sub(r"<a\b[^>]*>|xmlns=\S+", "", page)


PAGES = {
    "start": "/",
    "missing": "/nowhere",
    "page": "/example/notes",
    "login": "/admin/login",
    "home": "/admin/",
    "list": "/admin/audit-entry/list",
    "notes": "/admin/example-note/list",
    "details": "/admin/audit-entry/details/1",
    "form": "/admin/admin-user/edit/1",
    "error": "/admin/nowhere/list",
}
EXPECTED = {"missing": 404, "error": 404}


class Watched:
    """A page that is being looked at: what it loads, and what goes wrong in it."""

    def __init__(self, page: Page) -> None:
        """Begin before it is opened."""
        self.page = page
        self.hosts: set[str] = set()
        self.complaints: list[str] = []
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfailed", self._note_failure)
        page.on("console", self._note)

    def _note_failure(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # as a stream is, when the page is left
            self.complaints.append(f"{request.url}: {request.failure}")

    def _note(self, message: ConsoleMessage) -> None:
        # That of the page itself, which Chromium reports where it is not 200.
        is_its_status = message.location["url"] == self.page.url and "status of" in message.text
        if message.type in ("error", "warning") and not is_its_status:
            self.complaints.append(message.text)

    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        wider: int = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        return wider

    def brightness(self, picture: bytes) -> float:
        """The mean of a picture's pixels, from 0 (black) to 1 (white)."""
        script = """async source => {
            const image = await createImageBitmap(await (await fetch(source)).blob());
            const paper = new OffscreenCanvas(40, 40).getContext("2d");
            paper.drawImage(image, 0, 0, 40, 40);
            const pixels = paper.getImageData(0, 0, 40, 40).data.filter((_, n) => n % 4 < 3);
            return pixels.reduce((sum, each) => sum + each, 0) / pixels.length / 255;
        }"""
        source = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
        self.page.goto("about:blank")
        mean: float = self.page.evaluate(script, source)
        return mean


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the pictures."""
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


RULES = {"listitem": {"enabled": False}}  # the items of SQLAdmin's menu are in no list


@pytest.mark.parametrize("name", PAGES)
def test_each_page_is_readable(
    context: BrowserContext, address: str, look: tuple[Scheme, Size], pictures: Path, name: str
) -> None:
    """On a phone and on a desk, by day and by night; nothing is loaded from elsewhere."""
    scheme, size = look
    with context.new_page() as page:
        watched = Watched(page)
        answer = page.goto(f"{address}{PAGES[name]}")
        assert answer
        assert answer.status == EXPECTED.get(name, 200)
        picture = page.screenshot(path=pictures / f"{name}-{scheme}-{size}.png")
        found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa"], "rules": RULES})
        assert found.violations_count == 0, found.generate_report()
        assert watched.overflow() <= 0
        assert watched.complaints == []
        assert watched.hosts == {urlsplit(address).netloc}
        mean = watched.brightness(picture)
        assert mean < 0.25 if scheme == "dark" else mean > 0.75


@pytest.fixture
def phone(browser: Browser, session: StorageState) -> Iterator[Page]:
    """An administrator's phone."""
    with new_context(browser, "light", "phone", storage_state=session) as context:
        context.set_default_timeout(10_000)
        yield context.new_page()


def test_the_menu_is_reachable_on_a_phone(phone: Page, address: str) -> None:
    phone.goto(f"{address}/admin/")
    link = phone.locator("#navbarSupportedContent").get_by_text("Audit", exact=True)
    assert not link.is_visible()
    phone.click(".navbar-toggler")
    link.click()
    phone.wait_for_url("**/audit-entry/list")


def test_filters_are_usable_on_a_phone(phone: Page, address: str) -> None:
    phone.goto(f"{address}/admin/audit-entry/list")
    link = phone.locator("#filter-sidebar").get_by_text("Password", exact=True)
    assert not link.is_visible()
    phone.click("#filter-sidebar summary")
    link.click()
    phone.wait_for_url("**action=PASSWORD*")
    row = phone.locator("tbody tr")
    assert row.count() == 1
    shown = row.locator("time")
    assert re.fullmatch(r"\d+ \w{3} \d{4}, \d\d:\d\d:\d\d UTC", shown.inner_text())
    assert shown.get_attribute("datetime")


def test_a_list_scrolls_within_itself_on_a_phone(phone: Page, address: str) -> None:
    phone.goto(f"{address}/admin/audit-entry/list")
    table = phone.locator(".table-responsive")
    assert table.evaluate("each => each.scrollWidth > each.clientWidth")
    assert Watched(phone).overflow() <= 0


def test_the_start_page_is_live(phone: Page, address: str) -> None:
    """A request appears in the page while it is open, with a link to its log."""
    phone.goto(address)
    assert phone.locator(".live").get_by_text("/a-wrong-address").count() == 0
    id_ = phone.request.get(f"{address}/a-wrong-address").headers["x-request-id"]
    link = phone.locator(".live").get_by_text("GET /a-wrong-address")
    link.wait_for()
    watched = Watched(phone)
    link.click()
    phone.wait_for_url(f"**/_live/requests/{id_}")
    assert "GET /a-wrong-address 404" in phone.locator("pre").inner_text()
    assert watched.overflow() <= 0
    assert watched.complaints == []


def test_the_start_page_needs_no_script(browser: Browser, address: str) -> None:
    """It shows the state in which it was opened."""
    with browser.new_context(java_script_enabled=False) as context, context.new_page() as page:
        page.goto(address)
        shown = page.locator(".live").inner_text()
    for part in ("Processes", "worker", "Queue celery", "planned", "Last requests"):
        assert part in shown


def test_the_page_follows_the_device(browser: Browser, address: str) -> None:
    """In the evening, while it is open."""
    with new_context(browser, "light", "desktop") as context, context.new_page() as page:
        page.goto(f"{address}/admin/login")
        background = "getComputedStyle(document.body).backgroundColor"
        by_day = page.evaluate(background)
        page.emulate_media(color_scheme="dark")
        page.wait_for_function(f"{background} !== '{by_day}'")  # the script hears of it later
