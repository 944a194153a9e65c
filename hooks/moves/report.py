"""What the migration did, for whoever reads it in the terminal."""

from collections.abc import Callable
from enum import StrEnum


class Topic(StrEnum):
    """Headings of the report, in its order."""

    CONFLICTS = "Conflicts, to settle before the commit (git lists them as unmerged)"
    MOVED = "Moved, with your edits"
    SHORT = "Went into a file of yours"
    KIT = "Your edits that now stand in the kit, where updates merge them"
    REWRITTEN = "Imports and names rewritten"
    KEPT = "Kept for you"
    LOOK = "Look at this"


class Report:
    """Lines under each heading."""

    def __init__(self) -> None:
        """Begin without lines."""
        self._lines: dict[Topic, list[str]] = {topic: [] for topic in Topic}

    def add(self, topic: Topic, line: str) -> None:
        """Add a line under a heading, once."""
        if line not in self._lines[topic]:
            self._lines[topic].append(line)

    def lines(self, topic: Topic) -> list[str]:
        """The lines under a heading."""
        return list(self._lines[topic])

    def keep(self, topic: Topic, wanted: Callable[[str], bool]) -> None:
        """Keep those lines under a heading that are wanted."""
        self._lines[topic] = [*filter(wanted, self._lines[topic])]

    def rewrite(self, change: Callable[[str], str]) -> None:
        """Change the text of all lines so far."""
        for topic, lines in self._lines.items():
            self._lines[topic] = list(dict.fromkeys(map(change, lines)))

    def __str__(self) -> str:
        """The whole report as a text; headings without lines are left out."""
        parts = []
        for topic, lines in self._lines.items():
            if lines:
                parts.append("\n".join([f"{topic} ({len(lines)}):", *(f"  {x}" for x in lines)]))
        return "\n\n".join(parts)
