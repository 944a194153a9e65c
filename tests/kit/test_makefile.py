"""The Makefile lists itself, runs what it says and is readable to macOS's make 3.81."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.core.config import BASE_DIR
from kit.commands import dev

MAKEFILE = BASE_DIR / "kit" / "kit.mk"
TARGETS = re.search(r"^\.PHONY: ((?:.*\\\n)*.*)$", MAKEFILE.read_text(), re.MULTILINE)
NEWER_THAN_3_81 = {
    r"^\s*\.ONESHELL": "3.82",
    r"^\s*\.RECIPEPREFIX": "3.82",
    r"^\s*(define|undefine)\s+\S+\s*=|^\s*undefine": "3.82",
    r"^\s*private\s": "3.82",
    r"!=": "4.0",
    r"::=": "4.0",
    r"\$\(file ": "4.0",
    r"&:": "4.3",
    r"\$\(let |\$\(intcmp ": "4.4",
    r"^\s*\.WAIT|\s\.WAIT": "4.4",
}


def targets() -> set[str]:
    assert TARGETS is not None
    return set(TARGETS[1].replace("\\\n", " ").split())


OUTER_MAKE = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "args", "json"}
"""What `make test args=...` leaves in the environment of these tests."""


def make(*arguments: str, path: str | None = None) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name not in OUTER_MAKE}
    return subprocess.run(
        [shutil.which("make") or "make", *arguments],
        cwd=BASE_DIR,
        env=environment | ({"PATH": path} if path else {}),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("folder", "status"), [("an owner's ümlaut & more", 0), ("50% done", 2), ('the "best"', 2)]
)
def test_a_path_that_a_tool_cannot_read_is_refused(
    tmp_path: Path, folder: str, status: int
) -> None:
    copy = tmp_path / folder
    (copy / "kit").mkdir(parents=True)
    shutil.copy(BASE_DIR / "Makefile", copy)
    shutil.copy(MAKEFILE, copy / "kit")
    done = subprocess.run(["make", "help"], cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert ("move the service" in done.stderr) == bool(status)


def commands(*arguments: str) -> list[str]:
    """What `make` would run, uv's own path left out."""
    result = make("--dry-run", *arguments)
    assert result.returncode == 0, result.stderr
    lines = [re.sub(r'"[^"]*uv"', "uv", line) for line in result.stdout.splitlines()]
    lines = [re.sub(r"^trap : INT; (.*) \|\| \[ \$\? -eq 130 \]$", r"\1", line) for line in lines]
    return [line for line in lines if not re.search(r"\.tools( |/bin/python)", line)]


def test_help_is_the_default_and_lists_every_target() -> None:
    listed = dict(line.split(None, 1) for line in make().stdout.splitlines())
    assert listed.keys() == targets()
    assert make("help").stdout == make().stdout
    assert all(listed.values())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("dev", ["uv run python -m kit.commands.dev"]),
        ("test", ['uv run pytest --numprocesses auto -m "not slow" ']),
        ("test args=-x", ['uv run pytest --numprocesses auto -m "not slow" -x']),
        ("test-all", ["uv run pytest --numprocesses auto "]),
        ("lint", ["uv run ruff check .", "uv run ruff format --check ."]),
        ("openapi", ["uv run python -m kit.commands.openapi"]),
        ("doctor", ["uv run python -m kit.commands.doctor"]),
        (
            "doctor args=--production",
            ["uv run python -m kit.commands.doctor --production"],
        ),
        ("rehearse", ["uv run python -m kit.commands.rehearse"]),
        ("rehearse args=--json", ["uv run python -m kit.commands.rehearse --json"]),
        ("connections", ["uv run python -m kit.commands.connections"]),
        ("connections json=1", ["uv run python -m kit.commands.connections --json"]),
        (
            "resource page=1 dry=1",
            [
                (
                    'uv run python -m kit.commands.resource --name "$name" --fields "$fields" '
                    '--model "$model" --plural "$plural" --extension "$extension" --page --dry-run'
                )
            ],
        ),
        ("dead-letters", ["uv run python -m kit.commands.dead_letters"]),
        ("dead-letters send=a", ['uv run python -m kit.commands.dead_letters --send "$send"']),
        ("dead-letters drop=all", ['uv run python -m kit.commands.dead_letters --drop "$drop"']),
        ("db-upgrade", ["uv run alembic upgrade heads"]),
        ("db-downgrade", ["uv run alembic downgrade service@-1"]),
        ("db-downgrade extension=hotel", ["uv run alembic downgrade hotel@base"]),
        ("db-downgrade to=3f2a yes=1", ["uv run alembic -x yes downgrade 3f2a"]),
        ("db-merge", ['uv run alembic merge --message "${message:-join}" service@heads']),
        (
            "db-merge extension=hotel",
            ['uv run alembic merge --message "${message:-join}" hotel@heads'],
        ),
        ("db-lint since=main", ['uv run python -m kit.commands.db lint --since "$since"']),
        ("db-rehearse", ["uv run python -m kit.testing.rehearsal"]),
        (
            "db-rehearse rows=9 after=3f2a",
            ['uv run python -m kit.testing.rehearsal --rows "$rows" --after "$after"'],
        ),
        ("db-reset", ["uv run python -m kit.commands.db reset"]),
        ("db-status", ["uv run python -m kit.commands.db status"]),
        (
            "up",
            [
                "docker compose build",
                "docker compose run --rm migrate",
                "docker compose up --detach",
            ],
        ),
        ("down", ["docker compose down"]),
        ("logs", ["docker compose logs --follow"]),
        ("token-list", ["uv run python -m kit.commands.token list"]),
        ("routes", ["uv run python -m kit.commands.openapi routes"]),
    ],
)
def test_a_target_runs(arguments: str, expected: list[str]) -> None:
    assert commands(*arguments.split()) == expected


