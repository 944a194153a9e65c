"""A service into which cases of `tests/owners/` are laid, and what drives it as people would."""

import json
import os
import secrets
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.cookiejar import Cookie
from pathlib import Path
from typing import Any

import mechanicalsoup
import requests
from bs4 import BeautifulSoup, Tag
from requests.cookies import RequestsCookieJar

from bench.project import Project
from bench.servers import Servers
from bench.service import Server, production, running_api, running_worker
from tests.owners_cases import Call, Case
from tests.service import Service

DATABASES = Path(__file__).parent / "in_project" / "database_of_cases.py"
REQUEST_SECONDS = 30
AT_ONCE = 10
"""Requests, as many as the service has connections."""


class Databases:
    """PostgreSQL and Valkey of a project, and databases in it."""

    def __init__(self, python: str, folder: Path) -> None:
        """Start them; `close` ends them.

        Args:
            python: of the project's environment.
            folder: the project.
        """
        self._process = subprocess.Popen(
            [python, DATABASES],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.postgres, self.redis = self._read()

    def ask(self, command: str, name: str) -> Any:  # noqa: ANN401 (JSON)
        """What `database_of_cases.py` answers."""
        assert self._process.stdin
        self._process.stdin.write(f"{command} {name}\n")
        self._process.stdin.flush()
        return self._read()

    def create(self) -> str:
        """Make a database; its name."""
        return str(self.ask("create", f"case_{secrets.token_hex(4)}"))

    def close(self) -> None:
        """End the servers."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(REQUEST_SECONDS)
        self._process.stdout.close()

    def _read(self) -> Any:  # noqa: ANN401 (JSON)
        assert self._process.stdout
        return json.loads(self._process.stdout.readline())


class OwnedService:
    """A rendered project with cases in it, on a database of its own."""

    def __init__(self, service: Service, databases: Databases, cases: Sequence[Case]) -> None:
        """Lay the cases into the project.

        Args:
            service: a project that is set up, whose files are changed.
            databases: where its database is made.
            cases: that it gets.
        """
        self.cases = cases
        self.databases = databases
        self.database = databases.create()
        python = service.environment.get("UV_PROJECT_ENVIRONMENT", str(service.folder / ".venv"))
        self.project = Project(service.folder, Path(python))
        url = f"{databases.postgres}/{self.database}"
        settings = production(Servers(url, databases.redis), url)
        del settings["ENABLED_EXTENSIONS"]  # as the answers have it
        self.settings = settings | {
            name: value for case in cases for name, value in case.env.items()
        }
        local = {"DATABASE_URL": url, "POSTGRES_SSLMODE": "disable", "POSTGRES_POOLER": "none"}
        self.service = service
        """On servers of its own for each run of tests."""
        self.at_hand = Service(service.folder, service.environment | local)
        """The same on the database."""
        for case in cases:
            case.lay_into(service.folder)
        self._format(case for case in cases if not case.make)

    def migrate(self) -> None:
        """Write migrations of what the cases add, and go up, down and up again."""
        make = self.at_hand.make
        make("db-upgrade")
        make("db-migrate", "message=what owners add")
        if makers := [case for case in self.cases if case.make]:
            for case in makers:
                for target in case.make:
                    make(*target)
                case.add_lines(self.service.folder)
            self._format(makers)
            make("db-upgrade")
            make("db-migrate", "message=what owners add later")
        make("db-upgrade")
        make("db-downgrade")
        make("db-upgrade")
        self.at_hand.run("uv", "run", "--no-sync", "alembic", "check")

    @contextmanager
    def running(self) -> Iterator["Visitor"]:
        """The API and a worker, with production's settings."""
        with running_worker(self.project, self.settings), self.running_api() as visitor:
            yield visitor

    @contextmanager
    def running_api(self) -> Iterator["Visitor"]:
        """The API alone."""
        run = self.project.run_python
        create = ("-m", "kit.commands.token", "create")
        tokens = {
            scopes: run(*create, *arguments, **self.settings).split()[-1]
            for scopes, arguments in (("", ("caller",)), ("*", ("anyone", "--scopes", "*")))
        }
        admin = run("-m", "kit.commands.admin_password", "set", "ada", **self.settings)
        with running_api(self.project, self.settings) as server:
            yield Visitor(server, tokens, admin.split()[-1], self.log)

    def _format(self, cases: Iterable[Case]) -> None:
        """As `make format` does after lines of several cases have come into one file."""
        if not (files := sorted({lines.file for case in cases for lines in case.lines})):
            return
        ruff = ("uv", "run", "--no-sync", "ruff")
        python = [file for file in files if file.endswith(".py")]
        self.service.run(*ruff, "check", "--quiet", "--fix", *python)
        self.service.run(*ruff, "format", "--quiet", *python)

    def log(self) -> str:
        """What the process that started last has logged."""
        logs = self.project.folder.parent.glob("*.log")
        return max(logs, key=lambda path: path.stat().st_ctime_ns).read_text(encoding="utf-8")

    def rows(self) -> dict[str, list[str]]:
        """All rows of each table."""
        found: dict[str, list[str]] = self.databases.ask("rows", self.database)
        return found

    def busy_connections(self) -> int:
        """How many of the database's are within a transaction or a statement."""
        return int(self.databases.ask("busy", self.database))


class CookiesAsOverTls(RequestsCookieJar):
    """Cookies of production, which are for HTTPS alone, without a proxy that has TLS."""

    def set_cookie(self, cookie: Cookie, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Keep a cookie, and send it over HTTP."""
        cookie.secure = False
        super().set_cookie(cookie, *args, **kwargs)


class Visitor:
    """Programs with a token, and an administrator with a browser."""

    def __init__(
        self, server: Server, tokens: dict[str, str], password: str, log: Callable[[], str]
    ) -> None:
        """Come to a running service; `log` reads what it has logged."""
        self.server = server
        self._log = log
        self.address = f"http://127.0.0.1:{server.port}"
        self.tokens = tokens
        self._password = password
        self._browser: mechanicalsoup.StatefulBrowser | None = None

    def call(self, call: Call) -> requests.Response:
        """Make a call once."""
        headers = dict(call.headers)
        if call.token:
            headers["Authorization"] = f"Bearer {self.tokens[call.scopes]}"
        body: dict[str, Any] = {"data": call.form if call.text is None else call.text.encode()}
        if call.body is not None:
            body = {"json": call.body}
        return requests.request(
            call.method,
            f"{self.address}{call.path}",
            headers=headers,
            timeout=REQUEST_SECONDS,
            allow_redirects=False,
            **body,
        )

    def calls(self, call: Call, times: int) -> list[requests.Response]:
        """Make a call this often, ten at once."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(self.call, [call] * times))

    @property
    def browser(self) -> mechanicalsoup.StatefulBrowser:
        """A browser that has logged in."""
        if self._browser is None:
            browser = mechanicalsoup.StatefulBrowser()
            browser.session.cookies = CookiesAsOverTls()
            browser.session.headers["Sec-Fetch-Site"] = "same-origin"
            browser.open(f"{self.address}/admin/login")
            browser.select_form("form")
            browser["username"], browser["password"] = "ada", self._password
            entered = browser.submit_selected()
            assert not browser.url.endswith("/login"), entered.text
            self._browser = browser
        return self._browser

    def open(self, address: str) -> requests.Response:
        """Open a page, by its address or its path."""
        url = address if address.startswith("http") else f"{self.address}{address}"
        opened: requests.Response = self.browser.open(url, timeout=REQUEST_SECONDS)
        return opened

    def views(self) -> list[str]:
        """The identities of all views of the admin."""
        self.open("/admin/")
        links = {str(link["href"]) for link in self.browser.page.select('a[href$="/list"]')}
        return sorted(link.rpartition("/admin/")[2].partition("/")[0] for link in links)

    def why(self, answer: requests.Response) -> str:
        """What an answer says, and the end of the service's log where that is at fault."""
        said = answer.text
        if "<html" in said:
            said = BeautifulSoup(said, "html.parser").get_text(" ", strip=True)
        log = self._log() if answer.status_code >= 500 else ""
        return f"\n{said[:2000]}\n{log[-4000:]}"

    def submit(self, typed: dict[str, Any]) -> requests.Response:
        """Type values into the form of the page and send it, with all other fields as they are."""
        browser = self.browser
        form = browser.select_form("form:has([type=submit])")
        for name, value in typed.items():
            field = form.form.select_one(f'[name="{name}"]')
            assert field is not None, f"the form has no field {name}: {_fields(form.form)}"
            if field.get("data-role") == "select2-ajax":
                form.set(name, self._search(field, name, value))
            elif field.get("type") == "checkbox":
                form.set_checkbox({name: value})
            else:
                form.set(name, value)
        for field in form.form.select("[data-role^=select2-][data-json]"):
            for each in json.loads(str(field["data-json"])):  # as the page's script adds them
                value = each["id"] if isinstance(each, dict) else each
                field.append(browser.page.new_tag("option", value=str(value), selected=""))
        form.choose_submit(form.form.select_one('[type=submit][value="Save"]'))
        sent: requests.Response = browser.submit_selected(timeout=REQUEST_SECONDS)
        return sent

    def _search(self, field: Tag, name: str, term: str) -> str:
        """Search the rows that a field may refer to, as its script does, and offer the first."""
        address = self.browser.absolute_url(str(field["data-url"]))
        found = self.browser.session.get(address, params={"name": name, "term": term}).json()
        value = str(found["results"][0]["id"])
        field.append(self.browser.page.new_tag("option", value=value))
        return value


def _fields(form: BeautifulSoup) -> list[str]:
    return [str(field["name"]) for field in form.select("[name]")]
