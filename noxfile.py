"""Checks of this repository and of the service in `template/`, each in an environment of its own.

`nox` runs them all; `nox --session lint` one of them.
"""

from pathlib import Path

import nox

nox.needs_version = ">=2026.10"
nox.options.default_venv_backend = "uv"
nox.options.error_on_external_run = True
nox.options.sessions = ["lint", "typecheck", "tests", "docs"]

SERVICE_TYPES = ["app", "kit", "tests", "alembic/env.py", "flowerconfig.py"]


@nox.session
def lint(session: nox.Session) -> None:
    """Style and common mistakes, here and in the service where it stands."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    config = str(rendered(session) / "pyproject.toml")
    # Ruff follows the links app/extensions and kit/tests only where it is told to.
    linked = [f"app/extensions/{path.name}" for path in Path("extensions_catalog").glob("[!_]*")]
    linked += ["app/extensions/__init__.py", "app/extensions/_example"]
    linked += [f"kit/tests/{path.name}" for path in Path("tests/kit").glob("[!_.]*")]
    with session.chdir("template"):
        for command in (["check"], ["format", "--check"]):
            session.run("ruff", *command, "--config", config, ".", *linked)


@nox.session
def typecheck(session: nox.Session) -> None:
    """Strict types, here and in the service where it stands."""
    install(session)
    session.run("mypy")
    project = rendered(session)
    # The service has an environment of its own: what it imports has to be installed.
    environment = project / ".venv"
    session.run_install(
        "uv",
        "sync",
        "--quiet",
        "--project",
        str(project),
        env={"UV_PROJECT_ENVIRONMENT": str(environment)},
        external=True,
    )
    mypy = str(environment / "bin" / "mypy")
    config = str(project / "pyproject.toml")
    with session.chdir("template"):
        session.run(mypy, "--config-file", config, *SERVICE_TYPES, external=True)


@nox.session
def tests(session: nox.Session) -> None:
    """The tests: the quick tier, or all of them with CI=true."""
    install(session)
    session.run("pytest", "--numprocesses", "auto", *session.posargs)


@nox.session
def matrix(session: nox.Session) -> None:
    """Every combination rendered and checked, every distinct tree tested; `-- --shard 3/8`."""
    install(session)
    session.run("python", "-m", "tests.matrix", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """How fast a rendered service is: a table, and JSON in `bench.json`; needs wrk."""
    install(session, "bench")
    session.run("python", "-m", "bench", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation site, into `site/`."""
    install(session, "docs")
    session.run("zensical", "build", "--strict", "--clean")


def install(session: nox.Session, group: str = "dev") -> None:
    """Install a dependency group of pyproject.toml into the session's environment."""
    session.run_install(
        "uv",
        "sync",
        "--quiet",
        "--no-default-groups",
        "--group",
        group,
        env={"UV_PROJECT_ENVIRONMENT": session.virtualenv.location},
        external=True,
    )


def rendered(session: nox.Session) -> Path:
    """A project with all that can be chosen: its pyproject.toml configures the service's checks."""
    project = Path(session.create_tmp()).resolve() / "project"
    catalogue = sorted(path.name for path in Path("extensions_catalog").glob("[!_]*"))
    session.run(
        "copier",
        "copy",
        "--quiet",
        "--defaults",
        "--data",
        f"extensions=[{', '.join(catalogue)}]",
        "--data",
        "kit_tests=true",
        "--overwrite",
        "--vcs-ref",
        "HEAD",
        ".",
        str(project),
        silent=True,
    )
    return project
