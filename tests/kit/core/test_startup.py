"""What the server is told when the lifespan fails; `test_startup_errors.py` has the causes."""

import os
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE, STDOUT

import pytest

from app.core.config import BASE_DIR

APPLICATION = """
from contextlib import asynccontextmanager
from fastapi import FastAPI
from app.core.config import StartupError
from kit.http._middleware import middleware_stack

@asynccontextmanager
async def lifespan(_):
    {body}

app = FastAPI(lifespan=lifespan, middleware=middleware_stack())
"""
NO_DATABASE = "postgresql://user:hunter2@127.0.0.1:1/database"


def uvicorn(*arguments: str, folder: Path = BASE_DIR, **environment: str) -> list[str]:
    """The command's output lines; it has to end by itself, and not with success."""
    done = subprocess.run(
        [sys.executable, "-m", "uvicorn", "--port", "0", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(BASE_DIR)} | environment,
        stdout=PIPE,
        stderr=STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode not in (0, None), done.stdout
    return done.stdout.splitlines()


def errors(lines: list[str]) -> list[str]:
    return [line for line in lines if "INFO" not in line]


@pytest.mark.slow
class TestFailedStart:
    def test_message_is_one_line(self, tmp_path: Path) -> None:
        body = "raise StartupError('the roof leaks: mend the roof.'); yield"
        (tmp_path / "broken.py").write_text(APPLICATION.format(body=body), encoding="utf-8")
        lines = errors(uvicorn("broken:app", folder=tmp_path))
        assert len(lines) == 2
        assert "the roof leaks: mend the roof." in lines[0]
        assert "Application startup failed. Exiting." in lines[1]

    def test_a_mistake_keeps_its_stack_trace(self, tmp_path: Path) -> None:
        body = "raise KeyError('roof'); yield"
        (tmp_path / "broken.py").write_text(APPLICATION.format(body=body), encoding="utf-8")
        output = "\n".join(uvicorn("broken:app", folder=tmp_path))
        assert "Traceback" in output
        assert "KeyError: 'roof'" in output

    def test_is_one_line_under_reload_too(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "--port", "0", "--reload", "app.main:app"],
            cwd=BASE_DIR,
            env=os.environ | {"DATABASE_URL": NO_DATABASE},
            stdout=PIPE,
            stderr=STDOUT,
            text=True,
        )
        assert process.stdout is not None
        lines = []
        # The reloader goes on and waits for a change; its child has ended.
        for line in process.stdout:
            lines.append(line)
            if "Application startup failed" in line:
                break
        process.terminate()
        lines += process.communicate(timeout=30)[0].splitlines()
        assert not [line for line in lines if "Traceback" in line]
        assert len([line for line in lines if "127.0.0.1:1" in line and "ERROR" in line]) == 1
