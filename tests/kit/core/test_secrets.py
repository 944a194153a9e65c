"""Secrets: marked ones in every setting, looked for wherever a process writes something."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from http import HTTPStatus

import httpx
import pytest
import redis
from pydantic import BaseModel, SecretStr
from pydantic_settings import BaseSettings

from app.core.config import ServiceSettings, StartupError
from kit.extensions import load_extensions
from kit.process import mask_secrets
from kit.settings import Settings
from kit.testing._processes import START_SECONDS, QueueProcess, RedisServer, free_port
from kit.tests.command_lines import CommandLines

MARK = "MARKED"
BESIDE_SECRETS = {
    "MAIL_SMTP_USERNAME": "ada",
    "STORAGE_ENDPOINT_URL": "http://127.0.0.1:9",
    "STORAGE_REGION": "local",
    "STORAGE_BUCKET": "files",
    "STORAGE_ACCESS_KEY_ID": "ada",
}
"""Settings of extensions that have to stand beside their secrets."""


def secret_settings() -> list[str]:
    """The names of all settings that hold a secret: the kit's, the service's, the extensions'."""
    load_extensions("tasks")

    def classes(base: type[BaseSettings]) -> list[type[BaseSettings]]:
        return [base, *(each for child in base.__subclasses__() for each in classes(child))]

    return sorted(
        {
            f"{cls.model_config.get('env_prefix') or ''}{name}"
            for cls in classes(ServiceSettings)
            if not cls.__module__.startswith("kit.tests")
            for name, field in cls.model_fields.items()
            if "SecretStr" in str(field.annotation) and not field.validation_alias
        }
    )


class Inner(BaseModel):
    """A part of settings."""

    password: SecretStr


class OwnSettings(ServiceSettings):
    """Settings as an owner or an extension declares them."""

    TEST_KEY: SecretStr
    TEST_KEYS: list[SecretStr]
    TEST_INNER: Inner


def test_secrets_of_every_settings_class_are_masked() -> None:
    OwnSettings(
        TEST_KEY=SecretStr('one "ü" of a class'),
        TEST_KEYS=[SecretStr("one of a list")],
        TEST_INNER=Inner(password=SecretStr("one of a model")),
    )
    for secret in ('one "ü" of a class', "one of a list", "one of a model"):
        assert mask_secrets(f"x {secret} x") == "x *** x"
        assert mask_secrets(json.dumps(["x", secret])) == '["x", "***"]'
        assert mask_secrets(json.dumps([secret], ensure_ascii=False)) == '["***"]'
        assert mask_secrets(json.dumps([repr(f"' {secret}")])).count("***") == 1
    assert mask_secrets("https://a/?key=one%20of%20a%20list") == "https://a/?key=***"


@pytest.mark.parametrize(
    "url",
    [
        "mysql://ada:MARKED@host/db",
        "postgresql://ada:MARKED#x@host/db",
        "postgresql://ada:pa/MARKED@host/db",
        "postgresql://ada:MARKED@host:port/db",
        "postgresql://ada:MARKED@[host/db",
        "postgresql://ada:MARKED@host/db?sslmode=prefer",
        "redis://ada:MARKED@host:1/x",
        "rediss://ada:MARKED?@host:1/0?ssl_cert_reqs=none",
    ],
)
@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL"])
def test_errors_about_addresses_quote_nothing(
    monkeypatch: pytest.MonkeyPatch, name: str, url: str
) -> None:
    monkeypatch.setenv(name, url)
    with pytest.raises(StartupError) as caught:
        Settings.load()
    assert name in caught.value.message
    assert MARK not in caught.value.message


@pytest.mark.slow
def test_no_secret_is_shown_or_stored(use_redis: Callable[..., RedisServer]) -> None:
    server, password = use_redis(), f"{MARK}-redis-'\"%/@"
    server.client().config_set("rdbcompression", "no")  # so that `DUMP` can be searched
    server.client().config_set("requirepass", password)
    client = redis.Redis(port=server.port, password=password, decode_responses=False)
    marked = {name: f"{MARK}-{name}-{'x' * 32}" for name in secret_settings()}
    marked = {name: value for name, value in marked.items() if not name.startswith("POSTGRES")}
    environment = (
        marked
        | BESIDE_SECRETS
        | {
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(server.port),
            "REDIS_PASSWORD": password,
            "REDIS_URL": "",
            "FLOWER_PORT": str(free_port()),
        }
    )
    base = f"http://127.0.0.1:{environment['FLOWER_PORT']}"
    login = ("flower", environment["FLOWER_PASSWORD"])

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "celery", "-A", "app.core.celery", *arguments]
        done = subprocess.run(
            command, env=os.environ | environment, capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    options = ("--pool", "solo", "--task-events", "--include", "kit.tests.queue_tasks")
    with (
        CommandLines() as command_lines,
        QueueProcess("flower", **environment) as flower,
        QueueProcess("worker", *options, **environment) as worker,
    ):
        flower.wait_for("Visit me")
        worker.wait_for("ready.")
        task_id = run("call", "tests.quote_secrets").strip().splitlines()[-1]
        worker.wait_for("refused: ")
        end = time.monotonic() + START_SECONDS
        while (task := httpx.get(f"{base}/api/task/info/{task_id}", auth=login)).is_error:
            assert time.monotonic() < end, task.text
            time.sleep(0.1)
        [name] = httpx.get(f"{base}/api/workers?refresh=1", auth=login, timeout=60).json()
        pages = [f"/task/{task_id}", f"/worker/{name}", "/workers", "/tasks", "/broker", "/metrics"]
        pages += ["/api/tasks", "/api/workers", f"/api/task/info/{task_id}"]
        answers = [httpx.get(f"{base}{page}", auth=login, timeout=60) for page in pages]
        stored = b"".join(client.dump(key) or b"" for key in client.keys("*"))
        [result] = [client.get(key) for key in client.keys(f"*celery-task-meta-{task_id}")]
        shown = {
            "report": run("report"),
            "inspect conf": run("inspect", "conf"),
            "log of the worker": worker.output,
            "log of Flower": flower.output,
            "Redis": str(stored),
            "command lines": str(command_lines),
        }

    assert {answer.status_code for answer in answers} == {HTTPStatus.OK}
    assert "refused: ***" in str(result)
    assert "refused: ***" in answers[0].text
    assert "redbeat_redis_url" in shown["inspect conf"]
    shown |= {page: answer.text for page, answer in zip(pages, answers, strict=True)}
    found = {where: text[text.index(MARK) :][:100] for where, text in shown.items() if MARK in text}
    assert found == {}
