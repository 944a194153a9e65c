"""Write a resource: `make resource name=Invoice fields="number:str(20)! due:date?"`.

A model, its migration, routes, a view of the admin, a factory and tests, which are yours then.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent

from kit.commands import run_command
from kit.settings import BASE_DIR

MISUSED = 2
"""The status with which shells report a wrong call."""


def main(arguments: Sequence[str] | None = None) -> int | None:
    """Run the command, and return its exit status.

    Raises:
        StartupError: when something is in the way; nothing has been written.
    """
    options = _parser().parse_args(arguments)
    if not (options.name and options.fields) and not options.model:
        if not sys.stdin.isatty():
            missing = "fields" if options.name else "name" if options.fields else ""
            print(f"error: {missing}=… is missing\n\n" * bool(missing) + usage(), file=sys.stderr)
            return MISUSED
        _ask(options)
    # Imported only now, so that a wrong argument is reported at once.
    from kit.resource import Request, write_resource  # noqa: PLC0415

    request = Request(
        options.model or options.name,
        options.fields,
        options.plural,
        options.extension,
        with_page=options.page,
        from_model=bool(options.model),
    )
    paths: list[Path] = []
    notes: list[str] = []
    for path, text in write_resource(request, is_dry=options.dry_run, notes=notes):
        paths.append(path)
        print(path.relative_to(BASE_DIR))
        if options.dry_run:
            print(text)
    if not paths:
        print("Nothing is missing.")
    elif options.dry_run:
        print("Nothing was written; the migration would be, too.")
    elif notes:
        print("\nRead them; they are yours. What they make up may break rules of your model;")
        print("mend the factory and the tests, which name these rules, then: make test")
        print(*notes, sep="\n")
    else:
        print("\nRead them; they are yours. Next: make db-upgrade test")
    return None


def usage() -> str:
    """Explain the call, with every kind of field."""
    from kit.resource import EXAMPLE, KINDS  # noqa: PLC0415

    kinds = "\n".join(f"  {kind.usage:<24}{kind.about}" for kind in KINDS.values())
    return dedent(
        """\
        usage: make resource name=Invoice fields="{example}"

        Each field is name:kind, with a space between two. After the kind, `?` allows NULL, `!`
        makes the value unique, and `=draft` is the default. The kinds:

        {kinds}

        extension=shop puts it into app/extensions/shop, page=1 adds a page for administrators,
        plural=people is the plural, dry=1 shows the files and writes none, and model=Invoice in
        place of name and fields writes what a model of yours lacks.
        """
    ).format(example=EXAMPLE, kinds=kinds)


def _ask(options: argparse.Namespace) -> None:
    print(usage())
    options.name = options.name or input("Name, such as Invoice: ").strip()
    fields = []
    while not options.fields and (field := input("Field, or nothing to end: ").strip()):
        fields.append(field)
    options.fields = options.fields or " ".join(fields)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kit.commands.resource", description=__doc__)
    parser.add_argument("--name", default="", help="for example Invoice")
    parser.add_argument("--fields", default="", help='for example "number:str(20)! due:date?"')
    parser.add_argument("--model", default="", help="a model that is there already")
    parser.add_argument("--plural", default="", help="where the rules of English do not give it")
    parser.add_argument("--extension", default="", help="the extension that it becomes a part of")
    parser.add_argument("--page", action="store_true", help="a page, too")
    parser.add_argument("--dry-run", action="store_true", help="show the files, write nothing")
    return parser


if __name__ == "__main__":
    run_command(main)