@pytest.mark.parametrize(
    ("target", "variable", "command"),
    [
        ("extension", "name", 'python -m kit.commands.extension "$name"'),
        ("db-migrate", "message", 'alembic  revision --autogenerate --message "$message"'),
        ("db-forget", "extension", 'python -m kit.commands.db forget "$extension"'),
        ("db-stamp", "to", "alembic stamp $to"),
        ("db-stamp purge=1", "to", "alembic stamp --purge $to"),
        (
            "token",
            "name",
            'python -m kit.commands.token create --expires "$expires" --scopes "$scopes" "$name"',
        ),
        ("token-revoke", "name", 'python -m kit.commands.token revoke "$name"'),
        (
            "admin-password",
            "username",
            'python -m kit.commands.admin_password set "$username" --role "$role"',
        ),
        ("admin-revoke", "username", 'python -m kit.commands.admin_password revoke "$username"'),
    ],
)
def test_a_target_that_needs_a_value(target: str, variable: str, command: str) -> None:
    assert commands(*target.split(), f'{variable}=it\'s "x"')[-1] == f"uv run {command}"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("in=compose", "docker compose run --rm --no-deps api"),
        ("in=kubectl exec -it deploy/api --", "kubectl exec -it deploy/api --"),
        ("ENVIRONMENT=production", "uv run --no-dev"),
        ("ENVIRONMENT=local", "uv run"),
    ],
)
def test_a_service_is_operated_where_it_runs(given: str, expected: str) -> None:
    """On a machine of production, too, which has no tools of development, and perhaps no uv."""
    assert commands("token-list", given) == [f"{expected} python -m kit.commands.token list"]
    assert commands("db-status", given) == [f"{expected} python -m kit.commands.db status"]
    assert commands("lint", given)[0] == "uv run ruff check ."


@pytest.mark.parametrize(
    ("written", "is_production"),
    [
        ("production", True),
        ("'production'", True),
        ('"staging" # here', True),
        ("local", False),
        ("", False),
    ],
)
def test_env_says_that_a_machine_is_of_production(
    tmp_path: Path, written: str, is_production: bool
) -> None:
    (tmp_path / "kit").mkdir()
    shutil.copy(MAKEFILE, tmp_path / "kit")
    shutil.copy(BASE_DIR / "Makefile", tmp_path)
    (tmp_path / ".env").write_text(f"SECRET_KEY=x\nENVIRONMENT={written}\n")
    result = make("--dry-run", "--directory", str(tmp_path), "token-list", "ENVIRONMENT=")
    assert ("--no-dev" in result.stdout) == is_production, result.stdout


