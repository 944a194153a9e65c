"""Runs the checks, each with what it needs, as far as that can be had."""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import get_args

from redis.exceptions import RedisError
from sqlalchemy.exc import ProgrammingError

from kit.database import connect
from kit.doctor._checks import CHECKS, Check, Finding, Need, Result, fine, problem
from kit.extensions import load_extensions
from kit.places import service
from kit.queue import read_redis_status
from kit.settings import Settings, StartupError, extension_problems, settings


def examine(
    *, production: bool = False, skip: Collection[str] = (), environment: str | None = None
) -> list[Result]:
    """Run every check that applies, and return what they found, in the order of the report.

    Args:
        production: whether to ask what production requires, beside what always holds.
        skip: ids of checks to leave out. With `database` or `redis` it is not connected to.
        environment: `ENVIRONMENT` as it was found, where the settings assume another.
    """
    examination = _Examination(is_of_production=production)
    examination.ask_code()  # first: an extension's settings are known once it is imported
    examination.run("environment", environment or settings.ENVIRONMENT)
    examination.run("settings")
    # Without an address for them, that is reported with the settings.
    if "database" not in skip and (settings.uses_local_postgres or settings.POSTGRES_HOST):
        examination.ask_database()
    if "redis" not in skip and (settings.uses_local_redis or settings.REDIS_HOST):
        examination.ask_redis()
    order = sorted(CHECKS, key=lambda name: get_args(Need).index(CHECKS[name].need))
    return [Result(name, examination.found.get(name, [])) for name in order if name not in skip]


class _Examination:
    def __init__(self, *, is_of_production: bool) -> None:
        self.found: dict[str, list[Finding]] = {}
        self._is_of_production = is_of_production
        self._imports = True

    def run(self, need: Need, *arguments: object) -> None:
        for name, each in CHECKS.items():
            is_asked = self._is_of_production or not each.is_for_production
            if each.need == need and is_asked and each.applies():
                # It has no such table yet, which `migrations` reports.
                with suppress(ProgrammingError):
                    self.found[name] = self._findings(each, *arguments)

    def _findings(self, asked: Check, *arguments: object) -> list[Finding]:
        try:
            return list(asked.find(*arguments)) or [fine(asked.asks)]
        except StartupError as error:  # of revisions, for one, or of extensions that do not import
            return [_problem(error.message)] if self._imports else []

    def ask_code(self) -> None:
        try:
            service.load()
            for hook in ("models", "api", "tasks"):
                load_extensions(hook)
            self.run("code")
            if self._is_of_production:
                self.run("application", service.application)
        except StartupError as error:
            self._imports = False
            # Of settings, which have checks of their own.
            known = [*(Settings.collected or ()), *extension_problems(settings.ENABLED_EXTENSIONS)]
            lines = [line.strip() for line in error.message.splitlines()]
            self.found["code"] = [_problem(line) for line in lines if line not in "\n".join(known)]

    def ask_database(self) -> None:
        async def ask() -> None:
            async with connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                await connection.run_sync(lambda sync: self.run("database", sync))

        try:
            asyncio.run(ask())
        except StartupError as error:
            self.found["database"] = [_problem(error.message)]

    def ask_redis(self) -> None:
        try:
            self.run("redis", read_redis_status())
        except RedisError as error:
            is_untrusted = "CERTIFICATE_VERIFY_FAILED" in str(error)
            remedy = (
                "Name the server's certificate in REDIS_CA_FILE or, where the provider has none to "
                "download, set REDIS_TLS_VERIFY=false."
                if is_untrusted
                else "Start it, or correct REDIS_URL, REDIS_HOST, REDIS_PORT and REDIS_PASSWORD."
            )
            self.found["redis"] = [problem(f"{type(error).__name__}: {error}", remedy)]


def _problem(message: str) -> Finding:
    what, _, remedy = message.partition(". ")
    return problem(f"{what}." if remedy else what, remedy or "Correct what it names.")
