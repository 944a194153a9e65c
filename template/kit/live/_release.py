"""Whether a newer release is there of what this service was rendered from."""

import os
import re
import subprocess
import threading
import time
from contextlib import suppress

from kit.settings import BASE_DIR

ANSWERS = BASE_DIR / ".copier-answers.yml"
NEWEST = BASE_DIR / ".data" / "newest-release"
DAY_SECONDS = 86_400
TIMEOUT_SECONDS = 10

_HOSTS = {"gh:": "https://github.com/", "gl:": "https://gitlab.com/"}
_VERSION = r"v?(\d+)\.(\d+)\.(\d+)"


def newer_release() -> str:
    """The newest release, if it is newer than the service's; empty also where that is not known."""
    with suppress(OSError, AttributeError):
        [newest, own] = [
            tuple(map(int, re.match(_VERSION, text).groups()))  # type: ignore[union-attr]
            for text in (NEWEST.read_text(encoding="utf-8"), _answers()["commit"])
        ]
        if newest > own:
            return ".".join(map(str, newest))
    return ""


def look_up_release() -> None:
    """Ask git for the newest release, in the background and at most once a day."""
    with suppress(OSError):
        if not NEWEST.exists() or time.time() - NEWEST.stat().st_mtime > DAY_SECONDS:
            NEWEST.parent.mkdir(exist_ok=True)
            NEWEST.touch()  # an attempt counts too, as one without a network
            threading.Thread(target=_look_up, daemon=True).start()


def _look_up() -> None:
    source = _answers()["src_path"]
    for short, host in _HOSTS.items():
        source = re.sub(f"^{short}", host, source)
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            ["git", "ls-remote", "--tags", "--refs", "--", source],
            env={
                "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
                **os.environ,
                "GIT_TERMINAL_PROMPT": "0",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=TIMEOUT_SECONDS,
        )
        found = re.findall(rf"refs/tags/{_VERSION}$", done.stdout, re.MULTILINE)
        if found:
            NEWEST.write_text(".".join(max(found, key=lambda parts: [*map(int, parts)])), "utf-8")


def _answers() -> dict[str, str]:
    """Where the service comes from, and of which release it is; empty where that is not known."""
    text = ANSWERS.read_text(encoding="utf-8") if ANSWERS.exists() else ""
    found = dict(re.findall(r"^_(src_path|commit): (.+)$", text, re.MULTILINE))
    return {"src_path": "", "commit": "", **found}