LONG_LINE = f"value = {{{', '.join(map(str, range(50)))}}}\n"
UNSORTED = "import sys\nimport os\n\nprint(os, sys)\n"
MISTAKE = "def broken(:\n"
UNUSED = "def function() -> None:\n    never_used = 1\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("left", "status"), [("", 0), (MISTAKE, 2), (UNUSED, 2)], ids=["nothing", "mistake", "unused"]
)
def test_format_mends_what_it_can_and_fails_for_what_is_left(
    tmp_path: Path, left: str, status: int
) -> None:
    """The formatter alone shortens a line, the linter alone sorts imports."""
    (tmp_path / "kit").mkdir()
    shutil.copy(MAKEFILE, tmp_path / "kit")
    shutil.copy(BASE_DIR / "Makefile", tmp_path)
    (tmp_path / "ruff.toml").write_text('lint.select = ["E501", "F", "I"]\n')
    (tmp_path / "long.py").write_text(LONG_LINE)
    (tmp_path / "imports.py").write_text(UNSORTED)
    (tmp_path / "left.py").write_text(left)
    ruff = f"{shlex.quote(sys.executable)} -m"
    result = make("--directory", str(tmp_path), "format", f"run={ruff}")
    assert result.returncode == status, result.stdout + result.stderr
    assert max(map(len, (tmp_path / "long.py").read_text().splitlines())) < 90
    assert (tmp_path / "imports.py").read_text().startswith("import os\n")
    assert ("left.py" in result.stdout) == bool(left)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["dev", "worker"])
@pytest.mark.parametrize(
    ("end", "expected"),
    [("sys.exit(0)", ""), ("os.kill(os.getpid(), 2)", ""), ("sys.exit(3)", "3")],
)
def test_ctrl_c_is_no_error(tmp_path: Path, target: str, end: str, expected: str) -> None:
    """However the program ends then; another end is still reported."""
    program = tmp_path / "program"
    program.write_text(
        f"#!{sys.executable}\nimport os, signal, sys, time\n"
        # Not at once: GNU make 4.3 fails when its child ends while it handles the signal itself.
        f"def end(*_):\n    signal.signal(2, signal.SIG_DFL)\n    time.sleep(0.5)\n    {end}\n"
        "signal.signal(2, end)\nprint('up', flush=True)\ntime.sleep(30)\n"
    )
    program.chmod(0o755)
    process = subprocess.Popen(
        ["make", target, f"run={program}"],
        cwd=BASE_DIR,
        env={name: value for name, value in os.environ.items() if name not in OUTER_MAKE},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Where the tests run in the background of a shell, it is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert ("***" in errors) == bool(expected), errors


def test_a_migration_of_an_extension() -> None:
    [*_, command] = commands("db-migrate", "message=x", "extension=hotel")
    assert command.startswith("uv run alembic -x extension=hotel revision --autogenerate")


def test_a_missing_value_is_told_and_nothing_runs() -> None:
    program = Path("uv").name
    result = make("db-migrate", f"uv={program}", "message=")
    assert result.returncode == 2
    assert result.stderr.startswith('usage: make db-migrate message="add orders"\n')
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("target", "command"), [("worker", dev.WORKER), ("beat", dev.BEAT), ("flower", dev.FLOWER)]
)
def test_one_process_alone_is_the_one_of_make_dev(target: str, command: tuple[str, ...]) -> None:
    """But for its banner, which `make dev` leaves out."""
    alone = [part for part in command[2:] if part not in ("--quiet", "--logging=error")]
    assert commands(target) == [" ".join(("uv", "run", *alone))]


def test_setup_installs_the_hooks_of_a_repository_alone() -> None:
    sync, install = commands("setup")[:2]
    assert sync.startswith("uv sync || ")
    assert install.startswith("if [ -e .git ]; then ")


def test_upgrade_moves_the_day_and_resolves_anew() -> None:
    move, replace, *rest = commands("upgrade")
    assert move.startswith('sed "s/^exclude-newer = .*/')
    assert replace == "mv pyproject.toml.new pyproject.toml"
    assert rest == ["uv lock --upgrade", "uv sync"]


def test_without_uv_one_is_installed_into_the_project(tmp_path: Path) -> None:
    for name in ("sh", "awk"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    fresh = tmp_path / "fresh"  # where nobody has installed one yet
    fresh.mkdir()
    shutil.copy(BASE_DIR / "Makefile", fresh)
    (fresh / "kit").mkdir()
    shutil.copy(MAKEFILE, fresh / "kit")
    result = make("--dry-run", "--directory", str(fresh), "lint", path=str(tmp_path))
    assert "python3 -m venv .tools" in result.stdout
    assert '".tools/bin/uv" run ruff check .' in result.stdout


@pytest.mark.parametrize("pattern", NEWER_THAN_3_81)
def test_nothing_is_newer_than_make_3_81(pattern: str) -> None:
    found = re.findall(pattern, MAKEFILE.read_text(), re.MULTILINE)
    assert not found, f"make {NEWER_THAN_3_81[pattern]} brought this"
