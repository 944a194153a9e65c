"""A value in `.env` is what it says, and the differences to other readers of the file are known."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from dotenv import dotenv_values

from app.core.config import BASE_DIR, Settings, StartupError
from kit.settings import _base as settings_base
from kit.settings import values_with_open_dollar

PLACE = "/srv"


class Reading(NamedTuple):
    """A value as it stands in `.env`, and as each program reads it; None where it cannot."""

    text: str
    ours: str
    python_dotenv: str
    uv: str | None
    compose: str


def same(text: str, value: str) -> Reading:
    return Reading(text, value, value, value, value)


READINGS = [
    same("abc", "abc"),
    same("a#b", "a#b"),
    same("a #b", "a"),
    same("a=b==", "a=b=="),
    same("'a' # why", "a"),
    same("postgresql://u:p%40@h:1/d?x=y&z=1", "postgresql://u:p%40@h:1/d?x=y&z=1"),
    # In single quotes.
    same("'a #b'", "a #b"),
    same("'a b'", "a b"),
    same("'a\"b'", 'a"b'),
    same("'pa$PLACE'", "pa$PLACE"),
    same(r"'a\nb'", r"a\nb"),
    same("'ü `x` !'", "ü `x` !"),
    Reading("'pa${PLACE}x'", "pa${PLACE}x", f"pa{PLACE}x", "pa${PLACE}x", "pa${PLACE}x"),
    Reading(r"'a\'b'", "a'b", "a'b", None, "a'b"),
    Reading(r"'a\\b'", r"a\b", r"a\b", r"a\\b", r"a\\b"),
    # In double quotes.
    same('"a #b"', "a #b"),
    same('"a\'b"', "a'b"),
    same(r'"a\nb"', "a\nb"),
    Reading('"pa${PLACE}x"', "pa${PLACE}x", f"pa{PLACE}x", f"pa{PLACE}x", f"pa{PLACE}x"),
    Reading('"pa$PLACE"', "pa$PLACE", "pa$PLACE", None, f"pa{PLACE}"),
    # Without quotes.
    Reading("pa${PLACE}x", "pa${PLACE}x", f"pa{PLACE}x", f"pa{PLACE}x", f"pa{PLACE}x"),
    Reading("pa$PLACE", "pa$PLACE", "pa$PLACE", f"pa{PLACE}", f"pa{PLACE}"),
    Reading("a$$b", "a$$b", "a$$b", "a", "a$b"),
    Reading("abc$", "abc$", "abc$", "abc", "abc$"),
    Reading("a b c", "a b c", "a b c", None, "a b c"),
    Reading("a\"b'c", "a\"b'c", "a\"b'c", None, "a\"b'c"),
    Reading(r"a\nb", r"a\nb", r"a\nb", "a\nb", r"a\nb"),
]


@pytest.fixture
def dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The path of `.env` in a project of its own."""
    path = tmp_path / ".env"
    for name in ("POSTGRES_PASSWORD", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PLACE", PLACE)
    monkeypatch.setattr(settings_base, "BASE_DIR", tmp_path)
    monkeypatch.setitem(Settings.model_config, "env_file", path)
    settings_base.dotenv_table.cache_clear()
    yield path
    settings_base.dotenv_table.cache_clear()


def password() -> str:
    secret = Settings.model_validate({"POSTGRES_HOST": "h"}).POSTGRES_PASSWORD
    return secret.get_secret_value() if secret else ""


@pytest.mark.parametrize("reading", READINGS, ids=[each.text for each in READINGS])
class TestReadings:
    """Each row of the table, by each program that this machine has."""

    @pytest.fixture(autouse=True)
    def _file(self, dotenv: Path, reading: Reading) -> None:
        dotenv.write_text(f"POSTGRES_PASSWORD={reading.text}\n", encoding="utf-8")

    def test_ours(self, reading: Reading) -> None:
        assert password() == reading.ours

    def test_python_dotenv(self, dotenv: Path, reading: Reading) -> None:
        assert dotenv_values(dotenv) == {"POSTGRES_PASSWORD": reading.python_dotenv}

    def test_uv(self, dotenv: Path, reading: Reading) -> None:
        uv = shutil.which("uv", path=f"{os.environ['PATH']}:{BASE_DIR / '.tools/bin'}")
        if uv is None:
            pytest.skip("uv is not installed")
        program = [sys.executable, "-c", "import os; print(os.getenv('POSTGRES_PASSWORD'), end='')"]
        shown = output_of(uv, "run", "--no-project", "--env-file", str(dotenv), *program)
        assert shown == str(reading.uv)

    def test_compose(self, dotenv: Path, reading: Reading) -> None:
        docker = shutil.which("docker")
        command = [docker or "docker", "compose"]
        if (
            not docker
            or subprocess.run([*command, "version"], capture_output=True, check=False).returncode
        ):
            pytest.skip("Docker Compose is not installed")
        file = dotenv.with_name("compose.yml")
        file.write_text("services: {api: {image: api, env_file: .env}}", encoding="utf-8")
        shown = json.loads(output_of(*command, "--file", str(file), "config", "--format", "json"))
        # `config` prints a file that can be read again, so it doubles each $.
        value = shown["services"]["api"]["environment"]["POSTGRES_PASSWORD"].replace("$$", "$")
        assert value == reading.compose

    def test_the_doctor_names_a_dollar_that_others_replace(self, reading: Reading) -> None:
        replaced = reading.uv not in (None, reading.ours) or reading.compose != reading.ours
        named = bool(values_with_open_dollar())
        assert named == (replaced and "$" in reading.text)


def output_of(*command: str) -> str:
    result = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", check=False, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("secret", ["a$b${PLACE}", "a #b", 'a"b', "a\\n", "a b", "a=b", "ü`!"])
def test_any_value_stands_in_single_quotes(dotenv: Path, secret: str) -> None:
    dotenv.write_text(f"POSTGRES_PASSWORD='{secret}'\n", encoding="utf-8")

    assert password() == secret


def test_a_file_of_windows(dotenv: Path) -> None:
    dotenv.write_bytes("POSTGRES_PASSWORD='secret'\r\n".encode("utf-8-sig"))

    assert password() == "secret"


def test_a_line_that_cannot_be_read_is_reported(dotenv: Path) -> None:
    dotenv.write_text("POSTGRES_HOST=h\nPOSTGRES_PASSWORD='it's'\n", encoding="utf-8")

    with pytest.raises(StartupError, match=r"^line 2 of \S+ cannot be read, expected NAME='value'"):
        password()
