"""What was found, for programs and for people."""

import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from kit.doctor._checks import CHECKS, Level, Result
from kit.settings import settings


def summary_of(results: Sequence[Result], *, production: bool) -> dict[str, Any]:
    """The results as JSON values, with a score that counts the checks that apply."""
    levels = [each.level for each in results]
    return {
        "schema": 1,  # raised when a key goes or changes its meaning, not when one is added
        "production": production,
        "environment": settings.ENVIRONMENT,
        "passed": levels.count(Level.FINE),
        "applicable": len(levels) - levels.count(Level.NOT_APPLICABLE),
        "problems": levels.count(Level.PROBLEM),
        "warnings": levels.count(Level.WARNING),
        "checks": [
            {"id": each.id, "level": each.level, "asks": CHECKS[each.id].asks}
            | {"findings": [finding._asdict() for finding in each.findings]}
            for each in results
        ],
    }


def text_of(results: Sequence[Result], *, production: bool) -> str:
    """The results as lines of the terminal's width, with their remedies and the score."""
    lines = []
    for finding, name in ((finding, each.id) for each in results for finding in each.findings):
        lines += _wrapped(f"{finding.level:<8} ", f"{name}: {finding.message}")
        lines += _wrapped(f"{'':<8} -> ", finding.remedy) if finding.remedy else []
    score = "{passed} of {applicable} checks pass: {problems} problems, {warnings} warnings"
    return "\n".join([*lines, score.format(**summary_of(results, production=production))])


def _wrapped(start: str, message: str) -> list[str]:
    """Break a message into lines, but no command in it, which may be copied."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    lines = textwrap.wrap(
        re.sub(r"`[^`]*`", lambda command: command[0].replace(" ", "\0"), message),
        width or len(start) + len(message),
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\0", " ") for line in lines]
