"""Write the API's OpenAPI schema to `openapi.json`: `python -m kit.commands.openapi`.

For generators of clients; it needs neither a server nor a running API. With the argument `routes`
it prints whom each route serves instead, as a table in Markdown.
"""

import json
import sys

from starlette.routing import Host, Mount

from kit.commands import run_command
from kit.places import service
from kit.security import ANONYMOUS_USERS, ANYONE, PROGRAMS, USERS, Kind, Serves, routes_and_callers
from kit.settings import BASE_DIR

COLUMNS = {ANYONE: "no one", PROGRAMS: "program", USERS: "user", ANONYMOUS_USERS: "anonymous user"}
"""Of the table of routes; kinds of the service's own follow."""


def main() -> None:
    """Write the file, with the same content that a running API answers at `/openapi.json`."""
    if sys.argv[1:] == ["routes"]:
        print("\n".join(table_of_routes()))
        return
    schema = json.dumps(service.application.openapi(), indent=2, ensure_ascii=False)
    (BASE_DIR / "openapi.json").write_text(f"{schema}\n", encoding="utf-8")
    print("openapi.json is written.")


def table_of_routes() -> list[str]:
    """Return a row for each route: the scope that a program needs, and whose rows a user gets.

    Mounted applications are left out: /admin asks for a log-in of its own, /static for none.
    """
    routes = [
        (f"{', '.join(sorted(route.methods or ())) or 'WebSocket'} {route.path}", policy)
        for route, policy in routes_and_callers(service.application)
        if not isinstance(route.original_route, Mount | Host)
    ]
    own = {kind: str(kind) for _, policy in routes if policy for kind in policy.kinds}
    columns = COLUMNS | {kind: own[kind] for kind in own.keys() - COLUMNS.keys()}
    rows = [["route", *columns.values()]]
    rows += [[name, *(_cell(kind, policy) for kind in columns)] for name, policy in routes]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    return [f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows]


def _cell(kind: Kind, policy: Serves | None) -> str:
    if policy is None or ANYONE in policy.kinds:
        return "yes"
    words = {PROGRAMS: policy.scope, USERS: policy.rows, ANONYMOUS_USERS: policy.rows}
    return words.get(kind, "yes") if kind in policy.kinds else ""


if __name__ == "__main__":
    run_command(main)
