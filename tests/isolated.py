"""Commands in surroundings of their own: without a network, with a home that is read-only."""

import os
import subprocess
from pathlib import Path

import pytest


def without_network() -> list[str]:
    """What to put before a command so that it reaches this machine alone."""
    return _isolated("--net", "ip link set lo up")


def with_read_only(folder: Path) -> list[str]:
    """What to put before a command so that nobody can write to an (empty) folder, root included."""
    return _isolated("--mount", f"mount -t tmpfs -o ro none '{folder}'")


def _isolated(namespace: str, preparation: str) -> list[str]:
    """Skips the test, or fails it in CI, where the kernel lets us have no namespaces."""
    then = f'{preparation} && exec "$@"'
    if os.geteuid() == 0:
        command = ["unshare", namespace, "sh", "-c", then, "sh"]
    else:  # root inside to prepare, and ourselves again after that
        ours = ["unshare", "--user", f"--map-user={os.getuid()}", f"--map-group={os.getgid()}"]
        inside = ["unshare", "--user", "--map-root-user", namespace]
        command = [*inside, "sh", "-c", then, "sh", *ours, "--"]
    done = subprocess.run([*command, "true"], check=False, capture_output=True, text=True)
    if done.returncode == 0:
        return command
    message = f"no namespaces here ({done.stderr.strip()}): see tests/machines.py"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
