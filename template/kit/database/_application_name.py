"""The name under which PostgreSQL shows an engine's connections."""

from typing import Any

from sqlalchemy import Engine, event

from kit.process import application_name, this_process
from kit.settings import settings


def name_connections(engine: Engine) -> None:
    """Have each connection of the engine carry `service:role@host:pid` as its application's name.

    The name is made when a connection is: an engine exists before its process knows its role, and
    a forked worker has another process id.
    """

    @event.listens_for(engine, "do_connect")
    def _name(_dialect: object, _record: object, _args: object, parameters: dict[str, Any]) -> None:
        name = application_name(settings, this_process.role)
        if engine.driver == "asyncpg":
            given = parameters.get("server_settings", {})
            parameters["server_settings"] = given | {"application_name": name}
        else:
            parameters["application_name"] = name
