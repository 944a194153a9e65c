"""Every command that a document prints is run by a test, most of them here."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import copy_template
from tests.documents import BLOCK, DOCUMENTS, GETTING_STARTED, commands_of
from tests.installed_servers import with_us
from tests.named_tests import named_tests
from tests.repositories import REPOSITORY, commit_all
from tests.service import answer_of

WALK = "tests/test_documented_commands.py::test_commands_work_as_printed"
OTHERS = f"{WALK} (after Getting started)"
SERVICE = "tests/test_service.py::test_quick_tests"
UPDATE = "tests/test_documented_commands.py::test_update_commands_work_as_printed"
RECOPY = "tests/test_surroundings.py::TestRecopy::test_loses_edits_and_keeps_what_is_its_owner_s"
UNDONE = "tests/test_surroundings.py::TestWorkThatIsNotCommitted::\
test_is_not_what_undoing_an_update_leaves"
CLIENT = "tests/test_typed_client.py::test_is_built_from_the_document_and_calls_the_service"
DEMO = "tests/test_documented_commands.py::test_make_demo_starts_a_service_and_ends_it"
COMPOSE = "tests/test_compose.py::"
OPERATED = f"{COMPOSE}TestUp::test_it_is_operated_where_it_runs"
RELEASED = f"{COMPOSE}TestRelease::test_one_that_gets_ready_replaces_each"
DEPLOYED = "tests/test_server.py::TestRelease::test_no_request_fails_meanwhile"
AUDIT = "tests/test_image.py::TestAudit::\
test_a_vulnerability_fails_it_unless_accepted_until_a_day_to_come"
TARGET = "tests/kit/test_makefile.py::test_a_target_runs"
DEPENDENCIES = "tests/test_service.py::TestDependencies"
MONITORED = "tests/test_monitoring.py::test_a_running_service_has_each_name"
MATRIX = "tests/test_matrix.py::test_the_session_runs_a_share"
DOCTORS_FILE = "tests/kit/commands/test_doctor_production.py::TestCommand::\
test_a_file_takes_the_place_of_dotenv"
RESOURCE = "tests/test_resource.py::test_from_nothing_to_invoices_in_five_minutes"
FORMAT = "tests/kit/test_makefile.py::test_format_mends_what_it_can_and_fails_for_what_is_left"
MOVED = "tests/kit/migrations/test_move.py::test_rows_fit_the_tables_that_the_migrations_make"
PROCESS = "tests/kit/test_makefile.py::test_one_process_alone_is_the_one_of_make_dev"

# What each printed command is run by.
RUN_BY = {
    "TEMPLATE=https://github.com/OWNER/groundwork": WALK,
    'uvx copier copy "$TEMPLATE" my-service': WALK,
    "cd my-service": WALK,
    "git init": WALK,
    "git add .": WALK,
    'git commit -m "Start my-service"': WALK,
    "make setup": WALK,
    "make dev": WALK,
    "make test": WALK,
    "make test-all": "tests/test_service.py::test_all_slow_tests",
    "make doctor": WALK,
    'make doctor args="--production --env-file .env.production --skip migrations"': DOCTORS_FILE,
    'make doctor args="--production" in=compose': OPERATED,
    "make connections": OTHERS,
    "make connections json=1": OTHERS,
    "make rehearse": TARGET,
    "make rehearse args=\"--only --route 'POST /api/tasks/ping {}'\"": TARGET,
    'make rehearse args="--redis-operations 1000 --redis-megabytes 250"': TARGET,
    "make dead-letters": OTHERS,
    "make dead-letters send=b83caca6-5d1c-4e3a-9f0e-5a1f6c0d2e11": TARGET,
    "make dead-letters drop=all": OTHERS,
    "make help": WALK,
    'make db-migrate message="add orders"': WALK,
    "make db-upgrade": WALK,
    "make db-status": WALK,
    "make format lint typecheck": WALK,
    "cp .env.example .env": WALK,
    "make admin-password username=ada": WALK,
    "make token name=billing-job": WALK,
    "make up": f"{COMPOSE}TestUp::test_the_migration_ends_before_anything_else_starts",
    "make logs": TARGET,
    "make deploy host=api.example.com": DEPLOYED,
    "make token name=billing-job in=compose": OPERATED,
    "make admin-password username=ada in=compose": OPERATED,
    "make doctor in=compose": OPERATED,
    "make connections in=compose": OPERATED,
    "make db-status in=compose": OPERATED,
    "make dead-letters in=compose": OPERATED,
    "make down": f"{COMPOSE}TestEnd::test_each_ends_by_itself_and_nothing_stays",
    "docker tag my-service my-service:before": RELEASED,
    "docker compose build": RELEASED,
    "docker compose run --rm migrate": RELEASED,
    "docker compose up --detach --no-deps --wait --wait-timeout 120 api": RELEASED,
    "docker compose up --detach --no-deps --wait --wait-timeout 120 api-2": RELEASED,
    "docker compose up --detach": RELEASED,
    "docker tag my-service:before my-service": f"{COMPOSE}TestRelease::"
    "test_one_that_migrates_and_never_gets_ready_is_rolled_back",
    "make token name=nightly-export expires=90d": OTHERS,
    "make token name=partner scopes=default,tasks": OTHERS,
    "make token name=prometheus scopes=metrics": MONITORED,
    "make routes": OTHERS,
    "make token-list": OTHERS,
    "make token-revoke name=nightly-export": OTHERS,
    "make admin-revoke username=ada": OTHERS,
    "make admin-password username=grace role=reader": OTHERS,
    "make worker": PROCESS,
    "make beat": PROCESS,
    "make flower": PROCESS,
    "make lint": "tests/test_service.py::test_lint",
    "make format": FORMAT,
    "make openapi": OTHERS,
    "make typecheck": "tests/test_service.py::test_typecheck",
    "uvx --from 'openapi-python-client>=0.29.1' openapi-python-client generate "
    "--path openapi.json --meta none --output-path api_client": CLIENT,
    "make audit": f"{DEPENDENCIES}::test_a_vulnerable_one_is_named",
    "make audit-image": AUDIT,
    "make sbom": f"{DEPENDENCIES}::test_those_of_a_deployed_service_are_listed",
    "make upgrade": "tests/test_service.py::test_upgrade_moves_the_date_and_the_versions",
    "make db-downgrade": OTHERS,
    "make db-downgrade to=core@base yes=1": OTHERS,
    "make db-lint": OTHERS,
    "make db-lint since=base": "tests/test_changing_tables.py::test_db_lint_finds_nothing_in_them",
    "make db-rehearse rows=10000": OTHERS,
    "uv run python -m kit.commands.env_example > .env.example": OTHERS,
    'make test args="-k orders -x"': OTHERS,
    "uv run pytest tests/api/test_pages.py": OTHERS,
    "uv run pytest -k every_head -x": OTHERS,
    'make resource name=Customer fields="name:str(100) email:email?"': RESOURCE,
    'make resource name=Invoice fields="number:str(20)! amount:decimal(10,2) '
    'status:enum(draft,sent,void)=draft due:date? customer:ref(customer)"': RESOURCE,
    "make extension name=loyalty": OTHERS,  # last: the database then lacks its table
    "make format lint typecheck test": RESOURCE,
    "make setup lint typecheck test": SERVICE,
    "git status": UPDATE,
    "git diff": UPDATE,
    "git diff --check": UPDATE,
    "uv run pre-commit run --all-files": "tests/test_service.py::test_commits_pass_the_hooks",
    "uvx copier check-update": UPDATE,
    "uvx copier recopy": RECOPY,
    "uvx copier update": UPDATE,
    "uvx copier update --vcs-ref :current:": UPDATE,
    "git reset --hard": UNDONE,
    "git clean -fd": UNDONE,
    'DATABASE_URL="$NEW" make db-upgrade': MOVED,
    'pg_dump "$OLD" --data-only --schema=public --exclude-table=alembic_version '
    "--file=rows.sql": MOVED,
    'psql "$NEW" --single-transaction --set=ON_ERROR_STOP=1 --file=rows.sql': MOVED,
    "make demo": DEMO,
    "make seed": DEMO,
    "make seed rows=50": "tests/test_resource.py::test_seed_makes_rows_that_the_routes_accept",
    "nox --session matrix": MATRIX,
    "nox --session matrix -- --shard 3/8": MATRIX,
}


def test_every_command_is_run_by_a_test() -> None:
    printed = {command for path in DOCUMENTS for command in commands_of(path)}
    assert sorted(printed - set(RUN_BY)) == []
    assert sorted(set(RUN_BY) - printed) == [], "nobody prints these any more"


def test_the_tests_that_run_commands_exist() -> None:
    assert {test.partition(" ")[0] for test in RUN_BY.values()} <= named_tests()


def run(command: str, folder: Path, **environment: str) -> str:
    """Run a printed command in a shell; what it says. It has to succeed."""
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=environment_of_a_reader() | environment,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"$ {command}\n{done.stdout}"
    return done.stdout


def environment_of_a_reader() -> dict[str, str]:
    """The environment without what belongs to the environment of these tests."""
    own = {"VIRTUAL_ENV", "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "CI"}
    return {name: value for name, value in os.environ.items() if name not in own}


@pytest.mark.full
def test_commands_work_as_printed(template: Path, reader_folder: Path) -> None:
    """Getting started, followed to the letter, and then what the other pages print."""
    project = reader_folder / "my-service"
    with contextlib.ExitStack() as other_terminal:
        for language, title, body in BLOCK.findall(GETTING_STARTED.read_text(encoding="utf-8")):
            if title:
                write(project, title, body)
            for line in body.splitlines() if language == "sh" else ():
                command = re.sub(r"\s+# .*$", "", line)
                if command == "make dev":
                    other_terminal.enter_context(make_dev(project))
                elif command.startswith("uvx copier copy"):
                    copy_template(template, project)
                elif RUN_BY[command] == WALK and project.is_dir():
                    run(shortened(command, project), project)
                if command.startswith("git commit"):
                    assert "uv.lock" in run("git ls-files", project)
        assert list((project / "alembic" / "versions").glob("*_add_orders.py"))
        assert (project / ".git" / "hooks" / "pre-commit").exists()
        for command in (command for command, test in RUN_BY.items() if test == OTHERS):
            run(command, project)
            if command.startswith("make token-revoke"):
                assert re.search(r"nightly-export .*revoked", run("make token-list", project))


def shortened(command: str, project: Path) -> str:
    """`make test` with the tests that the page writes: `test_service.py` runs all of them."""
    if command == "make test":
        tests = "orders" if (project / "tests" / "api" / "test_orders.py").exists() else "pages"
        return f'make test args="tests/api/test_{tests}.py"'
    return "true" if command.startswith("cd ") else command


def make_dev(project: Path) -> contextlib.AbstractContextManager[str]:
    api, flower = free_ports(2)
    return running("make dev", project, API_PORT=str(api), FLOWER_PORT=str(flower))


def write(project: Path, title: str, body: str) -> None:
    """Put a titled block of the page where its title says."""
    name, _, where = title.partition(", ")
    path = project / name
    if where == "at the end":
        body = f"{path.read_text(encoding='utf-8')}\n\n{body}"
    elif where == "among the imports":
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        last = max(n for n, line in enumerate(lines) if line.startswith("from app."))
        body = "".join([*lines[: last + 1], body, *lines[last + 1 :]])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(body, encoding="utf-8")


@pytest.mark.full
def test_update_commands_work_as_printed(template: Path, reader_folder: Path) -> None:
    releases = reader_folder / "releases"
    shutil.copytree(template, releases, symlinks=True)
    project = copy_template(releases, reader_folder / "project")
    commit_all(project, "Start")
    (releases / "template" / "kit" / "static" / "new.txt").write_text("New.\n", encoding="utf-8")
    commit_all(releases, "Release")
    run("git tag v0.2.0", releases)

    assert "0.2.0" in run(by_this_copier("uvx copier check-update"), project)
    run(by_this_copier("uvx copier update") + " --defaults", project)
    assert "kit/static/new.txt" in run("git status --untracked-files=all", project)
    assert "_commit: v0.2.0" in run("git diff", project)
    run("git diff --check", project)
    commit_all(project, "Update")
    answer = " --defaults --data ci=gitlab"
    run(by_this_copier("uvx copier update --vcs-ref :current:") + answer, project)
    assert (project / ".gitlab-ci.yml").is_file()


def by_this_copier(command: str) -> str:
    """The command with the Copier of these tests in place of one that `uvx` would fetch."""
    return command.replace("uvx copier", f"{sys.executable} -m copier", 1)


@pytest.mark.full
def test_make_demo_starts_a_service_and_ends_it(template: Path, reader_folder: Path) -> None:
    clone = reader_folder / "clone"
    shutil.copytree(template, clone, symlinks=True)
    for name in ("Makefile", "README.md"):
        shutil.copy(REPOSITORY / name, clone)
    commit_all(clone, "Clone")
    api, flower = free_ports(2)
    for is_second in (False, True):
        with running("make demo", clone, API_PORT=str(api), FLOWER_PORT=str(flower)) as said:
            assert "API token" in said
            assert ("demo is there already: starting it as it is." in said) == is_second
            assert ("example_note: 20 rows" in said) != is_second
            health = answer_of(f"http://127.0.0.1:{api}/health/ready", seconds=30)[1]
            assert json.loads(health)["status"] == "ready"
            assert "Note 20" in answer_of(f"http://127.0.0.1:{api}/example/notes")[1]
        for port in (api, flower):
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", port)) != 0


@contextlib.contextmanager
def running(command: str, folder: Path, **environment: str) -> Iterator[str]:
    """A service for development, from its announcement, which this gives, to Ctrl-C."""
    process = subprocess.Popen(
        [*with_us("INT"), "sh", "-c", command],
        cwd=folder,
        env=environment_of_a_reader() | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout
        said = ""
        for line in process.stdout:
            said += line
            if "Ctrl-C stops it all" in line:
                break
        assert process.poll() is None, said
        # What it says from now on has to be read by somebody, or it would wait for that.
        reader = threading.Thread(target=process.stdout.read)
        reader.start()
        yield said
        # As a terminal's Ctrl-C: to every process in the foreground.
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=60)
        reader.join(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
