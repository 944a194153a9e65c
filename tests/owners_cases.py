"""What owners add: the cases of `tests/owners/`, each a folder of files and what has to be true.

A folder holds files at the paths that they have in a service, and `case.toml`, whose keys are the
fields of `Case`. `docs/contributing.md` shows one.
"""

import shutil
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

CASES = Path(__file__).parent / "owners"
DESCRIPTION = "case.toml"


class Described(BaseModel):
    """A part of `case.toml`; a key that is misspelt is an error."""

    model_config = ConfigDict(extra="forbid")


class Lines(Described):
    """Lines that are added to a file which every service has."""

    file: str
    add: str
    after: str = ""
    """The line to add behind, or its beginning; the end of the file where it is left out.

    A `{}` or `[]` at its end is opened, and the lines go between.
    """


class Call(Described):
    """A request to the running service."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    path: str
    body: Any = Field(None, alias="json")
    form: dict[str, str] | None = None
    text: str | None = None
    headers: dict[str, str] = {}
    token: bool = True
    scopes: Literal["", "*"] = ""
    """Of the token: those of a new one, or all."""
    status: int = 200
    answer: Any = None
    """What the JSON must be, but for further keys of objects."""
    says: str = ""
    times: int = 1
    """Sent this often, ten at once."""


class Refused(Described):
    """Values that a form does not take."""

    typed: dict[str, Any]
    says: str


class Form(Described):
    """A view of the admin, and a row that is created with it.

    Attributes:
        view: its identity, as in the address.
        create: typed into the form, all else is sent as the form has it; no row is created where
            it is missing.
        shows: what the page of the new row shows.
        refused: what the form does not take.
    """

    view: str
    create: dict[str, Any] | None = None
    shows: list[str] = []
    refused: list[Refused] = []


class Case(Described):
    """One addition.

    Attributes:
        name: of its folder.
        says: what is added, and what is true then.
        extensions: that it needs.
        alone: whether it is laid into a service of its own.
        refused: what the start says, which fails.
        env: settings of the start.
        make: targets with their arguments, which run before the lines are added.
        lines: added to files that every service has.
        calls: made in this order.
        admin: views, driven in this order.
    """

    name: str
    says: str
    extensions: list[str] = []
    alone: bool = False
    refused: list[str] = []
    env: dict[str, str] = {}
    make: list[list[str]] = []
    lines: list[Lines] = []
    calls: list[Call] = []
    admin: list[Form] = []

    @property
    def is_alone(self) -> bool:
        """Whether it cannot stand beside others."""
        return self.alone or bool(self.refused or self.env)

    def files(self) -> list[Path]:
        """The paths that its files have in a service."""
        return [
            path.relative_to(CASES / self.name)
            for path in sorted((CASES / self.name).rglob("*"))
            if path.name != DESCRIPTION and path.is_file() and "__pycache__" not in path.parts
        ]

    def lay_into(self, project: Path) -> None:
        """Add its files and lines to a project.

        Raises:
            FileExistsError: when the project has one of the files already, and others need it.
            ValueError: when a file has no line of which `after` is the beginning.
        """
        for path in self.files():
            target = project / path
            if target.exists() and not self.is_alone:
                raise FileExistsError(f"{self.name}: {target} is there; use [[lines]]")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(CASES / self.name / path, target)
        if not self.make:
            self.add_lines(project)

    def add_lines(self, project: Path) -> None:
        """Add its lines to a project.

        Raises:
            ValueError: when a file has no line of which `after` is the beginning.
        """
        for lines in self.lines:
            file = project / lines.file
            file.write_text(_with_lines(file.read_text(encoding="utf-8"), lines), encoding="utf-8")


def _with_lines(text: str, lines: Lines) -> str:
    if not lines.after:
        return f"{text.rstrip()}\n{lines.add.rstrip()}\n"
    found = text.splitlines()
    for number, line in enumerate(found):
        if line.strip().startswith(lines.after.strip()):
            added = [line, lines.add.rstrip("\n")]
            if line.endswith(("{}", "[]")):
                added = [line[:-1], added[1], line[-1]]
            return "\n".join([*found[:number], *added, *found[number + 1 :], ""])
    raise ValueError(f"{lines.file} has no line that begins with {lines.after!r}")


@cache
def cases() -> list[Case]:
    """All of them, by name."""
    return [
        Case(name=path.parent.name, **tomllib.loads(path.read_text(encoding="utf-8")))
        for path in sorted(CASES.glob(f"*/{DESCRIPTION}"))
    ]


def together() -> list[Case]:
    """Those that are laid into one service."""
    return [case for case in cases() if not case.is_alone]


def alone() -> list[Case]:
    """Those that have a service of their own."""
    return [case for case in cases() if case.is_alone]
