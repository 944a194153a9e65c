"""What several rows need, made once a run and only when a row asks for it."""

import shutil
import tempfile
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

from bench.project import Project, render
from bench.servers import Servers, running_servers
from bench.service import make_token, migrate, production
from tests.repositories import template_of_working_tree


class Workshop:
    """The template, a project rendered from it, its servers and an API token.

    A context manager: at its end the servers end, and the folder goes.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> "Workshop":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @cached_property
    def folder(self) -> Path:
        """Where everything is made."""
        folder = Path(tempfile.mkdtemp(prefix="bench-"))
        # PgBouncer and PostgreSQL run as another user when root runs the benchmark.
        folder.chmod(0o755)
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder

    @cached_property
    def template(self) -> Path:
        """This working tree as a release."""
        return template_of_working_tree(self.folder / "template")

    @cached_property
    def project(self) -> Project:
        """A default project as its developers have it."""
        project = render(self.template, self.folder / "project")
        project.set_up()
        return project

    @cached_property
    def installed(self) -> Project:
        """The same as the image has it: without what serves its development."""
        installed = Project(self.project.folder, self.folder / "installed")
        installed.set_up("--no-dev")
        return installed

    @cached_property
    def servers(self) -> Servers:
        """Servers, their database migrated."""
        servers = self._stack.enter_context(running_servers(self.project))
        migrate(self.project, production(servers, servers.direct))
        return servers

    @cached_property
    def token(self) -> str:
        """A token that the API accepts."""
        return make_token(self.project, production(self.servers, self.servers.direct))
