"""Fill a development database with made-up rows: `make seed rows=20`.

They come from the factories of the tests, functions such as `make_order(**values) -> Order` in
`tests/factories/`. On an empty database, each run makes the same rows.
"""

import argparse
import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, get_type_hints

import sqlalchemy as sa
from sqlalchemy.orm import Mapper
from sqlalchemy.schema import sort_tables_and_constraints
from sqlmodel import Session

from kit.commands import command_session, run_command
from kit.commands.db import ask_for_name
from kit.discovery import import_modules
from kit.extensions import enabled_extensions
from kit.migrations import load_metadata, refuse_production
from kit.settings import BASE_DIR, StartupError, settings

Factories = dict[Mapper[Any], list[Callable[..., Any]]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command.

    Raises:
        StartupError: when it cannot be done; nothing has been written then.
    """
    parser = argparse.ArgumentParser(prog="python -m kit.commands.seed", description=__doc__)
    parser.add_argument("--rows", type=int, default=20, help="of each table; 20 if not given")
    if (rows := parser.parse_args(arguments).rows) < 1:
        parser.error(f"--rows is at least 1, not {rows}")
    if not settings.is_local:
        raise StartupError(
            "Set ENVIRONMENT=local for a database of development: made-up rows are for no other, "
            f"and ENVIRONMENT is {settings.ENVIRONMENT}."
        )
    if not (factories := find_factories()):
        raise StartupError(
            "Add a factory to tests/factories/, where there is none: `make resource` writes one "
            "with each resource; one of your own is `def make_order(**values: Any) -> Order:`."
        )
    if "PostgreSQL" in settings.remote_servers:
        ask_for_name("Made-up rows will be added to {}.")
    with command_session() as session:
        refuse_production(session.connection(), "seeded")
        left, added = seed(session, factories, rows)
    for table in left:
        print(f"{table}: left as it is, since it has rows (`make db-reset` empties all tables)")
    for table, count in added.items():
        print(f"{table}: {count} rows")


def find_factories() -> Factories:
    """The factories of the service and its extensions; a model that others refer to comes first."""
    tables = load_metadata().tables.values()
    order = [each for each, _ in sort_tables_and_constraints(tables)]  # type: ignore[no-untyped-call]
    found: Factories = {}
    for part in ("tests", *(f"app.extensions.{name}.tests" for name in enabled_extensions())):
        is_there = BASE_DIR.joinpath(*part.split("."), "factories").is_dir()
        for module in import_modules(f"{part}.factories") if is_there else ():
            for name, each in inspect.getmembers(module, inspect.isfunction):
                if not name.startswith("make_") or each.__module__ != module.__name__:
                    continue
                with _named(each):
                    mapper = sa.inspect(get_type_hints(each).get("return"), raiseerr=False)
                if not isinstance(mapper, Mapper) or mapper.local_table not in order:
                    continue
                if inspect.iscoroutinefunction(each) or _needs_arguments(each):
                    print(f"{name}: left out, since it is async or needs arguments")
                else:
                    found.setdefault(mapper, []).append(each)
    return dict(sorted(found.items(), key=lambda each: order.index(each[0].local_table)))


def seed(session: Session, factories: Factories, rows: int) -> tuple[list[str], Counter[str]]:
    """Add rows to empty tables; returns the tables that have some already, and what was added.

    Raises:
        StartupError: when a factory fails, or makes what the database refuses.
    """
    tables = {mapper: mapper.local_table for mapper in factories}
    left = [m for m, each in tables.items() if session.execute(sa.select(each).limit(1)).first()]
    added: Counter[str] = Counter()
    for mapper, several in factories.items():
        for number in range(0 if mapper in left else rows):
            factory = several[number % len(several)]
            takes_values = inspect.getfullargspec(factory).varkw
            with _named(factory):
                values = _references(session, mapper, number) if takes_values else ()
                session.add(factory(**dict(values)))
                added.update(str(sa.inspect(type(each)).local_table) for each in session.new)
                session.flush()
    return [str(tables[mapper]) for mapper in left], added


def _references(session: Session, mapper: Mapper[Any], number: int) -> Iterator[tuple[str, Any]]:
    """Choose what a row refers to, among the first half of what is there, at most a hundred.

    So some have several rows and some none. In every fourth row a column that may be NULL is.
    """
    table: Any = mapper.local_table
    rules = [each for each in table.constraints if isinstance(each, sa.UniqueConstraint)]
    rules += [table.primary_key, *(each for each in table.indexes if each.unique)]
    alone, turn = [[*each.columns] for each in rules], number
    for column in table.columns:
        targets = [key.column for key in column.foreign_keys if len(key.constraint.columns) == 1]
        if not targets or (column.nullable and number % 4 == 3):  # noqa: PLR2004
            continue
        as_added = sa.select(targets[0]).order_by(sa.literal_column("ctid"))
        there = session.scalars(as_added.limit(max(200, number + 1))).all()
        key = mapper.get_property_by_column(column).key
        if [column] in alone:
            if number < len(there):
                yield key, there[number]
        elif used := there[: (len(there) + 1) // 2]:
            yield key, used[turn % len(used)]
            turn += number // len(used)  # for tables of pairs, each of them once


def _needs_arguments(factory: Callable[..., Any]) -> bool:
    spec = inspect.getfullargspec(factory)
    needed = {*spec.args[: len(spec.args) - len(spec.defaults or ())], *spec.kwonlyargs}
    return bool(needed - (spec.kwonlydefaults or {}).keys())


@contextmanager
def _named(factory: Callable[..., Any]) -> Iterator[None]:
    """Name the factory that fails."""
    try:
        yield
    except Exception as error:
        reason = str(getattr(error, "orig", error)).strip().replace("\n", " ")
        name = f"{factory.__module__}.{factory.__name__}: {type(error).__name__}"
        raise StartupError(f"nothing was written: {name}: {reason}") from error


if __name__ == "__main__":
    run_command(main)
