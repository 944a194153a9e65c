"""A server program that speaks TLS, where the machine has one."""

import shutil
import subprocess


def tls_program() -> str | None:
    """A server program that was built with TLS, if the machine has one."""
    for name in ("valkey-server", "redis-server"):
        program = shutil.which(name)
        if program is None:
            continue
        # Without a certificate, a server that knows TLS complains about that.
        answer = subprocess.run(
            [program, "--port", "0", "--tls-port", "1"], capture_output=True, text=True, check=False
        )
        if "Bad directive" not in answer.stdout + answer.stderr:
            return program
    return None
