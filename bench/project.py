"""The service that is measured: rendered with the default answers from this working tree."""

import os
import subprocess
import sys
from pathlib import Path

from tests.repositories import commit_all


class Project:
    """A rendered project, with an environment of its own.

    Args:
        folder: where it is.
        environment: its virtual environment; by default where `make` has it.
    """

    def __init__(self, folder: Path, environment: Path | None = None) -> None:
        self.folder = folder
        self._environment = environment or folder / ".venv"
        self.python = self._environment / "bin" / "python"

    def run(self, *command: str, **environment: str) -> str:
        """Run a command in the project; its output.

        Raises:
            subprocess.CalledProcessError: when it fails, after its output was shown.
        """
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=bare_environment() | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            print(done.stdout, done.stderr, file=sys.stderr)
            done.check_returncode()
        return done.stdout

    def run_python(self, *arguments: str, **environment: str) -> str:
        """Run the project's Python with the project importable; its output."""
        return self.run(str(self.python), *arguments, PYTHONPATH=str(self.folder), **environment)

    def set_up(self, *options: str) -> None:
        """Install what it needs, and compile it, as a second run finds it.

        Args:
            options: for uv.
        """
        command = ("uv", "sync", "--quiet", "--compile-bytecode", *options)
        self.run(*command, UV_PROJECT_ENVIRONMENT=str(self._environment))
        self.run_python("-m", "compileall", "-q", "app", "kit", "tests")

    def versions(self, *names: str) -> dict[str, str]:
        """Versions of installed packages."""
        script = "from importlib.metadata import version; print(version({!r}))"
        return {name: self.run_python("-c", script.format(name)).strip() for name in names}


def render(template: Path, folder: Path) -> Project:
    """What `copier copy --defaults` gives, committed."""
    subprocess.run(copy_command(template, folder), check=True, env=bare_environment())
    commit_all(folder, "Start")
    return Project(folder)


def copy_command(template: Path, folder: Path) -> list[str]:
    """The command that renders a project with the default answers."""
    return [*copier_command(), "copy", "--defaults", "--quiet", str(template), str(folder)]


def copier_command() -> list[str]:
    """Copier of this environment."""
    return [sys.executable, "-m", "copier"]


def bare_environment() -> dict[str, str]:
    """Ours without what would change how the service starts, or keep it from compiling once."""
    ours = ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if name not in ours}
