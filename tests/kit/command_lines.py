"""What `ps` shows to every user of the machine, as long as a block runs."""

from contextlib import suppress
from pathlib import Path

from kit.tests.background import Background

PAUSE_SECONDS = 0.01
"""A program that only sets a password takes three times as long."""


class CommandLines(Background):
    """Reads the command line of each process again and again, since a title takes its place."""

    def __init__(self) -> None:
        super().__init__([self._read])
        self._seen: set[bytes] = set()

    def __str__(self) -> str:
        """All that was seen, a line each."""
        return "\n".join(sorted(each.replace(b"\0", b" ").decode() for each in self._seen))

    def _read(self) -> None:
        while not self._end.wait(PAUSE_SECONDS):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):  # a process that has ended
                    self._seen.add(path.read_bytes())
